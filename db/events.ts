import { and, asc, desc, eq, gt, inArray, lt, sql } from 'drizzle-orm';
import type { Executor } from './open.ts';
import { type Page, type PageWish, pageOf, readCursor } from './paging.ts';
import { events } from './schema.ts';

export type Event = typeof events.$inferSelect;
export type EventDraft = {
  readonly runId: string;
  readonly ordinal?: number;
  readonly level?: Event['level'];
  /** Stable kind: run.started, table.planned, chunk.retried, snapshot.lost … */
  readonly kind: string;
  readonly message: string;
  /** Ids, names, counts. Never a value of a row. */
  readonly data?: Readonly<Record<string, unknown>>;
};

/** Listeners (`/ws`, `godwit logs -f`) hear `{ run, id }` on this channel once the transaction is committed. */
export const eventsChannel = 'godwit_events';

export async function appendEvent(db: Executor, event: EventDraft): Promise<void> {
  const { runId, ordinal = null, level = 'info', kind, message, data } = event;
  await db.execute(sql`
    WITH made AS (
      INSERT INTO ${events} (run_id, ordinal, level, kind, message, data)
      VALUES (${runId}::uuid, ${ordinal}::int, ${level}, ${kind}, ${message}, ${data ? JSON.stringify(data) : null}::jsonb)
      RETURNING id, run_id
    )
    SELECT pg_notify(${eventsChannel}, json_build_object('run', run_id, 'id', id)::text) FROM made`);
}

export type EventWish = PageWish & {
  readonly runId: string;
  readonly ordinal?: number;
  readonly levels?: readonly Event['level'][];
  readonly kind?: string;
  /** Only those behind this id. */
  readonly after?: number;
  /** The latest first. */
  readonly newest?: boolean;
};

export async function listEvents(db: Executor, wish: EventWish): Promise<Page<Event>> {
  const { runId, ordinal, levels, kind, after, newest, limit, cursor } = wish;
  const edge = cursor === undefined ? undefined : readCursor(cursor, ['number'])[0];
  const rows = await db
    .select()
    .from(events)
    .where(
      and(
        eq(events.runId, runId),
        edge === undefined ? undefined : newest ? lt(events.id, edge) : gt(events.id, edge),
        ordinal === undefined ? undefined : eq(events.ordinal, ordinal),
        levels && levels.length > 0 ? inArray(events.level, [...levels]) : undefined,
        kind === undefined ? undefined : eq(events.kind, kind),
        after === undefined ? undefined : gt(events.id, after),
      ),
    )
    .orderBy(newest ? desc(events.id) : asc(events.id))
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [row.id]);
}

/** Of any run, in order: what `/ws` sends on. Ids appear out of order: a later one may be committed first. */
export async function eventsAfter(db: Executor, id: number, limit = 500): Promise<Event[]> {
  return await db.select().from(events).where(gt(events.id, id)).orderBy(asc(events.id)).limit(limit);
}

export async function lastEventId(db: Executor): Promise<number> {
  const [last] = await db.select({ id: events.id }).from(events).orderBy(desc(events.id)).limit(1);
  return last?.id ?? 0;
}
