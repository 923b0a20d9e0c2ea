/** Which formats carry a table's documents to another MongoDB without changing a byte. */
import type { Format, Table, Target } from '../contract.ts';
import { mongoExtras } from './extras.ts';

/** Whole documents only: of shape `raw`, with no column left out. */
export function exactFormats(table: Table, columns: readonly string[], target: Target): readonly Format[] {
  const all = table.columns.every(({ name }) => columns.includes(name));
  return mongoExtras(table)?.as === 'raw' && all && target.system === 'mongodb' ? ['bson'] : [];
}
