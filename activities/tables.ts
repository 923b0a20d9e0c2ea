import { and, eq, inArray, ne, sql } from 'drizzle-orm';
import type { Chunk } from '../connectors/contract.ts';
import { runs, runTables } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import type { TableCarry } from '../workflows/messages.ts';
import { stagingThere } from './adopt.ts';
import { carryOf, lastChunk, storeChunks } from './chunks.ts';
import type { GenerationRef, RunRef, SplitArgs, SplitResult, TableRef, Unit } from './contract.ts';
import type { Deps } from './deps.ts';
import { patiently } from './patiently.ts';
import { piecesOf } from './pieces.ts';
import { labelOf } from './plan-run.ts';
import { settleSnapshot, startAgain, startAgainFailure } from './snapshot-loss.ts';
import {
  borrowTarget,
  isOpen,
  knownCode,
  loadRun,
  loadTable,
  markFailed,
  moves,
  note,
  type OpenTable,
  optionsOf,
  recount,
  refuseStale,
  stillOpen,
  type TableRow,
  theTable,
  withTable,
  workOf,
} from './state.ts';

/** Chunks in flight of one table: whatever this worker's own slots, so that a fleet of workers shares one table. */
const pool = 16;

export const stagingGone = 'its staging is not on the target any more; it starts again';

export async function prepareTable(deps: Deps, ref: TableRef, signal: AbortSignal): Promise<TableCarry> {
  const run = await loadRun(deps.db, ref);
  let row = await loadTable(deps.db, ref);
  // One that waits goes on waiting until something moves.
  await deps.db
    .update(runTables)
    .set({ status: 'running', startedAt: sql`coalesce(started_at, now())`, updatedAt: new Date() })
    .where(and(theTable(ref), eq(runTables.status, 'queued')));
  return await patiently(deps, run, row, signal, async () => {
    if ((await settleSnapshot(deps, row)) === 'restart')
      row = await again(deps, { ...ref, generation: row.generation }, signal);
    else if (!(await stagingThere(deps, run, row)))
      row = await again(deps, { ...ref, generation: row.generation }, signal, stagingGone);
    row = await loadTable(deps.db, ref);
    await withTable(deps, run, row, ({ target, work }) => target.prepare(work));
    return await carryOf(deps.db, row, row.generation, pool);
  });
}

/** Discards what was staged, then counts one generation on. */
async function again(deps: Deps, ref: GenerationRef, signal: AbortSignal, why?: string): Promise<TableRow> {
  const run = await loadRun(deps.db, ref);
  const row = await loadTable(deps.db, ref);
  if (row.generation === ref.generation) await withTable(deps, run, row, ({ target, work }) => target.discard(work));
  return await startAgain(deps, ref, signal, why);
}

export async function restartTable(deps: Deps, ref: GenerationRef, signal: AbortSignal): Promise<TableCarry> {
  const run = await loadRun(deps.db, ref);
  const row = await loadTable(deps.db, ref);
  await patiently(deps, run, row, signal, () => again(deps, ref, signal));
  return await prepareTable(deps, ref, signal);
}

export async function split(deps: Deps, args: SplitArgs, signal: AbortSignal): Promise<SplitResult> {
  const run = await loadRun(deps.db, args);
  for (;;) {
    const row = await loadTable(deps.db, args);
    refuseStale(row, args);
    // An attempt whose answer was lost has stored this page already.
    if (row.splitDone || row.chunksTotal > args.upTo) return { upTo: row.chunksTotal, done: row.splitDone, pool };
    const snapshot = await settleSnapshot(deps, row);
    if (snapshot === 'restart') throw startAgainFailure(row);
    const after = await lastChunk(deps, args);
    const found: Chunk[] = [];
    let done = true;
    const look = async (table: OpenTable) => {
      const size = sizeOf(deps, row);
      const pieces = piecesOf(table, { size, snapshot, signal, ...(after ? { after } : {}) });
      for await (const chunk of pieces) {
        if (found.length === args.count) {
          done = false;
          break;
        }
        found.push(chunk);
      }
    };
    await patiently(deps, run, row, signal, () => withTable(deps, run, row, look));
    if (await storeChunks(deps, args, { after: after?.id ?? 0, found, done })) {
      return { upTo: (after?.id ?? 0) + found.length, done, pool };
    }
  }
}

/**
 * What an increment brings is compared and changed by the target, which is work for all of its processors, and a tenth of a
 * table may be one chunk of a load: so its chunks are smaller.
 */
const perIncrement = 8;

export function sizeOf(deps: Deps, row: Pick<TableRow, 'estimatedBytes' | 'estimatedRows' | 'step'>) {
  const share = row.step === 'increment' || row.step === 'backfill' ? perIncrement : 1;
  const bytes = Math.max(1024 * 1024, Math.floor(deps.config.chunkBytes / share));
  return { bytes, rows: rowsOf(bytes, row) };
}

/** Rows of one chunk, by the estimated width of a row. */
const rowsOf = (bytes: number, row: Pick<TableRow, 'estimatedBytes' | 'estimatedRows'>) =>
  row.estimatedRows > 0 && row.estimatedBytes > 0
    ? Math.max(1000, Math.round((bytes * row.estimatedRows) / row.estimatedBytes))
    : 1_000_000;

export async function finishTable(deps: Deps, ref: GenerationRef, signal: AbortSignal): Promise<void> {
  const run = await loadRun(deps.db, ref);
  const row = await loadTable(deps.db, ref);
  refuseStale(row, ref);
  if (!isOpen(row)) return;
  await patiently(deps, run, row, signal, () => withTable(deps, run, row, ({ target, work }) => target.finish(work)));
  await recount(deps.db, ref);
  await stage(deps, ref);
}

/** Complete, to be published with its component; unless somebody skipped or canceled it meanwhile. */
export async function stage(deps: Deps, ref: TableRef): Promise<void> {
  await deps.db
    .update(runTables)
    .set({ status: 'staged', failure: null, rowsMoving: 0, splitDone: true, updatedAt: new Date() })
    .where(and(theTable(ref), stillOpen));
  await moves(deps.db, ref.runId);
}

export async function failTable(deps: Deps, ref: TableRef & { code: string; message: string }): Promise<void> {
  await loadRun(deps.db, ref);
  await markFailed(deps.db, ref, knownCode(ref.code, ref.message));
}

export async function setPaused(
  deps: Deps,
  args: RunRef & { ordinal?: number; paused: boolean; actor: string },
): Promise<void> {
  const { runId, ordinal, paused, actor } = args;
  const run = await loadRun(deps.db, args);
  if (ordinal === undefined) {
    await deps.db
      .update(runs)
      .set({ status: paused ? 'paused' : 'running' })
      .where(and(eq(runs.id, runId), inArray(runs.status, paused ? ['planning', 'running', 'waiting'] : ['paused'])));
  } else {
    await deps.db
      .update(runTables)
      .set({ status: paused ? 'paused' : 'queued', updatedAt: new Date() })
      .where(
        and(
          theTable({ runId, ordinal }),
          stillOpen,
          paused ? ne(runTables.status, 'paused') : eq(runTables.status, 'paused'),
        ),
      );
  }
  const what =
    ordinal === undefined ? `Run ${run.number}` : (await loadTable(deps.db, { ...args, ordinal })).sourceName;
  const message = `${what} ${paused ? 'paused' : 'resumed'} by ${actor}.`;
  await note(deps.db, {
    runId,
    kind: paused ? 'paused' : 'resumed',
    message,
    ...(ordinal === undefined ? {} : { ordinal }),
  });
}

export async function skipTable(deps: Deps, ref: TableRef & { actor: string }): Promise<void> {
  const run = await loadRun(deps.db, ref);
  const skipped = await deps.db
    .update(runTables)
    .set({ status: 'skipped', failure: null, rowsMoving: 0, endedAt: new Date(), updatedAt: new Date() })
    .where(and(theTable(ref), sql`status NOT IN ('succeeded', 'skipped')`))
    .returning();
  const row = skipped[0] ?? (await loadTable(deps.db, ref));
  if (row.status === 'succeeded') throw new GodwitError('CONFLICT', `${row.sourceName} has succeeded already.`);
  if (skipped[0]) {
    const message = `${row.sourceName} skipped by ${ref.actor}.`;
    await note(deps.db, { runId: ref.runId, ordinal: ref.ordinal, level: 'warn', kind: 'table.skipped', message });
  }
  if (!row.work) return;
  await using target = await borrowTarget(deps, run, row.target);
  await target.it.discard(workOf(deps, row));
}

export async function requeueTable(deps: Deps, ref: TableRef & { actor: string }): Promise<Unit> {
  await loadRun(deps.db, ref);
  const before = await loadTable(deps.db, ref);
  if (before.status !== 'failed' || !before.work) {
    const why = before.work ? `is ${before.status}` : 'was refused by the plan: retry the run';
    throw new GodwitError('CONFLICT', `${before.sourceName} ${why}.`);
  }
  if (['SOURCE_CHANGED', 'FIELDS_CHANGED'].includes(before.failure?.code ?? '')) {
    throw new GodwitError('CONFLICT', `${before.sourceName} must be planned anew: retry the run.`);
  }
  await deps.db
    .update(runTables)
    .set({ status: 'queued', failure: null, endedAt: null, updatedAt: new Date() })
    .where(theTable(ref));
  const message = `${before.sourceName} queued again by ${ref.actor}.`;
  await note(deps.db, { runId: ref.runId, ordinal: ref.ordinal, kind: 'table.retried', message });
  return optionsOf(before).chunks === 'many'
    ? { kind: 'table', ordinal: ref.ordinal, label: labelOf(before) }
    : { kind: 'group', from: ref.ordinal, to: ref.ordinal };
}
