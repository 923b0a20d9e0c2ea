import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { GodwitError } from '../errors.ts';
import { cached, cacheOnce } from './cache.ts';
import { logSize, logTail, type ServerProcess, startServerProcess, waitUntil } from './child.ts';
import { answers, freePort } from './ports.ts';
import { say } from './say.ts';
import { findOnPath } from './temporal-cli.ts';
import { temporaryFolder } from './unprivileged.ts';

export type S3Server = AsyncDisposable & {
  readonly endpoint: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly pid: number;
  readonly logFile: string;
  running(): boolean;
  stop(): Promise<void>;
  /** Same port and objects. Starts it too when it was killed. */
  restart(): Promise<void>;
  kill(): Promise<void>;
};

const run = promisify(execFile);
const versitygw = 'v1.8.0';

/** Starts a real S3 server on loopback over a temporary folder, for tests. It does not outlive this process. */
export async function startS3(): Promise<S3Server> {
  const program = await findS3();
  const dir = await temporaryFolder('godwit-s3-');
  const logFile = join(dir, 's3.log');
  await mkdir(join(dir, 'objects'));
  await mkdir(join(dir, 'versions'));
  const accessKeyId = 'godwit-test';
  const secretAccessKey = randomBytes(18).toString('base64url');
  let server: ServerProcess;
  let port = 0;

  async function start(): Promise<void> {
    for (let tries = 1; ; tries++) {
      const tryPort = port || (await freePort());
      const from = logSize(logFile);
      server = await startServerProcess({
        name: 'The S3 server',
        program: program.path,
        ...commandOf(program.kind, { dir, port: tryPort, accessKeyId, secretAccessKey }),
        logFile,
        endSignal: 'SIGTERM',
        temporary: dir,
      });
      const started = server;
      const ready = await waitUntil(async () => !started.running() || (await answers(tryPort)), 30_000);
      if (ready && started.running()) {
        port = tryPort;
        return;
      }
      await started.stop('SIGKILL');
      if (tries < 5 && !port) continue;
      throw new GodwitError('SERVER_START_FAILED', `The S3 server did not start:\n${logTail(logFile, from)}`);
    }
  }

  async function stop(): Promise<void> {
    await server.stop();
    await rm(dir, { recursive: true, force: true });
  }

  await start();
  return {
    get endpoint() {
      return `http://127.0.0.1:${port}`;
    },
    region: 'us-east-1',
    accessKeyId,
    secretAccessKey,
    get pid() {
      return server.pid;
    },
    logFile,
    running: () => server.running(),
    stop,
    async restart() {
      await server.stop();
      await start();
    },
    kill: () => server.stop('SIGKILL'),
    [Symbol.asyncDispose]: stop,
  };
}

type Program = { readonly kind: 'versitygw' | 'minio'; readonly path: string };

/** `versitygw` or `minio` on PATH, else versitygw from the cache, built once by Go. */
async function findS3(): Promise<Program> {
  for (const kind of ['versitygw', 'minio'] as const) {
    const path = findOnPath(kind);
    if (path) return { kind, path };
  }
  const entry = `versitygw-${versitygw}`;
  const path = cached(entry) ?? (await build(entry));
  return { kind: 'versitygw', path };
}

async function build(entry: string): Promise<string> {
  const hint = 'Put `versitygw` or `minio` on PATH, or set GODWIT_TEST_S3_ENDPOINT.';
  if (!findOnPath('go')) {
    throw new GodwitError(
      'DOWNLOAD_FAILED',
      `No S3 server: neither versitygw nor minio is on PATH, and there is no Go to build one. ${hint}`,
    );
  }
  try {
    return await cacheOnce(entry, async (folder) => {
      say(`Building the S3 server versitygw ${versitygw} with Go (once, some minutes) …`);
      const env = { ...process.env, GOBIN: folder, GOFLAGS: '-trimpath' };
      const source = `github.com/versity/versitygw/cmd/versitygw@${versitygw}`;
      await run('go', ['install', '-ldflags', '-s -w', source], { env, timeout: 1_200_000, maxBuffer: 1 << 26 });
      return join(folder, 'versitygw');
    });
  } catch (error) {
    const reason = (error as { stderr?: string }).stderr?.trim().split('\n').at(-1) ?? (error as Error).message;
    throw new GodwitError('DOWNLOAD_FAILED', `The S3 server versitygw could not be built: ${reason}. ${hint}`, {
      cause: error,
    });
  }
}

function commandOf(
  kind: Program['kind'],
  at: { dir: string; port: number; accessKeyId: string; secretAccessKey: string },
): { args: string[]; env: NodeJS.ProcessEnv } {
  const address = `127.0.0.1:${at.port}`;
  const objects = join(at.dir, 'objects');
  if (kind === 'minio') {
    return {
      args: ['server', '--address', address, '--quiet', objects],
      env: {
        ...process.env,
        MINIO_ROOT_USER: at.accessKeyId,
        MINIO_ROOT_PASSWORD: at.secretAccessKey,
        MINIO_BROWSER: 'off',
        MINIO_UPDATE: 'off',
      },
    };
  }
  return {
    args: ['--port', address, '--quiet', 'posix', '--versioning-dir', join(at.dir, 'versions'), objects],
    env: { ...process.env, ROOT_ACCESS_KEY: at.accessKeyId, ROOT_SECRET_KEY: at.secretAccessKey },
  };
}
