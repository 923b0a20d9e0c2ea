import type { Batch, Chunk, Claim, Counts } from '../connectors/contract.ts';
import { GodwitError } from '../errors.ts';
import type { Progress } from './checkpoint.ts';
import { balances, booksText, rowCounts } from './counts.ts';
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
  const rows = rowCounts(counts);
  if (balances(rows)) return;
  const message = `${table}, chunk ${chunk.id}: ${booksText(rows)}.`;
  throw new GodwitError('BOOKS_UNBALANCED', message, { table, chunk: chunk.id });
}
