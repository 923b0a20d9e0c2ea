/**
 * Keys as the sweep of a mirrored table compares them (`KeyBatch` of the contract), for source and target alike: their
 * canonical texts, their one order, their digest, and the condition for a range of them.
 */
import { GodwitError } from '../../errors.ts';
import { type KeyBatch, type KeyDigest, type KeyRange, type Table, tableText } from '../contract.ts';
import type { LogicalType } from '../types.ts';
import { copyOut } from './copy-out.ts';
import { unescaped } from './copy-text.ts';
import { postgresExtras } from './extras.ts';
import type { Session } from './session.ts';
import { ident, typed } from './sql.ts';
import { serverCalendar } from './values.ts';

/** `native` is the server's own spelling of the type, without domains. */
export type KeyColumn = { readonly name: string; readonly type: LogicalType; readonly native: string };

/** Columns of a source's table. Throws COLUMN_MISSING. */
export const keyColumns = (table: Table, names: readonly string[]): KeyColumn[] =>
  names.map((name) => {
    const column = table.columns.find((one) => one.name === name);
    if (!column) {
      const message = `Table ${tableText(table.name)} has no column "${name}".`;
      throw new GodwitError('COLUMN_MISSING', message, { table: tableText(table.name), column: name });
    }
    return { name, type: column.type, native: postgresExtras(table)?.columns[name]?.base ?? column.native };
  });

/** Two digests of this kind are equal when the keys are, whatever the version of the server. */
export const digestKind = 'postgres';

/**
 * Of the keys that lie in `from` under `where`. The hash is the sum of the keys' 64-bit hashes, so that neither order nor
 * plan matters. Needs a session with Godwit's settings.
 */
export async function digestIn(
  session: Session,
  columns: readonly KeyColumn[],
  from: string,
  where?: string,
): Promise<KeyDigest> {
  const part = partOf(columns);
  const rows = await session.query<{ part: number; count: string; hash: string }>(
    `SELECT part, pg_catalog.count(*)::text AS count, pg_catalog.sum(hash)::text AS hash
     FROM (SELECT ${part?.sql ?? '0'} AS part, ${hashOf(columns)} AS hash FROM ${from}${where ? ` WHERE ${where}` : ''}) x GROUP BY part`,
  );
  const count = rows.reduce((sum, row) => sum + Number(row.count), 0);
  const hash = rows.reduce((sum, row) => sum + BigInt(row.hash), 0n).toString();
  if (!part) return { count, hash };
  return {
    count,
    hash,
    parts: { by: part.by, of: new Map(rows.map((row) => [Number(row.part), `${row.count} ${row.hash}`])) },
  };
}

/** Of a key that is one whole number: its last ten bits. */
function partOf(columns: readonly KeyColumn[]): { readonly by: string; readonly sql: string } | undefined {
  const [only, ...more] = columns;
  if (!only || more.length > 0 || !isInt(only)) return undefined;
  return { by: 'ten bits', sql: `(${ident(only.name)}::int8 & 1023)::int4` };
}

const isInt = ({ type: { kind }, native }: KeyColumn): boolean =>
  /^(smallint|integer|bigint)$/.test(native) && (kind === 'int16' || kind === 'int32' || kind === 'int64');

/** Each column's hash is the seed of the next one's: ('ab', 'c') is not ('a', 'bc'). */
const hashOf = (columns: readonly KeyColumn[]): string =>
  columns.reduce(
    (seed, column) =>
      isInt(column)
        ? `pg_catalog.hashint8extended(${ident(column.name)}::int8, ${seed})`
        : `pg_catalog.hashtextextended(${digested(column)} COLLATE "C", ${seed})`,
    '0',
  );

/** The same for equal keys of any two servers, and cheaper than the canonical text. */
function digested(column: KeyColumn): string {
  const name = ident(column.name);
  switch (column.type.kind) {
    case 'date':
    case 'time':
    case 'timestamp':
    case 'timestamptz':
      return `${name}::text`;
    default:
      return canonical(column);
  }
}

/** The SELECT list and the ORDER BY that give keys as `KeyBatch` has them. */
export const keysSelect = (columns: readonly KeyColumn[]): { readonly list: string; readonly order: string } => ({
  // Named: else the text would have the column's own name, and be what ORDER BY means.
  list: columns.map((column, i) => `${canonical(column)} AS ${ident(`godwit key ${i}`)}`).join(', '),
  order: columns.map((column) => (ordersItself(column.type) ? ident(column.name) : byBytes(column))).join(', '),
});

/** What a column is compared and sorted by where ranges of it are read: its index serves that, but for texts. */
export const comparable = (column: KeyColumn): string =>
  comparesItself(column.type) ? ident(column.name) : byBytes(column);

/** The condition for the keys of a range, or undefined for all. On a key without text it is one its index can serve. */
export function keyRangeCondition(columns: readonly KeyColumn[], { after, upto, only }: KeyRange): string | undefined {
  const left = row(columns.map(comparable));
  const right = (key: readonly string[]) => {
    if (key.length !== columns.length)
      throw new GodwitError('INTERNAL', 'A range of keys has other columns than the key.');
    return row(columns.map((column, i) => keyLiteral(column, key[i] as string)));
  };
  const part = only && partOf(columns)?.sql;
  // Never all keys of one side against some of the other: what only the one gave would be taken for vanished.
  if (only && !part) throw new GodwitError('INTERNAL', 'Parts of a digest were asked of a key that has none.');
  const conditions = [
    after && `${left} > ${right(after)}`,
    upto && `${left} <= ${right(upto)}`,
    part && `${part} = ANY('{${only.join(',')}}'::int4[])`,
  ];
  return conditions.filter(Boolean).join(' AND ') || undefined;
}

const row = (parts: readonly string[]): string => (parts.length === 1 ? (parts[0] as string) : `(${parts.join(', ')})`);

/**
 * A canonical text as a literal to compare the column with: without the column's own length or precision, which would cut
 * or round it.
 */
export function keyLiteral({ type, native }: KeyColumn, text: string): string {
  switch (type.kind) {
    case 'bool':
      return typed(text, 'boolean');
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
      return typed(text, native === 'oid' ? 'oid' : 'bigint');
    case 'uint64':
    case 'decimal':
      return typed(text, 'numeric');
    case 'float32':
      return typed(text, 'real');
    case 'float64':
      return typed(text, 'double precision');
    case 'uuid':
      return typed(text, 'uuid');
    case 'bytes':
      return typed(text, 'bytea');
    case 'date':
      return typed(serverCalendar(text), 'date');
    case 'time':
      return typed(text, 'time without time zone');
    case 'timestamp':
      return typed(serverCalendar(text), 'timestamp without time zone');
    case 'timestamptz':
      return typed(serverCalendar(text), 'timestamp with time zone');
    default:
      return typed(text, 'text');
  }
}

/** Does the type's own order, that of its index, compare as canonical texts of this century do? */
export const comparesItself = (type: LogicalType): boolean =>
  ordersItself(type) || type.kind === 'date' || type.kind === 'timestamp' || type.kind === 'timestamptz';

/** Is the type's own order that of `KeyBatch`? Of dates it is not: years past 9999 have a sign before them. */
function ordersItself({ kind }: LogicalType): boolean {
  switch (kind) {
    case 'bool':
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
    case 'uint64':
    case 'decimal':
    case 'float32':
    case 'float64':
    case 'uuid':
    case 'bytes':
    case 'time':
      return true;
    default:
      return false;
  }
}

/** For what compares by the bytes of its text, whatever the collation of the column. */
const byBytes = (column: KeyColumn): string => `(${canonical(column)} COLLATE "C")`;

/** The canonical text of the column (connectors/types.ts), times with six digits of fraction. */
function canonical({ name: column, type, native }: KeyColumn): string {
  const name = ident(column);
  switch (type.kind) {
    case 'decimal':
      return `pg_catalog.trim_scale(${name}::numeric)::text`;
    case 'float32':
    case 'float64':
      // In plain notation.
      return `${name}::text::numeric::text`;
    case 'text':
      // A cast to text takes the blanks off a char(n); what it is written as keeps them.
      return native === 'text' || native.startsWith('character varying')
        ? `${name}::text`
        : `pg_catalog.concat(${name})`;
    case 'date':
      return calendar(name, 'date', 'YYYY-MM-DD');
    case 'timestamp':
      return calendar(name, 'timestamp without time zone', 'YYYY-MM-DD"T"HH24:MI:SS.US');
    case 'timestamptz':
      return calendar(name, 'timestamp with time zone', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
    case 'time':
      return `pg_catalog.to_char(${name}::interval, 'HH24:MI:SS.US')`;
    case 'native':
    case 'array':
    case 'interval':
    case 'timetz':
      return `pg_catalog.concat(${name})`;
    default:
      return `${name}::text`;
  }
}

/** Outside of the years 1 to 9999 with an expanded, astronomical year, where 1 BC is 0. */
function calendar(name: string, type: string, pattern: string): string {
  const at = `${name}::${type}`;
  const plain = type === 'date' ? `${at}::text` : `pg_catalog.to_char(${at}, '${pattern}')`;
  const year = `(extract(year FROM ${at})::int + (extract(year FROM ${at}) < 0)::int)`;
  const sign = `CASE WHEN ${year} < 0 THEN '-' ELSE '+' END`;
  const wide = `${sign} || pg_catalog.lpad(pg_catalog.abs(${year})::text, 6, '0') || pg_catalog.to_char(${at}, '${pattern.slice(4)}')`;
  return `CASE WHEN ${at} >= '0001-01-01'::${type} AND ${at} < '10000-01-01'::${type} THEN ${plain} WHEN pg_catalog.isfinite(${at}) THEN ${wide} ELSE ${at}::text END`;
}

export type CopyKeys = {
  readonly columns: readonly KeyColumn[];
  /** What follows FROM. */
  readonly from: string;
  readonly where?: string | undefined;
  readonly signal: AbortSignal;
};

const newline = 10;
const readAhead = 1024 * 1024;

/**
 * The keys of a query in the order of `KeyBatch`, within the session's transaction. Ends regularly only when the server said how
 * many there were and all of them came. Memory: some megabytes. Leaving it early destroys the session.
 */
export async function* copyKeys(
  session: Session,
  { columns, from, where, signal }: CopyKeys,
): AsyncGenerator<KeyBatch> {
  const { list, order } = keysSelect(columns);
  const query = `SELECT ${list} FROM ${from}${where ? ` WHERE ${where}` : ''} ORDER BY ${order}`;
  const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let stub: Buffer[] = [];
  let came = 0;
  let said: number | undefined;
  const copy = copyOut(session, `COPY (${query}) TO STDOUT`, { framed: false, bytes: readAhead, signal });
  for await (const { bytes, rows, release } of copy) {
    const data = Buffer.concat([...stub, ...bytes]);
    release?.();
    said = rows ?? said;
    const end = data.lastIndexOf(newline);
    stub = end + 1 < data.length ? [data.subarray(end + 1)] : [];
    if (end < 0) continue;
    const text = utf8.decode(data.subarray(0, end));
    const lines = text.split('\n');
    came += lines.length;
    yield columns.length > 1 || text.includes('\\') ? lines.map(keyOf) : lines;
  }
  if (said !== came || stub.length > 0) {
    throw new GodwitError('CONNECTION_FAILED', 'PostgreSQL said another number of keys than came.');
  }
}

const keyOf = (line: string): string =>
  line
    .split('\t')
    .map((cell) => (cell.includes('\\') ? unescaped(cell) : cell))
    .join('\0');
