/**
 * One chunk, one transaction: the rows and their checkpoint become durable together, or neither does (decisions 10, 11).
 */
import { GodwitError } from '../../../errors.ts';
import { reach } from '../../../faults.ts';
import {
  type Batch,
  type Claim,
  type Counts,
  swapsIn,
  tableText,
  type Work,
  type WriteOptions,
} from '../../contract.ts';
import type { SessionPool } from '../pool.ts';
import type { Session } from '../session.ts';
import { durable, fenced, register, writeCheckpoint } from './claim.ts';
import { Inserter } from './insert.ts';
import { type Into, Load, objection } from './load-data.ts';
import { Mender } from './mend.ts';
import { dropBeside, makeBeside, merge } from './merge.ts';
import { type Books, receiverOf } from './names.ts';
import { endMarked } from './session-mark.ts';
import { modeFor } from './sql-mode.ts';
import { assertStands } from './state.ts';
import { type Field, FieldReader } from './texts.ts';
import { begin } from './transaction.ts';
import { RowsWriter } from './write-rows.ts';

export type Writing = {
  readonly pool: SessionPool;
  readonly books: Books;
  readonly work: Work;
  readonly claim: Claim;
  readonly options: WriteOptions;
};

export const writeChunk = (writing: Writing, batches: AsyncIterable<Batch>): Promise<Counts> =>
  durably({ ...writing, signal: writing.options.signal }, (session) => moveIn(session, writing, batches));

/** What makes a chunk durable, whatever it does. */
export type Durable = Omit<Writing, 'options'> & { readonly signal: AbortSignal };

/** `move` begins the transaction, and leaves it open; its counts become the checkpoint. */
export async function durably(writing: Durable, move: (session: Session) => Promise<Counts>): Promise<Counts> {
  const { pool, books, work, claim, signal } = writing;
  signal.throwIfAborted();
  const session = await pool.take();
  // Ends it on the server too: the transaction is rolled back at once.
  const stop = () => session.destroy();
  signal.addEventListener('abort', stop, { once: true });
  let clean = false;
  try {
    signal.throwIfAborted();
    const mark = await register(session, books, work, claim);
    await modeFor(session, work);
    const counts = await move(session);
    reach('before-commit');
    await writeCheckpoint(session, books, work, claim, counts);
    reach('between-checkpoint-and-commit');
    const recovered = await commit(session, writing, mark);
    reach('after-commit');
    if (!recovered) await dropBeside(session, books, work);
    clean = !recovered;
    return counts;
  } catch (error) {
    throw signal.aborted ? signal.reason : placed(error, writing);
  } finally {
    signal.removeEventListener('abort', stop);
    if (clean) await pool.give(session);
    else session.destroy();
  }
}

/** Resolves to true when the answer was lost but the checkpoint says it happened. */
async function commit(session: Session, writing: Durable, mark: string): Promise<boolean> {
  try {
    await session.run('COMMIT');
    return false;
  } catch (error) {
    writing.signal.throwIfAborted();
    if (!(error instanceof GodwitError) || error.code !== 'CONNECTION_FAILED') throw error;
    if (await cameThrough(writing, mark)) return true;
    throw error;
  }
}

const patienceMs = 30_000;

/** An unknown COMMIT is never assumed: when the old session is gone, the checkpoint tells. */
async function cameThrough({ pool, books, work, claim, signal }: Durable, mark: string): Promise<boolean> {
  const until = Date.now() + patienceMs;
  for (;;) {
    signal.throwIfAborted();
    try {
      return await pool.use(async (session) => {
        await endMarked(session, mark);
        return (await durable(session, books, work, claim)) !== undefined;
      });
    } catch (error) {
      const again = error instanceof GodwitError && error.retryable && Date.now() < until;
      if (!again) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

async function moveIn(session: Session, writing: Writing, batches: AsyncIterable<Batch>): Promise<Counts> {
  const iterator = batches[Symbol.asyncIterator]();
  let ended = false;
  try {
    const first = await iterator.next();
    if (first.done) {
      ended = true;
      await begin(session);
      return empty(writing);
    }
    const counts = await moveRest(session, writing, { iterator, first: first.value });
    ended = true;
    return counts;
  } finally {
    // Not awaited: a source that hangs would keep us here, and the transaction open.
    if (!ended) void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

async function moveRest(session: Session, writing: Writing, rest: Rest): Promise<Counts> {
  const { work, books } = writing;
  const move = rest.first.kind === 'rows' ? moveRows : moveBytes;
  if (!work.increment) {
    await begin(session);
    return await move(session, writing, rest, { table: receiverOf(books, work), columns: work.columns });
  }
  if (rest.first.kind === 'bytes' && rest.first.rows === 0) return await nothing(session, rest);
  await assertStands(session, books, work);
  // DDL: before the transaction.
  const beside = await makeBeside(session, books, work);
  await begin(session);
  const moved = await move(session, writing, rest, beside.into);
  const { inserted, updated } = await merge(session, work, beside);
  await assertStands(session, books, work);
  const written = inserted + updated;
  return { ...moved, written, inserted, updated, unchanged: moved.read - moved.quarantined - written };
}

/** Nothing is new: then nothing is made. */
async function nothing(session: Session, { iterator }: Rest): Promise<Counts> {
  while (!(await iterator.next()).done);
  await begin(session);
  return { ...none, ...noneMerged };
}

const none: Counts = { read: 0, written: 0, filtered: 0, quarantined: 0, bytes: 0 };
const noneMerged = { unchanged: 0, inserted: 0, updated: 0 };

type Rest = { readonly iterator: AsyncIterator<Batch>; readonly first: Batch };

/** The rows lane says nothing when there is nothing; a stream of bytes always has an end that says how many rows. */
function empty({ work, claim }: Writing): Counts {
  if (work.writeFormat === 'rows') return { ...none, ...(work.increment ? noneMerged : {}) };
  throw cut(work, claim);
}

async function moveRows(session: Session, writing: Writing, { iterator, first }: Rest, into: Into): Promise<Counts> {
  const writer = new RowsWriter(session, writing.work, into, writing.options);
  for (let batch: Batch | undefined = first; batch; ) {
    if (batch.kind !== 'rows') throw new GodwitError('INTERNAL', `A ${batch.kind} batch among rows.`);
    await writer.take(batch.rows);
    const next: IteratorResult<Batch> = await iterator.next();
    batch = next.done ? undefined : next.value;
  }
  return writer.counts;
}

async function moveBytes(session: Session, writing: Writing, { iterator, first }: Rest, into: Into): Promise<Counts> {
  const { work, claim, options } = writing;
  const load = new Load(session, into);
  const way = (await load.started()) ? loading(session, load, work, into) : inserting(session, into);
  let bytes = 0;
  let said: number | undefined;
  for (let batch: Batch | undefined = first; batch; ) {
    if (batch.kind !== 'bytes' || batch.framed) throw new GodwitError('INTERNAL', 'Not the bytes that MySQL takes.');
    for (const part of batch.bytes) {
      bytes += part.length;
      await way.take(part);
    }
    batch.release?.();
    said = batch.rows ?? said;
    options.progress?.({ rows: batch.rows ?? 0, bytes });
    // A server that says no is heard even while the source is silent.
    const next: IteratorResult<Batch> = await way.or(iterator.next());
    batch = next.done ? undefined : next.value;
  }
  if (said === undefined) throw cut(work, claim);
  const refused = await way.end(said);
  if (refused?.code === 'BOOKS_UNBALANCED') throw uneven(work, claim, refused);
  if (refused) throw refused;
  return { read: said, written: said, filtered: 0, quarantined: 0, bytes };
}

/** How a stream of pg-text gets in. */
type Way = {
  /** The bytes are the caller's again when it resolves. */
  take(bytes: Uint8Array): Promise<void>;
  or<T>(other: Promise<T>): Promise<T>;
  /** What the server objects to; undefined when exactly so many rows were taken as they are. */
  end(rows: number): Promise<GodwitError | undefined>;
};

function loading(session: Session, load: Load, { columns }: Work, into: Into): Way {
  const mender = new Mender(columns);
  return {
    async take(bytes) {
      const full = mender.take(bytes);
      if (full.length > 0) await load.bytes(full);
    },
    or: (other) => load.or(other),
    async end(rows) {
      await load.bytes(mender.end());
      return await objection(session, await load.end(), rows, into.replacing);
    },
  };
}

const rowsAtOnce = 1000;

/** The server allows no LOAD DATA LOCAL: the same bytes, row by row, as INSERT. */
function inserting(session: Session, into: Into): Way {
  const reader = new FieldReader();
  const inserter = new Inserter(session, into);
  let rows: Field[][] = [];
  let written = 0;
  const put = async () => {
    const { refused } = await inserter.put(rows);
    if (refused) throw refused;
    written += rows.length;
    rows = [];
  };
  return {
    async take(bytes) {
      for (const fields of reader.take(bytes)) {
        if (fields.length !== into.columns.length)
          throw new GodwitError('INTERNAL', 'A line of another number of fields.');
        rows.push(fields);
        if (rows.length === rowsAtOnce) await put();
      }
    },
    or: (other) => other,
    async end(expected) {
      await put();
      if (written === expected && !reader.open) return undefined;
      return new GodwitError('BOOKS_UNBALANCED', `${expected} rows were announced and ${written} came.`);
    },
  };
}

const uneven = (work: Work, claim: Claim, { message }: GodwitError): GodwitError => {
  const table = tableText(work.name);
  return new GodwitError('BOOKS_UNBALANCED', `${table}, chunk ${claim.chunk.id}: ${message}`, {
    table,
    chunk: claim.chunk.id,
    target: work.target,
  });
};

const cut = (work: Work, claim: Claim): GodwitError => {
  const table = tableText(work.name);
  const message = `${table}, chunk ${claim.chunk.id}: the source's stream ended without saying how many rows it had; nothing was kept.`;
  return new GodwitError('BOOKS_UNBALANCED', message, { table, chunk: claim.chunk.id, target: work.target });
};

/** Where it happened. A staging that is not there any more means that somebody discarded this work. */
function placed(error: unknown, { books, work, claim }: Durable): unknown {
  if (!(error instanceof GodwitError)) return error;
  if (error.code === 'TABLE_MISSING' && swapsIn(work)) return fenced(work, claim);
  const table = tableText(work.name);
  if (error.where.table === table && error.where.chunk !== undefined) return error;
  const said = error.message.replace(tableText(receiverOf(books, work)), table);
  return new GodwitError(error.code, said, {
    ...error.where,
    table,
    chunk: claim.chunk.id,
    target: work.target,
    cause: error.cause,
  });
}
