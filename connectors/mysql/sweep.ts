/** Keys for the sweep of a mirrored table (`KeyRange`, `KeyBatch`, `KeyDigest` of the contract), of source and target alike. */
import { GodwitError } from '../../errors.ts';
import type { KeyBatch, KeyDigest, KeyRange } from '../contract.ts';
import { bell } from './bell.ts';
import { longLength } from './lengths.ts';
import type { Ordered } from './ordered.ts';
import { readResult, type TakeRow } from './result.ts';
import type { Session } from './session.ts';
import { literal } from './sql.ts';

/** What both sides of MySQL compute alike. */
export const digestKind = 'mysql';

/** Behind `after` and up to `upto`; undefined for all. Where the columns are natural an index serves it. */
export function keyRangeCondition(key: readonly Ordered[], { after, upto }: KeyRange): string | undefined {
  const conditions = [after && compare(key, '>', after), upto && compare(key, '<=', upto)];
  return conditions.filter(Boolean).join(' AND ') || undefined;
}

/** Written out as in keys.ts: rows compared as such are looked up by no index of MySQL. */
function compare(key: readonly Ordered[], op: '>' | '<=', values: readonly string[]): string {
  if (values.length !== key.length)
    throw new GodwitError('INTERNAL', 'A range of keys has other columns than the key.');
  const strict = op === '>' ? '>' : '<';
  const at = (i: number) => ({ left: key[i]?.order, right: key[i]?.literal(values[i] as string) });
  const last = key.length - 1;
  const first = at(0);
  if (last === 0) return `${first.left} ${op} ${first.right}`;
  const cases = key.map((_, i) => {
    const before = key.slice(0, i).map((_, j) => `${at(j).left} = ${at(j).right}`);
    const { left, right } = at(i);
    return [...before, `${left} ${i === last ? op : strict} ${right}`].join(' AND ');
  });
  return `${first.left} ${strict}= ${first.right} AND (${cases.join(' OR ')})`;
}

export type FromKeys = {
  readonly key: readonly Ordered[];
  /** What follows FROM: the table, maybe with an index. */
  readonly from: string;
  readonly where: string | undefined;
};

const atOnce = 10_000;

/**
 * In the order of `KeyBatch`, within the session's transaction. Ends regularly only behind the server's own end of the result. Left
 * early, the session is to be destroyed.
 */
export async function* keysIn(session: Session, { key, from, where }: FromKeys): AsyncGenerator<KeyBatch> {
  const list = key.map(({ sql }) => sql).join(', ');
  const order = key.map((one) => one.order).join(', ');
  const sql = `SELECT ${list} FROM ${from}${where ? ` WHERE ${where}` : ''} ORDER BY ${order}`;
  let batch: string[] = [];
  const arrivals = bell();
  const result = readResult(session, sql, {
    columns: key.length,
    row: keyRow(key, (one) => batch.push(one)),
    full: () => batch.length >= atOnce,
    arrived: arrivals.ring,
  });
  const ended = result.ended.finally(arrivals.close);
  ended.catch(() => {});
  for (;;) {
    if (batch.length >= atOnce || arrivals.closed()) {
      const closed = arrivals.closed();
      const full = batch;
      batch = [];
      if (closed) {
        await ended;
        if (full.length > 0) yield full;
        return;
      }
      result.resume();
      yield full;
    } else {
      await arrivals.next();
    }
  }
}

/**
 * Sorting long texts a server looks at their first kilobyte only, unless told otherwise; a key has three at most. Outside
 * of a transaction.
 */
export async function sortWhole(session: Session, key: readonly Ordered[]): Promise<void> {
  if (key.some((one) => !one.natural)) await session.run('SET SESSION max_sort_length = 16384');
}

type Cell = (from: Buffer, at: number, to: number) => string;

function keyRow(key: readonly Ordered[], take: (key: string) => void): TakeRow {
  const cells = key.map(cellOf);
  const values = new Array<string>(cells.length);
  return (from, at, end) => {
    let p = at;
    for (let c = 0; c < cells.length; c++) {
      let length = from[p] as number;
      // A key without a value is none, and no row of a target has it.
      if (length === 0xfb) return;
      if (length < 0xfb) {
        p++;
      } else {
        length = longLength(from, p);
        p += from[p] === 0xfc ? 3 : from[p] === 0xfd ? 4 : 9;
      }
      const value = (cells[c] as Cell)(from, p, p + length);
      p += length;
      if (cells.length === 1) take(value);
      else values[c] = value;
    }
    if (p !== end) throw new GodwitError('CONNECTION_FAILED', 'MySQL sent a row of another length than it says.');
    if (cells.length > 1) take(values.join('\0'));
  };
}

function cellOf({ bytes, canonical }: Ordered): Cell {
  if (bytes) return (from, at, to) => `\\x${from.toString('hex', at, to)}`;
  // What is spelled otherwise here is numbers and times.
  if (canonical) return (from, at, to) => canonical(from.toString('latin1', at, to));
  return (from, at, to) => {
    // Digits, mostly: for a few of them a call into the engine takes longer than they do.
    if (to - at > 24) return from.toString('utf8', at, to);
    let text = '';
    for (let i = at; i < to; i++) {
      const byte = from[i] as number;
      if (byte >= 0x80) return from.toString('utf8', at, to);
      text += String.fromCharCode(byte);
    }
    return text;
  };
}

/** MySQL 9 knows no shorter hash any more. Count, and the sum of the keys' own hashes: neither order nor plan matters. One look at the range, nothing sorted. */
export async function digestIn(session: Session, { key, from, where }: FromKeys): Promise<KeyDigest> {
  const text =
    key.length === 1 ? key[0]?.digested : `CONCAT_WS(${literal('\0')}, ${key.map((one) => one.digested).join(', ')})`;
  const given = key.map((one) => `${one.order} IS NOT NULL`).join(' AND ');
  const [row] = await session.query<{ count: number | string; hash: string | null }>(
    `SELECT COUNT(*) AS count, CAST(SUM(CAST(CONV(LEFT(SHA2(${text}, 256), 15), 16, 10) AS UNSIGNED)) AS CHAR) AS hash
     FROM ${from} WHERE ${[where, given].filter(Boolean).join(' AND ')}`,
  );
  return { count: Number(row?.count ?? 0), hash: row?.hash ?? '0' };
}
