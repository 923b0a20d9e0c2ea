/** Which formats carry a table's columns to another PostgreSQL without changing a byte (decision 19). */
import type { Format, Table, Target } from '../contract.ts';
import { postgresExtras } from './extras.ts';

/**
 * Binary only where every column's type is on the allow-list (user-types.ts); COPY text does for all others, since both
 * sessions have the same settings pinned.
 */
export function exactFormats(table: Table, columns: readonly string[], target: Target): readonly Format[] {
  const extras = postgresExtras(table);
  if (!extras || target.system !== 'postgres') return [];
  return columns.every((column) => extras.columns[column]?.binary) ? ['pg-binary', 'pg-text'] : ['pg-text'];
}
