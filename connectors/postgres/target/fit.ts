/** How PostgreSQL holds the columns of a source table. Pure: what the server lacks is found by `refusals`. */
import type { Fit, Table } from '../../contract.ts';
import { nativeOf } from '../types.ts';

export function fitTable(table: Table): Fit[] {
  return table.columns.map(({ type, native }): Fit => {
    if (table.system === 'postgres') return { fit: 'exact', shape: 'native', type, native };
    if (type.kind === 'native') {
      return {
        fit: 'exact',
        shape: 'text',
        type: { kind: 'text' },
        native: 'text',
        note: `${native} is written as text`,
      };
    }
    return { fit: 'exact', shape: 'native', type, native: nativeOf(type) };
  });
}
