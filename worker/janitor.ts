import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import { and, eq, inArray, lt } from 'drizzle-orm';
import type { Deps } from '../activities/deps.ts';
import { storedFailure } from '../activities/failures.ts';
import { workflowState } from '../activities/workflow-state.ts';
import { appendEvent } from '../db/events.ts';
import { sweepProbes } from '../db/probes.ts';
import { leases, runs } from '../db/schema.ts';
import { activeStatuses } from '../db/status.ts';
import { GodwitError } from '../errors.ts';
import type { Queues } from './run.ts';

const hour = 3_600_000;

/**
 * What nobody else tidies (decision 6). PostgreSQL decides what is in flight. Cases: 1 a run that is open while Temporal
 * does not know its workflow (an empty server, a start that never came): it is started again and goes on from its
 * checkpoints; 2 a workflow that ended without saying so (terminated): the run failed, `retry` continues it; 3 a lease
 * of a run that is over; 4 old probes. Idempotent; any number of workers may do it at once.
 */
export async function tidy(deps: Deps, queues: Queues): Promise<void> {
  await sweepProbes(deps.db, new Date(Date.now() - hour));
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
    await deps.client.workflow.start('run', {
      workflowId: run.workflowId,
      taskQueue: queues.control,
      args: [{ jobId: run.jobId, scheduleKey: run.scheduleKey, runId: run.id }],
      workflowIdConflictPolicy: 'FAIL',
    });
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
  const changed = await deps.db
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
  if (changed.length === 0) return;
  await deps.db.delete(leases).where(and(eq(leases.jobId, run.jobId), eq(leases.runId, run.id)));
  await appendEvent(deps.db, { runId: run.id, level: 'error', kind: 'run.failed', message: error.message });
}
