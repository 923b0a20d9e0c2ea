/** What every attempt at a chunk does alike, however it makes its documents durable. */
import { MongoError } from 'mongodb';
import { GodwitError } from '../../../errors.ts';
import { type Batch, type Claim, type Counts, tableText, type Work, type WriteOptions } from '../../contract.ts';
import { translate } from '../errors.ts';
import { briefly } from './briefly.ts';
import { durable, fenced, isOvertaken, lifeOf, stillMine, writeCheckpoint } from './claim.ts';
import { bytesInto } from './from-bytes.ts';
import { rowsInto } from './from-rows.ts';
import type { Sender } from './inserter.ts';
import { type Ledger, workOf } from './ledger.ts';

export type Writing = {
  readonly ledger: Ledger;
  readonly work: Work;
  readonly claim: Claim;
  readonly options: WriteOptions;
};

/** Of a chunk that is not written but swept there are neither rows nor bad ones. */
export type Attempt = Omit<Writing, 'options'> & { readonly signal: AbortSignal };

/**
 * Runs the attempt until it ends or the signal does. Who was overtaken runs `cleanUp` first, whether an answer told him so
 * (FENCED) or he was told to stop before one came: what he had under way made a collection again.
 */
export async function guarded<T>(
  { ledger, work, claim, signal }: Attempt,
  attempt: (aborted: Promise<never>) => Promise<T>,
  cleanUp: () => Promise<void>,
): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  aborted.catch(() => {});
  const stop = () => reject(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await attempt(aborted);
  } catch (error) {
    if (signal.aborted) {
      await briefly(isOvertaken(ledger, work, claim).then((overtaken) => (overtaken ? cleanUp() : undefined)));
      throw signal.reason;
    }
    const failed = placed(error, work, claim);
    if (failed instanceof GodwitError && failed.code === 'FENCED') await cleanUp();
    throw failed;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** The life of the work this claim is of. Throws FENCED when it is over, or the claim is not the newest. */
export async function lifeNow({ ledger, work, claim }: Pick<Attempt, 'ledger' | 'work' | 'claim'>): Promise<string> {
  const known = await workOf(ledger, work);
  const life = lifeOf(claim) ?? known?.life;
  if (!known || life === undefined || life !== known.life || known.turn > 0) throw fenced(work, claim);
  await stillMine(ledger, work, claim, life);
  return life;
}

type Moving = {
  readonly inserter: Sender;
  readonly batches: AsyncIterable<Batch>;
  readonly aborted: Promise<never>;
};

export async function moveIn(writing: Writing, { inserter, batches, aborted }: Moving): Promise<Counts> {
  const iterator = batches[Symbol.asyncIterator]();
  let ended = false;
  try {
    const move = writing.work.writeFormat === 'rows' ? rowsInto : bytesInto;
    const counts = await move(writing, inserter, { next: () => Promise.race([iterator.next(), aborted]) });
    ended = true;
    return counts;
  } finally {
    // Not awaited: a source that hangs would keep us here.
    if (!ended) void Promise.resolve(iterator.return?.()).catch(() => {});
    await inserter.settle();
  }
}

const patienceMs = 30_000;

/** When the answer is lost, what is in the ledger tells. A checkpoint that arrives later counts, or finds a newer epoch. */
export async function checkpoint(
  { ledger, work, claim, signal }: Attempt,
  made: { readonly life: string; readonly counts: Counts; readonly staged?: number },
): Promise<void> {
  const { life } = made;
  try {
    await writeCheckpoint(ledger, work, claim, made);
  } catch (error) {
    const lost = translate(error);
    if (lost.code !== 'CONNECTION_FAILED') throw error;
    for (const until = Date.now() + patienceMs; ; ) {
      signal.throwIfAborted();
      try {
        if (await durable(ledger, work, claim, life)) return;
        throw lost;
      } catch (again) {
        if (again === lost || !translate(again).retryable || Date.now() > until) throw lost;
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
    }
  }
}

/** Where it happened. */
function placed(error: unknown, work: Work, claim: Claim): unknown {
  const where = { table: tableText(work.name), chunk: claim.chunk.id, target: work.target };
  if (!(error instanceof GodwitError)) return error instanceof MongoError ? translate(error, where) : error;
  if (error.where.table === where.table && error.where.chunk !== undefined) return error;
  return new GodwitError(error.code, error.message, { ...error.where, ...where, cause: error });
}
