import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { homedir, tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { processExists, waitUntil } from './child.ts';

/** Where downloaded servers are kept: GODWIT_CACHE, else `~/.cache/godwit`, else a folder of ours for temporary files. */
export function cacheFolder(): string {
  const wanted = [
    process.env.GODWIT_CACHE ? resolve(process.env.GODWIT_CACHE) : join(homedir(), '.cache', 'godwit'),
    join(tmpdir(), `godwit-cache-${userInfo().uid}`),
  ];
  for (const folder of wanted) {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o755 });
      accessSync(folder, constants.W_OK);
      // Programs are run from here: not from a folder that somebody else made.
      if (process.getuid === undefined || statSync(folder).uid === process.getuid() || process.env.GODWIT_CACHE) {
        return folder;
      }
    } catch {
      // not writable: the next one
    }
  }
  return mkdtempOnce();
}

let ownFolder: string | undefined;
function mkdtempOnce(): string {
  ownFolder ??= join(tmpdir(), `godwit-cache-${userInfo().uid}-${process.pid}`);
  mkdirSync(ownFolder, { recursive: true, mode: 0o700 });
  return ownFolder;
}

/** The path in the cache if it is there already. */
export function cached(name: string): string | undefined {
  const path = join(cacheFolder(), name);
  return existsSync(path) ? path : undefined;
}

/**
 * The cache's entry, made by `make` when absent: it gets an empty folder and returns what in it shall become the entry
 * (a file or a folder). The entry appears whole or not at all; of several processes one makes it and the others wait.
 */
export async function cacheOnce(name: string, make: (folder: string) => Promise<string>): Promise<string> {
  const entry = join(cacheFolder(), name);
  if (existsSync(entry)) return entry;
  const lock = `${entry}.lock`;
  await waitUntil(() => existsSync(entry) || takeLock(lock), 900_000);
  if (existsSync(entry)) {
    releaseLock(lock);
    return entry;
  }
  const folder = await mkdtemp(`${entry}.making-`);
  try {
    await rename(await make(folder), entry);
    return entry;
  } finally {
    await rm(folder, { recursive: true, force: true });
    releaseLock(lock);
  }
}

/** A lock file with our process id; the one of a process that is gone is taken over. */
function takeLock(lock: string): boolean {
  try {
    writeFileSync(lock, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const holder = lockHolder(lock);
    if (holder !== undefined && !processExists(holder)) rmSync(lock, { force: true });
    return false;
  }
}

function releaseLock(lock: string): void {
  if (lockHolder(lock) === process.pid) rmSync(lock, { force: true });
}

function lockHolder(lock: string): number | undefined {
  try {
    const text = readFileSync(lock, 'utf8');
    if (text !== '') return Number(text);
    // Empty: being written this moment, or left by a full disk.
    return Date.now() - statSync(lock).mtimeMs > 10_000 ? Number.MAX_SAFE_INTEGER : undefined;
  } catch {
    return undefined;
  }
}
