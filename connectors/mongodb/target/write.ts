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
 * Rows of an increment go into the collection people read, in another way: increment.ts.
 *
 * So a chunk that failed once is written twice, and no other. A chunk that is the whole table needs no intents: all of
 * the staging is its own, and a later attempt's collection takes its place.
 */
import { reach } from '../../../faults.ts';
import type { Batch, Claim, Counts, Work } from '../../contract.ts';
import { checkpoint, guarded, lifeNow, moveIn, type Writing } from './attempt.ts';
import { durable, lifeOf, stillMine } from './claim.ts';
import { dropCollection, makeCollection } from './collections.ts';
import { writeIncrement } from './increment.ts';
import { Inserter } from './inserter.ts';
import { chunkKey, type Ledger, within, workOf } from './ledger.ts';
import { asideOf, hashOf, stagingOf } from './names.ts';
import { creationOptions } from './options.ts';

export async function writeChunk(writing: Writing, batches: AsyncIterable<Batch>): Promise<Counts> {
  const { ledger, work, claim, options } = writing;
  const { signal } = options;
  if (work.increment) return await writeIncrement(writing, work.increment, batches);
  return await guarded(
    { ledger, work, claim, signal },
    (aborted) => attempt(writing, batches, aborted),
    () => cleanUp(ledger, work, claim),
  );
}

async function attempt(writing: Writing, batches: AsyncIterable<Batch>, aborted: Promise<never>): Promise<Counts> {
  const { ledger, work, claim } = writing;
  const life = await lifeNow(writing);
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
  await checkpoint({ ledger, work, claim, signal: writing.options.signal }, { life, counts });
  reach('after-commit');
  // Done by a first attempt, so nobody overtook it: what it was about to write is of no use any more.
  if (first) await inserter.forget();
  return counts;
}

/** Whoever still writes there makes it again in vain. */
async function dropOlder({ db }: Ledger, staging: string, { chunk, epoch }: Claim): Promise<void> {
  for (let older = 2; older < epoch; older++) await dropCollection(db, asideOf(staging, chunk.id, older));
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
