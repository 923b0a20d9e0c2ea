/**
 * The one vocabulary of column types. Each connector maps native ↔ logical in its own `types.ts`: N maps, not N×M.
 *
 * Canonical JavaScript values (format `rows`):
 * bool → boolean · int8…int32 → number · int64, uint64 → bigint · decimal → string in plain notation, or `NaN`,
 * `Infinity`, `-Infinity` · float → number · text, enum, uuid, json, interval, native → string · bytes → Uint8Array ·
 * date `YYYY-MM-DD` (MySQL's partial ones `2024-00-00`, `0000-00-00`) · time `[-]H…H:MM:SS[.ffffff]` · timestamp `YYYY-MM-DDTHH:MM:SS[.ffffff]` · timestamptz the same with `Z`;
 * years past 9999 or before 1 in ISO 8601 expanded form (`+012345-…`, `-000043-…`: astronomical year), infinite dates
 * `infinity` and `-infinity` · array → array of canonical values · NULL → null, never undefined.
 */
export type LogicalType =
  | { readonly kind: 'bool' | 'int8' | 'int16' | 'int32' | 'int64' | 'uint64' | 'float32' | 'float64' }
  /** Without precision: unbounded. `nan`: the source may hold NaN or infinities. */
  | { readonly kind: 'decimal'; readonly precision?: number; readonly scale?: number; readonly nan?: boolean }
  | { readonly kind: 'text'; readonly length?: number }
  | { readonly kind: 'bytes' | 'uuid' | 'json' | 'interval' }
  /** `wide`: the source may hold infinities, BC or years past 9999. `precision`: fraction digits, 6 when absent. */
  | { readonly kind: 'date' | 'timestamp' | 'timestamptz'; readonly wide?: boolean; readonly precision?: number }
  /** `wide`: the source may hold more than a day, or less than none (MySQL). */
  | { readonly kind: 'time' | 'timetz'; readonly wide?: boolean; readonly precision?: number }
  | { readonly kind: 'enum'; readonly values: readonly string[] }
  | { readonly kind: 'array'; readonly of: LogicalType }
  /** A composite, range, geometry …: only the system's own text form is known. */
  | { readonly kind: 'native' };

export type LogicalKind = LogicalType['kind'];

export type Value = null | boolean | number | bigint | string | Uint8Array | readonly Value[];

/** One row, in the order of the columns asked for. */
export type Row = readonly Value[];

/** The type in words, for plans and messages: `decimal(12,2)`, `array of int32`. */
export function typeText(type: LogicalType): string {
  switch (type.kind) {
    case 'decimal':
      return type.precision === undefined ? 'decimal' : `decimal(${type.precision},${type.scale ?? 0})`;
    case 'text':
      return type.length === undefined ? 'text' : `text(${type.length})`;
    case 'array':
      return `array of ${typeText(type.of)}`;
    default:
      return type.kind;
  }
}
