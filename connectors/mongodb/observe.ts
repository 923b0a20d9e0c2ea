/** What documents consist of: every field by its path, with the types its values were seen to have. */
import { behindName, bson, int32, keyOfName, nameKey, nameOfKey, sizeOf } from './bson.ts';
import { seen, seenOf } from './types.ts';

export type Field = {
  readonly name: string;
  mask: number;
  /** Of its nested documents. In the order met. */
  readonly children: Map<string, Field>;
};

export const newField = (name: string): Field => ({ name, mask: 0, children: new Map() });

/** `deep`: into nested documents too; arrays are values. */
export function observe(root: Field, b: Buffer, at: number, deep: boolean): void {
  const end = at + int32(b, at) - 1;
  let p = at + 4;
  while (p < end) {
    const type = b[p] as number;
    const value = behindName(b, p + 1);
    const key = nameKey(b, p + 1, value - 1);
    let field = root.children.get(key);
    if (!field) {
      field = newField(nameOfKey(key));
      root.children.set(key, field);
    }
    field.mask |= seenOf(b, type, value);
    if (deep && type === bson.object) observe(field, b, value, true);
    p = value + sizeOf(b, type, value);
  }
}

/** Only the key: for shapes that take documents whole. */
export function observeKey(root: Field, b: Buffer, at: number): void {
  const end = at + int32(b, at) - 1;
  let p = at + 4;
  while (p < end) {
    const type = b[p] as number;
    const value = behindName(b, p + 1);
    if (value - p === 5 && nameKey(b, p + 1, value - 1) === '_id') {
      const field = root.children.get('_id') ?? newField('_id');
      root.children.set('_id', field);
      field.mask |= seenOf(b, type, value);
      return;
    }
    p = value + sizeOf(b, type, value);
  }
  // A view may leave it out.
  const field = root.children.get('_id');
  if (field) field.mask |= seen.nothing;
}

export const fieldNamed = (root: Field, name: string): Field | undefined => root.children.get(keyOfName(name));
