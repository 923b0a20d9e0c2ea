/**
 * The table of BSON's types: what a field's values were seen to be → the column that holds all of them without loss.
 * Numbers widen; any other mixture becomes JSON. Nothing else decides about types.
 */
import type { FieldCast } from '../contract.ts';
import type { LogicalType } from '../types.ts';
import { binarySubtype, bson, isUuid, longIsSafe, longNumber } from './bson.ts';
import { firstOrdinary, lastOrdinary } from './dates.ts';

/** What values of a field were seen: bits, united with `|`. */
export const seen = {
  nothing: 1,
  bool: 2,
  int: 4,
  long: 8,
  /** A long that a double does not hold exactly. */
  bigLong: 16,
  double: 32,
  decimal: 64,
  string: 128,
  objectId: 256,
  date: 512,
  /** Outside of the years 1 to 9999. */
  farDate: 1024,
  uuid: 2048,
  bytes: 4096,
  /** Binary of a subtype other than 0: as a key, the same bytes in two subtypes are two keys. */
  otherBytes: 8192,
  object: 16_384,
  array: 32_768,
  other: 65_536,
} as const;

export function seenOf(b: Buffer, type: number, at: number): number {
  switch (type) {
    case bson.null:
    case bson.undefined:
      return seen.nothing;
    case bson.bool:
      return seen.bool;
    case bson.int:
      return seen.int;
    case bson.long:
      return longIsSafe(b, at) ? seen.long : seen.long | seen.bigLong;
    case bson.double:
      return seen.double;
    case bson.decimal:
      return seen.decimal;
    case bson.string:
      return seen.string;
    case bson.objectId:
      return seen.objectId;
    case bson.date:
      return isFar(b, at) ? seen.date | seen.farDate : seen.date;
    case bson.binary:
      if (isUuid(b, at)) return seen.uuid;
      return binarySubtype(b, at) === 0 ? seen.bytes : seen.bytes | seen.otherBytes;
    case bson.object:
      return seen.object;
    case bson.array:
      return seen.array;
    default:
      return seen.other;
  }
}

export const isFar = (b: Buffer, at: number): boolean => {
  const ms = longNumber(b, at);
  return ms < firstOrdinary || ms > lastOrdinary;
};

/**
 * How values become cells. `json`: extended JSON, plain. `exact json`: canonical, no two values alike: for keys of mixed
 * types and whole documents. `str` and the casts take any value.
 */
export type Form =
  | 'bool'
  | 'int'
  | 'long'
  | 'double'
  | 'decimal'
  | 'string'
  | 'objectId'
  | 'date'
  | 'uuid'
  | 'bytes'
  | 'json'
  | 'exact json'
  | 'str'
  | Exclude<`as ${FieldCast}`, 'as str' | 'as json'>;

export type Held = { readonly form: Form; readonly type: LogicalType; readonly native: string };

const held = (form: Form, type: LogicalType, native: string = form): Held => ({ form, type, native });

/** The column for what was seen. A field never seen with a value is text. */
export function heldAs(mask: number): Held {
  const kinds = mask & ~(seen.nothing | seen.bigLong | seen.farDate | seen.otherBytes);
  switch (kinds) {
    case 0:
    case seen.string:
      return held('string', { kind: 'text' });
    case seen.bool:
      return held('bool', { kind: 'bool' });
    case seen.int:
      return held('int', { kind: 'int32' });
    case seen.long:
    case seen.int | seen.long:
      return held('long', { kind: 'int64' });
    case seen.double:
    case seen.int | seen.double:
      return held('double', { kind: 'float64' });
    case seen.objectId:
      return held('objectId', { kind: 'text', length: 24 });
    case seen.date:
      return held('date', { kind: 'timestamptz', precision: 3, ...(mask & seen.farDate ? { wide: true } : {}) });
    case seen.uuid:
      return held('uuid', { kind: 'uuid' });
    case seen.bytes:
      return held('bytes', { kind: 'bytes' }, 'binData');
    case seen.array:
      return held('json', { kind: 'json' }, 'array');
    case seen.object:
      return held('json', { kind: 'json' }, 'object');
  }
  if ((kinds & ~numbers) !== 0) return held('json', { kind: 'json' }, 'mixed');
  // Long and double: exact in a double as long as no long is past 2^53.
  if ((kinds & seen.decimal) === 0 && (mask & seen.bigLong) === 0) return held('double', { kind: 'float64' });
  return held('decimal', { kind: 'decimal', nan: true });
}

const numbers = seen.int | seen.long | seen.double | seen.decimal;

/**
 * The key `_id`: as any field where that keeps different keys different; else canonical JSON in a text. (A double 0.1 and
 * a decimal 0.1 are two keys, and so are the same bytes in two binary subtypes.) A key is never NULL.
 */
export function keyHeldAs(mask: number): Held {
  const found = heldAs(mask & ~seen.nothing);
  const mixed =
    found.form === 'json' ||
    (mask & seen.nothing) !== 0 ||
    (mask & seen.otherBytes) !== 0 ||
    ((mask & seen.decimal) !== 0 && (mask & seen.double) !== 0);
  if (mixed) return held('exact json', { kind: 'text' }, 'mixed');
  // Nothing seen at all: what drivers make when nobody gives a key.
  return mask === 0 ? heldAs(seen.objectId) : found;
}

/** What a cast makes, by the mapping manual's words (`datetime`, `bool`, `int`, `float`) and Godwit's own. */
export function castAs(cast: FieldCast, mask: number): Held {
  switch (cast) {
    case 'datetime':
      return held('as datetime', { kind: 'timestamptz', ...(mask & seen.farDate ? { wide: true } : {}) });
    case 'bool':
      return held('as bool', { kind: 'bool' });
    case 'int':
      return held('as int', { kind: 'int64' });
    case 'float':
      return held('as float', { kind: 'float64' });
    case 'decimal':
      return held('as decimal', { kind: 'decimal', nan: true });
    case 'json':
      return held('json', { kind: 'json' }, 'as json');
    case 'str':
      return held('str', { kind: 'text' }, 'as str');
  }
}
