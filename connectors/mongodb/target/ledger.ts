/**
 * Collections `_godwit.*` in the database written to: who owns which collection, the units of work, their chunks, what
 * first attempts were about to write, and the snapshots of dumping tables that are complete. They are the truth; Godwit's
 * own database is a cache of them (decision 9). Every step is one atomic operation on one document: no transaction is
 * needed, so a standalone server is as good as a replica set.
 */
import { randomBytes } from 'node:crypto';
import type { Binary, Collection, Db } from 'mongodb';
import { GodwitError } from '../../../errors.ts';
import { type Chunk, type Counts, tableText, type Work } from '../../contract.ts';
import { hashOf, ledgerNames } from './names.ts';

export type OwnerDoc = {
  /** The collection. */
  readonly _id: string;
  readonly installation: string;
  readonly job: string;
  /** Of the collection as Godwit made it, where the server gives one, in hexadecimal; null while none was published. */
  readonly uuid: string | null;
  /** Did Godwit publish it? A name can be taken before. */
  readonly made: boolean;
  /** Indexes that came from the source; others are the user's own and are kept. */
  readonly indexes: readonly string[];
  readonly at: Date;
  /** Of an incremental mode: what is remembered between runs (state.ts). `json` may hold key values. */
  readonly state?: { readonly target: string; readonly json: string; readonly seq: number } | undefined;
};

/**
 * `loading` → chunks arrive · `complete` → all rows are in one collection, and counted · `publishing` → it is about to
 * get its name · `published`. Each is written before what it speaks of is done, so that a lost answer is recognised.
 */
export type WorkState = 'loading' | 'complete' | 'publishing' | 'published';

export type WorkDoc = {
  readonly _id: string;
  readonly life: string;
  readonly installation: string;
  readonly job: string;
  readonly target: string;
  readonly run: string;
  readonly table: string;
  readonly generation: number;
  readonly mode: Work['mode'];
  readonly source: string;
  readonly state: WorkState;
  /** Raised by whoever completes, publishes or discards. */
  readonly turn: number;
  /** The turn in which publishing began. */
  readonly publishing: number;
  /** The collection that is completed and published, whatever its name is just now; of servers that give UUIDs. */
  readonly staging?: { readonly base: string; readonly uuid: string };
  readonly notes: readonly string[];
  /** Indexes that came from the source. */
  readonly indexes: readonly string[];
  readonly preparedAt: Date;
  readonly publishedAt?: Date;
};

export type ChunkDoc = {
  /** Hash of the work, a dot, the chunk's number in ten digits: in order. */
  readonly _id: string;
  readonly life: string;
  readonly chunk: number;
  readonly kind: Chunk['kind'];
  /** JSON. Holds key values: it lies here beside the rows they come from. */
  readonly bounds: string;
  readonly rows: number;
  readonly epoch: number;
  readonly done: boolean;
  readonly counts: Counts;
  /** Of an increment: the epoch whose documents count, though they may not all be in the table yet. */
  readonly staged?: number;
  /** Of an increment that is staged: the collection it goes into. */
  readonly table?: string;
  readonly doneAt?: Date;
};

/** What an attempt that writes into the common staging is about to write: the keys of one insert command. */
export type IntentDoc = {
  /** As of the chunk, then the work's life and a number. */
  readonly _id: string;
  readonly ids: Binary;
};

export type SnapshotDoc = {
  readonly _id: { readonly collection: string; readonly migration_snapshot_date: Date; readonly job: string };
  readonly installation: string;
  readonly run: string;
  readonly rows: number;
  readonly completedAt: Date;
};

export type Ledger = {
  readonly db: Db;
  readonly owners: Collection<OwnerDoc>;
  readonly works: Collection<WorkDoc>;
  readonly chunks: Collection<ChunkDoc>;
  readonly intents: Collection<IntentDoc>;
  readonly snapshots: Collection<SnapshotDoc>;
};

/** Of the database a work writes to. The client's write concern is majority and journal for all of them. */
export const ledgerOf = (db: Db): Ledger => ({
  db,
  owners: db.collection(ledgerNames.owner),
  works: db.collection(ledgerNames.work),
  chunks: db.collection(ledgerNames.chunk),
  intents: db.collection(ledgerNames.intent),
  snapshots: db.collection(ledgerNames.snapshot),
});

export const newLife = (): string => randomBytes(4).toString('hex');

export const chunkKey = (hash: string, chunk: number): string => `${hash}.${String(chunk).padStart(10, '0')}`;

/** Keys that begin with these and a dot: all chunks of a work, or all its intents, or those of a chunk. */
export const within = (...parts: readonly string[]) => ({ $gte: `${parts.join('.')}.`, $lt: `${parts.join('.')}/` });

export const noCounts: Counts = { read: 0, written: 0, filtered: 0, quarantined: 0, bytes: 0 };

export const workOf = async ({ works }: Ledger, work: Work): Promise<WorkDoc | undefined> =>
  (await works.findOne({ _id: hashOf(work) })) ?? undefined;

export const notPrepared = (work: Work): GodwitError =>
  new GodwitError('FENCED', `${tableText(work.name)}: this work was discarded or replaced by a newer one.`, {
    table: tableText(work.name),
    target: work.target,
  });

export const overtaken = (work: Work): GodwitError =>
  new GodwitError('FENCED', `${tableText(work.name)}: another worker took over; this one changed nothing more.`, {
    table: tableText(work.name),
    target: work.target,
  });

/** Throws FENCED when somebody else took over meanwhile. */
export async function changeWork(
  { works }: Ledger,
  work: Work,
  turn: number,
  set: Partial<Pick<WorkDoc, 'state' | 'publishing' | 'notes' | 'indexes' | 'publishedAt'>>,
): Promise<void> {
  const { matchedCount } = await works.updateOne({ _id: hashOf(work), turn }, { $set: set });
  if (matchedCount === 0) throw overtaken(work);
}

/** The same, changing nothing. */
export async function sameTurn({ works }: Ledger, work: Work, turn: number): Promise<void> {
  const found = await works.findOne({ _id: hashOf(work), turn }, { projection: { _id: 1 } });
  if (!found) throw overtaken(work);
}

export async function addNotes(ledger: Ledger, work: Work, notes: readonly string[]): Promise<void> {
  if (notes.length > 0)
    await ledger.works.updateOne({ _id: hashOf(work) }, { $addToSet: { notes: { $each: [...notes] } } });
}
