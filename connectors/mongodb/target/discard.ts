/** Takes an unpublished work away, with everything made for it. What was published stays. */
import type { Work } from '../../contract.ts';
import { dropCollection, listed } from './collections.ts';
import { type Ledger, type WorkDoc, within, workOf } from './ledger.ts';
import { hashIn, hashOf, stagingPrefix, turnIn } from './names.ts';
import { baseOf } from './take-over.ts';

/** Idempotent. Writers that come later find no work: FENCED; what one of them makes again he drops himself. */
export async function discardWork(ledger: Ledger, work: Work): Promise<void> {
  const hash = hashOf(work);
  const known = await workOf(ledger, work);
  if (!known || known.state === 'published' || (await gotItsName(ledger, known))) return;
  await remove(ledger, hash);
  await disown(ledger, work);
}

/** The name was given, and nobody could write that down: the next `publish` does. */
async function gotItsName(ledger: Ledger, known: WorkDoc): Promise<boolean> {
  if (known.state !== 'publishing') return false;
  const base = await baseOf(ledger, known);
  const turns = (await listed(ledger.db, { prefix: base })).map(({ name }) => turnIn(base, name));
  return !turns.some((turn) => turn !== undefined && turn >= known.publishing);
}

/** The work first: from then on nobody can claim, checkpoint or publish. */
async function remove({ db, works, chunks, intents }: Ledger, hash: string): Promise<void> {
  await works.deleteOne({ _id: hash });
  await chunks.deleteMany({ _id: within(hash) });
  for (const { name } of await listed(db, { prefix: stagingPrefix(hash) })) await dropCollection(db, name);
  await intents.deleteMany({ _id: within(hash) });
}

/** A name taken for a collection that never came to be, and that nobody else is writing. */
async function disown({ owners, works }: Ledger, work: Work): Promise<void> {
  if (await works.findOne({ table: work.name.name }, { projection: { _id: 1 } })) return;
  await owners.deleteOne({ _id: work.name.name, installation: work.installation, job: work.jobUid, made: false });
}

/**
 * Before a work begins: what earlier runs and generations of this very table left behind. Published ones are forgotten,
 * their checkpoints have served; the staging of unpublished ones is dropped. (Snapshots that are not complete yet are other
 * runs' own.) And collections of works that are not in the ledger any more.
 */
export async function sweep(ledger: Ledger, work: Work): Promise<void> {
  const { db, works } = ledger;
  const older = await works
    .find({ installation: work.installation, job: work.jobUid, target: work.target, table: work.name.name })
    .toArray();
  for (const doc of older) {
    if (doc._id !== hashOf(work) && (work.mode === 'replace' || doc.state === 'published'))
      await remove(ledger, doc._id);
  }
  // Listed first: a work is in the ledger before its staging is made.
  const stagings = await listed(db, { prefix: stagingPrefix('') });
  const known = new Set((await works.find({}, { projection: { _id: 1 } }).toArray()).map(({ _id }) => _id));
  for (const { name } of stagings) {
    if (!known.has(hashIn(name))) await dropCollection(db, name);
  }
}
