/** What is to be told to people, and what became of it. */
import { and, desc, eq, inArray, lt, lte, or, type SQL, sql } from 'drizzle-orm';
import { GodwitError } from '../errors.ts';
import type { Executor } from './open.ts';
import { type Page, type PageWish, pageOf, readCursor } from './paging.ts';
import { type Failure, jobs, notifications, type RunStatus, runs, runTables } from './schema.ts';

type Row = typeof notifications.$inferSelect;
export type NotificationStatus = Row['status'];
export type Notification = Row & { readonly job: string; readonly number: number };

type Told = {
  readonly runId: string;
  readonly end: RunStatus;
  readonly attempt: number;
  readonly channels: readonly string[];
};

/** Idempotent: one per end of an attempt and channel. A later attempt's is another event: `failed/2`. */
export async function queueNotifications(db: Executor, { runId, end, attempt, channels }: Told): Promise<void> {
  if (channels.length === 0) return;
  const event = attempt > 1 ? `${end}/${attempt}` : end;
  const rows = [...new Set(channels)].map((channel) => ({ runId, event, channel }));
  await db.insert(notifications).values(rows).onConflictDoNothing();
}

/**
 * The next ones to be sent, given to one worker each. One whose worker dies is due again after `leaseMs`: told twice rather
 * than never.
 */
export async function claimNotifications(
  db: Executor,
  { most, leaseMs }: { readonly most: number; readonly leaseMs: number },
): Promise<Row[]> {
  const due = db
    .select({ id: notifications.id })
    .from(notifications)
    .where(and(eq(notifications.status, 'queued'), lte(notifications.nextAt, sql`now()`)))
    .orderBy(notifications.nextAt)
    .limit(most)
    .for('update', { skipLocked: true });
  return await db
    .update(notifications)
    .set({
      attempts: sql`${notifications.attempts} + 1`,
      nextAt: sql`now() + ${leaseMs} * interval '1 millisecond'`,
    })
    .where(inArray(notifications.id, due))
    .returning();
}

export async function noteSent(db: Executor, id: string): Promise<void> {
  await db
    .update(notifications)
    .set({ status: 'sent', failure: null, sentAt: new Date() })
    .where(eq(notifications.id, id));
}

/** `again`: when it is tried next; without it, it has failed for good. */
export async function noteUnsent(
  db: Executor,
  { id, failure, again }: { readonly id: string; readonly failure: Failure; readonly again?: Date },
): Promise<void> {
  await db
    .update(notifications)
    .set({ failure, ...(again ? { nextAt: again } : { status: 'failed' as const }) })
    .where(and(eq(notifications.id, id), eq(notifications.status, 'queued')));
}

export type NotificationWish = PageWish & {
  readonly runId?: string;
  readonly jobId?: string;
  readonly channel?: string;
  readonly statuses?: readonly NotificationStatus[];
};

/** The latest first. */
export async function listNotifications(db: Executor, wish: NotificationWish): Promise<Page<Notification>> {
  const { runId, jobId, channel, statuses, limit, cursor } = wish;
  const rows = await db
    .select({ notification: notifications, job: jobs.name, number: runs.number })
    .from(notifications)
    .innerJoin(runs, eq(runs.id, notifications.runId))
    .innerJoin(jobs, eq(jobs.id, runs.jobId))
    .where(
      and(
        runId === undefined ? undefined : eq(notifications.runId, runId),
        jobId === undefined ? undefined : eq(runs.jobId, jobId),
        channel === undefined ? undefined : eq(notifications.channel, channel),
        statuses && statuses.length > 0 ? inArray(notifications.status, [...statuses]) : undefined,
        cursor === undefined ? undefined : before(cursor),
      ),
    )
    .orderBy(desc(notifications.createdAt), desc(notifications.id))
    .limit(limit + 1);
  const all = rows.map(({ notification, job, number }) => ({ ...notification, job, number }));
  return pageOf(all, limit, (row) => [row.createdAt.toISOString(), row.id]);
}

function before(cursor: string): SQL | undefined {
  const [at, id] = readCursor(cursor, ['string', 'string']);
  const instant = new Date(at);
  if (Number.isNaN(instant.getTime()) || !/^[0-9a-f-]{36}$/.test(id)) {
    throw new GodwitError('USAGE', 'cursor: give back `next` of the page before, unchanged.');
  }
  return or(lt(notifications.createdAt, instant), and(eq(notifications.createdAt, instant), lt(notifications.id, id)));
}

/** One that failed for good, or waits, is tried at once. Throws NOT_FOUND; CONFLICT when it was sent. */
export async function sendAgain(db: Executor, id: string): Promise<void> {
  const [row] = await db
    .update(notifications)
    .set({ status: 'queued', attempts: 0, nextAt: sql`now()` })
    .where(and(eq(notifications.id, id), inArray(notifications.status, ['queued', 'failed'])))
    .returning({ id: notifications.id });
  if (row) return;
  const [found] = await db.select({ id: notifications.id }).from(notifications).where(eq(notifications.id, id));
  if (!found) throw new GodwitError('NOT_FOUND', 'There is no notification of that id.');
  throw new GodwitError('CONFLICT', 'That notification was sent.');
}

export type TableReport = {
  readonly name: string;
  readonly target: string;
  readonly status: string;
  readonly code: string;
  readonly message: string;
  readonly fix: string;
};

/** An ended run as people are told of it: names, counts, codes and sentences, no values. */
export type RunReport = {
  readonly id: string;
  readonly job: string;
  readonly number: number;
  readonly status: RunStatus;
  readonly attempt: number;
  readonly trigger: string;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
  readonly cutOffAt: string | null;
  readonly failure: Failure | null;
  readonly tables: Readonly<Record<string, number>>;
  readonly rows: {
    readonly read: number;
    readonly written: number;
    readonly unchanged: number;
    readonly deleted: number;
    readonly filtered: number;
    readonly quarantined: number;
  };
  readonly bytes: number;
  /** The first of those that did not succeed by a failure. */
  readonly failed: readonly TableReport[];
  /** A failure left something of a table in its staging. */
  readonly kept: boolean;
};

const mostFailed = 5;

/** Undefined when the run is gone meanwhile. */
export async function reportOf(db: Executor, runId: string): Promise<RunReport | undefined> {
  const [found] = await db
    .select({ run: runs, job: jobs.name })
    .from(runs)
    .innerJoin(jobs, eq(jobs.id, runs.jobId))
    .where(eq(runs.id, runId));
  if (!found) return undefined;
  const { run, job } = found;
  const sum = (column: SQL | typeof runTables.rowsRead) => sql<number>`coalesce(sum(${column}), 0)`.mapWith(Number);
  const counted = await db
    .select({
      status: runTables.status,
      tables: sql<number>`count(*)::int`,
      read: sum(runTables.rowsRead),
      written: sum(runTables.rowsWritten),
      unchanged: sum(runTables.rowsUnchanged),
      deleted: sum(runTables.rowsDeleted),
      filtered: sum(runTables.rowsFiltered),
      quarantined: sum(runTables.rowsQuarantined),
      bytes: sum(runTables.bytes),
      kept: sql<boolean>`coalesce(bool_or(${runTables.chunksDone} > 0 AND ${runTables.status} IN ('failed', 'cut off')), false)`,
    })
    .from(runTables)
    .where(eq(runTables.runId, runId))
    .groupBy(runTables.status);
  const { sourceName, target, status, failure } = runTables;
  const failed = await db
    .select({ name: sourceName, target, status, failure })
    .from(runTables)
    .where(and(eq(runTables.runId, runId), eq(status, 'failed')))
    .orderBy(runTables.ordinal)
    .limit(mostFailed);
  const total = (name: keyof RunReport['rows'] | 'bytes') => counted.reduce((so, one) => so + one[name], 0);
  return {
    id: run.id,
    job,
    number: run.number,
    status: run.status,
    attempt: run.attempt,
    trigger: run.trigger,
    startedAt: run.startedAt?.toISOString() ?? null,
    endedAt: run.endedAt?.toISOString() ?? null,
    cutOffAt: run.cutOffAt?.toISOString() ?? null,
    failure: run.failure,
    tables: Object.fromEntries(counted.map((one) => [one.status, one.tables])),
    rows: {
      read: total('read'),
      written: total('written'),
      unchanged: total('unchanged'),
      deleted: total('deleted'),
      filtered: total('filtered'),
      quarantined: total('quarantined'),
    },
    bytes: total('bytes'),
    failed: failed.map((one) => ({
      name: one.name,
      target: one.target,
      status: one.status,
      code: one.failure?.code ?? '',
      message: one.failure?.message ?? '',
      fix: one.failure?.fix ?? '',
    })),
    kept: counted.some((one) => one.kept),
  };
}
