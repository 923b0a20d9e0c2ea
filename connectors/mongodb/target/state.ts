/**
 * What is remembered of an incremental table between runs: with its owner, in one document, as JSON. `seq` grows with each:
 * who was overtaken sets nothing back.
 */
import { GodwitError } from '../../../errors.ts';
import { type TableState, tableText, type Work } from '../../contract.ts';
import { numberOf } from '../errors.ts';
import { type Ledger, type OwnerDoc, overtaken } from './ledger.ts';
import { notOwned, ownership } from './ownership.ts';
import { anotherTable } from './redo.ts';

export const keptState = ({ target, state }: Pick<Work, 'target' | 'state'>, before?: OwnerDoc): OwnerDoc['state'] =>
  state && { target, json: JSON.stringify(state), seq: (before?.state?.seq ?? 0) + 1 };

export async function stateOf(ledger: Ledger, work: Work): Promise<TableState | undefined> {
  const { there, owner, mine } = await ownership(ledger, work);
  if (there?.type !== 'collection' || !mine || owner?.state?.target !== work.target) return undefined;
  return JSON.parse(owner.state.json) as TableState;
}

/** Throws FENCED when another run was remembered meanwhile. Idempotent: that of this very run is known. */
export async function rememberIncrement(ledger: Ledger, work: Work): Promise<void> {
  const { there, owner, mine } = await ownership(ledger, work);
  if (!there || !owner || !mine) throw anotherTable(work);
  const known = owner.state;
  const state = keptState(work, owner);
  if (!work.state || !state) return;
  if (!known) throw anotherTable(work);
  if ((JSON.parse(known.json) as TableState).run === work.state.run) return;
  const { matchedCount } = await ledger.owners.updateOne(
    { _id: owner._id, installation: work.installation, job: work.jobUid, 'state.seq': known.seq },
    { $set: { state, at: new Date() } },
  );
  if (matchedCount === 0) throw overtaken(work);
}

/** For a table that another tool has filled. It is this job's from now on. Throws NOT_OWNED, TABLE_MISSING. */
export async function rememberForeign(ledger: Ledger, work: Work, state: TableState): Promise<void> {
  const found = await ownership(ledger, work);
  const where = { table: tableText(work.name), target: work.target };
  if (found.there?.type !== 'collection') {
    throw new GodwitError('TABLE_MISSING', `The target has no collection ${where.table}.`, where);
  }
  const refused = notOwned(work, found);
  if (refused) throw refused;
  const doc: Omit<OwnerDoc, '_id'> = {
    installation: work.installation,
    job: work.jobUid,
    uuid: found.there.uuid ?? null,
    made: true,
    indexes: found.mine ? (found.owner?.indexes ?? []) : [],
    at: new Date(),
    state: keptState({ target: work.target, state }, found.owner),
  };
  const seq = found.owner?.state?.seq;
  try {
    await ledger.owners.updateOne(
      { _id: work.name.name, ...(found.owner ? { 'state.seq': seq ?? { $exists: false } } : {}) },
      { $set: doc },
      { upsert: true },
    );
  } catch (error) {
    if (numberOf(error) !== 11000) throw error;
    throw overtaken(work);
  }
}
