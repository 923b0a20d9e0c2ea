import { and, asc, eq, gt, gte, inArray, sql } from 'drizzle-orm';
import { GodwitError } from '../errors.ts';
import type { Executor } from './open.ts';
import { type Page, type PageWish, pageOf, readCursor } from './paging.ts';
import { prepared } from './prepared.ts';
import { chunks, runTables, type TableStatus } from './schema.ts';

/** What people look at: no plan, no options. */
export const shown = {
  runId: runTables.runId,
  ordinal: runTables.ordinal,
  target: runTables.target,
  sourceName: runTables.sourceName,
  targetName: runTables.targetName,
  mode: runTables.mode,
  lane: runTables.lane,
  step: runTables.step,
  why: sql<string | null>`${runTables.options}->>'why'`,
  generation: runTables.generation,
  component: runTables.component,
  consistency: runTables.consistency,
  status: runTables.status,
  failure: runTables.failure,
  notes: runTables.notes,
  estimatedRows: runTables.estimatedRows,
  estimatedBytes: runTables.estimatedBytes,
  splitDone: runTables.splitDone,
  chunksTotal: runTables.chunksTotal,
  chunksDone: runTables.chunksDone,
  rowsRead: runTables.rowsRead,
  rowsWritten: runTables.rowsWritten,
  rowsFiltered: runTables.rowsFiltered,
  rowsQuarantined: runTables.rowsQuarantined,
  rowsUnchanged: runTables.rowsUnchanged,
  rowsInserted: runTables.rowsInserted,
  rowsUpdated: runTables.rowsUpdated,
  rowsDeleted: runTables.rowsDeleted,
  bytes: runTables.bytes,
  storageBytes: runTables.storageBytes,
  rowsMoving: runTables.rowsMoving,
  startedAt: runTables.startedAt,
  endedAt: runTables.endedAt,
  movingSince: runTables.movingSince,
  updatedAt: runTables.updatedAt,
  /** Attempts at chunks beyond the first. */
  retries: sql<number>`(SELECT coalesce(sum(greatest(c.attempts - 1, 0)), 0)::int FROM ${chunks} c
    WHERE c.run_id = run_tables.run_id AND c.ordinal = run_tables.ordinal AND c.generation = run_tables.generation)`,
};

const select = (db: Executor) => db.select(shown).from(runTables).$dynamic();
export type RunTable = Awaited<ReturnType<typeof select>>[number];

export type RunTableWish = PageWish & { readonly runId: string; readonly statuses?: readonly TableStatus[] };

/** In the order of the plan. */
export async function listRunTables(db: Executor, wish: RunTableWish): Promise<Page<RunTable>> {
  const { runId, statuses, limit, cursor } = wish;
  if (cursor === undefined && (statuses === undefined || statuses.length === 0)) {
    // The page everybody who watches asks for.
    const query = prepared(db, 'godwit_run_tables', (name) =>
      select(db)
        .where(eq(runTables.runId, sql.placeholder('runId')))
        .orderBy(asc(runTables.ordinal))
        .limit(sql.placeholder('limit'))
        .prepare(name),
    );
    return pageOf(await query.execute({ runId, limit: limit + 1 }), limit, (row) => [row.ordinal]);
  }
  const rows = await select(db)
    .where(
      and(
        eq(runTables.runId, runId),
        statuses && statuses.length > 0 ? inArray(runTables.status, [...statuses]) : undefined,
        cursor === undefined ? undefined : gt(runTables.ordinal, readCursor(cursor, ['number'])[0]),
      ),
    )
    .orderBy(asc(runTables.ordinal))
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [row.ordinal]);
}

/** Throws NOT_FOUND. */
export async function getRunTable(db: Executor, runId: string, ordinal: number): Promise<RunTable> {
  const [found] = await select(db).where(and(eq(runTables.runId, runId), eq(runTables.ordinal, ordinal)));
  if (!found) throw new GodwitError('NOT_FOUND', `The run has no table ${ordinal}.`, { run: runId });
  return found;
}

/** Of any run: what `/ws` sends on. */
export async function tablesChangedSince(db: Executor, since: Date, limit = 1000): Promise<RunTable[]> {
  return await select(db).where(gte(runTables.updatedAt, since)).orderBy(asc(runTables.updatedAt)).limit(limit);
}

/** Without their bounds, which hold key values. */
export async function listChunks(
  db: Executor,
  { runId, ordinal, limit, cursor }: PageWish & { readonly runId: string; readonly ordinal: number },
) {
  const edge = cursor === undefined ? undefined : readCursor(cursor, ['number', 'number']);
  const rows = await db
    .select({
      generation: chunks.generation,
      chunk: chunks.chunk,
      kind: chunks.kind,
      status: chunks.status,
      lane: chunks.lane,
      estimatedRows: chunks.estimatedRows,
      rowsRead: chunks.rowsRead,
      rowsWritten: chunks.rowsWritten,
      rowsFiltered: chunks.rowsFiltered,
      rowsQuarantined: chunks.rowsQuarantined,
      rowsMoving: chunks.rowsMoving,
      bytes: chunks.bytes,
      attempts: chunks.attempts,
      startedAt: chunks.startedAt,
      endedAt: chunks.endedAt,
    })
    .from(chunks)
    .where(
      and(
        eq(chunks.runId, runId),
        eq(chunks.ordinal, ordinal),
        edge && sql`(${chunks.generation}, ${chunks.chunk}) > (${edge[0]}::int, ${edge[1]}::int)`,
      ),
    )
    .orderBy(asc(chunks.generation), asc(chunks.chunk))
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [row.generation, row.chunk]);
}
