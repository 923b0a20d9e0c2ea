/** A document of a row over the one that is there: its fields take the places of those of the same names, others stay. */
import { behindName, sizeOf } from '../bson.ts';
import { Out } from './out.ts';

/** Undefined when all its fields are there with the same bytes. */
export function mergedInto(theirs: Buffer, mine: Buffer): Buffer | undefined {
  if (theirs.equals(mine)) return undefined;
  const fields = new Map<string, Buffer>();
  for (const { name, element } of elements(mine)) fields.set(name, element);
  const out = new Out(theirs.length + mine.length);
  const start = out.open();
  let changed = false;
  for (const { name, element } of elements(theirs)) {
    const own = fields.get(name);
    fields.delete(name);
    if (own && !own.equals(element)) changed = true;
    out.bytes(own ?? element);
  }
  if (!changed && fields.size === 0) return undefined;
  for (const element of fields.values()) out.bytes(element);
  out.close(start);
  return out.take();
}

function* elements(b: Buffer): Generator<{ name: string; element: Buffer }> {
  for (let p = 4; b[p] !== 0; ) {
    const value = behindName(b, p + 1);
    const end = value + sizeOf(b, b[p] as number, value);
    yield { name: b.toString('latin1', p + 1, value - 1), element: b.subarray(p, end) };
    p = end;
  }
}
