/** A Godwit with its API for tests: on the shared servers, with a home, a database and queues of its own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { pino } from 'pino';
import { createApp } from '../../api/app.ts';
import type { ApiDeps } from '../../api/deps.ts';
import { createClient } from '../../api/temporal.ts';
import { readConfig } from '../../config.ts';
import { openDatabase } from '../../db/open.ts';
import { openKeyring } from '../../secrets/keyring.ts';
import { createSealer } from '../../secrets/seal.ts';
import { startWorker } from '../../worker/run.ts';
import { queuesOf } from '../../workflows/messages.ts';
import { shareBundles } from '../servers/bundles.ts';
import { createDatabase, sharedTemporal } from '../servers/shared.ts';

export type Answer<T = Record<string, unknown>> = {
  readonly status: number;
  readonly body: T;
  readonly text: string;
  readonly headers: Headers;
};

export async function install(settings: Partial<ApiDeps> = {}) {
  const stack = new AsyncDisposableStack();
  const home = await mkdtemp(join(tmpdir(), 'godwit-api-'));
  stack.defer(() => rm(home, { recursive: true, force: true }));
  shareBundles(home);
  const metadata = stack.use(await createDatabase());
  const { address } = await sharedTemporal();
  const config = readConfig({
    GODWIT_HOME: home,
    DATABASE_URL: metadata.url,
    TEMPORAL_ADDRESS: address,
    GODWIT_FILE_ROOTS: home,
    GODWIT_LOG: 'info',
    GODWIT_WORKER_SHUTDOWN_SECONDS: '5',
  });
  const database = stack.use(openDatabase(metadata.url));
  await database.migrate();
  const keyring = openKeyring(config);
  const client = createClient({ keyring, address });
  stack.defer(() => client.connection.close());
  // Everything that is logged, to be searched.
  const lines: string[] = [];
  const stream = new PassThrough();
  stream.on('data', (line) => lines.push(String(line)));
  const log = pino({ level: 'info' }, stream);
  const prefix = `api-${crypto.randomUUID().slice(0, 8)}`;
  const deps: ApiDeps = {
    database,
    sealer: createSealer(keyring),
    client,
    queues: queuesOf(prefix),
    log,
    settings: config,
    probeMs: 20_000,
    updateMs: 10_000,
    ...settings,
  };
  const app = createApp(deps);
  /** Everything answered, to be searched. */
  const answers: string[] = [];

  async function request<T = Record<string, unknown>>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer<T>> {
    const response = await app.request(`http://127.0.0.1${path}`, {
      method,
      headers: {
        host: '127.0.0.1',
        ...(body === undefined
          ? {}
          : { 'content-type': typeof body === 'string' ? 'application/yaml' : 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    answers.push(text);
    const isJson = /json/.test(response.headers.get('content-type') ?? '');
    return {
      status: response.status,
      body: (isJson ? JSON.parse(text) : undefined) as T,
      text,
      headers: response.headers,
    };
  }
  return {
    home,
    config,
    database,
    db: database.db,
    keyring,
    client,
    deps,
    app,
    request,
    answers,
    lines,
    prefix,
    work: () => startWorker(config, { prefix, log, tidyMs: 1000 }),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

export type Installation = Awaited<ReturnType<typeof install>>;

/** A small mapping from one database of the shared server to another; nothing is opened by applying it. */
export const mappingOf = (name: string, extra: object = {}) => ({
  name,
  source: { source_type: 'pgsql', url: 'postgresql://reader@127.0.0.1:1/shop', password: 'pw-of-source' },
  destination: {
    warehouse: { destination_type: 'pgsql', url: 'postgresql://writer@127.0.0.1:1/dwh', schema: 'public' },
  },
  tables: [{ table_name: 'public.orders', mode: 'replace' }],
  ...extra,
});
