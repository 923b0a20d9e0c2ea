/**
 * Documents that vanished at the source, deleted in one step with the sweep chunk's checkpoint. `$merge` cannot delete, so
 * what it brings is a mark, and only documents with the mark of this very chunk and attempt are deleted: a command that
 * arrives late finds none, though a document of that key be there again. Until then it carries the mark, for a moment.
 */
import type { Db, Document } from 'mongodb';
import { GodwitError } from '../../../errors.ts';
import { reach } from '../../../faults.ts';
import type { Counts, KeyBatch } from '../../contract.ts';
import { behindName, bson, int32, sizeOf } from '../bson.ts';
import { idValue } from '../key-texts.ts';
import { rawBatches } from '../raw.ts';
import { exact } from '../session.ts';
import { type Attempt, guarded, lifeNow } from './attempt.ts';
import { stillMine } from './claim.ts';
import { makeCollection } from './collections.ts';
import { deleteStatement } from './delete-keys.ts';
import { decided, type Staged } from './increment.ts';
import { deleteDocuments, insertDocuments } from './insert.ts';
import { keyShapeOf } from './key-shape.ts';
import { noCounts } from './ledger.ts';
import { asideOf, hashOf, stagingOf } from './names.ts';
import { Out } from './out.ts';
import { cleanUpStaged, collationOf, mergeInto } from './redo.ts';

/** The name of the mark; its value is that of the chunk's own collection. */
export const mark = '_godwit_vanished';

const atOnce = 5000;

export async function deleteVanished(attempt: Attempt, keys: AsyncIterable<KeyBatch>): Promise<Counts> {
  return await guarded(
    attempt,
    async (aborted) => {
      const life = await lifeNow(attempt);
      return await decided(attempt, { life, aborted }, keys, () => stage(attempt, life, aborted, keys));
    },
    () => cleanUpStaged(attempt),
  );
}

async function stage(
  attempt: Attempt,
  life: string,
  aborted: Promise<never>,
  keys: AsyncIterable<KeyBatch>,
): Promise<Staged> {
  const { ledger, work, claim, signal } = attempt;
  const { db } = ledger;
  const found = keyShapeOf(work);
  if ('refused' in found) throw new GodwitError('INTERNAL', `The key ${found.refused} cannot be compared.`);
  const aside = asideOf(stagingOf(hashOf(work), life), claim.chunk.id, claim.epoch);
  let deleted = 0;
  const iterator = keys[Symbol.asyncIterator]();
  let ended = false;
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), aborted]);
      if (next.done) break;
      for (let i = 0; i < next.value.length; i += atOnce) {
        const ids = next.value.slice(i, i + atOnce).flatMap((key) => idValue(found.shape, key.split('\0')) ?? []);
        await stillMine(ledger, work, claim, life);
        const documents = await Promise.race([marked(db, { table: work.name.name, ids, aside, signal }), aborted]);
        if (documents.count === 0) continue;
        const collation = deleted === 0 ? await collationOf(ledger, work) : undefined;
        if (deleted === 0) await makeCollection(db, aside, collation ? { collation } : {});
        reach('before-commit');
        const [refused] = await Promise.race([insertDocuments(db, aside, documents), aborted]);
        if (refused) throw new GodwitError('INTERNAL', 'A key vanished twice.', { native: String(refused.code) });
        deleted += documents.count;
      }
    }
    ended = true;
  } finally {
    if (!ended) void Promise.resolve(iterator.return?.()).catch(() => {});
  }
  return { counts: { ...noCounts, deleted }, staged: deleted };
}

type Marking = {
  readonly table: string;
  readonly ids: readonly unknown[];
  readonly aside: string;
  readonly signal: AbortSignal;
};

/** `{ _id, mark }` of those that are there, with the table's own bytes of the key. */
async function marked(db: Db, { table, ids, aside, signal }: Marking): Promise<{ parts: Uint8Array[]; count: number }> {
  const out = new Out();
  let count = 0;
  for await (const found of idsOf(db, { find: table, filter: { _id: { $in: ids } } }, signal)) {
    for (const { type, id } of found) {
      const start = out.open();
      out.byte(type);
      out.name('_id');
      out.bytes(id);
      out.byte(bson.string);
      out.name(mark);
      out.string(aside);
      out.close(start);
      count++;
    }
  }
  return { parts: [out.take()], count };
}

/** Idempotent: what is deleted has no mark any more. */
export async function deleteMarked(db: Db, aside: string, table: string): Promise<void> {
  await mergeInto(db, aside, { into: table, whenMatched: 'merge', whenNotMatched: 'discard' });
  for await (const found of idsOf(db, { find: aside, filter: {} }, new AbortController().signal)) {
    const out = new Out(4096);
    for (const { type, id } of found) {
      out.byte(type);
      out.bytes(id);
    }
    const ids = out.take();
    for (let at = 0; at < ids.length; ) {
      const { statement, next } = deleteStatement(ids, at, 10_000, { name: mark, text: aside });
      await deleteDocuments(db, table, statement, aside);
      at = next;
    }
  }
}

/** Of a chunk that will never be finished: the marks of this text are taken off, so that nobody sees them. */
export async function unmark(db: Db, aside: string, { table, text }: { table: string; text: string }): Promise<void> {
  const cursor = db.collection(aside).find({}, { ...exact, projection: { _id: 1 } });
  let ids: unknown[] = [];
  const takeOff = async () => {
    const filter: Document = { _id: { $in: ids }, [mark]: text };
    ids = [];
    await db.collection(table).updateMany(filter, { $unset: { [mark]: '' } });
  };
  try {
    for await (const { _id } of cursor) {
      ids.push(_id);
      if (ids.length >= atOnce) await takeOff();
    }
    if (ids.length > 0) await takeOff();
  } finally {
    await cursor.close().catch(() => {});
  }
}

type Found = { readonly type: number; readonly id: Buffer };

/** Keys in their bytes, as many as a reply of the server has. */
async function* idsOf(
  db: Db,
  find: { readonly find: string; readonly filter: object },
  signal: AbortSignal,
): AsyncGenerator<Found[]> {
  const command = { ...find, projection: { _id: 1 } };
  const options = { signal, bytes: 1024 * 1024, averageBytes: 60 };
  for await (const { b, start, end } of rawBatches({ db, client: db.client }, command, options)) {
    const found: Found[] = [];
    for (let p = start; p < end; ) {
      const document = behindName(b, p + 1);
      p = document + int32(b, document);
      const type = b[document + 4] as number;
      const value = behindName(b, document + 5);
      found.push({ type, id: b.subarray(value, value + sizeOf(b, type, value)) });
    }
    yield found;
  }
}
