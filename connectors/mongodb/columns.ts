/** From the fields seen to the columns of a table, by the shape the mapping asks for. */
import { GodwitError } from '../../errors.ts';
import type { Column, DocumentShape, FieldCast, TableName } from '../contract.ts';
import { tableText } from '../contract.ts';
import type { MongoColumn, MongoExtras } from './extras.ts';
import { type Field, fieldNamed } from './observe.ts';
import { castAs, type Held, heldAs, keyHeldAs, seen } from './types.ts';

export type Shaped = { readonly columns: readonly Column[]; readonly special: MongoExtras['columns'] };

/** A nested document with more different fields than this is a map: its keys are data, and it stays one JSON column. */
const mostFields = 100;

type Draft = { readonly path: readonly string[]; readonly held: Held; readonly mask: number };

/** `unique`: `_id` is the key. Throws NAME_COLLISION, MAPPING_INVALID. */
export function shapeColumns(root: Field, shape: DocumentShape, table: TableName, unique: boolean): Shaped {
  refuseKeyCast(shape, table);
  const drafts = draftsOf(root, shape, unique);
  const columns: Column[] = [];
  const special: [string, MongoColumn][] = [];
  const paths = new Map<string, Draft>();
  for (const draft of drafts) {
    const name = columnName(draft.path);
    const key = name.toLowerCase();
    const other = paths.get(key);
    if (other) throw collision(table, other.path, draft.path);
    paths.set(key, draft);
    const isKey = unique && draft.path.length === 1 && draft.path[0] === '_id';
    const { type, native, form } = draft.held;
    columns.push({ name, type, native, nullable: !isKey && draft.path.length > 0 && form !== 'as int' });
    special.push([name, { path: draft.path, form, ...('wide' in type && type.wide ? { wide: true } : {}) }]);
  }
  return { columns, special: Object.fromEntries(special) };
}

const columnName = (path: readonly string[]): string => (path.length === 0 ? 'document' : path.join('_') || '_');

function draftsOf(root: Field, shape: DocumentShape, unique: boolean): Draft[] {
  const id = fieldNamed(root, '_id');
  const mask = id?.mask ?? 0;
  const key: Draft = { path: ['_id'], mask, held: unique ? keyHeldAs(mask) : heldAs(mask) };
  if (shape.as === 'json' || shape.as === 'raw') {
    const document: Draft = {
      path: [],
      mask: 0,
      held: { form: 'exact json', type: { kind: 'json' }, native: 'document' },
    };
    return id || unique ? [key, document] : [document];
  }
  const drafts: Draft[] = id || unique ? [unique ? textKey(key, shape) : key] : [];
  for (const field of root.children.values()) {
    if (field.name === '_id') continue;
    if (shape.as === 'fields') drafts.push(stringified(field, shape.casts));
    else flatten(field, [field.name], shape.casts, drafts);
  }
  // A field the mapping names is a column even where no document was seen to have it.
  const known = new Set(drafts.map(({ path }) => columnName(path)));
  for (const [name, cast] of Object.entries(shape.casts)) {
    if (!known.has(name)) drafts.push({ path: [name], mask: 0, held: castAs(cast, 0) });
  }
  return drafts;
}

/** The manual's rule: a field is a text unless the mapping names its type. */
function stringified(field: Field, casts: DocumentShape['casts']): Draft {
  return { path: [field.name], mask: field.mask, held: castAs(castOf(casts, field.name) ?? 'str', field.mask) };
}

/** As a text, too, the key keeps different keys different. */
function textKey(key: Draft, { as }: DocumentShape): Draft {
  if (as !== 'fields' || key.held.form === 'exact json') return key;
  return {
    ...key,
    held: { form: key.held.form === 'string' ? 'string' : 'str', type: { kind: 'text' }, native: 'as str' },
  };
}

function flatten(field: Field, path: readonly string[], casts: DocumentShape['casts'], drafts: Draft[]): void {
  const cast = castOf(casts, columnName(path));
  const nested = (field.mask & ~seen.nothing) === seen.object && field.children.size > 0;
  if (cast !== undefined || !nested || field.children.size > mostFields) {
    drafts.push({ path, mask: field.mask, held: cast === undefined ? heldAs(field.mask) : castAs(cast, field.mask) });
    return;
  }
  for (const child of field.children.values()) flatten(child, [...path, child.name], casts, drafts);
}

const castOf = (casts: DocumentShape['casts'], name: string): FieldCast | undefined =>
  Object.hasOwn(casts, name) ? casts[name] : undefined;

function refuseKeyCast({ as, casts }: DocumentShape, table: TableName): void {
  const cast = castOf(casts, '_id');
  if (cast === undefined || (cast === 'str' && as === 'fields')) return;
  throw new GodwitError(
    'MAPPING_INVALID',
    `${tableText(table)}: \`_id\` is the key and keeps its own type; a cast to ${cast} could make two keys one.`,
    { table: tableText(table), column: '_id' },
  );
}

/** Letter case counts as the same name: most targets, and every file read by SQL, take it so. */
function collision(table: TableName, one: readonly string[], two: readonly string[]): GodwitError {
  const shown = (path: readonly string[]) => JSON.stringify(path.join(' → '));
  const name = tableText(table);
  return new GodwitError(
    'NAME_COLLISION',
    `${name}: the fields ${shown(one)} and ${shown(two)} would be one column "${columnName(two)}". Rename one at the source, or move the documents as \`json\`.`,
    { table: name, column: columnName(two) },
  );
}
