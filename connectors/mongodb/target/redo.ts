/** What an increment has decided, from the chunk's own collection into the table; by whoever comes first, or after. */
import type { Db, Document } from 'mongodb';
import { GodwitError } from '../../../errors.ts';
import { reach } from '../../../faults.ts';
import { type Counts, tableText, type Work } from '../../contract.ts';
import { numberOf } from '../errors.ts';
import type { Attempt } from './attempt.ts';
import { fenced, lifeOf, stillMine } from './claim.ts';
import { collectionNamed, dropCollection } from './collections.ts';
import { confirmed, durably } from './insert.ts';
import { type ChunkDoc, chunkKey, type Ledger } from './ledger.ts';
import { asideOf, hashOf, stagingOf } from './names.ts';
import { ownership } from './ownership.ts';
import { deleteMarked } from './vanished.ts';

/** The attempt whose documents count for this chunk, and what it counted. */
export async function stagedBy(
  { ledger, work, claim }: Attempt,
  life: string,
): Promise<{ readonly epoch: number; readonly counts: Counts } | undefined> {
  const found = await ledger.chunks.findOne({ _id: chunkKey(hashOf(work), claim.chunk.id), life });
  if (!found) throw fenced(work, claim);
  return found.staged === undefined ? undefined : { epoch: found.staged, counts: found.counts };
}

/** Decides the chunk. Throws FENCED when the epoch has moved on. A lost answer is found by the next attempt. */
export async function commitStaged({ ledger, work, claim }: Attempt, life: string, counts: Counts): Promise<void> {
  const { matchedCount } = await ledger.chunks.updateOne(
    { _id: chunkKey(hashOf(work), claim.chunk.id), life, epoch: claim.epoch, done: false, staged: { $exists: false } },
    { $set: { staged: claim.epoch, table: work.name.name, counts } },
  );
  if (matchedCount === 0) throw fenced(work, claim);
}

/** Idempotent; nothing happens when the collection is gone: then it was applied. */
export async function applyStaged(attempt: Attempt, life: string, epoch: number): Promise<void> {
  const { ledger, work, claim } = attempt;
  const { db } = ledger;
  const aside = asideOf(stagingOf(hashOf(work), life), claim.chunk.id, epoch);
  if (await collectionNamed(db, aside)) {
    await sameTable(ledger, work);
    reach('in-swap');
    if (claim.chunk.kind === 'sweep') await deleteMarked(db, aside, work.name.name);
    else {
      const whenMatched = work.increment?.existing === 'keep' ? 'keepExisting' : 'replace';
      await mergeInto(db, aside, { into: work.name.name, whenMatched, whenNotMatched: 'insert' });
    }
    reach('after-swap');
    await stillMine(ledger, work, claim, life);
    await dropCollection(db, aside);
  }
  if (claim.epoch > epoch) await settled(db, aside);
}

/** The server's own copying: it reads the collection named when it begins, and not the one this process knew. */
export async function mergeInto(db: Db, aside: string, merge: Document): Promise<void> {
  const reply = await db.command({
    aggregate: aside,
    pipeline: [{ $merge: merge }],
    cursor: {},
    comment: aside,
    writeConcern: durably,
  });
  confirmed(reply);
}

/** `$merge` would make the table anew: then it would be one without the rows of the load. Throws STATE_CHANGED. */
export async function sameTable(ledger: Ledger, work: Work): Promise<void> {
  const { there, mine } = await ownership(ledger, work);
  if (!there || !mine) throw anotherTable(work);
}

export function anotherTable(work: Work): GodwitError {
  const where = { table: tableText(work.name), target: work.target };
  return new GodwitError('STATE_CHANGED', `${where.table} is not the collection the last run left.`, where);
}

const patienceMs = 30_000;

/**
 * Until no operation of that comment runs in the server: one that began before its collection was dropped may have
 * documents in hand. A login may see and end its own. Servers that do not show them (routers ask for the privilege `inprog`)
 * are trusted to have none.
 */
export async function settled(db: Db, comment: string): Promise<void> {
  const admin = db.client.db('admin');
  for (const until = Date.now() + patienceMs; ; ) {
    let running: Document[];
    try {
      running = await admin.aggregate([{ $currentOp: {} }, { $match: { 'command.comment': comment } }]).toArray();
    } catch (error) {
      if (numberOf(error) === undefined) throw error;
      return;
    }
    if (running.length === 0) return;
    if (Date.now() > until) {
      throw new GodwitError('SERVER_BUSY', 'MongoDB still runs what an earlier attempt asked for.');
    }
    for (const { opid } of running) await admin.command({ killOp: 1, op: opid }).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** Of the table: the chunk's collection must take the same keys for one. */
export async function collationOf({ db }: Ledger, work: Work): Promise<Document | undefined> {
  return (await collectionNamed(db, work.name.name))?.options.collation as Document | undefined;
}

/** What an overtaken attempt made, unless it is what counts. Best effort: nobody reads it. */
export async function cleanUpStaged({ ledger, work, claim }: Attempt): Promise<void> {
  const life = lifeOf(claim);
  if (life === undefined) return;
  try {
    const chunk: ChunkDoc | null = await ledger.chunks.findOne({ _id: chunkKey(hashOf(work), claim.chunk.id), life });
    if (chunk?.staged === claim.epoch && !chunk.done) return;
    await dropCollection(ledger.db, asideOf(stagingOf(hashOf(work), life), claim.chunk.id, claim.epoch));
  } catch {
    // The next run of this table removes it.
  }
}
