import type { UpdateDefinition } from '@temporalio/common';
import { getRunTable } from '../db/run-tables.ts';
import { getRunSummary, type RunSummary } from '../db/runs.ts';
import { isActive } from '../db/status.ts';
import { GodwitError } from '../errors.ts';
import {
  type Actor,
  type Aim,
  cancelUpdate,
  pauseUpdate,
  resumeUpdate,
  retryTableUpdate,
  skipTableUpdate,
} from '../workflows/messages.ts';
import type { ApiDeps } from './deps.ts';
import { calling } from './temporal.ts';

export type RunAction = 'pause' | 'resume' | 'cancel';
export type TableAction = 'pause' | 'resume' | 'skip' | 'retry';

const ofRun = { pause: pauseUpdate, resume: resumeUpdate, cancel: cancelUpdate } as const;
const ofTable = {
  pause: pauseUpdate,
  resume: resumeUpdate,
  skip: skipTableUpdate,
  retry: retryTableUpdate,
} as const;

type Wish = { readonly runId: string } & Actor;

/** Tells the run's workflow; answers once it has taken it in. Throws CONFLICT where it makes no sense. */
export async function controlRun(deps: ApiDeps, action: RunAction, { runId, ...actor }: Wish): Promise<RunSummary> {
  const run = await openRun(deps, runId);
  try {
    await update(deps, run, ofRun[action] as UpdateDefinition<void, [Actor]>, actor);
  } catch (error) {
    // A cancel needs no worker to be asked for: whoever comes next finds it.
    const silent = error instanceof GodwitError && error.code === 'TEMPORAL_UNREACHABLE';
    if (action !== 'cancel' || !silent) throw error;
    await calling(deps.client, 5_000, () => deps.client.workflow.getHandle(run.workflowId).cancel());
  }
  return await getRunSummary(deps.database.db, { id: runId });
}

export async function controlTable(
  deps: ApiDeps,
  action: TableAction,
  { runId, ordinal, ...actor }: Wish & { readonly ordinal: number },
) {
  const run = await openRun(deps, runId);
  await getRunTable(deps.database.db, runId, ordinal);
  const definition = ofTable[action] as UpdateDefinition<void, [Aim & Actor]>;
  await update(deps, run, definition, { ordinal, ...actor });
  return await getRunTable(deps.database.db, runId, ordinal);
}

async function openRun(deps: ApiDeps, runId: string): Promise<RunSummary> {
  const run = await getRunSummary(deps.database.db, { id: runId });
  if (isActive(run.status)) return run;
  const where = { job: run.job, run: `${run.job}/${run.number}` };
  const error = new GodwitError('CONFLICT', `Run ${run.number} of "${run.job}" is over: ${run.status}.`, where);
  const fix = run.status === 'succeeded' ? 'Start a new run.' : 'Retry the run: it goes on from its checkpoints.';
  throw Object.assign(error, { fix });
}

/** Cancel needs no more than the request to be taken, so its wait is short. */
async function update<A extends Actor>(
  deps: ApiDeps,
  run: RunSummary,
  definition: UpdateDefinition<void, [A]>,
  argument: A,
): Promise<void> {
  const { client, updateMs = 20_000 } = deps;
  try {
    await calling(client, updateMs, () =>
      client.workflow.getHandle(run.workflowId).executeUpdate(definition, { args: [argument] }),
    );
  } catch (error) {
    if (!(error instanceof GodwitError) || error.code !== 'CONFLICT') throw error;
    const where = { job: run.job, run: `${run.job}/${run.number}` };
    throw new GodwitError('CONFLICT', `Run ${run.number} of "${run.job}": ${error.message}`, where);
  }
}
