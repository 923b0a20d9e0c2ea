/**
 * The mapping manual's casts: "if source is not present in the specified datatype, an attempt is made to type-cast; if
 * that is not possible, default values (int: 0, float: null, datetime: NaT, bool: null)". A missing field and NULL get
 * the default too. And its rule for everything else: a field is stringified.
 */
import {
  binaryLength,
  binaryStart,
  bson,
  int32,
  isUuid,
  long,
  stringEnd,
  stringStart,
  utf8,
  uuidText,
} from './bson.ts';
import { dateText, parseInstant, timeText } from './dates.ts';
import { decimalPlain, decimalText, doublePlain, plain } from './decimal.ts';
import { jsonText } from './ejson.ts';
import { isFar } from './types.ts';

const text = (b: Buffer, at: number): string => utf8(b, stringStart(at), stringEnd(b, at));

/** `str(value)`: what is nested as JSON, a number as Python shows it, a date in UTC. */
export function stringified(b: Buffer, type: number, at: number): string {
  switch (type) {
    case bson.string:
    case bson.symbol:
      return text(b, at);
    case bson.int:
      return String(int32(b, at));
    case bson.long:
      return long(b, at).toString();
    case bson.double:
      return pythonFloat(b.readDoubleLE(at));
    case bson.decimal:
      return decimalText(b, at);
    case bson.bool:
      return b[at] === 0 ? 'False' : 'True';
    case bson.objectId:
      return b.toString('hex', at, at + 12);
    case bson.date:
      return isFar(b, at) ? jsonText(b, type, at, 'canonical') : pythonDate(Number(long(b, at)));
    case bson.binary: {
      if (isUuid(b, at)) return uuidText(b, at);
      const start = binaryStart(b, at);
      return b.toString('hex', start, start + binaryLength(b, at));
    }
    default:
      return jsonText(b, type, at, 'plain');
  }
}

/** `repr`: `5.0`, `1e+16`, `1e-05`, `inf`, `nan`. */
function pythonFloat(x: number): string {
  if (Number.isNaN(x)) return 'nan';
  if (!Number.isFinite(x)) return x < 0 ? '-inf' : 'inf';
  if (Object.is(x, -0)) return '-0.0';
  const size = Math.abs(x);
  if (size !== 0 && (size >= 1e16 || size < 1e-4)) {
    const [digits = '', exponent = '0'] = x.toExponential().split('e');
    const power = Number(exponent);
    return `${digits}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
  }
  return Number.isInteger(x) ? `${x}.0` : String(x);
}

/** `2024-02-29 12:00:00`, with six fraction digits where there are any. */
function pythonDate(ms: number): string {
  const days = Math.floor(ms / 86_400_000);
  const within = ms - days * 86_400_000;
  const fraction = within % 1000;
  const seconds = timeText(within - fraction);
  return `${dateText(days)} ${seconds}${fraction === 0 ? '' : `.${String(fraction).padStart(3, '0')}000`}`;
}

const largest = 2n ** 63n - 1n;

export function asInt(b: Buffer, type: number, at: number): bigint {
  const found = wholeNumber(b, type, at);
  return found === undefined || found > largest || found < -largest - 1n ? 0n : found;
}

/** Towards zero; a text only when it is a whole number. */
function wholeNumber(b: Buffer, type: number, at: number): bigint | undefined {
  switch (type) {
    case bson.int:
      return BigInt(int32(b, at));
    case bson.long:
      return long(b, at);
    case bson.bool:
      return b[at] === 0 ? 0n : 1n;
    case bson.double: {
      const x = b.readDoubleLE(at);
      return Number.isFinite(x) ? BigInt(Math.trunc(x)) : undefined;
    }
    case bson.decimal:
      return /^(-?\d{1,40})(\.\d*)?$/.test(decimalPlain(b, at))
        ? BigInt((decimalPlain(b, at).split('.') as [string])[0])
        : undefined;
    case bson.string: {
      const digits = text(b, at).trim();
      return /^[+-]?\d{1,40}$/.test(digits) ? BigInt(digits.replace('+', '')) : undefined;
    }
    default:
      return undefined;
  }
}

export function asFloat(b: Buffer, type: number, at: number): number | null {
  switch (type) {
    case bson.int:
      return int32(b, at);
    case bson.long:
      return Number(long(b, at));
    case bson.double:
      return b.readDoubleLE(at);
    case bson.bool:
      return b[at] === 0 ? 0 : 1;
    case bson.decimal:
      return Number(decimalText(b, at));
    case bson.string:
      return parseFloatText(text(b, at).trim());
    default:
      return null;
  }
}

function parseFloatText(written: string): number | null {
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(written)) return Number(written);
  const word = /^([+-]?)(inf|infinity|nan)$/i.exec(written);
  if (!word) return null;
  if (/nan/i.test(written)) return Number.NaN;
  return word[1] === '-' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
}

export function asBool(b: Buffer, type: number, at: number): boolean | null {
  switch (type) {
    case bson.bool:
      return b[at] !== 0;
    case bson.int:
    case bson.long:
    case bson.double:
    case bson.decimal: {
      const x = asFloat(b, type, at);
      return x === null || Number.isNaN(x) ? null : x !== 0;
    }
    case bson.string: {
      const word = text(b, at).trim().toLowerCase();
      if (['true', 't', 'yes', 'y', 'on', '1'].includes(word)) return true;
      return ['false', 'f', 'no', 'n', 'off', '0'].includes(word) ? false : null;
    }
    default:
      return null;
  }
}

/** Canonical decimal. */
export function asDecimal(b: Buffer, type: number, at: number): string | null {
  switch (type) {
    case bson.int:
      return String(int32(b, at));
    case bson.long:
      return long(b, at).toString();
    case bson.double:
      return doublePlain(b.readDoubleLE(at));
    case bson.decimal:
      return decimalPlain(b, at);
    case bson.string: {
      const match = /^([+-]?)(\d{1,1000}(?:\.\d{1,1000})?(?:e[+-]?\d{1,4})?)$/i.exec(text(b, at).trim());
      return match ? plain(`${match[1] === '-' ? '-' : ''}${match[2]}`) : null;
    }
    default:
      return null;
  }
}

/** Canonical timestamptz of a text; a date is not this function's. Numbers are not taken: nothing says of what unit. */
export const asDatetime = (b: Buffer, type: number, at: number): string | null =>
  type === bson.string ? (parseInstant(text(b, at).trim()) ?? null) : null;
