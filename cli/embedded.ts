import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../config.ts';
import { asGodwitError, GodwitError } from '../errors.ts';
import { answers, freePort } from '../servers/ports.ts';
import { startParts } from './parts.ts';
import { reachable } from './reach.ts';
import { lockHome, removeState, type State, writeState } from './state.ts';

export type Embedded = {
  /** Of the API. */
  readonly url: string;
  readonly temporal: { readonly address: string; readonly ui?: string };
  /** As superuser, of the embedded PostgreSQL's database `postgres`; absent when DATABASE_URL names another server. */
  readonly postgresUrl?: string;
  /** Settles with the reason when a part ends by itself. */
  readonly broken: Promise<GodwitError>;
  /** Everything in order: API, worker (its chunks end), Temporal, PostgreSQL. Idempotent. */
  stop(): Promise<void>;
};

type Options = {
  readonly config: Config;
  readonly kind: State['kind'];
  /** What it is doing, for the person waiting. */
  readonly say: (line: string) => void;
  /** Called as soon as the embedded PostgreSQL answers, while the rest comes up; its failure is the start's. */
  readonly onPostgres?: (url: string) => Promise<void>;
};

/**
 * Everything of one installation in this process and its children: PostgreSQL and Temporal (unless the environment
 * names others), worker, API. Data stays in GODWIT_HOME. What was started is stopped again when a part fails.
 */
export async function startEmbedded({ config, kind, say, onPostgres }: Options): Promise<Embedded> {
  refuseOpenHost(config);
  const lock = lockHome(config.home);
  const stops: (() => unknown)[] = [() => lock[Symbol.dispose]()];
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= unwind(stops, say);
    return stopped;
  };
  try {
    if (config.port !== 0) await refusePort(config);
    const port = config.port || (await freePort());
    const url = `http://${reachable(config.host)}:${port}`;
    // A path nobody can guess: whoever knows it may have Temporal's payloads decoded (decision 26).
    const codecPath = `/codec/${randomBytes(18).toString('base64url')}`;

    // Made once per version and cached; while the servers start costs nobody's time.
    const bundle = import('../worker/bundle.ts').then(({ workflowBundle }) =>
      workflowBundle(join(config.home, 'bundle')),
    );
    bundle.catch(() => {});
    const [postgres, temporal] = await together(
      startDatabase(config, stops, onPostgres),
      startTemporalServer(config, `${url}${codecPath}`, stops),
    );
    const settings: Config = {
      ...config,
      port,
      databaseUrl: postgres.databaseUrl,
      temporal: { ...config.temporal, address: temporal.address },
    };
    const parts = await startParts(
      settings,
      { path: codecPath, ...(temporal.ui ? { uiUrl: temporal.ui } : {}) },
      stops,
    );
    writeState(config.home, { pid: process.pid, kind, url: parts.url, temporal, startedAt: new Date().toISOString() });
    stops.push(() => removeState(config.home));
    return {
      url: parts.url,
      temporal,
      ...(postgres.url ? { postgresUrl: postgres.url } : {}),
      broken: parts.broken,
      stop,
    };
  } catch (error) {
    await stop();
    throw inWords(error, config);
  }
}

async function startDatabase(
  config: Config,
  stops: (() => unknown)[],
  onPostgres?: (url: string) => Promise<void>,
): Promise<{ databaseUrl: string; url?: string }> {
  const { Database } = await import('../db/open.ts');
  if (config.databaseUrl) {
    await using database = new Database(config.databaseUrl, { max: 1 });
    await database.migrate();
    return { databaseUrl: config.databaseUrl };
  }
  const { startPostgres } = await import('../servers/postgres.ts');
  const server = await onUsualPort(config.home, 'postgres', (port) =>
    startPostgres({ dir: join(config.home, 'postgres'), durable: true, port }),
  );
  stops.push(() => server.stop());
  const sample = onPostgres?.(server.url);
  const databaseUrl = withDatabase(server.url, 'godwit');
  await createDatabase(server.url, 'godwit');
  await using database = new Database(databaseUrl, { max: 1 });
  await together(database.migrate(), sample ?? Promise.resolve());
  return { databaseUrl, url: server.url };
}

async function startTemporalServer(
  config: Config,
  codecEndpoint: string,
  stops: (() => unknown)[],
): Promise<{ address: string; ui?: string }> {
  if (config.temporal.address) return { address: config.temporal.address };
  const { startTemporal } = await import('../servers/temporal.ts');
  const ports = join(config.home, 'ports.json');
  const usualUi = readPorts(ports).temporalUi ?? 0;
  const uiPort = usualUi !== 0 && !(await answers(usualUi)) ? usualUi : await freePort();
  const server = await startTemporal({
    dbFile: join(config.home, 'temporal', 'temporal.db'),
    logFile: join(config.home, 'temporal', 'temporal.log'),
    uiPort,
    codecEndpoint,
    ...(config.temporal.namespace === 'default' ? {} : { namespace: config.temporal.namespace }),
  });
  if (uiPort !== usualUi) writePort(config.home, 'temporalUi', uiPort);
  stops.push(() => server.stop());
  return { address: server.address, ...(server.uiUrl ? { ui: server.uiUrl } : {}) };
}

/**
 * The port this home's server had before, so that what points to it (a saved source, a bookmark) still does; another one
 * when that is taken.
 */
async function onUsualPort<S extends { readonly port: number }>(
  home: string,
  name: string,
  start: (port: number) => Promise<S>,
): Promise<S> {
  const usual = readPorts(join(home, 'ports.json'))[name] ?? 0;
  const server = await start(usual !== 0 && !(await answers(usual)) ? usual : 0);
  if (server.port !== usual) writePort(home, name, server.port);
  return server;
}

function writePort(home: string, name: string, port: number): void {
  const file = join(home, 'ports.json');
  writeFileSync(file, `${JSON.stringify({ ...readPorts(file), [name]: port })}\n`);
}

function readPorts(file: string): Record<string, number> {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Record<string, number>;
  } catch {
    return {};
  }
}

/** Both, or neither: when one fails the other is waited for, so that it can be stopped. */
async function together<A, B>(a: Promise<A>, b: Promise<B>): Promise<[A, B]> {
  const results = await Promise.allSettled([a, b]);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
  return results.map((result) => (result as PromiseFulfilledResult<A | B>).value) as [A, B];
}

/** Latest first; one that fails does not keep the others from being stopped. */
async function unwind(stops: (() => unknown)[], say: (line: string) => void): Promise<void> {
  for (const end of stops.toReversed()) {
    try {
      await end();
    } catch (error) {
      say(`While stopping: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

export const withDatabase = (url: string, name: string): string => {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
};

/** Made when it is not there. */
export async function createDatabase(url: string, name: string): Promise<void> {
  const { default: pg } = await import('pg');
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [name]);
    if (!rowCount) await client.query(`CREATE DATABASE ${client.escapeIdentifier(name)}`);
  } finally {
    await client.end();
  }
}

/** Before anything starts. The API refuses the same by itself. */
function refuseOpenHost({ host, token }: Config): void {
  if (['127.0.0.1', 'localhost', '::1'].includes(host) || token) return;
  throw new GodwitError('TOKEN_REQUIRED', `The API shall listen on ${host}, which others can reach.`);
}

/** Before the servers start, so that a taken port is told in a second. */
async function refusePort({ host, port }: Config): Promise<void> {
  if (!(await answers(port))) return;
  const next = port + 1;
  throw Object.assign(new GodwitError('PORT_IN_USE', `Port ${port} of ${host} is used by another program.`), {
    fix: `Stop it, or start with another port: PORT=${next} godwit up.`,
  });
}

/** No space, no network: one sentence each. */
function inWords(error: unknown, { home }: Config): unknown {
  const text = error instanceof Error ? error.message : String(error);
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOSPC' || code === 'EDQUOT' || /No space left on device|ENOSPC/.test(text)) {
    return new GodwitError('LOCAL_DISK_FULL', `There is no space left in GODWIT_HOME (${home}).`, { cause: error });
  }
  return asGodwitError(error);
}
