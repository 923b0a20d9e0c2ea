import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { logTail, waitUntil } from '../../servers/child.ts';
import { freePort } from '../../servers/ports.ts';
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts';
import { type FaultProxy, startProxy } from '../../servers/proxy.ts';
import { startTemporal, type TemporalServer } from '../../servers/temporal.ts';
import { type Api, startApi, startWorkers, type Workers } from './processes.ts';
import { type Random, randomOf, seedOfTheDay } from './random.ts';

export type Installation = AsyncDisposable & {
  readonly random: Random;
  /** Removed at the end. `files` in it is the root of file targets. */
  readonly folder: string;
  readonly files: string;
  readonly env: NodeJS.ProcessEnv;
  /** Godwit's own. */
  readonly metadata: PostgresServer;
  readonly source: PostgresServer;
  readonly target: PostgresServer;
  readonly temporal: TemporalServer;
  /** What workers go through to the source and the target. */
  readonly sourceProxy: FaultProxy;
  readonly targetProxy: FaultProxy;
  readonly api: Api;
  readonly workers: Workers;
  /** Ends the workers that are there and starts others: of a changed copy of the project, with other settings. */
  replaceWorkers(options: { count?: number; project?: string; env?: NodeJS.ProcessEnv }): Promise<Workers>;
};

export type InstallationOptions = { readonly workers?: number; readonly env?: NodeJS.ProcessEnv };

/** Set GODWIT_FAULT_KEEP to keep its folder (logs, files) after the test. */
const keep = process.env.GODWIT_FAULT_KEEP !== undefined;

/**
 * A Godwit whose parts are processes of their own, so that each can be killed: its PostgreSQL, a Temporal server, the API,
 * supervised workers; and a source and a target PostgreSQL. All of it ends with the object, or with this process.
 */
export async function startInstallation(options: InstallationOptions = {}): Promise<Installation> {
  await using made = new AsyncDisposableStack();
  const random = randomOf(seedOfTheDay());
  const folder = await mkdtemp(join(tmpdir(), 'godwit-fault-'));
  made.defer(async () => {
    if (keep) console.log(`kept: ${folder}`);
    else await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  });
  const files = join(folder, 'files');
  mkdirSync(files);
  const [metadata, source, target, temporal] = await Promise.all([
    startPostgres().then((server) => made.use(server)),
    startPostgres().then((server) => made.use(server)),
    startPostgres().then((server) => made.use(server)),
    startTemporal({ dbFile: join(folder, 'temporal.db'), logFile: join(folder, 'temporal.log') }).then((server) =>
      made.use(server),
    ),
  ]);
  const sourceProxy = made.use(await startProxy({ port: source.port }));
  const targetProxy = made.use(await startProxy({ port: target.port }));
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    DATABASE_URL: metadata.url,
    TEMPORAL_ADDRESS: temporal.address,
    GODWIT_KEY: randomBytes(32).toString('base64'),
    GODWIT_FILE_ROOTS: files,
    GODWIT_CHUNK_MB: '1',
    GODWIT_WORKER_SHUTDOWN_SECONDS: '5',
    GODWIT_LOG: 'debug',
    ...options.env,
  };
  const workersOf = (more: { count?: number; project?: string; env?: NodeJS.ProcessEnv }) =>
    startWorkers({
      count: more.count ?? options.workers ?? 2,
      folder,
      env: { ...env, ...more.env },
      random: random.fork('workers'),
      ...(more.project ? { project: more.project } : {}),
    });
  // First the API: it brings the metadata's tables up to date.
  const api = made.use(await startApi({ folder, port: await freePort(), env }));
  let workers = await workersOf({});
  made.defer(() => workers.stop());
  await workersReady(api, workers);
  const own = made.move();
  return {
    random,
    folder,
    files,
    env,
    metadata,
    source,
    target,
    temporal,
    sourceProxy,
    targetProxy,
    api,
    get workers() {
      return workers;
    },
    async replaceWorkers(more) {
      await workers.stop();
      workers = await workersOf(more);
      await workersReady(api, workers);
      return workers;
    },
    [Symbol.asyncDispose]: () => own.disposeAsync(),
  };
}

/** Until somebody asks for work: workers bundle their workflows first. */
async function workersReady(api: Api, workers: Workers): Promise<void> {
  const ready = () => fetch(`${api.url}/readyz`).then((answer) => answer.ok);
  if (workers.logFiles.length === 0 || (await waitUntil(() => ready().catch(() => false), 60_000))) return;
  throw new Error(`No worker became ready:\n${workers.logFiles.map((file) => logTail(file, 0, 20)).join('\n')}`);
}
