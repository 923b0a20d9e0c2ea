/**
 * The source's foreign keys. Between tables that are published together they are put on the stagings, checked there, and
 * are simply there after the swap. A key that the rows do not keep (chunks read at different moments) stays NOT VALID and
 * is reported; a key to a table that is not here is left out, reported, and made when that table comes after all.
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
import { isLoose } from './partitions.ts';

/** A key that is made in the swap itself. */
export type LateKey = {
  readonly sql: string;
  readonly key: PendingKey;
  readonly validate: boolean;
  /** For a note: "public.child: foreign key child_parent_fkey". */
  readonly what: string;
  /** It was left out when its table was published; that note is not true any more. */
  readonly outdated?: string;
};
export type KeysDone = {
  readonly notes: readonly string[];
  readonly late: readonly LateKey[];
  /** Left out, to be remembered. */
  readonly missing: readonly PendingKey[];
};

const sameName = (a: TableName, b: TableName): boolean => a.schema === b.schema && a.name === b.name;

/**
 * Before the swap, on the stagings. `kept`: works whose old table stays (delete-insert), with the keys it has.
 * What must wait for the swap (keys to and from tables that are published, or stay) is returned.
 */
export async function addForeignKeys(
  session: Session,
  works: readonly Work[],
  kept: ReadonlySet<Work>,
): Promise<KeysDone> {
  const notes: string[] = [];
  const late: LateKey[] = [];
  const missing: PendingKey[] = [];
  for (const work of works) {
    // Rows deleted at the source stay, rows arrive in any order: such a table has no keys to others, nor others to it.
    if (isLoose(work)) continue;
    late.push(...(await leftOutBefore(session, work)));
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
        else {
          notes.push(missingNote(what, key));
          missing.push({ ...pendingKey(work.name, key), missing: { ...key, columns: finalNames(work, key.columns) } });
        }
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
  return { notes, late, missing };
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

const missingNote = (what: string, key: PostgresForeignKey): string =>
  `${what} to ${tableText(key.references)} is missing: that table was not published with it`;

const pendingKey = ({ schema, name }: TableName, key: PostgresForeignKey): PendingKey => ({
  schema,
  table: name,
  constraint: key.name,
});

/** In the swap the columns have their final names. */
function finalNames(work: Work, columns: readonly string[]): string[] {
  const finals = new Map(layout(work).map((column) => [column.name, column.final]));
  return columns.map((column) => finals.get(column) ?? column);
}

function lateKey(work: Work, key: PostgresForeignKey, live: TableName, what: string): LateKey {
  return {
    sql: addSql(tableIdent(work.name), key, tableIdent(live), finalNames(work, key.columns)),
    key: pendingKey(work.name, key),
    validate: key.validated,
    what,
  };
}

/** Keys of members of the same run that were published before this one, and without it. */
async function leftOutBefore(session: Session, work: Work): Promise<LateKey[]> {
  const rows = await session.query<{ key: string }>(
    `SELECT k::text AS key FROM _godwit.work, jsonb_array_elements(pending) k
     WHERE (installation, job_uid, target, run) = ($1, $2, $3, $4) AND published_at IS NOT NULL
       AND k->'missing'->'references'->>'schema' = $5 AND k->'missing'->'references'->>'name' = $6`,
    [work.installation, work.jobUid, work.target, work.run, work.source.name.schema, work.source.name.name],
  );
  return rows.flatMap(({ key: text }) => {
    const { missing: key, ...pending } = JSON.parse(text) as PendingKey;
    if (!key) return [];
    const from = { schema: pending.schema, name: pending.table };
    const referenced = finalNames(work, key.referencedColumns);
    return {
      sql: addSql(tableIdent(from), key, tableIdent(work.name), key.columns, referenced),
      key: pending,
      validate: key.validated,
      what: `${tableText(work.name)}: foreign key ${key.name} of ${tableText(from)}, left out until now,`,
      outdated: missingNote(`${tableText(from)}: foreign key ${key.name}`, key),
    };
  });
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
