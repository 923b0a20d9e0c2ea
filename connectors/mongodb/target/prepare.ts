/** Makes what a table needs before its first document: ownership, the work in the ledger, the staging. */
import type { Work } from '../../contract.ts';
import { numberOf } from '../errors.ts';
import { makeCollection } from './collections.ts';
import { sweep } from './discard.ts';
import { type Ledger, newLife, type WorkDoc, workOf } from './ledger.ts';
import { hashOf, stagingOf } from './names.ts';
import { creationOptions, definitionOf } from './options.ts';
import { notOwned, ownership } from './ownership.ts';
import { anotherTable } from './redo.ts';

/** Idempotent, and safe from several workers at once. Throws NOT_OWNED. */
export async function prepareWork(ledger: Ledger, work: Work): Promise<void> {
  let known = await workOf(ledger, work);
  if (!known) {
    if (work.increment) await there(ledger, work);
    await sweep(ledger, work);
    if (!work.increment) await own(ledger, work);
    known = await begin(ledger, work);
  }
  // Somebody completes it already: its staging has another name.
  if (work.increment || known.state !== 'loading' || known.turn > 0) return;
  await makeCollection(ledger.db, stagingOf(known._id, known.life), creationOptions(work).options);
}

async function begin({ works }: Ledger, work: Work): Promise<WorkDoc> {
  const doc: WorkDoc = {
    _id: hashOf(work),
    life: newLife(),
    installation: work.installation,
    job: work.jobUid,
    target: work.target,
    run: work.run,
    table: work.name.name,
    generation: work.generation,
    mode: work.mode,
    source: `${work.source.system}:${work.source.name.schema}.${work.source.name.name}`,
    state: 'loading',
    turn: 0,
    publishing: 0,
    notes: definitionOf(work).notes,
    indexes: [],
    preparedAt: new Date(),
  };
  try {
    await works.insertOne(doc);
    return doc;
  } catch (error) {
    const there = numberOf(error) === 11000 ? await works.findOne({ _id: doc._id }) : undefined;
    if (!there) throw error;
    return there;
  }
}

/** An increment has no staging: it goes into the collection of the last run. Throws STATE_CHANGED. */
async function there(ledger: Ledger, work: Work): Promise<void> {
  const found = await ownership(ledger, work);
  const refused = notOwned(work, found);
  if (refused) throw refused;
  if (found.there?.type !== 'collection' || !found.mine) throw anotherTable(work);
}

/** A name nobody has is taken now; a collection of others changes its owner when it is published. */
async function own(ledger: Ledger, work: Work): Promise<void> {
  const found = await ownership(ledger, work);
  const refused = notOwned(work, found);
  if (refused) throw refused;
  if (found.owner) return;
  try {
    await ledger.owners.insertOne({
      _id: work.name.name,
      installation: work.installation,
      job: work.jobUid,
      uuid: null,
      made: false,
      indexes: [],
      at: new Date(),
    });
  } catch (error) {
    if (numberOf(error) !== 11000) throw error;
    const again = notOwned(work, await ownership(ledger, work));
    if (again) throw again;
  }
}
