/** A Godwit of its own for a bench: `godwit up` in a temporary folder, spoken to by its API. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { State } from '../cli/state.ts';
import { projectFolder } from '../config.ts';
import { orchestrationShare } from './share.ts';

export type Run = {
  readonly id: string;
  readonly number: number;
  readonly workflowId: string;
  readonly status: string;
  readonly createdAt: string;
  readonly endedAt: string | null;
  readonly failure?: { readonly code: string; readonly message: string } | null;
};

export class Installation implements AsyncDisposable {
  readonly home: string;
  readonly #up: ChildProcess;
  #url = '';
  #temporal = '';

  private constructor(home: string, up: ChildProcess) {
    this.home = home;
    this.#up = up;
  }

  /** API and worker in one process, which is measured; the embedded servers below it are not. */
  get pid(): number {
    return this.#up.pid ?? 0;
  }

  static async start(env: NodeJS.ProcessEnv = {}): Promise<Installation> {
    const home = await mkdtemp(join(tmpdir(), 'godwit-bench-'));
    const up = spawn(process.execPath, [...process.execArgv, 'cli/main.ts', 'up'], {
      cwd: projectFolder,
      env: { ...process.env, GODWIT_HOME: home, PORT: '0', GODWIT_LOG: 'warn', ...env },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const made = new Installation(home, up);
    const deadline = Date.now() + 120_000;
    while (Date.now() < deadline && up.exitCode === null) {
      try {
        const state = JSON.parse(readFileSync(join(home, 'state.json'), 'utf8')) as State;
        made.#url = state.url;
        made.#temporal = state.temporal?.address ?? '';
        if ((await fetch(`${made.#url}/readyz`)).ok) return made;
      } catch {
        // not there yet
      }
      await wait(100);
    }
    await made[Symbol.asyncDispose]();
    throw new Error('godwit up did not become ready');
  }

  async request<T>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await fetch(this.#url + path, {
      method,
      headers: { 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return (text ? JSON.parse(text) : undefined) as T;
  }

  apply(mapping: { readonly name: string }): Promise<unknown> {
    return this.request('POST', '/api/jobs', mapping);
  }

  /** A whole run, looked at four times a second: asking costs the machine too. Throws unless it succeeded. */
  async run(job: string): Promise<Run> {
    const { id } = await this.request<Run>('POST', `/api/jobs/${encodeURIComponent(job)}/runs`, {});
    for (;;) {
      const run = await this.request<Run>('GET', `/api/runs/${id}`);
      if (run.status === 'succeeded') return run;
      if (['failed', 'partial', 'canceled', 'skipped'].includes(run.status)) {
        const tables = await this.request('GET', `/api/runs/${id}/tables`);
        throw new Error(
          `run ended as ${run.status}: ${JSON.stringify(run.failure)} ${JSON.stringify(tables).slice(0, 2000)}`,
        );
      }
      await wait(250);
    }
  }

  /** See `orchestrationShare`; of an ended run. */
  orchestration(run: Run): Promise<number> {
    return orchestrationShare(this.#temporal, run.workflowId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#up.exitCode === null) {
      this.#up.kill('SIGTERM');
      await Promise.race([new Promise((resolve) => this.#up.once('exit', resolve)), wait(20_000)]);
      if (this.#up.exitCode === null) this.#up.kill('SIGKILL');
    }
    await rm(this.home, { recursive: true, force: true });
  }
}
