import { and, desc, eq, gt, gte, inArray, isNull, lt, lte, or, type SQL, sql } from 'drizzle-orm';
import { GodwitError } from '../errors.ts';
import type { JobDocument } from '../mapping/document.ts';
import type { Executor } from './open.ts';
import { type Page, type PageWish, pageOf, readCursor } from './paging.ts';
import { prepared } from './prepared.ts';
import { type Failure, jobDocuments, jobs, type RunRequest, type RunStatus, runs, runTables } from './schema.ts';
import { activeStatuses, isActive } from './status.ts';

export type Run = typeof runs.$inferSelect;
/** With the job's name, without the document. */
export type RunSummary = Omit<Run, 'document' | 'requestBounds'> & { readonly job: string };

export type RunDraft = {
  readonly jobId: string;
  readonly scheduleKey?: string;
  /** The id of the workflow that runs it, from the job's name and the run's number; or the one that is running. */
  readonly workflowId: (job: string, number: number) => string;
  /** api, cli, schedule … */
  readonly trigger: string;
  readonly actor?: string;
  readonly idempotencyKey?: string;
  /** What this run does other than its document says; `bounds` sealed. */
  readonly request?: RunRequest;
  readonly requestBounds?: Buffer;
  /** Run ids whose workflows are known to be gone: they refuse no start (decision 6). */
  readonly ignore?: readonly string[];
  /** A start by schedule or by hand while another runs is written down as skipped by `begin`: do not refuse here. */
  readonly allowActive?: boolean;
};

/**
 * The run's row, with its number and a frozen copy of the document. The same Idempotency-Key gives the same run again
 * (`again`). Throws ALREADY_RUNNING with the other's number.
 */
export async function createRun(
  db: Executor,
  draft: RunDraft,
): Promise<{ readonly run: Run; readonly again: boolean }> {
  return await db.transaction(async (tx) => {
    const { jobId, scheduleKey = '' } = draft;
    const [job] = await tx.select().from(jobs).where(eq(jobs.id, jobId)).for('update');
    if (!job) throw new GodwitError('NOT_FOUND', 'That job is gone.');
    if (draft.idempotencyKey !== undefined) {
      const [made] = await tx
        .select()
        .from(runs)
        .where(and(eq(runs.jobId, jobId), eq(runs.idempotencyKey, draft.idempotencyKey)));
      if (made) return { run: made, again: true };
    }
    const active = draft.allowActive ? undefined : await findActive(tx, { jobId, scheduleKey, ignore: draft.ignore });
    if (active) throw alreadyRunning(job.name, active);
    const [frozen] = await tx
      .select()
      .from(jobDocuments)
      .where(and(eq(jobDocuments.jobId, jobId), eq(jobDocuments.version, job.version)));
    const number = job.lastRun + 1;
    await tx.update(jobs).set({ lastRun: number }).where(eq(jobs.id, jobId));
    const [run] = await tx
      .insert(runs)
      .values({
        jobId,
        number,
        scheduleKey,
        documentVersion: job.version,
        document: frozen?.document,
        workflowId: draft.workflowId(job.name, number),
        trigger: draft.trigger,
        actor: draft.actor ?? null,
        idempotencyKey: draft.idempotencyKey ?? null,
        request: draft.request ?? null,
        requestBounds: draft.requestBounds ?? null,
      })
      .returning();
    return { run: run as Run, again: false };
  });
}

export const alreadyRunning = (job: string, run: Pick<Run, 'number' | 'status'>): GodwitError =>
  new GodwitError('ALREADY_RUNNING', `Run ${run.number} of the job "${job}" is ${run.status}.`, {
    job,
    run: `${job}/${run.number}`,
  });

type ActiveWish = {
  readonly jobId: string;
  readonly scheduleKey?: string;
  readonly ignore?: readonly string[] | undefined;
};

/** The run of that job (and schedule key) that is not over, if there is one. */
export async function findActive(
  db: Executor,
  { jobId, scheduleKey, ignore = [] }: ActiveWish,
): Promise<Run | undefined> {
  const found = await db
    .select()
    .from(runs)
    .where(
      and(
        eq(runs.jobId, jobId),
        // As leases: a run of the whole job excludes all, one of a schedule those of the same key.
        scheduleKey ? inArray(runs.scheduleKey, [scheduleKey, '']) : undefined,
        inArray(runs.status, [...activeStatuses]),
      ),
    )
    .orderBy(desc(runs.number));
  return found.find((run) => !ignore.includes(run.id));
}

/** Throws NOT_FOUND. */
export async function getRun(
  db: Executor,
  id: string,
): Promise<Run & { readonly job: string; readonly jobUid: string }> {
  const [found] = await db
    .select({ run: runs, job: jobs.name, jobUid: jobs.uid })
    .from(runs)
    .innerJoin(jobs, eq(jobs.id, runs.jobId))
    .where(eq(runs.id, id));
  if (!found) throw new GodwitError('NOT_FOUND', 'There is no run of that id.', { run: id });
  return { ...found.run, job: found.job, jobUid: found.jobUid };
}

export const documentOf = (run: Pick<Run, 'document'>): JobDocument => run.document as JobDocument;

export type RunWish = PageWish & {
  readonly jobId?: string;
  readonly statuses?: readonly RunStatus[];
  readonly trigger?: string;
  readonly since?: Date;
  readonly until?: Date;
  /** Runs that have such a table. */
  readonly table?: string;
  readonly target?: string;
  readonly mode?: string;
  /** That took so long at least; of a run that goes on: until now. */
  readonly minSeconds?: number;
};

/** The latest first. Without documents: a page of runs is small. */
export async function listRuns(db: Executor, wish: RunWish): Promise<Page<RunSummary>> {
  const { limit, cursor } = wish;
  const rows = await db
    .select({ ...summaryColumns, job: jobs.name })
    .from(runs)
    .innerJoin(jobs, eq(jobs.id, runs.jobId))
    .where(and(runsLike(wish), hasTable(wish), cursor === undefined ? undefined : before(cursor)))
    // As the indexes have them, or they are no use: drizzle makes them NULLS LAST.
    .orderBy(sql`${runs.createdAt} DESC NULLS LAST`, runs.id)
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [row.createdAt.toISOString(), row.id]);
}

function runsLike({ jobId, statuses, trigger, since, until, minSeconds }: Omit<RunWish, 'limit'>): SQL | undefined {
  return and(
    jobId === undefined ? undefined : eq(runs.jobId, jobId),
    statuses && statuses.length > 0 ? inArray(runs.status, [...statuses]) : undefined,
    trigger === undefined ? undefined : eq(runs.trigger, trigger),
    since === undefined ? undefined : gte(runs.createdAt, since),
    until === undefined ? undefined : lt(runs.createdAt, until),
    minSeconds === undefined
      ? undefined
      : sql`coalesce(${runs.endedAt}, now()) - ${runs.startedAt} >= ${minSeconds} * interval '1 second'`,
  );
}

function hasTable({ table, target, mode }: Omit<RunWish, 'limit'>): SQL | undefined {
  if (table === undefined && target === undefined && mode === undefined) return undefined;
  const like = tablesLike({ table, target, mode });
  return sql`EXISTS (SELECT 1 FROM ${runTables} WHERE ${runTables.runId} = ${runs.id} AND ${like})`;
}

type TableWish = {
  readonly table?: string | undefined;
  readonly target?: string | undefined;
  readonly mode?: string | undefined;
};

/** A name at the source or at the target, with its schema or without. */
export const tablesLike = ({ table, target, mode }: TableWish): SQL | undefined =>
  and(
    table === undefined
      ? undefined
      : or(
          ...[runTables.sourceName, runTables.targetName].map(
            (name) => sql`(${name} = ${table} OR right(${name}, ${table.length + 1}) = ${`.${table}`})`,
          ),
        ),
    target === undefined ? undefined : eq(runTables.target, target),
    mode === undefined ? undefined : eq(runTables.mode, mode),
  );

function before(cursor: string): SQL | undefined {
  const [at, id] = readCursor(cursor, ['string', 'string']);
  const instant = new Date(at);
  if (Number.isNaN(instant.getTime()) || !/^[0-9a-f-]{36}$/.test(id)) {
    throw new GodwitError('USAGE', 'cursor: give back `next` of the page before, unchanged.');
  }
  return and(lte(runs.createdAt, instant), or(lt(runs.createdAt, instant), gt(runs.id, id)));
}

/** The newest run of each job. */
export async function latestRuns(db: Executor, jobIds: readonly string[]): Promise<ReadonlyMap<string, RunSummary>> {
  if (jobIds.length === 0) return new Map();
  const rows = await db
    .select({ ...summaryColumns, job: jobs.name })
    .from(jobs)
    .innerJoin(runs, and(eq(runs.jobId, jobs.id), eq(runs.number, jobs.lastRun)))
    .where(inArray(jobs.id, [...jobIds]));
  return new Map(rows.map((row) => [row.jobId, row]));
}

/** Without its document. Throws NOT_FOUND. */
export async function getRunSummary(
  db: Executor,
  by: { readonly id: string } | { readonly job: string; readonly number: number },
): Promise<RunSummary> {
  const select = () =>
    db
      .select({ ...summaryColumns, job: jobs.name })
      .from(runs)
      .innerJoin(jobs, eq(jobs.id, runs.jobId));
  const byId = (name: string) =>
    select()
      .where(eq(runs.id, sql.placeholder('id')))
      .prepare(name);
  const byNumber = (name: string) =>
    select()
      .where(and(eq(jobs.name, sql.placeholder('job')), eq(runs.number, sql.placeholder('number'))))
      .prepare(name);
  const [found] =
    'id' in by
      ? await prepared(db, 'godwit_run_by_id', byId).execute(by)
      : await prepared(db, 'godwit_run_by_number', byNumber).execute(by);
  if (found) return found;
  if ('id' in by) throw new GodwitError('NOT_FOUND', 'There is no run of that id.', { run: by.id });
  throw new GodwitError('NOT_FOUND', `The job "${by.job}" has no run ${by.number}.`, { run: `${by.job}/${by.number}` });
}

/** Of any job: what is not over. */
export async function activeRuns(db: Executor): Promise<RunSummary[]> {
  return await db
    .select({ ...summaryColumns, job: jobs.name })
    .from(runs)
    .innerJoin(jobs, eq(jobs.id, runs.jobId))
    .where(inArray(runs.status, [...activeStatuses]))
    .orderBy(desc(runs.createdAt))
    .limit(1000);
}

const summaryColumns = {
  id: runs.id,
  jobId: runs.jobId,
  number: runs.number,
  scheduleKey: runs.scheduleKey,
  documentVersion: runs.documentVersion,
  status: runs.status,
  failure: runs.failure,
  attempt: runs.attempt,
  epoch: runs.epoch,
  workflowId: runs.workflowId,
  workflowRunId: runs.workflowRunId,
  trigger: runs.trigger,
  actor: runs.actor,
  idempotencyKey: runs.idempotencyKey,
  snapshotDate: runs.snapshotDate,
  request: runs.request,
  cutOffAt: runs.cutOffAt,
  consistency: runs.consistency,
  notes: runs.notes,
  createdAt: runs.createdAt,
  startedAt: runs.startedAt,
  endedAt: runs.endedAt,
};

export type RunTotals = {
  readonly tables: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly open: number;
  readonly rowsRead: number;
  readonly rowsWritten: number;
  readonly rowsFiltered: number;
  readonly rowsQuarantined: number;
  readonly rowsUnchanged: number;
  readonly rowsInserted: number;
  readonly rowsUpdated: number;
  readonly rowsDeleted: number;
  readonly rowsMoving: number;
  readonly bytes: number;
};

/** Sums over the tables of each run. */
export async function totalsOf(db: Executor, runIds: readonly string[]): Promise<ReadonlyMap<string, RunTotals>> {
  if (runIds.length === 0) return new Map();
  const query = prepared(db, 'godwit_run_totals', (name) => selectTotals(db).prepare(name));
  const rows = await query.execute({ runIds: `{${runIds.join(',')}}` });
  return new Map(rows.map(({ runId, ...totals }) => [runId, totals]));
}

function selectTotals(db: Executor) {
  const number = (value: SQL) => sql<number>`${value}`.mapWith(Number);
  return db
    .select({
      runId: runTables.runId,
      tables: number(sql`count(*)`),
      succeeded: number(sql`count(*) FILTER (WHERE ${runTables.status} = 'succeeded')`),
      failed: number(sql`count(*) FILTER (WHERE ${runTables.status} = 'failed')`),
      open: number(
        sql`count(*) FILTER (WHERE ${runTables.status} IN ('queued', 'running', 'waiting', 'paused', 'staged'))`,
      ),
      rowsRead: number(sql`sum(${runTables.rowsRead})`),
      rowsWritten: number(sql`sum(${runTables.rowsWritten})`),
      rowsFiltered: number(sql`sum(${runTables.rowsFiltered})`),
      rowsQuarantined: number(sql`sum(${runTables.rowsQuarantined})`),
      rowsUnchanged: number(sql`sum(${runTables.rowsUnchanged})`),
      rowsInserted: number(sql`sum(${runTables.rowsInserted})`),
      rowsUpdated: number(sql`sum(${runTables.rowsUpdated})`),
      rowsDeleted: number(sql`sum(${runTables.rowsDeleted})`),
      rowsMoving: number(sql`sum(${runTables.rowsMoving})`),
      bytes: number(sql`sum(${runTables.bytes})`),
    })
    .from(runTables)
    .where(sql`${runTables.runId} = ANY (${sql.placeholder('runIds')}::uuid[])`)
    .groupBy(runTables.runId);
}

/** A start that Temporal refused leaves nothing; false when its workflow has begun after all. */
export async function forgetStart(db: Executor, runId: string): Promise<boolean> {
  const gone = await db
    .delete(runs)
    .where(and(eq(runs.id, runId), eq(runs.status, 'queued'), isNull(runs.startedAt)))
    .returning({ id: runs.id });
  return gone.length > 0;
}

export async function noteWorkflow(db: Executor, runId: string, workflowRunId: string): Promise<void> {
  await db
    .update(runs)
    .set({ workflowRunId })
    .where(and(eq(runs.id, runId), isNull(runs.workflowRunId)));
}

/** A run that waits for a workflow nobody started: it would look queued for ever. */
export async function failStart(db: Executor, runId: string, failure: Failure): Promise<void> {
  await db
    .update(runs)
    .set({ status: 'failed', failure, endedAt: new Date() })
    .where(and(eq(runs.id, runId), eq(runs.status, 'queued')));
}

/**
 * Another try of a closed run (decision 5): attempt and epoch + 1, the same frozen document. Tables that did not succeed
 * are queued again, with their staging. Throws CONFLICT when it is not closed, or has nothing left to do.
 */
export async function reopenRun(
  db: Executor,
  { runId, ignore }: { readonly runId: string; readonly ignore?: readonly string[] },
): Promise<Run> {
  return await db.transaction(async (tx) => {
    const [found] = await tx.select({ jobId: runs.jobId }).from(runs).where(eq(runs.id, runId));
    if (!found) throw new GodwitError('NOT_FOUND', 'There is no run of that id.', { run: runId });
    // The job first, as createRun does: two of them cannot wait for each other.
    const [job] = await tx.select().from(jobs).where(eq(jobs.id, found.jobId)).for('update');
    const [run] = await tx.select().from(runs).where(eq(runs.id, runId)).for('update');
    if (!job || !run) throw new GodwitError('NOT_FOUND', 'There is no run of that id.', { run: runId });
    const where = { job: job.name, run: `${job.name}/${run.number}` };
    if (isActive(run.status) && !ignore?.includes(run.id)) {
      throw new GodwitError('CONFLICT', `Run ${run.number} of "${job.name}" is ${run.status}: it is not over.`, where);
    }
    if (run.status === 'succeeded') {
      throw new GodwitError('CONFLICT', `Run ${run.number} of "${job.name}" succeeded: start a new run.`, where);
    }
    const other = await findActive(tx, {
      jobId: job.id,
      scheduleKey: run.scheduleKey,
      ignore: [runId, ...(ignore ?? [])],
    });
    if (other) throw alreadyRunning(job.name, other);
    const [changed] = await tx
      .update(runs)
      .set({
        status: 'queued',
        failure: null,
        endedAt: null,
        attempt: run.attempt + 1,
        // The workflow that ended is not this attempt's: a janitor would find it closed.
        workflowRunId: null,
        document: renamed(documentOf(run), job.name),
      })
      .where(eq(runs.id, runId))
      .returning();
    return changed as Run;
  });
}

/** A job may have a new name since: its own endpoints have it too. */
function renamed(document: JobDocument, name: string): JobDocument {
  if (document.name === name) return document;
  const own = (text: string) => (text.startsWith(`${document.name}/`) ? name + text.slice(document.name.length) : text);
  const targets = Object.entries(document.targets).map(([alias, use]) => [alias, { ...use, target: own(use.target) }]);
  return { ...document, name, source: own(document.source), targets: Object.fromEntries(targets) };
}
