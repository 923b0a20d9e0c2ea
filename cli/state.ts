import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GodwitError } from '../errors.ts';

/** What a serving Godwit leaves in GODWIT_HOME/state.json so that the CLI finds it. No secret in it. */
export type State = {
  readonly pid: number;
  /** `up`: serves until stopped. `api`: only the API. `command`: embedded for as long as one command lasts. */
  readonly kind: 'up' | 'api' | 'command';
  readonly url: string;
  readonly temporal?: { readonly address: string; readonly ui?: string };
  readonly startedAt: string;
};

const stateFile = (home: string) => join(home, 'state.json');
const lockFile = (home: string) => join(home, 'lock');

/** The state of a living process, or undefined. */
export function readState(home: string): State | undefined {
  const state = readJson(stateFile(home)) as State | undefined;
  return state && alive(state.pid) ? state : undefined;
}

/** Whole or not at all: a reader never sees half of it. */
export function writeState(home: string, state: State): void {
  const draft = `${stateFile(home)}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(state, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(draft, stateFile(home));
}

export function removeState(home: string): void {
  const state = readJson(stateFile(home)) as State | undefined;
  if (state?.pid === process.pid) rmSync(stateFile(home), { force: true });
}

/**
 * One embedded installation per GODWIT_HOME. Throws ALREADY_EXISTS naming the process that holds it; takes over the lock
 * of a process that is gone. Disposing gives it back.
 */
export function lockHome(home: string): Disposable {
  makeHome(home);
  const file = lockFile(home);
  for (let tries = 1; ; tries++) {
    try {
      writeFileSync(file, JSON.stringify({ pid: process.pid }), { flag: 'wx', mode: 0o600 });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw folderError(home, error);
      const holder = (readJson(file) as { pid?: number } | undefined)?.pid;
      if (tries > 3 || (holder !== undefined && holder !== process.pid && alive(holder))) {
        throw new GodwitError('ALREADY_EXISTS', `Another Godwit (process ${holder}) runs in ${home}.`);
      }
      rmSync(file, { force: true });
    }
  }
  return { [Symbol.dispose]: () => rmSync(file, { force: true }) };
}

/** Makes GODWIT_HOME. Throws SETTINGS_INVALID when it cannot be written. */
export function makeHome(home: string): void {
  try {
    mkdirSync(home, { recursive: true, mode: 0o711 });
  } catch (error) {
    throw folderError(home, error);
  }
}

function folderError(home: string, error: unknown): GodwitError {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new GodwitError('LOCAL_DISK_FULL', `There is no space left in GODWIT_HOME (${home}).`, { cause: error });
  }
  return new GodwitError('SETTINGS_INVALID', `GODWIT_HOME (${home}) cannot be written: ${message}`, { cause: error });
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

export function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
