/**
 * Makes complete collections visible. The server gives no way to do so for several in one step: those of a component become
 * visible one after another, each at once and whole.
 *
 * replace, and the full load of an incremental mode: the staging takes the name, and the old collection is gone, in one step of the server. Views, which name
 * collections, show the new one. dumping: the first snapshot becomes the collection; a later one is copied into it, its
 * documents visible as they arrive, and `_godwit.snapshot` says when all are there. An increment is in the table already:
 * what is remembered of it makes it complete.
 */
import { reach } from '../../../faults.ts';
import { type Published, swapsIn, tableText, type Work } from '../../contract.ts';
import { numberOf } from '../errors.ts';
import { collectionNamed, dropCollection, listed, renameCollection } from './collections.ts';
import { copyInto } from './copy.ts';
import { complete, finishIncrement } from './finish.ts';
import { makeIndexes } from './indexes.ts';
import { instantOf } from './instant.ts';
import {
  addNotes,
  changeWork,
  type Ledger,
  notPrepared,
  overtaken,
  sameTurn,
  type WorkDoc,
  within,
  workOf,
} from './ledger.ts';
import { hashOf, stagingPrefix } from './names.ts';
import { definitionOf } from './options.ts';
import { notOwned, ownership } from './ownership.ts';
import { keptState, rememberIncrement } from './state.ts';
import { inTurn, type Turn, takeOver } from './take-over.ts';

/** Idempotent: after a lost answer it finds what was done by the work's state and by the names that are there. */
export async function publishWorks(ledgerFor: (work: Work) => Ledger, works: readonly Work[]): Promise<Published> {
  const notes: string[] = [];
  for (const work of works) {
    const ledger = ledgerFor(work);
    const known = await workOf(ledger, work);
    if (!known) throw notPrepared(work);
    if (known.state !== 'published')
      await (work.increment ? publishIncrement(ledger, work) : publish(ledger, work, known));
    await tidy(ledger, work);
    const table = tableText(work.name);
    notes.push(...((await workOf(ledger, work))?.notes ?? []).map((note) => `${table}: ${note}`));
  }
  return { notes: [...new Set(notes)] };
}

async function publish(ledger: Ledger, work: Work, known: WorkDoc): Promise<void> {
  const found: Turn = known.state === 'publishing' ? await takeOver(ledger, work) : await complete(ledger, work);
  const { turn, staging } = found;
  if (staging !== undefined) {
    const refused = notOwned(work, await ownership(ledger, work));
    if (refused) throw refused;
    await changeWork(ledger, work, turn, { state: 'publishing', publishing: turn });
    reach('in-swap');
    await inTurn(ledger, work, { turn, staging }, async () => {
      if (swapsIn(work)) await rename(ledger, work, staging, true);
      else await addSnapshot(ledger, work, { turn, staging });
    });
    reach('after-swap');
  }
  await settle(ledger, work, turn);
}

/** What is remembered first: should it be lost that this was published, it is found to be remembered. */
async function publishIncrement(ledger: Ledger, work: Work): Promise<void> {
  await finishIncrement(ledger, work);
  reach('in-publish');
  await rememberIncrement(ledger, work);
  const set = { state: 'published' as const, publishedAt: new Date() };
  await ledger.works.updateOne({ _id: hashOf(work), state: 'complete' }, { $set: set });
}

/** Throws FENCED when the collection is gone: whoever took over has it. */
async function rename(ledger: Ledger, work: Work, staging: string, over: boolean): Promise<void> {
  if (!(await renameCollection(ledger.db, staging, work.name.name, over))) throw overtaken(work);
}

/** Into the collection that is there; when there is none, the snapshot becomes it. */
async function addSnapshot(
  ledger: Ledger,
  work: Work,
  { turn, staging }: { readonly turn: number; readonly staging: string },
): Promise<void> {
  const { db } = ledger;
  const { name } = work.name;
  const { there, mine } = await ownership(ledger, work);
  const over = there !== undefined && work.existing === 'overwrite' && !mine;
  if (!there || over) {
    try {
      return await rename(ledger, work, staging, over);
    } catch (error) {
      // Another run of this job was faster.
      if (numberOf(error) !== 48) throw error;
    }
  }
  const made = await makeIndexes(db, name, definitionOf(work).indexes);
  await addNotes(ledger, work, made.notes);
  await copyInto(db, { from: staging, to: name, fence: () => sameTurn(ledger, work, turn) });
  await dropCollection(db, staging);
}

async function settle(ledger: Ledger, work: Work, turn: number): Promise<void> {
  const { installation, jobUid: job, name, run } = work;
  const hash = hashOf(work);
  await sameTurn(ledger, work, turn);
  const doc = await workOf(ledger, work);
  const there = await collectionNamed(ledger.db, name.name);
  // With the owner, whose UUID says of which collection it speaks. A table of another mode has nothing to remember.
  const state = keptState(work, (await ledger.owners.findOne({ _id: name.name })) ?? undefined);
  const owner = {
    installation,
    job,
    uuid: there?.uuid ?? null,
    made: true,
    indexes: doc?.indexes ?? [],
    at: new Date(),
  };
  await ledger.owners.updateOne(
    { _id: name.name },
    state ? { $set: { ...owner, state } } : { $set: owner, $unset: { state: '' } },
    { upsert: true },
  );
  if (work.mode === 'dumping' && work.snapshotDate !== undefined) {
    const chunks = await ledger.chunks.find({ _id: within(hash), life: doc?.life ?? '' }).toArray();
    const rows = chunks.reduce((sum, { counts }) => sum + counts.written, 0);
    const _id = { collection: name.name, migration_snapshot_date: instantOf(work.snapshotDate), job };
    await ledger.snapshots.updateOne(
      { _id },
      { $setOnInsert: { installation, run, rows, completedAt: new Date() } },
      { upsert: true },
    );
  }
  await changeWork(ledger, work, turn, { state: 'published', publishedAt: new Date() });
}

/** What overtaken workers made again under names that mean nothing. */
async function tidy({ db, intents }: Ledger, work: Work): Promise<void> {
  const hash = hashOf(work);
  for (const { name } of await listed(db, { prefix: stagingPrefix(hash) })) await dropCollection(db, name);
  await intents.deleteMany({ _id: within(hash) });
}
