import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { MongoClient } from 'mongodb';
import { GodwitError } from '../errors.ts';
import { cached, cacheOnce } from './cache.ts';
import { logSize, logTail, type ServerProcess, startServerProcess, waitUntil } from './child.ts';
import { commandIn, fromUbuntu } from './debian.ts';
import { type Greeting, startGreeting } from './mongodb-greeting.ts';
import { answers, freePort } from './ports.ts';
import { say } from './say.ts';
import { findOnPath } from './temporal-cli.ts';
import { temporaryFolder } from './unprivileged.ts';

/**
 * `mongod` is MongoDB itself, a replica set of one. `mongod-3.6` is that too, of the last version whose packages a
 * distribution has (mongodb-greeting.ts lets drivers in); it has no `$merge`, no pipelines in updates, no `$toString`, no
 * field names beginning with `$` and no transactions. It is up after 3 s on a machine with nothing else to do: WiredTiger
 * of then measures the processor's clock by 300 million turns of a loop, and the one member of its set asks itself
 * each second whether it may be primary. `mongo-java-server` speaks the protocol and keeps the data in memory: it has no
 * sessions, so no transactions and no snapshot reads, no users, and few of the storage statistics.
 */
export type MongodbKind = 'mongod' | 'mongod-3.6' | 'mongo-java-server';

export type MongodbOptions = {
  /** Absent = mongod where it is on PATH, else mongo-java-server. `realMongodb()` names a real one where it can be had. */
  readonly kind?: MongodbKind;
  /** Absent or 0 = a free one. */
  readonly port?: number;
  /** Change streams in mongo-java-server, which then keeps every change in memory. mongod has them anyway. */
  readonly oplog?: boolean;
  /** Of mongo-java-server, the data included: default 384 MB. Of the others their cache: default 256 MB. */
  readonly megabytes?: number;
};

export type MongodbServer = AsyncDisposable & {
  /** `mongodb://127.0.0.1:27017/?directConnection=true` */
  readonly url: string;
  readonly kind: MongodbKind;
  readonly port: number;
  readonly pid: number;
  readonly dir: string;
  readonly logFile: string;
  running(): boolean;
  stop(): Promise<void>;
  /** Same port; the data too with mongod, none with mongo-java-server. Starts it too when it was killed. */
  restart(): Promise<void>;
  /** kill -9. */
  kill(): Promise<void>;
};

const run = promisify(execFile);
const version = '1.47.0';
const host = '127.0.0.1';

/** Starts a MongoDB server on loopback, for tests. It does not outlive this process. */
export async function startMongodb(options: MongodbOptions = {}): Promise<MongodbServer> {
  const program = await findMongodb(options);
  const dir = await temporaryFolder('godwit-mongodb-');
  const logFile = join(dir, 'server.log');
  await mkdir(join(dir, 'data'));
  let server: ServerProcess;
  let greeting: Greeting | undefined;
  let port = options.port ?? 0;
  // Of a majority, as servers since 5.0 have it without being told: what was written is seen by who reads so.
  const concern = program.kind === 'mongo-java-server' ? '' : '&w=majority';
  const url = () => `mongodb://${host}:${port}/?directConnection=true${concern}`;

  async function start(): Promise<void> {
    for (let tries = 1; ; tries++) {
      const tryPort = port || (await freePort());
      const own = program.kind === 'mongod-3.6' ? await freePort() : tryPort;
      const from = logSize(logFile);
      server = await startServerProcess({
        name: 'MongoDB',
        program: program.program,
        args: program.args(own, join(dir, 'data')),
        cwd: dir,
        logFile,
        endSignal: 'SIGTERM',
        temporary: dir,
      });
      const started = server;
      const ready = await waitUntil(async () => !started.running() || (await answers(own)), 60_000);
      if (ready && started.running()) {
        port = tryPort;
        if (own !== port) greeting = await startGreeting(port, own);
        if (program.kind !== 'mongo-java-server') await becomePrimary(url());
        return;
      }
      await started.stop('SIGKILL');
      if (tries < 5 && !port) continue;
      throw new GodwitError('SERVER_START_FAILED', `MongoDB did not start:\n${logTail(logFile, from)}`);
    }
  }

  /** How it ends: what speaks for it ends with it. */
  async function end(signal?: 'SIGKILL'): Promise<void> {
    await server.stop(signal);
    await greeting?.[Symbol.asyncDispose]();
    greeting = undefined;
  }

  async function stop(): Promise<void> {
    await end('SIGKILL');
    await rm(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }

  try {
    await start();
  } catch (error) {
    await rm(dir, { recursive: true, force: true });
    throw error;
  }
  return {
    get url() {
      return url();
    },
    kind: program.kind,
    get port() {
      return port;
    },
    get pid() {
      return server.pid;
    },
    dir,
    logFile,
    running: () => server.running(),
    stop,
    async restart() {
      await end();
      await start();
    },
    kill: () => end('SIGKILL'),
    [Symbol.asyncDispose]: stop,
  };
}

type Program = {
  readonly kind: MongodbKind;
  readonly program: string;
  readonly args: (port: number, data: string) => string[];
};

async function findMongodb({ kind, oplog, megabytes }: MongodbOptions): Promise<Program> {
  const mongod = kind === undefined || kind === 'mongod' ? findOnPath('mongod') : undefined;
  const cache = ['--wiredTigerCacheSizeGB', String((megabytes ?? 256) / 1024)];
  const always = ['--bind_ip', host, '--replSet', 'rs0', '--oplogSize', '64', '--nounixsocket', ...cache];
  if (mongod) {
    return {
      kind: 'mongod',
      program: mongod,
      args: (port, data) => ['--dbpath', data, '--port', String(port), ...always],
    };
  }
  if (kind === 'mongod-3.6') {
    const { program, args } = commandIn(await treeOf36(), 'usr/bin/mongod');
    // No files of a journal made before they are needed (300 MB), no statistics each second.
    const small = ['--wiredTigerEngineConfigString', 'log=(prealloc=false,file_max=20MB)'];
    const quiet = ['--setParameter', 'diagnosticDataCollectionEnabled=false'];
    return {
      kind,
      program,
      args: (port, data) => [...args, '--dbpath', data, '--port', String(port), ...always, ...small, ...quiet],
    };
  }
  if (kind === 'mongod') throw new GodwitError('SERVER_START_FAILED', 'There is no `mongod` on PATH.');
  const java = findOnPath('java');
  if (!java) throw unavailable('there is no Java', undefined);
  const folder = await javaServer(java);
  const machine = [`-Xmx${megabytes ?? 384}m`, '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'];
  const log = '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn';
  const path = `${join(folder, 'lib', '*')}${delimiter}${folder}`;
  return {
    kind: 'mongo-java-server',
    program: java,
    args: (port) => [...machine, log, '-cp', path, 'MongoMain', String(port), ...(oplog ? ['oplog'] : [])],
  };
}

const treeOf36 = (): Promise<string> =>
  fromUbuntu('mongodb-ubuntu-focal', 'focal', ['mongodb-server-core']).catch((error: Error) => {
    const message = `MongoDB 3.6 cannot be had from Ubuntu focal: ${error.message}.`;
    throw new GodwitError('DOWNLOAD_FAILED', message, { cause: error });
  });

/** A server that stores as MongoDB does: the one on PATH, else the one of a distribution; else what speaks its protocol. */
export async function realMongodb(): Promise<MongodbKind> {
  if (findOnPath('mongod')) return 'mongod';
  return treeOf36().then(
    () => 'mongod-3.6',
    (error: Error) => {
      say(`${error.message} mongo-java-server stands in for it.`);
      return 'mongo-java-server';
    },
  );
}

/** The library and our main class, compiled, in the cache; fetched with Maven, which checks the checksums. */
async function javaServer(java: string): Promise<string> {
  const source = join(import.meta.dirname, 'MongoMain.java');
  const stamp = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 8);
  const entry = `mongo-java-server-${version}-${stamp}`;
  const here = cached(entry);
  if (here) return here;
  if (!findOnPath('mvn')) throw unavailable('there is no Maven', undefined);
  try {
    return await cacheOnce(entry, async (folder) => {
      say(`Fetching mongo-java-server ${version} (6 MB) from Maven …`);
      await writeFile(join(folder, 'pom.xml'), pom);
      const plugin = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies';
      const made = join(folder, 'made');
      const maven = ['-q', '-B', plugin, `-DoutputDirectory=${join(made, 'lib')}`, '-DincludeScope=runtime'];
      await run('mvn', maven, { cwd: folder, timeout: 300_000 });
      const jars = readdirSync(join(made, 'lib')).map((name) => join(made, 'lib', name));
      const compiler = ['-m', 'jdk.compiler/com.sun.tools.javac.Main'];
      await run(java, [...compiler, '-cp', jars.join(delimiter), '-d', made, source], { timeout: 120_000 });
      return made;
    });
  } catch (error) {
    throw unavailable((error as Error).message.split('\n')[0] ?? '', error);
  }
}

const unavailable = (reason: string, cause: unknown): GodwitError =>
  new GodwitError(
    'DOWNLOAD_FAILED',
    `MongoDB is not on PATH, and mongo-java-server ${version} cannot be had (${reason}). Put \`mongod\` on PATH, or set GODWIT_TEST_MONGODB_URL.`,
    { cause },
  );

const dependency = (group: string, artifact: string, number: string): string =>
  `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${number}</version></dependency>`;

const pom = `<project><modelVersion>4.0.0</modelVersion>
<groupId>godwit</groupId><artifactId>mongodb-for-tests</artifactId><version>1</version>
<dependencies>${dependency('de.bwaldvogel', 'mongo-java-server', version)}${dependency('org.slf4j', 'slf4j-simple', '2.0.17')}</dependencies>
</project>
`;

/** A replica set of one is what transactions, snapshots and change streams need. */
async function becomePrimary(url: string): Promise<void> {
  const client = new MongoClient(url, { serverSelectionTimeoutMS: 30_000 });
  try {
    const admin = client.db('admin');
    const { port } = new URL(url);
    const config = { _id: 'rs0', members: [{ _id: 0, host: `${host}:${port}` }] };
    await admin.command({ replSetInitiate: config }).catch((error: { codeName?: string }) => {
      if (error.codeName !== 'AlreadyInitialized') throw error;
    });
    // The old word for it is all that an old server says.
    const primary = (answer: { isWritablePrimary?: boolean; ismaster?: boolean }) =>
      answer.isWritablePrimary === true || answer.ismaster === true;
    await waitUntil(async () => primary(await admin.command({ hello: 1 })), 30_000);
  } finally {
    await client.close();
  }
}
