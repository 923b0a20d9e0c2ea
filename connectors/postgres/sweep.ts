/** A source's keys for the sweep of a mirrored table: ranges of them, their digest, themselves. */
import type { KeyBatch, KeyDigest, KeyRange, ReadKeys, SplitOptions, Table } from '../contract.ts';
import type { LogicalKind } from '../types.ts';
import { postgresExtras } from './extras.ts';
import { histogramBounds } from './histogram.ts';
import { copyKeys, digestIn, keyColumns, keyRangeCondition, keysSelect } from './keys.ts';
import type { SessionPool } from './pool.ts';
import { predicateCondition } from './predicates.ts';
import type { Session } from './session.ts';
import { evenly } from './split.ts';
import { ident } from './sql.ts';
import { assertUnchanged, from, reading, walkIndexes } from './transaction.ts';
import { parserOf } from './values.ts';

/** Types whose order is the same on every system. */
const strided: readonly LogicalKind[] = ['int16', 'int32', 'int64', 'uuid', 'date', 'timestamp', 'timestamptz'];

/**
 * Ranges of about a chunk's size, by the statistics' histogram or a walk along the key's index; one range when the key is of
 * several columns or of another type.
 */
export async function* keyRanges(
  pool: SessionPool,
  table: Table,
  key: readonly string[],
  options: SplitOptions,
): AsyncGenerator<KeyRange> {
  const begun = options.after?.bounds as KeyRange | undefined;
  if (begun && !begun.upto) return;
  const { rows, count } = evenly(table, options.size);
  const index = postgresExtras(table)?.keyIndex;
  const [column, ...more] = keyColumns(table, key);
  const cuts = column && more.length === 0 && index?.columns.length === 1 && index.columns[0]?.name === column.name;
  if (!cuts || !strided.includes(column.type.kind) || (count <= 1 && !begun)) {
    yield {};
    return;
  }
  yield* reading(pool, options, async function* (session) {
    const known = begun ? undefined : await histogramBounds(session, table, index, count, undefined);
    const canonical = parserOf(column.type);
    await walkIndexes(session);
    let after = begun?.upto;
    for (;;) {
      const open: KeyRange = after ? { after } : {};
      const text = known ? known.shift() : undefined;
      const upto: readonly string[] | undefined = known
        ? text === undefined ? undefined : [String(canonical(text))] // biome-ignore format: two cases
        : await nextKey(session, table, key, open, rows);
      yield upto ? { ...open, upto } : open;
      if (!upto) return;
      after = upto;
    }
  });
}

/** The last of the next `rows` keys; undefined when no more than these are left. */
async function nextKey(session: Session, table: Table, key: readonly string[], range: KeyRange, rows: number) {
  const columns = keyColumns(table, key);
  const where = keyRangeCondition(columns, range);
  const found = await session.query<Record<string, string>>(
    `SELECT ${keysSelect(columns).list} FROM ${from(table)}${where ? ` WHERE ${where}` : ''}
     ORDER BY ${key.map(ident).join(', ')} OFFSET ${rows - 1} LIMIT 2`,
  );
  return found.length === 2 ? Object.values(found[0] ?? {}) : undefined;
}

/** All keys of the range; the table is the one described before and after, or it throws SOURCE_CHANGED. */
export function sourceKeys(
  pool: SessionPool,
  table: Table,
  key: readonly string[],
  { range, want }: { readonly range: KeyRange; readonly want: ReadKeys },
): AsyncIterable<KeyBatch> {
  return reading(pool, want, async function* (session) {
    await assertUnchanged(session, table, seen(key, want));
    const where = whereOf(table, key, range, want);
    yield* copyKeys(session, { columns: keyColumns(table, key), from: from(table), where, signal: want.signal });
    await assertUnchanged(session, table, seen(key, want));
  });
}

export async function sourceDigest(
  pool: SessionPool,
  table: Table,
  key: readonly string[],
  { range, want }: { readonly range: KeyRange; readonly want: ReadKeys },
): Promise<KeyDigest> {
  const [digest] = await Array.fromAsync(
    reading(pool, want, async function* (session) {
      await assertUnchanged(session, table, seen(key, want));
      const where = whereOf(table, key, range, want);
      const digest = await digestIn(session, keyColumns(table, key), from(table), where);
      await assertUnchanged(session, table, seen(key, want));
      yield digest;
    }),
  );
  return digest as KeyDigest;
}

const seen = (key: readonly string[], { where = [] }: ReadKeys): string[] => [
  ...new Set([...key, ...where.map((predicate) => predicate.column)]),
];

const whereOf = (table: Table, key: readonly string[], range: KeyRange, { where }: ReadKeys): string | undefined =>
  [keyRangeCondition(keyColumns(table, key), range), predicateCondition(table, where)].filter(Boolean).join(' AND ') ||
  undefined;
