/**
 * Which documents an incremental read wants, as a filter. Fields of documents have values of any type, and the server
 * compares each only with values of its own class; so a range is put as it looks to each class, and what belongs to none of
 * them is read every time (`nulls`), so that nothing is ever lost:
 *
 * 1. Ends that are instants (a bookmark): dates by their milliseconds; numbers as epochs, whose unit their size tells
 *    (seconds below 10¹¹, milliseconds below 10¹⁴, microseconds below 10¹⁷, nanoseconds below 10²⁰).
 * 2. Ends that are numbers (an epoch, a key): numbers by their value, whatever their type.
 * 3. Ends of a key may be other texts: ObjectIds, UUIDs, strings.
 * 4. With `nulls`: missing, null, every other type, arrays (whose elements the server would compare), and numbers and dates
 *    that are no instant.
 */
import { BSON, type Document } from 'mongodb';
import type { Range } from '../contract.ts';
import { microsOf } from './dates.ts';

/** BSON type numbers. */
const dateType = 9;
const numberTypes = [1, 16, 18, 19];
const allTypes = [-1, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 16, 17, 18, 19, 127];
/** Those that some servers do not know: deprecated ones, and code. */
const oldOnes = [6, 12, 13, 14, 15];

/** What JavaScript's dates reach, in milliseconds. */
const lastDate = 8.64e15;
const largestEpoch = 10n ** 20n;

/** Of epochs: from which size (inclusive) to which (exclusive), and how many millionths of the unit are a microsecond. */
export const units: readonly { readonly from: bigint; readonly to: bigint; readonly perMicro: bigint }[] = [
  { from: 0n, to: 10n ** 11n, perMicro: 1n },
  { from: 10n ** 11n, to: 10n ** 14n, perMicro: 1000n },
  { from: 10n ** 14n, to: 10n ** 17n, perMicro: 1_000_000n },
  { from: 10n ** 17n, to: largestEpoch, perMicro: 1_000_000_000n },
];

const million = 1_000_000n;

/** `compared`: what lies between the ends by its value; `rest`: all else that is wanted. No document is in both, but for arrays. */
export type Parts = { readonly compared: readonly Document[]; readonly rest: readonly Document[] };

/** `old`: the server knows the deprecated types. */
export function partsOf(field: string, { from, upto, nulls = false }: Range, old: boolean): Parts {
  const ends = [from, upto].filter((end) => end !== undefined);
  const instants = ends.every((end) => microsOf(end) !== undefined);
  const numbers = ends.every(isNumber);
  const others = (types: readonly number[]) => (nulls ? otherTypes(field, { types, instants, old }) : []);
  const keys = nulls ? [] : ofKeys(field, from, upto);
  if (instants) {
    const rest = nulls ? epochs(field, from, upto) : [];
    return { compared: [dates(field, from, upto)], rest: [...rest, ...others([dateType, ...numberTypes]), ...keys] };
  }
  if (numbers) return { compared: numbersBetween(field, { from, upto }), rest: [...others(numberTypes), ...keys] };
  return { compared: keys, rest: others([]) };
}

/** Undefined: every document. */
export function rangeFilter(field: string, range: Range, old: boolean): Document | undefined {
  if (isOpen(range)) return range.nulls ? undefined : { [field]: { $ne: null } };
  const { compared, rest } = partsOf(field, range, old);
  return anyOf([...compared, ...rest]);
}

export const isOpen = ({ from, upto }: Range): boolean => from === undefined && upto === undefined;

export const anyOf = (parts: readonly Document[]): Document =>
  parts.length === 1 ? (parts[0] as Document) : { $or: parts };

const isNumber = (text: string): boolean => /^-?\d+(\.\d+)?$/.test(text);

const between = (field: string, lower: unknown, upper: unknown): Document => ({
  [field]: { ...(lower === undefined ? {} : { $gte: lower }), ...(upper === undefined ? {} : { $lte: upper }) },
});

/** Milliseconds within the ends. */
function dates(field: string, from?: string, upto?: string): Document {
  const lower = from === undefined ? -lastDate : Number(ceilDiv(microsOf(from) as bigint, 1000n));
  const upper = upto === undefined ? lastDate : Number(floorDiv(microsOf(upto) as bigint, 1000n));
  return between(field, new Date(lower), new Date(upper));
}

/** Numbers of each unit, of both signs. */
function epochs(field: string, from?: string, upto?: string): Document[] {
  const lower = from === undefined ? undefined : (microsOf(from) as bigint);
  const upper = upto === undefined ? undefined : (microsOf(upto) as bigint);
  const clauses: Document[] = [];
  for (const { from: least, to: most, perMicro } of units) {
    // In millionths of the unit.
    const first = lower === undefined ? undefined : lower * perMicro;
    const last = upper === undefined ? undefined : upper * perMicro;
    for (const [low, high] of [
      [least * million, most * million - 1n],
      [1n - most * million, -least * million],
    ] as const) {
      const begin = first === undefined || first < low ? low : first;
      const end = last === undefined || last > high ? high : last;
      if (begin <= end) clauses.push(...numbersBetween(field, { from: scaled(begin), upto: scaled(end) }));
    }
  }
  return clauses;
}

/**
 * A fraction is not the same in a double as in a decimal, and the server compares them exactly: both are asked for, so that
 * the number an end was taken from is within.
 */
function numbersBetween(
  field: string,
  { from, upto }: { from?: string | undefined; upto?: string | undefined },
): Document[] {
  const lowers = from === undefined ? [undefined] : numbersOf(from);
  const uppers = upto === undefined ? [undefined] : numbersOf(upto);
  // NaN is before all numbers, or behind them, as the server likes.
  const finite = { $ne: Number.NaN };
  return lowers.flatMap((lower) =>
    uppers.map((upper) => ({ [field]: { ...between(field, lower, upper)[field], ...finite } })),
  );
}

export function numbersOf(text: string): unknown[] {
  if (text.includes('.')) return [new BSON.Double(Number(text)), decimalOf(text)];
  const whole = BigInt(text);
  return [whole < 2n ** 63n && whole >= -(2n ** 63n) ? BSON.Long.fromBigInt(whole) : decimalOf(text)];
}

/** Of a double with more digits than a decimal holds, the nearest one. */
const decimalOf = (text: string) => BSON.Decimal128.fromStringWithRounding(text);

/** Millionths → plain notation. */
export function scaled(millionths: bigint): string {
  const digits = (millionths < 0n ? -millionths : millionths).toString().padStart(7, '0');
  const fraction = digits.slice(-6).replace(/0+$/, '');
  return `${millionths < 0n ? '-' : ''}${digits.slice(0, -6)}${fraction === '' ? '' : `.${fraction}`}`;
}

type Rest = { readonly types: readonly number[]; readonly instants: boolean; readonly old: boolean };

/** By their types, which an index knows too; `$not` it does not. */
function otherTypes(field: string, { types, instants, old }: Rest): Document[] {
  const rest = [...allTypes, ...(old ? oldOnes : [])].filter((type) => !types.includes(type));
  const clauses: Document[] = [{ [field]: null }, { [field]: { $type: rest } }];
  if (types.includes(1)) clauses.push({ [field]: Number.NaN });
  if (instants && types.includes(1)) {
    clauses.push({ [field]: { $gte: Number(largestEpoch) } }, { [field]: { $lte: -Number(largestEpoch) } });
  }
  if (instants) clauses.push({ [field]: { $gt: new Date(lastDate) } }, { [field]: { $lt: new Date(-lastDate) } });
  return clauses;
}

const hex = /^[0-9a-f]{24}$/;
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** As what a key of that text may be; keys are of one class (watermark.ts), so the others find nothing. */
function ofKeys(field: string, from?: string, upto?: string): Document[] {
  const ends = [from, upto].filter((end) => end !== undefined);
  const as = (make: (text: string) => unknown): Document =>
    between(field, from === undefined ? from : make(from), upto === undefined ? upto : make(upto));
  return [
    as((text) => text),
    ...(ends.every((end) => hex.test(end)) ? [as((text) => new BSON.ObjectId(text))] : []),
    ...(ends.every((end) => uuid.test(end)) ? [as((text) => new BSON.UUID(text))] : []),
  ];
}

export const floorDiv = (a: bigint, b: bigint): bigint => (a >= 0n ? a / b : -((-a + b - 1n) / b));
export const ceilDiv = (a: bigint, b: bigint): bigint => -floorDiv(-a, b);
