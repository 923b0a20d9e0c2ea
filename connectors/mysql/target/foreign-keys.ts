/**
 * Foreign keys are made behind the swap, when all tables have their names: those of the source, and those of tables from
 * outside, which followed the old table where it was put aside. They are made unchecked, which keeps nobody from writing;
 * then the rows are looked at, and what breaks a key is reported. What is still to be made stands in the ledger.
 */
import { GodwitError } from '../../../errors.ts';
import { type TableName, tableText, type Work } from '../../contract.ts';
import { numberOf } from '../errors.ts';
import { mysqlExtras } from '../extras.ts';
import type { Session } from '../session.ts';
import { columnList, ident, tableIdent } from '../sql.ts';
import { addNotes, type PendingKey, setPending, workRow } from './ledger.ts';
import { type Books, book, idOf, oldOf } from './names.ts';
import { thereIs } from './ownership.ts';

const same = (a: TableName, b: TableName): boolean => a.schema === b.schema && a.name === b.name;

/** To InnoDB the two that say no are one, and what it does without a word. */
const actions = (onDelete: string, onUpdate: string): string =>
  [
    ['DELETE', onDelete],
    ['UPDATE', onUpdate],
  ]
    .filter(([, rule]) => rule !== 'NO ACTION' && rule !== 'RESTRICT')
    .map(([when, rule]) => ` ON ${when} ${rule}`)
    .join('');

/** Before the swap: what is to be made behind it, into the ledger. `kept`: works whose old table stays, with the keys it has. */
export async function planKeys(
  session: Session,
  books: Books,
  works: readonly Work[],
  kept: ReadonlySet<Work>,
): Promise<void> {
  for (const work of works) {
    // Rows of an incremental mode arrive in any order.
    const carried = work.mode === 'replace' && !kept.has(work);
    const keys = carried ? (mysqlExtras(work.source)?.foreignKeys ?? []) : [];
    const pending: PendingKey[] = [];
    const notes: string[] = [];
    for (const key of keys) {
      const what = `${tableText(work.name)}: foreign key ${key.name}`;
      const columns = namesHere(work, key.columns);
      if (!columns) {
        notes.push(`${what} is left out, a column of it does not move`);
        continue;
      }
      const base = { schema: work.name.schema, table: work.name.name, constraint: key.name, columns };
      const rest = actions(key.onDelete, key.onUpdate);
      const other = works.find((one) => same(one.source.name, key.references));
      const live = other?.name ?? (await publishedOf(session, books, work, key.references));
      if (!live) {
        notes.push(missingNote(what, key));
        const { references, referencedColumns } = key;
        pending.push({ ...base, references, referencedColumns, rest, missing: key.references });
        continue;
      }
      const referenced = other ? namesHere(other, key.referencedColumns) : key.referencedColumns;
      if (referenced) pending.push({ ...base, references: live, referencedColumns: referenced, rest });
      else notes.push(`${what} is left out, a column it refers to does not move`);
    }
    await setPending(session, books, idOf(work), pending);
    await addNotes(session, books, work, notes);
  }
}

function namesHere(work: Work, from: readonly string[]): string[] | undefined {
  const names = from.map((one) => work.columns.find((column) => column.from === one)?.name ?? generatedHere(work, one));
  return names.every((name) => name !== undefined) ? names : undefined;
}

const generatedHere = (work: Work, name: string): string | undefined =>
  mysqlExtras(work.source)?.columns[name]?.generated ? name : undefined;

const missingNote = (what: string, key: { references: TableName }): string =>
  `${what} to ${tableText(key.references)} is missing: that table was not published with it`;

/** A member of the same run that was published before. */
async function publishedOf(
  session: Session,
  books: Books,
  work: Work,
  source: TableName,
): Promise<TableName | undefined> {
  const [row] = await session.query<{ schema: string; name: string }>(
    `SELECT schema_name AS \`schema\`, table_name AS name FROM ${book(books, 'work')}
     WHERE installation = ? AND job_uid = ? AND target = ? AND run = ? AND source_schema = ? AND source_table = ?
       AND published_at IS NOT NULL AND mode = 'replace'`,
    [work.installation, work.jobUid, work.target, work.run, source.schema, source.name],
  );
  return row;
}

/** Behind the swap, again and again the same until nothing is left to do. Gives the notes that are not true any more. */
export async function settleKeys(session: Session, books: Books, work: Work): Promise<string[]> {
  await turnIncoming(session, books, work);
  const outdated = await foundAfterAll(session, books, work);
  const pending = (await workRow(session, books, work))?.pending ?? [];
  for (const key of pending.filter((one) => !one.missing)) {
    const note = await makeKey(session, key);
    if (note) await addNotes(session, books, work, [note]);
    const left = ((await workRow(session, books, work))?.pending ?? []).filter((one) => !sameKey(one, key));
    await setPending(session, books, idOf(work), left);
  }
  return outdated;
}

const sameKey = (a: PendingKey, b: PendingKey): boolean =>
  a.schema === b.schema && a.table === b.table && a.constraint === b.constraint;

/** Keys of tables from outside that point to the table put aside: taken off, and remembered before that. */
async function turnIncoming(session: Session, books: Books, work: Work): Promise<void> {
  const old = oldOf(books, idOf(work));
  if (!(await thereIs(session, old))) return;
  const keys = (await keysTo(session, old)).filter(
    (key) => key.schema !== books.database || !key.table.startsWith(`${books.prefix}o_`),
  );
  if (keys.length === 0) return;
  const before = (await workRow(session, books, work))?.pending ?? [];
  const turned = keys.map((key) => ({ ...key, references: work.name }));
  await setPending(session, books, idOf(work), [
    ...before.filter((one) => !turned.some((key) => sameKey(key, one))),
    ...turned,
  ]);
  for (const key of keys) {
    await session.run(
      `ALTER TABLE ${tableIdent({ schema: key.schema, name: key.table })} DROP FOREIGN KEY ${ident(key.constraint)}`,
    );
  }
}

export async function keysTo(session: Session, { schema, name }: TableName): Promise<PendingKey[]> {
  const rows = await session.query<{
    schema: string;
    table: string;
    constraint: string;
    column: string;
    referenced: string;
    onDelete: string;
    onUpdate: string;
  }>(
    `SELECT k.TABLE_SCHEMA AS \`schema\`, k.TABLE_NAME AS \`table\`, k.CONSTRAINT_NAME AS \`constraint\`, k.COLUMN_NAME AS \`column\`,
       k.REFERENCED_COLUMN_NAME AS referenced, r.DELETE_RULE AS onDelete, r.UPDATE_RULE AS onUpdate
     FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.REFERENTIAL_CONSTRAINTS r
       ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME AND r.TABLE_NAME = k.TABLE_NAME
     WHERE k.REFERENCED_TABLE_SCHEMA = ? AND k.REFERENCED_TABLE_NAME = ? ORDER BY 1, 2, 3, k.ORDINAL_POSITION`,
    [schema, name],
  );
  const keys = new Map<string, PendingKey>();
  for (const row of rows) {
    const id = JSON.stringify([row.schema, row.table, row.constraint]);
    const known = keys.get(id);
    keys.set(id, {
      schema: row.schema,
      table: row.table,
      constraint: row.constraint,
      columns: [...(known?.columns ?? []), row.column],
      references: { schema, name },
      referencedColumns: [...(known?.referencedColumns ?? []), row.referenced],
      rest: actions(row.onDelete, row.onUpdate),
    });
  }
  return [...keys.values()];
}

/** Members of the same run that were published before this one, and without their keys to it. */
async function foundAfterAll(session: Session, books: Books, work: Work): Promise<string[]> {
  const rows = await session.query<{ id: string; pending: string; notes: string }>(
    `SELECT id, pending, notes FROM ${book(books, 'work')} WHERE installation = ? AND job_uid = ? AND target = ? AND run = ?
       AND published_at IS NOT NULL AND pending LIKE '%"missing"%'`,
    [work.installation, work.jobUid, work.target, work.run],
  );
  const outdated: string[] = [];
  for (const row of rows) {
    const pending = JSON.parse(row.pending) as PendingKey[];
    const notes = JSON.parse(row.notes) as string[];
    for (const key of pending) {
      if (!key.missing || !same(key.missing, work.source.name)) continue;
      const from = tableText({ schema: key.schema, name: key.table });
      const referenced = namesHere(work, key.referencedColumns);
      const { missing, ...made } = key;
      const failed = referenced
        ? await makeKey(session, { ...made, references: work.name, referencedColumns: referenced })
        : 'a column of it does not move';
      const said = `${tableText(work.name)}: foreign key ${key.constraint} of ${from}, left out until now,`;
      await addNotes(session, books, work, [failed ? `${said} ${failed}` : `${said} is made`]);
      const old = missingNote(`${from}: foreign key ${key.constraint}`, { references: missing });
      outdated.push(old);
      await setPending(
        session,
        books,
        row.id,
        pending.filter((one) => one !== key),
      );
      await session.query(`UPDATE ${book(books, 'work')} SET notes = ? WHERE id = ?`, [
        JSON.stringify(notes.filter((note) => note !== old)),
        row.id,
      ]);
    }
  }
  return outdated;
}

/** Makes it unless it is there, then looks at the rows. Gives a note when not all is well. */
async function makeKey(session: Session, key: PendingKey): Promise<string | undefined> {
  const child = { schema: key.schema, name: key.table };
  const what = `${tableText(child)}: foreign key ${key.constraint}`;
  if (!(await thereIs(session, child))) return undefined;
  try {
    const [there] = await session.query(
      `SELECT 1 AS there FROM information_schema.TABLE_CONSTRAINTS WHERE CONSTRAINT_TYPE = 'FOREIGN KEY'
         AND TABLE_SCHEMA = ? AND TABLE_NAME = ? AND CONSTRAINT_NAME = ?`,
      [key.schema, key.table, key.constraint],
    );
    if (!there) {
      await session.run('SET SESSION foreign_key_checks = 0');
      await session.run(
        `ALTER TABLE ${tableIdent(child)} ADD CONSTRAINT ${ident(key.constraint)} FOREIGN KEY (${columnList(key.columns)})
         REFERENCES ${tableIdent(key.references)} (${columnList(key.referencedColumns)})${key.rest}`,
      );
    }
    if (await orphans(session, key)) return `${what} does not hold for all rows: it is kept for new ones only`;
    return undefined;
  } catch (error) {
    if (!(error instanceof GodwitError) || error.retryable || error.code === 'PRIVILEGE_MISSING') throw error;
    return `${what} cannot be made on the target [${numberOf(error) ?? ''}]`;
  } finally {
    await session.run('SET SESSION foreign_key_checks = 1').catch(() => {});
  }
}

export async function orphans(session: Session, key: PendingKey): Promise<boolean> {
  const join = key.columns.map((column, i) => `c.${ident(column)} = p.${ident(key.referencedColumns[i] ?? '')}`);
  const given = key.columns.map((column) => `c.${ident(column)} IS NOT NULL`);
  const [found] = await session.query(
    `SELECT 1 AS there FROM ${tableIdent({ schema: key.schema, name: key.table })} c
     LEFT JOIN ${tableIdent(key.references)} p ON ${join.join(' AND ')}
     WHERE ${given.join(' AND ')} AND p.${ident(key.referencedColumns[0] ?? '')} IS NULL LIMIT 1`,
  );
  return found !== undefined;
}
