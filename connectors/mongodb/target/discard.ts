/** Takes an unpublished work away, with everything made for it. What was published stays. */
import type { Work } from '../../contract.ts';
import { dropCollection, listed, renameCollection } from './collections.ts';
import { type Ledger, type WorkDoc, within, workOf } from './ledger.ts';
import { asideOf, hashIn, hashOf, stagingOf, stagingPrefix, turnIn } from './names.ts';
import { settled } from './redo.ts';
import { baseOf } from './take-over.ts';
import { unmark } from './vanished.ts';

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
async function remove(ledger: Ledger, hash: string): Promise<void> {
  const { db, works, chunks, intents } = ledger;
  await works.deleteOne({ _id: hash });
  await abandon(ledger, hash);
  await chunks.deleteMany({ _id: within(hash) });
  for (const { name } of await listed(db, { prefix: stagingPrefix(hash) })) await dropCollection(db, name);
  await intents.deleteMany({ _id: within(hash) });
}

/**
 * Chunks of an increment that are decided and not finished: what of them is in the table stays, and nothing more comes. Their
 * collections get names nobody knows, so that a `$merge` on its way reads nothing; then what was marked to be deleted has
 * no mark any more. Two at once do no harm.
 */
async function abandon({ db, chunks }: Ledger, hash: string): Promise<void> {
  const open = chunks.find({ _id: within(hash), done: false, staged: { $exists: true } });
  for await (const { life, chunk, staged, kind, table } of open) {
    if (staged === undefined) continue;
    const aside = asideOf(stagingOf(hash, life), chunk, staged);
    const hidden = `${aside}_x`;
    await renameCollection(db, aside, hidden, true);
    await settled(db, aside);
    if (kind === 'sweep' && table !== undefined) await unmark(db, hidden, { table, text: aside });
  }
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
    if (doc._id !== hashOf(work) && (work.mode !== 'dumping' || doc.state === 'published'))
      await remove(ledger, doc._id);
  }
  // Listed first: a work is in the ledger before its staging is made.
  const stagings = await listed(db, { prefix: stagingPrefix('') });
  const known = new Set((await works.find({}, { projection: { _id: 1 } }).toArray()).map(({ _id }) => _id));
  // Of works that somebody began to remove.
  for (const { _id } of await ledger.chunks.find({ done: false, staged: { $exists: true } }).toArray()) {
    const hash = _id.split('.')[0] ?? '';
    if (!known.has(hash)) await remove(ledger, hash);
  }
  for (const { name } of stagings) {
    if (!known.has(hashIn(name))) await dropCollection(db, name);
  }
}
