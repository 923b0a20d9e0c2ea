import { Client, Connection } from '@temporalio/client';
import { workflowIds } from '../../workflows/messages.ts';
import type { Installation } from './installation.ts';
import { until } from './job.ts';

export async function withTemporal<T>(at: Installation, work: (client: Client) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address: at.temporal.address, connectTimeout: 10_000 });
  try {
    return await work(new Client({ connection }));
  } finally {
    await connection.close();
  }
}

/** The process of the worker that keeps the run's snapshot: Temporal knows who runs the activity. */
export async function keeperOf(at: Installation, runId: string, epoch = 1): Promise<number> {
  let pid: number | undefined;
  await withTemporal(at, (client) =>
    until('a worker keeps the snapshot', 30, async () => {
      const keeper = await client.workflow
        .getHandle(workflowIds.hold(runId, epoch))
        .describe()
        .catch(() => undefined);
      const identity = keeper?.raw.pendingActivities?.[0]?.lastWorkerIdentity ?? '';
      const found = Number(/^(\d+)@/.exec(identity)?.[1]);
      if (at.workers.pids().includes(found)) pid = found;
      return pid !== undefined;
    }),
  );
  return pid as number;
}

/** Workflows of Godwit that are still open, but the janitor's. */
export const openWorkflows = (at: Installation): Promise<string[]> =>
  withTemporal(at, async (client) => {
    const open: string[] = [];
    for await (const one of client.workflow.list({ query: "ExecutionStatus = 'Running'" })) {
      if (one.workflowId !== workflowIds.janitor) open.push(one.workflowId);
    }
    return open;
  });
