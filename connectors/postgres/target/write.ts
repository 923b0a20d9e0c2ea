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
  type TableName,
  tableText,
  type Work,
  type WriteOptions,
} from '../../contract.ts';
import type { SessionPool } from '../pool.ts';
import { openSession, type Session } from '../session.ts';
import type { PostgresAddress } from '../settings.ts';
import { columnList, tableIdent } from '../sql.ts';
import { durable, fenced, register, writeCheckpoint } from './claim.ts';
import { CopyIn } from './copy-in.ts';
import { loadedNames } from './layout.ts';
import { endBackend } from './ledger.ts';
import { merge } from './merge.ts';
import { receiverOf } from './names.ts';
import { makePartitions, monthsIn, partitionColumn } from './partitions.ts';
import { type Facts, makeTemporary, stateChanged, tableFacts, temporary } from './temporary.ts';
import { RowsWriter } from './write-rows.ts';

export type Writing = {
  readonly pool: SessionPool;
  readonly address: PostgresAddress;
  readonly work: Work;
  readonly claim: Claim;
  readonly options: WriteOptions;
};

export const writeChunk = (writing: Writing, batches: AsyncIterable<Batch>): Promise<Counts> =>
  durably(writing, (session) => moveIn(session, writing, batches));

/** In one transaction with the chunk's checkpoint. */
export async function durably(writing: Writing, move: (session: Session) => Promise<Counts>): Promise<Counts> {
  const { pool, work, claim } = writing;
  const { signal } = writing.options;
  signal.throwIfAborted();
  const session = await pool.take();
  // Cancels on the server and closes the socket: the transaction is rolled back at once.
  const stop = () => session.destroy();
  signal.addEventListener('abort', stop, { once: true });
  let clean = false;
  try {
    signal.throwIfAborted();
    const { started } = await register(session, work, claim);
    await session.query('BEGIN');
    const counts = await move(session);
    reach('before-commit');
    await writeCheckpoint(session, work, claim, counts);
    reach('between-checkpoint-and-commit');
    const recovered = await commit(session, writing, started);
    reach('after-commit');
    clean = !recovered;
    return counts;
  } catch (error) {
    throw signal.aborted ? signal.reason : placed(error, work, claim);
  } finally {
    signal.removeEventListener('abort', stop);
    if (clean) await pool.give(session);
    else session.destroy();
  }
}

/** Resolves to true when the answer was lost but the checkpoint says it happened. */
async function commit(session: Session, writing: Writing, started: string): Promise<boolean> {
  try {
    await session.query('COMMIT');
    return false;
  } catch (error) {
    writing.options.signal.throwIfAborted();
    if (!(error instanceof GodwitError) || error.code !== 'CONNECTION_FAILED') throw error;
    if (await cameThrough(writing, session.pid, started)) return true;
    throw error;
  }
}

const patienceMs = 30_000;

/** An unknown COMMIT is never assumed: when the old backend is gone, the checkpoint tells. */
async function cameThrough({ address, work, claim, options }: Writing, pid: number, started: string): Promise<boolean> {
  const until = Date.now() + patienceMs;
  for (;;) {
    options.signal.throwIfAborted();
    try {
      await using session = await openSession(address, { signal: options.signal });
      await endBackend(session, pid, started);
      return (await durable(session, work, claim)) !== undefined;
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
      return empty(writing);
    }
    const rows = writing.work.increment ? await opening(iterator, first.value) : iterator;
    if (rows === undefined) {
      ended = true;
      return nothing;
    }
    const landing = await landingOf(session, writing, first.value);
    const rest = { iterator: rows, first: first.value, into: landing.table };
    const counts =
      first.value.kind === 'rows' ? await moveRows(session, writing, rest) : await moveBytes(session, writing, rest);
    ended = true;
    return landing.facts ? await settle(session, writing, counts, landing.facts) : counts;
  } finally {
    // Not awaited: a source that hangs would keep us here, and the transaction open.
    if (!ended) void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

const nothing: Counts = {
  ...{ read: 0, written: 0, filtered: 0, quarantined: 0, bytes: 0 },
  ...{ unchanged: 0, inserted: 0, updated: 0 },
};

/** What comes behind the first batch; undefined when the stream has no row: a run with nothing new makes no table for it. */
async function opening(
  iterator: AsyncIterator<Batch>,
  first: Batch,
): Promise<Pick<AsyncIterator<Batch>, 'next'> | undefined> {
  if (first.kind !== 'bytes') return iterator;
  const bytes = first.bytes.reduce((sum, part) => sum + part.length, 0);
  // Header and trailer of COPY BINARY may come before the number of rows.
  const second = first.rows === undefined && bytes < 64 ? await iterator.next() : undefined;
  const last = second?.done === false ? second.value : first;
  if (last.kind === 'bytes' && last.rows === 0) {
    while (!(await iterator.next()).done);
    return undefined;
  }
  if (!second) return iterator;
  let held: IteratorResult<Batch> | undefined = second;
  return {
    next() {
      const result = held;
      held = undefined;
      return result ? Promise.resolve(result) : iterator.next();
    },
  };
}

type Rest = { readonly iterator: Pick<AsyncIterator<Batch>, 'next'>; readonly first: Batch; readonly into: TableName };

/** Where COPY puts the rows: right into the table, or first beside it where they must be compared or have no partition yet. */
async function landingOf(
  session: Session,
  { work }: Writing,
  first: Batch,
): Promise<{ table: TableName; facts?: Facts }> {
  if (!work.increment && !partitionColumn(work)) return { table: receiverOf(work) };
  const facts = await tableFacts(session, work);
  if (!work.increment && facts.month === null) return { table: receiverOf(work) };
  await makeTemporary(session, work, facts, first.kind === 'rows');
  return { table: temporary, facts };
}

async function settle(session: Session, { work, pool }: Writing, counts: Counts, facts: Facts): Promise<Counts> {
  const rows = counts.written;
  if (work.increment) {
    const { inserted, updated } = await merge(session, pool, { work, facts, rows });
    const written = inserted + updated;
    return { ...counts, written, unchanged: rows - written, inserted, updated };
  }
  if (facts.month !== null && rows > 0) {
    const from = tableIdent(temporary);
    const table = receiverOf(work);
    await makePartitions(
      pool,
      { table, oid: facts.oid, column: facts.month },
      await monthsIn(session, from, facts.month),
    );
    const list = columnList(loadedNames(work));
    await session.query(`INSERT INTO ${tableIdent(table)} (${list}) SELECT ${list} FROM ${from}`);
  }
  return counts;
}

/** The rows lane says nothing when there is nothing; a stream of bytes always has an end that says how many rows. */
function empty({ work, claim }: Writing): Counts {
  if (work.writeFormat !== 'rows') throw cut(work, claim);
  return work.increment ? nothing : { read: 0, written: 0, filtered: 0, quarantined: 0, bytes: 0 };
}

const copySql = (work: Work, into: TableName, format: 'binary' | 'text'): string => {
  const names = loadedNames(work);
  const list = names.length === 0 ? '' : ` (${columnList(names)})`;
  return `COPY ${tableIdent(into)}${list} FROM STDIN WITH (FORMAT ${format})`;
};

async function moveBytes(session: Session, writing: Writing, { iterator, first, into }: Rest): Promise<Counts> {
  const { work, claim, options } = writing;
  const copy = new CopyIn(session);
  await copy.start(session, copySql(work, into, copyFormat(work)));
  let bytes = 0;
  let said: number | undefined;
  for (let batch: Batch | undefined = first; batch; ) {
    if (batch.kind !== 'bytes') throw new GodwitError('INTERNAL', `A ${batch.kind} batch in a stream of bytes.`);
    if (batch.framed) await copy.frames(batch.bytes, batch.release);
    else await copy.bytes(batch.bytes, batch.release);
    for (const part of batch.bytes) bytes += part.length;
    said = batch.rows ?? said;
    options.progress?.({ rows: batch.rows ?? 0, bytes });
    // A server that says no is heard even while the source is silent.
    const next: IteratorResult<Batch> = await copy.or(iterator.next());
    batch = next.done ? undefined : next.value;
  }
  if (said === undefined) throw cut(work, claim);
  const written = await copy.end();
  if (written !== said) {
    const table = tableText(work.name);
    const message = `${table}, chunk ${claim.chunk.id}: the source sent ${said} rows and the target took ${written}; nothing was kept.`;
    throw new GodwitError('BOOKS_UNBALANCED', message, { table, chunk: claim.chunk.id, target: work.target });
  }
  return { read: said, written, filtered: 0, quarantined: 0, bytes };
}

function copyFormat(work: Work): 'binary' | 'text' {
  if (work.writeFormat === 'pg-binary') return 'binary';
  if (work.writeFormat === 'pg-text') return 'text';
  throw new GodwitError('INTERNAL', `PostgreSQL does not take bytes of ${work.writeFormat}.`);
}

async function moveRows(session: Session, writing: Writing, { iterator, first, into }: Rest): Promise<Counts> {
  const writer = new RowsWriter(session, writing.work, writing.options, copySql(writing.work, into, 'text'));
  for (let batch: Batch | undefined = first; batch; ) {
    if (batch.kind !== 'rows') throw new GodwitError('INTERNAL', `A ${batch.kind} batch among rows.`);
    await writer.take(batch.rows);
    const next: IteratorResult<Batch> = await iterator.next();
    batch = next.done ? undefined : next.value;
  }
  return writer.counts;
}

const cut = (work: Work, claim: Claim): GodwitError => {
  const table = tableText(work.name);
  const message = `${table}, chunk ${claim.chunk.id}: the source's stream ended without saying how many rows it had; nothing was kept.`;
  return new GodwitError('BOOKS_UNBALANCED', message, { table, chunk: claim.chunk.id, target: work.target });
};

/** Where it happened. A staging that is not there any more means that somebody discarded this work. */
function placed(error: unknown, work: Work, claim: Claim): unknown {
  if (!(error instanceof GodwitError)) return error;
  if (error.code === 'TABLE_MISSING')
    return swapsIn(work) ? fenced(work, claim) : work.increment ? stateChanged(work) : error;
  if (error.where.table === tableText(work.name) && error.where.chunk !== undefined) return error;
  const renamed = work.columns.find((column) => column.from === error.where.column && column.from !== undefined);
  return new GodwitError(error.code, error.message.replace(tableText(receiverOf(work)), tableText(work.name)), {
    ...error.where,
    ...(renamed ? { column: renamed.name } : {}),
    table: tableText(work.name),
    chunk: claim.chunk.id,
    target: work.target,
    cause: error.cause,
  });
}
