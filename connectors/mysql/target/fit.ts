/** How MySQL holds the columns of a source table. Pure: what the server lacks is found by `refusals`. */
import type { Column, Fit, Table } from '../../contract.ts';
import type { LogicalType } from '../../types.ts';
import { enumFits, nativeOf } from '../types.ts';

/** Bytes of an index key in InnoDB (DYNAMIC), less those of a dumping table's snapshot date. */
const keyBytes = 3072 - 8;
/** Characters of a key column are at most four bytes. */
const charBytes = 4;
const longestKeyText = 750;
/** Bytes of a row without its long texts, in every engine. */
const rowBytes = 65_535;

export function fitTable(table: Table): Fit[] {
  if (table.system === 'mysql') {
    return table.columns.map(({ type, native }): Fit => ({ fit: 'exact', shape: 'native', type, native }));
  }
  const share = keyShare(table);
  const fits = table.columns.map((column) =>
    table.key.includes(column.name) ? keyFit(column, share) : fitColumn(column),
  );
  return withinRow(fits);
}

function fitColumn({ type, native: spelled }: Column): Fit {
  const native = nativeOf(type);
  const exact = (note?: string): Fit => ({ fit: 'exact', shape: 'native', type, native, ...(note ? { note } : {}) });
  const text = (note: string): Fit => ({
    fit: 'exact',
    shape: 'text',
    type: { kind: 'text' },
    native: 'longtext',
    note,
  });
  const checked = (note?: string): Fit => ({
    fit: 'checked',
    shape: 'native',
    type,
    native,
    ...(note ? { note } : {}),
  });
  switch (type.kind) {
    case 'native':
    case 'interval':
    case 'timetz':
      return text(`${spelled} is written as text`);
    case 'array':
      return {
        fit: 'exact',
        shape: 'json',
        type: { kind: 'json' },
        native,
        note: `${spelled} is written as JSON text`,
      };
    case 'json':
      return exact("JSON is held as text: MySQL's own type would round its numbers and order its keys anew");
    case 'enum':
      return enumFits(type.values) ? exact() : text('the labels are not possible in an ENUM of MySQL: written as text');
    case 'decimal':
      if (native !== 'longtext') return type.nan ? checked() : exact();
      return text(`${spelled} has no fixed precision that MySQL's DECIMAL(65,30) could hold: written as text`);
    case 'float32':
    case 'float64':
      return checked();
    case 'date':
      return type.wide ? checked() : exact();
    case 'time':
      if (finer(type)) return text('finer than a microsecond: written as text');
      return type.wide ? checked() : exact();
    case 'timestamp':
    case 'timestamptz': {
      if (finer(type)) return text('finer than a microsecond: written as text');
      const note = type.kind === 'timestamptz' ? 'held as DATETIME in UTC' : undefined;
      return type.wide ? checked(note) : exact(note);
    }
    default:
      return exact();
  }
}

const finer = ({ precision }: { readonly precision?: number }): boolean => precision !== undefined && precision > 6;

// ── Keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What cannot be indexed whole becomes VARCHAR or VARBINARY, its length checked while it moves. */
function keyFit(column: Column, share: number): Fit {
  const fit = fitColumn(column);
  if (fit.fit === 'refused' || !unbounded(fit)) return fit;
  if (fit.native === 'longblob') {
    const native = `varbinary(${share})`;
    return { ...fit, fit: 'checked', native, note: `part of the key: ${native}, a longer value is refused` };
  }
  const chars = Math.min(longestKeyText, Math.floor(share / charBytes));
  const length = lengthOf(fit);
  if (length !== undefined && length <= chars) return { ...fit, native: `varchar(${length})` };
  const native = `varchar(${chars})`;
  const note = [fit.note, `part of the key: ${native}, a longer value is refused`].filter(Boolean).join('; ');
  return { ...fit, fit: 'checked', native, note };
}

const unbounded = ({ native }: { readonly native: string }): boolean => /^(longtext|longblob|varchar)/.test(native);
const lengthOf = ({ type, native }: { readonly type: LogicalType; readonly native: string }): number | undefined =>
  type.kind === 'text' && native.startsWith('varchar') ? type.length : undefined;

/** Bytes for each column of the key that is too long to be taken whole. */
function keyShare(table: Table): number {
  const columns = table.columns.filter((column) => table.key.includes(column.name));
  const fits = columns.map(fitColumn).filter((fit) => fit.fit !== 'refused');
  let left = keyBytes - fits.filter((fit) => !unbounded(fit)).reduce((sum, fit) => sum + sizeOf(fit.native), 0);
  const wanted = fits
    .filter(unbounded)
    .map((fit) => (lengthOf(fit) ?? Number.POSITIVE_INFINITY) * charBytes)
    .sort((a, b) => a - b);
  // Short texts leave to the long ones what they do not need.
  for (const [i, bytes] of wanted.entries()) {
    const share = Math.floor(left / (wanted.length - i));
    if (bytes > share) return Math.max(charBytes, share);
    left -= bytes;
  }
  return keyBytes;
}

// ── Rows ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The longest VARCHARs become LONGTEXT until a row is possible. */
function withinRow(fits: Fit[]): Fit[] {
  const result = [...fits];
  for (;;) {
    const sizes = result.map((fit) => (fit.fit === 'refused' ? 0 : sizeOf(fit.native)));
    if (sizes.reduce((sum, size) => sum + size, 0) + result.length / 8 + 8 <= rowBytes) return result;
    const longest = Math.max(...result.map((fit, i) => (plainVarchar(fit) ? (sizes[i] ?? 0) : 0)));
    const at = result.findIndex((fit, i) => plainVarchar(fit) && sizes[i] === longest);
    const fit = result[at];
    // A key of many long texts: `refusals` says so.
    if (!fit || fit.fit === 'refused' || longest <= sizeOf('longtext')) return result;
    result[at] = { ...fit, native: 'longtext' };
  }
}

const plainVarchar = (fit: Fit): boolean =>
  fit.fit === 'exact' && fit.type.kind === 'text' && fit.native.startsWith('varchar');

/** Bytes of a value in a row, of the types given to other systems' columns. */
export function sizeOf(native: string): number {
  const [, word = '', first = '0', second = '0'] = /^([a-z]+)(?:\((\d+)(?:,(\d+))?\))?/.exec(native) ?? [];
  const n = Number(first);
  switch (word) {
    case 'tinyint':
      return 1;
    case 'smallint':
      return 2;
    case 'int':
    case 'float':
      return 4;
    case 'bigint':
    case 'double':
    case 'datetime':
      return 8;
    case 'date':
      return 3;
    case 'time':
      return 6;
    case 'enum':
      return 2;
    case 'decimal':
      return Math.ceil((n - Number(second)) / 9) * 4 + Math.ceil(Number(second) / 9) * 4;
    case 'char':
      return n; // ascii
    case 'varchar':
      return n * charBytes + 2;
    case 'varbinary':
      return n + 2;
    default:
      return 12;
  }
}
