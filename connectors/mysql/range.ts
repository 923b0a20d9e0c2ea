/** Ranges of a column's values, as incremental reads ask for them, and the chunks that are cut by them. */
import type { Chunk, Range, SplitOptions, Table } from '../contract.ts';
import { mysqlExtras } from './extras.ts';
import { canonicalText, isNone, orderedOf, printed } from './ordered.ts';
import type { SessionPool } from './pool.ts';
import type { Session } from './session.ts';
import { ident, tableIdent } from './sql.ts';

/** The rows of a range. A zero date is what a column without NULL has for it, so it is read like one. */
export function rangeCondition(table: Table, { column, from, upto, nulls }: Range): string {
  const { order, literal } = orderedOf(table, column);
  const none = isNone(table, column);
  const zero = none.includes(' OR ') && table.columns.find((one) => one.name === column)?.nullable === false;
  const ends = [
    ...(from === undefined ? [] : [`${order} >= ${literal(from)}`]),
    ...(upto === undefined ? [] : [`${order} <= ${literal(upto)}`]),
  ];
  const within = ends.join(' AND ') || `${ident(column)} IS NOT NULL`;
  return nulls || (zero && from !== undefined) ? `(${within} OR ${none})` : `(${within})`;
}

/**
 * Of a chunk of kind `range`: values from `from`, or behind `after`, up to `upto`; canonical texts. `none`: `only` those
 * without a value, or `too` those.
 */
export type RangeBounds = {
  readonly column: string;
  readonly from?: string;
  readonly after?: string;
  readonly upto?: string;
  readonly none?: 'only' | 'too';
  /** Behind this one there is nothing. */
  readonly last?: true;
};

export function rangeBoundsCondition(table: Table, { column, from, after, upto, none }: RangeBounds): string {
  const without = isNone(table, column);
  if (none === 'only') return without;
  const { order, literal } = orderedOf(table, column);
  const ends = [
    ...(from === undefined ? [] : [`${order} >= ${literal(from)}`]),
    ...(after === undefined ? [] : [`${order} > ${literal(after)}`]),
    ...(upto === undefined ? [] : [`${order} <= ${literal(upto)}`]),
  ];
  if (none === 'too') return `(${[...ends, 'TRUE'].join(' AND ')} OR ${without})`;
  return [...ends, `NOT ${without}`].join(' AND ');
}

/** An index whose first part is the whole column, in the order its values are compared in. */
export function indexOn(table: Table, column: string): string | undefined {
  if (!orderedOf(table, column).natural) return undefined;
  return mysqlExtras(table)?.indexes.find(
    ({ type, invisible, parts: [first] }) =>
      type === 'BTREE' && !invisible && first?.column === column && first.prefix === undefined,
  )?.name;
}

/** Behind this share of a table reading the whole of it in the order of its key is cheaper than looking rows up. */
const mostShare = 0.5;

/**
 * Undefined when the table is better cut by its key, with the range as a filter: no index serves, or the range is about
 * all of it.
 */
export async function rangeChunks(
  pool: SessionPool,
  table: Table,
  options: SplitOptions & { readonly range: Range },
): Promise<AsyncIterable<Chunk> | undefined> {
  const { range, after, signal } = options;
  const index = indexOn(table, range.column);
  if (!index || (after && after.kind !== 'range')) return undefined;
  const [rows, without] = await pool.use(async (session) => {
    const estimate = (condition: string) => estimated(session, table, index, condition);
    const { nulls, ...values } = range;
    return [
      await estimate(rangeCondition(table, values)),
      rangeCondition(table, range).includes(' OR ') ? await estimate(isNone(table, range.column)) : 0,
    ];
  }, signal);
  const keyed = mysqlExtras(table)?.keyIndex !== undefined;
  if (!after && keyed && rows + without > Math.max(table.rows, 1) * mostShare) return undefined;
  return walk(pool, table, options, { index, rows, without });
}

async function estimated(session: Session, table: Table, index: string, condition: string): Promise<number> {
  const explain = session.flavor === 'mysql' ? 'EXPLAIN FORMAT=TRADITIONAL' : 'EXPLAIN';
  const [row] = await session.query<{ rows: number | string | null }>(
    `${explain} SELECT 1 FROM ${tableIdent(table.name)} USE INDEX (${ident(index)}) WHERE ${condition}`,
  );
  return Number(row?.rows ?? 0);
}

type Found = { readonly index: string; readonly rows: number; readonly without: number };

/** Ends of chunks are found by walking the index from one to the next. All rows of one value are in one chunk. */
async function* walk(
  pool: SessionPool,
  table: Table,
  { range, size, after, signal }: SplitOptions & { readonly range: Range },
  { index, rows, without }: Found,
): AsyncGenerator<Chunk> {
  const { column, upto } = range;
  const width = table.rows > 0 && table.bytes > 0 ? table.bytes / table.rows : 100;
  const wanted = Math.max(1, Math.floor(Math.min(size.rows, size.bytes / width)));
  const done = after?.bounds as RangeBounds | undefined;
  if (done?.last) return;
  let id = after?.id ?? 0;
  const chunk = (bounds: Omit<RangeBounds, 'column'>, estimate: number): Chunk => ({
    id: ++id,
    kind: 'range',
    bounds: { column, ...bounds } satisfies RangeBounds,
    rows: Math.round(estimate),
  });
  const end = upto === undefined ? {} : { upto };
  const nulls = rangeCondition(table, range).includes(' OR ');
  const begin = range.from === undefined ? {} : { from: range.from };
  if (!done && rows + without <= wanted) {
    yield chunk({ ...begin, ...end, ...(nulls ? { none: 'too' as const } : {}), last: true }, rows + without);
    return;
  }
  if (!done && nulls) yield chunk({ none: 'only' }, without);
  const value = orderedOf(table, column);
  let from: Pick<RangeBounds, 'from' | 'after'> = done?.upto === undefined ? begin : { after: done.upto };
  for (;;) {
    const where = rangeBoundsCondition(table, { column, ...from, ...end });
    const [found] = await pool.use(
      (session) =>
        session.query<{ value: string | number }>(
          `SELECT ${printed(value)} AS value FROM ${tableIdent(table.name)} FORCE INDEX (${ident(index)})
           WHERE ${where} ORDER BY ${value.order} LIMIT 1 OFFSET ${wanted - 1}`,
        ),
      signal,
    );
    if (!found) break;
    const at = canonicalText(value, String(found.value));
    yield chunk({ ...from, upto: at }, wanted);
    from = { after: at };
  }
  yield chunk({ ...from, ...end, last: true }, wanted / 2);
}
