import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, linkSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GodwitError } from '../errors.ts';

/** The key-encryption key. `id` tells which key sealed something, and nothing about the key. */
export type Keyring = { readonly id: string; readonly key: Buffer };

/** The keyring of 32 raw bytes. */
export function keyringOf(key: Uint8Array): Keyring {
  if (key.length !== 32) throw new GodwitError('SETTINGS_INVALID', 'The key must be 32 bytes in base64.');
  const bytes = Buffer.from(key);
  const keyring = { id: createHash('sha256').update('godwit key id').update(bytes).digest('hex').slice(0, 12) };
  // Not enumerable: printing or serialising the keyring shows its id alone.
  return Object.defineProperty(keyring, 'key', { value: bytes, enumerable: false }) as Keyring;
}

/** GODWIT_KEY if given, else the file `key` in GODWIT_HOME, made (0600) by whoever comes first. */
export function openKeyring({ home, key }: { readonly home: string; readonly key?: string | undefined }): Keyring {
  if (key !== undefined && key !== '') {
    const bytes = Buffer.from(key, 'base64');
    if (bytes.length !== 32) {
      throw new GodwitError('SETTINGS_INVALID', 'GODWIT_KEY must be 32 bytes in base64 (`openssl rand -base64 32`).');
    }
    return keyringOf(bytes);
  }
  const path = join(home, 'key');
  const found = readKeyFile(path);
  if (found) return found;
  mkdirSync(home, { recursive: true });
  // Written whole under another name, then linked: a second starter finds either nothing or the whole key.
  const draft = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  writeFileSync(draft, `${randomBytes(32).toString('base64')}\n`, { mode: 0o600, flag: 'wx', flush: true });
  try {
    chmodSync(draft, 0o600);
    linkSync(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  return readKeyFile(path) as Keyring;
}

function readKeyFile(path: string): Keyring | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat) return undefined;
  if (process.platform !== 'win32' && (stat.mode & 0o077) !== 0) {
    const mode = (stat.mode & 0o777).toString(8);
    throw new GodwitError('SETTINGS_INVALID', `${path} may be read by others (mode ${mode}). Run: chmod 600 ${path}`);
  }
  const bytes = Buffer.from(readFileSync(path, 'utf8').trim(), 'base64');
  if (bytes.length !== 32) {
    throw new GodwitError('SECRET_UNREADABLE', `${path} does not hold a key of 32 bytes in base64.`);
  }
  return keyringOf(bytes);
}
