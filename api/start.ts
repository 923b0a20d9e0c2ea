import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import type { JobWithDocument } from '../db/jobs.ts';
import { sealBounds } from '../db/run-bounds.ts';
import {
  createRun,
  failStart,
  findActive,
  forgetStart,
  getRunSummary,
  noteWorkflow,
  type Run,
  reopenRun,
} from '../db/runs.ts';
import { settingsOf } from '../db/settings.ts';
import { GodwitError } from '../errors.ts';
import { type RunArgs, workflowIds } from '../workflows/messages.ts';
import type { ApiDeps } from './deps.ts';
import { requestOf, type WantedRun } from './run-request.ts';
import { calling, workflowState } from './temporal.ts';

export type StartWish = {
  readonly actor: string;
  readonly idempotencyKey?: string;
  /** Only the tables of that schedule. */
  readonly scheduleKey?: string;
  /** What this run does other than its document says. */
  readonly wanted?: WantedRun;
};

/**
 * A new run: its row first, then its workflow. The same Idempotency-Key answers the same run. Throws ALREADY_RUNNING, but
 * not for a run whose workflow is gone: its successor takes the lease over (decision 6).
 */
export async function startRun(
  deps: ApiDeps,
  job: JobWithDocument,
  { actor, idempotencyKey, scheduleKey, wanted }: StartWish,
) {
  const { db } = deps.database;
  const { request, bounds } = wanted ? requestOf(job.document, wanted, { timezone: await zoneOf(deps) }) : {};
  const { run, again } = await createRun(db, {
    jobId: job.id,
    workflowId: workflowIds.run,
    trigger: actor === 'cli' || actor === 'web' ? actor : 'api',
    actor,
    ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    ...(scheduleKey === undefined ? {} : { scheduleKey }),
    ...(request ? { request } : {}),
    ...(bounds ? { requestBounds: sealBounds(deps.sealer, bounds) } : {}),
    ignore: await strandedRuns(deps, job.id),
  });
  if (!again || (run.status === 'queued' && run.workflowRunId === null)) await launch(deps, job.name, run);
  return { run: await getRunSummary(db, { id: run.id }), again };
}

/** Of jobs that name none. */
export const zoneOf = async ({ database, settings }: ApiDeps): Promise<string> =>
  settings ? (await settingsOf(database.db, settings)).timezone : 'UTC';

/** Another try of a closed run, or of one whose workflow is gone (an empty Temporal server). */
export async function retryRun(deps: ApiDeps, runId: string) {
  const { db } = deps.database;
  const before = await getRunSummary(db, { id: runId });
  const run = await reopenRun(db, { runId, ignore: await strandedRuns(deps, before.jobId) });
  await launch(deps, before.job, run);
  return await getRunSummary(db, { id: runId });
}

/** A row is made some moments before its workflow: younger ones are none. */
const startMs = 30_000;

/** Active runs of the job by their rows, whose workflows are closed or gone. */
async function strandedRuns(deps: ApiDeps, jobId: string): Promise<readonly string[]> {
  const { db } = deps.database;
  const stranded: string[] = [];
  for (;;) {
    const active = await findActive(db, { jobId, ignore: stranded });
    if (!active) return stranded;
    if (active.status === 'queued' && Date.now() - active.createdAt.getTime() < startMs) return stranded;
    if ((await workflowState(deps.client, active.workflowId)) === 'running') return stranded;
    stranded.push(active.id);
    if (active.status !== 'queued' || active.startedAt !== null) continue;
    // It never began, holds no lease, and nobody will begin it now.
    const message = 'It was never started: Temporal did not take it, or lost it.';
    await failStart(db, active.id, { code: 'RUN_FAILED', message, at: new Date().toISOString() });
  }
}

async function launch(deps: ApiDeps, job: string, run: Run): Promise<void> {
  const { client, database, queues } = deps;
  const args: [RunArgs] = [{ jobId: run.jobId, scheduleKey: run.scheduleKey, runId: run.id }];
  const start = async () => {
    try {
      const handle = await client.workflow.start('run', {
        args,
        workflowId: run.workflowId,
        taskQueue: queues.control,
        // A retry runs under the same id: the run's place in Temporal's UI.
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
        workflowIdConflictPolicy: 'FAIL',
        staticSummary: `${job} ${run.number}`,
        ...(run.attempt > 1 ? { staticDetails: `attempt ${run.attempt}` } : {}),
      });
      return handle.firstExecutionRunId;
    } catch (error) {
      if (error instanceof WorkflowExecutionAlreadyStartedError) return undefined;
      throw error;
    }
  };
  try {
    const workflowRunId = await calling(client, 10_000, start);
    if (workflowRunId !== undefined) await noteWorkflow(database.db, run.id, workflowRunId);
  } catch (error) {
    const known =
      error instanceof GodwitError
        ? error
        : new GodwitError('INTERNAL', 'Temporal refused the start.', { cause: error });
    if (run.attempt > 1) {
      const { code, message } = known;
      await failStart(database.db, run.id, { code, message, at: new Date().toISOString() });
    } else if (!(await forgetStart(database.db, run.id))) {
      return; // No answer, but it has begun.
    }
    throw known;
  }
}
