/**
 * Chunks, found as they are asked for. Three kinds:
 * 1. `all`: the table is smaller than a chunk, or has no key to walk. No query.
 * 2. `keys`: ranges of the key. A range is halved at a key about where the half should be, until the server's own estimate
 *    says that it is small enough: EXPLAIN looks at a few pages of the index, and a key is found by one look into it. So
 *    nothing is scanned, gaps and skew are followed, and what is guessed wrong costs another guess, never a row.
 * 3. `range` (range.ts): of an incremental read, ranges of the column it follows.
 */
import type { Chunk, SplitOptions, Table } from '../contract.ts';
import { mysqlExtras } from './extras.ts';
import { between, compare, guess, type Key, type KeyBounds, type KeyColumn, keyColumns, keyText } from './keys.ts';
import type { SessionPool } from './pool.ts';
import { rangeChunks } from './range.ts';
import type { Session } from './session.ts';
import { ident, tableIdent } from './sql.ts';

export async function* splitTable(pool: SessionPool, table: Table, options: SplitOptions): AsyncGenerator<Chunk> {
  const small = table.rows <= options.size.rows && table.bytes <= options.size.bytes;
  const { range, after } = options;
  if (range && (after ? after.kind === 'range' : !small)) {
    const ranges = await rangeChunks(pool, table, { ...options, range });
    if (ranges) return yield* ranges;
  }
  const kind = after?.kind ?? (small || !mysqlExtras(table)?.keyIndex ? 'all' : 'keys');
  yield* kind === 'all' ? all(table, options) : keys(pool, table, options);
}

async function* all(table: Table, options: SplitOptions): AsyncGenerator<Chunk> {
  options.signal.throwIfAborted();
  if (!options.after) yield { id: 1, kind: 'all', bounds: {}, rows: Math.max(0, table.rows) };
}

/** A range may be so much larger than wanted before it is halved, and together with its neighbour so much smaller. */
const tooMany = 1.25;
const tooFew = 0.6;
/** Bytes of a range within which InnoDB counts: ten pages, the first and the last of them in part. */
const counted = 8 * 16_384;
/** After so many guesses for one chunk its end is counted instead. */
const patience = 100;

async function* keys(pool: SessionPool, table: Table, options: SplitOptions): AsyncGenerator<Chunk> {
  let id = options.after?.id ?? 0;
  const last = options.after?.bounds as KeyBounds | undefined;
  if (last && !last.upto) return; // that was the last one
  const session = await pool.take();
  let broken = false;
  const stop = () => session.destroy();
  options.signal.addEventListener('abort', stop, { once: true });
  try {
    options.signal.throwIfAborted();
    const index = indexOf(session, table);
    const lowest = await index.find('ASC');
    const highest = await index.find('DESC');
    const most = lowest && highest ? (index.width(lowest, highest) ?? Infinity) + 1 : 0;
    const total = Math.min(Math.max(table.rows, 0), most);
    // Integers with few gaps: their distance says it better than an estimate.
    const dense = total > most * 0.8;
    const wanted = wantedRows(total, table, options.size);
    /** Where the ranges still to be looked at end, the nearest last; null: open. */
    const ends: (Key | null)[] = [...(last?.rest ?? [null])];
    let after = last?.upto;
    let from = after; // the range looked at begins here; between `after` and it lie `held` rows
    let held = 0;
    let guesses = 0;
    const chunk = (upto: Key | null, rows: number): Chunk => {
      const bounds: KeyBounds = {
        ...(after && { after }),
        ...(upto && { upto }),
        ...(ends.length > 0 && { rest: [...ends] }),
      };
      after = upto ?? undefined;
      from = after;
      held = 0;
      guesses = 0;
      return { id: ++id, kind: 'keys', bounds, rows: Math.round(rows) };
    };
    while (ends.length > 0) {
      const end = ends.at(-1) as Key | null;
      const whole = from === undefined && end === null;
      const width = lowest && highest ? index.width(from ?? lowest, end ?? highest) : undefined;
      const rows = whole
        ? total
        : dense && width !== undefined
          ? width
          : Math.min(await index.estimate(from, end), width ?? Infinity);
      if (rows > wanted * tooMany && lowest && highest) {
        const halves = Math.max(2, Math.round(rows / wanted));
        const share = Math.floor(halves / 2) / halves;
        const patient = ++guesses < patience;
        const middle = patient && (await index.between(from, end, { lowest, highest, share }));
        const point = middle || (await index.count(from, end, Math.floor(wanted)));
        if (point) {
          ends.push(point);
          if (!middle) {
            // Counted, so exact: no estimate could say it better.
            ends.pop();
            yield chunk(point, held + wanted);
          }
          continue;
        }
      }
      if (held > 0 && held + rows > wanted * 1.5 && from) {
        yield chunk(from, held);
        continue;
      }
      ends.pop();
      if (held + rows < wanted * tooFew && ends.length > 0) {
        held += rows;
        from = end ?? undefined;
        continue;
      }
      yield chunk(end, held + rows);
    }
  } catch (error) {
    broken = true;
    throw options.signal.aborted ? options.signal.reason : error;
  } finally {
    options.signal.removeEventListener('abort', stop);
    // Left early or not: between two chunks the session has nothing to do.
    if (broken) session.destroy();
    else await pool.give(session);
  }
}

/** As many as asked for or fit into the bytes; all chunks alike, and an even number of them: no worker is left idle. */
function wantedRows(total: number, table: Table, { rows, bytes }: SplitOptions['size']): number {
  const width = total > 0 && table.bytes > 0 ? table.bytes / total : 100;
  const largest = Math.max(1, Math.min(rows, bytes / width));
  const needed = Math.ceil(total / largest);
  return needed > 1 ? total / (needed + (needed % 2)) : largest;
}

function indexOf(session: Session, table: Table) {
  const { index, columns } = keyColumns(table);
  const single = table.key.length === 1;
  const width = table.rows > 0 && table.bytes > 0 ? table.bytes / table.rows : 100;
  const texts = columns.map((column, i) => `${keyText(column)} AS k${i}`).join(', ');
  const from = `FROM ${tableIdent(table.name)} FORCE INDEX (${ident(index)})`;
  const where = (...conditions: (string | undefined)[]) => {
    const some = conditions.filter(Boolean).join(' AND ');
    return some ? `WHERE ${some}` : '';
  };
  const order = (direction: 'ASC' | 'DESC') =>
    `ORDER BY ${columns.map(({ name }) => `${ident(name)} ${direction}`).join(', ')}`;
  const explain = session.flavor === 'mysql' ? 'EXPLAIN FORMAT=TRADITIONAL' : 'EXPLAIN';

  const find = async (direction: 'ASC' | 'DESC', condition = '', offset = 0): Promise<Key | undefined> => {
    const [row] = await session.query<Record<string, string>>(
      `SELECT ${texts} ${from} ${condition} ${order(direction)} LIMIT 1 OFFSET ${offset}`,
    );
    return row && columns.map((_, i) => String(row[`k${i}`]));
  };
  const estimate = async (low: Key | undefined, high: Key | null): Promise<number> => {
    // FORCE INDEX would spare MySQL the look into the index that this is for.
    const [row] = await session.query<{ rows: number | string | null }>(
      `${explain} SELECT 1 ${from.replace('FORCE INDEX', 'USE INDEX')} ${where(between(columns, low, high))}`,
    );
    const rows = Number(row?.rows ?? 0);
    // Of a range over more pages than it looks at InnoDB tells twice of what it found.
    return rows * width > counted ? rows / 2 : rows;
  };
  return {
    find,
    estimate,
    /** How many keys there can be behind `low` up to `high`; undefined for any but a single integer. */
    width(low: Key, high: Key): number | undefined {
      const whole = columns.length === 1 && single && [low, high].every(([text]) => /^-?\d+$/.test(text ?? ''));
      return whole ? Number(BigInt(high[0] as string) - BigInt(low[0] as string)) : undefined;
    },
    /** A key inside of the range, and not its last, about `share` of the way through; undefined when there seems to be none. */
    async between(
      low: Key | undefined,
      high: Key | null,
      { lowest, highest, share }: { lowest: Key; highest: Key; share: number },
    ): Promise<Key | undefined> {
      const first = low ?? lowest;
      const last = high ?? highest;
      const at = columns.findIndex((_, i) => first[i] !== last[i]);
      const column = columns[at];
      if (!column) return undefined;
      const value = guess(column, first[at] as string, last[at] as string, share);
      if (value === undefined) return undefined;
      const point = [...first.slice(0, at), value];
      const range = between(columns, low, high);
      const below = await find('DESC', where(range, compare(columns, '<=', point)));
      if (below && !same(below, last)) return below;
      const above = await find('ASC', where(range, compare(columns, '>', point)));
      return above && !same(above, last) ? above : undefined;
    },
    /** The last key of the next `rows` rows; undefined when no more than that are left. Reads the index's entries. */
    async count(low: Key | undefined, high: Key | null, rows: number): Promise<Key | undefined> {
      const found = await session.query<Record<string, string>>(
        `SELECT ${texts} ${from} ${where(between(columns, low, high))} ${order('ASC')} LIMIT 2 OFFSET ${rows - 1}`,
      );
      const key = found.length === 2 ? columns.map((_: KeyColumn, i) => String(found[0]?.[`k${i}`])) : undefined;
      // Over a part of the index's columns both may be one: then all its rows are one range.
      return key && high && same(key, high) ? undefined : key;
    },
  };
}

const same = (a: Key, b: Key): boolean => a.length === b.length && a.every((text, i) => text === b[i]);
