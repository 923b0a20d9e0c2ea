import { setTimeout } from 'node:timers/promises';
import type {
  Batch,
  Chunk,
  Format,
  Lane,
  PlanColumn,
  ReadColumn,
  SnapshotRef,
  Target,
} from '../connectors/contract.ts';
import { reach } from '../faults.ts';
import { whereOf } from './pieces.ts';
import type { OpenTable } from './state.ts';

/** Memory of one slot: two batches in flight, each at most this. */
const batchBytes = 1024 * 1024;

export type Way = { readonly lane: Lane; readonly readFormat: Format; readonly writeFormat: Format };

/** Stage 1 of a move: the chunk's rows as the source gives them, in the format this lane needs. */
export function readChunk(
  { source, target, work, options }: OpenTable,
  chunk: Chunk,
  how: { readonly way: Way; readonly snapshot: SnapshotRef; readonly signal: AbortSignal },
): AsyncIterable<Batch> {
  const { way, snapshot, signal } = how;
  const range = work.increment?.compare === 'worker' ? undefined : work.increment?.range;
  const where = whereOf({ work, options });
  const framed = way.lane === 'direct' && target.takesFrames === true && source.system === target.system;
  const batches = source.read(work.source, chunk, {
    columns: work.columns.map((column) => guardedFor(target, readColumn(column))),
    ...(where.length > 0 ? { where } : {}),
    ...(range ? { range } : {}),
    snapshot,
    format: way.readFormat,
    framed,
    batch: { rows: options.batchSize, bytes: batchBytes },
    signal,
  });
  return options.timeDelay ? sparing(batches, options.timeDelay * 1000, signal) : batches;
}

/** `time_delay`: the source rests after each batch. */
async function* sparing<B extends Batch>(
  batches: AsyncIterable<B>,
  ms: number,
  signal: AbortSignal,
): AsyncGenerator<B> {
  for await (const batch of batches) {
    yield batch;
    await setTimeout(ms, undefined, { signal });
  }
}

export const readColumn = (column: PlanColumn): ReadColumn => ({
  name: column.from ?? column.name,
  shape: column.shape,
  ...(column.constant === undefined ? {} : { constant: { value: column.constant, type: column.type } }),
  ...(column.fit === 'checked' ? { guard: { misfit: column.misfit } } : {}),
});

/** What a target of PostgreSQL's years cannot hold of others it refuses itself, and the rows lane mends it. */
const guardedFor = (target: Target, column: ReadColumn): ReadColumn =>
  column.guard && target.holds.years === 'postgres' ? { ...column, guard: { ...column.guard, wide: true } } : column;

/** Passes batches on; the fault point lies between the first one's arrival and its way to the target. */
export async function* arrived<B extends Batch>(batches: AsyncIterable<B>): AsyncGenerator<B> {
  let first = true;
  for await (const batch of batches) {
    if (first) reach('after-read');
    first = false;
    yield batch;
  }
}
