/**
 * Extended JSON (MongoDB's specification, version 2) straight from the bytes, fields in their order. `canonical` keeps
 * every type. `plain` shows numbers as JSON numbers with all their digits, and the rest as canonical does, dates of
 * ordinary years as ISO text: what a reader of a relational column wants, with no value changed.
 */
import { isUtf8 } from 'node:buffer';
import {
  behindName,
  binaryLength,
  binaryStart,
  binarySubtype,
  bson,
  int32,
  isUuid,
  long,
  longIsSafe,
  longNumber,
  notUtf8,
  sizeOf,
  stringEnd,
  stringStart,
  uuidText,
} from './bson.ts';
import { firstOrdinary, instant, lastOrdinary } from './dates.ts';
import { decimalText } from './decimal.ts';

export type JsonStyle = 'canonical' | 'plain';

/** The value at this place as JSON text. */
export function jsonText(b: Buffer, type: number, at: number, style: JsonStyle): string {
  const json = jsonBytes(b, type, at, style);
  return json.toString(out.high ? 'utf8' : 'latin1');
}

/** The same as bytes of UTF-8. They are only good until the next value is written. */
export function jsonBytes(b: Buffer, type: number, at: number, style: JsonStyle): Buffer {
  out.begin();
  value(b, type, at, style === 'plain');
  const json = out.written();
  if (out.high && !isUtf8(json)) throw notUtf8();
  return json;
}

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const colon = 0x3a;

/** By byte: 0 for bytes that stand for themselves in a JSON text, else what is behind the backslash; `u`: its number. */
const escapes = new Uint8Array(256);
escapes.fill('u'.charCodeAt(0), 0, 32);
for (const [byte, letter] of ['8b', '9t', '10n', '12f', '13r', '34"', '92\\'].map((one) => [
  Number.parseInt(one, 10),
  one.slice(-1),
]) as [number, string][]) {
  escapes[byte] = letter.charCodeAt(0);
}

/** Where JSON is written: memory that is used again for every value. */
class Out {
  #b = Buffer.allocUnsafeSlow(65_536);
  #p = 0;
  /** A byte beyond ASCII was written. */
  high = false;

  begin(): void {
    this.#p = 0;
    this.high = false;
    // One huge document must not hold its memory for ever.
    if (this.#b.length > 8 * 1024 * 1024) this.#b = Buffer.allocUnsafeSlow(65_536);
  }

  written(): Buffer {
    return this.#b.subarray(0, this.#p);
  }

  byte(byte: number): void {
    this.#room(1);
    this.#b[this.#p++] = byte;
  }

  ascii(text: string): void {
    const { length } = text;
    this.#room(length);
    let p = this.#p;
    for (let i = 0; i < length; i++) this.#b[p++] = text.charCodeAt(i);
    this.#p = p;
  }

  /** A text from bytes of UTF-8, in quotes. */
  quoted(from: Buffer, start: number, end: number): void {
    this.#room((end - start) * 6 + 2);
    const b = this.#b;
    let p = this.#p;
    let high = 0;
    b[p++] = quote;
    for (let i = start; i < end; i++) {
      const byte = from[i] as number;
      const letter = escapes[byte] as number;
      high |= byte;
      if (letter === 0) b[p++] = byte;
      else {
        b[p++] = backslash;
        b[p++] = letter;
        if (letter === 0x75) p += b.write(byte.toString(16).padStart(4, '0'), p, 'latin1');
      }
    }
    b[p++] = quote;
    this.#p = p;
    if (high >= 0x80) this.high = true;
  }

  #room(bytes: number): void {
    if (this.#p + bytes <= this.#b.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#b.length * 2, this.#p + bytes));
    this.#b.copy(larger, 0, 0, this.#p);
    this.#b = larger;
  }
}

const out = new Out();

function value(b: Buffer, type: number, at: number, plain: boolean): void {
  switch (type) {
    case bson.string:
      out.quoted(b, stringStart(at), stringEnd(b, at));
      break;
    case bson.int:
      out.ascii(plain ? String(int32(b, at)) : `{"$numberInt":"${int32(b, at)}"}`);
      break;
    case bson.long: {
      const digits = longIsSafe(b, at) ? String(longNumber(b, at)) : long(b, at).toString();
      out.ascii(plain ? digits : `{"$numberLong":"${digits}"}`);
      break;
    }
    case bson.double:
      out.ascii(doubleJson(b.readDoubleLE(at), plain));
      break;
    case bson.decimal:
      out.ascii(`{"$numberDecimal":"${decimalText(b, at)}"}`);
      break;
    case bson.bool:
      out.ascii(b[at] === 0 ? 'false' : 'true');
      break;
    case bson.null:
      out.ascii('null');
      break;
    case bson.undefined:
      out.ascii('{"$undefined":true}');
      break;
    case bson.object:
      members(b, at, plain);
      break;
    case bson.array:
      elements(b, at, plain);
      break;
    case bson.objectId:
      out.ascii(`{"$oid":"${b.toString('hex', at, at + 12)}"}`);
      break;
    case bson.date:
      out.ascii(dateJson(b, at, plain));
      break;
    case bson.binary:
      out.ascii(binaryJson(b, at, plain));
      break;
    case bson.regex: {
      const options = behindName(b, at);
      out.ascii('{"$regularExpression":{"pattern":');
      out.quoted(b, at, options - 1);
      out.ascii(',"options":');
      out.quoted(b, options, behindName(b, options) - 1);
      out.ascii('}}');
      break;
    }
    case bson.timestamp:
      out.ascii(`{"$timestamp":{"t":${int32(b, at + 4) >>> 0},"i":${int32(b, at) >>> 0}}}`);
      break;
    case bson.symbol:
    case bson.code:
      out.ascii(type === bson.symbol ? '{"$symbol":' : '{"$code":');
      out.quoted(b, stringStart(at), stringEnd(b, at));
      out.ascii('}');
      break;
    case bson.codeWithScope:
      out.ascii('{"$code":');
      out.quoted(b, stringStart(at + 4), stringEnd(b, at + 4));
      out.ascii(',"$scope":');
      members(b, at + 8 + int32(b, at + 4), plain);
      out.ascii('}');
      break;
    case bson.dbPointer: {
      const id = at + 4 + int32(b, at);
      out.ascii('{"$dbPointer":{"$ref":');
      out.quoted(b, stringStart(at), stringEnd(b, at));
      out.ascii(`,"$id":{"$oid":"${b.toString('hex', id, id + 12)}"}}}`);
      break;
    }
    case bson.minKey:
      out.ascii('{"$minKey":1}');
      break;
    case bson.maxKey:
      out.ascii('{"$maxKey":1}');
      break;
    default:
      sizeOf(b, type, at); // throws: it says which type it does not know
  }
}

function members(b: Buffer, at: number, plain: boolean): void {
  out.byte(0x7b);
  let p = at + 4;
  for (let type = b[p] as number; type !== 0; type = b[p] as number) {
    const place = behindName(b, p + 1);
    if (p > at + 4) out.byte(comma);
    out.quoted(b, p + 1, place - 1);
    out.byte(colon);
    value(b, type, place, plain);
    p = place + sizeOf(b, type, place);
  }
  out.byte(0x7d);
}

/** The names in an array are its indexes, which JSON does not need. */
function elements(b: Buffer, at: number, plain: boolean): void {
  out.byte(0x5b);
  let p = at + 4;
  for (let type = b[p] as number; type !== 0; type = b[p] as number) {
    const place = behindName(b, p + 1);
    if (p > at + 4) out.byte(comma);
    value(b, type, place, plain);
    p = place + sizeOf(b, type, place);
  }
  out.byte(0x5d);
}

function doubleJson(x: number, plain: boolean): string {
  if (plain && Number.isFinite(x) && !Object.is(x, -0)) return withPoint(x);
  return `{"$numberDouble":"${Object.is(x, -0) ? '-0.0' : Number.isFinite(x) ? withPoint(x) : String(x)}"}`;
}

/** A double is told from an integer by its point. */
const withPoint = (x: number): string => (Number.isInteger(x) && Math.abs(x) < 1e21 ? `${x}.0` : String(x));

function dateJson(b: Buffer, at: number, plain: boolean): string {
  const ms = longNumber(b, at);
  return plain && ms >= firstOrdinary && ms <= lastOrdinary
    ? `{"$date":"${instant(ms)}"}`
    : `{"$date":{"$numberLong":"${long(b, at)}"}}`;
}

function binaryJson(b: Buffer, at: number, plain: boolean): string {
  if (plain && isUuid(b, at)) return `{"$uuid":"${uuidText(b, at)}"}`;
  const start = binaryStart(b, at);
  const base64 = b.toString('base64', start, start + binaryLength(b, at));
  return `{"$binary":{"base64":"${base64}","subType":"${binarySubtype(b, at).toString(16).padStart(2, '0')}"}}`;
}
