/** How each column is written into a sink: straight from the document's bytes where its form allows. */
import type { ReadColumn } from '../contract.ts';
import {
  binaryLength,
  binaryStart,
  binarySubtype,
  bson,
  int32,
  isUuid,
  longIsSafe,
  longNumber,
  stringEnd,
  stringStart,
} from './bson.ts';
import { cellOf, isNothing, shown } from './cells.ts';
import { decimalPlain, decimalText } from './decimal.ts';
import { jsonBytes } from './ejson.ts';
import type { MongoColumn } from './extras.ts';
import type { Sink } from './sink.ts';
import { isFar } from './types.ts';

export type Writer = (sink: Sink, b: Buffer, type: number, at: number) => void;

export function writerOf(column: MongoColumn, how: Pick<ReadColumn, 'shape' | 'guard'>): Writer {
  const slow = slowly(column, how);
  const mended = how.guard?.misfit === 'null' || how.guard?.misfit === 'clamp' || how.guard?.misfit === 'text';
  if (how.shape !== 'native' || mended) return slow;
  const fast = directly(column);
  if (!fast) return slow;
  // What the fast way does not know goes the slow one, which knows it or throws.
  return (sink, b, type, at) => {
    if (isNothing(type) && column.form !== 'as int' && column.form !== 'exact json') sink.nothing();
    else if (!fast(sink, b, type, at)) slow(sink, b, type, at);
  };
}

type Fast = (sink: Sink, b: Buffer, type: number, at: number) => boolean;

function directly(column: MongoColumn): Fast | undefined {
  switch (column.form) {
    case 'string':
      return (sink, b, type, at) => {
        if (type !== bson.string) return false;
        sink.text(b, stringStart(at), stringEnd(b, at));
        return true;
      };
    case 'str':
      return stringified;
    case 'json':
    case 'exact json': {
      const style = column.form === 'json' ? 'plain' : 'canonical';
      return (sink, b, type, at) => {
        const json = jsonBytes(b, type === 0 ? bson.null : type, at, style);
        sink.text(json, 0, json.length);
        return true;
      };
    }
    case 'objectId':
      return (sink, b, type, at) => {
        if (type !== bson.objectId) return false;
        sink.hex(b, at, at + 12);
        return true;
      };
    case 'int':
      return (sink, b, type, at) => {
        if (type !== bson.int) return false;
        sink.int(int32(b, at));
        return true;
      };
    case 'long':
    case 'as int':
      return number;
    case 'decimal':
    case 'as decimal':
      return (sink, b, type, at) => {
        if (type !== bson.decimal) return false;
        sink.ascii(decimalPlain(b, at));
        return true;
      };
    case 'bool':
      return (sink, b, type, at) => {
        if (type !== bson.bool) return false;
        sink.ascii(b[at] === 0 ? 'f' : 't');
        return true;
      };
    case 'double':
    case 'as float':
      return (sink, b, type, at) => {
        if (type !== bson.double) return false;
        const x = b.readDoubleLE(at);
        if (Object.is(x, -0)) sink.ascii('-0');
        else if (x === (x | 0)) sink.int(x);
        else sink.ascii(String(x));
        return true;
      };
    case 'date':
    case 'as datetime':
      return (sink, b, type, at) => {
        if (type !== bson.date || isFar(b, at)) return false;
        sink.instant(longNumber(b, at));
        return true;
      };
    case 'uuid':
      return (sink, b, type, at) => {
        if (type !== bson.binary || !isUuid(b, at)) return false;
        sink.uuid(b, at + 5);
        return true;
      };
    case 'bytes':
      return (sink, b, type, at) => {
        if (type !== bson.binary || binarySubtype(b, at) !== 0) return false;
        const start = binaryStart(b, at);
        sink.bytes(b, start, start + binaryLength(b, at));
        return true;
      };
    default:
      return undefined;
  }
}

/** What the manual's texts mostly are. */
function stringified(sink: Sink, b: Buffer, type: number, at: number): boolean {
  switch (type) {
    case bson.string:
      sink.text(b, stringStart(at), stringEnd(b, at));
      return true;
    case bson.objectId:
      sink.hex(b, at, at + 12);
      return true;
    case bson.decimal:
      sink.ascii(decimalText(b, at));
      return true;
    case bson.object:
    case bson.array: {
      const json = jsonBytes(b, type, at, 'plain');
      sink.text(json, 0, json.length);
      return true;
    }
    default:
      return number(sink, b, type, at);
  }
}

/** Integers, as far as a JavaScript number holds them. */
function number(sink: Sink, b: Buffer, type: number, at: number): boolean {
  if (type === bson.int) sink.int(int32(b, at));
  else if (type === bson.long && longIsSafe(b, at)) sink.ascii(String(longNumber(b, at)));
  else return false;
  return true;
}

/** By way of the canonical value. */
function slowly(column: MongoColumn, how: Pick<ReadColumn, 'shape' | 'guard'>): Writer {
  const cell = cellOf(column, how);
  const dates = how.shape === 'native' && (column.form === 'date' || column.form === 'as datetime');
  const text = dates ? cellOf(column, { ...how, shape: 'text' }) : undefined;
  return (sink, b, type, at) => {
    const value = cell(b, type, at);
    if (value === null) sink.nothing();
    else if (value instanceof Uint8Array) {
      const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
      sink.bytes(bytes, 0, bytes.length);
    } else if (text && typeof value === 'string' && !/^\d{4}-/.test(value)) {
      // Outside of the years 1 to 9999 the two forms have other years.
      sink.string(String(text(b, type, at)));
    } else sink.string(shown(value, dates));
  };
}
