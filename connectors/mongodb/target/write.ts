/**
 * One attempt at one chunk: documents, durable, then the checkpoint. MongoDB's transactions are too small for a chunk
 * (sixty seconds, the cache of the server) and a standalone server has none, so this path needs none anywhere. What must
 * hold is that an attempt which was overtaken, and may be stopped in the middle of an insert and go on an hour later,
 * neither adds, nor doubles, nor overwrites anything that counts:
 *
 * 1. First attempts (epoch 1: nearly all) insert straight into the staging, so that rows are written once. Before each
 *    insert the keys in it are made durable in `_godwit.intent`. Inserts overwrite nothing.
 * 2. Later attempts write into a collection of their own, named by chunk and epoch, whatever older attempts still do.
 * 3. The checkpoint is one update on condition of the epoch, after all inserts are durable (majority and journal).
 * 4. `finish` (finish.ts) gives the staging a new name, after which no writer can reach it; only then it takes out what
 *    overtaken first attempts put there, by their intents, and puts in what the later attempts wrote aside. Whoever wakes
 *    after that makes a collection of the old name, which nobody reads, finds that it was overtaken, and drops it.
 *
 * So a chunk that failed once is written twice, and no other. A chunk that is the whole table needs no intents: all of
 * the staging is its own, and a later attempt's collection takes its place.
 */
import { MongoError } from 'mongodb';
import { GodwitError } from '../../../errors.ts';
import { reach } from '../../../faults.ts';
import { type Batch, type Claim, type Counts, tableText, type Work, type WriteOptions } from '../../contract.ts';
import { translate } from '../errors.ts';
import { durable, fenced, lifeOf, stillMine, writeCheckpoint } from './claim.ts';
import { dropCollection, makeCollection } from './collections.ts';
import { bytesInto } from './from-bytes.ts';
import { rowsInto } from './from-rows.ts';
import { Inserter } from './inserter.ts';
import { chunkKey, type Ledger, within, workOf } from './ledger.ts';
import { asideOf, hashOf, stagingOf } from './names.ts';
import { creationOptions } from './options.ts';

export type Writing = {
  readonly ledger: Ledger;
  readonly work: Work;
  readonly claim: Claim;
  readonly options: WriteOptions;
};

export async function writeChunk(writing: Writing, batches: AsyncIterable<Batch>): Promise<Counts> {
  const { ledger, work, claim, options } = writing;
  const { signal } = options;
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  aborted.catch(() => {});
  const stop = () => reject(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await attempt(writing, batches, aborted);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    const failed = placed(error, work, claim);
    if (failed instanceof GodwitError && failed.code === 'FENCED') await cleanUp(ledger, work, claim);
    throw failed;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

async function attempt(writing: Writing, batches: AsyncIterable<Batch>, aborted: Promise<never>): Promise<Counts> {
  const { ledger, work, claim } = writing;
  const known = await workOf(ledger, work);
  const life = lifeOf(claim) ?? known?.life;
  if (!known || life !== known.life || known.turn > 0) throw fenced(work, claim);
  await stillMine(ledger, work, claim, life);
  const staging = stagingOf(hashOf(work), life);
  const first = claim.epoch === 1;
  const collection = first ? staging : asideOf(staging, claim.chunk.id, claim.epoch);
  if (!first) {
    await dropOlder(ledger, staging, claim);
    await makeCollection(ledger.db, collection, creationOptions(work).options);
  }
  const inserter = new Inserter({
    db: ledger.db,
    collection,
    aborted,
    // The whole table is one chunk: nobody else's rows are in its staging.
    ...(first && claim.chunk.kind !== 'all'
      ? { intents: { into: ledger.intents, key: `${chunkKey(hashOf(work), claim.chunk.id)}.${life}` } }
      : {}),
    fence: () => stillMine(ledger, work, claim, life),
  });
  const counts = await moveIn(writing, { inserter, batches, aborted });
  reach('between-checkpoint-and-commit');
  await checkpoint(writing, life, counts);
  reach('after-commit');
  // Done by a first attempt, so nobody overtook it: what it was about to write is of no use any more.
  if (first) await inserter.forget();
  return counts;
}

/** Whoever still writes there makes it again in vain. */
async function dropOlder({ db }: Ledger, staging: string, { chunk, epoch }: Claim): Promise<void> {
  for (let older = 2; older < epoch; older++) await dropCollection(db, asideOf(staging, chunk.id, older));
}

type Moving = {
  readonly inserter: Inserter;
  readonly batches: AsyncIterable<Batch>;
  readonly aborted: Promise<never>;
};

async function moveIn(writing: Writing, { inserter, batches, aborted }: Moving): Promise<Counts> {
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
async function checkpoint({ ledger, work, claim, options }: Writing, life: string, counts: Counts): Promise<void> {
  try {
    await writeCheckpoint(ledger, work, claim, { life, counts });
  } catch (error) {
    const lost = translate(error);
    if (lost.code !== 'CONNECTION_FAILED') throw error;
    for (const until = Date.now() + patienceMs; ; ) {
      options.signal.throwIfAborted();
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

/** What an overtaken attempt made, or made again after it was dropped. Best effort: nobody reads it. */
async function cleanUp(ledger: Ledger, work: Work, claim: Claim): Promise<void> {
  const life = lifeOf(claim);
  if (life === undefined) return;
  try {
    const staging = stagingOf(hashOf(work), life);
    if (await durable(ledger, work, claim, life)) return;
    if (claim.epoch > 1) return await dropCollection(ledger.db, asideOf(staging, claim.chunk.id, claim.epoch));
    const known = await workOf(ledger, work);
    if (known?.life === life && known.turn === 0) return;
    await dropCollection(ledger.db, staging);
    await ledger.intents.deleteMany({ _id: within(chunkKey(hashOf(work), claim.chunk.id), life) });
  } catch {
    // The next run of this table removes it.
  }
}

/** Where it happened. */
function placed(error: unknown, work: Work, claim: Claim): unknown {
  const where = { table: tableText(work.name), chunk: claim.chunk.id, target: work.target };
  if (!(error instanceof GodwitError)) return error instanceof MongoError ? translate(error, where) : error;
  if (error.where.table === where.table && error.where.chunk !== undefined) return error;
  return new GodwitError(error.code, error.message, { ...error.where, ...where, cause: error });
}
