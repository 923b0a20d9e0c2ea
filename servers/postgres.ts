import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, lstatSync, readFileSync, readlinkSync, realpathSync, symlinkSync } from 'node:fs';
import { chmod, chown, mkdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { GodwitError } from '../errors.ts';
import { logSize, logTail, processExists, type ServerProcess, startServerProcess, waitUntil } from './child.ts';
import { answers, freePort } from './ports.ts';
import { findPostgres, type PostgresProgram } from './postgres-programs.ts';
import {
  nameOf,
  publicFolder,
  reachableBy,
  reachableCopy,
  serverUser,
  temporaryFolder,
  type User,
} from './unprivileged.ts';

export { availablePostgres, findPostgres, type PostgresProgram } from './postgres-programs.ts';

export type PostgresOptions = {
  /** Kept between starts; absent = a temporary folder, removed on stop. */
  readonly dir?: string;
  /** Absent or 0 = a free one. */
  readonly port?: number;
  /** Server settings; they win over ours. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Major version; absent = the npm package's. */
  readonly version?: number;
  /** Survives a power cut (fsync). Off is for tests: they survive kill -9 all the same. */
  readonly durable?: boolean;
  /** Of a new cluster. Default `C`; always UTF-8. */
  readonly locale?: string;
};

/** `fast` ends connections and writes a checkpoint; `immediate` is a crash that the next start recovers from. */
export type StopMode = 'fast' | 'immediate';

export type PostgresServer = AsyncDisposable & {
  /** Of the database `postgres`, as superuser. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  /** The folder: `data`, `password`, `postgres.log`. */
  readonly dir: string;
  readonly pid: number;
  readonly version: number;
  readonly logFile: string;
  running(): boolean;
  stop(mode?: StopMode): Promise<void>;
  /** Same data and port, a new process. Starts it too when it was stopped or killed. */
  restart(mode?: StopMode): Promise<void>;
  /** kill -9 of the server and all its processes. */
  kill(): Promise<void>;
};

const run = promisify(execFile);
const host = '127.0.0.1';
const user = 'postgres';
const database = 'postgres';

/** Starts a real PostgreSQL on loopback with password login. It does not outlive this process. */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const kept = options.dir === undefined ? undefined : resolve(options.dir);
  const runAs = serverUser(kept === undefined ? undefined : join(kept, 'data'));
  const program = await reachableProgram(await findPostgres(options.version), runAs);
  const dir = kept ?? (await temporaryFolder('godwit-postgres-', runAs));
  const data = await prepareFolder(dir, runAs);
  const logFile = join(dir, 'postgres.log');
  await refuseRunning(dir);
  const password = await ensureCluster({ program, dir, data, runAs, locale: options.locale ?? 'C', temporary: !kept });

  let server: ServerProcess;
  let port = options.port ?? 0;
  async function start(): Promise<void> {
    for (let tries = 1; ; tries++) {
      const tryPort = port || (await freePort());
      const from = logSize(logFile);
      server = await startServerProcess({
        name: 'PostgreSQL',
        program: join(program.bin, 'postgres'),
        args: ['-D', data, ...settingsOf(options, tryPort).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
        env: { ...process.env, LC_ALL: 'C', PGDATA: undefined },
        cwd: data,
        logFile,
        endSignal: 'SIGINT',
        ...(runAs ? { user: runAs } : {}),
        ...(kept ? {} : { temporary: dir }),
      });
      const started = server;
      const ready = () => statusOf(data)?.pid === started.pid && statusOf(data)?.state === 'ready';
      await waitUntil(() => !started.running() || ready(), 60_000);
      if (started.running() && ready()) {
        port = tryPort;
        return;
      }
      await started.stop('SIGQUIT', 5_000);
      const log = logTail(logFile, from);
      const portTaken = /could not bind|Address already in use/.test(log);
      const stillDying = /pre-existing shared memory block/.test(log);
      if (tries < 5 && (stillDying || (portTaken && !port))) continue;
      if (portTaken) throw new GodwitError('PORT_IN_USE', `Port ${tryPort} for the embedded PostgreSQL is in use.`);
      throw new GodwitError('SERVER_START_FAILED', `PostgreSQL in ${dir} did not start:\n${log}`);
    }
  }

  async function stop(mode: StopMode = 'fast'): Promise<void> {
    await server.stop(mode === 'fast' ? 'SIGINT' : 'SIGQUIT', 60_000);
  }

  async function stopForGood(mode?: StopMode): Promise<void> {
    await stop(mode);
    if (!kept) await rm(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }

  async function kill(): Promise<void> {
    const children = childrenOf(server.pid);
    for (const pid of children) killQuietly(pid);
    await server.stop('SIGKILL');
    await waitUntil(() => !children.some(processExists), 5_000);
  }

  try {
    await start();
  } catch (error) {
    if (!kept) await rm(dir, { recursive: true, force: true });
    throw error;
  }
  return {
    get url() {
      return `postgresql://${user}:${password}@${host}:${port}/${database}`;
    },
    host,
    get port() {
      return port;
    },
    user,
    password,
    database,
    dir,
    get pid() {
      return server.pid;
    },
    version: program.version,
    logFile,
    running: () => server.running(),
    stop: stopForGood,
    async restart(mode) {
      await stop(mode);
      await start();
    },
    kill,
    [Symbol.asyncDispose]: () => stopForGood(),
  };
}

/** The server of this folder if one runs: for `down`, also when the process that started it is gone. */
export function runningPostgres(dir: string): { pid: number; port: number; stop(): Promise<void> } | undefined {
  const status = statusOf(join(resolve(dir), 'data'));
  if (!status || !processExists(status.pid) || !isPostgres(status.pid)) return undefined;
  return {
    pid: status.pid,
    port: status.port,
    async stop() {
      process.kill(status.pid, 'SIGINT');
      if (await waitUntil(() => !processExists(status.pid), 30_000)) return;
      process.kill(status.pid, 'SIGQUIT');
      await waitUntil(() => !processExists(status.pid), 10_000);
    },
  };
}

/** Removes the folder and its data, also where the data had to be put elsewhere. Stops the server first. */
export async function removePostgres(dir: string): Promise<void> {
  await runningPostgres(dir)?.stop();
  const data = join(resolve(dir), 'data');
  if (existsSync(data)) await rm(realpathSync(data), { recursive: true, force: true });
  await rm(dir, { recursive: true, force: true });
}

function settingsOf(options: PostgresOptions, port: number): [string, string][] {
  const settings: Record<string, string> = {
    listen_addresses: host,
    port: String(port),
    unix_socket_directories: '',
    wal_level: 'logical',
    max_wal_senders: '10',
    max_replication_slots: '10',
    max_connections: '200',
    log_checkpoints: 'off',
    ...(options.durable ? {} : { fsync: 'off', full_page_writes: 'off' }),
    ...options.settings,
  };
  return Object.entries(settings);
}

async function reachableProgram(program: PostgresProgram, runAs: User | undefined): Promise<PostgresProgram> {
  const tree = join(program.bin, '..');
  const reachable = await reachableCopy(runAs, tree);
  return reachable === tree ? program : { ...program, bin: join(reachable, 'bin') };
}

/** Makes the folder and says where the data is: in it, or in a public place when PostgreSQL's user cannot come here. */
async function prepareFolder(dir: string, runAs: User | undefined): Promise<string> {
  const data = join(dir, 'data');
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    if (!runAs) {
      await mkdir(data, { recursive: true, mode: 0o700 });
      return data;
    }
    if (!lstatSync(data, { throwIfNoEntry: false })) {
      await chmod(dir, 0o711);
      if (reachableBy(runAs, dir)) await mkdir(data, { mode: 0o700 });
      else symlinkSync(join(publicFolder(runAs), `postgres-${nameOf(dir)}`), data);
    }
    const real = lstatSync(data).isSymbolicLink() ? readlinkSync(data) : data;
    await mkdir(real, { recursive: true, mode: 0o700 });
    if (!reachableBy(runAs, join(real, '..'))) {
      throw new GodwitError(
        'SERVER_START_FAILED',
        `PostgreSQL runs as the user ${runAs.name} here, who cannot reach ${real}: open the folders above it (chmod o+x), or move GODWIT_HOME.`,
      );
    }
    await chown(real, runAs.uid, runAs.gid);
    return real;
  } catch (error) {
    if (error instanceof GodwitError) throw error;
    const { message } = error as Error;
    throw new GodwitError('SERVER_START_FAILED', `The folder for PostgreSQL cannot be made: ${message}`, {
      cause: error,
    });
  }
}

/** initdb where there is none yet; returns the superuser's password. Whole or not at all: a half-made one is redone. */
async function ensureCluster(cluster: {
  program: PostgresProgram;
  dir: string;
  data: string;
  runAs: User | undefined;
  locale: string;
  temporary: boolean;
}): Promise<string> {
  const { program, dir, data, runAs } = cluster;
  const passwordFile = join(dir, 'password');
  if (existsSync(passwordFile)) {
    const versionFile = join(data, 'PG_VERSION');
    if (!existsSync(versionFile)) {
      throw new GodwitError(
        'SERVER_START_FAILED',
        `The data of the embedded PostgreSQL is gone from ${data}: put it back, or remove ${dir} to begin with an empty one.`,
      );
    }
    const made = Number.parseInt(readFileSync(versionFile, 'utf8'), 10);
    if (made === program.version) return readFileSync(passwordFile, 'utf8').trim();
    throw new GodwitError(
      'SERVER_START_FAILED',
      `The data in ${dir} was made by PostgreSQL ${made} and this is PostgreSQL ${program.version}: install version ${made}, or dump and load the data.`,
    );
  }
  const password = randomBytes(18).toString('base64url');
  await rm(data, { recursive: true, force: true });
  await mkdir(data, { mode: 0o700 });
  // Outside the data folder (initdb wants it empty) and readable by the user that runs initdb.
  const handOver = `${data}.initial`;
  await writeFile(handOver, password, { mode: 0o600 });
  if (runAs) {
    await chown(data, runAs.uid, runAs.gid);
    await chown(handOver, runAs.uid, runAs.gid);
  }
  const args = ['-D', data, '-U', user, '--auth=scram-sha-256', `--pwfile=${handOver}`, '--encoding=UTF8'];
  try {
    await run(
      join(program.bin, 'initdb'),
      [...args, `--locale=${cluster.locale}`, ...(cluster.temporary ? ['--no-sync'] : [])],
      {
        cwd: data,
        env: { ...process.env, LC_ALL: 'C', PGDATA: undefined },
        ...(runAs ? { uid: runAs.uid, gid: runAs.gid } : {}),
      },
    );
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim() || String(error);
    throw new GodwitError('SERVER_START_FAILED', `PostgreSQL's initdb failed in ${dir}: ${said}`, { cause: error });
  } finally {
    await rm(handOver, { force: true });
  }
  await writeFile(passwordFile, password, { mode: 0o600 });
  return password;
}

/** A server that is going down (its parent just died) is waited for; one that serves is reported. */
async function refuseRunning(dir: string): Promise<void> {
  const gone = await waitUntil(() => runningPostgres(dir) === undefined, runningPostgres(dir) ? 5_000 : 0);
  if (gone) return;
  const running = runningPostgres(dir);
  if (!running || !(await answers(running.port))) return;
  throw new GodwitError(
    'ALREADY_EXISTS',
    `PostgreSQL (process ${running.pid}, port ${running.port}) already serves ${dir}: another Godwit runs with this GODWIT_HOME. Stop it with \`godwit down\`.`,
  );
}

/** postmaster.pid: line 1 process, 4 port, 8 state. The server removes it when it stops, not when it is killed. */
function statusOf(data: string): { pid: number; port: number; state: string } | undefined {
  try {
    const lines = readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n');
    return { pid: Number(lines[0]), port: Number(lines[3]), state: lines[7]?.trim() ?? '' };
  } catch {
    return undefined;
  }
}

/** A process id may have been given to another program since. */
function isPostgres(pid: number): boolean {
  if (process.platform !== 'linux') return true;
  try {
    return /postgres|postmaster/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
  } catch {
    return false;
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // gone already
  }
}
