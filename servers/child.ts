import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { GodwitError } from '../errors.ts';

export type ServerProcess = {
  readonly pid: number;
  readonly running: () => boolean;
  /** Sends the signal, waits, and after `patience` milliseconds kills. Resolves when the process is gone. */
  stop(signal?: NodeJS.Signals, patience?: number): Promise<void>;
};

export type ServerCommand = {
  /** For messages: `PostgreSQL`, `The Temporal server`. */
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Both outputs are appended here. */
  readonly logFile: string;
  /** Run as this user (only root can). */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** What a watchdog sends when this process is gone, whatever way it went. */
  readonly endSignal: NodeJS.Signals;
  /** A folder the watchdog removes when this process dies without stopping its server. */
  readonly temporary?: string;
};

/**
 * Waits on a pipe that only its parent holds open. Its end means that the parent is gone, kill -9 included: the server
 * is then asked to stop, killed after ten seconds, and its temporary folder removed.
 */
const watchdogScript = `trap '' INT HUP TERM
read -r _
kill -s "$2" "$1" 2>/dev/null
i=0
while kill -0 "$1" 2>/dev/null && [ $i -lt 50 ]; do sleep 0.2; i=$((i+1)); done
kill -s KILL "$1" 2>/dev/null
[ -n "$3" ] && sleep 0.3 && rm -rf -- "$3"`;

/**
 * Starts a server that writes to a log file, in a process group of its own (Ctrl-C in the terminal is for Godwit, which
 * then stops its servers in order), and that does not outlive this process.
 */
export async function startServerProcess(command: ServerCommand): Promise<ServerProcess> {
  const log = openSync(command.logFile, 'a', 0o600);
  let child: ChildProcess;
  try {
    child = spawn(command.program, command.args, {
      stdio: ['ignore', log, log],
      detached: process.platform !== 'win32',
      env: command.env ?? process.env,
      ...(command.cwd ? { cwd: command.cwd } : {}),
      ...(command.user ? { uid: command.user.uid, gid: command.user.gid } : {}),
    });
  } finally {
    closeSync(log);
  }
  const started = await new Promise<Error | undefined>((resolve) => {
    child.once('spawn', () => resolve(undefined));
    child.once('error', resolve);
  });
  if (started) {
    throw new GodwitError('SERVER_START_FAILED', `${command.name} did not start: ${started.message}`, {
      cause: started,
    });
  }
  const pid = child.pid as number;
  const endWatch = watch(pid, command);
  let running = true;
  const gone = new Promise<void>((resolve) => {
    child.once('exit', () => {
      running = false;
      endWatch();
      resolve();
    });
  });
  child.unref();
  return {
    pid,
    running: () => running,
    async stop(signal = command.endSignal, patience = 20_000) {
      if (!running) return;
      child.ref(); // a wait that has to keep this process alive
      child.kill(signal);
      const patient = new AbortController();
      const late = sleep(patience, 'late' as const, { signal: patient.signal }).catch(() => undefined);
      if ((await Promise.race([gone, late])) === 'late') child.kill('SIGKILL');
      patient.abort();
      await gone;
    },
  };
}

function watch(pid: number, command: ServerCommand): () => void {
  if (process.platform === 'win32') {
    const end = () => process.kill(pid);
    process.once('exit', end);
    return () => process.off('exit', end);
  }
  const signal = command.endSignal.replace(/^SIG/, '');
  const args = ['-c', watchdogScript, 'godwit-watchdog', String(pid), signal, command.temporary ?? ''];
  const watchdog = spawn('/bin/sh', args, { stdio: ['pipe', 'ignore', 'ignore'], detached: true, cwd: '/' });
  watchdog.on('error', () => {});
  watchdog.stdin?.on('error', () => {});
  (watchdog.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  watchdog.unref();
  return () => watchdog.kill('SIGKILL');
}

/** What the server wrote since `from`, for error messages: the last lines that say something. */
export function logTail(logFile: string, from = 0, lines = 6): string {
  try {
    const text = readFileSync(logFile).subarray(from).toString('utf8');
    return text.split('\n').filter(Boolean).slice(-lines).join('\n');
  } catch {
    return '';
  }
}

/** Size of the log before a start, so that only the lines of that start are shown. */
export function logSize(logFile: string): number {
  return statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
}

/** Is there such a process (it may belong to somebody else)? */
export function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Polls until the condition holds; false when the time is over first. */
export async function waitUntil(condition: () => boolean | Promise<boolean>, milliseconds: number): Promise<boolean> {
  const deadline = performance.now() + milliseconds;
  for (let pause = 5; ; pause = Math.min(pause * 1.5, 100)) {
    if (await condition()) return true;
    if (performance.now() > deadline) return false;
    await sleep(pause);
  }
}
