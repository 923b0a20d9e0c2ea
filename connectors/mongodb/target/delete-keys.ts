/** `{ q: { _id: { $in: [ … ] } }, limit: 0 }` from keys as they lie in an intent: each its type, then its value. `also`: a field must have this text. */
import { bson, sizeOf } from '../bson.ts';
import { Out } from './out.ts';

/** Of the keys from `at` on, at most so many, and at most half of what one statement may hold. */
export function deleteStatement(
  ids: Buffer,
  from: number,
  most: number,
  also?: { readonly name: string; readonly text: string },
): { statement: Buffer; next: number } {
  const out = new Out(4096);
  const open = (name: string, type: number): number => {
    out.byte(type);
    out.name(name);
    return out.open();
  };
  const statement = out.open();
  const query = open('q', bson.object);
  const id = open('_id', bson.object);
  const list = open('$in', bson.array);
  let at = from;
  for (let i = 0; i < most && at < ids.length && out.at < 8 * 1024 * 1024; i++) {
    const type = ids[at] as number;
    const size = sizeOf(ids, type, at + 1);
    out.byte(type);
    out.name(String(i));
    out.bytes(ids.subarray(at + 1, at + 1 + size));
    at += 1 + size;
  }
  out.close(list);
  out.close(id);
  if (also) {
    out.byte(bson.string);
    out.name(also.name);
    out.string(also.text);
  }
  out.close(query);
  out.byte(bson.int);
  out.name('limit');
  out.int32(0);
  out.close(statement);
  return { statement: out.take(), next: at };
}
