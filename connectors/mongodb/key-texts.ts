/**
 * Keys as the sweep of a mirrored table compares them (`KeyBatch` of the contract): their canonical texts, and back. For the
 * source's `_id`, by the form of its column, and for the target's, by the types it was written with. Only types whose order
 * in an index of the server is that of their texts.
 */
import { BSON, type Document } from 'mongodb';
import {
  behindName,
  bson,
  int32,
  isUuid,
  long,
  longNumber,
  sizeOf,
  stringEnd,
  stringStart,
  utf8,
  uuidText,
} from './bson.ts';
import { microsText } from './dates.ts';
import { decimalPlain, doublePlain } from './decimal.ts';
import { type Form, isFar } from './types.ts';

/**
 * `number`: of any type, a fraction only as a decimal; `double`: bounds are doubles. `day`: a date at midnight, shown without
 * a time; `local`: an instant shown without a zone.
 */
export type KeyKind = 'number' | 'double' | 'string' | 'objectId' | 'uuid' | 'bool' | 'instant' | 'local' | 'day';

/** The value's canonical text, or undefined when it is not of that kind. */
export function keyText(kind: KeyKind, b: Buffer, type: number, at: number): string | undefined {
  switch (kind) {
    case 'number':
    case 'double':
      return numberText(b, type, at);
    case 'string':
      return type === bson.string ? utf8(b, stringStart(at), stringEnd(b, at)) : undefined;
    case 'objectId':
      return type === bson.objectId ? b.toString('hex', at, at + 12) : undefined;
    case 'uuid':
      return type === bson.binary && isUuid(b, at) ? uuidText(b, at) : undefined;
    case 'bool':
      return type === bson.bool ? String(b[at] !== 0) : undefined;
    case 'instant':
    case 'local':
    case 'day':
      return type === bson.date && !isFar(b, at) ? dateText(kind, longNumber(b, at)) : undefined;
  }
}

function numberText(b: Buffer, type: number, at: number): string | undefined {
  if (type === bson.int) return String(int32(b, at));
  if (type === bson.long) return long(b, at).toString();
  const text =
    type === bson.double ? doublePlain(b.readDoubleLE(at)) : type === bson.decimal ? decimalPlain(b, at) : undefined;
  return text !== undefined && /\d/.test(text) ? text : undefined;
}

/** Times with six digits of fraction. */
function dateText(kind: KeyKind, ms: number): string {
  const text = microsText(BigInt(ms) * 1000n);
  if (kind === 'day') return text.slice(0, 10);
  const [head = '', fraction = ''] = text.slice(0, -1).split('.');
  return `${head}.${fraction.padEnd(6, '0')}${kind === 'local' ? '' : 'Z'}`;
}

/** The value as the server compares it; undefined for a text that is none of that kind: nothing has such a key. */
export function keyValue(kind: KeyKind, text: string): unknown {
  switch (kind) {
    case 'number':
      if (!/^-?\d+(\.\d+)?$/.test(text)) return undefined;
      return numberValue(text);
    case 'double':
      return Number.isNaN(Number(text)) ? undefined : new BSON.Double(Number(text));
    case 'string':
      return text;
    case 'objectId':
      return /^[0-9a-f]{24}$/.test(text) ? new BSON.ObjectId(text) : undefined;
    case 'uuid':
      return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text) ? new BSON.UUID(text) : undefined;
    case 'bool':
      return text === 'true';
    case 'instant':
    case 'local':
    case 'day': {
      const whole = kind === 'day' ? `${text}T00:00:00Z` : kind === 'local' ? `${text}Z` : text;
      const ms = Date.parse(whole.replace(/(\.\d{3})\d*Z$/, '$1Z'));
      return Number.isNaN(ms) ? undefined : new Date(ms);
    }
  }
}

function numberValue(text: string): unknown {
  if (!text.includes('.')) {
    const whole = BigInt(text);
    if (whole < 2n ** 63n && whole >= -(2n ** 63n)) return BSON.Long.fromBigInt(whole);
  }
  return BSON.Decimal128.fromStringWithRounding(text);
}

/** By the form of the source's column; of other forms the order is another than that of texts. */
export const keyKinds: Partial<Record<Form, KeyKind>> = {
  int: 'number',
  long: 'number',
  double: 'double',
  decimal: 'number',
  string: 'string',
  objectId: 'objectId',
  uuid: 'uuid',
  date: 'instant',
  bool: 'bool',
};

/** Of one key of the target: a value, or a document of several in the key's order. */
export type KeyShape = { readonly kinds: readonly KeyKind[]; readonly fields?: readonly string[] };

/** The texts of an `_id`, joined as `KeyBatch` has them; undefined when it is not of that shape. */
export function idText({ kinds, fields }: KeyShape, b: Buffer, type: number, at: number): string | undefined {
  const [only] = kinds;
  if (!fields) return only && keyText(only, b, type, at);
  if (type !== bson.object) return undefined;
  const texts: string[] = [];
  for (let p = at + 4; b[p] !== 0; ) {
    const i = texts.length;
    const value = behindName(b, p + 1);
    const element = b[p] as number;
    const kind = kinds[i];
    if (kind === undefined || b.toString('utf8', p + 1, value - 1) !== fields[i]) return undefined;
    const text = keyText(kind, b, element, value);
    if (text === undefined) return undefined;
    texts.push(text);
    p = value + sizeOf(b, element, value);
  }
  return texts.length === kinds.length ? texts.join('\0') : undefined;
}

/** The `_id` of these texts. */
export function idValue({ kinds, fields }: KeyShape, texts: readonly string[]): unknown {
  const values = kinds.map((kind, i) => keyValue(kind, texts[i] ?? ''));
  if (values.includes(undefined)) return undefined;
  if (!fields) return values[0];
  const document: Document = {};
  fields.forEach((field, i) => {
    document[field] = values[i];
  });
  return document;
}
