import { join } from 'node:path';
import { Worker, type WorkerOptions } from '@temporalio/worker';
import type { Logger } from 'pino';
import type { Deps } from '../activities/deps.ts';
import { Endpoints } from '../activities/endpoints.ts';
import { createActivities } from '../activities/index.ts';
import { createOpeners } from '../activities/openers.ts';
import { closeDuckDb } from '../activities/transform.ts';
import type { Config } from '../config.ts';
import { Database } from '../db/open.ts';
import { checkSettings } from '../db/settings.ts';
import { asGodwitError, GodwitError } from '../errors.ts';
import { createDataConverter } from '../secrets/converter.ts';
import { openKeyring } from '../secrets/keyring.ts';
import { createSealer } from '../secrets/seal.ts';
import { sweepSpool } from '../transforms/spool.ts';
import { queuesOf } from '../workflows/messages.ts';
import { workflowBundle } from './bundle.ts';
import { tidy } from './janitor.ts';
import { notifyRound } from './notifier.ts';
import { startReconciler } from './reconciler.ts';
import { installRuntime } from './runtime.ts';
import { connectTemporal, registerSearchAttributes } from './temporal.ts';

export type Queues = ReturnType<typeof queuesOf>;

export type WorkerWishes = {
  /** Queues of their own, for tests. */
  readonly prefix?: string;
  readonly log?: Logger;
  /** Between two rounds of the janitor. */
  readonly tidyMs?: number;
  /** Between two looks for notifications to send. */
  readonly notifyMs?: number;
};

export type RunningWorker = AsyncDisposable & {
  readonly queues: Queues;
  /** Settles when the worker has ended; rejects when it broke. */
  readonly ended: Promise<void>;
  /** Takes nothing new, ends its chunks at once (their transactions are done again elsewhere), then closes all. */
  stop(): Promise<void>;
};

const shortActivities = 24;
const keepers = 200;
const tidyMs = 30_000;
const notifyMs = 2_000;

/**
 * A worker: workflows and short activities, chunks (GODWIT_SLOTS at once, sized by memory) and keepers of snapshots, each
 * on its queue, in one process over one connection. The database must be migrated, by this or by whoever starts it.
 */
export async function startWorker(config: Config, wishes: WorkerWishes = {}): Promise<RunningWorker> {
  if (!config.databaseUrl) throw new GodwitError('SETTINGS_INVALID', 'A worker needs DATABASE_URL.');
  checkSettings(config);
  await using stack = new AsyncDisposableStack();
  const queues = queuesOf(wishes.prefix ?? 'godwit');
  installRuntime(config, wishes.log);
  const keyring = openKeyring(config);
  const sealer = createSealer(keyring);
  const bundlePath = workflowBundle(join(config.home, 'bundle'));
  bundlePath.catch(() => {});
  const database = stack.use(new Database(config.databaseUrl, { max: 8 + config.slots * 4, name: 'godwit worker' }));
  await sweepSpool(config.spool);
  const temporal = stack.use(await connectTemporal(config, keyring));
  const openers = createOpeners({ db: database.db, sealer, config });
  const stopping = new AbortController();
  const deps: Deps = {
    db: database.db,
    sealer,
    installation: await database.installation(),
    openers,
    endpoints: stack.use(new Endpoints(openers)),
    config,
    client: temporal.client,
    stopping: stopping.signal,
    keepers: new Map(),
    duckdb: {},
  };
  stack.defer(() => closeDuckDb(deps.duckdb));
  await registerSearchAttributes(temporal);

  const common = {
    connection: temporal.connection,
    namespace: temporal.namespace,
    activities: createActivities(deps),
    dataConverter: createDataConverter(keyring),
    shutdownGraceTime: config.shutdownSeconds * 1000,
    shutdownForceTime: (config.shutdownSeconds + 15) * 1000,
    // A cancel arrives with a heartbeat: let them through.
    maxHeartbeatThrottleInterval: '1s',
  } satisfies Omit<WorkerOptions, 'taskQueue'>;
  const workers = await Promise.all([
    Worker.create({
      ...common,
      taskQueue: queues.control,
      workflowBundle: { codePath: await bundlePath },
      maxConcurrentActivityTaskExecutions: shortActivities,
      maxConcurrentActivityTaskPolls: 4,
      maxConcurrentWorkflowTaskExecutions: 8,
      maxConcurrentWorkflowTaskPolls: 4,
      maxCachedWorkflows: 100,
      // What a killed worker had in its cache goes to another one after so long.
      stickyQueueScheduleToStartTimeout: '5s',
    }),
    Worker.create({
      ...common,
      taskQueue: queues.data,
      maxConcurrentActivityTaskExecutions: config.slots,
      maxConcurrentActivityTaskPolls: Math.min(config.slots, 4),
    }),
    Worker.create({
      ...common,
      taskQueue: queues.hold,
      maxConcurrentActivityTaskExecutions: keepers,
      maxConcurrentActivityTaskPolls: 1,
    }),
  ]);
  const running = workers.map((worker) => worker.run());
  const janitor = repeat(wishes.tidyMs ?? tidyMs, async () => {
    await tidy(deps, queues).catch((error) =>
      wishes.log?.warn({ error: String(error) }, 'The janitor will try again.'),
    );
  });
  const notifier = repeat(wishes.notifyMs ?? notifyMs, async () => {
    const later = (error: unknown) =>
      wishes.log?.warn({ error: asGodwitError(error).code }, 'Notifications will be looked at again.');
    await notifyRound(deps, wishes.log).catch(later);
  });
  const reconcilerMs = wishes.tidyMs === undefined ? {} : { everyMs: wishes.tidyMs };
  stack.use(startReconciler({ deps, database, queues, log: wishes.log, ...reconcilerMs }));

  const parts = stack.move();
  const end = async () => {
    stopping.abort();
    const ended = [janitor.end(), notifier.end()];
    for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
    await Promise.allSettled([...running, ...ended]);
    await parts.disposeAsync();
  };
  // One that breaks takes the others with it: half a worker would look alive.
  let ending: Promise<void> | undefined;
  const stop = () => (ending ??= end());
  const ended = Promise.all(running).then(stop, async (error) => {
    await stop();
    throw error;
  });
  ended.catch(() => {});
  return { queues, ended, stop, [Symbol.asyncDispose]: stop };
}

/** Now, and then every so often, never beside itself: a round may wait long for a server that does not answer. */
function repeat(ms: number, round: () => Promise<void>): { end(): Promise<void> } {
  let current: Promise<void> | undefined;
  const next = () => {
    current ??= round().finally(() => {
      current = undefined;
    });
  };
  next();
  const timer = setInterval(next, ms);
  timer.unref();
  return {
    end: async () => {
      clearInterval(timer);
      await current;
    },
  };
}
