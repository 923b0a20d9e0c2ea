/**
 * The filters a mapping may push into the source (decision 20). What decides is the canonical value of the column, here;
 * the server gets a filter that finds at least those documents, so that few others travel.
 */
import { BSON, type Document } from 'mongodb';
import { GodwitError } from '../../errors.ts';
import type { Predicate, Table } from '../contract.ts';
import type { LogicalType, Value } from '../types.ts';
import { parseInstant } from './dates.ts';
import { columnNamed, type MongoColumn, mongoExtras } from './extras.ts';

export type Test = { readonly column: string; readonly passes: (value: Value) => boolean };

/** Throws COLUMN_MISSING, MAPPING_INVALID. */
export const testsOf = (table: Table, predicates: readonly Predicate[] = []): Test[] =>
  predicates.map((predicate) => ({ column: predicate.column, passes: testOf(table, predicate) }));

function testOf(table: Table, { column, op, values }: Predicate): (value: Value) => boolean {
  const found = table.columns.find((one) => one.name === column);
  if (!found) {
    throw new GodwitError('COLUMN_MISSING', `The filter names the column ${column}, which is not there.`, { column });
  }
  if (op === 'is null') return (value) => value === null;
  if (op === 'is not null') return (value) => value !== null;
  const wanted = values.map((value) => comparable(value, found.type, column));
  if (op !== 'in' && wanted.length === 0) {
    throw new GodwitError('MAPPING_INVALID', `The filter on ${column} has no value.`, { column });
  }
  return (value) => {
    if (value === null) return false;
    const own = ownOf(value, found.type);
    if (op === 'in') return wanted.some((one) => compare(own, one) === 0);
    const order = compare(own, wanted[0] as Comparable);
    switch (op) {
      case '=':
        return order === 0;
      case '<':
        return order < 0;
      case '<=':
        return order <= 0;
      case '>':
        return order > 0;
      case '>=':
        return order >= 0;
    }
  };
}

type Comparable = bigint | boolean | string | Uint8Array | number;

/** Texts compare by their bytes, instants by their microseconds. */
function comparable(value: string | number | boolean, type: LogicalType, column: string): Comparable {
  const wrong = () =>
    new GodwitError('MAPPING_INVALID', `A value of the filter on ${column} is no ${type.kind}.`, { column });
  switch (type.kind) {
    case 'bool':
      if (value === true || value === 't' || value === 'true') return true;
      if (value === false || value === 'f' || value === 'false') return false;
      throw wrong();
    case 'int32':
    case 'int64':
      if (!/^[+-]?\d+$/.test(String(value))) throw wrong();
      return BigInt(String(value).replace('+', ''));
    case 'float64':
      if (typeof value === 'boolean' || String(value).trim() === '' || Number.isNaN(Number(value))) throw wrong();
      return Number(value);
    case 'timestamptz': {
      const instant = parseInstant(String(value).trim());
      if (instant === undefined) throw wrong();
      return micros(instant);
    }
    case 'text':
    case 'uuid':
      return Buffer.from(type.kind === 'uuid' ? String(value).toLowerCase() : String(value), 'utf8');
    default:
      throw new GodwitError('MAPPING_INVALID', `A column of type ${type.kind} is not compared (${column}).`, {
        column,
      });
  }
}

function ownOf(value: Exclude<Value, null>, type: LogicalType): Comparable {
  if (type.kind === 'timestamptz') return micros(value as string);
  if (typeof value === 'string') return Buffer.from(value, 'utf8');
  if (type.kind === 'int32') return BigInt(value as number);
  return value as Comparable;
}

function compare(one: Comparable, two: Comparable): number {
  if (one instanceof Uint8Array && two instanceof Uint8Array) return Buffer.compare(one, two);
  if (one === two) return 0;
  // NaN is neither before nor behind anything.
  return one < two ? -1 : one > two ? 1 : Number.NaN;
}

/** A canonical instant in microseconds since 1970; years of any length. */
function micros(instant: string): bigint {
  const match = /^([+-]?\d+)-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?Z$/.exec(instant);
  if (!match) throw new GodwitError('INTERNAL', 'An instant has not its canonical form.');
  const [, year = '', month, day, hour, minute, second, fraction = ''] = match;
  // The calendar repeats itself every 400 years, of 146,097 days.
  const cycle = BigInt(year) / 400n;
  const within = Date.UTC(2000 + Number(BigInt(year) % 400n), Number(month) - 1, Number(day));
  const days = cycle * 146_097n - 5n * 146_097n + BigInt(within / 86_400_000);
  const seconds = days * 86_400n + BigInt(Number(hour) * 3600 + Number(minute) * 60 + Number(second));
  return seconds * 1_000_000n + BigInt(fraction.padEnd(6, '0').slice(0, 6));
}

/** A filter that finds at least what the tests pass; undefined: all documents are looked at here. */
export function coarseFilter(table: Table, predicates: readonly Predicate[] = []): Document | undefined {
  const extras = mongoExtras(table);
  const parts = predicates.flatMap((predicate) => {
    const column = extras && columnNamed(extras, predicate.column);
    const type = table.columns.find(({ name }) => name === predicate.column)?.type;
    const part = column && type && coarse(predicate, column, type, extras?.collated ?? true);
    return part ? [part] : [];
  });
  return parts.length === 0 ? undefined : { $and: parts };
}

/** A name with a dot, a dollar in front or nothing in it cannot be written in a filter. */
const addressable = (path: readonly string[]): boolean =>
  path.length > 0 && path.every((name) => !/^$|^\$|\.|^\d+$/.test(name));

function coarse(
  { op, values }: Predicate,
  { path, form }: MongoColumn,
  type: LogicalType,
  collated: boolean,
): Document | undefined {
  // NULL has more faces than one filter sees on every server: missing, `undefined`, inside of an array.
  if (!addressable(path) || op === 'is null' || op === 'is not null') return undefined;
  const field = path.join('.');
  // Not every server has the order of texts that MongoDB has.
  if (form === 'string' && op !== '=' && op !== 'in') return undefined;
  const operands = values.map((value) => operand(value, form, type, collated));
  if (operands.includes(undefined)) return undefined;
  const [first] = operands;
  switch (op) {
    case 'in':
      return { [field]: { $in: operands.flatMap((one) => (one ? one.equal : [])) } };
    case '=':
      return first && { [field]: { $in: first.equal } };
    case '<':
    case '<=':
      return first && { [field]: { $lte: first.above } };
    case '>':
    case '>=':
      return first && { [field]: { $gte: first.below } };
  }
}

/** Values as the server compares them; `below` and `above` differ where its type is coarser than the filter's. */
type Operand = { readonly equal: readonly unknown[]; readonly below: unknown; readonly above: unknown };
const same = (value: unknown): Operand => ({ equal: [value], below: value, above: value });

function operand(
  value: string | number | boolean,
  form: MongoColumn['form'],
  type: LogicalType,
  collated: boolean,
): Operand | undefined {
  const own = comparable(value, type, '');
  switch (form) {
    case 'int':
    case 'long':
      return inLong(own as bigint) ? same(BSON.Long.fromBigInt(own as bigint)) : undefined;
    case 'double':
      return same(new BSON.Double(own as number));
    case 'bool':
      return same(own);
    case 'string':
      return collated ? undefined : same(String(value));
    case 'objectId':
      // Other texts are no ObjectId, but have a place in their order.
      return /^[0-9a-f]{24}$/.test(String(value)) ? same(new BSON.ObjectId(String(value))) : undefined;
    case 'uuid':
      return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(String(value))
        ? same(new BSON.UUID(String(value)))
        : undefined;
    case 'date': {
      const ms = Number((own as bigint) / 1000n);
      return { equal: [new Date(ms)], below: new Date(ms - 1), above: new Date(ms + 1) };
    }
    default:
      return undefined;
  }
}

const inLong = (n: bigint): boolean => n < 2n ** 63n && n >= -(2n ** 63n);
