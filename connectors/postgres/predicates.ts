/** The filters a mapping may push into the source (decision 20); where engines differ, nothing is pushed. */
import { GodwitError } from '../../errors.ts';
import type { Predicate, Table } from '../contract.ts';
import type { LogicalType } from '../types.ts';
import { postgresExtras } from './extras.ts';
import { ident, typed } from './sql.ts';

export function predicateCondition(table: Table, predicates: readonly Predicate[] = []): string | undefined {
  return predicates.map((predicate) => condition(table, predicate)).join(' AND ') || undefined;
}

function condition(table: Table, { column, op, values }: Predicate): string {
  const found = table.columns.find((one) => one.name === column);
  if (!found)
    throw new GodwitError('COLUMN_MISSING', `The filter names the column ${column}, which is not there.`, { column });
  const name = ident(column);
  if (op === 'is null') return `${name} IS NULL`;
  if (op === 'is not null') return `${name} IS NOT NULL`;
  const { left, type } = comparable(name, found.type, postgresExtras(table)?.columns[column]?.base ?? found.native);
  const literals = values.map((value) => typed(String(value), type));
  if (op === 'in') return literals.length === 0 ? 'false' : `${left} IN (${literals.join(', ')})`;
  if (literals[0] === undefined) {
    throw new GodwitError('MAPPING_INVALID', `The filter on ${column} has no value.`, { column });
  }
  return `${left} ${op} ${literals[0]}`;
}

/** Texts compare by their bytes, whatever the column's collation: equality included. */
const comparable = (name: string, type: LogicalType, native: string): { left: string; type: string } =>
  type.kind === 'text' || type.kind === 'enum'
    ? { left: `(${name}::text COLLATE "C")`, type: 'text' }
    : { left: name, type: native };
