/** How the keys of a mirrored collection look, and why some cannot be compared. Pure. */
import type { PlanColumn, Work } from '../../contract.ts';
import { mongoExtras } from '../extras.ts';
import { type KeyKind, type KeyShape, keyKinds } from '../key-texts.ts';
import { standsAlone } from './rows.ts';

/** The column in the way, when keys have no order another system knows. */
export type Shaped = { readonly shape: KeyShape } | { readonly refused: string };

export function keyShapeOf(work: Work): Shaped {
  const special = mongoExtras(work.source);
  if (special?.as === 'raw') {
    const kind = special.columns._id && keyKinds[special.columns._id.form];
    return kind ? { shape: { kinds: [kind] } } : { refused: '_id' };
  }
  const columns = work.key.flatMap((name) => work.columns.filter((column) => column.name === name));
  const kinds: KeyKind[] = [];
  for (const column of columns) {
    const kind = kindOf(column);
    if (!kind) return { refused: column.name };
    kinds.push(kind);
  }
  const [only] = columns;
  const alone = only !== undefined && columns.length === 1 && standsAlone(only);
  return { shape: { kinds, ...(alone ? {} : { fields: columns.map(({ name }) => name) }) } };
}

/** Of what is held as its exact text only texts are in the order of their values. */
function kindOf({ native, type }: PlanColumn): KeyKind | undefined {
  switch (native) {
    case 'int':
    case 'long':
    case 'decimal':
      return 'number';
    case 'double':
    case 'uuid':
    case 'bool':
      return native;
    case 'string':
      return type.kind === 'text' || type.kind === 'enum' ? 'string' : undefined;
    case 'date':
      return type.kind === 'date' ? 'day' : type.kind === 'timestamp' ? 'local' : 'instant';
    default:
      return undefined;
  }
}
