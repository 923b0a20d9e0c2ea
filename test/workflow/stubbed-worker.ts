import { Client, Connection } from '@temporalio/client';
import { bundleWorkflowCode, NativeConnection, Runtime, Worker, type WorkerOptions } from '@temporalio/worker';
import type { Activities } from '../../activities/contract.ts';
import { queuesOf } from '../../workflows/messages.ts';

let bundled: Promise<{ code: string }> | undefined;
export const quiet = { info() {}, debug() {}, trace() {}, warn() {}, error: console.error, log() {} };
export const testBundle = () => {
  bundled ??= bundleWorkflowCode({
    workflowsPath: new URL('../../workflows/index.ts', import.meta.url).pathname,
    logger: quiet,
  });
  return bundled;
};
export const quietRuntime = () => {
  try {
    Runtime.install({ logger: quiet });
  } catch {
    // Installed already.
  }
};

/** Workers for all three queues with the activities handed in, on queues of their own. */
export async function startStubbed(address: string, activities: Activities, slots = 8) {
  quietRuntime();
  const prefix = `t-${crypto.randomUUID().slice(0, 8)}`;
  const queues = queuesOf(prefix);
  const connection = await NativeConnection.connect({ address });
  const common: Omit<WorkerOptions, 'taskQueue'> = {
    connection,
    activities,
    identity: 'test',
    maxHeartbeatThrottleInterval: '100ms',
  };
  const workers = [
    await Worker.create({ ...common, taskQueue: queues.control, workflowBundle: await testBundle() }),
    await Worker.create({ ...common, taskQueue: queues.data, maxConcurrentActivityTaskExecutions: slots }),
    await Worker.create({ ...common, taskQueue: queues.hold }),
  ];
  const running = Promise.all(workers.map((worker) => worker.run()));
  const clientConnection = await Connection.connect({ address });
  return {
    client: new Client({ connection: clientConnection, identity: 'test' }),
    queues,
    async [Symbol.asyncDispose]() {
      for (const worker of workers) worker.shutdown();
      await running;
      await connection.close();
      await clientConnection.close();
    },
  };
}
