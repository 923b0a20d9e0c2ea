import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { GodwitError } from '../errors.ts';

/** PostgreSQL refuses to run as root; started by root it runs as this user. */
export type User = { readonly name: string; readonly uid: number; readonly gid: number };

export const isRoot = (): boolean => process.getuid?.() === 0;

/**
 * The user for PostgreSQL when Godwit runs as root: the owner of existing data, else `postgres`, else `nobody`.
 * undefined = run as ourselves. Nothing is added to the system.
 */
export function serverUser(existingData?: string): User | undefined {
  if (!isRoot()) return undefined;
  const users = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .map(([name = '', , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }))
    .filter((user) => user.uid > 0);
  const owner = existingData === undefined ? undefined : statSync(existingData, { throwIfNoEntry: false })?.uid;
  const user =
    users.find(({ uid }) => uid === owner) ??
    users.find(({ name }) => name === 'postgres') ??
    users.find(({ name }) => name === 'nobody');
  if (user) return user;
  throw new GodwitError(
    'SERVER_START_FAILED',
    'PostgreSQL cannot run as root and this system has neither a user `postgres` nor `nobody`: run Godwit as an ordinary user, or set DATABASE_URL.',
  );
}

/** Can the user go through every folder down to this path (which need not exist yet)? */
export function reachableBy(user: User | undefined, path: string): boolean {
  if (!user) return true;
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    const stat = statSync(folder, { throwIfNoEntry: false });
    if (stat?.isDirectory()) {
      const bit = stat.uid === user.uid ? 0o100 : stat.gid === user.gid ? 0o010 : 0o001;
      if ((stat.mode & bit) === 0) return false;
    }
    if (folder === dirname(folder)) return true;
  }
}

/** A folder of root's that every user can go through, for what cannot lie below a private folder such as /root. */
export function publicFolder(user: User): string {
  for (const folder of ['/var/lib/godwit', join(tmpdir(), 'godwit-public'), '/tmp/godwit-public']) {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o755 });
      // In a folder open to everyone somebody else could have made it first.
      if (statSync(folder).uid === 0 && reachableBy(user, folder)) return folder;
    } catch {
      // read-only or forbidden: the next one
    }
  }
  throw new GodwitError(
    'SERVER_START_FAILED',
    `PostgreSQL runs as the user ${user.name} here, and no folder both writable by root and open to that user was found (tried /var/lib/godwit and ${tmpdir()}): run Godwit as an ordinary user, or set DATABASE_URL.`,
  );
}

/** A name for the public copy or counterpart of a path. */
export const nameOf = (path: string): string => createHash('sha256').update(path).digest('hex').slice(0, 12);

/** The folder itself if the user can reach it, else a copy in the public folder (made once). */
export async function reachableCopy(user: User | undefined, folder: string): Promise<string> {
  if (!user || reachableBy(user, folder)) return folder;
  const stamp = statSync(join(folder, 'bin')).mtimeMs;
  const copy = join(publicFolder(user), `program-${nameOf(`${folder} ${stamp}`)}`);
  if (statSync(copy, { throwIfNoEntry: false })) return copy;
  const making = await mkdtemp(`${copy}.`);
  try {
    await cp(folder, join(making, 'it'), { recursive: true, verbatimSymlinks: true });
    await rename(join(making, 'it'), copy).catch((error) => {
      if (!statSync(copy, { throwIfNoEntry: false })) throw error; // else another process was faster
    });
  } finally {
    await rm(making, { recursive: true, force: true });
  }
  return copy;
}

/** A new temporary folder of the user's, which that user can reach. */
export async function temporaryFolder(prefix: string, user?: User): Promise<string> {
  const parent = reachableBy(user, tmpdir()) ? tmpdir() : user ? publicFolder(user) : tmpdir();
  await mkdir(parent, { recursive: true });
  return mkdtemp(join(parent, prefix));
}
