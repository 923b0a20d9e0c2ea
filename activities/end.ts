import { activityInfo } from '@temporalio/activity';
import { and, eq, inArray, sql } from 'drizzle-orm';
import { forgetEarlier } from '../db/quarantine.ts';
import { leases, type RunStatus, runs, runTables } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import type { EndArgs, Ended, RunRef } from './contract.ts';
import { unbalancedSql } from './counts.ts';
import type { Deps } from './deps.ts';
import { ours, storedFailure } from './failures.ts';
import { borrowTarget, knownCode, loadRun, note, openStatuses, type RunRow, type TableRow, workOf } from './state.ts';
import { tellEnd } from './tell.ts';

/** Attempts at a clean-up whose target does not answer; then the run says what is left behind. */
const cleanUpAttempts = 5;

/** After a cancel nothing unpublished stays; what was published does. */
export async function discardRun(deps: Deps, ref: RunRef): Promise<void> {
  const run = await loadRun(deps.db, ref);
  const rows = await deps.db
    .select()
    .from(runTables)
    .where(
      and(eq(runTables.runId, ref.runId), inArray(runTables.status, [...openStatuses, 'staged', 'failed', 'cut off'])),
    );
  let broken: GodwitError | undefined;
  const lane = async () => {
    for (let row = rows.shift(); row; row = rows.shift()) {
      try {
        await discardTable(deps, run, row);
      } catch (error) {
        broken ??= ours(error);
        if (activityInfo().attempt >= cleanUpAttempts) await cancelRow(deps, row, broken);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(4, rows.length) }, lane));
  if (broken && activityInfo().attempt < cleanUpAttempts) {
    throw broken.retryable ? broken : new GodwitError('CONNECTION_FAILED', broken.message);
  }
}

async function discardTable(deps: Deps, run: RunRow, row: TableRow): Promise<void> {
  if (row.work) {
    await using target = await borrowTarget(deps, run, row.target);
    await target.it.discard(workOf(deps, row));
  }
  await cancelRow(deps, row);
}

async function cancelRow(deps: Deps, row: TableRow, left?: GodwitError): Promise<void> {
  // One that was refused by the plan had no staging to lose.
  const status = row.status === 'failed' && !row.work ? 'failed' : 'canceled';
  const notes = left ? [`its staging could not be removed: ${left.message}`] : [];
  await deps.db
    .update(runTables)
    .set({
      status,
      rowsMoving: 0,
      endedAt: new Date(),
      updatedAt: new Date(),
      notes: sql`${runTables.notes} || ${JSON.stringify(notes)}::jsonb`,
    })
    .where(and(eq(runTables.runId, row.runId), eq(runTables.ordinal, row.ordinal)));
}

/** The books, the outcome, the lease. Idempotent: what an ended run was is told again. */
export async function end(deps: Deps, args: EndArgs): Promise<Ended> {
  const { db } = deps;
  const run = await loadRun(db, args);
  if (args.failure || args.canceled || args.cutOff) await closeOpen(deps, args);
  const rows = await db
    .select({
      status: runTables.status,
      tables: sql<number>`count(*)::int`,
      codes: sql<string[]>`coalesce(array_agg(DISTINCT failure->>'code') FILTER (WHERE status = 'failed'), '{}')`,
      first: sql<string | null>`min(failure->>'message') FILTER (WHERE status = 'failed')`,
      unbalanced: sql<number>`(count(*) FILTER (WHERE status = 'succeeded' AND ${unbalancedSql}))::int`,
    })
    .from(runTables)
    .where(eq(runTables.runId, args.runId))
    .groupBy(runTables.status);
  const ended = outcome(args, rows);
  if (args.cutOff && ended.status === 'partial') Object.assign(ended, await leftBehind(deps, run, ended.message));
  const told = ended.status === 'failed' || ended.code === 'CUT_OFF';
  const failure = told ? storedFailure(knownCode(ended.code, ended.message)) : null;
  await db.transaction(async (tx) => {
    const here = and(eq(runs.id, args.runId), eq(runs.epoch, args.epoch));
    const [before] = await tx.select({ endedAt: runs.endedAt }).from(runs).where(here).for('update');
    const again = before?.endedAt ?? undefined;
    const endedAt = again ?? new Date();
    await tx
      .update(runs)
      .set({ status: ended.status satisfies RunStatus, failure, endedAt })
      .where(here);
    await forgetEarlier(tx, args.runId);
    await tellEnd(tx as typeof db, deps, { ...run, status: ended.status });
    await tx.delete(leases).where(and(eq(leases.jobId, run.jobId), eq(leases.runId, args.runId)));
    if (again) return;
    const level = ended.status === 'succeeded' ? 'info' : ended.status === 'failed' ? 'error' : 'warn';
    await note(tx as typeof db, {
      runId: args.runId,
      level,
      kind: `run.${ended.status}`,
      message: `Run ${run.jobName} ${run.number}: ${ended.message}`,
    });
  });
  deps.keepers.get(args.runId)?.();
  await deps.endpoints.release(args.runId);
  return ended;
}

type Tally = { status: string; tables: number; codes: string[]; first: string | null; unbalanced: number };

/** Decision 5. */
function outcome({ canceled, cutOff, failure }: EndArgs, rows: readonly Tally[]): Ended {
  const of = (...statuses: string[]) =>
    rows.filter((row) => statuses.includes(row.status)).reduce((sum, row) => sum + row.tables, 0);
  const all = rows.reduce((sum, row) => sum + row.tables, 0);
  const parts = rows.map((row) => `${row.tables} ${row.status}`).sort();
  const message = all === 0 ? 'No tables.' : `Of ${all} tables: ${parts.join(', ')}.`;
  if (canceled) return { status: 'canceled', code: 'CANCELED', message: `Canceled. ${message}` };
  if (failure) return { status: 'failed', ...failure };
  if (rows.some((row) => row.unbalanced > 0 || row.codes.includes('BOOKS_UNBALANCED'))) {
    return { status: 'failed', code: 'BOOKS_UNBALANCED', message: `The books do not balance. ${message}` };
  }
  const failed = of('failed');
  if (failed > 0 && failed === all) {
    const codes = [...new Set(rows.flatMap((row) => row.codes))];
    const only = codes.length === 1 && codes[0] ? codes[0] : 'RUN_FAILED';
    const first = rows.find((row) => row.first)?.first;
    return {
      status: 'failed',
      code: only,
      message: all === 1 && first ? first : `All ${all} tables failed. ${first ?? ''}`.trim(),
    };
  }
  // Cut off while it was planned, it has no tables, which is no success.
  const whole = of('succeeded') === all && !(cutOff && all === 0);
  return { status: whole ? 'succeeded' : 'partial', code: '', message };
}

const named = 5;

/** What the cut-off left for the next run. */
async function leftBehind(deps: Deps, run: RunRow, message: string): Promise<Pick<Ended, 'code' | 'message'>> {
  const { sourceName, target, chunksDone, chunksTotal, splitDone } = runTables;
  const left = await deps.db
    .select({ sourceName, target, done: chunksDone, of: chunksTotal, splitDone })
    .from(runTables)
    .where(and(eq(runTables.runId, run.id), eq(runTables.status, 'cut off')))
    .orderBy(runTables.ordinal);
  const several = new Set(left.map((one) => one.target)).size > 1;
  const names = left.slice(0, named).map((one) => {
    const chunks =
      one.done > 0 ? ` (${one.done} of ${one.splitDone ? '' : 'at least '}${one.of} chunks are there)` : '';
    return `${one.sourceName}${several ? `@${one.target}` : ''}${chunks}`;
  });
  const more = left.length > named ? ` and ${left.length - named} more` : '';
  const what = left.length > 0 ? ` Left: ${names.join(', ')}${more}.` : '';
  const when = run.cutOffAt ? ` at ${run.cutOffAt.toISOString().slice(0, 19)}Z` : '';
  return { code: 'CUT_OFF', message: `Cut off${when}. ${message}${what} The next run goes on from there.` };
}

/** Tables that never came to their turn, or were complete and could not be published before the cut-off. */
async function closeOpen(deps: Deps, { runId, canceled, cutOff, failure }: EndArgs): Promise<void> {
  const why =
    failure ?? (cutOff && !canceled ? { code: 'CUT_OFF', message: 'The cut-off time was reached.' } : undefined);
  const error = why ? storedFailure(knownCode(why.code, why.message)) : null;
  await deps.db
    .update(runTables)
    .set({
      status: canceled ? 'canceled' : failure ? 'failed' : 'cut off',
      failure: error,
      rowsMoving: 0,
      endedAt: new Date(),
      updatedAt: new Date(),
    })
    .where(and(eq(runTables.runId, runId), inArray(runTables.status, [...openStatuses, 'staged'])));
}
