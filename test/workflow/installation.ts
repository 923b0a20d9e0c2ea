/** A whole small installation for tests: metadata, worker and client on the shared servers, with a home of its own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import pg from 'pg';
import { pino } from 'pino';
import type { Deps } from '../../activities/deps.ts';
import { Endpoints } from '../../activities/endpoints.ts';
import { createActivities } from '../../activities/index.ts';
import { createOpeners } from '../../activities/openers.ts';
import { closeDuckDb } from '../../activities/transform.ts';
import { readConfig } from '../../config.ts';
import { applyJob } from '../../db/jobs.ts';
import { Database } from '../../db/open.ts';
import { createRun, type Run, reopenRun } from '../../db/runs.ts';
import { parseMapping } from '../../mapping/parse.ts';
import { createDataConverter } from '../../secrets/converter.ts';
import { openKeyring } from '../../secrets/keyring.ts';
import { createSealer } from '../../secrets/seal.ts';
import { startWorker } from '../../worker/run.ts';
import { queuesOf, type RunResult, workflowIds } from '../../workflows/messages.ts';
import { shareBundles } from '../servers/bundles.ts';
import { createDatabase, sharedTemporal } from '../servers/shared.ts';

export async function install(settings: Readonly<Record<string, string>> = {}, own?: { readonly address: string }) {
  const stack = new AsyncDisposableStack();
  const home = await mkdtemp(join(tmpdir(), 'godwit-test-'));
  stack.defer(() => rm(home, { recursive: true, force: true }));
  shareBundles(home);
  const metadata = stack.use(await createDatabase());
  const { address } = own ?? (await sharedTemporal());
  const config = readConfig({
    GODWIT_HOME: home,
    DATABASE_URL: metadata.url,
    TEMPORAL_ADDRESS: address,
    GODWIT_FILE_ROOTS: home,
    GODWIT_LOG: process.env.GODWIT_LOG ?? 'error',
    GODWIT_WORKER_SHUTDOWN_SECONDS: '5',
    ...settings,
  });
  const database = stack.use(new Database(metadata.url));
  await database.migrate();
  const keyring = openKeyring(config);
  const connection = await Connection.connect({ address });
  stack.defer(() => connection.close());
  const client = new Client({ connection, dataConverter: createDataConverter(keyring) });
  const prefix = `e2e-${crypto.randomUUID().slice(0, 8)}`;
  const queues = queuesOf(prefix);
  const log = pino({ level: config.logLevel }, pino.destination({ fd: 2, sync: true }));
  const work = () => startWorker(config, { prefix, log, tidyMs: 1000 });

  const begin = async (mapping: object) => {
    const parsed = parseMapping(mapping);
    const { job } = await applyJob(database.db, createSealer(keyring), { parsed });
    const draft = {
      jobId: job.id,
      workflowId: (name: string, number: number) => `${prefix}/${workflowIds.run(name, number)}`,
      trigger: 'test',
      allowActive: true,
    };
    const { run } = await createRun(database.db, draft);
    return { ...(await start(run)), job };
  };
  const start = async (run: Run) => {
    const handle = await client.workflow.start('run', {
      workflowId: run.workflowId,
      taskQueue: queues.control,
      args: [{ jobId: run.jobId, runId: run.id }],
    });
    return { run, handle, result: () => handle.result() as Promise<RunResult> };
  };
  /** `retry` of a closed run. */
  const again = async (runId: string) => start(await reopenRun(database.db, { runId }));
  /** Activities without a worker, for one that is looked at alone. */
  const activities = async () => {
    const sealer = createSealer(keyring);
    const openers = createOpeners({ db: database.db, sealer, config });
    const stopping = new AbortController();
    const endpoints = stack.use(new Endpoints(openers, 50));
    const deps: Deps = {
      db: database.db,
      sealer,
      installation: await database.installation(),
      openers,
      endpoints,
      config,
      client,
      stopping: stopping.signal,
      keepers: new Map(),
      duckdb: {},
    };
    stack.defer(() => closeDuckDb(deps.duckdb));
    return { deps, stopping, activities: createActivities(deps) };
  };
  /** A run's row without a workflow. */
  const row = async (mapping: object) => {
    const { job } = await applyJob(database.db, createSealer(keyring), { parsed: parseMapping(mapping) });
    const workflowId = (name: string, number: number) => `${prefix}/${workflowIds.run(name, number)}`;
    return (await createRun(database.db, { jobId: job.id, workflowId, trigger: 'test', allowActive: true })).run;
  };
  return {
    activities,
    row,
    home,
    config,
    database,
    db: database.db,
    client,
    queues,
    work,
    begin,
    again,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

export async function query<R extends pg.QueryResultRow>(url: string, sql: string): Promise<R[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const result = (await client.query(sql)) as pg.QueryResult<R> | pg.QueryResult<R>[];
    return Array.isArray(result) ? (result.at(-1)?.rows ?? []) : result.rows;
  } finally {
    await client.end();
  }
}
