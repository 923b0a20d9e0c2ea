/**
 * Columns whose values are compared from outside: bookmarks, keys, and keys of a sweep (`Range`, `Watermark`, `KeyBatch` of the
 * contract). One canonical text, one order and one literal per type, at the source and at the target alike.
 */
import { GodwitError } from '../../errors.ts';
import { type Table, tableText } from '../contract.ts';
import { type LogicalType, typeText } from '../types.ts';
import { mysqlExtras } from './extras.ts';
import { ident, literal } from './sql.ts';

export type OrderedColumn = {
  readonly name: string;
  /** What its canonical text is of; at a target the plan's type, which the source has too. */
  readonly type: LogicalType;
  /** COLUMN_TYPE: `varchar(20)`, `bigint unsigned zerofill`. */
  readonly spelled: string;
  readonly charset?: string | undefined;
  readonly collation?: string | undefined;
};

export type Ordered = {
  readonly name: string;
  /** What is asked of the server: its text, or of bytes the bytes. */
  readonly sql: string;
  readonly bytes?: boolean;
  /** The server's text to the canonical one, times with six digits of fraction; absent: it is that. */
  readonly canonical?: (text: string) => string;
  /** The expression that orders and compares as the contract says. */
  readonly order: string;
  /** That is the column itself: an index of it serves. */
  readonly natural: boolean;
  /** A canonical text as what `order` is compared with. */
  readonly literal: (text: string) => string;
  /** The same text for equal values of any two servers, in the server. */
  readonly digested: string;
};

/** Throws COLUMN_MISSING, and TYPE_REFUSED for what has no order that anybody could follow. */
export function orderedOf(table: Table, column: string): Ordered {
  const found = table.columns.find((one) => one.name === column);
  const special = mysqlExtras(table)?.columns[column];
  if (!found || !special) {
    const message = `${tableText(table.name)} has no column ${column}.`;
    throw new GodwitError('COLUMN_MISSING', message, { table: tableText(table.name), column });
  }
  const { spelled, charset, collation } = special;
  return ordered({ name: column, type: found.type, spelled, charset, collation });
}

export function ordered(column: OrderedColumn): Ordered {
  const { name, type, spelled } = column;
  const sql = ident(name);
  const itself = { name, sql, order: sql, natural: true, digested: sql };
  switch (type.kind) {
    case 'bool':
      // A BIT(1), or TINYINT(1).
      return {
        ...itself,
        sql: `ELT(${sql} + 1, 'false', 'true')`,
        literal: (text) => (text === 'true' ? '1' : '0'),
        digested: `${sql} + 0`,
      };
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
    case 'uint64': {
      const printed = /^(bit|year)\b|zerofill/i.test(spelled) ? `${sql} + 0` : sql;
      return { ...itself, sql: printed, literal: digits, digested: printed };
    }
    case 'decimal': {
      const printed = /zerofill/i.test(spelled) ? `${sql} + 0` : sql;
      return { ...itself, sql: printed, canonical: withoutZeros, literal: digits, digested: printed };
    }
    case 'float32':
    case 'float64': {
      const single = type.kind === 'float32';
      const double = `${sql} * 1e0`;
      return {
        ...itself,
        sql: double,
        canonical: (text) => plainNumber(text, single),
        literal: (text) => doubleOf(text, single),
        digested: double,
      };
    }
    case 'date':
      return { ...itself, literal: (text) => literal(moment(text).slice(0, 10)) };
    case 'timestamp':
    case 'timestamptz': {
      const zone = type.kind === 'timestamptz' ? 'Z' : '';
      const canonical = (text: string) => `${sixDigits(`${text.slice(0, 10)}T${text.slice(11)}`)}${zone}`;
      return { ...itself, canonical, literal: (text) => literal(moment(text)) };
    }
    case 'time':
      // More than a day and less than none: its text has another order than it has.
      return {
        ...itself,
        canonical: sixDigits,
        order: bytesOf(`CAST(CAST(${sql} AS TIME(6)) AS CHAR)`),
        natural: false,
        literal: asBytes,
      };
    case 'bytes':
      return { ...itself, bytes: true, literal: hexadecimal, digested: `HEX(${sql})` };
    case 'uuid':
      // MariaDB's own orders some of them by their time.
      return /^uuid/i.test(spelled)
        ? { ...itself, order: bytesOf(`CAST(${sql} AS CHAR)`), natural: false, literal: asBytes }
        : { ...itself, literal };
    case 'text':
    case 'enum': {
      const printed = /^inet/i.test(spelled) ? `CAST(${sql} AS CHAR)` : sql;
      const text = `CONVERT(${printed} USING utf8mb4)`;
      if (byBytes(column)) return { ...itself, literal };
      return { ...itself, sql: printed, order: bytesOf(text), natural: false, literal: asBytes, digested: text };
    }
    default: {
      const message = `Column ${name} is ${typeText(type)}, which has no order that could be followed.`;
      throw new GodwitError('TYPE_REFUSED', message, { column: name });
    }
  }
}

/** Collations that order by the bytes of UTF-8, blanks at the end included. */
const byBytes = ({ spelled, charset, collation = '' }: OrderedColumn): boolean =>
  charset === 'utf8mb4' && /_(nopad|0900)_bin$/.test(collation) && /^(var)?char|text/i.test(spelled);

const bytesOf = (text: string): string => `CAST(${text} AS BINARY)`;
const asBytes = (text: string): string => bytesOf(literal(text));

const wrong = (): never => {
  throw new GodwitError('INTERNAL', 'A bound is none of its column.');
};

const digits = (text: string): string => (/^-?\d+(\.\d+)?$/.test(text) ? text : wrong());
const hexadecimal = (text: string): string => (/^\\x([0-9a-f]{2})*$/i.test(text) ? `X'${text.slice(2)}'` : wrong());

/** `1.50` and `1.5` are one key. */
const withoutZeros = (text: string): string => (text.includes('.') ? text.replace(/\.?0+$/, '') : text);

function sixDigits(text: string): string {
  const point = text.indexOf('.');
  return point < 0 ? `${text}.000000` : text.padEnd(point + 7, '0');
}

/** A double in plain notation; of one that stands for a single the shortest that reads back as it. */
function plainNumber(text: string, single: boolean): string {
  const value = Number(text);
  const shortest = single ? shortestSingle(value) : String(value);
  const [, sign = '', whole = '0', fraction = '', power] = /^(-?)(\d+)(?:\.(\d+))?e([+-]\d+)$/.exec(shortest) ?? [];
  if (power === undefined) return shortest;
  const shift = Number(power);
  if (shift < 0) return `${sign}0.${'0'.repeat(-shift - 1)}${whole}${fraction}`;
  return `${sign}${whole}${fraction.padEnd(shift, '0')}`;
}

function shortestSingle(value: number): string {
  for (let precision = 6; precision < 9; precision++) {
    const shorter = Number(value.toPrecision(precision));
    if (Math.fround(shorter) === value) return String(shorter);
  }
  return String(Number(value.toPrecision(9)));
}

function doubleOf(text: string, single: boolean): string {
  const value = Number(text);
  if (!Number.isFinite(value)) wrong();
  const exact = String(single ? Math.fround(value) : value);
  return exact.includes('e') ? exact : `${exact}e0`;
}

/** As MySQL reads it; its calendar ends where a canonical text begins to have a sign. */
function moment(text: string): string {
  if (text.startsWith('-')) return '0000-00-00 00:00:00';
  if (/^(\+|infinity)/.test(text)) return '9999-12-31 23:59:59.999999';
  if (!/^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?)?Z?$/.test(text)) wrong();
  return text.replace('T', ' ').replace(/Z$/, '');
}

/** The canonical text of a value as a query's own text. */
export const printed = ({ sql, bytes }: Ordered): string =>
  bytes ? `CONCAT('\\\\x', LOWER(HEX(${sql})))` : `CAST(${sql} AS CHAR)`;
export const canonicalText = ({ canonical }: Ordered, text: string): string => (canonical ? canonical(text) : text);

/** A value that says that there is none: NULL, and the zero of dates, which is that of a column without NULL. */
export function isNone(table: Table, column: string): string {
  const name = ident(column);
  const kind = table.columns.find((one) => one.name === column)?.type.kind;
  const zero =
    kind === 'date' ? '0000-00-00' : kind === 'timestamp' || kind === 'timestamptz' ? '0000-00-00 00:00:00' : undefined;
  return zero === undefined ? `${name} IS NULL` : `(${name} IS NULL OR ${name} = '${zero}')`;
}
