import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { GodwitError } from '../errors.ts';

export type ReferenceRules = {
  /** GODWIT_HOME: files are looked for in its folder `secrets`. */
  readonly home: string;
  /** Patterns of variables that may be named (`*` stands for anything). */
  readonly envAllow: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
};

/**
 * The value behind a reference; a text that is none is the value itself. Only in the worker (decision 29). Throws
 * SECRET_UNRESOLVED naming the reference, never what it holds.
 */
export async function resolveReference(text: string, rules: ReferenceRules): Promise<string> {
  const [, kind, name = ''] = /^(env|file):(.*)$/s.exec(text) ?? [];
  if (kind === 'env') return fromEnvironment(name, rules);
  if (kind === 'file') return await fromFile(name, rules.home);
  return text;
}

/** All texts of a settings object at once. */
export async function resolveReferences(
  secrets: Readonly<Record<string, string>>,
  rules: ReferenceRules,
): Promise<Record<string, string>> {
  const entries = Object.entries(secrets).map(
    async ([key, text]) => [key, await resolveReference(text, rules)] as const,
  );
  return Object.fromEntries(await Promise.all(entries));
}

function fromEnvironment(name: string, { envAllow, env = process.env }: ReferenceRules): string {
  if (!envAllow.some((pattern) => matches(pattern, name))) {
    const message = `env:${name} is not among the variables a reference may name (GODWIT_ENV_ALLOW=${envAllow.join(',')}).`;
    throw new GodwitError('SECRET_UNRESOLVED', message);
  }
  const value = env[name];
  if (value === undefined) {
    throw new GodwitError('SECRET_UNRESOLVED', `env:${name}: the worker has no such variable.`);
  }
  return value;
}

async function fromFile(name: string, home: string): Promise<string> {
  const folder = resolve(home, 'secrets');
  // One name, no path: nothing can lead out of the folder, and links are not followed.
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/.test(name)) {
    throw new GodwitError('SECRET_UNRESOLVED', `file:${name}: must be the plain name of a file in ${folder}.`);
  }
  try {
    await using file = await open(join(folder, name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = await file.stat();
    if (!stat.isFile()) throw new GodwitError('SECRET_UNRESOLVED', `file:${name}: not a regular file.`);
    if (stat.size > 65_536) throw new GodwitError('SECRET_UNRESOLVED', `file:${name}: larger than 64 KiB.`);
    return (await file.readFile('utf8')).replace(/\r?\n$/, '');
  } catch (error) {
    if (error instanceof GodwitError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? 'there is no such file' : code === 'ELOOP' ? 'links are not followed' : code;
    throw new GodwitError('SECRET_UNRESOLVED', `file:${name}: ${why} (looked in ${folder}).`);
  }
}

const matches = (pattern: string, name: string): boolean =>
  new RegExp(`^${pattern.replace(/[^A-Za-z0-9_*]/g, '\\$&').replaceAll('*', '.*')}$`).test(name);
