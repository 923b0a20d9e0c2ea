/**
 * Keys as ranges are made of them: how a column's value is held in `Chunk.bounds`, written in a statement, and what lies
 * between two of them. Only types whose comparison with a literal follows the index are here (an ENUM's does not).
 */
import { GodwitError } from '../../errors.ts';
import { type Chunk, type Table, tableText } from '../contract.ts';
import { type MysqlColumn, mysqlExtras } from './extras.ts';
import { ident, literal } from './sql.ts';

/**
 * Keys behind `after` (exclusive) up to `upto` (inclusive); absent = open. The first chunk is open below, the last above:
 * every row is in one, whatever was inserted meanwhile. `rest`: where the chunks behind this one end at the latest, the
 * nearest last (null: at the table's end); how the split goes on from here.
 */
export type KeyBounds = { readonly after?: Key; readonly upto?: Key; readonly rest?: readonly (Key | null)[] };

/** One text per column of the index: numbers and times as they print, texts and bytes as hexadecimal digits of their bytes. */
export type Key = readonly string[];

type Held = 'number' | 'moment' | 'text' | 'bytes' | 'printed';

const held: Readonly<Record<string, Held>> = {
  tinyint: 'number',
  smallint: 'number',
  mediumint: 'number',
  int: 'number',
  bigint: 'number',
  year: 'number',
  decimal: 'number',
  date: 'moment',
  datetime: 'moment',
  timestamp: 'moment',
  time: 'printed',
  char: 'text',
  varchar: 'text',
  binary: 'bytes',
  varbinary: 'bytes',
  uuid: 'printed',
  inet4: 'printed',
  inet6: 'printed',
};

export const rangeable = (column: MysqlColumn | undefined): boolean => column !== undefined && column.type in held;

export type KeyColumn = MysqlColumn & { readonly name: string };

/** The columns ranges of this table are made over. Throws SOURCE_CHANGED when it has none. */
export function keyColumns(table: Table): { index: string; columns: KeyColumn[] } {
  const extras = mysqlExtras(table);
  if (!extras?.keyIndex) {
    const name = tableText(table.name);
    throw new GodwitError('SOURCE_CHANGED', `${name} has no key any more that ranges can be read by.`, { table: name });
  }
  const columns = extras.keyIndex.columns.map((name) => ({ ...(extras.columns[name] as MysqlColumn), name }));
  return { index: extras.keyIndex.name, columns };
}

/** The expression that gives a key column's held text. */
export function keyText({ name, type }: KeyColumn): string {
  const column = ident(name);
  return held[type] === 'text' || held[type] === 'bytes' ? `HEX(${column})` : `CAST(${column} AS CHAR)`;
}

function keyLiteral({ type, charset }: KeyColumn, value: string): string {
  switch (held[type]) {
    case 'number':
      if (/^-?\d+(\.\d+)?$/.test(value)) return value;
      break;
    case 'text':
    case 'bytes':
      // With its own character set: nothing is converted, so the index serves.
      if (/^([0-9A-F]{2})*$/i.test(value)) return `${held[type] === 'text' ? `_${charset}` : ''} X'${value}'`;
      break;
    default:
      return literal(value);
  }
  throw new GodwitError('INTERNAL', 'A chunk has bounds that are no keys.');
}

/**
 * `(a, b) > (1, 2)` is written out: `a >= 1 AND (a > 1 OR a = 1 AND b > 2)`. Rows compared as such are looked up by no
 * index of MySQL. A key of fewer columns than the index compares those.
 */
export function compare(columns: readonly KeyColumn[], op: '>' | '<=', key: Key): string {
  if (key.length > columns.length || key.length === 0) {
    throw new GodwitError('SOURCE_CHANGED', "The table's key has other columns than the chunk.");
  }
  const strict = op === '>' ? '>' : '<';
  const value = (i: number) => keyLiteral(columns[i] as KeyColumn, key[i] as string);
  const name = (i: number) => ident((columns[i] as KeyColumn).name);
  const last = key.length - 1;
  if (last === 0) return `${name(0)} ${op} ${value(0)}`;
  const cases = key.map((_, i) => {
    const before = Array.from({ length: i }, (_, j) => `${name(j)} = ${value(j)}`);
    return [...before, `${name(i)} ${i === last ? op : strict} ${value(i)}`].join(' AND ');
  });
  return `${name(0)} ${strict}= ${value(0)} AND (${cases.join(' OR ')})`;
}

/** The condition for the keys between two, or undefined for all. */
export function between(columns: readonly KeyColumn[], after?: Key | null, upto?: Key | null): string | undefined {
  const conditions = [after && compare(columns, '>', after), upto && compare(columns, '<=', upto)];
  return conditions.filter(Boolean).join(' AND ') || undefined;
}

/** The condition for the chunk's rows, or undefined for all. */
export function boundsCondition(table: Table, chunk: Chunk): string | undefined {
  if (chunk.kind === 'all') return undefined;
  if (chunk.kind !== 'keys') throw new GodwitError('INTERNAL', 'MySQL has no ranges of blocks.');
  const { after, upto } = chunk.bounds as KeyBounds;
  return between(keyColumns(table).columns, after, upto);
}

// ── Guesses ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * A value of the column about `share` of the way from `low` to `high`, so that low ≤ it. A guess: where the order is not the one supposed here
 * it lies elsewhere, and the split finds that out from the server. Undefined when nothing can be supposed.
 */
export function guess(column: KeyColumn, low: string, high: string, share: number): string | undefined {
  switch (held[column.type]) {
    case 'number':
      return guessNumber(low, high, share);
    case 'moment':
      return guessMoment(low, high, share);
    case 'bytes':
      return guessBytes(low, high, share);
    case 'text':
      return guessText(column, low, high, share);
    default:
      return undefined;
  }
}

const parts = 1_000_000n;
const shareOf = (width: bigint, share: number): bigint => (width * BigInt(Math.round(share * 1_000_000))) / parts;

function guessNumber(low: string, high: string, share: number): string {
  const scale = Math.max(fractionOf(low), fractionOf(high));
  const whole = (text: string) => BigInt(text.replace('.', '') + '0'.repeat(scale - fractionOf(text)));
  const value = whole(low) + shareOf(whole(high) - whole(low), share);
  if (scale === 0) return String(value);
  const digits = String(value < 0n ? -value : value).padStart(scale + 1, '0');
  return `${value < 0n ? '-' : ''}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

const fractionOf = (text: string): number => (text.includes('.') ? text.length - text.indexOf('.') - 1 : 0);

function guessMoment(low: string, high: string, share: number): string | undefined {
  const from = instant(low) ?? Date.UTC(1000, 0, 1);
  const to = instant(high);
  if (to === undefined || to <= from) return undefined;
  const text = new Date(from + (to - from) * share).toISOString();
  return low.length > 10 ? `${text.slice(0, 10)} ${text.slice(11, 23)}` : text.slice(0, 10);
}

/** Undefined for zero and partial dates. */
function instant(text: string): number | undefined {
  const milliseconds = Date.parse(`${text.slice(0, 10)}T${text.slice(11, 23) || '00:00:00'}Z`);
  return Number.isNaN(milliseconds) ? undefined : milliseconds;
}

function guessBytes(low: string, high: string, share: number): string {
  const common = commonLength(low, high, 2);
  const width = 16; // eight bytes
  const number = (text: string, filler: string) =>
    BigInt(`0x${text.slice(common, common + width).padEnd(width, filler)}`);
  const from = number(low, '0');
  const to = number(high, '0');
  const value = from + shareOf(to > from ? to - from : 0n, share);
  return low.slice(0, common) + value.toString(16).padStart(width, '0');
}

const alphabet = '0123456789abcdefghijklmnopqrstuvwxyz';

/** Character sets of which every ASCII byte stands for itself, anywhere. */
const asciiSafe = /^(utf8mb4|utf8mb3|utf8|ascii|latin\d|cp\d+|koi8[ru]|greek|hebrew|armscii8|geostd8|mac\w+)$/;

/** Digits and letters are supposed, of whatever case; in a binary collation the bytes' own order. */
function guessText({ charset = '', collation = '' }: KeyColumn, low: string, high: string, share: number) {
  if (!asciiSafe.test(charset)) return undefined;
  const common = characterStart(low, commonLength(low, high, 2));
  const byBytes = collation.endsWith('_bin');
  const base = BigInt(byBytes ? 95 : alphabet.length);
  const width = 6;
  const number = (hex: string): bigint => {
    const bytes = Buffer.from(hex.slice(common, common + width * 2), 'hex');
    let value = 0n;
    for (let i = 0; i < width; i++) value = value * base + digitOf(bytes[i], byBytes);
    return value;
  };
  const from = number(low);
  const to = number(high);
  if (to <= from) return undefined;
  let value = from + shareOf(to - from, share);
  const characters: number[] = [];
  for (let i = 0; i < width; i++) {
    const digit = Number(value % base);
    characters.unshift(byBytes ? digit + 32 : alphabet.charCodeAt(digit));
    value /= base;
  }
  return low.slice(0, common) + Buffer.from(characters).toString('hex').toUpperCase();
}

function digitOf(byte: number | undefined, byBytes: boolean): bigint {
  if (byte === undefined) return 0n;
  if (byBytes) return BigInt(Math.min(94, Math.max(0, byte - 32)));
  const at = alphabet.indexOf(String.fromCharCode(byte).toLowerCase());
  return BigInt(at >= 0 ? at : byte < 0x80 ? 0 : alphabet.length - 1);
}

const commonLength = (a: string, b: string, step: number): number => {
  let at = 0;
  while (at < a.length && at < b.length && a.slice(at, at + step) === b.slice(at, at + step)) at += step;
  return at;
};

/** Back to where the character begins: a piece of one is no text. */
function characterStart(hex: string, at: number): number {
  let start = at;
  while (start > 0 && start < hex.length && (Number.parseInt(hex.slice(start, start + 2), 16) & 0xc0) === 0x80)
    start -= 2;
  return start;
}
