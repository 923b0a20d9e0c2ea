/**
 * BSON as it lies in the bytes (bsonspec.org): elements are walked over, nothing is built. A value is a place: its type
 * and the offset behind its name.
 */
import { GodwitError } from '../../errors.ts';

/** Element types, by the number in front of the name. */
export const bson = {
  double: 0x01,
  string: 0x02,
  object: 0x03,
  array: 0x04,
  binary: 0x05,
  undefined: 0x06,
  objectId: 0x07,
  bool: 0x08,
  date: 0x09,
  null: 0x0a,
  regex: 0x0b,
  dbPointer: 0x0c,
  code: 0x0d,
  symbol: 0x0e,
  codeWithScope: 0x0f,
  int: 0x10,
  timestamp: 0x11,
  long: 0x12,
  decimal: 0x13,
  maxKey: 0x7f,
  minKey: 0xff,
} as const;

export const int32 = (b: Uint8Array, at: number): number =>
  (b[at] as number) | ((b[at + 1] as number) << 8) | ((b[at + 2] as number) << 16) | ((b[at + 3] as number) << 24);

/** How many bytes a value takes. Throws when the bytes are no BSON. */
export function sizeOf(b: Uint8Array, type: number, at: number): number {
  switch (type) {
    case bson.int:
      return 4;
    case bson.double:
    case bson.date:
    case bson.timestamp:
    case bson.long:
      return 8;
    case bson.string:
    case bson.code:
    case bson.symbol:
      return 4 + int32(b, at);
    case bson.object:
    case bson.array:
    case bson.codeWithScope:
      return int32(b, at);
    case bson.objectId:
      return 12;
    case bson.bool:
      return 1;
    case bson.null:
    case bson.undefined:
    case bson.minKey:
    case bson.maxKey:
      return 0;
    case bson.binary:
      return 5 + int32(b, at);
    case bson.decimal:
      return 16;
    case bson.regex:
      return behindName(b, behindName(b, at)) - at;
    case bson.dbPointer:
      return 4 + int32(b, at) + 12;
    default:
      throw new GodwitError('VALUE_REFUSED', `A document holds a value of the unknown BSON type ${type}.`);
  }
}

/** The offset behind the name (or other text ended by a NUL) that begins here. */
export function behindName(b: Uint8Array, at: number): number {
  let end = at;
  while (b[end] !== 0) end++;
  return end + 1;
}

/** A name as a key to look it up by: its bytes as Latin-1, exact whatever they are. `end` = the NUL. */
export const nameKey = (b: Buffer, at: number, end: number): string => b.toString('latin1', at, end);

export const keyOfName = (name: string): string => Buffer.from(name, 'utf8').toString('latin1');
export const nameOfKey = (key: string): string => Buffer.from(key, 'latin1').toString('utf8');

/** Bytes of a string value, without its NUL. */
export const stringStart = (at: number): number => at + 4;
export const stringEnd = (b: Uint8Array, at: number): number => at + 4 + int32(b, at) - 1;

/** The text in these bytes. Bytes that are not UTF-8 are an error, never a replacement character. */
export function utf8(b: Buffer, from: number, to: number): string {
  for (let i = from; i < to; i++) {
    if ((b[i] as number) >= 0x80) return wide(b, from, to);
  }
  return b.toString('latin1', from, to);
}

const fatal = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function wide(b: Buffer, from: number, to: number): string {
  try {
    return fatal.decode(b.subarray(from, to));
  } catch {
    throw notUtf8();
  }
}

export const notUtf8 = (): GodwitError => new GodwitError('VALUE_REFUSED', 'A text of the source is not UTF-8.');

const two32 = 2 ** 32;
/** Exact up to 2^53; beyond, `long` is. */
export const longNumber = (b: Uint8Array, at: number): number => int32(b, at + 4) * two32 + (int32(b, at) >>> 0);
export const long = (b: Buffer, at: number): bigint => b.readBigInt64LE(at);

/** Is the number `longNumber` gives the very one? */
export const longIsSafe = (b: Uint8Array, at: number): boolean => {
  const high = int32(b, at + 4);
  return high > -0x200000 && high < 0x200000;
};

/** Of a binary value: its length, its subtype and where its bytes begin. Subtype 2 has its length twice. */
export const binaryLength = (b: Uint8Array, at: number): number => (b[at + 4] === 2 ? int32(b, at + 5) : int32(b, at));
export const binarySubtype = (b: Uint8Array, at: number): number => b[at + 4] as number;
export const binaryStart = (b: Uint8Array, at: number): number => (b[at + 4] === 2 ? at + 9 : at + 5);

export const isUuid = (b: Uint8Array, at: number): boolean => b[at + 4] === 4 && int32(b, at) === 16;

export function uuidText(b: Buffer, at: number): string {
  const hex = b.toString('hex', at + 5, at + 21);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
