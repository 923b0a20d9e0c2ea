import type { Batch, Chunk, Claim, Counts } from '../connectors/contract.ts';
import { GodwitError } from '../errors.ts';
import type { Progress } from './checkpoint.ts';
import type { Way } from './read.ts';
import type { OpenTable } from './state.ts';

/** Stage 3 of a move: data and checkpoint durable together in the target, or neither. */
export async function writeChunk(
  { target, work, row }: OpenTable,
  claim: Claim,
  batches: AsyncIterable<Batch>,
  how: {
    readonly way: Way;
    readonly signal: AbortSignal;
    readonly progress: Progress;
    readonly quarantine: Parameters<typeof target.write>[3]['quarantine'];
  },
): Promise<Counts> {
  const { way, signal, progress, quarantine } = how;
  const counts = await target.write({ ...work, ...way }, claim, batches, {
    signal,
    quarantine,
    progress: ({ rows, bytes }) => progress.moved(rows, bytes),
  });
  balanced(counts, claim.chunk, row.sourceName);
  return counts;
}

/** Promise 3, per chunk. */
export function balanced(counts: Counts, chunk: Chunk, table: string): void {
  if (counts.read === counts.written + counts.filtered + counts.quarantined) return;
  const { read, written, filtered, quarantined } = counts;
  const message = `${table}, chunk ${chunk.id}: ${read} read, but ${written} written, ${filtered} filtered, ${quarantined} set aside.`;
  throw new GodwitError('BOOKS_UNBALANCED', message, { table, chunk: chunk.id });
}
