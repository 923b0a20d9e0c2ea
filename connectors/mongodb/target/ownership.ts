/** Who made the collection of that name (decision 4). */
import { GodwitError } from '../../../errors.ts';
import { tableText, type Work } from '../../contract.ts';
import { collectionNamed, type Listed } from './collections.ts';
import type { Ledger, OwnerDoc } from './ledger.ts';

export type Ownership = {
  readonly there?: Listed;
  readonly owner?: OwnerDoc;
  readonly empty: boolean;
  readonly mine: boolean;
  /** Another job is writing a collection of that name just now. */
  readonly rival: boolean;
};

export async function ownership({ db, owners, works }: Ledger, work: Work): Promise<Ownership> {
  const there = await collectionNamed(db, work.name.name);
  const owner = (await owners.findOne({ _id: work.name.name })) ?? undefined;
  const rival = await works.findOne({
    table: work.name.name,
    state: { $ne: 'published' },
    $or: [{ installation: { $ne: work.installation } }, { job: { $ne: work.jobUid } }],
  });
  const same = owner?.job === work.jobUid && owner.installation === work.installation;
  // Dropped and made again by somebody else, it is not ours.
  const itself = !there || (owner?.made === true && (!owner.uuid || !there.uuid || owner.uuid === there.uuid));
  const mine = same && itself;
  return {
    ...(there ? { there } : {}),
    ...(owner ? { owner } : {}),
    mine,
    rival: rival !== null,
    empty: !there || (!mine && (await isEmpty({ db, there }))),
  };
}

export async function isEmpty({ db, there }: { readonly db: Ledger['db']; readonly there: Listed }): Promise<boolean> {
  if (there.type !== 'collection') return false;
  return (await db.collection(there.name).findOne({}, { projection: { _id: 1 } })) === null;
}

/** The refusal, or undefined when the work may go on. */
export function notOwned(work: Work, found: Ownership): GodwitError | undefined {
  const where = { table: tableText(work.name), target: work.target };
  if (found.rival) {
    return new GodwitError('NOT_OWNED', `Another job is writing ${where.table} on the target just now.`, where);
  }
  if (found.mine || found.empty || work.existing !== 'refuse') return undefined;
  const message = `${where.table} exists on the target, has documents, and was not made by this job; nothing was touched.`;
  return new GodwitError('NOT_OWNED', message, where);
}
