/**
 * Extended JSON (MongoDB's specification, version 2) straight from the bytes, fields in their order. `canonical` keeps
 * every type. `plain` shows numbers as JSON numbers with all their digits, and the rest as canonical does, dates of
 * ordinary years as ISO text: what a reader of a relational column wants, with no value changed.
 */
import {
  behindName,
  binaryLength,
  binaryStart,
  binarySubtype,
  bson,
  int32,
  isUuid,
  long,
  sizeOf,
  stringEnd,
  stringStart,
  utf8,
  uuidText,
} from './bson.ts';
import { firstOrdinary, instant, lastOrdinary } from './dates.ts';
import { decimalText } from './decimal.ts';

export type JsonStyle = 'canonical' | 'plain';

/** The value at this place as JSON text. */
export function jsonText(b: Buffer, type: number, at: number, style: JsonStyle): string {
  switch (type) {
    case bson.string:
      return JSON.stringify(utf8(b, stringStart(at), stringEnd(b, at)));
    case bson.int:
      return style === 'plain' ? String(int32(b, at)) : `{"$numberInt":"${int32(b, at)}"}`;
    case bson.long:
      return style === 'plain' ? long(b, at).toString() : `{"$numberLong":"${long(b, at)}"}`;
    case bson.double:
      return doubleJson(b.readDoubleLE(at), style);
    case bson.decimal:
      return `{"$numberDecimal":"${decimalText(b, at)}"}`;
    case bson.bool:
      return b[at] === 0 ? 'false' : 'true';
    case bson.null:
      return 'null';
    case bson.undefined:
      return '{"$undefined":true}';
    case bson.object:
      return objectJson(b, at, style);
    case bson.array:
      return arrayJson(b, at, style);
    case bson.objectId:
      return `{"$oid":"${b.toString('hex', at, at + 12)}"}`;
    case bson.date:
      return dateJson(long(b, at), style);
    case bson.binary:
      return binaryJson(b, at, style);
    case bson.regex:
      return regexJson(b, at);
    case bson.timestamp:
      return `{"$timestamp":{"t":${int32(b, at + 4) >>> 0},"i":${int32(b, at) >>> 0}}}`;
    case bson.symbol:
      return `{"$symbol":${JSON.stringify(utf8(b, stringStart(at), stringEnd(b, at)))}}`;
    case bson.code:
      return `{"$code":${JSON.stringify(utf8(b, stringStart(at), stringEnd(b, at)))}}`;
    case bson.codeWithScope: {
      const code = JSON.stringify(utf8(b, stringStart(at + 4), stringEnd(b, at + 4)));
      return `{"$code":${code},"$scope":${objectJson(b, at + 8 + int32(b, at + 4), style)}}`;
    }
    case bson.dbPointer: {
      const name = JSON.stringify(utf8(b, stringStart(at), stringEnd(b, at)));
      const id = at + 4 + int32(b, at);
      return `{"$dbPointer":{"$ref":${name},"$id":{"$oid":"${b.toString('hex', id, id + 12)}"}}}`;
    }
    case bson.minKey:
      return '{"$minKey":1}';
    case bson.maxKey:
      return '{"$maxKey":1}';
    default:
      sizeOf(b, type, at); // says which type it does not know
      return 'null';
  }
}

function objectJson(b: Buffer, at: number, style: JsonStyle): string {
  let text = '{';
  let p = at + 4;
  for (let type = b[p] as number; type !== 0; type = b[p] as number) {
    const value = behindName(b, p + 1);
    const name = JSON.stringify(utf8(b, p + 1, value - 1));
    text += `${text.length > 1 ? ',' : ''}${name}:${jsonText(b, type, value, style)}`;
    p = value + sizeOf(b, type, value);
  }
  return `${text}}`;
}

/** The names in an array are its indexes, which JSON does not need. */
function arrayJson(b: Buffer, at: number, style: JsonStyle): string {
  let text = '[';
  let p = at + 4;
  for (let type = b[p] as number; type !== 0; type = b[p] as number) {
    const value = behindName(b, p + 1);
    text += `${text.length > 1 ? ',' : ''}${jsonText(b, type, value, style)}`;
    p = value + sizeOf(b, type, value);
  }
  return `${text}]`;
}

function doubleJson(x: number, style: JsonStyle): string {
  if (style === 'plain' && Number.isFinite(x) && !Object.is(x, -0)) return withPoint(x);
  return `{"$numberDouble":"${Object.is(x, -0) ? '-0.0' : Number.isFinite(x) ? withPoint(x) : String(x)}"}`;
}

/** A double is told from an integer by its point. */
const withPoint = (x: number): string => (Number.isInteger(x) && Math.abs(x) < 1e21 ? `${x}.0` : String(x));

function dateJson(ms: bigint, style: JsonStyle): string {
  const ordinary = ms >= firstOrdinary && ms <= lastOrdinary;
  return style === 'plain' && ordinary ? `{"$date":"${instant(Number(ms))}"}` : `{"$date":{"$numberLong":"${ms}"}}`;
}

function binaryJson(b: Buffer, at: number, style: JsonStyle): string {
  if (style === 'plain' && isUuid(b, at)) return `{"$uuid":"${uuidText(b, at)}"}`;
  const start = binaryStart(b, at);
  const base64 = b.toString('base64', start, start + binaryLength(b, at));
  return `{"$binary":{"base64":"${base64}","subType":"${binarySubtype(b, at).toString(16).padStart(2, '0')}"}}`;
}

function regexJson(b: Buffer, at: number): string {
  const options = behindName(b, at);
  const pattern = JSON.stringify(utf8(b, at, options - 1));
  const flags = JSON.stringify(utf8(b, options, behindName(b, options) - 1));
  return `{"$regularExpression":{"pattern":${pattern},"options":${flags}}}`;
}
