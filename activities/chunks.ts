import { and, asc, eq, sql } from 'drizzle-orm';
import type { Chunk } from '../connectors/contract.ts';
import type { Executor } from '../db/open.ts';
import { chunks, runTables } from '../db/schema.ts';
import type { TableCarry } from '../workflows/messages.ts';
import type { GenerationRef } from './contract.ts';
import type { Deps } from './deps.ts';
import { type TableRow, theTable } from './state.ts';

const purpose = 'chunk bounds';

export type ChunkRow = typeof chunks.$inferSelect;
export const ofGeneration = ({ runId, ordinal, generation }: Omit<GenerationRef, 'epoch'>) =>
  and(eq(chunks.runId, runId), eq(chunks.ordinal, ordinal), eq(chunks.generation, generation));

export const chunkOf = (deps: Deps, row: ChunkRow): Chunk => ({
  id: row.chunk,
  kind: row.kind,
  bounds: deps.sealer.openJson(row.bounds, purpose),
  rows: row.estimatedRows,
});

/** Bounds hold key values: sealed. */
export const chunkRow = (deps: Deps, ref: GenerationRef, chunk: Chunk): typeof chunks.$inferInsert => ({
  runId: ref.runId,
  ordinal: ref.ordinal,
  generation: ref.generation,
  chunk: chunk.id,
  kind: chunk.kind,
  bounds: deps.sealer.sealJson(chunk.bounds ?? null, purpose),
  estimatedRows: Math.max(0, Math.round(chunk.rows)),
});

export async function lastChunk(deps: Deps, ref: GenerationRef): Promise<Chunk | undefined> {
  const rows = await deps.db.select().from(chunks).where(ofGeneration(ref)).orderBy(sql`${chunks.chunk} DESC`).limit(1);
  return rows[0] && chunkOf(deps, rows[0]);
}

/** Chunks of this generation which are not done, in order. */
export async function openChunks(deps: Deps, ref: GenerationRef): Promise<ChunkRow[]> {
  return await deps.db
    .select()
    .from(chunks)
    .where(and(ofGeneration(ref), sql`${chunks.status} <> 'done'`))
    .orderBy(asc(chunks.chunk));
}

/**
 * Stores a page of chunks found behind `after`. False when another attempt stored some meanwhile: two findings are never
 * mixed, for their bounds may differ.
 */
export async function storeChunks(
  deps: Deps,
  ref: GenerationRef,
  page: { readonly after: number; readonly found: readonly Chunk[]; readonly done: boolean },
): Promise<boolean> {
  return await deps.db.transaction(async (tx) => {
    await tx.execute(
      sql`SELECT 1 FROM ${runTables} WHERE run_id = ${ref.runId} AND ordinal = ${ref.ordinal} FOR UPDATE`,
    );
    const [now] = await tx
      .select({ last: sql<number>`coalesce(max(${chunks.chunk}), 0)::int` })
      .from(chunks)
      .where(ofGeneration(ref));
    const [table] = await tx.select().from(runTables).where(theTable(ref));
    if (now?.last !== page.after || table?.generation !== ref.generation || table.splitDone) return false;
    if (page.found.length > 0) await tx.insert(chunks).values(page.found.map((chunk) => chunkRow(deps, ref, chunk)));
    const total = page.after + page.found.length;
    await tx
      .update(runTables)
      .set({ chunksTotal: total, splitDone: page.done, updatedAt: new Date() })
      .where(theTable(ref));
    return true;
  });
}

export async function carryOf(db: Executor, row: TableRow, generation: number, pool: number): Promise<TableCarry> {
  const [counted] = await db
    .select({
      upTo: sql<number>`coalesce(max(${chunks.chunk}), 0)::int`,
      next: sql<number>`coalesce(min(${chunks.chunk}) FILTER (WHERE ${chunks.status} <> 'done'), max(${chunks.chunk}) + 1, 1)::int`,
    })
    .from(chunks)
    .where(ofGeneration({ runId: row.runId, ordinal: row.ordinal, generation }));
  return { generation, next: counted?.next ?? 1, upTo: counted?.upTo ?? 0, splitDone: row.splitDone, pool };
}
