/**
 * Chunks of an incremental read. With an index that leads with the column: ranges of its values walked along that index, and
 * the rows without a value; all in one chunk `all` when they are few. Without one, or when most of the table is asked for:
 * the chunks of the whole table, each with the range as its filter.
 */
import type { Chunk, Range, SplitOptions, Table } from '../contract.ts';
import { comparable, keyColumns, keysSelect } from './keys.ts';
import type { SessionPool } from './pool.ts';
import { predicateCondition } from './predicates.ts';
import { estimate, type RangeBounds, rangeBoundsCondition, rangeCondition, servedByIndex } from './ranges.ts';
import type { Session } from './session.ts';
import { from, reading, walkIndexes } from './transaction.ts';

type RangeOptions = SplitOptions & {
  readonly range: Range;
  /** Of a chunk. */
  readonly rows: number;
  /** Cuts the table as if all of it were asked for. */
  readonly whole: () => AsyncIterable<Chunk>;
};

export async function* rangeChunks(pool: SessionPool, table: Table, options: RangeOptions): AsyncGenerator<Chunk> {
  const { after } = options;
  if (after) {
    const { bounds } = after as { bounds: RangeBounds };
    if (bounds.nulls) return;
    const rest = { id: after.id, behind: bounds.upto, ended: bounds.last === true, likely: options.rows };
    yield* reading(pool, options, (session) => walked(session, table, options, rest));
    return;
  }
  let whole = false;
  yield* reading(pool, options, async function* (session) {
    const way = await wayOf(session, table, options);
    if (way.by === 'walk') yield* walked(session, table, options, { id: 0, ended: false, likely: way.rows });
    else if (way.by === 'whole') whole = true;
    else yield { id: 1, kind: 'all', bounds: {}, rows: way.rows };
  });
  if (whole) yield* options.whole();
}

/** Estimates, never counts. The walk finds out by itself when rows are few; statistics may be too old to know of them. */
async function wayOf(session: Session, table: Table, options: RangeOptions): Promise<Way> {
  const { range, where, rows: most } = options;
  const conditions = [rangeCondition(table, range), predicateCondition(table, where)].filter(Boolean);
  const rows = await estimate(session, from(table), conditions.join(' AND ') || undefined);
  if (!(await servedByIndex(session, table, range.column))) return { by: rows <= most ? 'all' : 'whole', rows };
  if (rows > table.rows / 2) return { by: 'whole', rows };
  const nulls = range.nulls ? await estimate(session, from(table), nullsOf(table, range)) : 0;
  // They have no order to be cut by but the key's.
  return { by: nulls > most ? 'whole' : 'walk', rows };
}

type Way = { readonly by: 'walk' | 'whole' | 'all'; readonly rows: number };

const nullsOf = (table: Table, { column }: Range) => rangeBoundsCondition(table, { column, nulls: true });

type Begun = {
  readonly id: number;
  readonly behind?: string | undefined;
  readonly ended: boolean;
  readonly likely: number;
};

async function* walked(session: Session, table: Table, options: RangeOptions, begun: Begun): AsyncGenerator<Chunk> {
  const { range, rows } = options;
  const { column, nulls } = range;
  const ends = { column, ...(range.upto === undefined ? {} : { upto: range.upto }) };
  const first = range.from === undefined ? ends : { ...ends, from: range.from };
  let { id, behind } = begun;
  await walkIndexes(session);
  for (let last = begun.ended; !last; ) {
    const open: RangeBounds = behind === undefined ? first : { ...ends, after: behind };
    const upto = await nextBound(session, table, open, rows);
    if (upto === undefined && id === 0) {
      // So few that one look finds all of them.
      yield { id: 1, kind: 'all', bounds: {}, rows: Math.min(rows, begun.likely) };
      return;
    }
    last = upto === undefined;
    yield { id: ++id, kind: 'range', bounds: last ? { ...open, last } : { ...open, upto }, rows };
    behind = upto;
  }
  if (nulls) yield { id: ++id, kind: 'range', bounds: { column, nulls: true }, rows: 0 };
}

/** The value of the last of the next `rows` rows; undefined when no more than these are left. Equal values stay together. */
async function nextBound(
  session: Session,
  table: Table,
  bounds: RangeBounds,
  rows: number,
): Promise<string | undefined> {
  const columns = keyColumns(table, [bounds.column]);
  const order = columns.map(comparable).join(', ');
  const found = await session.query<Record<string, string>>(
    `SELECT ${keysSelect(columns).list} FROM ${from(table)} WHERE ${rangeBoundsCondition(table, bounds)}
     ORDER BY ${order} OFFSET ${rows - 1} LIMIT 2`,
  );
  const [bound] = Object.values(found[0] ?? {});
  return found.length === 2 ? bound : undefined;
}
