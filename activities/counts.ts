/** Counts of rows as Godwit's own tables keep them; the sums are of durable chunks. */
import { sql } from 'drizzle-orm';
import type { Counts } from '../connectors/contract.ts';

export const rowCounts = (counts: Counts) => ({
  rowsRead: counts.read,
  rowsWritten: counts.written,
  rowsFiltered: counts.filtered,
  rowsQuarantined: counts.quarantined,
  rowsUnchanged: counts.unchanged ?? 0,
  rowsInserted: counts.inserted ?? 0,
  rowsUpdated: counts.updated ?? 0,
  rowsDeleted: counts.deleted ?? 0,
  bytes: counts.bytes,
});
export type RowCounts = ReturnType<typeof rowCounts>;

export const noCounts: Counts = { read: 0, written: 0, filtered: 0, quarantined: 0, bytes: 0 };
export const noRows: RowCounts = rowCounts(noCounts);

export const sumOf = (pieces: readonly RowCounts[]): RowCounts =>
  Object.fromEntries(
    (Object.keys(noRows) as (keyof RowCounts)[]).map((key) => [key, pieces.reduce((sum, one) => sum + one[key], 0)]),
  ) as RowCounts;

type Booked = Pick<RowCounts, 'rowsRead' | 'rowsWritten' | 'rowsUnchanged' | 'rowsFiltered' | 'rowsQuarantined'>;

/** Promise 3. */
export const balances = (rows: Booked): boolean =>
  rows.rowsRead === rows.rowsWritten + rows.rowsUnchanged + rows.rowsFiltered + rows.rowsQuarantined;
export const unbalancedSql = sql`rows_read <> rows_written + rows_unchanged + rows_filtered + rows_quarantined`;
export const booksText = (rows: Booked): string =>
  `${rows.rowsRead} read, but ${rows.rowsWritten} written, ${rows.rowsUnchanged} unchanged, ${rows.rowsFiltered} filtered, ${rows.rowsQuarantined} set aside`;

const names = ['read', 'written', 'filtered', 'quarantined', 'unchanged', 'inserted', 'updated', 'deleted'] as const;

/** `rows_read = c.read, …, bytes = c.bytes` */
export const setCounts = (from: string) =>
  sql.raw([...names.map((name) => `rows_${name} = ${from}.${name}`), `bytes = ${from}.bytes`].join(', '));
/** `coalesce(sum(rows_read) FILTER (WHERE status = 'done'), 0) AS read, …` of chunks. */
export const sumCounts = (of = '') => {
  const sum = (column: string, name: string) =>
    `coalesce(sum(${of}${column}) FILTER (WHERE ${of}status = 'done'), 0) AS ${name}`;
  return sql.raw([...names.map((name) => sum(`rows_${name}`, name)), sum('bytes', 'bytes')].join(', '));
};
/** Columns of a record set made of `Counts`. */
export const countsRecord = sql.raw([...names, 'bytes'].map((name) => `${name} bigint`).join(', '));
/** Counts with nothing absent, for such a record set. */
export const wholeCounts = (counts: Counts) => ({
  ...counts,
  unchanged: counts.unchanged ?? 0,
  inserted: counts.inserted ?? 0,
  updated: counts.updated ?? 0,
  deleted: counts.deleted ?? 0,
});
