/** The read transaction of one chunk: its snapshot, and the proof that the table is still the one described. */
import { GodwitError } from '../../errors.ts';
import { type SnapshotRef, type Table, tableText } from '../contract.ts';
import { storageHash } from './describe.ts';
import { sqlstate } from './errors.ts';
import { postgresExtras } from './extras.ts';
import { markReader } from './pending.ts';
import type { SessionPool } from './pool.ts';
import type { Session } from './session.ts';
import { beginUnder } from './snapshot.ts';
import { columnList, tableIdent } from './sql.ts';

/** Begins REPEATABLE READ, READ ONLY, under the token or a snapshot of its own. Throws SNAPSHOT_LOST. */
export async function beginRead(session: Session, snapshot: SnapshotRef): Promise<void> {
  const begin = 'BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY';
  if (snapshot.consistency === 'chunk') {
    await session.query(`${begin}; SELECT ${markReader}`);
    return;
  }
  const lost = (native?: string) =>
    new GodwitError('SNAPSHOT_LOST', "The run's snapshot does not exist any more.", { native });
  let same: boolean;
  try {
    same = await beginUnder(session, begin, snapshot.token);
  } catch (error) {
    // 22023, 42704: no such snapshot; 55000: its transaction is over.
    if (/^(22|42|55|0A)/.test(sqlstate(error) ?? '')) {
      throw lost(sqlstate(error));
    }
    throw error;
  }
  if (!same) throw lost();
}

export type Reading = { readonly snapshot: SnapshotRef; readonly signal: AbortSignal };

/**
 * What `work` gives, out of a read transaction of its own session. That goes back to the pool at a regular end alone; the signal
 * ends it at once.
 */
export async function* reading<T>(
  pool: SessionPool,
  { snapshot, signal }: Reading,
  work: (session: Session) => AsyncIterable<T>,
): AsyncGenerator<T> {
  signal.throwIfAborted();
  const session = await pool.take();
  let clean = false;
  const stop = () => session.destroy();
  signal.addEventListener('abort', stop, { once: true });
  try {
    signal.throwIfAborted();
    await beginRead(session, snapshot);
    yield* work(session);
    await session.query('COMMIT');
    clean = true;
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener('abort', stop);
    if (clean) await pool.give(session);
    else session.destroy();
  }
}

/** For the rest of the transaction: entries of an index in their order, not the table sorted. */
export const walkIndexes = (session: Session) =>
  session.query(
    `SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_sort', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)`,
  );

/** Old-style children are tables of their own, so a plain table is read alone. */
export const from = (table: Table): string => `${table.kind === 'table' ? 'ONLY ' : ''}${tableIdent(table.name)}`;

/**
 * Throws SOURCE_CHANGED unless columns and storage are those described, both now and in the transaction's snapshot: an
 * old snapshot over a TRUNCATEd or rewritten table reads 0 rows without an error, and over a column dropped and made
 * again, NULLs. The query without rows takes the table's lock, so what holds here holds to the end of the transaction.
 */
export async function assertUnchanged(session: Session, table: Table, columns: readonly string[]): Promise<void> {
  const extras = postgresExtras(table);
  if (!extras) throw new GodwitError('INTERNAL', 'A table without PostgreSQL extras was given to a PostgreSQL source.');
  const name = tableText(table.name);
  const changed = (what: string) =>
    new GodwitError('SOURCE_CHANGED', `${name} changed since it was planned: ${what}.`, { table: name });

  const fields = await shape(session, table, columns).catch((error: unknown) => {
    const state = sqlstate(error);
    if (state === '42P01' || state === '3F000') throw changed('it does not exist any more');
    if (state === '42703') throw changed('a column was dropped or renamed');
    if (state === '42501') throw notReadable(table);
    throw error;
  });
  for (const [i, column] of columns.entries()) {
    const expected = extras.columns[column];
    const field = fields[i];
    if (!expected || !field) throw changed(`column ${column} is new`);
    const same =
      field.columnID === expected.number &&
      field.dataTypeID === expected.type &&
      field.dataTypeModifier === expected.typmod &&
      field.tableID === extras.oid;
    if (!same) throw changed(`column ${column} is another one now`);
  }
  const files = await session.query<{ oid: number; then: string; now: string | null; leaves: number | null }>(
    `SELECT oid, relfilenode::text AS "then", pg_relation_filenode(oid)::text AS now,
       ${table.kind === 'partitioned' ? '(SELECT count(*)::int4 FROM pg_partition_tree($2) WHERE isleaf)' : 'NULL'} AS leaves
     FROM pg_class WHERE oid = ANY($1::oid[]) AND ($2::oid IS NOT NULL)`,
    [extras.relations, extras.oid],
  );
  const rewritten = files.some((file) => file.then !== '0' && file.then !== file.now);
  const lost = files.length !== extras.relations.length;
  const grown = files[0]?.leaves != null && files[0].leaves !== extras.relations.length;
  if (rewritten || lost || storageHash(files.map(({ oid, now }) => ({ oid, file: now }))) !== extras.storage) {
    throw changed('its storage was replaced (TRUNCATE, rewrite, restore)');
  }
  if (grown) throw changed('partitions were added or removed');
}

/** Sessions have row_security off: a policy that would hide rows is this error too, not a smaller answer. */
const notReadable = (table: Table) =>
  new GodwitError(
    'PRIVILEGE_MISSING',
    `SELECT on ${tableText(table.name)} is missing, or row security would hide rows of it (then the login needs BYPASSRLS).`,
    { table: tableText(table.name), native: '42501' },
  );

type Field = { columnID: number; tableID: number; dataTypeID: number; dataTypeModifier: number };

async function shape(session: Session, table: Table, columns: readonly string[]): Promise<Field[]> {
  const list = columns.length === 0 ? 'NULL' : columnList(columns);
  const result = await session.describe(`SELECT ${list} FROM ${from(table)} LIMIT 0`);
  return columns.length === 0 ? [] : result;
}
