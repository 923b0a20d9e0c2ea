/**
 * What `Chunk.bounds` holds for MongoDB, and the filter it stands for. Keys of all types have one order (the manual's
 * comparison order), but `$gt` and `$lte` only see keys of their operand's own class. So a range is up to three parts: the
 * rest of the lower bound's class, the classes in between, and the upper bound's class up to it.
 */
import { BSON, type Document } from 'mongodb';
import { GodwitError } from '../../errors.ts';
import type { Chunk } from '../contract.ts';
import { translate } from './errors.ts';
import type { Session } from './session.ts';

/**
 * Keys behind `after` (exclusive) up to `upto` (inclusive), canonical extended JSON of `{ _id }`; absent = open. `types`:
 * BSON type numbers of the classes wholly inside.
 */
export type KeyBounds = { readonly after?: string; readonly upto?: string; readonly types: readonly number[] };

/** The manual's comparison order. Classes of deprecated types, which some servers do not know, are marked. */
type Class = { readonly name: string; readonly types: readonly number[]; readonly old?: readonly number[] };
const classes: readonly Class[] = [
  { name: 'minKey', types: [-1] },
  { name: 'null', types: [10], old: [6] },
  { name: 'number', types: [1, 16, 18, 19] },
  { name: 'string', types: [2], old: [14] },
  { name: 'object', types: [3] },
  { name: 'array', types: [4] },
  { name: 'binary', types: [5] },
  { name: 'objectId', types: [7] },
  { name: 'bool', types: [8] },
  { name: 'date', types: [9] },
  { name: 'timestamp', types: [17] },
  { name: 'regex', types: [11] },
  { name: 'old', types: [], old: [12, 13, 15] },
  { name: 'maxKey', types: [127] },
];

/** Types that servers may not know. */
const oldTypes: readonly number[] = classes.flatMap(({ old = [] }) => old);

/** Bounds are keys of these classes only: the others have two values at most, or an order nobody relies on. */
const boundary = new Set(['number', 'string', 'object', 'binary', 'objectId', 'date', 'timestamp']);

const named = (name: string): number => classes.findIndex((one) => one.name === name);

/** The class of a key as the driver gives it with its types kept (session.ts, `exact`). -1: never a bound. */
export function classOf(key: unknown): number {
  const name = className(key);
  return name !== undefined && boundary.has(name) ? named(name) : -1;
}

function className(key: unknown): string | undefined {
  if (typeof key === 'string') return 'string';
  if (typeof key === 'number' || typeof key === 'bigint') return Number.isNaN(key) ? undefined : 'number';
  if (key instanceof Date) return 'date';
  if (typeof key !== 'object' || key === null || Array.isArray(key)) return undefined;
  const { _bsontype: type } = key as { _bsontype?: string };
  switch (type) {
    case undefined:
      return 'object';
    case 'Double':
    case 'Int32':
    case 'Long':
      return Number.isNaN(Number(key)) ? undefined : 'number';
    case 'Decimal128':
      return String(key) === 'NaN' ? undefined : 'number';
    case 'Binary':
      return 'binary';
    case 'ObjectId':
      return 'objectId';
    case 'Timestamp':
      return 'timestamp';
    default:
      return undefined;
  }
}

/** `old`: the server knows the deprecated types. */
export function keyBounds(after: unknown, upto: unknown, old: boolean): KeyBounds {
  const from = after === undefined ? -1 : classOf(after);
  const to = upto === undefined ? classes.length : classOf(upto);
  const inside = classes.slice(from + 1, to);
  return {
    ...(after === undefined ? {} : { after: written(after) }),
    ...(upto === undefined ? {} : { upto: written(upto) }),
    types: inside.flatMap(({ types, old: more = [] }) => (old ? [...types, ...more] : types)),
  };
}

const written = (key: unknown): string => BSON.EJSON.stringify({ _id: key }, { relaxed: false });
export const parsedKey = (text: string): unknown => (BSON.EJSON.parse(text, { relaxed: false }) as Document)._id;

const nan = Number.NaN;

/** The filter for the chunk's documents, or undefined for all. */
export function boundsFilter(chunk: Chunk): Document | undefined {
  if (chunk.kind === 'all' || chunk.kind === 'range') return undefined;
  if (chunk.kind === 'blocks') throw new GodwitError('INTERNAL', 'MongoDB has no ranges of blocks.');
  const bounds = chunk.bounds as KeyBounds;
  const after = bounds.after === undefined ? undefined : parsedKey(bounds.after);
  const upto = bounds.upto === undefined ? undefined : parsedKey(bounds.upto);
  const from = after === undefined ? -1 : classOf(after);
  const to = upto === undefined ? classes.length : classOf(upto);
  if (after === undefined && upto === undefined) return undefined;
  const number = named('number');
  if (from === to) return { _id: { $gt: after, $lte: upto, ...(from === number ? { $ne: nan } : {}) } };
  const parts: Document[] = [];
  // NaN is before all numbers, though no comparison but equality finds it: it goes with whoever has their beginning.
  if (after !== undefined) parts.push({ _id: from === number ? { $gt: after, $ne: nan } : { $gt: after } });
  if (bounds.types.length > 0) parts.push({ _id: { $type: bounds.types } });
  if (upto !== undefined) parts.push({ _id: to === number ? { $lte: upto, $ne: nan } : { $lte: upto } });
  if (upto !== undefined && to === number) parts.push({ _id: nan });
  return parts.length === 1 ? parts[0] : { $or: parts };
}

/** Asked with a filter that finds next to nothing: some servers have no such types, and refuse their numbers. */
export async function knowsOldTypes(session: Session, collection: string): Promise<boolean> {
  try {
    const filter = { _id: { $type: [...oldTypes] } };
    await session.db.command({ find: collection, filter, limit: 1, singleBatch: true, hint: { _id: 1 } });
    return true;
  } catch (error) {
    const failed = translate(error);
    if (failed.retryable && failed.code !== 'INTERNAL') throw failed;
    return false;
  }
}
