/** Bounds of chunks from what ANALYZE found: no row and no index entry is read. */
import type { Table } from '../contract.ts';
import type { PostgresKeyIndex } from './extras.ts';
import type { Session } from './session.ts';

/** Types whose values have one text form and one order. Texts have an order per collation. */
const plain = new Set([
  'smallint',
  'integer',
  'bigint',
  'uuid',
  'date',
  'timestamp without time zone',
  'timestamp with time zone',
]);

/** More changed rows than this part of the table, and the histogram is too old to cut by. */
const stale = 0.2;
/** Fewer histogram buckets per chunk than this would make chunks of very different sizes. */
const bucketsPerChunk = 4;

type Statistics = { bounds: string[] | null; changed: string | null };

/**
 * The last keys of all chunks but the last one, in order, those behind `after` only; undefined when statistics are missing,
 * old or too coarse, or when `after` is none of theirs (they are newer than it): then the index is walked.
 */
export async function histogramBounds(
  session: Session,
  table: Table,
  index: PostgresKeyIndex,
  count: number,
  after: string | undefined,
): Promise<string[] | undefined> {
  const [column, more] = index.columns;
  if (!column || more || !plain.has(column.type) || table.kind !== 'table' || count < 2) return undefined;
  const [found] = await session.query<Statistics>(
    `SELECT s.histogram_bounds::text::text[] AS bounds, pg_stat_get_mod_since_analyze(c.oid)::text AS changed
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND NOT s.inherited
     WHERE n.nspname = $1 AND c.relname = $2 AND s.attname = $3 AND s.most_common_vals IS NULL`,
    [table.name.schema, table.name.name, column.name],
  );
  const bounds = found?.bounds;
  if (!bounds || bounds.length - 1 < count * bucketsPerChunk) return undefined;
  if (Number(found.changed) > stale * Math.max(table.rows, 0)) return undefined;
  const cuts = Array.from({ length: count - 1 }, (_, i) => bounds[Math.round(((i + 1) * (bounds.length - 1)) / count)]);
  const distinct = [...new Set(cuts.filter((cut) => cut !== undefined))];
  if (after === undefined) return distinct;
  const at = distinct.indexOf(after);
  return at < 0 ? undefined : distinct.slice(at + 1);
}
