/**
 * The SELECT list of a read: what each column looks like in the bytes.
 *
 * The dialects, for whoever reads the bytes:
 * - `pg-binary`, `pg-text`: COPY's own, as PostgreSQL documents them.
 * - `csv`: no header, delimiter `,`, quote and escape `"`, newline `\n`, UTF-8. NULL is an empty field without quotes; an
 *   empty text is `""`. Other fields are quoted only where needed. bool `t`/`f`; bytea is hex without `\x`; dates and
 *   times are ISO with a space (`2024-02-29 12:00:00.5+00`, always UTC); float `NaN`, `Infinity`; arrays, composites,
 *   ranges in their text form unless shaped as JSON.
 * - Guarded columns (`ReadColumn.guard`): with `stop` and `quarantine` a value outside of the range is passed as it is,
 *   `infinity`, `0044-03-15 BC`, `10000-01-01`, `NaN`: its form says what it is, and the reader of the bytes refuses it.
 *   (A CASE here would cost a tenth of the whole read.)
 */
import type { Format, Misfit, ReadColumn, Table } from '../contract.ts';
import type { LogicalType } from '../types.ts';
import { ident, typed } from './sql.ts';
import { nativeOf } from './types.ts';

export function selectList(table: Table, columns: readonly ReadColumn[], format: Format, version: number): string {
  const types = new Map(table.columns.map((column) => [column.name, column.type]));
  return columns
    .map((column) => expression(column, types.get(column.name) ?? { kind: 'native' }, format, version))
    .join(', ');
}

function expression(column: ReadColumn, type: LogicalType, format: Format, version: number): string {
  const name = ident(column.name);
  if (column.constant) return typed(column.constant.value, nativeOf(column.constant.type));
  if (column.shape === 'json') return type.kind === 'json' ? `${name}::text` : `to_jsonb(${name})::text`;
  // COPY's text and CSV are the type's own output, which the casts of inet, bool and char(n) to text are not.
  if (column.shape === 'text') return type.kind === 'text' || format !== 'pg-binary' ? name : `${name}::text`;
  if (column.guard) return guarded(name, type, column.guard.misfit, format, version);
  return plain(name, type, format);
}

const plain = (name: string, type: LogicalType, format: Format): string =>
  format === 'csv' && type.kind === 'bytes' ? `encode(${name}, 'hex')` : name;

function guarded(name: string, type: LogicalType, misfit: Misfit, format: Format, version: number): string {
  const range = rangeOf(type, version);
  if (!range) return plain(name, type, format);
  const fits = range.fits(name);
  switch (misfit) {
    case 'null':
      return `CASE WHEN ${fits} THEN ${name} END`;
    case 'clamp':
      // NaN has no nearest value: it becomes NULL.
      return range.low && range.high
        ? `CASE WHEN ${fits} THEN ${name} WHEN ${name} < ${range.low} THEN ${range.low} WHEN ${name} > ${range.high} THEN ${range.high} END`
        : `CASE WHEN ${fits} THEN ${name} END`;
    case 'text':
      return `${name}::text`;
    case 'stop':
    case 'quarantine':
      return name;
  }
}

type Range = {
  readonly fits: (name: string) => string;
  readonly low?: string;
  readonly high?: string;
};

/** Years 1 to 9999 and finite; finite for decimals. */
function rangeOf(type: LogicalType, version: number): Range | undefined {
  switch (type.kind) {
    case 'date':
      return between("'0001-01-01'::date", "'9999-12-31'::date");
    case 'timestamp':
      return between("'0001-01-01'::timestamp", `'9999-12-31 23:59:59${nines(type.precision)}'::timestamp`);
    case 'timestamptz':
      return between(
        "'0001-01-01 00:00:00+00'::timestamptz",
        `'9999-12-31 23:59:59${nines(type.precision)}+00'::timestamptz`,
      );
    case 'decimal':
      // NaN sorts above infinity; infinities exist since 14.
      return {
        fits: (name) =>
          version >= 14
            ? `(${name} > '-Infinity'::numeric AND ${name} < 'Infinity'::numeric)`
            : `${name} < 'NaN'::numeric`,
      };
    default:
      return undefined;
  }
}

const between = (low: string, high: string): Range => ({
  fits: (name) => `(${name} >= ${low} AND ${name} <= ${high})`,
  low,
  high,
});

const nines = (precision = 6): string => (precision === 0 ? '' : `.${'9'.repeat(precision)}`);
