/** The columns and keys of the table that receives the rows. It has its final names from the start. */
import { type PlanColumn, swapsIn, type TableName, type Work } from '../../contract.ts';
import { type MysqlColumn, type MysqlExtras, type MysqlIndex, mysqlExtras } from '../extras.ts';
import { ident, literal, tableIdent } from '../sql.ts';
import { charsetOf, type Dialect, strangeType } from './dialect.ts';

export type LaidColumn = {
  readonly name: string;
  readonly native: string;
  readonly notNull: boolean;
  readonly plan?: PlanColumn;
  /** What only MySQL knows of the source's column. */
  readonly special?: MysqlColumn;
  readonly comment?: string;
};

/** All columns in the source's order; what a mapping adds comes last. Generated ones do not travel: the table computes them. */
export function layout(work: Work): LaidColumn[] {
  const extras = mysqlExtras(work.source);
  const laid = new Map<string | undefined, LaidColumn>();
  const added: LaidColumn[] = [];
  for (const plan of work.columns) {
    const { name, native, from } = plan;
    const comment = work.source.columns.find((column) => column.name === from)?.comment;
    const special = from === undefined ? undefined : extras?.columns[from];
    const notNull = !plan.nullable || work.key.includes(name);
    const column = { name, native, notNull, plan, ...(special ? { special } : {}), ...(comment ? { comment } : {}) };
    if (from === undefined || laid.has(from)) added.push(column);
    else laid.set(from, column);
  }
  if (!extras) return [...laid.values(), ...added];
  const taken = new Set(work.columns.map((column) => column.name));
  const ordered = work.source.columns.flatMap(({ name, native, nullable, comment }): LaidColumn[] => {
    const found = laid.get(name);
    if (found) return [found];
    const special = extras.columns[name];
    if (!special?.generated || taken.has(name) || !speaksOfMoved(work, special.generated.expression)) return [];
    return [{ name, native, notNull: !nullable, special, ...(comment ? { comment } : {}) }];
  });
  return [...ordered, ...added];
}

/** Does an expression name only columns that are here under the names they had? Servers put every name in backticks. */
export function speaksOfMoved(work: Work, expression: string): boolean {
  const outside = expression.replace(/'(?:[^'\\]|\\.|'')*'/g, "''");
  const names = [...outside.matchAll(/`((?:[^`]|``)+)`/g)].map((match) => (match[1] as string).replaceAll('``', '`'));
  const extras = mysqlExtras(work.source);
  return names.every((name) => {
    const moved = work.columns.some((column) => column.from === name && column.name === name);
    // Another generated column, or no column at all (a function, a character set).
    return moved || extras?.columns[name] === undefined || extras.columns[name].generated !== undefined;
  });
}

const longestComment = 1024;

/** `name` type CHARACTER SET … AS (…) NOT NULL DEFAULT … COMMENT '…' */
export function columnSql(column: LaidColumn, work: Work, dialect: Dialect): string {
  const { special } = column;
  const generated = column.plan ? undefined : special?.generated;
  const whole = work.mode !== 'dumping' && column.plan?.constant === undefined;
  const comment = column.comment && `COMMENT ${literal([...column.comment].slice(0, longestComment).join(''))}`;
  const parts = [
    ident(column.name),
    typeSql(column, work, dialect),
    generated && `GENERATED ALWAYS AS (${generated.expression}) ${generated.kind.toUpperCase()}`,
    // MariaDB's grammar has no NULL behind an expression.
    generated && dialect.flavor === 'mariadb' ? '' : column.notNull ? 'NOT NULL' : 'NULL',
    whole && !generated && special?.default !== undefined && `DEFAULT ${special.default}`,
    whole && special?.onUpdate && `ON UPDATE ${special.onUpdate}`,
    whole && special?.autoIncrement && 'AUTO_INCREMENT',
    comment,
    whole && special?.invisible && 'INVISIBLE',
    special?.srid !== undefined && dialect.flavor === 'mysql' && `SRID ${special.srid}`,
  ];
  return parts.filter(Boolean).join(' ');
}

function typeSql({ native, plan, special }: LaidColumn, work: Work, dialect: Dialect): string {
  if (special) {
    if (special.json)
      return dialect.flavor === 'mariadb' ? 'json' : 'longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin';
    const strange = strangeType(special.spelled, dialect);
    if (strange !== undefined)
      return /^(char|varchar)/.test(strange) ? `${strange} CHARACTER SET ascii COLLATE ascii_bin` : strange;
    // As the table's own, which needs no word.
    if (!special.collation || special.collation === mysqlExtras(work.source)?.collation) return special.spelled;
    const collation = dialect.instead.get(special.collation) ?? special.collation;
    const charset = dialect.instead.has(special.collation)
      ? charsetOf(collation)
      : (special.charset ?? charsetOf(collation));
    return `${special.spelled} CHARACTER SET ${charset} COLLATE ${collation}`;
  }
  if (native === 'char(36)' && plan?.type.kind === 'uuid') return `${native} CHARACTER SET ascii COLLATE ascii_bin`;
  if (!/^(char|varchar|longtext|enum)\b/.test(native)) return native;
  return `${native} CHARACTER SET utf8mb4 COLLATE ${dialect.exact}`;
}

// ── Keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The source's indexes by the names their columns have here; those with a column that does not move are in `lost`. */
export function indexesOf(work: Work): { indexes: MysqlIndex[]; lost: string[] } {
  const extras = mysqlExtras(work.source);
  if (!extras || work.mode === 'dumping') return { indexes: [], lost: [] };
  const here = layout(work);
  const nameOf = (from: string): string | undefined =>
    (work.columns.find((column) => column.from === from) ?? here.find((column) => column.name === from && !column.plan))
      ?.name;
  const indexes: MysqlIndex[] = [];
  const lost: string[] = [];
  for (const index of extras.indexes) {
    const parts = index.parts.map((part) => {
      if (part.column !== undefined) {
        const column = nameOf(part.column);
        return column === undefined ? undefined : { ...part, column };
      }
      return speaksOfMoved(work, part.expression ?? '') ? part : undefined;
    });
    if (parts.every((part) => part !== undefined)) indexes.push({ ...index, parts });
    else lost.push(index.name);
  }
  return { indexes: work.mode === 'replace' ? indexes : keyedAlone(work, indexes), lost };
}

const sameColumns = (work: Work, { parts }: MysqlIndex): boolean =>
  parts.length === work.key.length && parts.every(({ column }) => column !== undefined && work.key.includes(column));

/**
 * Rows of an incremental mode arrive in any order and stay when they are gone at the source: only the key itself is unique.
 * The first of those that say so; the others are plain.
 */
function keyedAlone(work: Work, indexes: readonly MysqlIndex[]): MysqlIndex[] {
  const whole = (index: MysqlIndex) => index.parts.every(({ prefix }) => prefix === undefined);
  const key = indexes.find(
    (index) => index.unique && sameColumns(work, index) && (index.name === 'PRIMARY' || whole(index)),
  );
  const plain = indexes.map((index): MysqlIndex => {
    if (index === key || !index.unique) return index;
    return { ...index, unique: false, name: index.name === 'PRIMARY' ? primaryThere : index.name };
  });
  return key ? [key, ...plain.filter((index) => index !== key)] : plain;
}

const primaryThere = 'primary_of_source';

/** A partitioned table's unique keys must have the columns it is partitioned by. */
const keepsPrimary = (work: Work): boolean =>
  work.mode === 'replace' || indexesOf(work).indexes.some((index) => index.name === 'PRIMARY');

/** InnoDB clusters by the primary key, or the first unique one: it is there before the rows. So is that of AUTO_INCREMENT. */
export function inlineIndexes(work: Work): MysqlIndex[] {
  const { indexes } = indexesOf(work);
  const primary = indexes.find((index) => index.name === 'PRIMARY');
  const unique =
    primary ??
    indexes.find(
      (index) => index.unique && index.parts.every((part) => part.prefix === undefined) && sameColumns(work, index),
    );
  const inline: MysqlIndex[] = unique ? [unique] : work.key.length > 0 ? [primaryKey(work)] : [];
  const counted = layout(work).find((column) => column.special?.autoIncrement && work.mode !== 'dumping')?.name;
  if (counted !== undefined && inline[0]?.parts[0]?.column !== counted) {
    const index = indexes.find((one) => one !== unique && one.parts[0]?.column === counted);
    if (index) inline.push(index);
  }
  return inline;
}

/** Of the work's own key; a text keeps the length it was indexed by at the source. */
function primaryKey(work: Work): MysqlIndex {
  const extras = mysqlExtras(work.source);
  const parts = work.key.map((column) => {
    const from = work.columns.find((one) => one.name === column)?.from;
    const prefix = extras?.indexes
      .find((index) => index.name === 'PRIMARY')
      ?.parts.find((part) => part.column === from && from !== undefined)?.prefix;
    return { column, ...(prefix === undefined ? {} : { prefix }) };
  });
  return { name: 'PRIMARY', unique: true, type: 'BTREE', parts };
}

export function indexSql(index: MysqlIndex, dialect: Dialect): string {
  const parts = index.parts.map(({ column, expression, prefix, descending }) => {
    const what =
      column === undefined ? `(${expression})` : `${ident(column)}${prefix === undefined ? '' : `(${prefix})`}`;
    return `${what}${descending ? ' DESC' : ''}`;
  });
  const kind =
    index.name === 'PRIMARY'
      ? 'PRIMARY KEY'
      : index.type === 'FULLTEXT' || index.type === 'SPATIAL' || index.type === 'RTREE'
        ? `${index.type === 'FULLTEXT' ? 'FULLTEXT' : 'SPATIAL'} KEY ${ident(index.name)}`
        : `${index.unique ? 'UNIQUE ' : ''}KEY ${ident(index.name)}`;
  const hidden =
    index.invisible && index.name !== 'PRIMARY' ? (dialect.flavor === 'mariadb' ? ' IGNORED' : ' INVISIBLE') : '';
  return `${kind} (${parts.join(', ')})${index.comment ? ` COMMENT ${literal(index.comment)}` : ''}${hidden}`;
}

// ── The table ───────────────────────────────────────────────────────────────────────────────────────────────────────

const tableComment = 2048;

export type Parts = {
  readonly columns: readonly LaidColumn[];
  readonly indexes: readonly MysqlIndex[];
  readonly partitioning?: string;
};

export const partsOf = (work: Work): Parts => {
  const extras = mysqlExtras(work.source);
  const partitioning = swapsIn(work) && keepsPrimary(work) ? extras?.partitioning : undefined;
  const indexes = inlineIndexes(work);
  const columns = layout(work).map((column) => {
    // Only what leads an index may count.
    if (!column.special?.autoIncrement || indexes.some((index) => index.parts[0]?.column === column.name))
      return column;
    return { ...column, special: { ...column.special, autoIncrement: false } };
  });
  return { columns, indexes, ...(partitioning && isWhole(work) ? { partitioning } : {}) };
};

/** Does every column that moves at the source move here, under its own name? */
const isWhole = (work: Work): boolean =>
  work.source.columns.every(
    ({ name, generated }) => generated || work.columns.some((column) => column.from === name && column.name === name),
  );

export function createSql(table: TableName, work: Work, parts: Parts, dialect: Dialect): string {
  const extras = mysqlExtras(work.source);
  const lines = [
    ...parts.columns.map((column) => columnSql(column, work, dialect)),
    ...parts.indexes.map((index) => indexSql(index, dialect)),
  ];
  return `CREATE TABLE ${tableIdent(table)} (\n  ${lines.join(',\n  ')}\n) ${options(work, extras, dialect)}${parts.partitioning ? `\n${parts.partitioning}` : ''}`;
}

/** Other than the servers' own. */
const rowFormats = new Set(['COMPRESSED', 'COMPACT', 'REDUNDANT']);

function options(work: Work, extras: MysqlExtras | undefined, dialect: Dialect): string {
  const format = extras?.rowFormat?.toUpperCase() ?? '';
  const collation = extras?.collation && (dialect.instead.get(extras.collation) ?? extras.collation);
  const comment = extras?.comment;
  return [
    'ENGINE=InnoDB',
    extras ? rowFormats.has(format) && `ROW_FORMAT=${format}` : 'ROW_FORMAT=DYNAMIC',
    collation
      ? `DEFAULT CHARACTER SET ${charsetOf(collation)} COLLATE ${collation}`
      : `DEFAULT CHARACTER SET utf8mb4 COLLATE ${dialect.exact}`,
    swapsIn(work) && extras?.autoIncrement && `AUTO_INCREMENT=${extras.autoIncrement}`,
    comment && `COMMENT=${literal([...comment].slice(0, tableComment).join(''))}`,
  ]
    .filter(Boolean)
    .join(' ');
}
