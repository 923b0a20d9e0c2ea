import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { GodwitError } from '../errors.ts';
import { logSize, logTail, type ServerProcess, startServerProcess, waitUntil } from './child.ts';
import { brand, findMysql, type MysqlKind, type MysqlProgram, systemTables } from './mysql-programs.ts';
import { freePort } from './ports.ts';
import { isRoot, temporaryFolder } from './unprivileged.ts';

export type { MysqlKind } from './mysql-programs.ts';

export type MysqlOptions = {
  readonly kind: MysqlKind;
  /** Major version, or `10.6`; absent = the one on PATH, else the first that can be fetched. */
  readonly version?: number;
  /** Absent or 0 = a free one. */
  readonly port?: number;
  /** Server settings; they win over ours: `{ 'default-time-zone': '+02:00', sql_mode: '' }`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Survives a power cut. Off is for tests: a commit survives kill -9 all the same. */
  readonly durable?: boolean;
};

export type MysqlServer = AsyncDisposable & {
  /** Without a database, as `root`. */
  readonly url: string;
  readonly kind: MysqlKind;
  /** `10.11.18`. */
  readonly version: string;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly pid: number;
  readonly dir: string;
  readonly logFile: string;
  running(): boolean;
  /** Ends it and removes its data. `immediate` does not flush first. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>;
  /** Same data and port, a new process. Starts it too when it was killed. */
  restart(): Promise<void>;
  /** kill -9. */
  kill(): Promise<void>;
};

const host = '127.0.0.1';
const user = 'root';

/** Starts a real MariaDB or MySQL on loopback over a temporary folder, for tests. It does not outlive this process. */
export async function startMysql(options: MysqlOptions): Promise<MysqlServer> {
  const program = await findMysql(options.kind, options.version);
  const dir = await temporaryFolder(`godwit-${options.kind}-`);
  const data = join(dir, 'data');
  const logFile = join(dir, 'server.log');
  const password = randomBytes(18).toString('base64url');
  const common = [...program.args, `--datadir=${data}`, ...(isRoot() ? ['--user=root'] : [])];
  let server: ServerProcess;
  let port = options.port ?? 0;

  async function start(): Promise<void> {
    for (let tries = 1; ; tries++) {
      const tryPort = port || (await freePort());
      const from = logSize(logFile);
      server = await startServerProcess({
        name: brand[program.kind],
        program: program.program,
        args: [...common, ...settingsOf(options, tryPort, dir)],
        env: environment(),
        cwd: data,
        logFile,
        endSignal: 'SIGTERM',
        temporary: dir,
      });
      const started = server;
      // Printed once the init file has run, so the password is set by then.
      const ready = () => /: ready for connections/.test(logTail(logFile, from, 1_000));
      await waitUntil(() => !started.running() || ready(), 120_000);
      if (started.running() && ready()) {
        port = tryPort;
        return;
      }
      await started.stop('SIGKILL');
      const log = logTail(logFile, from, 12);
      const portTaken = /Address already in use|Can't start server: Bind/i.test(log);
      if (portTaken && tries < 5 && !options.port) continue;
      if (portTaken) throw new GodwitError('PORT_IN_USE', `Port ${tryPort} for ${brand[program.kind]} is in use.`);
      throw new GodwitError('SERVER_START_FAILED', `${brand[program.kind]} did not start:\n${log}`);
    }
  }

  async function stop(mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    await server.stop(mode === 'fast' ? 'SIGTERM' : 'SIGKILL', 60_000);
    await rm(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }

  try {
    await makeData(program, common, { dir, data, logFile });
    await writeFile(join(dir, 'init.sql'), accounts(password), { mode: 0o600 });
    await start();
  } catch (error) {
    await rm(dir, { recursive: true, force: true });
    throw error;
  }
  return {
    get url() {
      return `mysql://${user}:${password}@${host}:${port}`;
    },
    kind: program.kind,
    version: program.version,
    host,
    get port() {
      return port;
    },
    user,
    password,
    get pid() {
      return server.pid;
    },
    dir,
    logFile,
    running: () => server.running(),
    stop,
    async restart() {
      await server.stop('SIGTERM', 60_000);
      await start();
    },
    kill: () => server.stop('SIGKILL'),
    [Symbol.asyncDispose]: () => stop('immediate'),
  };
}

/** `loose-` for settings that not every version knows. */
function settingsOf(options: MysqlOptions, port: number, dir: string): string[] {
  const settings: Record<string, string> = {
    port: String(port),
    'bind-address': host,
    'skip-name-resolve': 'ON',
    socket: join(dir, 's.sock'),
    'pid-file': join(dir, 'pid'),
    // Of its own: a server that starts removes what others have in a common one.
    tmpdir: join(dir, 'tmp'),
    'init-file': join(dir, 'init.sql'),
    'loose-mysqlx': 'OFF',
    'server-id': '1',
    'log-bin': 'binlog',
    'binlog-row-image': 'FULL',
    'loose-binlog-row-metadata': 'FULL',
    ...(options.kind === 'mysql'
      ? { 'gtid-mode': 'ON', 'enforce-gtid-consistency': 'ON', 'loose-innodb-redo-log-capacity': '64M' }
      : { 'gtid-strict-mode': 'ON', 'binlog-format': 'ROW' }),
    'local-infile': '1',
    'secure-file-priv': '',
    'max-connections': '300',
    'innodb-buffer-pool-size': '64M',
    // With 2 a commit is in the system's hands, not on the disk: it outlives the process but not the machine.
    ...(options.durable
      ? {}
      : { 'innodb-flush-log-at-trx-commit': '2', 'sync-binlog': '0', 'innodb-flush-method': 'nosync' }),
    ...options.settings,
  };
  return Object.entries(settings).map(([name, value]) => `--${name}=${value}`);
}

/** Run at every start, each statement on a line of its own. Not in the log of changes. */
const accounts = (password: string): string =>
  [
    'SET sql_log_bin = 0;',
    // MariaDB's first users, who need no password.
    ...['127.0.0.1', '::1', hostname().toLowerCase()]
      .filter((from) => from !== 'localhost')
      .map((from) => `DROP USER IF EXISTS '${user}'@'${from}';`),
    `CREATE USER IF NOT EXISTS '${user}'@'%' IDENTIFIED BY '${password}';`,
    `GRANT ALL PRIVILEGES ON *.* TO '${user}'@'%' WITH GRANT OPTION;`,
    `ALTER USER '${user}'@'localhost' IDENTIFIED BY '${password}';`,
    'FLUSH PRIVILEGES;',
    '',
  ].join('\n');

/** MySQL makes its system tables itself; MariaDB is told how, as its script of the same purpose does. */
async function makeData(
  program: MysqlProgram,
  common: readonly string[],
  at: { dir: string; data: string; logFile: string },
): Promise<void> {
  await mkdir(at.data, { mode: 0o700 });
  await mkdir(join(at.dir, 'tmp'), { mode: 0o700 });
  const places = [`--socket=${join(at.dir, 's.sock')}`, `--tmpdir=${join(at.dir, 'tmp')}`];
  if (program.kind === 'mysql') {
    await runOnce(program, [...common, ...places, '--initialize-insecure', '--innodb-flush-method=nosync'], at.logFile);
    return;
  }
  const files = program.share === undefined ? undefined : systemTables(program.share);
  if (!files) {
    throw new GodwitError(
      'SERVER_START_FAILED',
      `The files for MariaDB's system tables are not beside ${program.program}.`,
    );
  }
  await mkdir(join(at.data, 'mysql'));
  const quick = ['--innodb-buffer-pool-size=64M', '--innodb-flush-method=nosync', '--enforce-storage-engine='];
  const statements = async function* () {
    yield Buffer.from('CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n');
    for (const file of files) yield* createReadStream(file);
  };
  const args = [...common, ...places, '--bootstrap', '--log-warnings=0', '--skip-log-bin', ...quick];
  await runOnce(program, args, at.logFile, Readable.from(statements()));
}

async function runOnce(program: MysqlProgram, args: string[], logFile: string, input?: Readable): Promise<void> {
  const child = spawn(program.program, args, { stdio: ['pipe', 'pipe', 'pipe'], env: environment() });
  let said = '';
  for (const output of [child.stdout, child.stderr]) {
    output.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-100_000);
    });
  }
  const ended = new Promise<number | string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'ended'));
  });
  if (input) await pipeline(input, child.stdin).catch(() => {});
  else child.stdin.end();
  const code = await ended;
  await writeFile(logFile, said, { flag: 'a', mode: 0o600 });
  if (code === 0) return;
  const log = said.split('\n').filter(Boolean).slice(-6).join('\n');
  throw new GodwitError('SERVER_START_FAILED', `${brand[program.kind]} could not make its data (${code}):\n${log}`);
}

/** What the environment says about clients (options files, tests) is nothing to these servers. */
const environment = (): NodeJS.ProcessEnv => ({ ...process.env, LC_ALL: 'C', LD_LIBRARY_PATH: undefined });
