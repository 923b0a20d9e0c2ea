/**
 * An increment into the table that is there: its rows come into a temporary table of the same types first, so that LOAD DATA
 * meets what it would meet in the table; then those that differ are updated and those that are not there inserted. In one statement, by
 * ON DUPLICATE KEY UPDATE, where that can mean nothing else (`oneStatement`, `miscounted`), else in two, which can take twice as long. Never by
 * REPLACE, which forgets the columns it is not told.
 */
import { GodwitError } from '../../../errors.ts';
import { tableText, type Work } from '../../contract.ts';
import { numberOf } from '../errors.ts';
import type { Session } from '../session.ts';
import { columnList, ident, tableIdent } from '../sql.ts';
import { isGeometry } from '../types.ts';
import { dialectOf } from './dialect.ts';
import { type ColumnThere, columnsOf } from './drift.ts';
import { type Into, objection } from './load-data.ts';
import { type Books, besideOf, idOf } from './names.ts';

/** The unique index of the table over exactly the key; a part of it may be but the beginning of a text. */
export type KeyIndex = {
  readonly name: string;
  readonly parts: readonly { readonly column: string; readonly prefix?: number }[];
};

export const keyIndexOf = async (session: Session, work: Work): Promise<KeyIndex | undefined> =>
  (await uniqueOf(session, work)).index;

async function uniqueOf(session: Session, work: Work): Promise<{ index: KeyIndex | undefined; others: number }> {
  const { schema, name } = work.name;
  const rows = await session.query<{ name: string; column: string | null; prefix: number | string | null }>(
    `SELECT INDEX_NAME AS name, COLUMN_NAME AS \`column\`, SUB_PART AS prefix FROM information_schema.STATISTICS
     WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX`,
    [schema, name],
  );
  const key = new Set(work.key.map((column) => column.toLowerCase()));
  const unique = [...Map.groupBy(rows, (row) => row.name)];
  const found = unique.filter(
    ([, parts]) =>
      parts.length === key.size && parts.every(({ column }) => column !== null && key.has(column.toLowerCase())),
  );
  const [first] = found.sort(([a], [b]) => Number(b === 'PRIMARY') - Number(a === 'PRIMARY'));
  const index = first && {
    name: first[0],
    parts: first[1].map(({ column, prefix }) => ({
      column: column as string,
      ...(prefix === null ? {} : { prefix: Number(prefix) }),
    })),
  };
  return { index, others: unique.length - found.length + Math.max(0, found.length - 1) };
}

/** An increment finds the rows that are there by their key. */
export async function withoutKey(session: Session, work: Work): Promise<GodwitError | undefined> {
  if (await keyIndexOf(session, work)) return undefined;
  const table = tableText(work.name);
  const message = `${table} has no unique key of ${work.key.join(', ')} on the target, by which new and changed rows are told apart.`;
  return new GodwitError('TARGET_DIFFERS', message, { table, target: work.target });
}

export type Beside = {
  readonly into: Into;
  readonly index: KeyIndex;
  /** Of the work, as they are on the target. */
  readonly columns: readonly ColumnThere[];
  /** Texts of the key that the table's own collation would take one for another: they are held in one that does not. */
  readonly exactly: ReadonlyMap<string, ColumnThere>;
  /** ON DUPLICATE KEY UPDATE means the rows of the key, and nothing else happens to them. */
  readonly oneStatement: boolean;
};

/** Commits nothing, but a transaction that forbids it may not be open. */
export async function makeBeside(
  session: Session,
  books: Books,
  work: Work,
  only?: readonly string[],
): Promise<Beside> {
  const { index, others } = await uniqueOf(session, work);
  if (!index) throw await withoutKey(session, work);
  const all = new Map((await columnsOf(session, work.name)).map((column) => [column.name.toLowerCase(), column]));
  const wanted = only ? work.columns.filter(({ name }) => only.includes(name)) : work.columns;
  const columns = wanted.map(({ name }) => {
    const found = all.get(name.toLowerCase());
    if (!found)
      throw new GodwitError('COLUMN_MISSING', `${tableText(work.name)} has no column ${name}.`, { column: name });
    return found;
  });
  const exactly = new Map(
    work.source.system === 'mysql'
      ? []
      : columns
          .filter(
            ({ name, collation }) =>
              work.key.includes(name) && collation !== null && !/_(nopad|0900)_bin$|^ascii_bin$/.test(collation),
          )
          .map((column) => [column.name, column]),
  );
  const { exact } = await dialectOf(session, work);
  const list = columns.map(({ name }) =>
    exactly.has(name) ? `CONVERT(${ident(name)} USING utf8mb4) COLLATE ${exact} AS ${ident(name)}` : ident(name),
  );
  const parts = index.parts.map(({ column, prefix }) => `${ident(column)}${prefix === undefined ? '' : `(${prefix})`}`);
  const table = besideOf(books, idOf(work));
  await session.run(`DROP TEMPORARY TABLE IF EXISTS ${tableIdent(table)}`);
  await session.run(
    `CREATE TEMPORARY TABLE ${tableIdent(table)} (PRIMARY KEY (${parts.join(', ')})) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
     SELECT ${list.join(', ')} FROM ${tableIdent(work.name)} LIMIT 0`,
  );
  made.add(session);
  // An index beside the key would redirect a row to another one; to a column that the rows do not have, and to a trigger,
  // the row would be a new one first.
  const whole = all.size - [...all.values()].filter(({ generated }) => generated).length <= columns.length;
  const alone = others === 0 && index.name === 'PRIMARY' && exactly.size === 0 && whole;
  const oneStatement = alone && !only && !(await hasTriggers(session, work));
  return { into: { table, columns: wanted, replacing: true }, index, columns, exactly, oneStatement };
}

async function hasTriggers(session: Session, { name: { schema, name } }: Work): Promise<boolean> {
  const rows = await session.query(
    `SELECT 1 AS there FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ? LIMIT 1`,
    [schema, name],
  );
  return rows.length > 0;
}

const made = new WeakSet<Session>();

export async function dropBeside(session: Session, books: Books, work: Work): Promise<void> {
  if (!made.delete(session)) return;
  await session.run(`DROP TEMPORARY TABLE IF EXISTS ${tableIdent(besideOf(books, idOf(work)))}`);
}

export type Merged = { readonly inserted: number; readonly updated: number };

const tries = 3;

/**
 * Within the chunk's transaction. A key that another chunk has written in this moment (its row moved from one to the other) is
 * looked for again.
 */
export async function merge(session: Session, work: Work, beside: Beside): Promise<Merged> {
  for (let n = 1; ; n++) {
    await session.run('SAVEPOINT merging');
    try {
      const merged = await mergeOnce(session, work, beside);
      await session.run('RELEASE SAVEPOINT merging');
      return merged;
    } catch (error) {
      if (numberOf(error) !== duplicate || n === tries) throw error;
      await session.run('ROLLBACK TO SAVEPOINT merging');
    }
  }
}

const duplicate = 1062;

async function mergeOnce(session: Session, work: Work, beside: Beside): Promise<Merged> {
  const { into, columns } = beside;
  const on = joined(beside);
  const [from, to] = [tableIdent(into.table), tableIdent(work.name)];
  await refuseNearly(session, work, beside);
  let updated = 0;
  if (work.increment?.existing === 'update') {
    const changing = columns.filter((column) => !work.key.includes(column.name) || respelled(work, column));
    if (changing.length > 0 && beside.oneStatement && !(await miscounted(session, beside))) {
      return await upsert(session, work, beside, changing);
    }
    if (changing.length > 0) {
      const set = changing.map(({ name }) => `t.${ident(name)} = s.${ident(name)}`);
      updated = await run(
        session,
        `UPDATE ${from} s STRAIGHT_JOIN ${to} t ON ${on} SET ${set.join(', ')} WHERE NOT (${changing.map((column) => equal(column)).join(' AND ')})`,
      );
    }
  }
  const list = columnList(into.columns.map(({ name }) => name));
  const given = into.columns.map(({ name }) => `s.${ident(name)}`);
  const inserted = await run(
    session,
    `INSERT INTO ${to} (${list}) SELECT ${given.join(', ')} FROM ${from} s LEFT JOIN ${to} t ON ${on}
     WHERE t.${ident(beside.index.parts[0]?.column ?? '')} IS NULL`,
  );
  return { inserted, updated };
}

/**
 * Of a column with a default the server takes NULL for another value than NULL, until InnoDB tells it better; such a row is written
 * no more than others that are equal, but it is counted as if it were new.
 */
async function miscounted(session: Session, { into, columns }: Beside): Promise<boolean> {
  const none = session.flavor === 'mariadb' ? 'NULL' : null;
  const doubtful = columns.filter((column) => column.nullable && column.default !== null && column.default !== none);
  if (doubtful.length === 0) return false;
  const nulls = doubtful.map(({ name }) => `${ident(name)} IS NULL`);
  return (
    (await session.query(`SELECT 1 AS there FROM ${tableIdent(into.table)} WHERE ${nulls.join(' OR ')} LIMIT 1`))
      .length > 0
  );
}

/**
 * InnoDB itself compares each row with the one that is there, by its bytes, and writes nothing when they are equal. Of a row that is
 * updated the server counts two, of one that is there as it is none; `Duplicates` are the updated ones.
 */
async function upsert(
  session: Session,
  work: Work,
  { into }: Beside,
  changing: readonly ColumnThere[],
): Promise<Merged> {
  const to = tableIdent(work.name);
  const given = into.columns.map(({ name }) => `s.${ident(name)}`);
  const set = changing.map(({ name }) => `${to}.${ident(name)} = s.${ident(name)}`);
  const outcome = await session.run(
    `INSERT INTO ${to} (${columnList(into.columns.map(({ name }) => name))}) SELECT ${given.join(', ')} FROM ${tableIdent(into.table)} s
     ON DUPLICATE KEY UPDATE ${set.join(', ')}`,
  );
  const refused = await objection(session, outcome, outcome.affected);
  if (refused) throw refused;
  const updated = Number(/Duplicates: (\d+)/.exec(outcome.info)?.[1]);
  const inserted = outcome.affected - 2 * updated;
  if (!(inserted >= 0)) throw new GodwitError('INTERNAL', 'The server did not say how many rows it has updated.');
  return { inserted, updated };
}

async function run(session: Session, sql: string): Promise<number> {
  const outcome = await session.run(sql);
  const refused = await objection(session, outcome, outcome.affected);
  if (refused) throw refused;
  return outcome.affected;
}

/** By the table's own idea of equal keys, which its index has. */
export function joined({ index, exactly }: Pick<Beside, 'index' | 'exactly'>, t = 't'): string {
  return index.parts
    .map(({ column }) => {
      const name = ident(column);
      const held = exactly.get(column);
      const given = held ? `CONVERT(s.${name} USING ${held.charset}) COLLATE ${held.collation}` : `s.${name}`;
      return `${t}.${name} = ${given}`;
    })
    .join(' AND ');
}

/**
 * From a MySQL a key that differs in its case alone is the same row, written otherwise; from another system it is another row,
 * for which this table has no place.
 */
const respelled = (work: Work, { collation }: ColumnThere): boolean =>
  work.source.system === 'mysql' && collation !== null && !/_(nopad|0900)_bin$/.test(collation);

async function refuseNearly(session: Session, work: Work, beside: Beside): Promise<void> {
  if (beside.exactly.size === 0) return;
  const differs = [...beside.exactly.values()].map(
    ({ name, charset }) =>
      `NOT (CAST(t.${ident(name)} AS BINARY) <=> CAST(CONVERT(s.${ident(name)} USING ${charset}) AS BINARY))`,
  );
  const [row] = await session.query(
    `SELECT 1 AS there FROM ${tableIdent(beside.into.table)} s STRAIGHT_JOIN ${tableIdent(work.name)} t ON ${joined(beside)}
     WHERE ${differs.join(' OR ')} LIMIT 1`,
  );
  if (!row) return;
  const table = tableText(work.name);
  const message = `${table}: two rows have keys that are one in the collation of the target's column.`;
  throw new GodwitError('CONSTRAINT_BROKEN', message, { table, target: work.target });
}

/** Of the table and `s`: NULL is NULL, and anything else is equal only when no byte of it differs. */
export function equal({ name, native }: ColumnThere, table = 't'): string {
  const [t, s] = [`${table}.${ident(name)}`, `s.${ident(name)}`];
  const word = /^[a-z0-9]+/i.exec(native)?.[0]?.toLowerCase() ?? '';
  const by = (as: (column: string) => string) => `${as(t)} <=> ${as(s)}`;
  if (/^(char|varchar|tinytext|text|mediumtext|longtext)$/.test(word))
    return by((column) => `CAST(${column} AS BINARY)`);
  // By the number of their labels.
  if (word === 'enum' || word === 'set') return by((column) => `${column} + 0`);
  if (word === 'json') return by((column) => `CAST(CAST(${column} AS CHAR) AS BINARY)`);
  if (isGeometry(word) || word === 'vector') return by((column) => `HEX(${column})`);
  if (word === 'float' || word === 'double') {
    // A zero has a sign.
    return `(${by((column) => column)} AND (${t} <> 0 OR ${by((column) => `CAST(${column} AS CHAR)`)}))`;
  }
  return by((column) => column);
}
