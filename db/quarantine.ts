import { and, asc, eq, gt, or, type SQL, sql } from 'drizzle-orm';
import type { Sealer } from '../secrets/seal.ts';
import type { Executor } from './open.ts';
import { type Page, type PageWish, pageOf, readCursor } from './paging.ts';
import { quarantine } from './schema.ts';

/** What is sealed (activities/quarantine.ts): the row by its target columns, and why it was refused (reasons quote values). */
export type Quarantined = {
  readonly columns: readonly string[];
  readonly row: readonly unknown[];
  readonly reason: string;
};
const purpose = 'quarantined row';

export async function countQuarantined(db: Executor, runId: string) {
  return await db
    .select({
      ordinal: quarantine.ordinal,
      column: quarantine.column,
      code: quarantine.code,
      rows: sql<number>`count(*)`.mapWith(Number),
    })
    .from(quarantine)
    .where(eq(quarantine.runId, runId))
    .groupBy(quarantine.ordinal, quarantine.column, quarantine.code)
    .orderBy(asc(quarantine.ordinal), asc(quarantine.column), asc(quarantine.code))
    .limit(1000);
}

export type OpenedRow = Omit<typeof quarantine.$inferSelect, 'content'> & { readonly content: Quarantined };

/** Opens the envelopes: whoever calls this writes an audit line first. */
export async function openQuarantined(
  db: Executor,
  sealer: Sealer,
  { runId, ordinal, limit, cursor }: PageWish & { readonly runId: string; readonly ordinal?: number },
): Promise<Page<OpenedRow>> {
  const rows = await db
    .select()
    .from(quarantine)
    .where(
      and(
        eq(quarantine.runId, runId),
        ordinal === undefined ? undefined : eq(quarantine.ordinal, ordinal),
        cursor === undefined ? undefined : behind(cursor),
      ),
    )
    .orderBy(asc(quarantine.ordinal), asc(quarantine.generation), asc(quarantine.chunk), asc(quarantine.row))
    .limit(limit + 1);
  const { items, ...rest } = pageOf(rows, limit, (row) => [row.ordinal, row.generation, row.chunk, row.row]);
  const opened = items.map(({ content, ...row }) => ({
    ...row,
    content: sealer.openJson<Quarantined>(content, purpose),
  }));
  return { items: opened, ...rest };
}

function behind(cursor: string): SQL | undefined {
  const values = readCursor(cursor, ['number', 'number', 'number', 'number']);
  const columns = [quarantine.ordinal, quarantine.generation, quarantine.chunk, quarantine.row];
  return or(
    ...columns.map((column, at) =>
      and(
        ...columns.slice(0, at).map((before, i) => eq(before, values[i] as number)),
        gt(column, values[at] as number),
      ),
    ),
  );
}
