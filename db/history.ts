/** What was moved: one line per run and table, and how a job has fared. */
import { and, desc, eq, gt, gte, inArray, isNotNull, lt, or, type SQL, sql } from 'drizzle-orm';
import { GodwitError } from '../errors.ts';
import type { Executor } from './open.ts';
import { type Page, type PageWish, pageOf, readCursor } from './paging.ts';
import { type RunTable, shown } from './run-tables.ts';
import { tablesLike } from './runs.ts';
import { badRows, jobs, type RunStatus, runs, runTables, type TableStatus } from './schema.ts';

export type HistoryWish = PageWish & {
  readonly jobId?: string;
  readonly table?: string;
  readonly target?: string;
  readonly mode?: string;
  readonly statuses?: readonly TableStatus[];
  readonly since?: Date;
  readonly until?: Date;
  readonly minSeconds?: number;
};

export type HistoryLine = {
  readonly job: string;
  readonly number: number;
  readonly createdAt: Date;
  readonly table: RunTable;
};

/** The latest runs first, the tables of each in the order of its plan. */
export async function listHistory(db: Executor, wish: HistoryWish): Promise<Page<HistoryLine>> {
  const { jobId, statuses, since, until, minSeconds, limit, cursor } = wish;
  const rows = await db
    .select({ job: jobs.name, number: runs.number, createdAt: runs.createdAt, table: shown })
    .from(runs)
    .innerJoin(jobs, eq(jobs.id, runs.jobId))
    .innerJoin(runTables, eq(runTables.runId, runs.id))
    .where(
      and(
        jobId === undefined ? undefined : eq(runs.jobId, jobId),
        since === undefined ? undefined : gte(runs.createdAt, since),
        until === undefined ? undefined : lt(runs.createdAt, until),
        tablesLike(wish),
        statuses && statuses.length > 0 ? inArray(runTables.status, [...statuses]) : undefined,
        minSeconds === undefined
          ? undefined
          : sql`coalesce(${runTables.endedAt}, now()) - ${runTables.startedAt} >= ${minSeconds} * interval '1 second'`,
        cursor === undefined ? undefined : behind(cursor),
      ),
    )
    .orderBy(sql`${runs.createdAt} DESC NULLS LAST`, runs.id, runTables.ordinal)
    .limit(limit + 1);
  return pageOf(rows, limit, ({ createdAt, table }) => [createdAt.toISOString(), table.runId, table.ordinal]);
}

function behind(cursor: string): SQL | undefined {
  const [at, id, ordinal] = readCursor(cursor, ['string', 'string', 'number']);
  const instant = new Date(at);
  if (Number.isNaN(instant.getTime()) || !/^[0-9a-f-]{36}$/.test(id)) {
    throw new GodwitError('USAGE', 'cursor: give back `next` of the page before, unchanged.');
  }
  const same = and(eq(runs.createdAt, instant), eq(runs.id, id), gt(runTables.ordinal, ordinal));
  return or(lt(runs.createdAt, instant), and(eq(runs.createdAt, instant), gt(runs.id, id)), same);
}

export type Trend = {
  /** The latest first; ended ones only. */
  readonly runs: readonly {
    readonly number: number;
    readonly status: RunStatus;
    readonly endedAt: Date;
    readonly seconds: number | null;
    readonly rowsRead: number;
    readonly rowsWritten: number;
  }[];
  /** Of the succeeded ones among these. */
  readonly medianSeconds: number | null;
  readonly p95Seconds: number | null;
  /** Of the runs that ended in these days: succeeded of succeeded, partial and failed. Null: there was none. */
  readonly successRate7: number | null;
  readonly successRate30: number | null;
};

/** How the last `last` runs of a job went. */
export async function trendOf(db: Executor, jobId: string, last: number): Promise<Trend> {
  const seconds = sql<number | null>`extract(epoch FROM ${runs.endedAt} - ${runs.startedAt})::float8`;
  const sum = (column: SQL) =>
    sql<number>`(SELECT coalesce(sum(t.${column}), 0) FROM ${runTables} t WHERE t.run_id = runs.id)`;
  const latest = await db
    .select({
      number: runs.number,
      status: runs.status,
      endedAt: runs.endedAt,
      seconds,
      rowsRead: sum(sql`rows_read`).mapWith(Number),
      rowsWritten: sum(sql`rows_written`).mapWith(Number),
    })
    .from(runs)
    .where(and(eq(runs.jobId, jobId), isNotNull(runs.endedAt)))
    .orderBy(desc(runs.number))
    .limit(last);
  const took = latest
    .flatMap((run) => (run.status === 'succeeded' && run.seconds !== null ? [run.seconds] : []))
    .sort((a, b) => a - b);
  const [rates] = await db
    .select({ week: rateSince(7), month: rateSince(30) })
    .from(runs)
    .where(and(eq(runs.jobId, jobId), sql`${runs.endedAt} > now() - interval '30 days'`));
  return {
    runs: latest.map((run) => ({ ...run, endedAt: run.endedAt as Date })),
    medianSeconds: quantile(took, 0.5),
    p95Seconds: quantile(took, 0.95),
    successRate7: rates?.week ?? null,
    successRate30: rates?.month ?? null,
  };
}

const rateSince = (days: number) => sql<number | null>`
  (count(*) FILTER (WHERE status = 'succeeded' AND ended_at > now() - ${days} * interval '1 day'))::float8
  / nullif(count(*) FILTER (WHERE status IN ('succeeded', 'partial', 'failed') AND ended_at > now() - ${days} * interval '1 day'), 0)`;

/** The least value that so large a part of all does not pass. */
const quantile = (sorted: readonly number[], part: number): number | null =>
  sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)] ?? null;

export type Retention = { readonly days?: number; readonly perJob?: number };

/**
 * Old runs with all that hangs on them. Those stay: active ones; each job's latest; one in which a table lies unfinished that no later
 * run has taken up; one with quarantined rows that nobody has settled. A page at a time; true when there may be more.
 */
export async function forgetRuns(db: Executor, { days, perJob }: Retention, page = 200): Promise<boolean> {
  if (days === undefined && perJob === undefined) return false;
  const old = or(
    days === undefined ? undefined : sql`r.ended_at < now() - ${days} * interval '1 day'`,
    perJob === undefined ? undefined : sql`r.place > ${perJob}`,
  );
  const gone = await db.execute(sql`
    DELETE FROM ${runs} WHERE id IN (
      SELECT r.id FROM (
        SELECT id, job_id, number, status, ended_at, row_number() OVER (PARTITION BY job_id ORDER BY number DESC) AS place
        FROM ${runs}
      ) r
      WHERE ${old} AND r.ended_at IS NOT NULL AND r.place > 1
        AND r.status IN ('succeeded', 'partial', 'failed', 'canceled', 'skipped')
        AND NOT EXISTS (SELECT 1 FROM godwit.leases l WHERE l.run_id = r.id)
        AND NOT EXISTS (
          SELECT 1 FROM godwit.quarantine q JOIN godwit.run_tables t USING (run_id, ordinal, generation)
            LEFT JOIN godwit.bad_rows b USING (identity, digest)
          WHERE q.run_id = r.id AND q.state = 'open' AND (t.status = 'succeeded' OR b.runs > 1))
        AND NOT EXISTS (
          SELECT 1 FROM godwit.run_tables t
          WHERE t.run_id = r.id AND t.work IS NOT NULL AND t.status NOT IN ('succeeded', 'canceled', 'skipped')
            AND NOT EXISTS (
              SELECT 1 FROM godwit.runs later JOIN godwit.run_tables u ON u.run_id = later.id
              WHERE later.job_id = r.job_id AND later.number > r.number AND u.work IS NOT NULL
                AND u.target = t.target AND u.source_name = t.source_name))
      ORDER BY r.ended_at, r.number LIMIT ${page})`);
  // A chunk that is moved again has forgotten its rows for a moment: the young ones stay.
  await db.execute(sql`
    DELETE FROM ${badRows} b WHERE last_at < now() - interval '7 days'
      AND NOT EXISTS (SELECT 1 FROM godwit.quarantine q WHERE q.identity = b.identity)`);
  return (gone.rowCount ?? 0) >= page;
}
