import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import { and, eq, inArray, lt } from 'drizzle-orm';
import type { Deps } from '../activities/deps.ts';
import { storedFailure } from '../activities/failures.ts';
import { tellEnd } from '../activities/tell.ts';
import { workflowState } from '../activities/workflow-state.ts';
import { appendEvent } from '../db/events.ts';
import { forgetRuns } from '../db/history.ts';
import { sweepProbes } from '../db/probes.ts';
import { leases, runs } from '../db/schema.ts';
import { settingsOf } from '../db/settings.ts';
import { activeStatuses } from '../db/status.ts';
import { GodwitError } from '../errors.ts';
import type { Queues } from './run.ts';

const hour = 3_600_000;

/**
 * What nobody else tidies (decision 6). PostgreSQL decides what is in flight. Cases: 1 a run that is open while Temporal
 * does not know its workflow (an empty server, a start that never came): it is started again and goes on from its
 * checkpoints; 2 a workflow that ended without saying so (terminated): the run failed, `retry` continues it; 3 a lease
 * of a run that is over; 4 old probes, and runs that the settings do not keep. Idempotent; any number of workers may do it at once.
 */
export async function tidy(deps: Deps, queues: Queues): Promise<void> {
  await sweepProbes(deps.db, new Date(Date.now() - hour));
  await forgetOldRuns(deps);
  const open = await deps.db
    .select()
    .from(runs)
    .where(and(inArray(runs.status, [...activeStatuses]), lt(runs.createdAt, new Date(Date.now() - 15_000))));
  for (const run of open) {
    const chain = { workflowId: run.workflowId, firstExecutionRunId: run.workflowRunId ?? '' };
    const state = run.workflowRunId
      ? await workflowState(deps.client, chain)
      : await workflowStateById(deps, run.workflowId);
    if (state === 'gone') await startAgain(deps, queues, run);
    if (state === 'closed' && run.workflowRunId) await close(deps, run);
  }
  const held = await deps.db
    .select({ lease: leases, status: runs.status })
    .from(leases)
    .innerJoin(runs, eq(runs.id, leases.runId));
  for (const { lease, status } of held) {
    if ((activeStatuses as readonly string[]).includes(status)) continue;
    if ((await workflowState(deps.client, lease)) === 'running') continue;
    await deps.db
      .delete(leases)
      .where(
        and(
          eq(leases.jobId, lease.jobId),
          eq(leases.scheduleKey, lease.scheduleKey),
          eq(leases.firstExecutionRunId, lease.firstExecutionRunId),
        ),
      );
  }
}

/** Some hundred a round: what was kept for years goes over minutes. */
async function forgetOldRuns({ db, config }: Deps): Promise<void> {
  const { keepRunsDays: days, keepRuns: perJob } = await settingsOf(db, config);
  await forgetRuns(db, { ...(days === null ? {} : { days }), ...(perJob === null ? {} : { perJob }) });
}

type Run = typeof runs.$inferSelect;

const workflowStateById = async ({ client }: Deps, workflowId: string): Promise<'running' | 'closed' | 'gone'> => {
  const first = await client.workflow
    .getHandle(workflowId)
    .describe()
    .then((found) => found.raw.workflowExecutionInfo?.firstRunId ?? '')
    .catch(() => '');
  return await workflowState(client, { workflowId, firstExecutionRunId: first });
};

async function startAgain(deps: Deps, queues: Queues, run: Run): Promise<void> {
  try {
    const { firstExecutionRunId } = await deps.client.workflow.start('run', {
      workflowId: run.workflowId,
      taskQueue: queues.control,
      args: [{ jobId: run.jobId, scheduleKey: run.scheduleKey, runId: run.id }],
      workflowIdConflictPolicy: 'FAIL',
    });
    // Until it begins, the next round would take it for a stranger and the run for closed.
    await deps.db
      .update(runs)
      .set({ workflowRunId: firstExecutionRunId })
      .where(and(eq(runs.id, run.id), eq(runs.epoch, run.epoch), inArray(runs.status, [...activeStatuses])));
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) return;
    throw error;
  }
  const message = 'Temporal did not know the workflow of this run: it was started again.';
  await appendEvent(deps.db, { runId: run.id, level: 'warn', kind: 'run.restarted', message });
}

async function close(deps: Deps, run: Run): Promise<void> {
  const error = new GodwitError(
    'RUN_FAILED',
    'Its workflow was ended from outside; retry the run to go on from its checkpoints.',
  );
  const changed = await deps.db.transaction(async (tx) => {
    const ended = await tx
      .update(runs)
      .set({ status: 'failed', failure: storedFailure(error), endedAt: new Date() })
      .where(
        and(
          eq(runs.id, run.id),
          eq(runs.epoch, run.epoch),
          eq(runs.attempt, run.attempt),
          inArray(runs.status, [...activeStatuses]),
        ),
      )
      .returning({ id: runs.id });
    if (ended.length > 0) await tellEnd(tx as typeof deps.db, deps, { ...run, status: 'failed' });
    return ended;
  });
  if (changed.length === 0) return;
  await deps.db.delete(leases).where(and(eq(leases.jobId, run.jobId), eq(leases.runId, run.id)));
  await appendEvent(deps.db, { runId: run.id, level: 'error', kind: 'run.failed', message: error.message });
}
