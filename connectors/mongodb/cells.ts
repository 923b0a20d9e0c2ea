/** From a place in a document to the canonical value of its column (connectors/types.ts), or to its text form. */
import type { ReadColumn } from '../contract.ts';
import type { LogicalType, Value } from '../types.ts';
import {
  binaryLength,
  binaryStart,
  binarySubtype,
  bson,
  int32,
  isUuid,
  long,
  longIsSafe,
  longNumber,
  stringEnd,
  stringStart,
  utf8,
  uuidText,
} from './bson.ts';
import { asBool, asDatetime, asDecimal, asFloat, asInt, stringified } from './casts.ts';
import { farInstant, farText, firstOrdinary, instant } from './dates.ts';
import { decimalPlain, doublePlain } from './decimal.ts';
import { jsonText } from './ejson.ts';
import type { MongoColumn } from './extras.ts';
import { fieldsChanged } from './locate.ts';
import { isFar } from './types.ts';

/** `type` 0: the document has no such field. Throws FIELDS_CHANGED for a value the column's form does not take. */
export type Cell = (b: Buffer, type: number, at: number) => Value;

export const isNothing = (type: number): boolean => type === 0 || type === bson.null || type === bson.undefined;

/** As it is, in its text form or as JSON, with the guard of a `checked` column. */
export function cellOf(column: MongoColumn, { shape, guard }: Pick<ReadColumn, 'shape' | 'guard'>): Cell {
  if (shape === 'json') return jsonCell(column);
  if (shape === 'text' || guard?.misfit === 'text') return textCell(column);
  const plain = canonical(column);
  if (guard?.misfit === 'null' || guard?.misfit === 'clamp')
    return guarded(column, plain, { ...guard, misfit: guard.misfit });
  return plain;
}

/** A missing field and NULL are one: NULL. */
export function canonical(column: MongoColumn): Cell {
  const value = takenAs(column);
  if (column.form === 'as int') return (b, type, at) => (isNothing(type) ? 0n : value(b, type, at));
  if (column.form === 'exact json') return value;
  return (b, type, at) => (isNothing(type) ? null : value(b, type, at));
}

function takenAs(column: MongoColumn): Cell {
  const { form, wide = false } = column;
  const misfit = () => fieldsChanged(column.path.join('.'), 'has a value of a type that is not known to the plan');
  switch (form) {
    case 'bool':
      return (b, type, at) => {
        if (type !== bson.bool) throw misfit();
        return b[at] !== 0;
      };
    case 'int':
      return (b, type, at) => {
        if (type !== bson.int) throw misfit();
        return int32(b, at);
      };
    case 'long':
      return (b, type, at) => {
        if (type === bson.long) return longIsSafe(b, at) ? BigInt(longNumber(b, at)) : long(b, at);
        if (type !== bson.int) throw misfit();
        return BigInt(int32(b, at));
      };
    case 'double':
      return (b, type, at) => {
        if (type === bson.double) return b.readDoubleLE(at);
        if (type === bson.int) return int32(b, at);
        if (type !== bson.long || !longIsSafe(b, at)) throw misfit();
        return longNumber(b, at);
      };
    case 'decimal':
      return (b, type, at) => {
        if (type === bson.decimal) return decimalPlain(b, at);
        if (type === bson.double) return doublePlain(b.readDoubleLE(at));
        if (type === bson.int) return String(int32(b, at));
        if (type !== bson.long) throw misfit();
        return long(b, at).toString();
      };
    case 'string':
      return (b, type, at) => {
        if (type !== bson.string) throw misfit();
        return utf8(b, stringStart(at), stringEnd(b, at));
      };
    case 'objectId':
      return (b, type, at) => {
        if (type !== bson.objectId) throw misfit();
        return b.toString('hex', at, at + 12);
      };
    case 'date':
      return (b, type, at) => {
        if (type !== bson.date) throw misfit();
        return date(b, at);
      };
    case 'uuid':
      return (b, type, at) => {
        if (type !== bson.binary || !isUuid(b, at)) throw misfit();
        return uuidText(b, at);
      };
    case 'bytes': {
      const isKey = column.path.length === 1 && column.path[0] === '_id';
      return (b, type, at) => {
        if (type !== bson.binary || isUuid(b, at) || (isKey && binarySubtype(b, at) !== 0)) throw misfit();
        const start = binaryStart(b, at);
        return b.subarray(start, start + binaryLength(b, at));
      };
    }
    case 'json':
      return (b, type, at) => jsonText(b, type, at, 'plain');
    case 'exact json':
      return (b, type, at) => jsonText(b, type === 0 ? bson.null : type, at, 'canonical');
    case 'str':
      return stringified;
    case 'as int':
      return asInt;
    case 'as float':
      return asFloat;
    case 'as bool':
      return asBool;
    case 'as decimal':
      return asDecimal;
    case 'as datetime':
      return (b, type, at) => (type === bson.date ? date(b, at) : asDatetime(b, type, at));
  }

  function date(b: Buffer, at: number): string {
    if (!isFar(b, at)) return instant(longNumber(b, at));
    if (!wide) throw misfit();
    return farInstant(long(b, at));
  }
}

/** The text that PostgreSQL would show (the comment at Format in the contract). */
export function textCell(column: MongoColumn): Cell {
  const value = canonical(column);
  const dates = column.form === 'date' || column.form === 'as datetime';
  return (b, type, at) => {
    const found = value(b, type, at);
    if (found === null || (typeof found === 'string' && !dates)) return found;
    if (dates && type === bson.date && isFar(b, at)) return farText(long(b, at));
    return shown(found, dates);
  };
}

export function shown(value: Value, instants: boolean): string {
  if (typeof value === 'string') return instants ? `${value.slice(0, 10)} ${value.slice(11, -1)}+00` : value;
  if (typeof value === 'boolean') return value ? 't' : 'f';
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`;
  return Object.is(value, -0) ? '-0' : String(value);
}

function jsonCell(column: MongoColumn): Cell {
  const value = canonical(column);
  const text = textCell(column);
  const isJson = column.form === 'json' || (column.form === 'exact json' && column.path.length === 0);
  return (b, type, at) => {
    const found = value(b, type, at);
    if (found === null || (isJson && typeof found === 'string')) return found;
    if (typeof found === 'boolean' || typeof found === 'bigint') return String(found);
    if (typeof found === 'number' && Number.isFinite(found)) return Object.is(found, -0) ? '-0.0' : String(found);
    const decimals = column.form === 'decimal' || column.form === 'as decimal';
    if (decimals && typeof found === 'string' && /\d/.test(found)) return found;
    return JSON.stringify(typeof found === 'string' ? found : text(b, type, at));
  };
}

/** What the target cannot hold, mended: NULL, or the nearest it can. */
function guarded({ form }: MongoColumn, cell: Cell, guard: { misfit: 'null' | 'clamp'; wide?: boolean }): Cell {
  const { misfit, wide } = guard;
  switch (form) {
    case 'date':
    case 'as datetime':
      if (wide) return cell;
      return (b, type, at) => {
        if (type !== bson.date || !isFar(b, at)) return cell(b, type, at);
        if (misfit === 'null') return null;
        return longNumber(b, at) < firstOrdinary ? '0001-01-01T00:00:00Z' : '9999-12-31T23:59:59.999Z';
      };
    case 'decimal':
    case 'as decimal':
      return (b, type, at) => {
        const value = cell(b, type, at);
        return typeof value === 'string' && !/\d/.test(value) ? null : value;
      };
    case 'string':
    case 'str':
      return (b, type, at) => {
        const value = cell(b, type, at);
        if (typeof value !== 'string' || !value.includes('\0')) return value;
        return misfit === 'null' ? null : value.replaceAll('\0', '');
      };
    default:
      return cell;
  }
}

/** A constant's text form as the canonical value of its type. */
export function constantValue(text: string, type: LogicalType): Value {
  switch (type.kind) {
    case 'bool':
      return text === 't' || text === 'true';
    case 'int8':
    case 'int16':
    case 'int32':
    case 'float32':
    case 'float64':
      return Number(text);
    case 'int64':
    case 'uint64':
      return BigInt(text);
    case 'timestamptz':
      return constantInstant(text);
    case 'timestamp':
      return text.replace(' ', 'T');
    default:
      return text;
  }
}

const constantInstant = (text: string): string =>
  text
    .replace(' ', 'T')
    .replace(/(\+00(:?00)?|Z)$/, '')
    .replace(/(\.\d*?)0+$/, '$1')
    .replace(/\.$/, '')
    .concat('Z');
