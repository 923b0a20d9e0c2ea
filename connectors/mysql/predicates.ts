/** The filters a mapping may push into the source (decision 20); where engines differ, nothing is pushed. */
import { GodwitError } from '../../errors.ts';
import type { Predicate, Table } from '../contract.ts';
import type { LogicalType } from '../types.ts';
import { ident, literal } from './sql.ts';

export function predicateCondition(table: Table, predicates: readonly Predicate[] = []): string | undefined {
  return predicates.map((predicate) => `(${condition(table, predicate)})`).join(' AND ') || undefined;
}

function condition(table: Table, { column, op, values }: Predicate): string {
  const found = table.columns.find((one) => one.name === column);
  if (!found) {
    throw new GodwitError('COLUMN_MISSING', `The filter names the column ${column}, which is not there.`, { column });
  }
  const name = ident(column);
  if (op === 'is null') return `${name} IS NULL`;
  if (op === 'is not null') return `${name} IS NOT NULL`;
  const literals = values.map((value) => valueLiteral(found.type, value));
  const left = isText(found.type) ? `CAST(CONVERT(${name} USING utf8mb4) AS BINARY)` : name;
  if (op === 'in') return literals.length === 0 ? 'FALSE' : `${left} IN (${literals.join(', ')})`;
  if (literals[0] === undefined) {
    throw new GodwitError('MAPPING_INVALID', `The filter on ${column} has no value.`, { column });
  }
  return `${left} ${op} ${literals[0]}`;
}

/** Texts compare by their bytes, whatever the column's collation: equality included. */
const isText = ({ kind }: LogicalType): boolean => kind === 'text' || kind === 'enum';

function valueLiteral(type: LogicalType, value: string | number | boolean): string {
  const text = String(value);
  switch (type.kind) {
    case 'bool':
      return /^(true|t|1)$/i.test(text) ? '1' : '0';
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
    case 'uint64':
    case 'decimal':
    case 'float32':
    case 'float64':
      if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return text;
      throw new GodwitError('MAPPING_INVALID', 'A filter compares a number with what is none.');
    case 'timestamp':
    case 'timestamptz':
      // The session's zone is UTC, and so is every text here.
      return literal(text.replace('T', ' ').replace(/(Z|\+00(:?00)?)$/, ''));
    case 'bytes':
      return /^\\x([0-9a-f]{2})*$/i.test(text) ? `X'${text.slice(2)}'` : literal(text);
    case 'text':
    case 'enum':
      return `CAST(${literal(text)} AS BINARY)`;
    default:
      return literal(text);
  }
}
