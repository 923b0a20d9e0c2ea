/** One chunk's epoch and checkpoint in the ledger (decision 10). */
import { GodwitError } from '../../../errors.ts';
import { type Checkpoint, type Chunk, type Claim, type Counts, tableText, type Work } from '../../contract.ts';
import { numberOf } from '../errors.ts';
import { type ChunkDoc, chunkKey, type Ledger, noCounts, notPrepared, within, workOf } from './ledger.ts';
import { hashOf } from './names.ts';

/** The life of the work in which a claim was made: should the work be discarded and begun again, the claim is not of the new one. */
const lives = new WeakMap<Claim, string>();
export const lifeOf = (claim: Claim): string | undefined => lives.get(claim);

/** Raises the epoch, so that an older attempt can make no checkpoint any more. */
export async function claimChunk(ledger: Ledger, work: Work, chunk: Chunk): Promise<Claim> {
  for (;;) {
    const known = await workOf(ledger, work);
    if (!known) throw notPrepared(work);
    const doc = await raised(ledger, hashOf(work), known.life, chunk);
    if (!doc) continue;
    // Discarded between the two: nothing may be left of it.
    if ((await workOf(ledger, work))?.life !== known.life) {
      await ledger.chunks.deleteOne({ _id: doc._id, life: known.life });
      continue;
    }
    if (doc.bounds !== JSON.stringify(chunk.bounds ?? null)) {
      // Never silently the rows of another range: the caller's chunks are not those this work was begun with.
      const where = { table: tableText(work.name), chunk: chunk.id, target: work.target };
      throw new GodwitError('INTERNAL', `Chunk ${chunk.id} of ${where.table} was begun with other bounds.`, where);
    }
    const claim: Claim = { chunk, epoch: doc.epoch, ...(doc.done ? { done: doc.counts } : {}) };
    lives.set(claim, known.life);
    return claim;
  }
}

/** Undefined: somebody else was faster; once more. */
async function raised({ chunks }: Ledger, hash: string, life: string, chunk: Chunk): Promise<ChunkDoc | undefined> {
  const _id = chunkKey(hash, chunk.id);
  const found = await chunks.findOneAndUpdate(
    { _id, life, done: false },
    { $inc: { epoch: 1 } },
    { returnDocument: 'after' },
  );
  if (found) return found;
  const there = await chunks.findOne({ _id });
  if (there?.life === life) return there.done ? there : undefined;
  // Of a life that was discarded while somebody claimed.
  if (there) await chunks.deleteOne({ _id, life: there.life });
  const made: ChunkDoc = {
    _id,
    life,
    chunk: chunk.id,
    kind: chunk.kind,
    bounds: JSON.stringify(chunk.bounds ?? null),
    rows: chunk.rows,
    epoch: 1,
    done: false,
    counts: noCounts,
  };
  try {
    await chunks.insertOne(made);
    return made;
  } catch (error) {
    if (numberOf(error) !== 11000) throw error;
    return undefined;
  }
}

/** The chunk as it is now, if this claim is still the newest one. Throws FENCED. */
export async function stillMine({ chunks }: Ledger, work: Work, claim: Claim, life: string): Promise<void> {
  const found = await chunks.findOne(
    { _id: chunkKey(hashOf(work), claim.chunk.id), life, epoch: claim.epoch, done: false },
    { projection: { _id: 1 } },
  );
  if (!found) throw fenced(work, claim);
}

/** Has a newer attempt begun, or is the work gone? Then nothing this one still has under way can count. */
export async function isOvertaken({ chunks }: Ledger, work: Work, claim: Claim): Promise<boolean> {
  const found = await chunks.findOne({ _id: chunkKey(hashOf(work), claim.chunk.id), life: lifeOf(claim) ?? '' });
  return found === null || found.epoch > claim.epoch;
}

/** The last thing an attempt does. Throws FENCED when the epoch has moved on: then what it wrote does not count. */
export async function writeCheckpoint(
  { chunks }: Ledger,
  work: Work,
  claim: Claim,
  { life, counts, staged }: { readonly life: string; readonly counts: Counts; readonly staged?: number | undefined },
): Promise<void> {
  const { matchedCount } = await chunks.updateOne(
    // What somebody decided meanwhile is not decided again.
    {
      _id: chunkKey(hashOf(work), claim.chunk.id),
      life,
      epoch: claim.epoch,
      done: false,
      staged: staged ?? { $exists: false },
    },
    { $set: { done: true, counts, doneAt: new Date() } },
  );
  if (matchedCount === 0) throw fenced(work, claim);
}

/** What is durable for this claim: its counts, or undefined. */
export async function durable({ chunks }: Ledger, work: Work, claim: Claim, life: string): Promise<Counts | undefined> {
  const _id = chunkKey(hashOf(work), claim.chunk.id);
  const found = await chunks.findOne({ _id, life, epoch: claim.epoch, done: true });
  return found?.counts;
}

export const fenced = (work: Work, claim: Claim): GodwitError => {
  const table = tableText(work.name);
  const message = `${table}, chunk ${claim.chunk.id}: a newer attempt took over; what this one wrote does not count.`;
  return new GodwitError('FENCED', message, { table, chunk: claim.chunk.id, target: work.target });
};

export async function* checkpointsOf(ledger: Ledger, work: Work): AsyncGenerator<Checkpoint> {
  const known = await workOf(ledger, work);
  if (!known) return;
  for await (const doc of ledger.chunks.find({ _id: within(hashOf(work)), life: known.life }).sort({ _id: 1 })) {
    const chunk: Chunk = { id: doc.chunk, kind: doc.kind, bounds: JSON.parse(doc.bounds), rows: doc.rows };
    yield { chunk, epoch: doc.epoch, done: doc.done, counts: doc.counts };
  }
}
