/**
 * Chunks, found as they are asked for. Three kinds:
 * 1. `all`: the table is smaller than a chunk, or has no key to walk. No query.
 * 2. `keys`: ranges of the key. Their bounds come from the statistics' histogram where it is fresh and the key simple, at no
 *    cost; else each is found by one walk of N entries along the key's index.
 * 3. `blocks`: ranges of the table's blocks, where the order of the key says nothing about the order on disk (random
 *    UUIDs): a key range would touch every block of the table. Needs one snapshot for all chunks.
 * An incremental read has a fourth, `range` (split-range.ts); where that is of no use, one of these with a filter.
 */
import { GodwitError } from '../../errors.ts';
import type { Chunk, SplitOptions, Table } from '../contract.ts';
import { type BlockBounds, compare, type KeyBounds, keyExpression } from './bounds.ts';
import { type PostgresExtras, type PostgresKeyIndex, postgresExtras } from './extras.ts';
import { histogramBounds } from './histogram.ts';
import type { SessionPool } from './pool.ts';
import type { Session } from './session.ts';
import { rangeChunks } from './split-range.ts';
import { ident } from './sql.ts';
import { from, reading, walkIndexes } from './transaction.ts';

export function splitTable(pool: SessionPool, table: Table, options: SplitOptions): AsyncIterable<Chunk> {
  const { range, after, size } = options;
  const whole = () => splitAll(pool, table, options);
  if (!range || isSmall(table, size) || (after && after.kind !== 'range')) return whole();
  return rangeChunks(pool, table, { ...options, range, whole, rows: stride(table, size) });
}

function splitAll(pool: SessionPool, table: Table, options: SplitOptions): AsyncIterable<Chunk> {
  const extras = postgresExtras(table);
  const kind = options.after?.kind ?? kindOf(table, extras, options);
  switch (kind) {
    case 'all':
      return all(table, options);
    case 'keys':
      return extras?.keyIndex ? keys(pool, table, extras.keyIndex, options) : all(table, options);
    case 'blocks':
      return blocks(table, extras?.pages ?? 0, options);
    default:
      throw new GodwitError('INTERNAL', `A chunk of kind ${kind} does not cut a whole table.`);
  }
}

/** Without statistics a random UUID is told by its type. TID ranges are read as ranges since 14. */
function kindOf(table: Table, extras: PostgresExtras | undefined, options: SplitOptions): Chunk['kind'] {
  if (isSmall(table, options.size) || !extras?.keyIndex) return 'all';
  const first = extras.keyIndex.columns[0];
  const scattered =
    extras.correlation === undefined
      ? first?.type === 'uuid'
      : Math.abs(extras.correlation) < 0.5 && table.rows > 10_000;
  const plain = table.kind === 'table' || table.kind === 'materialized view';
  return scattered && plain && extras.version >= 14 && options.snapshot.consistency === 'snapshot' ? 'blocks' : 'keys';
}

const isSmall = (table: Table, size: SplitOptions['size']): boolean =>
  table.rows <= size.rows && table.bytes <= size.bytes;

async function* all(table: Table, options: SplitOptions): AsyncGenerator<Chunk> {
  options.signal.throwIfAborted();
  if (!options.after) yield { id: 1, kind: 'all', bounds: {}, rows: Math.max(0, table.rows) };
}

/**
 * Chunks are of one size, and of an even number: a last one on its own would leave half of a worker idle. Without an
 * estimate each is as large as may be.
 */
export function evenly(table: Table, size: SplitOptions['size']): { readonly rows: number; readonly count: number } {
  const most = stride(table, size);
  const needed = Math.ceil(Math.max(table.rows, 0) / most);
  const count = needed > 1 ? needed + (needed % 2) : needed;
  return { count, rows: count > 1 ? Math.ceil(table.rows / count) : most };
}

/** Rows of a chunk: as many as asked for, or as many as fit into the bytes. */
export function stride(table: Table, { rows, bytes }: SplitOptions['size']): number {
  const width = table.rows > 0 && table.bytes > 0 ? table.bytes / table.rows : 100;
  return Math.max(1, Math.floor(Math.min(rows, bytes / width)));
}

async function* keys(
  pool: SessionPool,
  table: Table,
  index: PostgresKeyIndex,
  options: SplitOptions,
): AsyncGenerator<Chunk> {
  const { rows, count } = evenly(table, options.size);
  let id = options.after?.id ?? 0;
  let after: readonly string[] | undefined;
  if (options.after) {
    after = (options.after.bounds as KeyBounds).upto;
    if (!after) return; // that was the last one
  }
  yield* reading(pool, options, async function* (session) {
    await walkIndexes(session);
    let left = table.rows;
    const known = await histogramBounds(session, table, index, count, after?.[0]);
    for (;;) {
      const upto: string[] | undefined = known ? nextOf(known) : await walk(session, table, index, after, rows);
      const bounds: KeyBounds = { ...(after && { after }), ...(upto && { upto }) };
      yield { id: ++id, kind: 'keys', bounds, rows: upto ? rows : Math.max(0, Math.round(left)) };
      if (!upto) break;
      left -= rows;
      after = upto;
    }
  });
}

const nextOf = (bounds: string[]): string[] | undefined => (bounds.length > 0 ? bounds.splice(0, 1) : undefined);

/**
 * The last key of the next `rows` rows, or undefined when no more than that are left: so that the last chunk, open above,
 * is never empty. Rows are counted in the index; its entries are read once over all walks.
 */
async function walk(
  session: Session,
  table: Table,
  index: PostgresKeyIndex,
  after: readonly string[] | undefined,
  rows: number,
): Promise<string[] | undefined> {
  // Qualified, because an output column of the same name would be what ORDER BY means: the text, in the order of texts.
  const order = index.columns.map((column) => keyExpression(column, 't.')).join(', ');
  const texts = index.columns.map((column, i) => `t.${ident(column.name)}::text AS k${i}`).join(', ');
  const where = after ? ` WHERE ${compare(table, index, '>', after)}` : '';
  const found = await session.query<Record<string, string>>(
    `SELECT ${texts} FROM ${from(table)} t${where} ORDER BY ${order} OFFSET ${rows - 1} LIMIT 2`,
  );
  const bound = found[0];
  return bound && found.length === 2 ? index.columns.map((_, i) => bound[`k${i}`] as string) : undefined;
}

async function* blocks(table: Table, pages: number, options: SplitOptions): AsyncGenerator<Chunk> {
  const rowsPerPage = pages > 0 ? Math.max(table.rows, 0) / pages : 1;
  const perChunk = Math.max(1, Math.floor(stride(table, options.size) / Math.max(rowsPerPage, 0.001)));
  let id = options.after?.id ?? 0;
  let at: number | undefined = 0;
  if (options.after) at = (options.after.bounds as BlockBounds).to;
  while (at !== undefined) {
    options.signal.throwIfAborted();
    const end: number | undefined = at + perChunk < pages ? at + perChunk : undefined;
    const bounds: BlockBounds = end === undefined ? { from: at } : { from: at, to: end };
    yield { id: ++id, kind: 'blocks', bounds, rows: Math.round(((end ?? Math.max(pages, at)) - at) * rowsPerPage) };
    at = end;
  }
}
