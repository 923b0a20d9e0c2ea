/** How PostgreSQL holds the columns of a source table. Pure: what the server lacks is found by `refusals`. */
import type { Column, Fit, SystemName, Table } from '../../contract.ts';
import { nativeOf } from '../types.ts';

/** Their texts may hold NUL, which PostgreSQL's cannot. (A `files` table is what a plan adds itself.) */
const holdsNul: ReadonlySet<SystemName> = new Set(['mysql', 'mongodb']);

export const fitTable = (table: Table): Fit[] => table.columns.map((column) => fitOf(column, table.system));

function fitOf({ type, native }: Column, system: SystemName): Fit {
  if (system === 'postgres') return { fit: 'exact', shape: 'native', type, native };
  const held = { shape: 'native', type, native: nativeOf(type) } as const;
  switch (type.kind) {
    case 'native': {
      const text = { kind: 'text' } as const;
      return { fit: 'exact', shape: 'text', type: text, native: 'text', note: `${native} is written as text` };
    }
    case 'text':
      return { fit: holdsNul.has(system) ? 'checked' : 'exact', ...held };
    case 'time':
      if (!type.wide) return { fit: 'exact', ...held };
      return {
        fit: 'checked',
        ...held,
        note: `a time of day; \`on_misfit: text\` keeps what ${native} holds beyond it`,
      };
    case 'date':
    case 'timestamp':
    case 'timestamptz':
      // Dates that no calendar has (0000-00-00), or past the year 294276.
      return { fit: type.wide ? 'checked' : 'exact', ...held };
    default:
      return { fit: 'exact', ...held };
  }
}
