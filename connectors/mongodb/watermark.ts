/**
 * How far a collection is. MongoDB tells nobody what is still being written, so there is no `open`: what comes late is
 * within the recheck window or is lost, as the docs say. ObjectIds and dates are made by the writers' own clocks: of such
 * keys the floor is an hour back too, however many have come since.
 */
import { BSON, type Document } from 'mongodb';
import { GodwitError } from '../../errors.ts';
import { type Follow, type Table, tableText, type Watermark, type WatermarkOptions } from '../contract.ts';
import { ceilDiv, numbersOf, units } from './bookmarks.ts';
import { classOf } from './bounds.ts';
import { microsOf, microsText } from './dates.ts';
import { doublePlain, plain } from './decimal.ts';
import { translate } from './errors.ts';
import { mongoExtras } from './extras.ts';
import { fieldOf } from './follow.ts';
import { assertUnchanged } from './read.ts';
import { exact, type LazySession, type Session } from './session.ts';
import { clockText } from './snapshot.ts';

/** Seconds (decision 22). */
const clockSkew = 3600;

export async function watermarkOf(
  lazy: LazySession,
  table: Table,
  follow: Follow,
  { clock, recheck, signal }: WatermarkOptions,
): Promise<Watermark> {
  signal.throwIfAborted();
  const where = { table: tableText(table.name) };
  return await lazy.read(async (session) => {
    const at = clock ?? clockText((await session.facts()).now);
    const extras = mongoExtras(table);
    if (extras) await assertUnchanged(session, table, extras);
    if (follow.form === 'text') return { clock: at };
    const field = fieldOf(table, follow.column);
    const asked: Asked = { session, table, field };
    if (follow.by === 'key') return { ...(await keysOf(asked, recheck)), clock: at };
    if (field === '_id') throw refused(table, '`_id` never changes with its document, so it is no bookmark');
    const upto = follow.form === 'native' ? await latest(asked) : await greatestNumber(asked);
    return { ...(upto === undefined ? {} : { upto }), clock: at };
  }, where);
}

type Asked = { readonly session: Session; readonly table: Table; readonly field: string };
type Wanted = { readonly filter?: Document; readonly way: 1 | -1; readonly skip?: number };

const refused = (table: Table, why: string) => {
  const name = tableText(table.name);
  return new GodwitError('TYPE_REFUSED', `${name}: ${why}.`, { table: name });
};

/** One value of the field with its type kept, or undefined. */
async function one({ session, table, field }: Asked, { filter = {}, way, skip = 0 }: Wanted): Promise<unknown> {
  const collection = session.db.collection(table.name.name);
  const cursor = collection.aggregate(
    [
      { $match: filter },
      { $sort: { [field]: way } },
      ...(skip > 0 ? [{ $skip: skip }] : []),
      { $limit: 1 },
      { $project: field === '_id' ? { _id: 1 } : { _id: 0, [field]: 1 } },
    ],
    {
      ...exact,
      allowDiskUse: true,
      ...(field === '_id' ? { hint: { _id: 1 } } : {}),
      // As the rows are read: what they cannot show yet is not to be said to be there.
      ...(session.replicated ? { readConcern: { level: 'majority' } } : {}),
    },
  );
  try {
    const [found] = await cursor.toArray();
    if (!found) return undefined;
    return (
      field.split('.').reduce<unknown>((value, name) => (value as Document | null | undefined)?.[name], found) ?? null
    );
  } catch (error) {
    throw translate(error, { table: tableText(table.name) });
  } finally {
    await cursor.close().catch(() => {});
  }
}

/** Of dates, and of numbers as epochs of the unit their size tells. */
async function latest(asked: Asked): Promise<string | undefined> {
  const { field } = asked;
  const whole = { [field]: { $not: { $type: [4] } } };
  const of = (...conditions: Document[]): Promise<unknown> =>
    one(asked, { filter: { $and: [...conditions, whole] }, way: -1 });
  const found: bigint[] = [];
  const date = await of({ [field]: { $gte: new Date(-8.64e15), $lte: new Date(8.64e15) } });
  if (date instanceof Date) found.push(BigInt(date.getTime()) * 1000n);
  const some = await of({ [field]: { $type: [1, 16, 18, 19] } });
  if (some !== undefined) {
    for (const { from, to, perMicro } of units) {
      const [low] = numbersOf(from.toString());
      const [high] = numbersOf(to.toString());
      const value = await of({ [field]: { $gte: low, $lt: high, $ne: Number.NaN } });
      const text = numberText(value);
      // Rounded up: the document it is taken from is to be within.
      if (text !== undefined) found.push(ceilDiv(millionths(text), perMicro));
    }
  }
  const most = found.reduce<bigint | undefined>((a, b) => (a === undefined || b > a ? b : a), undefined);
  return most === undefined ? undefined : microsText(most);
}

async function greatestNumber(asked: Asked): Promise<string | undefined> {
  const { field } = asked;
  const most = Number.MAX_VALUE;
  const filter = {
    $and: [{ [field]: { $gte: -most, $lte: most, $ne: Number.NaN } }, { [field]: { $not: { $type: [4] } } }],
  };
  return numberText(await one(asked, { filter, way: -1 }));
}

/** Plain notation; undefined for what is no finite number. */
function numberText(value: unknown): string | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? doublePlain(value) : undefined;
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return undefined;
  switch ((value as { _bsontype?: string })._bsontype) {
    case 'Double':
      return Number.isFinite(Number(value)) ? doublePlain(Number(value)) : undefined;
    case 'Int32':
    case 'Long':
      return String(value);
    case 'Decimal128':
      return /\d/.test(String(value)) ? plain(String(value)) : undefined;
    default:
      return undefined;
  }
}

/** Rounded up. */
function millionths(text: string): bigint {
  const [whole = '0', fraction = ''] = text.replace('-', '').split('.');
  const digits = BigInt(whole + fraction.slice(0, 6).padEnd(6, '0'));
  return digits + (/[1-9]/.test(fraction.slice(6)) ? 1n : 0n);
}

/** Keys must be of one class: only within one does an order say which came later. */
async function keysOf(asked: Asked, recheck: number): Promise<Pick<Watermark, 'upto' | 'floor'>> {
  const { table, field } = asked;
  const top = await one(asked, { way: -1 });
  if (top === undefined) return {};
  const least = await one(asked, { way: 1 });
  if (classOf(top) < 0 || classOf(top) !== classOf(least)) {
    throw refused(
      table,
      `values of ${field} are of several types, or of one without an order that grows; logging needs keys of one`,
    );
  }
  const upto = keyText(table, top);
  const below = recheck > 0 ? await one(asked, { way: -1, skip: recheck }) : top;
  if (below === undefined) return { upto };
  const floor = keyText(table, below);
  const back = recheck > 0 ? anHourBack(top) : undefined;
  return { upto, floor: back !== undefined && back < floor ? back : floor };
}

/** In the text of the key, whose order is that of time; undefined for keys that are not made by a clock. */
function anHourBack(top: unknown): string | undefined {
  if (top instanceof Date) return microsText(BigInt(top.getTime() - clockSkew * 1000) * 1000n);
  if (top instanceof BSON.ObjectId) {
    const seconds = Math.max(0, Math.floor(top.getTimestamp().getTime() / 1000) - clockSkew);
    return `${seconds.toString(16).padStart(8, '0')}${'0'.repeat(16)}`;
  }
  return undefined;
}

function keyText(table: Table, key: unknown): string {
  if (typeof key === 'string') return key;
  if (key instanceof Date && microsOf(key.toISOString()) !== undefined)
    return microsText(BigInt(key.getTime()) * 1000n);
  if (key instanceof BSON.ObjectId) return key.toHexString();
  if (key instanceof BSON.Binary && key.sub_type === BSON.Binary.SUBTYPE_UUID && key.length() === 16) {
    return key.toUUID().toHexString();
  }
  const number = numberText(key);
  if (number === undefined) throw refused(table, 'its key is of a type without an order that grows');
  return number;
}
