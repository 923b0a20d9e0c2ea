import { and, asc, eq, gt, or, sql } from 'drizzle-orm';
import { GodwitError } from '../errors.ts';
import type { JobDocument } from '../mapping/document.ts';
import { writeAudit } from './audit.ts';
import type { Executor } from './open.ts';
import { type Page, type PageWish, pageOf, readCursor } from './paging.ts';
import { type Failure, jobDocuments, jobs, schedules } from './schema.ts';

export type Schedule = typeof schedules.$inferSelect & {
  readonly job: string;
  /** How many entries of the mapping it moves. */
  readonly tables: number;
};

/** Reconcilers hear of every change of a row on it, and of its end. */
export const schedulesChannel = 'godwit_schedules';
export const tellSchedules = (db: Executor) => db.execute(sql`SELECT pg_notify(${schedulesChannel}, '')`);

/**
 * The job's rows as its document has them, in the transaction that stores the document. Who paused one stays: a schedule
 * of another expression under the same key is still that part of the job. A document without a zone leaves `timezone`
 * empty: the installation's, which may change.
 */
export async function putSchedules(
  tx: Executor,
  { jobId, name, document }: { readonly jobId: string; readonly name: string; readonly document: JobDocument },
): Promise<void> {
  const wanted = Object.entries(document.schedules ?? {});
  const keys = wanted.map(([key]) => key);
  const gone = await tx
    .delete(schedules)
    .where(and(eq(schedules.jobId, jobId), sql`NOT (${schedules.key} = ANY (${sql.param(keys)}::text[]))`))
    .returning({ key: schedules.key });
  for (const [key, { kind, expression, options }] of wanted) {
    const said = {
      kind,
      expression,
      options,
      timezone: document.timezone ?? '',
      temporalId: temporalId(name, key),
      updatedAt: new Date(),
    };
    await tx
      .insert(schedules)
      .values({ jobId, key, ...said })
      .onConflictDoUpdate({ target: [schedules.jobId, schedules.key], set: said });
  }
  if (gone.length + wanted.length > 0) await tellSchedules(tx);
}

const temporalId = (job: string, key: string): string => `schedule/${job}/${key}`;

const withJob = (db: Executor) =>
  db
    .select({
      schedule: schedules,
      job: jobs.name,
      tables: sql<number>`(
        SELECT count(*)::int FROM jsonb_array_elements(${jobDocuments.document}->'tables') one
        WHERE one->>'schedule' = ${schedules.key})`,
    })
    .from(schedules)
    .innerJoin(jobs, eq(jobs.id, schedules.jobId))
    .innerJoin(jobDocuments, and(eq(jobDocuments.jobId, jobs.id), eq(jobDocuments.version, jobs.version)))
    .$dynamic();

/** By job and key. */
export async function listSchedules(
  db: Executor,
  { jobId, limit, cursor }: PageWish & { readonly jobId?: string },
): Promise<Page<Schedule>> {
  const rows = await withJob(db)
    .where(
      and(
        jobId === undefined ? undefined : eq(schedules.jobId, jobId),
        cursor === undefined ? undefined : after(cursor),
      ),
    )
    .orderBy(asc(jobs.name), asc(schedules.key))
    .limit(limit + 1);
  return pageOf(rows.map(flat), limit, (row) => [row.job, row.key]);
}

function after(cursor: string) {
  const [job, key] = readCursor(cursor, ['string', 'string']);
  return or(gt(jobs.name, job), and(eq(jobs.name, job), gt(schedules.key, key)));
}

const flat = ({ schedule, job, tables }: { schedule: typeof schedules.$inferSelect; job: string; tables: number }) => ({
  ...schedule,
  job,
  tables,
});

export async function allSchedules(db: Executor): Promise<Schedule[]> {
  return (await withJob(db).orderBy(asc(jobs.name), asc(schedules.key))).map(flat);
}

/** Throws NOT_FOUND. */
export async function getSchedule(db: Executor, job: string, key: string): Promise<Schedule> {
  const [found] = await withJob(db).where(and(eq(jobs.name, job), eq(schedules.key, key)));
  if (found) return flat(found);
  throw new GodwitError('NOT_FOUND', `The job "${job}" has no schedule "${key}".`, { job });
}

/** Of a run that a Schedule started; undefined when it is not the document's any more. */
export async function scheduleOf(db: Executor, jobId: string, key: string) {
  const [found] = await db
    .select()
    .from(schedules)
    .where(and(eq(schedules.jobId, jobId), eq(schedules.key, key)));
  return found;
}

type Pause = {
  readonly paused: boolean;
  readonly note?: string;
  readonly actor: string;
};

/** Temporal is told within some seconds. Idempotent. */
export async function pauseSchedule(
  db: Executor,
  { jobId, key }: ScheduleId,
  { paused, note, actor }: Pause,
): Promise<void> {
  await db.transaction(async (tx) => {
    await tx
      .update(schedules)
      .set({ paused, note: note ?? null, actor, updatedAt: new Date() })
      .where(and(eq(schedules.jobId, jobId), eq(schedules.key, key)));
    await tellSchedules(tx);
  });
}

export type ScheduleId = Pick<Schedule, 'jobId' | 'key'>;
const unchanged = ({ jobId, key, updatedAt }: Schedule) =>
  and(eq(schedules.jobId, jobId), eq(schedules.key, key), eq(schedules.updatedAt, updatedAt));

/** Temporal was told what the row said when it was read; one that changed meanwhile is told again. */
export async function noteApplied(
  db: Executor,
  row: Schedule,
  { applied, until }: { readonly applied: string; readonly until: Date | null },
): Promise<void> {
  await db
    .update(schedules)
    .set({ applied, until, appliedAt: sql`greatest(now(), ${schedules.updatedAt})`, failure: null })
    .where(unchanged(row));
}

export async function noteFailure(db: Executor, row: Schedule, failure: Failure): Promise<void> {
  await db.update(schedules).set({ failure }).where(unchanged(row));
}

export async function noteNext(db: Executor, { jobId, key }: ScheduleId, next: readonly string[]): Promise<void> {
  await db
    .update(schedules)
    .set({ next })
    .where(and(eq(schedules.jobId, jobId), eq(schedules.key, key)));
}

/** Somebody paused or resumed it in Temporal. Nothing when the row changed meanwhile. */
export async function adoptPause(
  db: Executor,
  row: Schedule,
  { paused, note, applied }: { readonly paused: boolean; readonly note: string; readonly applied: string },
): Promise<void> {
  await db.transaction(async (tx) => {
    const said = { paused, note: note === '' ? null : note };
    const at = new Date();
    const changed = await tx
      .update(schedules)
      .set({ ...said, applied, actor: 'temporal', updatedAt: at, appliedAt: at })
      .where(unchanged(row))
      .returning({ key: schedules.key });
    if (changed.length === 0) return;
    // It may have to be told something else yet.
    await tellSchedules(tx);
    if (paused === row.paused) return;
    const action = paused ? 'pause schedule' : 'resume schedule';
    await writeAudit(tx, { actor: 'temporal', action, object: `schedule/${row.job}/${row.key}`, data: said });
  });
}
