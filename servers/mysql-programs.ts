import { execFile } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { GodwitError } from '../errors.ts';
import { cached } from './cache.ts';
import { commandIn, fromDebian, fromUbuntu } from './debian.ts';
import { findOnPath } from './temporal-cli.ts';

const run = promisify(execFile);

export type MysqlKind = 'mysql' | 'mariadb';

export type MysqlProgram = {
  readonly kind: MysqlKind;
  /** `10.11.18`. */
  readonly version: string;
  readonly program: string;
  /** Before all others: the loader's, and where the server finds its own files. */
  readonly args: readonly string[];
  /** The folder with the SQL files that make MariaDB's system tables. */
  readonly share?: string;
};

type Release = { readonly of: 'Debian' | 'Ubuntu'; readonly suite: string; readonly package: string };

/** Who has them, by version; the first is the one meant when none is named. */
const releases: Readonly<Record<MysqlKind, readonly (readonly [version: number, Release])[]>> = {
  mariadb: [
    [10, { of: 'Debian', suite: 'bookworm', package: 'mariadb-server-core' }],
    [10.6, { of: 'Ubuntu', suite: 'jammy', package: 'mariadb-server-core-10.6' }],
    [11, { of: 'Debian', suite: 'trixie', package: 'mariadb-server-core' }],
  ],
  mysql: [
    [9, { of: 'Debian', suite: 'sid', package: 'mysql-server-core' }],
    [8, { of: 'Ubuntu', suite: 'focal', package: 'mysql-server-core-8.0' }],
    [5, { of: 'Ubuntu', suite: 'bionic', package: 'mysql-server-core-5.7' }],
  ],
};

export const brand: Readonly<Record<MysqlKind, string>> = { mysql: 'MySQL', mariadb: 'MariaDB' };

/**
 * The server on PATH, in the cache, or fetched from a distribution into the cache; any version unless one is named: a
 * major one (`8`), or with its minor one where two of a major one can be had (`10.6`).
 */
export async function findMysql(kind: MysqlKind, version?: number): Promise<MysqlProgram> {
  const here = await installed(kind);
  if (here && (version === undefined || `${here.version}.`.startsWith(`${version}.`))) return here;
  const release = releases[kind].find(([number]) => version === undefined || number === version)?.[1];
  if (!release) {
    const wanted = `${brand[kind]} ${version}`;
    throw new GodwitError('SERVER_START_FAILED', `${wanted} is not on PATH and not one that Godwit can fetch.`);
  }
  const entry = `${kind}-${release.of.toLowerCase()}-${release.suite}`;
  const fetch = release.of === 'Debian' ? fromDebian : fromUbuntu;
  try {
    return await inTree(kind, cached(entry) ?? (await fetch(entry, release.suite, [release.package])));
  } catch (error) {
    throw new GodwitError(
      'DOWNLOAD_FAILED',
      `${brand[kind]} is not on PATH, and ${release.package} cannot be had from ${release.of} ${release.suite}: ${(error as Error).message}. Install it, or set GODWIT_TEST_${kind.toUpperCase()}_URL.`,
      { cause: error },
    );
  }
}

/** `mariadbd` or `mysqld`, which may be either; the folders for servers are often not on a user's PATH. */
async function installed(kind: MysqlKind): Promise<MysqlProgram | undefined> {
  for (const name of kind === 'mariadb' ? ['mariadbd', 'mysqld'] : ['mysqld']) {
    const places = [findOnPath(name), join('/usr/sbin', name), join('/usr/libexec', name)];
    const program = places.find((place) => place !== undefined && existsSync(place));
    if (!program) continue;
    const said = await versionOf(program, []);
    if (said?.kind !== kind) continue;
    const base = join(dirname(realpathSync(program)), '..');
    return { ...said, program, args: ['--no-defaults'], ...shareIn(base) };
  }
  return undefined;
}

async function inTree(kind: MysqlKind, tree: string): Promise<MysqlProgram> {
  const command = commandIn(tree, kind === 'mariadb' ? 'usr/sbin/mariadbd' : 'usr/sbin/mysqld');
  const said = await versionOf(command.program, command.args);
  if (said?.kind !== kind) throw new Error(`the program in ${tree} does not run`);
  const usr = join(tree, 'usr');
  const share = shareIn(usr);
  const messages = share.share ?? join(usr, 'share', 'mysql');
  const own = [
    '--no-defaults',
    `--basedir=${usr}`,
    `--plugin-dir=${join(usr, 'lib', 'mysql', 'plugin')}`,
    `--lc-messages-dir=${messages}`,
    `--character-sets-dir=${join(messages, 'charsets')}`,
  ];
  return { ...said, program: command.program, args: [...command.args, ...own], ...share };
}

async function versionOf(
  program: string,
  args: readonly string[],
): Promise<Pick<MysqlProgram, 'kind' | 'version'> | undefined> {
  try {
    const { stdout } = await run(program, [...args, '--no-defaults', '--version']);
    const version = /Ver (\d+\.\d+\.\d+)/.exec(stdout)?.[1];
    return version === undefined ? undefined : { version, kind: /mariadb/i.test(stdout) ? 'mariadb' : 'mysql' };
  } catch {
    return undefined;
  }
}

function shareIn(base: string): { share?: string } {
  const folders = ['mysql', 'mariadb', ''].map((name) => join(base, 'share', name));
  const share = folders.find((folder) => systemTables(folder) !== undefined);
  return share === undefined ? {} : { share };
}

/** The files whose statements make MariaDB's system tables, in their order. */
export function systemTables(share: string): string[] | undefined {
  for (const prefix of ['mariadb', 'mysql']) {
    const names = ['system_tables', 'performance_tables', 'system_tables_data', 'sys_schema'];
    const files = names.map((name) => join(share, `${prefix}_${name}.sql`));
    if (files.every((file) => existsSync(file))) {
      return [...files.slice(0, 3), join(share, 'maria_add_gis_sp_bootstrap.sql'), ...files.slice(3)];
    }
  }
  return undefined;
}
