/** A table that stays while its source's columns change between runs (decision 16). */
import { swapsIn, type TableName, type Work } from '../../contract.ts';
import { defaultOf } from '../definitions.ts';
import type { Session } from '../session.ts';
import { ident, literal, tableIdent } from '../sql.ts';
import { type Dialect, dialectOf, strangeType } from './dialect.ts';
import { columnSql, type LaidColumn, layout } from './layout.ts';

export type ColumnThere = {
  readonly name: string;
  readonly native: string;
  readonly nullable: boolean;
  readonly default: string | null;
  readonly extra: string;
  readonly generated: boolean;
  /** Of the primary key. */
  readonly key: boolean;
  readonly charset: string | null;
  readonly collation: string | null;
  readonly comment: string;
};

export async function columnsOf(session: Session, { schema, name }: TableName): Promise<ColumnThere[]> {
  const rows = await session.query<{
    name: string;
    native: string;
    nullable: string;
    default: string | null;
    extra: string;
    columnKey: string;
    charset: string | null;
    collation: string | null;
    comment: string;
  }>(
    `SELECT COLUMN_NAME AS name, COLUMN_TYPE AS native, IS_NULLABLE AS nullable, COLUMN_DEFAULT AS \`default\`, EXTRA AS extra,
       COLUMN_KEY AS columnKey, CHARACTER_SET_NAME AS charset, COLLATION_NAME AS collation, COLUMN_COMMENT AS comment
     FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION`,
    [schema, name],
  );
  return rows.map(({ nullable, columnKey, extra, ...row }) => ({
    ...row,
    extra,
    nullable: nullable === 'YES',
    generated: /\b(VIRTUAL|STORED|PERSISTENT) GENERATED\b|^(VIRTUAL|PERSISTENT)$/i.test(extra),
    key: columnKey === 'PRI',
  }));
}

/** Without its character set. */
const bare = (native: string): string => native.replace(/ CHARACTER SET \S+( COLLATE \S+)?$/, '');

/** One spelling of a type: MariaDB and older MySQL give integers a width of display. */
export const sameSpelling = (native: string): string =>
  /^enum|^set/i.test(native)
    ? native.replaceAll('\\\\', '\\')
    : native
        .toLowerCase()
        .replace(/^tinyint\((?!1\))\d+\)/, 'tinyint')
        .replace(/^(smallint|mediumint|int|bigint|year)\(\d+\)/, '$1')
        .replace(/^(datetime|time|timestamp)\(0\)/, '$1');

export type Drift = {
  /** What makes the table fit for the new rows: clauses of one ALTER TABLE. */
  readonly changes: readonly string[];
  readonly notes: readonly string[];
  /** What stands in the way. */
  readonly differences: readonly string[];
};

/** Does the table of that name stay, and only change its rows? Else a new one with the source's columns takes its place. */
export const stays = (work: Work): boolean => !swapsIn(work) || work.swap === 'delete-insert';

/**
 * Cases, by column: 1 new at the source: added, without NOT NULL; 2 gone at the source: stays and fills with NULL; 3 a type
 * that holds all of the old one's values: altered; 4 any other type: in the way; 5 it may now be NULL: so there too.
 * `refuse` has every difference in the way; `ignore` changes no column (the plan has left new ones out). Without a word in the
 * work, what the rows do not need may differ and nothing is changed.
 */
export function driftOf(work: Work, there: readonly ColumnThere[], dialect: Dialect): Drift {
  const policy = work.onSchemaChange;
  const changing = policy === 'add';
  const changes: string[] = [];
  const notes: string[] = [];
  const differences: string[] = [];
  const wanted = layout(work);
  for (const column of wanted) {
    const { name, plan } = column;
    const native = (column.special && strangeType(column.special.spelled, dialect)) ?? column.native;
    const found = there.find((one) => one.name.toLowerCase() === name.toLowerCase());
    if (!found) {
      const essential = plan?.constant !== undefined || work.key.includes(name);
      if (!plan && policy === 'ignore') continue;
      if (!changing || essential) differences.push(`${name} is not there`);
      else {
        changes.push(`ADD COLUMN ${columnSql(bareColumn(column), work, dialect)}`);
        notes.push(`${name}: new at the source; the target's table gets it, NULL in the rows it has`);
      }
      continue;
    }
    const [from, to] = [sameSpelling(found.native), sameSpelling(bare(native))];
    let altered = false;
    if (from !== to && !(to === 'json' && from === 'longtext')) {
      const other = `${name} is ${found.native} there and ${native} at the source`;
      if (!changing || found.generated || !widens(from, to)) differences.push(other);
      else {
        altered = true;
        notes.push(`${name}: ${found.native} on the target becomes ${native}, as at the source`);
      }
    } else if (found.generated && plan) {
      differences.push(`${name} is generated on one side only`);
    }
    let nullable = found.nullable;
    if (!found.nullable && !column.notNull && plan) {
      if (!changing || found.key) differences.push(`${name} may not be NULL there`);
      else {
        altered = true;
        nullable = true;
        notes.push(`${name}: may be NULL at the source, and now on the target too`);
      }
    }
    if (altered)
      changes.push(
        `MODIFY COLUMN ${thereSql({ ...found, native: from === to ? found.native : bare(native), nullable }, dialect)}`,
      );
  }
  for (const column of there) {
    if (wanted.some((one) => one.name.toLowerCase() === column.name.toLowerCase())) continue;
    const filled = column.default !== null || /auto_increment|DEFAULT_GENERATED/i.test(column.extra);
    const needed = !column.nullable && !filled && !column.generated;
    const lenient = policy === 'add' || policy === 'ignore';
    if (policy === undefined ? swapsIn(work) || needed : !lenient || (needed && column.key) || !stays(work)) {
      differences.push(`${column.name} is there only`);
    } else if (lenient && !column.generated) {
      if (needed) changes.push(`MODIFY COLUMN ${thereSql({ ...column, nullable: true }, dialect)}`);
      notes.push(
        `${column.name}: not at the source; it stays on the target and ${filled ? 'gets its default' : 'fills with NULL'}`,
      );
    }
  }
  return { changes, notes, differences };
}

/** Rows that are there get NULL, not a default that was made later. */
const bareColumn = ({ special, ...column }: LaidColumn): LaidColumn => {
  if (!special) return { ...column, notNull: false };
  const { default: _default, onUpdate: _onUpdate, autoIncrement: _autoIncrement, ...plain } = special;
  return { ...column, notNull: false, special: plain };
};

/** A column as it is there: MODIFY forgets what it is not told. */
function thereSql(column: ColumnThere, dialect: Dialect): string {
  const filled = defaultOf(
    { ...column, type: /^[a-z]+/i.exec(column.native)?.[0] ?? '', spelled: column.native },
    dialect.session,
  );
  const charset = column.charset && `CHARACTER SET ${column.charset} COLLATE ${column.collation}`;
  return [
    ident(column.name),
    column.native,
    charset,
    column.nullable ? 'NULL' : 'NOT NULL',
    filled && `DEFAULT ${filled}`,
    /auto_increment/i.test(column.extra) && 'AUTO_INCREMENT',
    /INVISIBLE/i.test(column.extra) && 'INVISIBLE',
    /on update (\S+)/i.exec(column.extra)?.[0],
    column.comment && `COMMENT ${literal(column.comment)}`,
  ]
    .filter(Boolean)
    .join(' ');
}

/** Clauses of the ALTER that `adapt` would do. */
export async function changesOf(session: Session, work: Work): Promise<readonly string[]> {
  if (work.onSchemaChange === undefined || work.onSchemaChange === 'refuse') return [];
  return driftOf(work, await columnsOf(session, work.name), await dialectOf(session, work)).changes;
}

/** DDL, so before a transaction, not within one. */
export async function adapt(session: Session, work: Work): Promise<void> {
  const changes = await changesOf(session, work);
  if (changes.length > 0) await session.run(`ALTER TABLE ${tableIdent(work.name)} ${changes.join(', ')}`);
}

const integers = ['tinyint', 'smallint', 'mediumint', 'int', 'bigint'];
const digitsOf: Readonly<Record<string, number>> = { tinyint: 3, smallint: 5, mediumint: 8, int: 10, bigint: 19 };
const texts = ['tinytext', 'text', 'mediumtext', 'longtext'];
const blobs = ['tinyblob', 'blob', 'mediumblob', 'longblob'];

/** Does `to` hold every value of `from`, and show it as before? By `sameSpelling`. */
export function widens(from: string, to: string): boolean {
  const [a, b] = [parsed(from), parsed(to)];
  const [x, y] = [integers.indexOf(a.name), integers.indexOf(b.name)];
  // TINYINT(1) is a bool to those who read it.
  if (x >= 0 && y >= 0) {
    if (a.unsigned === b.unsigned) return x < y || (from === 'tinyint(1)' && to === 'tinyint');
    return a.unsigned && !b.unsigned && x < y;
  }
  for (const family of [texts, blobs]) {
    const wide = family.indexOf(b.name);
    if (family.includes(a.name) && wide >= 0) return family.indexOf(a.name) < wide;
    const short = family === texts ? 'varchar' : 'varbinary';
    if (a.name === short && wide >= 0) return (a.first ?? 0) * 4 <= [255, 65_535, 16_777_215, 4_294_967_295][wide]!;
    if (a.name === short && b.name === short) return (b.first ?? 0) >= (a.first ?? 0);
  }
  if (b.name === 'decimal') {
    const [digits, scale] = [b.first ?? 10, b.second ?? 0];
    const whole = digitsOf[a.name];
    if (whole !== undefined) return digits - scale >= whole + (a.unsigned ? 1 : 0);
    // The same scale: another one would write 1.5 as 1.50.
    return a.name === 'decimal' && (a.second ?? 0) === scale && digits >= (a.first ?? 10) && a.unsigned === b.unsigned;
  }
  if (a.name === b.name && ['datetime', 'time', 'timestamp'].includes(a.name)) return (a.first ?? 0) <= (b.first ?? 0);
  if (a.name === 'enum' && b.name === 'enum') return to.startsWith(`${from.slice(0, -1)},`);
  return false;
}

type Parsed = { readonly name: string; readonly first?: number; readonly second?: number; readonly unsigned: boolean };

function parsed(native: string): Parsed {
  const [, name = native, first, second] = /^([a-z]+)(?:\((\d+)(?:,(\d+))?\))?/.exec(native) ?? [];
  return {
    name,
    ...(first === undefined ? {} : { first: Number(first) }),
    ...(second === undefined ? {} : { second: Number(second) }),
    unsigned: / unsigned/.test(native),
  };
}
