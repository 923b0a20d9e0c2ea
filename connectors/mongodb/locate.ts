/**
 * Where the wanted values lie in a document: one walk over its elements, nothing built. Fields mostly come in the order
 * they came in before, so the next name is guessed and compared before it is looked up.
 */
import { GodwitError } from '../../errors.ts';
import { behindName, bson, keyOfName, nameKey, nameOfKey, sizeOf } from './bson.ts';

/** A place per slot: the type, 0 when the document has no such field, and the offset of the value. */
export type Places = { readonly types: Uint8Array; readonly ats: Int32Array };

type Node = {
  readonly name: Uint8Array;
  /** -1: known, not wanted. */
  slot: number;
  children?: Level;
  /** The sibling that came behind it the last time. */
  next: Node | undefined;
};
type Level = { readonly byKey: Map<string, Node>; first: Node | undefined };

export type Known = { readonly path: readonly string[]; readonly slot: number };

export class Locator {
  readonly places: Places;
  readonly #root: Level = { byKey: new Map(), first: undefined };
  /** Only the key is looked for; whatever else the document has is part of the whole. */
  readonly open: boolean;

  constructor(known: readonly Known[], slots: number, open: boolean) {
    this.places = { types: new Uint8Array(slots), ats: new Int32Array(slots) };
    this.open = open;
    for (const { path, slot } of known) if (path.length > 0) this.#add(path, slot);
  }

  /** Throws FIELDS_CHANGED for a field that is not known, or a nested document that is something else. */
  locate(b: Buffer, at: number): void {
    this.places.types.fill(0);
    this.#walk(this.#root, b, at);
  }

  #add(path: readonly string[], slot: number): void {
    let level = this.#root;
    for (const [i, name] of path.entries()) {
      const key = keyOfName(name);
      let node = level.byKey.get(key);
      if (!node) {
        node = { name: Buffer.from(name, 'utf8'), slot: -1, next: undefined };
        level.byKey.set(key, node);
      }
      if (i === path.length - 1) node.slot = slot;
      else {
        node.children ??= { byKey: new Map(), first: undefined };
        level = node.children;
      }
    }
  }

  #walk(level: Level, b: Buffer, at: number): void {
    const { types, ats } = this.places;
    let before: Node | undefined;
    let p = at + 4;
    for (let type = b[p] as number; type !== 0; type = b[p] as number) {
      let node = before ? before.next : level.first;
      let value: number;
      if (node !== undefined && begins(b, p + 1, node.name)) {
        value = p + 2 + node.name.length;
        before = node;
      } else {
        value = behindName(b, p + 1);
        const key = nameKey(b, p + 1, value - 1);
        node = level.byKey.get(key);
        if (node) {
          if (before) before.next = node;
          else level.first = node;
          before = node;
        } else if (!this.open) throw fieldsChanged(nameOfKey(key), 'is not known to the plan');
      }
      if (node?.children) {
        if (type === bson.object) this.#walk(node.children, b, value);
        else if (type !== bson.null && type !== bson.undefined) {
          throw fieldsChanged(nameOfKey(nameKey(b, p + 1, value - 1)), 'is not always a document');
        }
      } else if (node && node.slot >= 0) {
        if (types[node.slot] !== 0) throw twice(nameOfKey(nameKey(b, p + 1, value - 1)));
        types[node.slot] = type;
        ats[node.slot] = value;
        if (this.open) return;
      }
      p = value + sizeOf(b, type, value);
    }
  }
}

/** Does this very name stand here, its NUL included? */
function begins(b: Buffer, at: number, name: Uint8Array): boolean {
  const length = name.length;
  for (let i = 0; i < length; i++) if (b[at + i] !== name[i]) return false;
  return b[at + length] === 0;
}

export const fieldsChanged = (field: string, what: string): GodwitError =>
  new GodwitError('FIELDS_CHANGED', `The field ${JSON.stringify(field.slice(0, 100))} ${what}.`, {
    column: field.slice(0, 100),
  });

const twice = (field: string): GodwitError =>
  new GodwitError(
    'VALUE_REFUSED',
    `A document has the field ${JSON.stringify(field.slice(0, 100))} twice; only as \`json\` or \`raw\` nothing of it is lost.`,
    { column: field.slice(0, 100) },
  );
