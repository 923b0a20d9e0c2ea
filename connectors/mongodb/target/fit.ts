/**
 * The table of logical types: how a column of another system is held in documents. Its counterpart, from BSON's types to
 * logical ones, is ../types.ts. Pure.
 */
import type { Fit, Table } from '../../contract.ts';
import { type LogicalType, typeText } from '../../types.ts';
import { mongoExtras } from '../extras.ts';

/** BSON's own names (`$type`), of what a column becomes. An array's elements are named in brackets. */
type Native = 'bool' | 'int' | 'long' | 'double' | 'decimal' | 'string' | 'date' | 'uuid' | 'binData' | 'object';

const mostDigits = 34;

type Held = { readonly native: Native | `array<${string}>`; readonly checked?: boolean; readonly note?: string };

export function fitTable(table: Table): Fit[] {
  if (mongoExtras(table)?.as === 'raw') {
    return table.columns.map(({ type, native }) => ({ fit: 'exact', shape: 'native', type, native }));
  }
  return table.columns.map(({ type, native }): Fit => {
    if (type.kind === 'native') {
      const note = `${native} is written as text`;
      return { fit: 'exact', shape: 'text', type: { kind: 'text' }, native: 'string', note };
    }
    const { native: held, checked, note } = heldAs(type);
    return { fit: checked ? 'checked' : 'exact', shape: 'native', type, native: held, ...(note ? { note } : {}) };
  });
}

function heldAs(type: LogicalType): Held {
  switch (type.kind) {
    case 'bool':
      return { native: 'bool' };
    case 'int8':
    case 'int16':
    case 'int32':
      return { native: 'int' };
    case 'int64':
      return { native: 'long' };
    case 'uint64':
      return { native: 'decimal', note: 'an unsigned 64-bit number is past BSON’s long: written as Decimal128' };
    case 'float32':
    case 'float64':
      return { native: 'double' };
    case 'decimal': {
      const { precision } = type;
      if (precision !== undefined && precision <= mostDigits) return { native: 'decimal' };
      const what = precision === undefined ? 'decimal without precision' : typeText(type);
      return { native: 'string', note: `${what} may be past Decimal128's ${mostDigits} digits: written as text` };
    }
    case 'text':
    case 'enum':
    case 'time':
    case 'timetz':
    case 'interval':
    case 'native':
      return { native: 'string' };
    case 'uuid':
      return { native: 'uuid' };
    case 'bytes':
      return { native: 'binData' };
    case 'json':
      return {
        native: 'object',
        note: 'JSON becomes nested documents; a value they cannot hold exactly (a number of more than 34 digits, one name twice) stays text',
      };
    case 'date':
      return { native: 'date', checked: type.wide === true };
    case 'timestamp':
    case 'timestamptz': {
      const { precision = 6 } = type;
      if (precision > 3) return { native: 'string', note: 'BSON dates end at milliseconds: written as exact text' };
      const note = type.kind === 'timestamp' ? { note: 'a BSON date is an instant: read as UTC' } : {};
      return { native: 'date', checked: type.wide === true, ...note };
    }
    case 'array': {
      const of = heldAs(type.of);
      return { native: `array<${of.native}>`, checked: of.checked, note: of.note };
    }
  }
}

/** Of the elements of `array<…>`. */
export const elementNative = (native: string): string => native.slice('array<'.length, -1);
