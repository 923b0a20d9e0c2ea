/**
 * What is remembered of the tables of incremental modes between runs. A load is made visible by RENAME, which commits by itself;
 * so its state is written before it, as pending, with the id of the work whose staging it belongs to. It holds from the moment
 * that the RENAME has come through, by the same signs that say so (swap.ts), whether or not anybody could write that down.
 * An increment's state is written in one transaction with the mark that it is published.
 */
import { GodwitError } from '../../../errors.ts';
import { type TableName, type TableState, tableText, type Work } from '../../contract.ts';
import { storageOf, tablesNamed } from '../catalog.ts';
import type { Session } from '../session.ts';
import { type Books, book, stagingOf, stateIdOf } from './names.ts';
import { ownership, thereIs } from './ownership.ts';

/** MySQL gives a table no number that lasts: that of its tablespace, where the login may see it, else when it was made. */
type Identity = { readonly space?: string; readonly made: string };

async function identityOf(session: Session, { schema, name }: TableName): Promise<Identity> {
  const space = (await storageOf(session, schema, [name])).get(name);
  const [row] = await tablesNamed(session, schema, [name]);
  return { ...(space === undefined ? {} : { space }), made: String(row?.created ?? '') };
}

const same = (a: Identity, b: Identity): boolean =>
  a.space !== undefined && b.space !== undefined ? a.space === b.space : a.made === b.made;

type Row = {
  readonly state: string | null;
  readonly identity: string | null;
  readonly pending: string | null;
  readonly work: string | null;
};

async function rowOf(session: Session, books: Books, work: Work): Promise<Row | undefined> {
  try {
    const [row] = await session.query<Row>(
      `SELECT state, identity, pending, pending_work AS work FROM ${book(books, 'state')} WHERE id = ?`,
      [stateIdOf(work)],
    );
    return row;
  } catch (error) {
    // A ledger of before there were increments, which a plan does not change.
    if (error instanceof GodwitError && error.code === 'TABLE_MISSING') return undefined;
    throw error;
  }
}

/** Undefined when there was no load, or the table is not there, not ours, or another one by now. Writes nothing. */
export async function stateOf(session: Session, books: Books, work: Work): Promise<TableState | undefined> {
  const known = await knownOf(session, books, work);
  if (!known?.state || !(await stands(session, work, books, known))) return undefined;
  return JSON.parse(known.state) as TableState;
}

/** What holds now; `identity` is null while only the columns tell which table it is. */
type Known = { readonly state: string | null; readonly identity: string | null };

async function knownOf(session: Session, books: Books, work: Work): Promise<Known | undefined> {
  const row = await rowOf(session, books, work);
  const came = row?.pending && row.work !== null && (await cameThrough(session, books, row.work));
  return row && (came ? { state: row.pending, identity: null } : row);
}

/** Is the table of that name the one that was left? */
async function stands(session: Session, work: Work, books: Books, known: Known | undefined): Promise<boolean> {
  const { exists, mine } = await ownership(session, work, books);
  if (!exists || !mine) return false;
  return !known?.identity || same(JSON.parse(known.identity), await identityOf(session, work.name));
}

/**
 * Throws STATE_CHANGED when it is not: nothing new may go into another table, and nothing may be remembered of it. In a transaction that
 * has touched the table the answer holds to its end.
 */
export async function assertStands(session: Session, books: Books, work: Work): Promise<void> {
  if (await stands(session, work, books, await knownOf(session, books, work))) return;
  const table = tableText(work.name);
  const message = `${table} is not the table any more that the last run left on the target.`;
  throw new GodwitError('STATE_CHANGED', message, { table, target: work.target });
}

/** A swap whose work could not say so any more. */
async function cameThrough(session: Session, books: Books, id: string): Promise<boolean> {
  const [row] = await session.query(
    `SELECT 1 AS there FROM ${book(books, 'work')} WHERE id = ? AND swapping_at IS NOT NULL AND published_at IS NULL`,
    [id],
  );
  return row !== undefined && !(await thereIs(session, stagingOf(books, id)));
}

/** Before the swap of that work. Within the caller's transaction. */
export async function pend(session: Session, books: Books, work: Work, id: string): Promise<void> {
  if (!work.state) return;
  await put(session, books, work);
  await session.query(`UPDATE ${book(books, 'state')} SET pending = ?, pending_work = ? WHERE id = ?`, [
    JSON.stringify(work.state),
    id,
    stateIdOf(work),
  ]);
}

/**
 * Behind the swap, in the transaction that marks it: what was pending holds; what was known of an older table of the name does
 * not, whichever job had it.
 */
export async function settle(session: Session, books: Books, work: Work, id: string): Promise<void> {
  const table = book(books, 'state');
  const identity = JSON.stringify(await identityOf(session, work.name));
  await session.query(
    `DELETE FROM ${table} WHERE schema_name = ? AND table_name = ? AND NOT (id = ? AND pending_work <=> ?)`,
    [work.name.schema, work.name.name, stateIdOf(work), id],
  );
  await session.query(
    `UPDATE ${table} SET state = pending, identity = ?, pending = NULL, pending_work = NULL, changed_at = UTC_TIMESTAMP(6)
     WHERE id = ? AND pending_work = ?`,
    [identity, stateIdOf(work), id],
  );
}

/** Of the table as it is there. Within the caller's transaction. */
export async function write(session: Session, books: Books, work: Work, state: TableState): Promise<void> {
  await put(session, books, work);
  await session.query(
    `UPDATE ${book(books, 'state')} SET state = ?, pending = NULL, pending_work = NULL, changed_at = UTC_TIMESTAMP(6) WHERE id = ?`,
    [JSON.stringify(state), stateIdOf(work)],
  );
}

const put = (session: Session, books: Books, work: Work) =>
  session.query(
    `INSERT IGNORE INTO ${book(books, 'state')} (id, installation, job_uid, target, schema_name, table_name, changed_at)
     VALUES (?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(6))`,
    [stateIdOf(work), work.installation, work.jobUid, work.target, work.name.schema, work.name.name],
  );

/** Around a change of its columns, which may give the table another identity: in between it is known by its columns alone. */
export async function identify(session: Session, books: Books, work: Work, how: 'changing' | 'changed'): Promise<void> {
  const identity = how === 'changing' ? null : JSON.stringify(await identityOf(session, work.name));
  await session.query(`UPDATE ${book(books, 'state')} SET identity = ? WHERE id = ?`, [identity, stateIdOf(work)]);
}

/** Of a work that is taken away. */
export async function forgetPending(session: Session, books: Books, id: string): Promise<void> {
  const table = book(books, 'state');
  await session.query(`DELETE FROM ${table} WHERE pending_work = ? AND state IS NULL`, [id]);
  await session.query(`UPDATE ${table} SET pending = NULL, pending_work = NULL WHERE pending_work = ?`, [id]);
}
