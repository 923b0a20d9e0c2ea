import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheOnce } from './cache.ts';
import { say } from './say.ts';
import { findOnPath } from './temporal-cli.ts';

const run = promisify(execFile);
/** Where a distribution's packages are, how apt checks them, and the package (of the system's own) that has the keys. */
type Distribution = {
  readonly name: string;
  readonly keyring: string;
  readonly keys: string;
  readonly mirror: string;
  /** Of the system's own sources, those that are mirrors of this one. */
  readonly known: RegExp;
  readonly components: string;
};
const debian: Distribution = {
  name: 'Debian',
  keyring: '/usr/share/keyrings/debian-archive-keyring.gpg',
  keys: 'debian-archive-keyring',
  mirror: 'http://deb.debian.org/debian',
  known: /debian/,
  components: 'main',
};
/** Has older servers than Debian: MongoDB 3.6, MySQL 5.7 and 8.0, MariaDB 10.6. */
const ubuntu: Distribution = {
  name: 'Ubuntu',
  keyring: '/usr/share/keyrings/ubuntu-archive-keyring.gpg',
  keys: 'ubuntu-archive-keyring',
  mirror: 'http://archive.ubuntu.com/ubuntu',
  known: /ubuntu/,
  components: 'main universe',
};
const triples: Readonly<Record<string, readonly [folder: string, loader: string]>> = {
  x64: ['x86_64-linux-gnu', 'ld-linux-x86-64.so.2'],
  arm64: ['aarch64-linux-gnu', 'ld-linux-aarch64.so.1'],
};
/** Parts of the closure that only installing needs; a server that is run from a folder does not. */
const unneeded =
  /^(perl|debconf|cdebconf|passwd|psmisc|adduser|systemd|sysvinit|init|libperl|mysql-common|default-|virtual-)/;

/**
 * A folder with the unpacked packages of a Debian release and everything they need, the C library included; kept in
 * the cache. apt itself fetches and checks them, with lists of its own in a private folder: the system's stay as they
 * are. Throws an Error that says in one clause why it cannot be.
 */
export const fromDebian = (entry: string, suite: string, packages: readonly string[]): Promise<string> =>
  unpacked(debian, entry, suite, packages);

/** The same of an Ubuntu release (`focal`). */
export const fromUbuntu = (entry: string, suite: string, packages: readonly string[]): Promise<string> =>
  unpacked(ubuntu, entry, suite, packages);

async function unpacked(
  from: Distribution,
  entry: string,
  suite: string,
  packages: readonly string[],
): Promise<string> {
  for (const program of ['apt-get', 'apt-cache', 'dpkg-deb']) {
    if (!findOnPath(program)) throw new Error(`there is no ${program}`);
  }
  if (!triples[process.arch]) throw new Error(`nothing is known about ${from.name} on ${process.arch}`);
  return cacheOnce(entry, async (folder) => {
    say(`Fetching ${packages.join(' and ')} from ${from.name} ${suite} (about 50 MB) …`);
    const keys = existsSync(from.keyring) ? from.keyring : await keysOf(from, join(folder, 'keys'));
    const { stdout } = await run('apt-get', ['indextargets', '--format', '$(SITE)']).catch(() => ({ stdout: '' }));
    const sites = stdout.split('\n').filter((site) => from.known.test(site) && !/security|ports/.test(site));
    const source = `deb [signed-by=${keys}] ${sites[0] ?? from.mirror} ${suite} ${from.components}\n`;
    const apt = await privateApt(join(folder, 'apt'), source);
    const tree = join(folder, 'tree');
    await unpack(apt, await closure(apt, packages), tree);
    return tree;
  });
}

/** The command line of a program in such a folder: run by that folder's own loader with that folder's libraries. */
export function commandIn(tree: string, program: string): { program: string; args: string[] } {
  const [folder, loader] = triples[process.arch] ?? ['', ''];
  const libraries = ['usr/lib', 'lib'].map((lib) => join(tree, lib, folder)).filter(existsSync);
  const found = libraries.map((library) => join(library, loader)).find(existsSync);
  if (!found) throw new Error(`no loader in ${tree}`);
  return { program: found, args: ['--library-path', libraries.join(':'), join(tree, program)] };
}

type Apt = { readonly folder: string; readonly options: readonly string[] };

/** apt with lists, archives and sources in this folder. Without a source the system's are used. */
async function privateApt(folder: string, source?: string): Promise<Apt> {
  for (const part of ['state/lists/partial', 'cache/archives/partial', 'none']) {
    await mkdir(join(folder, part), { recursive: true });
  }
  await writeFile(join(folder, 'state', 'status'), '');
  const settings = [
    `Dir::State=${join(folder, 'state')}`,
    `Dir::State::status=${join(folder, 'state', 'status')}`,
    `Dir::Cache=${join(folder, 'cache')}`,
    'APT::Sandbox::User=root',
    'Acquire::Languages=none',
  ];
  if (source !== undefined) {
    const list = join(folder, 'sources.list');
    await writeFile(list, source);
    const none = join(folder, 'none');
    settings.push(
      `Dir::Etc::sourcelist=${list}`,
      `Dir::Etc::sourceparts=${none}`,
      `Dir::Etc::preferencesparts=${none}`,
    );
  }
  const apt = { folder, options: settings.flatMap((setting) => ['-o', setting]) };
  await aptRun('apt-get', ['-qq', ...apt.options, 'update'], folder);
  return apt;
}

async function closure(apt: Apt, packages: readonly string[]): Promise<string[]> {
  const no = ['recommends', 'suggests', 'conflicts', 'breaks', 'replaces', 'enhances'].map((kind) => `--no-${kind}`);
  const text = await aptRun('apt-cache', [...apt.options, 'depends', '--recurse', ...no, ...packages], apt.folder);
  const names = text.split('\n').filter((line) => /^[a-z0-9]/.test(line) && !unneeded.test(line));
  return [...new Set(names)];
}

async function unpack(apt: Apt, packages: readonly string[], tree: string): Promise<void> {
  const archives = join(apt.folder, 'archives');
  await mkdir(archives);
  await mkdir(tree);
  await aptRun('apt-get', ['-qq', ...apt.options, 'download', ...packages], archives);
  for (const archive of readdirSync(archives)) await run('dpkg-deb', ['-x', join(archives, archive), tree]);
}

/** Debian has Ubuntu's keys as a package, and everybody who has apt has Debian's. */
const keysOf = async (from: Distribution, folder: string): Promise<string> =>
  from === ubuntu
    ? join(await fromDebian('ubuntu-archive-keyring', 'trixie', [from.keys]), from.keyring)
    : await fetchKeyring(from, folder);

/** On a system of another family that still has apt: the keys are a package there, signed by keys it trusts. */
async function fetchKeyring({ keys, keyring }: Distribution, folder: string): Promise<string> {
  const apt = await privateApt(folder);
  const tree = join(folder, 'tree');
  await unpack(apt, [keys], tree);
  return join(tree, keyring);
}

async function aptRun(program: string, args: readonly string[], cwd: string): Promise<string> {
  try {
    return (await run(program, args, { cwd, timeout: 600_000, maxBuffer: 1 << 26 })).stdout;
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.split('\n').find((line) => line.startsWith('E:'));
    throw new Error(`${program} failed: ${said ?? (error as Error).message.split('\n')[0]}`, { cause: error });
  }
}
