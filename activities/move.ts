import { ApplicationFailure } from '@temporalio/common';
import { and, eq } from 'drizzle-orm';
import type { Batch, Chunk, Counts, SnapshotRef } from '../connectors/contract.ts';
import { chunks } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import { reach } from '../faults.ts';
import { checkpoint, progressOf, startChunk } from './checkpoint.ts';
import { chunkOf, ofGeneration } from './chunks.ts';
import type { MoveArgs, MoveResult } from './contract.ts';
import type { Deps } from './deps.ts';
import { ours } from './failures.ts';
import { quarantiner } from './quarantine.ts';
import { arrived, readChunk, type Way } from './read.ts';
import { declareLost, settleSnapshot } from './snapshot-loss.ts';
import {
  inTable,
  isOpen,
  loadRun,
  loadTable,
  note,
  type OpenTable,
  type RunRow,
  refuseStale,
  remember,
  type TableRow,
  wait,
  withTable,
} from './state.ts';
import { duckdbOf, transform } from './transform.ts';
import { writeChunk } from './write.ts';

/** One chunk of a big table. Every attempt may be the last: what counts is the target's own checkpoint. */
export async function move(deps: Deps, args: MoveArgs, signal: AbortSignal): Promise<MoveResult> {
  const run = await loadRun(deps.db, args);
  const row = await loadTable(deps.db, args);
  refuseStale(row, args);
  if (run.status === 'paused' || row.status === 'paused') return { outcome: 'paused' };
  if (!isOpen(row)) throw new GodwitError('CANCELED', `${row.sourceName} is ${row.status}.`, { table: row.sourceName });
  const [found] = await deps.db
    .select()
    .from(chunks)
    .where(and(ofGeneration(args), eq(chunks.chunk, args.chunk)));
  if (!found) throw new GodwitError('INTERNAL', `${row.sourceName} has no chunk ${args.chunk}.`);
  if (found.status === 'done') return { outcome: 'done' };
  return await patiently(deps, run, row, signal, async () => {
    const snapshot = await settleSnapshot(deps, row);
    if (snapshot === 'restart') throw startAgainFailure(row);
    await withTable(deps, run, row, (table) =>
      moveChunk(deps, table, chunkOf(deps, found), { args, snapshot, signal }),
    );
    reach('before-answer');
    return { outcome: 'done' };
  });
}

const startAgainFailure = (row: TableRow) =>
  ApplicationFailure.nonRetryable(`${row.sourceName} must start again: its snapshot is gone.`, 'SNAPSHOT_LOST');

/**
 * What the failure of a chunk means. Cases: 1 canceled or stopping: nothing is noted; 2 FENCED in the target: another
 * attempt owned the chunk; this one is the latest, so it looks again shortly; 3 the snapshot is gone: written down, the
 * next attempt settles what follows; 4 transient: the table shows why it waits, until its job gives up.
 */
export async function patiently<R>(
  deps: Deps,
  run: RunRow,
  row: TableRow,
  signal: AbortSignal,
  work: () => Promise<R>,
): Promise<R> {
  try {
    return await work();
  } catch (thrown) {
    if (signal.aborted || thrown instanceof ApplicationFailure) throw thrown;
    const error = ours(thrown);
    if (error.code === 'FENCED') {
      throw ApplicationFailure.create({ type: 'FENCED', message: error.message, nextRetryDelay: '1s' });
    }
    if (error.code === 'SNAPSHOT_LOST') {
      await declareLost(deps, row);
      throw ApplicationFailure.create({ type: 'SNAPSHOT_LOST', message: error.message, nextRetryDelay: '100ms' });
    }
    if (error.retryable) {
      await wait(deps, run, row, error);
      throw error;
    }
    const located = inTable(error, row);
    await remember(deps.db, row, located);
    throw located;
  }
}

export type Moving = {
  readonly args: MoveArgs;
  readonly snapshot: SnapshotRef;
  readonly signal: AbortSignal;
  /** The caller writes begin and end of this chunk down itself. */
  readonly unrecorded?: boolean;
};

/** read → transform → write → checkpoint. On bad data in a fast lane: the same chunk again, row by row (decision 11). */
export async function moveChunk(deps: Deps, table: OpenTable, chunk: Chunk, moving: Moving): Promise<Counts> {
  const { work, target, row } = table;
  const { args, unrecorded } = moving;
  let way: Way = work;
  for (;;) {
    if (!unrecorded) await startChunk(deps, args, way.lane);
    const claim = await target.claim(work, chunk);
    if (claim.done) {
      if (!unrecorded) await checkpoint(deps, args, claim.done, way.lane);
      return claim.done;
    }
    try {
      const counts = await through(deps, table, claim, { ...moving, way });
      if (!unrecorded) await checkpoint(deps, args, counts, way.lane);
      return counts;
    } catch (error) {
      const { code } = ours(error);
      const slow = rowByRow(table);
      const bad = code === 'VALUE_REFUSED' || code === 'CONSTRAINT_BROKEN';
      if (!bad || way.lane === 'rows' || !slow || moving.signal.aborted) throw error;
      const message = `${row.sourceName}: chunk ${chunk.id} met a value that is refused; it is moved again row by row.`;
      await note(deps.db, {
        runId: args.runId,
        ordinal: args.ordinal,
        level: 'warn',
        kind: 'chunk.retried',
        message,
        data: { code, chunk: chunk.id },
      });
      way = slow;
    }
  }
}

/** The slow lane of this table, if both sides have one. */
function rowByRow({ source, target, work }: OpenTable): Way | undefined {
  if (!source.formats.includes('rows')) return undefined;
  const writeFormat = target.formats.includes('rows') ? 'rows' : work.writeFormat;
  return { lane: 'rows', readFormat: 'rows', writeFormat };
}

async function through(
  deps: Deps,
  table: OpenTable,
  claim: Awaited<ReturnType<OpenTable['target']['claim']>>,
  moving: Moving & { readonly way: Way },
): Promise<Counts> {
  const { args, snapshot, signal, way } = moving;
  const progress = progressOf(deps, args, table.row, claim.chunk.rows);
  const bad = quarantiner(deps, table, args);
  if (way.lane === 'rows') await bad.forget();
  const read = (): AsyncIterable<Batch> => arrived(readChunk(table, claim.chunk, { way, snapshot, signal }));
  const batches = transform(table, read, {
    way,
    signal,
    spool: deps.config.spool,
    duckdb: () => duckdbOf(deps),
    progress: (bytes) => progress.moved(0, bytes),
  });
  try {
    return await writeChunk(table, claim, batches, { way, signal, progress, quarantine: bad.take });
  } finally {
    progress.stop();
  }
}
