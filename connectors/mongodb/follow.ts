/** The field an incremental table is followed by: where it lies, and which index leads with it. */
import { GodwitError } from '../../errors.ts';
import { type Table, tableText } from '../contract.ts';
import { numberOf } from './errors.ts';
import { columnNamed, mongoExtras } from './extras.ts';
import type { Session } from './session.ts';

/**
 * The field's name in a filter. Documents that move whole have their bookmark among fields that are no columns. Throws
 * TYPE_REFUSED for a name no filter can have.
 */
export function fieldOf(table: Table, column: string): string {
  const extras = mongoExtras(table);
  const path = (extras && columnNamed(extras, column)?.path) ?? [column];
  if (path.length > 0 && path.every((name) => !/^$|^\$|\.|^\d+$/.test(name))) return path.join('.');
  const name = tableText(table.name);
  const message = `${name}: the server cannot be asked for the field ${JSON.stringify(column)} (a dot, a dollar or a number in its name).`;
  throw new GodwitError('TYPE_REFUSED', message, { table: name, column });
}

/** Has the collection an index of all its documents that begins with the field? Where the login may not ask, no. */
export async function indexLeads(session: Session, table: Table, field: string): Promise<boolean> {
  if (mongoExtras(table)?.kind !== 'collection') return false;
  if (field === '_id') return true;
  try {
    const indexes = await session.db.collection(table.name.name).listIndexes().toArray();
    return indexes.some(({ key, sparse, hidden, partialFilterExpression }) => {
      const [[first, way] = []] = Object.entries((key ?? {}) as Record<string, unknown>);
      return first === field && typeof way === 'number' && !sparse && !hidden && !partialFilterExpression;
    });
  } catch (error) {
    if (numberOf(error) === undefined) throw error;
    return false;
  }
}
