/** One chunk's epoch and checkpoint in the ledger (decision 10). */
import { GodwitError } from '../../../errors.ts';
import { type Checkpoint, type Chunk, type Claim, type Counts, tableText, type Work } from '../../contract.ts';
import type { SessionPool } from '../pool.ts';
import type { Session } from '../session.ts';
import { notPrepared } from './ledger.ts';
import { type Books, book, idOf } from './names.ts';
import { endMarked, markOf } from './session-mark.ts';
import { inTransaction, patiently } from './transaction.ts';

const counted = {
  read: 'rows_read',
  written: 'rows_written',
  filtered: 'rows_filtered',
  quarantined: 'rows_quarantined',
  bytes: 'bytes',
} as const;
/** Of increments and sweeps. */
const countedToo = {
  unchanged: 'rows_unchanged',
  inserted: 'rows_inserted',
  updated: 'rows_updated',
  deleted: 'rows_deleted',
} as const;
const columnOf = { ...counted, ...countedToo };
const names = Object.keys(columnOf) as (keyof typeof columnOf)[];
const countColumns = Object.values(columnOf).join(', ');
type CountRow = Record<(typeof columnOf)[keyof typeof columnOf], number | string>;
const ofRows = ['unchanged', 'inserted', 'updated'] as const;
const ofSweeps = ['deleted'] as const;

const countsOf = (row: CountRow, { increment }: Work, kind: Chunk['kind']): Counts => {
  const more = kind === 'sweep' ? ofSweeps : increment ? ofRows : [];
  const counts = Object.fromEntries(
    [...(Object.keys(counted) as (keyof typeof counted)[]), ...more].map((name) => [name, Number(row[columnOf[name]])]),
  );
  return counts as unknown as Counts;
};

type Found = CountRow & { epoch: number; done: number; bounds: string; session: string | null };

const tries = 8;

/**
 * Ends an older attempt's session by the mark it left: it may hold locks, this very row too (its checkpoint written but
 * not committed), and it may still win that race; then the chunk is done. Then raises the epoch, so that the older attempt
 * can commit nothing any more, by whatever connection.
 */
export async function claimChunk(pool: SessionPool, books: Books, work: Work, chunk: Chunk): Promise<Claim> {
  return await pool.use((session) =>
    patiently(tries, async () => {
      await endHolder(session, books, work, chunk);
      return await inTransaction(session, () => claimOnce(session, books, work, chunk));
    }),
  );
}

async function claimOnce(session: Session, books: Books, work: Work, chunk: Chunk): Promise<Claim> {
  const id = idOf(work);
  const table = book(books, 'chunk');
  // Nothing is inserted for a work that was discarded; its row is held until here is committed.
  const [live] = await session.query(`SELECT 1 AS there FROM ${book(books, 'work')} WHERE id = ? LOCK IN SHARE MODE`, [
    id,
  ]);
  if (!live) throw notPrepared(work);
  const bounds = JSON.stringify(chunk.bounds ?? null);
  await session.query(
    `INSERT INTO ${table} (work, chunk, epoch, kind, bounds, estimated_rows) VALUES (?, ?, 0, ?, ?, ?)
     ON DUPLICATE KEY UPDATE chunk = VALUES(chunk)`,
    [id, chunk.id, chunk.kind, bounds, chunk.rows],
  );
  const [row] = await session.query<Found>(
    `SELECT epoch, done, bounds, session, ${countColumns} FROM ${table} WHERE work = ? AND chunk = ? FOR UPDATE`,
    [id, chunk.id],
  );
  if (!row) throw notPrepared(work);
  if (row.bounds !== bounds) {
    // Never silently the rows of another range: the caller's chunks are not those this work was begun with.
    const where = { table: tableText(work.name), chunk: chunk.id, target: work.target };
    throw new GodwitError('INTERNAL', `Chunk ${chunk.id} of ${where.table} was begun with other bounds.`, where);
  }
  // Who made it durable goes on with other chunks by the same session.
  if (Number(row.done) === 1) return { chunk, epoch: Number(row.epoch), done: countsOf(row, work, chunk.kind) };
  // Somebody may have registered between the two looks.
  if (row.session !== null) await endMarked(session, row.session);
  const epoch = Number(row.epoch) + 1;
  await session.query(`UPDATE ${table} SET epoch = ?, session = NULL WHERE work = ? AND chunk = ?`, [
    epoch,
    id,
    chunk.id,
  ]);
  return { chunk, epoch };
}

async function endHolder(session: Session, books: Books, work: Work, chunk: Chunk): Promise<void> {
  const [row] = await session.query<{ session: string }>(
    `SELECT session FROM ${book(books, 'chunk')} WHERE work = ? AND chunk = ? AND session IS NOT NULL AND NOT done`,
    [idOf(work), chunk.id],
  );
  if (row) await endMarked(session, row.session);
}

/** Leaves the writer's mark on the chunk, for whoever claims it next. Throws FENCED when that happened already. */
export async function register(session: Session, books: Books, work: Work, claim: Claim): Promise<string> {
  const mark = await markOf(session);
  await patiently(tries, () =>
    session.query(
      `UPDATE ${book(books, 'chunk')} SET session = ? WHERE work = ? AND chunk = ? AND epoch = ? AND NOT done`,
      [mark, idOf(work), claim.chunk.id, claim.epoch],
    ),
  );
  const [row] = await session.query<{ session: string | null }>(
    `SELECT session FROM ${book(books, 'chunk')} WHERE work = ? AND chunk = ? AND epoch = ? AND NOT done`,
    [idOf(work), claim.chunk.id, claim.epoch],
  );
  if (row?.session !== mark) throw fenced(work, claim);
  return mark;
}

/** The last statement before COMMIT. Throws FENCED when the epoch has moved on: the transaction must not commit. */
export async function writeCheckpoint(
  session: Session,
  books: Books,
  work: Work,
  claim: Claim,
  counts: Counts,
): Promise<void> {
  // Numbers of our own making; `run` tells how many rows were changed.
  const set = names.map((name) => `${columnOf[name]} = ${Math.trunc(counts[name] ?? 0)}`);
  const { affected } = await session.run(
    `UPDATE ${book(books, 'chunk')} SET done = TRUE, done_at = UTC_TIMESTAMP(6), ${set.join(', ')}
     WHERE work = '${idOf(work)}' AND chunk = ${Math.trunc(claim.chunk.id)} AND epoch = ${Math.trunc(claim.epoch)} AND NOT done`,
  );
  if (affected !== 1) throw fenced(work, claim);
}

/** What is durable for this claim: its counts, or undefined when its transaction was rolled back. */
export async function durable(session: Session, books: Books, work: Work, claim: Claim): Promise<Counts | undefined> {
  const [row] = await session.query<Found>(
    `SELECT epoch, done, ${countColumns} FROM ${book(books, 'chunk')} WHERE work = ? AND chunk = ?`,
    [idOf(work), claim.chunk.id],
  );
  return row && Number(row.done) === 1 && Number(row.epoch) === claim.epoch
    ? countsOf(row, work, claim.chunk.kind)
    : undefined;
}

export const fenced = (work: Work, claim: Claim): GodwitError => {
  const table = tableText(work.name);
  const message = `${table}, chunk ${claim.chunk.id}: a newer attempt took over; this one wrote nothing.`;
  return new GodwitError('FENCED', message, { table, chunk: claim.chunk.id, target: work.target });
};

const page = 1000;

export async function* checkpointsOf(pool: SessionPool, books: Books, work: Work): AsyncGenerator<Checkpoint> {
  for (let after = 0; ; ) {
    const rows = await pool.use((session) =>
      session.query<Found & { chunk: number; kind: Chunk['kind']; rows: number }>(
        `SELECT chunk, kind, bounds, estimated_rows AS \`rows\`, epoch, done, ${countColumns}
         FROM ${book(books, 'chunk')} WHERE work = ? AND chunk > ? ORDER BY chunk LIMIT ${page}`,
        [idOf(work), after],
      ),
    );
    for (const row of rows) {
      const chunk = { id: Number(row.chunk), kind: row.kind, bounds: JSON.parse(row.bounds), rows: Number(row.rows) };
      yield { chunk, epoch: Number(row.epoch), done: Number(row.done) === 1, counts: countsOf(row, work, row.kind) };
      after = chunk.id;
    }
    if (rows.length < page) return;
  }
}
