/**
 * Whoever completes, publishes or discards a work first raises its turn and gives the staging a name with the new number:
 * from then on an older one, and every writer, has a name that means nothing. The server renames in one step, with inserts
 * before it or behind it.
 */
import { GodwitError } from '../../../errors.ts';
import { tableText, type Work } from '../../contract.ts';
import { listed, renameCollection } from './collections.ts';
import { type Ledger, notPrepared, overtaken, type WorkDoc } from './ledger.ts';
import { hashOf, stagingOf, turnIn, turnOf } from './names.ts';

export type Turn = {
  readonly doc: WorkDoc;
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
  const base = stagingOf(doc._id, doc.life);
  const mine = turnOf(base, turn);
  // Names of older turns than the latest were made again by somebody who was overtaken.
  const least = doc.state === 'publishing' ? doc.publishing : 0;
  const turns = (await listed(ledger.db, { prefix: base })).flatMap(({ name }) => {
    const found = turnIn(base, name);
    return found === undefined || found < least ? [] : [found];
  });
  const latest = Math.max(-1, ...turns);
  if (latest >= 0 && (await renameCollection(ledger.db, turnOf(base, latest), mine, false))) {
    return { doc, turn, staging: mine };
  }
  const now = await ledger.works.findOne({ _id: doc._id });
  if (now?.turn !== turn) throw overtaken(work);
  if (doc.state === 'publishing' || doc.state === 'published') return { doc, turn, staging: undefined };
  const where = { table: tableText(work.name), target: work.target };
  throw new GodwitError('CONFLICT', `The staging of ${where.table} was dropped by somebody; start a new run.`, where);
}
