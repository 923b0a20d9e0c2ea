import { and, eq } from 'drizzle-orm';
import type { Batch, Chunk, Counts, SnapshotRef } from '../connectors/contract.ts';
import { chunks } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import { reach } from '../faults.ts';
import { checkpoint, progressOf, startChunk } from './checkpoint.ts';
import { chunkOf, ofGeneration } from './chunks.ts';
import { type LeftOut, within } from './compare.ts';
import type { MoveArgs, MoveResult } from './contract.ts';
import type { Deps } from './deps.ts';
import { ours } from './failures.ts';
import { patiently } from './patiently.ts';
import { quarantiner } from './quarantine.ts';
import { arrived, readChunk, type Way } from './read.ts';
import { settleSnapshot, startAgainFailure } from './snapshot-loss.ts';
import { isOpen, loadRun, loadTable, note, type OpenTable, refuseStale, withTable } from './state.ts';
import { sweepChunk } from './sweep.ts';
import { borrowDuckDb, transform } from './transform.ts';
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
    if (claim.chunk.kind === 'sweep') {
      const counts = await sweepChunk(deps, table, claim, moving);
      if (!unrecorded) await checkpoint(deps, args, counts, way.lane);
      return counts;
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
  const leftOut: LeftOut = { rows: 0 };
  const { increment } = table.work;
  const read = (): AsyncIterable<Batch> => {
    const batches = arrived(readChunk(table, claim.chunk, { way, snapshot, signal }));
    return increment?.compare === 'worker' ? within(batches, table.work, increment, leftOut) : batches;
  };
  const batches = transform(table, read, {
    way,
    signal,
    spool: deps.config.spool,
    duckdb: () => borrowDuckDb(deps),
    progress: (bytes) => progress.moved(0, bytes),
  });
  try {
    const counts = await writeChunk(table, claim, batches, { way, signal, progress, quarantine: bad.take });
    return { ...counts, read: counts.read + leftOut.rows, filtered: counts.filtered + leftOut.rows };
  } finally {
    progress.stop();
  }
}
