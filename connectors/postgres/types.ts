/** The two tables of PostgreSQL's types: native → logical, and logical → native. Nothing else decides about types. */
import type { LogicalType } from '../types.ts';

/** A column's type with domains resolved: what `pg_type` says about it. */
export type NativeType = {
  readonly schema: string;
  readonly name: string;
  /** The type modifier of the column or, for a domain, of the domain. -1 = none. */
  readonly typmod: number;
  /** b base, e enum, c composite, r range, m multirange, p pseudo. */
  readonly kind: string;
  /** Labels in order, of an enum. */
  readonly labels?: readonly string[];
  /** Element of an array. */
  readonly element?: NativeType;
};

const plain =
  (kind: 'bool' | 'int16' | 'int32' | 'int64' | 'float32' | 'float64' | 'bytes' | 'uuid' | 'json' | 'interval') =>
  (): LogicalType => ({ kind });
const native = (): LogicalType => ({ kind: 'native' });
const text = (): LogicalType => ({ kind: 'text' });
const limited = (typmod: number): LogicalType => (typmod < 4 ? { kind: 'text' } : { kind: 'text', length: typmod - 4 });
const seconds = (typmod: number): { precision?: number } => (typmod < 0 ? {} : { precision: typmod });

/** Of `pg_catalog`, by `typname`. A type not here is `native`: only its text form is known. */
const toLogical: Readonly<Record<string, (typmod: number) => LogicalType>> = {
  bool: plain('bool'),
  int2: plain('int16'),
  int4: plain('int32'),
  int8: plain('int64'),
  oid: plain('int64'),
  float4: plain('float32'),
  float8: plain('float64'),
  numeric: decimal,
  text,
  varchar: limited,
  bpchar: limited,
  char: text,
  name: text,
  xml: text,
  bytea: plain('bytes'),
  uuid: plain('uuid'),
  json: plain('json'),
  jsonb: plain('json'),
  interval: plain('interval'),
  date: () => ({ kind: 'date', wide: true }),
  time: (typmod) => ({ kind: 'time', ...seconds(typmod) }),
  timetz: (typmod) => ({ kind: 'timetz', ...seconds(typmod) }),
  timestamp: (typmod) => ({ kind: 'timestamp', wide: true, ...seconds(typmod) }),
  timestamptz: (typmod) => ({ kind: 'timestamptz', wide: true, ...seconds(typmod) }),
  money: native,
  bit: native,
  varbit: native,
  inet: native,
  cidr: native,
  macaddr: native,
  macaddr8: native,
  tsvector: native,
  tsquery: native,
  jsonpath: native,
  point: native,
  line: native,
  lseg: native,
  box: native,
  path: native,
  polygon: native,
  circle: native,
};

/** Extension types that are texts in another coat. */
const textLike = new Set(['citext']);

export function logical(type: NativeType): LogicalType {
  if (type.kind === 'e') return { kind: 'enum', values: type.labels ?? [] };
  if (type.element) return { kind: 'array', of: logical(type.element) };
  if (type.kind !== 'b') return native();
  if (type.schema === 'pg_catalog') return (toLogical[type.name] ?? native)(type.typmod);
  return textLike.has(type.name) ? text() : native();
}

/**
 * A numeric's modifier holds precision and, in 11 bits with sign, scale (since 15 it may be negative, or above the
 * precision). Both are told as the smallest ordinary decimal that holds all its values. Every numeric may hold NaN.
 */
function decimal(typmod: number): LogicalType {
  if (typmod < 4) return { kind: 'decimal', nan: true };
  const packed = typmod - 4;
  const precision = (packed >> 16) & 0xffff;
  const scale = ((packed & 0x7ff) ^ 1024) - 1024;
  if (scale < 0) return { kind: 'decimal', precision: precision - scale, scale: 0, nan: true };
  return { kind: 'decimal', precision: Math.max(precision, scale), scale, nan: true };
}

/**
 * The type a column coming from another system gets here. Columns of PostgreSQL keep their own spelling
 * (`Column.native`) instead.
 */
export function nativeOf(type: LogicalType): string {
  switch (type.kind) {
    case 'bool':
      return 'boolean';
    case 'int8':
    case 'int16':
      return 'smallint';
    case 'int32':
      return 'integer';
    case 'int64':
      return 'bigint';
    case 'uint64':
      return 'numeric(20,0)';
    case 'float32':
      return 'real';
    case 'float64':
      return 'double precision';
    case 'decimal':
      return type.precision === undefined || type.precision > 1000
        ? 'numeric'
        : `numeric(${type.precision},${type.scale ?? 0})`;
    case 'text':
      return type.length === undefined || type.length > 10_485_760 ? 'text' : `character varying(${type.length})`;
    case 'bytes':
      return 'bytea';
    case 'json':
      // jsonb drops all but the last of two equal names and the order of names, and refuses \u0000.
      return 'json';
    case 'uuid':
    case 'interval':
    case 'date':
      return type.kind;
    case 'time':
      return `time${fraction(type.precision)} without time zone`;
    case 'timetz':
      return `time${fraction(type.precision)} with time zone`;
    case 'timestamp':
      return `timestamp${fraction(type.precision)} without time zone`;
    case 'timestamptz':
      return `timestamp${fraction(type.precision)} with time zone`;
    case 'enum':
    case 'native':
      return 'text';
    case 'array':
      // An array of arrays has the type of its innermost element's array.
      return type.of.kind === 'array' ? nativeOf(type.of) : `${nativeOf(type.of)}[]`;
  }
}

const fraction = (precision: number | undefined): string =>
  precision === undefined ? '' : `(${Math.min(precision, 6)})`;
