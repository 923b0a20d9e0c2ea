import { sleep } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { and, eq, isNull, sql } from 'drizzle-orm';
import type { Chunk, SnapshotRef } from '../connectors/contract.ts';
import { chunks, runTables, snapshots } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import { ownWork } from './adopt.ts';
import { ofGeneration } from './chunks.ts';
import type { GenerationRef } from './contract.ts';
import type { Deps } from './deps.ts';
import { isUnfit, replanned } from './replan.ts';
import { loadTable, newestSnapshot, noChunks, note, refOf, snapshotOf, type TableRow, theTable } from './state.ts';

/**
 * What the table reads under from now on (decision 7). Cases: 1 it has not begun: the newest snapshot; 2 its snapshot
 * lives: that one; 3 lost, but no chunk is cut yet: the newest; 4 lost, all its chunks are key ranges: each reads its own
 * moment; 5 lost, block ranges or a whole table: it must start again. So must a table whose description proved too narrow.
 */
export async function settleSnapshot(deps: Deps, row: TableRow): Promise<SnapshotRef | 'restart'> {
  const { db } = deps;
  if (isUnfit(row)) return 'restart';
  const now = await snapshotOf(db, row);
  const begun = row.snapshot !== null || row.consistency === 'chunk';
  if (begun && now !== 'lost') return now;
  const kinds = await db
    .selectDistinct({ kind: chunks.kind })
    .from(chunks)
    .where(ofGeneration({ runId: row.runId, ordinal: row.ordinal, generation: row.generation }));
  if (kinds.length === 0) {
    const newest = await newestSnapshot(db, row.runId);
    if (!newest)
      throw new GodwitError('SNAPSHOT_LOST', 'The snapshot is gone; waiting for a new one.', { table: row.sourceName });
    await db
      .update(runTables)
      .set({ snapshot: newest.generation, consistency: newest.token ? 'snapshot' : 'chunk' })
      .where(theTable(row));
    return refOf(newest);
  }
  // An increment compares what is there: only block ranges mean nothing at another moment.
  const needs = (kind: Chunk['kind']) =>
    row.step === 'increment' || row.step === 'backfill' ? kind === 'blocks' : kind !== 'keys';
  if (kinds.some(({ kind }) => needs(kind))) return 'restart';
  const told = `${row.sourceName}: its snapshot was lost; the other chunks are read each at its own moment.`;
  const changed = await db
    .update(runTables)
    .set({
      consistency: 'chunk',
      notes: sql`${runTables.notes} || ${JSON.stringify(['the snapshot was lost: chunks read at different moments'])}::jsonb`,
    })
    .where(and(theTable(row), eq(runTables.consistency, 'snapshot')))
    .returning({ ordinal: runTables.ordinal });
  if (changed.length > 0) {
    await note(db, { runId: row.runId, ordinal: row.ordinal, level: 'warn', kind: 'snapshot.lost', message: told });
  }
  return { consistency: 'chunk' };
}

/** Told to the table's workflow, which starts the table again. */
export const startAgainFailure = (row: TableRow) =>
  ApplicationFailure.nonRetryable(
    `${row.sourceName} must start again: ${isUnfit(row) ? 'a document does not fit its description' : 'its snapshot is gone'}.`,
    'SNAPSHOT_LOST',
  );

/** A reader found the token gone before the keeper did. */
export async function declareLost(deps: Deps, row: TableRow): Promise<void> {
  if (row.snapshot === null) return;
  await deps.db
    .update(snapshots)
    .set({ lostAt: new Date() })
    .where(and(eq(snapshots.runId, row.runId), eq(snapshots.generation, row.snapshot), isNull(snapshots.lostAt)));
}

/**
 * The next generation of a table, under the newest snapshot, and of a new plan if its own was too narrow; idempotent by the
 * generation it leaves.
 */
export async function startAgain(
  deps: Deps,
  ref: GenerationRef,
  signal: AbortSignal,
  why = 'its snapshot was lost; it starts again under a new one',
): Promise<TableRow> {
  const before = await loadTable(deps.db, ref);
  if (before.generation > ref.generation) return before;
  let newest = await newestSnapshot(deps.db, ref.runId);
  for (let waited = 0; !newest && waited < 30_000 && !signal.aborted; waited += 200) {
    await sleep(200);
    newest = await newestSnapshot(deps.db, ref.runId);
  }
  if (!newest)
    throw new GodwitError('SNAPSHOT_LOST', 'The snapshot is gone; waiting for a new one.', {
      table: before.sourceName,
    });
  const generation = ref.generation + 1;
  const anew = isUnfit(before) ? await replanned(deps, before, ref.epoch, signal) : undefined;
  await deps.db
    .update(runTables)
    .set({
      generation,
      ...(anew ?? { work: ownWork }),
      snapshot: newest.generation,
      consistency: newest.token ? 'snapshot' : 'chunk',
      ...noChunks,
      updatedAt: new Date(),
    })
    .where(and(theTable(ref), eq(runTables.generation, ref.generation)));
  const message = `${before.sourceName}: ${anew ? 'a document did not fit; all were looked at, and it starts again' : why}.`;
  await note(deps.db, {
    runId: ref.runId,
    ordinal: ref.ordinal,
    level: 'warn',
    kind: 'table.restarted',
    message,
    data: { generation },
  });
  return await loadTable(deps.db, ref);
}
