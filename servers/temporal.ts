import { readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { GodwitError } from '../errors.ts';
import { logSize, logTail, processExists, type ServerProcess, startServerProcess, waitUntil } from './child.ts';
import { answers, freePort } from './ports.ts';
import { findTemporalCli } from './temporal-cli.ts';
import { temporaryFolder } from './unprivileged.ts';

export { findTemporalCli } from './temporal-cli.ts';

export type TemporalOptions = {
  /** SQLite file that keeps the state between starts; absent = in memory, gone with the server. */
  readonly dbFile?: string;
  /** Absent or 0 = a free one. */
  readonly port?: number;
  /** Temporal's own web UI. Default false; on when `uiPort` is given. */
  readonly ui?: boolean;
  readonly uiPort?: number;
  /** Where the web UI has payloads decoded: an URL of the API, reachable from the browser. */
  readonly codecEndpoint?: string;
  /** Made at the start besides `default`. */
  readonly namespace?: string;
  readonly searchAttributes?: Readonly<
    Record<string, 'Keyword' | 'KeywordList' | 'Text' | 'Int' | 'Bool' | 'Datetime'>
  >;
  readonly logFile?: string;
};

export type TemporalServer = AsyncDisposable & {
  /** `127.0.0.1:7233`, as in TEMPORAL_ADDRESS. */
  readonly address: string;
  readonly uiUrl?: string;
  readonly pid: number;
  readonly logFile: string;
  running(): boolean;
  stop(): Promise<void>;
  /** kill -9. */
  kill(): Promise<void>;
  /** Same ports; the state too where there is a `dbFile`. Starts it too when it was stopped or killed. */
  restart(): Promise<void>;
};

/** The server that TEMPORAL_ADDRESS names, if it does: then none is to be started. */
export const temporalFromEnvironment = (): { address: string } | undefined =>
  process.env.TEMPORAL_ADDRESS ? { address: process.env.TEMPORAL_ADDRESS } : undefined;

/** Starts the Temporal CLI's dev server on loopback. It does not outlive this process. */
export async function startTemporal(options: TemporalOptions = {}): Promise<TemporalServer> {
  const program = await findTemporalCli();
  const temporary = options.logFile ? undefined : await temporaryFolder('godwit-temporal-');
  const logFile = resolve(options.logFile ?? join(temporary as string, 'temporal.log'));
  const dbFile = options.dbFile === undefined ? undefined : resolve(options.dbFile);
  await mkdir(dirname(logFile), { recursive: true });
  if (dbFile) await mkdir(dirname(dbFile), { recursive: true });
  const ui = options.ui ?? options.uiPort !== undefined;

  if (dbFile) await refuseRunning(dbFile);
  let server: ServerProcess;
  let port = options.port ?? 0;
  let uiPort = options.uiPort ?? 0;

  async function start(): Promise<void> {
    for (let tries = 1; ; tries++) {
      const tryPort = port || (await freePort());
      const tryUiPort = ui ? uiPort || (await freePort()) : 0;
      for (const wanted of [port, ui ? uiPort : 0]) {
        if (wanted && (await answers(wanted))) {
          throw new GodwitError('PORT_IN_USE', `Port ${wanted} for the embedded Temporal server is in use.`);
        }
      }
      const from = logSize(logFile);
      server = await startServerProcess({
        name: 'The Temporal server',
        program,
        args: argumentsOf({ ...options, dbFile, port: tryPort, ui, uiPort: tryUiPort }),
        env: withoutTemporal(process.env),
        logFile,
        endSignal: 'SIGTERM',
        ...(temporary ? { temporary } : {}),
      });
      const started = server;
      // The CLI prints this line when the frontend answers and the namespaces are there.
      const ready = () => /^Temporal Server:/m.test(logTail(logFile, from, 1_000));
      await waitUntil(() => !started.running() || ready(), 60_000);
      if (started.running() && ready()) {
        port = tryPort;
        uiPort = tryUiPort;
        if (dbFile) await writeFile(pidFile(dbFile), String(started.pid));
        return;
      }
      await started.stop('SIGKILL');
      const log = logTail(logFile, from);
      const portTaken = /address already in use|port .* in use/i.test(log);
      if (portTaken && !port && tries < 5) continue;
      if (portTaken) throw new GodwitError('PORT_IN_USE', `A port of the embedded Temporal server is in use: ${log}`);
      throw new GodwitError('SERVER_START_FAILED', `The Temporal server did not start (${logFile}):\n${log}`);
    }
  }

  async function stop(): Promise<void> {
    await server.stop();
    if (dbFile) await rm(pidFile(dbFile), { force: true });
    if (temporary) await rm(temporary, { recursive: true, force: true });
  }

  await start();
  return {
    get address() {
      return `127.0.0.1:${port}`;
    },
    get uiUrl() {
      return ui ? `http://127.0.0.1:${uiPort}` : undefined;
    },
    get pid() {
      return server.pid;
    },
    logFile,
    running: () => server.running(),
    stop,
    kill: () => server.stop('SIGKILL'),
    async restart() {
      await server.stop();
      await start();
    },
    [Symbol.asyncDispose]: stop,
  };
}

const pidFile = (dbFile: string): string => `${dbFile}.pid`;

/** The server on this state file if one runs: for `down`, also when the process that started it is gone. */
export function runningTemporal(dbFile: string): { pid: number; stop(): Promise<void> } | undefined {
  let pid: number;
  try {
    pid = Number(readFileSync(pidFile(resolve(dbFile)), 'utf8'));
    // A process id may have been given to another program since.
    const command = process.platform === 'linux' ? readFileSync(`/proc/${pid}/cmdline`, 'utf8') : 'start-dev';
    if (!processExists(pid) || !command.includes('start-dev')) return undefined;
  } catch {
    return undefined;
  }
  return {
    pid,
    async stop() {
      process.kill(pid, 'SIGTERM');
      if (!(await waitUntil(() => !processExists(pid), 15_000))) process.kill(pid, 'SIGKILL');
    },
  };
}

/** A server that is going down (its parent just died) is waited for; one that serves is reported. */
async function refuseRunning(dbFile: string): Promise<void> {
  const running = runningTemporal(dbFile);
  if (!running || (await waitUntil(() => runningTemporal(dbFile) === undefined, 5_000))) return;
  throw new GodwitError(
    'ALREADY_EXISTS',
    `A Temporal server (process ${running.pid}) already works on ${dbFile}: another Godwit runs with this GODWIT_HOME. Stop it with \`godwit down\`.`,
  );
}

function argumentsOf(options: TemporalOptions & { port: number; uiPort: number; ui: boolean }): string[] {
  const args = ['server', 'start-dev', '--ip', '127.0.0.1', '--port', String(options.port), '--log-level', 'error'];
  if (options.ui) args.push('--ui-port', String(options.uiPort), '--ui-disable-news-fetch');
  else args.push('--headless');
  if (options.dbFile) args.push('--db-filename', options.dbFile);
  if (options.codecEndpoint) args.push('--ui-codec-endpoint', options.codecEndpoint);
  if (options.namespace) args.push('--namespace', options.namespace);
  for (const [name, type] of Object.entries(options.searchAttributes ?? {})) {
    args.push('--search-attribute', `${name}=${type}`);
  }
  return args;
}

/** The CLI reads TEMPORAL_… for itself (addresses, TLS, a profile); the embedded server has nothing to do with them. */
const withoutTemporal = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('TEMPORAL_')));
