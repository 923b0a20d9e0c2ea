/**
 * The source's foreign keys. Between tables that are published together they are put on the stagings, checked there, and
 * are simply there after the swap. A key that the rows do not keep (chunks read at different moments) stays NOT VALID and
 * is reported; a key to a table that is not here is left out and reported.
 */
import { GodwitError } from '../../../errors.ts';
import { type TableName, tableText, type Work } from '../../contract.ts';
import { sqlstate } from '../errors.ts';
import { type PostgresForeignKey, postgresExtras } from '../extras.ts';
import type { Session } from '../session.ts';
import { columnList, ident, literal, tableIdent } from '../sql.ts';
import { layout } from './layout.ts';
import type { PendingKey } from './ledger.ts';
import { stagingOf } from './names.ts';

export type LateKey = { readonly sql: string; readonly key: PendingKey; readonly note: string };
export type KeysDone = { readonly notes: readonly string[]; readonly late: readonly LateKey[] };

const sameName = (a: TableName, b: TableName): boolean => a.schema === b.schema && a.name === b.name;

/**
 * Before the swap, on the stagings. `kept`: works whose old table stays (delete-insert), with the keys it has.
 * What must wait for the swap (keys to tables that are published, or stay) is returned.
 */
export async function addForeignKeys(
  session: Session,
  works: readonly Work[],
  kept: ReadonlySet<Work>,
): Promise<KeysDone> {
  const notes: string[] = [];
  const late: LateKey[] = [];
  for (const work of works) {
    if (kept.has(work)) continue;
    const keys = postgresExtras(work.source)?.foreignKeys ?? [];
    if (keys.length === 0) continue;
    const table = tableIdent(stagingOf(work));
    const present = await session.query<{ name: string }>(
      `SELECT conname AS name FROM pg_constraint WHERE conrelid = $1::regclass AND contype = 'f'`,
      [table],
    );
    for (const key of keys) {
      const what = `${tableText(work.name)}: foreign key ${key.name}`;
      const moved = new Set(layout(work).map((column) => column.name));
      if (!key.columns.every((column) => moved.has(column))) {
        notes.push(`${what} is left out, a column of it does not move`);
        continue;
      }
      const other = works.find((one) => sameName(one.source.name, key.references));
      if (!other || kept.has(other)) {
        const live = other ? other.name : await publishedOf(session, work, key.references);
        if (live) late.push(lateKey(work, key, live, what));
        else notes.push(`${what} to ${tableText(key.references)} is missing: that table was not published with it`);
        continue;
      }
      if (!present.some((one) => one.name === key.name)) {
        const failure = await tried(session, addSql(table, key, tableIdent(stagingOf(other))));
        if (failure) {
          notes.push(`${what} cannot be made on the target [${failure}]`);
          continue;
        }
      }
      if (!key.validated) continue;
      const failure = await tried(session, `ALTER TABLE ${table} VALIDATE CONSTRAINT ${ident(key.name)}`);
      if (failure) notes.push(`${what} is NOT VALID: some rows break it [${failure}]`);
    }
  }
  return { notes, late };
}

function addSql(
  table: string,
  key: PostgresForeignKey,
  other: string,
  columns = key.columns,
  referenced = key.referencedColumns,
) {
  const rest = key.rest.replace(/ NOT VALID$/, '');
  const comment =
    key.comment === undefined
      ? ''
      : `; COMMENT ON CONSTRAINT ${ident(key.name)} ON ${table} IS ${literal(key.comment)}`;
  return `ALTER TABLE ${table} ADD CONSTRAINT ${ident(key.name)} FOREIGN KEY (${columnList(columns)}) REFERENCES ${other} (${columnList(referenced)})${rest} NOT VALID${comment}`;
}

/** In the swap the columns have their final names. */
function lateKey(work: Work, key: PostgresForeignKey, live: TableName, note: string): LateKey {
  const finals = new Map(layout(work).map((column) => [column.name, column.final]));
  const columns = key.columns.map((column) => finals.get(column) ?? column);
  return {
    sql: addSql(tableIdent(work.name), key, tableIdent(live), columns),
    key: { schema: work.name.schema, table: work.name.name, constraint: key.name },
    note,
  };
}

/** A member of the same run that was published before. */
async function publishedOf(session: Session, work: Work, source: TableName): Promise<TableName | undefined> {
  const [row] = await session.query<{ schema: string; name: string }>(
    `SELECT schema_name AS schema, table_name AS name FROM _godwit.work
     WHERE (installation, job_uid, target, run, source_schema, source_table) = ($1, $2, $3, $4, $5, $6)
       AND published_at IS NOT NULL AND mode = 'replace'`,
    [work.installation, work.jobUid, work.target, work.run, source.schema, source.name],
  );
  return row;
}

/** The SQLSTATE of what the server refuses for the data or for what it lacks; anything else is thrown. */
export async function tried(session: Session, sql: string): Promise<string | undefined> {
  try {
    await session.query(sql);
    return undefined;
  } catch (error) {
    const state = sqlstate(error);
    if (!(error instanceof GodwitError) || state === undefined || !/^(23|42(?!501)|0A|3F)/.test(state)) throw error;
    return state;
  }
}
