/** A folder of this machine (or of a mounted share) as a store. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, renameSync } from 'node:fs';
import {
  copyFile,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rm,
  rmdir,
  stat,
  statfs,
  unlink,
} from 'node:fs/promises';
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { GodwitError } from '../../errors.ts';
import type { Check } from '../contract.ts';
import { type Body, isFile, type Store } from './store.ts';

export type LocalOptions = { readonly path: string; readonly fileRoots: readonly string[] };

const temporaryFolder = '_godwit/tmp';

/** Throws PRIVILEGE_MISSING when the folder is not below one of `fileRoots`, links followed. */
export async function openLocal({ path, fileRoots }: LocalOptions): Promise<Store> {
  const root = await real(resolve(path));
  await refuseOutside(root, fileRoots);
  const at = (key: string) => {
    const full = join(root, ...key.split('/'));
    if (relative(root, full).startsWith('..')) throw new GodwitError('INTERNAL', 'A key leads out of the target.');
    return full;
  };

  /** A finished, flushed file of that content beside the data, or the spool's own when it is on the same disk. */
  async function settle(body: Body): Promise<{ path: string; made: boolean }> {
    if (isFile(body)) {
      await flush(body.file);
      const [here, there] = await Promise.all([stat(body.file), stat(root)]);
      if (here.dev === there.dev) return { path: body.file, made: false };
    }
    const folder = at(temporaryFolder);
    await makeFolder(folder);
    const temporary = join(folder, randomBytes(12).toString('hex'));
    try {
      if (isFile(body)) {
        await copyFile(body.file, temporary);
        await flush(temporary);
      } else {
        const file = await open(temporary, 'wx');
        try {
          await file.writeFile(body);
          await file.sync();
        } finally {
          await file.close();
        }
      }
      return { path: temporary, made: true };
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  async function linkNew(from: string, to: string): Promise<boolean> {
    for (let tries = 0; ; tries++) {
      await makeFolder(dirname(to));
      try {
        await link(from, to);
        await flush(dirname(to));
        return true;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'EEXIST') return false;
        // Somebody who deleted the last file of that folder took the folder along.
        if (code === 'ENOENT' && tries < 5) continue;
        // A disk without hard links; copied aside first, so that a half copy never has the name.
        if (code === 'EPERM' || code === 'ENOTSUP' || code === 'EMLINK' || code === 'ENOSYS') return copyNew(from, to);
        throw error;
      }
    }
  }

  async function copyNew(from: string, to: string): Promise<boolean> {
    const guard = `${to}.godwit-new`;
    const file = await open(guard, 'wx').catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    if (!file) return false;
    await file.close();
    try {
      if (await exists(to)) return false;
      await copyFile(from, guard);
      await flush(guard);
      renameSync(guard, to);
      await flush(dirname(to));
      return true;
    } finally {
      await rm(guard, { force: true });
    }
  }

  return {
    kind: 'local',
    identity: async () => `file:${root}`,
    putIfAbsent: (key, body) =>
      translated(async () => {
        const to = at(key);
        const { path: from, made } = await settle(body);
        try {
          return await linkNew(from, to);
        } finally {
          if (made) await rm(from, { force: true });
        }
      }),
    replaceIf: (key, bytes, version) =>
      translated(async () => {
        const { path: from } = await settle(bytes);
        try {
          // Nothing runs between the look and the rename but another process: the store's one window, of microseconds.
          if (versionOf(readFileSync(at(key))) !== version) return false;
          renameSync(from, at(key));
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
          throw error;
        } finally {
          await rm(from, { force: true });
        }
        await flush(dirname(at(key)));
        return true;
      }),
    get: (key) =>
      translated(async () => {
        const bytes = await readFile(at(key)).catch(absent);
        return bytes && { bytes, version: versionOf(bytes) };
      }),
    fetch: (key, path) => translated(async () => (await copyFile(at(key), path).then(() => true, absent)) ?? false),
    url: at,
    size: (key) => translated(async () => (await stat(at(key)).catch(absent))?.size),
    async *list(prefix) {
      const entries = await readdir(at(prefix), { recursive: true, withFileTypes: true }).catch(absent);
      for (const entry of entries ?? []) {
        if (!entry.isFile()) continue;
        const full = join(entry.parentPath, entry.name);
        const found = await stat(full).catch(absent);
        if (found) yield { key: relative(root, full).split(sep).join('/'), size: found.size };
      }
    },
    copy: (from, to) =>
      translated(async () => {
        await linkNew(at(from), at(to));
      }),
    delete: (keys) =>
      translated(async () => {
        const folders = new Set<string>();
        for (const key of keys) {
          await unlink(at(key)).catch(absent);
          folders.add(dirname(at(key)));
        }
        for (const folder of folders) await removeEmpty(folder, root);
      }),
    check: () => checkLocal(root, fileRoots),
    async [Symbol.asyncDispose]() {
      await removeEmpty(at(temporaryFolder), root);
    },
  };
}

/** The folder with links followed, as far as it exists. */
async function real(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(path) === path) throw translate(error);
    return join(await real(dirname(path)), relative(dirname(path), path));
  }
}

async function refuseOutside(root: string, fileRoots: readonly string[]): Promise<void> {
  for (const allowed of fileRoots) {
    const way = relative(await real(resolve(allowed)), root);
    if (way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way)) return;
  }
  throw new GodwitError(
    'SETTINGS_INVALID',
    `path: ${root} lies outside of the folders file targets may use (GODWIT_FILE_ROOTS: ${fileRoots.join(', ')}).`,
  );
}

const versionOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const absent = (error: NodeJS.ErrnoException): undefined => {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
  return undefined;
};

const exists = async (path: string): Promise<boolean> => (await stat(path).catch(absent)) !== undefined;

async function flush(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } catch (error) {
    // Some network shares cannot flush a folder.
    if (!['EINVAL', 'ENOTSUP', 'EBADF'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  } finally {
    await file.close();
  }
}

/** Its parents too; each new name is flushed in the folder that holds it. */
async function makeFolder(folder: string): Promise<void> {
  const first = await mkdir(folder, { recursive: true });
  if (first === undefined) return;
  for (let made = folder; made.length >= first.length; made = dirname(made)) await flush(dirname(made)).catch(absent);
}

/** Folders are names only: empty ones go, up to the root. */
async function removeEmpty(folder: string, root: string): Promise<void> {
  for (let at = folder; at !== root && at.startsWith(root + sep); at = dirname(at)) {
    try {
      await rmdir(at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return;
    }
  }
}

async function translated<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw translate(error);
  }
}

function translate(error: unknown): unknown {
  const { code, path } = error as NodeJS.ErrnoException;
  const at = path === undefined ? 'the target folder' : path;
  const options = { cause: error, native: code };
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return new GodwitError('TARGET_FULL', 'There is no space left in the target folder.', options);
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new GodwitError('PRIVILEGE_MISSING', `The worker may not write to ${at}.`, options);
    case 'ENOTDIR':
    case 'EISDIR':
      return new GodwitError(
        'CONFLICT',
        `${at} is in the way: a file where a folder is needed, or the reverse.`,
        options,
      );
    case 'ENAMETOOLONG':
      return new GodwitError('NAME_TOO_LONG', 'A name is too long for the file system of the target.', options);
    default:
      return error;
  }
}

async function checkLocal(root: string, fileRoots: readonly string[]): Promise<Check[]> {
  const checks: Check[] = [
    { name: 'folder', outcome: 'pass', detail: `${root} lies below an allowed folder (${fileRoots.join(', ')})` },
  ];
  const probe = join(root, temporaryFolder, `check-${randomBytes(6).toString('hex')}`);
  try {
    await makeFolder(dirname(probe));
    const file = await open(probe, 'wx');
    await file.sync();
    await file.close();
    checks.push({ name: 'writable', outcome: 'pass', detail: 'a file can be made and flushed' });
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? 'unknown';
    const fix = 'Let the user of the worker write there, or choose another path.';
    return [...checks, { name: 'writable', outcome: 'fail', detail: `no file can be made (${reason})`, fix }];
  }
  try {
    await link(probe, `${probe}-2`);
    const twice = await link(probe, `${probe}-2`).then(
      () => false,
      (error: NodeJS.ErrnoException) => error.code === 'EEXIST',
    );
    checks.push(
      twice
        ? { name: 'conditional put', outcome: 'pass', detail: 'a second writer of one name is refused' }
        : {
            name: 'conditional put',
            outcome: 'fail',
            detail: 'two writers of one name both succeed',
            fix: 'Use another file system.',
          },
    );
  } catch {
    const detail = 'the file system has no hard links: parts are copied instead';
    checks.push({ name: 'conditional put', outcome: 'warn', detail, fix: 'Prefer a file system with hard links.' });
  }
  await rm(`${probe}-2`, { force: true });
  await rm(probe, { force: true });
  const { bavail, bsize } = await statfs(dirname(probe));
  const free = bavail * bsize;
  const low = free < 1024 ** 3;
  checks.push({
    name: 'free space',
    outcome: low ? 'warn' : 'pass',
    detail: `${(free / 1e9).toFixed(1)} GB free`,
    ...(low ? { fix: 'Free space before a large table.' } : {}),
  });
  await removeEmpty(dirname(probe), root);
  return checks;
}
