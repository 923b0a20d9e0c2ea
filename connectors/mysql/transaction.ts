/** The read transaction of one chunk, and the proof that the table is still the one described. */
import { GodwitError } from '../../errors.ts';
import { type SnapshotRef, type Table, tableText } from '../contract.ts';
import * as catalog from './catalog.ts';
import { numberOf } from './errors.ts';
import { mysqlExtras } from './extras.ts';
import type { Session } from './session.ts';
import { columnList, tableIdent } from './sql.ts';

/**
 * REPEATABLE READ, READ ONLY: the moment is that of the first row read, which is after the table was found unchanged. A
 * snapshot of another session cannot be joined in MySQL, so there is none to be given.
 */
export async function beginRead(session: Session, snapshot: SnapshotRef): Promise<void> {
  if (snapshot.consistency === 'snapshot') {
    throw new GodwitError('SNAPSHOT_LOST', 'MySQL cannot read from a snapshot of another session.');
  }
  await session.run('START TRANSACTION READ ONLY');
}

/**
 * Throws SOURCE_CHANGED unless columns and storage are those described. The query without rows takes the table's metadata
 * lock, so what holds here holds to the end of the transaction: TRUNCATE and ALTER wait.
 */
export async function assertUnchanged(session: Session, table: Table, columns: readonly string[]): Promise<void> {
  const extras = mysqlExtras(table);
  if (!extras) throw new GodwitError('INTERNAL', 'A table without MySQL extras was given to a MySQL source.');
  const name = tableText(table.name);
  const changed = (what: string) =>
    new GodwitError('SOURCE_CHANGED', `${name} changed since it was planned: ${what}.`, { table: name });
  const list = columns.length === 0 ? '1' : columnList(columns);
  await session.query(`SELECT ${list} FROM ${tableIdent(table.name)} LIMIT 0`).catch((error: unknown) => {
    const number = numberOf(error);
    if (number === 1146 || number === 1049) throw changed('it does not exist any more');
    if (number === 1054) throw changed('a column was dropped or renamed');
    throw error;
  });
  const now = await catalog.shapeOf(session, table.name.schema, table.name.name);
  const byName = new Map(now.filter((row) => row.table === table.name.name).map((row) => [row.name, row]));
  for (const column of columns) {
    const then = extras.columns[column];
    const found = byName.get(column);
    if (!then || !found) throw changed(`column ${column} is new`);
    if (found.spelled !== then.spelled || (found.collation ?? undefined) !== then.collation) {
      throw changed(`column ${column} is another one now`);
    }
  }
  if (extras.storage === '') return;
  if (extras.storage !== (await storageNow(session, table))) {
    throw changed('its storage was replaced (TRUNCATE, rewrite, restore)');
  }
}

async function storageNow(session: Session, { name }: Table): Promise<string> {
  const ids = await catalog.storageOf(session, name.schema, [name.name]);
  const found = ids.get(name.name);
  if (found !== undefined) return found;
  const rows = await catalog.tablesNamed(session, name.schema, [name.name]);
  return rows.find((row) => row.name === name.name)?.created ?? '';
}
