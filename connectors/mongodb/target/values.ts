/** One canonical value → BSON, by the type fit.ts gave its column. */

import type { Value } from '../../types.ts';
import { bson } from '../bson.ts';
import { setDecimal } from './decimal128.ts';
import { elementNative } from './fit.ts';
import { millisecondsOf } from './instant.ts';
import { jsonInto } from './json-in.ts';
import { type Out, setInt32, setSafeInt64 } from './out.ts';

/** A value that its column cannot hold. Never quotes it. */
export class Misfit extends Error {}

/** Writes a value that is not NULL and gives its BSON type. Throws Misfit. */
export type Put = (out: Out, value: Value) => number;

const misfit = (native: string): Misfit => new Misfit(`The value cannot be held as ${native}.`);

export function putOf(native: string): Put {
  if (native.startsWith('array<')) return putArray(putOf(elementNative(native)));
  const put = puts[native];
  if (!put) throw new Error(`There is no BSON type ${native}.`);
  return put;
}

const puts: Readonly<Record<string, Put>> = {
  bool(out, value) {
    out.byte(value === true ? 1 : 0);
    return bson.bool;
  },
  int(out, value) {
    if (typeof value !== 'number' || value !== (value | 0)) throw misfit('int');
    out.room(4);
    setInt32(out.b, out.at, value);
    out.at += 4;
    return bson.int;
  },
  long(out, value) {
    if (typeof value !== 'bigint' || BigInt.asIntN(64, value) !== value) throw misfit('long');
    out.int64(value);
    return bson.long;
  },
  double(out, value) {
    if (typeof value !== 'number') throw misfit('double');
    out.double(value);
    return bson.double;
  },
  decimal(out, value) {
    out.room(16);
    if (!setDecimal(out.b, out.at, typeof value === 'string' ? value : String(value))) throw misfit('decimal');
    out.at += 16;
    return bson.decimal;
  },
  string(out, value) {
    out.string(typeof value === 'string' ? value : String(value));
    return bson.string;
  },
  date(out, value) {
    const milliseconds = typeof value === 'string' ? millisecondsOf(value) : Number.NaN;
    if (!Number.isSafeInteger(milliseconds)) throw misfit('date (finite, of milliseconds)');
    out.room(8);
    setSafeInt64(out.b, out.at, milliseconds);
    out.at += 8;
    return bson.date;
  },
  uuid(out, value) {
    out.room(21);
    setInt32(out.b, out.at, 16);
    out.b[out.at + 4] = 4;
    if (typeof value !== 'string' || !hexInto(out.b, out.at + 5, value)) throw misfit('uuid');
    out.at += 21;
    return bson.binary;
  },
  binData(out, value) {
    if (!(value instanceof Uint8Array)) throw misfit('binData');
    return binary(out, value, 0);
  },
  object(out, value) {
    if (typeof value !== 'string') throw misfit('object');
    const type = jsonInto(out, value);
    if (type !== undefined) return type;
    out.string(value);
    return bson.string;
  },
};

function binary(out: Out, bytes: Uint8Array, subtype: number): number {
  out.int32(bytes.length);
  out.byte(subtype);
  out.bytes(bytes);
  return bson.binary;
}

/** The 16 bytes of a UUID's text. */
function hexInto(b: Buffer, start: number, text: string): boolean {
  let nibbles = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 45) continue;
    const nibble = code < 58 ? code - 48 : (code | 32) - 87;
    if (!(nibble >= 0 && nibble < 16) || nibbles === 32) return false;
    const at = start + (nibbles >> 1);
    b[at] = nibbles % 2 === 0 ? nibble << 4 : (b[at] as number) | nibble;
    nibbles++;
  }
  return nibbles === 32;
}

const putArray =
  (put: Put): Put =>
  (out, value) => {
    if (!Array.isArray(value)) throw misfit('array');
    const start = out.open();
    (value as readonly Value[]).forEach((element, i) => {
      const type = out.at;
      out.byte(bson.null);
      out.name(String(i));
      // Arrays of more dimensions are arrays in arrays.
      if (Array.isArray(element)) out.b[type] = putArray(put)(out, element);
      else if (element !== null) out.b[type] = put(out, element);
    });
    out.close(start);
    return bson.array;
  };
