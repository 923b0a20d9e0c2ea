import { and, eq, inArray, isNull, sql } from 'drizzle-orm';
import type { Chunk, Counts, SnapshotRef } from '../connectors/contract.ts';
import { chunks, runTables } from '../db/schema.ts';
import { chunkRow } from './chunks.ts';
import type { RunRef } from './contract.ts';
import { countsRecord, setCounts, sumCounts, wholeCounts } from './counts.ts';
import type { Deps } from './deps.ts';
import { piecesOf } from './pieces.ts';
import {
  borrowSource,
  moves,
  newestSnapshot,
  optionsOf,
  type RunRow,
  refOf,
  stillOpen,
  type TableRow,
  workOf,
} from './state.ts';
import { sizeOf } from './tables.ts';

/** A small table that begins for the first time, with its chunks found and stored. */
export type Fresh = { readonly row: TableRow; readonly chunks: readonly Chunk[] };
export type FreshGroup = { readonly snapshot: SnapshotRef; readonly tables: ReadonlyMap<number, Fresh> };

/**
 * Begins all tables of a group that were never begun, in a handful of statements: a thousand small tables cost a thousand
 * copies, not twenty thousand questions to PostgreSQL. Those not in the answer go the long way.
 */
export async function beginFresh(
  deps: Deps,
  run: RunRow,
  rows: readonly TableRow[],
  signal: AbortSignal,
): Promise<FreshGroup | undefined> {
  const fresh = rows.filter((row) => row.status === 'queued' && row.snapshot === null && !row.splitDone);
  const newest = await newestSnapshot(deps.db, run.id);
  if (!newest || fresh.length === 0) return undefined;
  const snapshot = refOf(newest);
  await using source = await borrowSource(deps, run);
  const found = new Map<number, Fresh>();
  for (const row of fresh) {
    const size = sizeOf(deps, row);
    const cut = { source: source.it, work: workOf(deps, row), options: optionsOf(row) };
    try {
      found.set(row.ordinal, { row, chunks: await Array.fromAsync(piecesOf(cut, { size, snapshot, signal })) });
    } catch {
      // Of that table alone, which finds it out again on the long way.
      signal.throwIfAborted();
    }
  }
  if (found.size === 0) return undefined;
  const tables = await deps.db.transaction(async (tx) => {
    const begun = await tx
      .update(runTables)
      .set({
        status: 'running',
        startedAt: sql`coalesce(started_at, now())`,
        movingSince: sql`coalesce(moving_since, now())`,
        snapshot: newest.generation,
        consistency: snapshot.consistency,
        splitDone: true,
        updatedAt: new Date(),
      })
      .where(
        and(
          eq(runTables.runId, run.id),
          inArray(runTables.ordinal, [...found.keys()]),
          eq(runTables.status, 'queued'),
          isNull(runTables.snapshot),
          eq(runTables.splitDone, false),
          sql`NOT EXISTS (SELECT 1 FROM ${chunks} c WHERE c.run_id = ${runTables.runId} AND c.ordinal = ${runTables.ordinal} AND c.generation = ${runTables.generation})`,
        ),
      )
      .returning();
    const values = begun.flatMap((row) =>
      (found.get(row.ordinal)?.chunks ?? []).map((chunk) => ({
        ...chunkRow(deps, { runId: run.id, epoch: run.epoch, ordinal: row.ordinal, generation: row.generation }, chunk),
        status: 'moving' as const,
        lane: row.lane,
        attempts: 1,
        startedAt: new Date(),
      })),
    );
    if (values.length > 0) await tx.insert(chunks).values(values);
    return begun.map((row) => [row.ordinal, { row, chunks: found.get(row.ordinal)?.chunks ?? [] }] as const);
  });
  return { snapshot, tables: new Map(tables) };
}

type Done = { readonly ordinal: number; readonly generation: number; readonly chunk: number; readonly counts: Counts };

const flushEvery = 25;

/**
 * Complete small tables, written down several at once. What is not written yet when a worker dies is found again in the
 * target: claiming says it is done.
 */
export function ledgerOf(deps: Deps, { runId }: RunRef) {
  let done: Done[] = [];
  let staged: { ordinal: number; generation: number }[] = [];
  let last = Promise.resolve();

  const write = async (chunksDone: readonly Done[], tables: typeof staged) => {
    if (tables.length === 0) return;
    const rows = JSON.stringify(chunksDone.map(({ counts, ...at }) => ({ ...at, ...wholeCounts(counts) })));
    const whole = JSON.stringify(tables);
    await deps.db.transaction(async (tx) => {
      await tx.execute(sql`
        UPDATE ${chunks} c SET status = 'done', ${setCounts('x')}, rows_moving = 0, ended_at = now()
        FROM jsonb_to_recordset(${rows}::jsonb) AS x(ordinal int, generation int, chunk int, ${countsRecord})
        WHERE c.run_id = ${runId} AND c.ordinal = x.ordinal AND c.generation = x.generation AND c.chunk = x.chunk`);
      await tx.execute(sql`
        UPDATE ${runTables} t SET chunks_total = s.total, chunks_done = s.done, ${setCounts('s')}, rows_moving = 0, failure = NULL,
          status = 'staged', split_done = true, updated_at = now()
        FROM (
          SELECT x.ordinal, x.generation, count(c.chunk) AS total, count(c.chunk) FILTER (WHERE c.status = 'done') AS done,
            ${sumCounts('c.')}
          FROM jsonb_to_recordset(${whole}::jsonb) AS x(ordinal int, generation int)
          LEFT JOIN ${chunks} c ON c.run_id = ${runId} AND c.ordinal = x.ordinal AND c.generation = x.generation
          GROUP BY x.ordinal, x.generation
        ) s
        WHERE t.run_id = ${runId} AND t.ordinal = s.ordinal AND t.generation = s.generation AND ${stillOpen}`);
      await moves(tx, runId);
    });
  };
  const flush = (): Promise<void> => {
    const [chunksDone, tables] = [done, staged];
    done = [];
    staged = [];
    last = last.then(() => write(chunksDone, tables));
    return last;
  };
  return {
    async staged(
      table: { ordinal: number; generation: number },
      counted: readonly { chunk: number; counts: Counts }[],
    ) {
      done.push(...counted.map((one) => ({ ...table, ...one })));
      staged.push(table);
      if (staged.length >= flushEvery) await flush();
    },
    flush,
  };
}
