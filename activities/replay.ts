/**
 * Rows set aside that may be written now, after the target or the mapping was mended: an increment of those rows alone, into the
 * table people read.
 */
import { activityInfo } from '@temporalio/activity';
import { and, desc, eq, gt, isNotNull, sql } from 'drizzle-orm';
import type { BadRow, Chunk, Increment, Target, Work } from '../connectors/contract.ts';
import type { Row, Value } from '../connectors/types.ts';
import { getJobById } from '../db/jobs.ts';
import type { ProbeRequest } from '../db/probes.ts';
import { type OpenedRow, openQuarantined, refuseAgain, settleQuarantined } from '../db/quarantine.ts';
import { getRun } from '../db/runs.ts';
import { jobs, leases, type ProbeAnswer, runs, runTables } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import type { Deps } from './deps.ts';
import { planSome } from './plan-one.ts';
import { loadTable, note, type OpenTable, type TableRow } from './state.ts';
import { borrowDuckDb, transform } from './transform.ts';

type Request = Extract<ProbeRequest, { kind: 'replay' }>;
type Answer = Extract<ProbeAnswer, { kind: 'replay' }>;
type Run = Awaited<ReturnType<typeof getRun>>;

/** At once; who has more asks again. */
const most = 10_000;

/**
 * Idempotent by `replayId`, under which the target knows what it wrote. A row that is refused again stays open with the new
 * reason, which is written down before the commit that leaves it out. Throws CONFLICT, ALREADY_RUNNING, MODE_REFUSED.
 */
export async function replay(deps: Deps, replayId: string, request: Request, signal: AbortSignal): Promise<Answer> {
  const { runId, ordinal, actor } = request;
  const run = await getRun(deps.db, runId);
  const row = await loadTable(deps.db, { runId, epoch: run.epoch, ordinal });
  if (row.status !== 'succeeded') {
    const message = `${row.sourceName} is ${row.status}: its rows belong to no table yet. Retry the run.`;
    throw new GodwitError('CONFLICT', message, { table: row.sourceName, target: row.target });
  }
  const { items } = await openQuarantined(deps.db, deps.sealer, {
    runId,
    ordinal,
    states: ['open'],
    limit: most,
    ...(request.rows ? { rows: request.rows } : {}),
  });
  if (items.length === 0) return { kind: 'replay', replayed: 0, present: 0, open: 0 };
  await using _lease = await takeLease(deps, run);
  const later = await laterRun(deps, run, row);
  const { refused, present } = await write(deps, { run, row, items, later, replayId, signal });
  // What an earlier attempt of this very replay was refused with carries its id.
  const good = items.filter((one) => !refused.has(one) && one.content.replay !== replayId);
  const said = present > 0 ? `${present} of these keys were there already and stay as they are` : undefined;
  if (good.length > 0) {
    const rows = good.map(({ chunk, row: at }) => ({ ordinal, chunk, row: at }));
    await settleQuarantined(
      deps.db,
      { runId, ordinal, rows },
      { state: 'replayed', actor, ...(said ? { note: said } : {}) },
    );
  }
  const message = `${row.sourceName}: ${good.length} rows set aside were written after all, ${items.length - good.length} refused again.`;
  await note(deps.db, { runId, ordinal, kind: 'quarantine.replayed', message });
  return { kind: 'replay', replayed: good.length, present, open: items.length - good.length };
}

type Writing = {
  readonly run: Run;
  readonly row: TableRow;
  readonly items: readonly OpenedRow[];
  readonly later: boolean;
  readonly replayId: string;
  readonly signal: AbortSignal;
};

async function write(deps: Deps, { run, row, items, later, replayId, signal }: Writing) {
  const job = await getJobById(deps.db, run.jobId);
  const at = { table: row.sourceName, target: row.target };
  await using planned = await planSome(deps, job, {
    document: job.document,
    run: replayId,
    // The instant the rows belong to: of their snapshot, and not newer than what came after them.
    snapshotDate: run.snapshotDate ?? run.createdAt,
    aliases: [row.target],
    tables: [row.sourceName],
    signal,
  });
  const [one] = planned.tables;
  const target = planned.targets.get(row.target);
  if (!one || !target) throw new GodwitError('NOT_FOUND', `The job does not move ${row.sourceName} any more.`, at);
  if (one.failure || !one.work) {
    const { code = 'MODE_REFUSED', message = 'it cannot be planned' } = one.failure ?? {};
    throw new GodwitError(code as 'MODE_REFUSED', message, at);
  }
  const work = workOf(one.work, target, existingRows(one.work, row, later));
  const refused = new Map<OpenedRow, BadRow>();
  const take = async (bad: readonly BadRow[]) => {
    for (const each of bad) {
      const item = items[each.ordinal];
      if (!item) continue;
      refused.set(item, each);
      const { column, native, reason } = each;
      const now = { reason, replay: replayId, ...(column ? { column } : {}), ...(native ? { native } : {}) };
      await refuseAgain(deps.db, deps.sealer, item, now);
    }
  };
  const chunk: Chunk = { id: 1, kind: 'all', bounds: null, rows: items.length };
  try {
    await target.prepare(work);
    const claim = await target.claim(work, chunk);
    const rows = items.map(({ content }) => rowOf(work, content));
    const counts =
      claim.done ??
      (await target.write(work, claim, batches(deps, { work, target }, rows, signal), { signal, quarantine: take }));
    await target.finish(work);
    await target.publish([work], []);
    return { refused, present: counts.unchanged ?? 0 };
  } catch (error) {
    await target.discard(work).catch(() => {});
    throw error;
  }
}

/**
 * Cases: 1 the newest run of a table that follows updates: the row becomes what it was when it was set aside; 2 rows of a table that
 * only grows, of a snapshot, or of an older run: what is there of that key stays; 3 a whole copy which a later run has
 * replaced: its rows are in the newer one, or set aside there.
 */
function existingRows(work: Work, row: TableRow, later: boolean): Increment['existing'] {
  if (work.mode === 'replace' && later) {
    const message = `A later run has replaced ${row.sourceName}: replay, or waive, the rows of that run.`;
    throw new GodwitError('CONFLICT', message, { table: row.sourceName, target: row.target });
  }
  return later || work.mode === 'logging' || work.mode === 'dumping' ? 'keep' : 'update';
}

/** Rows go one by one into a table that stays, whatever mode filled it. */
function workOf({ state: _state, ...planned }: Work, target: Target, existing: Increment['existing']): Work {
  const table = `${planned.source.name.schema}.${planned.source.name.name}`;
  const refused = (why: string) => {
    throw new GodwitError('MODE_REFUSED', `${table} ${why}. Run its job again.`, { table, target: planned.target });
  };
  const inPlace = planned.mode === 'replace' || planned.mode === 'dumping';
  if (inPlace && target.appends) refused('is copied whole into files, to which no row is added afterwards');
  if (planned.key.length === 0) refused('has no key: whether a row is there already cannot be told');
  return {
    ...planned,
    ...(inPlace ? { mode: 'syncing' as const } : {}),
    increment: { existing },
    lane: 'rows',
    readFormat: 'rows',
    writeFormat: target.formats.includes('rows') ? 'rows' : planned.writeFormat,
  };
}

/** By the columns' names at the target: the mapping may have others by now. */
function rowOf({ columns }: Work, content: OpenedRow['content']): Row {
  return columns.map(({ name, constant, type }) => {
    const at = content.columns.indexOf(name);
    if (at < 0) return constant ?? null;
    const value = (content.row[at] ?? null) as Value;
    // `on_misfit: text` since.
    return type.kind === 'text' && typeof value !== 'string' && value !== null ? String(value) : value;
  });
}

function batches(
  deps: Deps,
  { work, target }: Pick<OpenTable, 'work' | 'target'>,
  rows: readonly Row[],
  signal: AbortSignal,
) {
  const read = async function* () {
    yield { kind: 'rows' as const, rows };
  };
  return transform({ work, target }, read, {
    way: work,
    signal,
    spool: deps.config.spool,
    duckdb: () => borrowDuckDb(deps),
    progress: () => {},
  });
}

/** Has a later run moved the table? */
async function laterRun(deps: Deps, run: Run, row: TableRow): Promise<boolean> {
  const [found] = await deps.db
    .select({ number: runs.number })
    .from(runs)
    .innerJoin(runTables, eq(runTables.runId, runs.id))
    .where(
      and(
        eq(runs.jobId, run.jobId),
        gt(runs.number, run.number),
        eq(runTables.target, row.target),
        eq(runTables.sourceName, row.sourceName),
        eq(runTables.status, 'succeeded'),
        isNotNull(runTables.work),
      ),
    )
    .orderBy(desc(runs.number))
    .limit(1);
  return found !== undefined;
}

/** Nobody else writes to the job's tables meanwhile: a load that is swapped in would lose these rows. */
async function takeLease(deps: Deps, run: Run): Promise<AsyncDisposable> {
  const { workflowExecution } = activityInfo();
  const mine = { workflowId: workflowExecution?.workflowId ?? '', firstExecutionRunId: workflowExecution?.runId ?? '' };
  const isMine = and(eq(leases.jobId, run.jobId), eq(leases.firstExecutionRunId, mine.firstExecutionRunId));
  await deps.db.transaction(async (tx) => {
    await tx.execute(sql`SELECT 1 FROM ${jobs} WHERE id = ${run.jobId} FOR UPDATE`);
    const now = await tx.select().from(leases).where(eq(leases.jobId, run.jobId));
    const others = now.filter((lease) => lease.firstExecutionRunId !== mine.firstExecutionRunId);
    // One that is stale is for `begin` and the janitor to judge.
    if (others.length > 0) throw running(run);
    if (now.length > 0) return;
    await tx
      .insert(leases)
      .values({ jobId: run.jobId, scheduleKey: '', runId: run.id, installation: deps.installation, ...mine });
  });
  return {
    async [Symbol.asyncDispose]() {
      await deps.db.delete(leases).where(isMine);
    },
  };
}

const running = (run: Run) =>
  new GodwitError('ALREADY_RUNNING', `The job "${run.job}" is running: rows are replayed when it is over.`, {
    job: run.job,
  });
