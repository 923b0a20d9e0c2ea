/** Requests at a steady rate against a running API, from a thread of its own; and many runs to ask for. */
import { Agent, get } from 'node:http';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { Database } from '../db/open.ts';

export type Load = {
  readonly url: string;
  /** Paths, asked in turn. */
  readonly paths: readonly string[];
  readonly perSecond: number;
  readonly seconds: number;
};
export type Measured = {
  readonly requests: number;
  readonly failed: number;
  /** Milliseconds from when the request was due, so that a stall counts for all who had to wait. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
};

/** 20 jobs, that many runs of three tables each, 200,000 events; statistics fresh. */
export async function fillRuns({ pool }: Database, runs: number): Promise<void> {
  await pool.query(`
    INSERT INTO godwit.jobs (name, last_run) SELECT 'job-' || i, ${runs / 20} FROM generate_series(1, 20) i;
    INSERT INTO godwit.job_documents (job_id, version, document)
      SELECT id, 1, jsonb_build_object('name', name, 'source', name || '/source', 'targets', '{}'::jsonb, 'tables', '[]'::jsonb)
      FROM godwit.jobs;
    INSERT INTO godwit.runs (job_id, number, document_version, document, status, workflow_id, created_at, started_at, ended_at)
      SELECT j.id, n, 1, '{"tables": []}', (array['succeeded','succeeded','succeeded','partial','failed'])[1 + n % 5],
        'run/' || j.name || '/' || n, now() - n * interval '1 minute', now() - n * interval '1 minute', now() - n * interval '1 minute'
      FROM godwit.jobs j, generate_series(1, ${runs / 20}) n;
    INSERT INTO godwit.run_tables (run_id, ordinal, target, source_name, target_name, mode, lane, component, status, rows_read, rows_written, bytes, updated_at)
      SELECT id, o, 'warehouse', 'public.t' || o, 'public.t' || o, 'replace', 'direct', 1, 'succeeded', 1000, 1000, 190000, created_at
      FROM godwit.runs, generate_series(1, 3) o;
    INSERT INTO godwit.events (run_id, at, kind, message)
      SELECT id, created_at, k, 'something happened' FROM godwit.runs, unnest(array['run.started', 'run.ended']) k`);
  await pool.query('ANALYZE');
}

/** What a UI and a watching CLI ask for. */
export async function readPaths({ pool }: Database): Promise<string[]> {
  const { rows } = await pool.query<{ id: string; name: string; number: number }>(
    'SELECT r.id, j.name, r.number FROM godwit.runs r JOIN godwit.jobs j ON j.id = r.job_id ORDER BY random() LIMIT 100',
  );
  return rows.flatMap(({ id, name, number }, i) => [
    `/api/runs/${id}`,
    `/api/runs/${id}/tables`,
    `/api/runs/${id}/events?limit=100`,
    `/api/jobs/${name}/runs/${number}`,
    [
      `/api/runs`,
      `/api/runs?status=failed`,
      `/api/jobs/${name}/runs?limit=20`,
      `/api/runs?job=${name}&status=partial,failed`,
      '/api/jobs',
    ][i % 5] as string,
  ]);
}

export function drive(load: Load): Promise<Measured> {
  return new Promise((resolve, reject) => {
    const thread = new Worker(fileURLToPath(import.meta.url), { workerData: load });
    thread.once('message', resolve);
    thread.once('error', reject);
  });
}

async function shoot({ url, paths, perSecond, seconds }: Load): Promise<Measured> {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  const times: number[] = [];
  let failed = 0;
  const total = perSecond * seconds;
  const began = performance.now();
  const ask = (due: number, path: string) =>
    new Promise<void>((resolve) => {
      const done = (ok: boolean) => {
        times.push(performance.now() - due);
        if (!ok) failed++;
        resolve();
      };
      get(url + path, { agent }, (answer) => {
        answer.resume();
        answer.on('end', () => done(answer.statusCode === 200));
      }).on('error', () => done(false));
    });
  const asked: Promise<void>[] = [];
  for (let n = 0; n < total; ) {
    const due = began + (n * 1000) / perSecond;
    if (performance.now() < due) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      continue;
    }
    asked.push(ask(due, paths[n % paths.length] as string));
    n++;
  }
  await Promise.all(asked);
  agent.destroy();
  times.sort((a, b) => a - b);
  const at = (share: number) => Math.round((times[Math.floor(times.length * share)] ?? 0) * 10) / 10;
  return { requests: times.length, failed, p50: at(0.5), p99: at(0.99), max: at(0.9999) };
}

if (!isMainThread && workerData) parentPort?.postMessage(await shoot(workerData as Load));
