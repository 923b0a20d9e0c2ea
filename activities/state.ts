import { and, desc, eq, isNull, ne, sql } from 'drizzle-orm';
import type { SnapshotRef, Source, Target, Work } from '../connectors/contract.ts';
import { appendEvent } from '../db/events.ts';
import type { Executor } from '../db/open.ts';
import { incrementPurpose } from '../db/run-bounds.ts';
import { chunks, jobs, runs, runTables, snapshots, type TableOptions, type TableStatus } from '../db/schema.ts';
import { codes, GodwitError } from '../errors.ts';
import type { JobDocument } from '../mapping/document.ts';
import type { GenerationRef, RunRef, TableRef } from './contract.ts';
import { noRows, setCounts, sumCounts } from './counts.ts';
import type { Deps } from './deps.ts';
import type { Borrowed } from './endpoints.ts';
import { storedFailure, unforeseenAttempts } from './failures.ts';

export type RunRow = typeof runs.$inferSelect & {
  readonly doc: JobDocument;
  readonly jobName: string;
  readonly jobUid: string;
};
export type TableRow = typeof runTables.$inferSelect;

export const openStatuses: readonly TableStatus[] = ['queued', 'running', 'waiting', 'paused'];

type Stage = Pick<TableRow, 'status' | 'failure'>;
/** Complete in its staging: its publication alone is left, whether or not that has to wait. Nothing moves it any more. */
export const isComplete = ({ status, failure }: Stage) =>
  status === 'staged' || (status === 'waiting' && failure?.publishing === true);
/** Still to be moved. */
export const isOpen = (row: Stage) => openStatuses.includes(row.status) && !isComplete(row);
/** The same two, of a row of run_tables in SQL. */
export const complete = sql`(status = 'staged' OR (status = 'waiting' AND failure->'publishing' IS NOT NULL))`;
export const stillOpen = sql`(status IN ('queued', 'running', 'waiting', 'paused') AND NOT ${complete})`;

/** The run, if this epoch still owns it. A newer one means another workflow took over: nothing more is written here. */
export async function loadRun(db: Executor, { runId, epoch }: RunRef): Promise<RunRow> {
  const [found] = await db
    .select({ run: runs, jobName: jobs.name, jobUid: jobs.uid })
    .from(runs)
    .innerJoin(jobs, eq(jobs.id, runs.jobId))
    .where(eq(runs.id, runId));
  if (!found) throw new GodwitError('NOT_FOUND', `There is no run ${runId}.`);
  if (found.run.epoch !== epoch)
    throw new GodwitError('FENCED', 'The run was taken over by a newer workflow.', { run: runId });
  return { ...found.run, doc: found.run.document as JobDocument, jobName: found.jobName, jobUid: found.jobUid };
}

export async function loadTable(db: Executor, { runId, ordinal }: TableRef): Promise<TableRow> {
  const [row] = await db
    .select()
    .from(runTables)
    .where(and(eq(runTables.runId, runId), eq(runTables.ordinal, ordinal)));
  if (!row) throw new GodwitError('NOT_FOUND', `The run has no table ${ordinal}.`, { run: runId });
  return row;
}

export const theTable = ({ runId, ordinal }: { runId: string; ordinal: number }) =>
  and(eq(runTables.runId, runId), eq(runTables.ordinal, ordinal));

export const note = appendEvent;

/** One table with everything open to move it. */
export type OpenTable = {
  readonly run: RunRow;
  readonly row: TableRow;
  readonly work: Work;
  readonly options: TableOptions;
  readonly source: Source;
  readonly target: Target;
};

/** The plan of the table as it is stored. */
export const planOf = (row: TableRow): Work => {
  if (!row.work) throw new GodwitError('INTERNAL', 'The table has no plan.', { run: row.runId, table: row.sourceName });
  return { ...row.work, generation: row.generation };
};

/** As it is stored: without what may hold key values. */
export const withoutValues = ({ increment: _increment, state: _state, ...work }: Work): Work => work;

export type Sealed = Pick<Work, 'increment' | 'state'>;
export const sealIncrement = (deps: Deps, { increment, state }: Sealed): Buffer | null =>
  increment || state ? deps.sealer.sealJson({ increment, state }, incrementPurpose) : null;
export const openIncrement = (deps: Deps, row: Pick<TableRow, 'increment'>): Sealed =>
  row.increment ? (deps.sealer.openJson(row.increment, incrementPurpose) as Sealed) : {};

/** All that the connectors must know. */
export const workOf = (deps: Deps, row: TableRow): Work => ({ ...planOf(row), ...openIncrement(deps, row) });

export const optionsOf = (row: TableRow): TableOptions =>
  row.options ?? { why: '', chunks: 'one', batchSize: 10_000, maxQuarantined: 0, where: [] };

export function borrowTarget(deps: Deps, run: RunRow, alias: string): Promise<Borrowed<Target>> {
  const use = run.doc.targets[alias];
  if (!use) throw new GodwitError('NOT_FOUND', `The job has no target "${alias}".`, { run: run.id });
  return deps.endpoints.target(run.id, use.target);
}
export const borrowSource = (deps: Deps, run: RunRow) => deps.endpoints.source(run.id, run.doc.source);

/** Runs `work` with the table's source and target open; a lost connection is not given to others. */
export async function withTable<R>(
  deps: Deps,
  run: RunRow,
  row: TableRow,
  work: (table: OpenTable) => Promise<R>,
): Promise<R> {
  await using source = await borrowSource(deps, run);
  await using target = await borrowTarget(deps, run, row.target);
  try {
    return await work({
      run,
      row,
      work: workOf(deps, row),
      options: optionsOf(row),
      source: source.it,
      target: target.it,
    });
  } catch (error) {
    if (error instanceof GodwitError && error.code === 'CONNECTION_FAILED') {
      deps.endpoints.distrust(source.it);
      deps.endpoints.distrust(target.it);
    }
    throw error;
  }
}

/** A stale attempt met a table that has started again since. */
export const refuseStale = (row: TableRow, { generation }: GenerationRef) => {
  if (row.generation !== generation) {
    throw new GodwitError('FENCED', 'The table has started again since.', { run: row.runId, table: row.sourceName });
  }
};

export type SnapshotRow = typeof snapshots.$inferSelect;
export async function newestSnapshot(db: Executor, runId: string): Promise<SnapshotRow | undefined> {
  const [row] = await db
    .select()
    .from(snapshots)
    .where(and(eq(snapshots.runId, runId), isNull(snapshots.lostAt)))
    .orderBy(desc(snapshots.generation))
    .limit(1);
  return row;
}

/** A source without snapshots leaves an empty token: every chunk reads its own moment. */
export const refOf = (row: SnapshotRow | undefined): SnapshotRef =>
  row && row.token !== '' ? { consistency: 'snapshot', token: row.token } : { consistency: 'chunk' };

/** What the table reads under now; `lost` when its snapshot is gone and what that means is still to be decided. */
export async function snapshotOf(db: Executor, row: TableRow): Promise<SnapshotRef | 'lost'> {
  if (row.consistency === 'chunk' || row.snapshot === null) return { consistency: 'chunk' };
  const [found] = await db
    .select()
    .from(snapshots)
    .where(and(eq(snapshots.runId, row.runId), eq(snapshots.generation, row.snapshot)));
  return !found || found.lostAt ? 'lost' : refOf(found);
}

/** Totals of the table from its durable chunks: idempotent, whatever was counted before. Clears what it waited for. */
export async function recount(db: Executor, ref: GenerationRef): Promise<void> {
  const { runId, ordinal, generation } = ref;
  await db.execute(sql`
    UPDATE ${runTables} t SET
      chunks_total = c.total, chunks_done = c.done, ${setCounts('c')}, rows_moving = c.moving,
      failure = CASE WHEN status IN ('running', 'waiting') AND NOT ${complete} THEN NULL ELSE failure END,
      status = CASE WHEN status = 'waiting' AND NOT ${complete} THEN 'running' ELSE status END, updated_at = now()
    FROM (
      SELECT count(*) AS total, count(*) FILTER (WHERE status = 'done') AS done,
        ${sumCounts()},
        coalesce(sum(rows_moving) FILTER (WHERE status = 'moving'), 0) AS moving
      FROM ${chunks} WHERE run_id = ${runId} AND ordinal = ${ordinal} AND generation = ${generation}
    ) c
    WHERE t.run_id = ${runId} AND t.ordinal = ${ordinal} AND t.generation = ${generation}`);
}

/**
 * A transient failure of moving, or of publishing what is complete: the table shows why it waits. Gives what ends the
 * waiting when it lasts longer than the job allows. The time of the first failure stays until something succeeds.
 */
export async function wait(
  deps: Deps,
  run: RunRow,
  row: TableRow,
  error: GodwitError,
): Promise<GodwitError | undefined> {
  const before = await loadTable(deps.db, { runId: run.id, epoch: run.epoch, ordinal: row.ordinal });
  const publishing = isComplete(row);
  // Skipped or canceled meanwhile, or complete by another attempt.
  if (publishing !== isComplete(before) || !(publishing || isOpen(before))) return undefined;
  // Only what waits counts attempts.
  const earlier = before.failure?.attempt === undefined ? null : before.failure;
  const since = earlier?.at ?? new Date().toISOString();
  const attempt = (earlier?.attempt ?? 0) + 1;
  const failure = { ...storedFailure(error), at: since, attempt, ...(publishing ? { publishing } : {}) };
  await deps.db
    .update(runTables)
    .set({ status: 'waiting', failure, updatedAt: new Date() })
    .where(and(theTable(row), publishing ? complete : and(stillOpen, ne(runTables.status, 'paused'))));
  if (attempt === 1) {
    const kind = 'table.waiting';
    await note(deps.db, {
      runId: run.id,
      ordinal: row.ordinal,
      level: 'warn',
      kind,
      message: naming(row.sourceName, error.message),
    });
  }
  await waitWithTables(deps.db, run);
  // The chunks of a table share one count: there the activities count for themselves.
  if (publishing && error.code === 'INTERNAL' && attempt >= unforeseenAttempts) return error;
  const lasted = (Date.now() - Date.parse(since)) / 1000;
  if (lasted <= run.doc.giveUpAfter) return undefined;
  const message = `${row.sourceName}: gave up after ${Math.round(lasted)} s: ${error.message}`;
  return new GodwitError('GAVE_UP', message, { ...error.where, cause: error });
}

/**
 * The run waits when some table of it does and none moves, for what its first table waits for. Those still queued have no
 * turn while others wait in their place.
 */
async function waitWithTables(db: Executor, { id, epoch }: RunRow): Promise<void> {
  await db.execute(sql`
    UPDATE ${runs} r SET status = 'waiting', failure = w.failure
    FROM (SELECT failure FROM ${runTables} WHERE run_id = ${id} AND status = 'waiting' ORDER BY failure->>'at', ordinal LIMIT 1) w
    WHERE r.id = ${id} AND r.epoch = ${epoch} AND r.status IN ('running', 'waiting')
      AND NOT EXISTS (SELECT 1 FROM ${runTables} WHERE run_id = ${id} AND status = 'running')`);
}

/** Something of the run became durable or was published: it does not wait any more. */
export async function moves(db: Executor, runId: string): Promise<void> {
  await db
    .update(runs)
    .set({ status: 'running', failure: null })
    .where(and(eq(runs.id, runId), eq(runs.status, 'waiting')));
}

/** The table ended by an error. What the failing activity wrote about the same code stays: it knows more. */
export async function markFailed(db: Executor, ref: TableRef, error: GodwitError): Promise<boolean> {
  const failure = storedFailure(error);
  const changed = await db
    .update(runTables)
    .set({
      status: 'failed',
      failure: sql`CASE WHEN failure->>'code' = ${error.code} THEN failure - 'publishing' ELSE ${JSON.stringify(failure)}::jsonb END`,
      rowsMoving: 0,
      endedAt: new Date(),
      updatedAt: new Date(),
    })
    .where(and(theTable(ref), sql`status NOT IN ('succeeded', 'skipped', 'failed', 'canceled')`))
    .returning({ ordinal: runTables.ordinal, name: runTables.sourceName });
  const [row] = changed;
  if (!row) return false;
  const message = naming(row.name, error.message);
  await note(db, {
    runId: ref.runId,
    ordinal: ref.ordinal,
    level: 'error',
    kind: 'table.failed',
    message,
    data: { code: error.code },
  });
  return true;
}

/** A sentence that says which table, once. */
const naming = (table: string, message: string): string => (message.includes(table) ? message : `${table}: ${message}`);

/** A connector that met the server's words alone does not know whose chunk it was. */
export const inTable = (error: GodwitError, { sourceName, target }: TableRow): GodwitError =>
  new GodwitError(error.code, naming(sourceName, error.message), {
    table: sourceName,
    target,
    ...error.where,
    cause: error.cause,
  });

/** Where a permanent failure happened; only code and sentence travel through Temporal to `failTable`. */
export async function remember(db: Executor, row: TableRow, error: GodwitError): Promise<void> {
  await db
    .update(runTables)
    .set({ failure: storedFailure(error), updatedAt: new Date() })
    .where(and(theTable(row), stillOpen, ne(runTables.status, 'paused')));
}

export const knownCode = (code: string, message: string): GodwitError =>
  code in codes
    ? new GodwitError(code as keyof typeof codes, message)
    : new GodwitError('INTERNAL', `${code}: ${message}`);

/** What a table's row says of its chunks before there is any. */
export const noChunks = {
  splitDone: false,
  chunksTotal: 0,
  chunksDone: 0,
  ...noRows,
  rowsMoving: 0,
} as const;
