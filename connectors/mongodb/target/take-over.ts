/**
 * Whoever completes, publishes or discards a work first raises its turn and gives the staging a name with the new number:
 * from then on an older one, and every writer, has a name that means nothing. The server renames in one step, with inserts
 * before it or behind it. A name that means nothing may come to life again, empty: indexes and rows make their collection. So
 * the staging is known by its UUID, written down before it gets its first new name.
 */
import { GodwitError } from '../../../errors.ts';
import { swapsIn, tableText, type Work } from '../../contract.ts';
import { collectionNamed, dropCollection, listed, renameCollection } from './collections.ts';
import { type Ledger, notPrepared, overtaken, sameTurn, type WorkDoc, within } from './ledger.ts';
import { asideOf, hashOf, stagingOf, turnIn, turnOf } from './names.ts';

export type Turn = {
  readonly doc: WorkDoc;
  /** What the names of all turns begin with. */
  readonly base: string;
  readonly turn: number;
  /** The staging; undefined: it has got the table's name already. */
  readonly staging: string | undefined;
};

/** Throws FENCED when the work is not there, or when somebody else is faster. */
export async function takeOver(ledger: Ledger, work: Work): Promise<Turn> {
  const doc = await ledger.works.findOneAndUpdate(
    { _id: hashOf(work) },
    { $inc: { turn: 1 } },
    { returnDocument: 'after' },
  );
  if (!doc) throw notPrepared(work);
  const { turn } = doc;
  const base = await baseOf(ledger, doc);
  const mine = turnOf(base, turn);
  // Names of older turns than the latest were made again by somebody who was overtaken.
  const least = doc.state === 'publishing' ? doc.publishing : 0;
  for (let missed = 0; missed < 3; ) {
    const there = (await listed(ledger.db, { prefix: base })).flatMap(({ name, uuid }) => {
      const found = turnIn(base, name);
      return found === undefined ? [] : [{ turn: found, uuid }];
    });
    const known = await stagingUuid(ledger, doc._id, base, there);
    const turns = there.filter((one) => (known === undefined ? one.turn >= least : one.uuid === known));
    const latest = Math.max(-1, ...turns.map((one) => one.turn));
    if (latest < 0) {
      // Looked for again: not every server lists a collection that is just being renamed.
      missed++;
      await new Promise((resolve) => setTimeout(resolve, 100));
      continue;
    }
    if (await renameCollection(ledger.db, turnOf(base, latest), mine, false)) {
      if (await isStaging(ledger, mine, known)) return { doc, base, turn, staging: mine };
      // Between the two somebody took it and somebody else made the name again.
      await dropCollection(ledger.db, mine);
    }
    // Between the two somebody gave it another name, in a turn that is over: once more.
    await sameTurn(ledger, work, turn);
  }
  await sameTurn(ledger, work, turn);
  if (doc.state === 'published') return { doc, base, turn, staging: undefined };
  if (doc.state === 'publishing') {
    const { staging } = (await ledger.works.findOne({ _id: doc._id }, { projection: { staging: 1 } })) ?? {};
    const known = staging?.base === base ? staging.uuid : undefined;
    // A replaced table is that very collection under its last name; a snapshot was copied, and its staging dropped.
    if (!swapsIn(work) || (await isStaging(ledger, work.name.name, known)))
      return { doc, base, turn, staging: undefined };
  }
  const where = { table: tableText(work.name), target: work.target };
  throw new GodwitError('CONFLICT', `The staging of ${where.table} was dropped by somebody; start a new run.`, where);
}

/** Written down by the first who takes over, while nobody has renamed it yet. Undefined where servers give none. */
async function stagingUuid(
  { works }: Ledger,
  _id: string,
  base: string,
  there: readonly { readonly turn: number; readonly uuid: string | undefined }[],
): Promise<string | undefined> {
  const first = there.find(({ turn }) => turn === 0)?.uuid;
  if (first !== undefined) {
    await works.updateOne({ _id, 'staging.base': { $ne: base } }, { $set: { staging: { base, uuid: first } } });
  }
  const { staging } = (await works.findOne({ _id }, { projection: { staging: 1 } })) ?? {};
  return staging?.base === base ? staging.uuid : undefined;
}

/** Is this the collection that the work's rows are in? True where nobody can tell. */
async function isStaging({ db }: Ledger, name: string, known: string | undefined): Promise<boolean> {
  return known === undefined || (await collectionNamed(db, name))?.uuid === known;
}

/**
 * The collection that is to be published: the staging, or, when the whole table is one chunk and a later attempt did it,
 * what that one wrote aside.
 */
export async function baseOf({ chunks }: Ledger, { _id, life }: WorkDoc): Promise<string> {
  const staging = stagingOf(_id, life);
  const whole = await chunks.findOne({ _id: within(_id), life, kind: 'all', done: true, epoch: { $gt: 1 } });
  return whole ? asideOf(staging, whole.chunk, whole.epoch) : staging;
}

/** Whatever goes wrong for somebody who was overtaken is that he was: his collection is not there any more. */
export async function inTurn<T>(
  ledger: Ledger,
  work: Work,
  { turn, staging }: { readonly turn: number; readonly staging: string },
  use: () => Promise<T>,
): Promise<T> {
  try {
    return await use();
  } catch (error) {
    const now = await ledger.works.findOne({ _id: hashOf(work) });
    if (now?.turn === turn) throw error;
    // No staging counts any more; what he made again under the old name is dropped. (Else it may be the very one.)
    if (!now || now.state === 'published') await dropCollection(ledger.db, staging).catch(() => {});
    throw overtaken(work);
  }
}
