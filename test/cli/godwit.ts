import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { projectFolder } from '../../config.ts';

export type Answer = { readonly code: number; readonly out: string; readonly err: string };
export type Started = { readonly child: ChildProcess; readonly ended: Promise<Answer>; readonly said: () => string };

const main = join(projectFolder, 'cli', 'main.ts');

/** The environment of one installation of its own: nothing of the caller's settings. */
export function environment(home: string, more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const clean = Object.entries(process.env).filter(
    ([name]) =>
      !/^(GODWIT_|TEMPORAL_|DATABASE_URL$|HOST$|PORT$)/.test(name) ||
      ['GODWIT_CACHE', 'TEMPORAL_CLI_PATH'].includes(name),
  );
  return { ...Object.fromEntries(clean), GODWIT_HOME: home, NO_COLOR: '1', ...more };
}

/** A folder for GODWIT_HOME that PostgreSQL's own user may pass through. */
export function newHome(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'godwit-cli-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 }) };
}

export function start(args: readonly string[], env: NodeJS.ProcessEnv, cwd = tmpdir()): Started {
  const child = spawn(process.execPath, [main, ...args], { env, cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout?.on('data', (bytes) => (out += bytes));
  child.stderr?.on('data', (bytes) => (err += bytes));
  const ended = new Promise<Answer>((resolve) =>
    child.on('close', (code, signal) => resolve({ code: code ?? (signal ? 128 : -1), out, err })),
  );
  return { child, ended, said: () => out + err };
}

export const godwit = (args: readonly string[], env: NodeJS.ProcessEnv, cwd?: string): Promise<Answer> =>
  start(args, env, cwd).ended;

export const jsonLines = (text: string): Record<string, unknown>[] =>
  text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
