/** The two tables of MySQL's types: native → logical, and logical → native. Nothing else decides about types. */
import type { LogicalType } from '../types.ts';
import { literal } from './sql.ts';

/** A column's type as information_schema tells it. */
export type NativeType = {
  /** DATA_TYPE: `int`, `varchar`, `geometry` … */
  readonly name: string;
  /** COLUMN_TYPE: `int(5) unsigned zerofill`, `enum('a','b')` … */
  readonly spelled: string;
  /** CHARACTER_MAXIMUM_LENGTH: characters of text types, bytes of binary ones. */
  readonly length?: number;
  /** NUMERIC_PRECISION; of BIT its bits. */
  readonly precision?: number;
  readonly scale?: number;
  /** DATETIME_PRECISION. */
  readonly fraction?: number;
  /** MariaDB's JSON: LONGTEXT that is checked by json_valid(). */
  readonly json?: boolean;
};

type Kind =
  | 'bool'
  | 'int8'
  | 'int16'
  | 'int32'
  | 'int64'
  | 'uint64'
  | 'float32'
  | 'float64'
  | 'bytes'
  | 'uuid'
  | 'json';
const plain = (kind: Kind) => (): LogicalType => ({ kind });
const integer =
  (signed: Kind, unsigned: Kind) =>
  ({ spelled }: NativeType): LogicalType => ({ kind: /\bunsigned\b/.test(spelled) ? unsigned : signed });
const text = ({ json }: NativeType): LogicalType => (json ? { kind: 'json' } : { kind: 'text' });
const limited = ({ length }: NativeType): LogicalType => (length ? { kind: 'text', length } : { kind: 'text' });
const native = (): LogicalType => ({ kind: 'native' });
const moment =
  (kind: 'time' | 'timestamp' | 'timestamptz') =>
  ({ fraction }: NativeType): LogicalType => ({ kind, wide: true, precision: fraction ?? 0 });

/** By DATA_TYPE. A type not here is `native`: only its text form is known. */
const toLogical: Readonly<Record<string, (type: NativeType) => LogicalType>> = {
  tinyint: integer('int8', 'int16'), // TINYINT(1) too: it may hold 2
  smallint: integer('int16', 'int32'),
  mediumint: plain('int32'),
  int: integer('int32', 'int64'),
  integer: integer('int32', 'int64'),
  bigint: integer('int64', 'uint64'),
  year: plain('int16'),
  bit: ({ precision = 1 }) => ({
    kind:
      precision === 1
        ? 'bool'
        : precision < 16
          ? 'int16'
          : precision < 32
            ? 'int32'
            : precision < 64
              ? 'int64'
              : 'uint64',
  }),
  decimal: ({ precision = 10, scale = 0 }) => ({ kind: 'decimal', precision, scale }),
  numeric: ({ precision = 10, scale = 0 }) => ({ kind: 'decimal', precision, scale }),
  float: plain('float32'),
  double: plain('float64'),
  real: plain('float64'),
  char: limited,
  varchar: limited,
  tinytext: text,
  text,
  mediumtext: text,
  longtext: text,
  binary: plain('bytes'),
  varbinary: plain('bytes'),
  tinyblob: plain('bytes'),
  blob: plain('bytes'),
  mediumblob: plain('bytes'),
  longblob: plain('bytes'),
  vector: plain('bytes'),
  enum: ({ spelled }) => ({ kind: 'enum', values: labelsOf(spelled) }),
  set: () => ({ kind: 'text' }),
  json: plain('json'),
  uuid: plain('uuid'),
  inet4: () => ({ kind: 'text', length: 15 }),
  inet6: () => ({ kind: 'text', length: 45 }),
  date: () => ({ kind: 'date', wide: true }), // 0000-00-00, 2024-00-00
  time: moment('time'),
  datetime: moment('timestamp'),
  timestamp: moment('timestamptz'),
  geometry: native,
  point: native,
  linestring: native,
  polygon: native,
  multipoint: native,
  multilinestring: native,
  multipolygon: native,
  geomcollection: native,
  geometrycollection: native,
};

export const logical = (type: NativeType): LogicalType => (toLogical[type.name] ?? native)(type);

const geometries = new Set(Object.keys(toLogical).filter((name) => toLogical[name] === native));
export const isGeometry = (name: string): boolean => geometries.has(name);

/** The labels of `enum('a','it''s','back\\\\slash')`: quotes doubled, some characters escaped. */
function labelsOf(spelled: string): string[] {
  const inner = spelled.slice(spelled.indexOf('(') + 1, spelled.lastIndexOf(')'));
  return [...inner.matchAll(/'((?:[^'\\]|''|\\.)*)'/gs)].map((match) =>
    (match[1] as string).replace(/''|\\(.)/gs, (_, char?: string) =>
      char === undefined ? "'" : (escapes[char] ?? char),
    ),
  );
}

const escapes: Readonly<Record<string, string>> = { n: '\n', r: '\r', 0: '\0', Z: '\x1a', t: '\t', b: '\b' };

/**
 * Labels an ENUM can hold: MySQL cuts blanks at their ends, the empty one is its word for a wrong value, and a number that
 * is no label would be taken for the place of one.
 */
export const enumFits = (values: readonly string[]): boolean =>
  values.length > 0 &&
  values.length <= 3000 &&
  new Set(values).size === values.length &&
  !values.some((value) => /^\s*[-+.]?\d/.test(value)) &&
  values.every((value) => value !== '' && [...value].length <= 255 && !/ $/.test(value) && !value.includes('\0'));

/**
 * The type a column coming from another system gets here; its texts have the table's character set and collation.
 * Columns of MySQL keep their own spelling (`Column.native`) instead.
 */
export function nativeOf(type: LogicalType): string {
  switch (type.kind) {
    case 'bool':
      return 'tinyint(1)';
    case 'int8':
      return 'tinyint';
    case 'int16':
      return 'smallint';
    case 'int32':
      return 'int';
    case 'int64':
      return 'bigint';
    case 'uint64':
      return 'bigint unsigned';
    case 'float32':
      return 'float';
    case 'float64':
      return 'double';
    case 'decimal': {
      const { precision, scale = 0 } = type;
      return precision === undefined || precision > 65 || scale > 30 ? 'longtext' : `decimal(${precision},${scale})`;
    }
    case 'text':
      return type.length === undefined || type.length > 16_383 ? 'longtext' : `varchar(${type.length})`;
    case 'bytes':
      return 'longblob';
    case 'uuid':
      return 'char(36)';
    case 'date':
      return 'date';
    case 'time':
      return `time${fraction(type.precision)}`;
    case 'timestamp':
    case 'timestamptz':
      return `datetime${fraction(type.precision)}`;
    case 'enum':
      return enumFits(type.values) ? `enum(${type.values.map(literal).join(',')})` : 'longtext';
    case 'json':
    case 'timetz':
    case 'interval':
    case 'array':
    case 'native':
      return 'longtext';
  }
}

const fraction = (precision = 6): string => (precision === 0 ? '' : `(${Math.min(precision, 6)})`);
