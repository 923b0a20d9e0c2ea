import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { projectFolder } from '../../config.ts';
import type { FaultPoint } from '../../faults.ts';
import { logTail, type ServerProcess, startServerProcess, waitUntil } from '../../servers/child.ts';
import { shareBundles } from '../servers/bundles.ts';
import { impatientBundles } from './impatience.ts';
import type { Random } from './random.ts';

export type Workers = AsyncDisposable & {
  readonly logFiles: readonly string[];
  /** Of those that live now. */
  pids(): number[];
  /** Sends the signal to this worker, or to any that is not spared; the pid, or undefined when none lives. */
  signal(signal: NodeJS.Signals, pid?: number): number | undefined;
  /** kill -9 sent by us, and by workers to themselves at a named point. */
  readonly kills: number;
  /** The next worker to reach the point gets the signal. */
  arm(point: FaultPoint, signal: NodeJS.Signals): void;
  /** Is it still waiting for somebody to come by? */
  armed(point: FaultPoint): boolean;
  /** Who took it last. */
  taker(point: FaultPoint): number | undefined;
  disarm(): void;
  /** No named point and no random signal meets this one (the one that keeps a run's snapshot); undefined = none is spared. */
  spare(pid: number | undefined): void;
  stop(): Promise<void>;
};

export type WorkersOptions = {
  readonly count: number;
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  readonly random: Random;
  /** The project, or a changed copy of it. */
  readonly project?: string;
};

/** Worker processes and a supervisor that starts each anew when it ends, as systemd or Kubernetes would. */
export async function startWorkers(options: WorkersOptions): Promise<Workers> {
  const { folder, random } = options;
  const impatient = await impatientBundles();
  const faults = join(folder, 'faults');
  const calm = join(folder, 'calm');
  for (const one of [faults, calm]) mkdirSync(one, { recursive: true });
  let sent = 0;
  let stopping = false;
  const slots = Array.from({ length: options.count }, (_, i) => ({
    name: `worker-${i + 1}`,
    logFile: join(folder, `worker-${i + 1}.log`),
    // A link, so that a worker can be spared without a word to it: all others share one folder, and one takes the file.
    faults: join(folder, `faults-${i + 1}`),
    process: undefined as ServerProcess | undefined,
  }));

  const pointTo = (slot: (typeof slots)[number], where: string) => {
    if (existsSync(slot.faults)) unlinkSync(slot.faults);
    symlinkSync(where, slot.faults);
  };
  for (const slot of slots) {
    pointTo(slot, faults);
    shareBundles(join(folder, slot.name), impatient);
  }
  let spared: number | undefined;

  const start = async (slot: (typeof slots)[number]) => {
    slot.process = await startServerProcess({
      name: 'A worker',
      program: process.execPath,
      args: ['cli/main.ts', 'worker'],
      cwd: options.project ?? projectFolder,
      env: { ...options.env, GODWIT_HOME: join(folder, slot.name), GODWIT_FAULT_FOLDER: slot.faults },
      logFile: slot.logFile,
      endSignal: 'SIGTERM',
    });
  };
  const supervise = async (slot: (typeof slots)[number]) => {
    while (!stopping) {
      const begun = Date.now();
      await start(slot);
      while (!stopping && slot.process?.running()) await sleep(50);
      if (Date.now() - begun < 1_000) await sleep(500);
    }
  };
  const supervised = slots.map(supervise);
  const live = () => slots.flatMap(({ process: one }) => (one?.running() ? [one.pid] : []));
  const takers = (point: string) => readdirSync(faults).filter((name) => name.startsWith(`${point}.taken.`));

  async function stop(): Promise<void> {
    stopping = true;
    for (const { process: one } of slots) {
      if (!one?.running()) continue;
      process.kill(one.pid, 'SIGCONT');
      await one.stop('SIGKILL');
    }
    await Promise.all(supervised);
    for (const { process: one } of slots) if (one?.running()) await one.stop('SIGKILL');
  }

  return {
    logFiles: slots.map(({ logFile }) => logFile),
    pids: live,
    signal(signal, pid) {
      const free = live().filter((one) => one !== spared);
      const chosen = pid ?? (free.length > 0 ? random.pick(free) : undefined);
      if (chosen === undefined || !live().includes(chosen)) return undefined;
      process.kill(chosen, signal);
      if (signal === 'SIGKILL') sent++;
      return chosen;
    },
    get kills() {
      return sent + readdirSync(faults).filter((name) => name.includes('.taken.')).length;
    },
    arm: (point, signal) => writeFileSync(join(faults, point), signal),
    armed: (point) => existsSync(join(faults, point)),
    taker: (point) => {
      // point.taken.<pid>.<clock>: the latest.
      const taken = takers(point).map((name) => name.slice(point.length + 1).split('.'));
      const [latest] = taken.sort((a, b) => Number(b[2]) - Number(a[2]));
      return latest && Number(latest[1]);
    },
    disarm() {
      for (const name of readdirSync(faults)) if (!name.includes('.taken.')) rmSync(join(faults, name));
    },
    spare(pid) {
      spared = pid;
      for (const slot of slots) pointTo(slot, pid !== undefined && slot.process?.pid === pid ? calm : faults);
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

export type Api = AsyncDisposable & { readonly url: string; readonly logFile: string; stop(): Promise<void> };

export async function startApi(options: { folder: string; port: number; env: NodeJS.ProcessEnv }): Promise<Api> {
  const logFile = join(options.folder, 'api.log');
  const url = `http://127.0.0.1:${options.port}`;
  const api = await startServerProcess({
    name: 'The API',
    program: process.execPath,
    args: ['cli/main.ts', 'api'],
    cwd: projectFolder,
    env: { ...options.env, GODWIT_HOME: join(options.folder, 'api'), PORT: String(options.port) },
    logFile,
    endSignal: 'SIGTERM',
  });
  const stop = () => api.stop('SIGTERM', 5_000);
  const ready = async () =>
    !api.running() ||
    (await fetch(`${url}/healthz`).then(
      (answer) => answer.ok,
      () => false,
    ));
  if (!(await waitUntil(ready, 60_000)) || !api.running()) {
    await stop();
    throw new Error(`The API did not start:\n${logTail(logFile, 0, 20)}`);
  }
  return { url, logFile, stop, [Symbol.asyncDispose]: stop };
}
