/**
 * All chunks → one complete collection, counted, with its indexes, not yet visible. Idempotent: what is done is known by
 * the work's state, and by the state of the collections.
 */
import type { Binary } from 'mongodb';
import { GodwitError } from '../../../errors.ts';
import { tableText, type Work } from '../../contract.ts';
import { dropCollection, listed } from './collections.ts';
import { copyInto } from './copy.ts';
import { deleteStatement } from './delete-keys.ts';
import { changeOptions, keptOf, makeIndexes } from './indexes.ts';
import { deleteDocuments } from './insert.ts';
import { addNotes, type ChunkDoc, changeWork, type Ledger, notPrepared, sameTurn, within, workOf } from './ledger.ts';
import { asideOf, hashOf, stagingOf, turnIn } from './names.ts';
import { definitionOf } from './options.ts';
import { ownership } from './ownership.ts';
import { inTurn, type Turn, takeOver } from './take-over.ts';

export type Complete = Turn & { readonly staging: string };

export async function finishWork(ledger: Ledger, work: Work): Promise<void> {
  const known = await workOf(ledger, work);
  if (!known) throw notPrepared(work);
  if (work.increment) return await finishIncrement(ledger, work);
  if (known.state === 'loading' || known.state === 'complete') await complete(ledger, work);
}

/** Its rows are in the table already. Throws CONFLICT for a chunk that is claimed and not done. */
export async function finishIncrement(ledger: Ledger, work: Work): Promise<void> {
  await chunksOf(ledger, work);
  const { works } = ledger;
  await works.updateOne({ _id: hashOf(work), state: 'loading' }, { $set: { state: 'complete' } });
}

/** Throws CONFLICT for a chunk that is claimed and not done, CONSTRAINT_BROKEN when two chunks have the same key. */
export async function complete(ledger: Ledger, work: Work): Promise<Complete> {
  const chunks = await chunksOf(ledger, work);
  const { staging, ...found } = await takeOver(ledger, work);
  if (staging === undefined) throw notPrepared(work);
  return await inTurn(ledger, work, { ...found, staging }, () => step(ledger, work, chunks, { ...found, staging }));
}

async function step(ledger: Ledger, work: Work, chunks: readonly ChunkDoc[], found: Complete): Promise<Complete> {
  const { staging, turn, doc } = found;
  if (doc.state === 'loading') {
    await gather(ledger, work, { chunks, found });
    await count(ledger, work, { chunks, staging });
    await changeWork(ledger, work, turn, { state: 'complete' });
  }
  await sameTurn(ledger, work, turn);
  await dropAside(ledger, stagingOf(doc._id, doc.life), found);
  await ledger.intents.deleteMany({ _id: within(doc._id) });
  await define(ledger, work, { turn, staging });
  return found;
}

async function chunksOf(ledger: Ledger, work: Work): Promise<ChunkDoc[]> {
  const known = await workOf(ledger, work);
  if (!known) throw notPrepared(work);
  const chunks = await ledger.chunks.find({ _id: within(hashOf(work)), life: known.life }).toArray();
  const open = chunks.find(({ done }) => !done);
  if (!open) return chunks;
  const where = { table: tableText(work.name), chunk: open.chunk, target: work.target };
  throw new GodwitError('CONFLICT', `${where.table}: chunk ${open.chunk} was begun and is not done.`, where);
}

type Gathering = { readonly chunks: readonly ChunkDoc[]; readonly found: Complete };

/** Of chunks whose first attempt was overtaken: what that one left goes out, what the last one wrote aside comes in. */
async function gather(ledger: Ledger, work: Work, { chunks, found }: Gathering): Promise<void> {
  const { db } = ledger;
  // A chunk that is the whole table is in the collection of its last attempt already: `baseOf`.
  for (const chunk of chunks.filter(({ epoch, kind }) => epoch > 1 && kind !== 'all')) {
    const aside = asideOf(found.base, chunk.chunk, chunk.epoch);
    for await (const { ids } of ledger.intents.find({ _id: within(chunk._id, chunk.life) })) {
      await takeOut(ledger, found.staging, ids);
    }
    await copyInto(db, { from: aside, to: found.staging, fence: () => sameTurn(ledger, work, found.turn) });
  }
}

const keysAtOnce = 10_000;

async function takeOut({ db }: Ledger, collection: string, ids: Binary): Promise<void> {
  const b = Buffer.from(ids.buffer.buffer, ids.buffer.byteOffset, ids.length());
  for (let at = 0; at < b.length; ) {
    const { statement, next } = deleteStatement(b, at, keysAtOnce);
    await deleteDocuments(db, collection, statement);
    at = next;
  }
}

/** What every attempt that counts says it wrote, against what is there: rows lost or doubled are never published. */
async function count(
  { db }: Ledger,
  work: Work,
  { chunks, staging }: { readonly chunks: readonly ChunkDoc[]; readonly staging: string },
): Promise<void> {
  const expected = chunks.reduce((sum, { counts }) => sum + counts.written, 0);
  const collection = db.collection(staging);
  // The server's own figure may be off after it crashed: then it is counted.
  if ((await collection.estimatedDocumentCount()) === expected) return;
  const there = await collection.countDocuments({});
  if (there === expected) return;
  const where = { table: tableText(work.name), target: work.target };
  if (there < expected && chunks.length > 1) {
    const message = `${where.table}: ${expected - there} documents of different chunks have a key that another one has; nothing was published.`;
    throw new GodwitError('CONSTRAINT_BROKEN', message, where);
  }
  const message = `${where.table}: ${expected} documents were written and ${there} are there; nothing was published.`;
  throw new GodwitError('BOOKS_UNBALANCED', message, where);
}

/** Never the collection of a newer turn: it may be the very one. */
async function dropAside({ db }: Ledger, prefix: string, { base, staging }: Complete): Promise<void> {
  for (const { name } of await listed(db, { prefix })) {
    // Not the names of turns: the rows may be under a later one's, or an older one's that nobody renamed yet.
    if (name !== staging && turnIn(base, name) === undefined) await dropCollection(db, name);
  }
}

/** Indexes and options. A dumping table that is there gets its indexes when it is published into. */
async function define(
  ledger: Ledger,
  work: Work,
  { turn, staging }: { readonly turn: number; readonly staging: string },
): Promise<void> {
  const { db } = ledger;
  const found = await ownership(ledger, work);
  const stays = found.there !== undefined && !(work.existing === 'overwrite' && !found.mine);
  if (work.mode === 'dumping' && stays) return;
  const { indexes, late } = definitionOf(work);
  const old = stays ? await keptOf(db, found) : { indexes: [], late: {} };
  const made = await makeIndexes(db, staging, indexes);
  const taken = new Set(made.names);
  const more = await makeIndexes(
    db,
    staging,
    old.indexes.filter(({ name }) => !taken.has(name)),
  );
  const options = { ...old.late, ...late };
  const notes = [...made.notes, ...more.notes, ...(await changeOptions(db, staging, options))];
  await changeWork(ledger, work, turn, { indexes: made.names });
  await addNotes(ledger, work, notes);
}
