import type { ApplicationFailure } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { and, eq } from 'drizzle-orm';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Activities, RunRef } from '../../activities/contract.ts';
import { chunks, events, leases, runs, runTables, snapshots } from '../../db/schema.ts';
import { createDatabase, missing } from '../servers/shared.ts';
import { install, query } from './installation.ts';
import { quiet } from './stubbed-worker.ts';

const noServers = (await missing('postgres')) || (await missing('temporal'));
type Godwit = Awaited<ReturnType<typeof install>>;
type Bench = Awaited<ReturnType<Godwit['activities']>>;

/** Runs one activity as a worker would. */
function call<K extends keyof Activities>(
  bench: Bench,
  name: K,
  args: Parameters<Activities[K]>[0],
  environment = alone(),
): ReturnType<Activities[K]> {
  const activity = bench.activities[name] as (given: typeof args) => Promise<unknown>;
  return environment.run(activity as never, args) as ReturnType<Activities[K]>;
}
const alone = () => new MockActivityEnvironment({}, { logger: quiet });

describe.skipIf(noServers)('activities, one at a time', () => {
  let source: Awaited<ReturnType<typeof createDatabase>>;
  let target: Awaited<ReturnType<typeof createDatabase>>;
  let godwit: Godwit;
  let bench: Bench;
  let ref: RunRef;
  let keeper: MockActivityEnvironment;
  let holding: Promise<unknown>;

  beforeAll(async () => {
    source = await createDatabase();
    await query(
      source.url,
      `CREATE TABLE big (id int PRIMARY KEY, n int, t text);
       INSERT INTO big SELECT i, i, repeat('x', 60) FROM generate_series(1, 30000) i; ANALYZE;`,
    );
    return () => source.drop();
  });
  beforeEach(async () => {
    await using stack = new AsyncDisposableStack();
    target = stack.use(await createDatabase());
    godwit = stack.use(await install({ GODWIT_CHUNK_MB: '1' }));
    bench = await godwit.activities();
    const run = await godwit.row({
      name: 'big',
      source: { source_type: 'pgsql', url: source.url },
      destination: { warehouse: { destination_type: 'pgsql', url: target.url, schema: 'copy' } },
      tables: [{ table_name: 'public.big', mode: 'replace' }],
    });
    const begun = await call(bench, 'begin', {
      jobId: run.jobId,
      scheduleKey: '',
      runId: run.id,
      workflowId: run.workflowId,
      firstExecutionRunId: 'first',
    });
    expect(begun).toMatchObject({ verdict: 'go', epoch: 1, label: 'big 1' });
    ref = { runId: run.id, epoch: begun.epoch };
    keeper = alone();
    holding = call(bench, 'hold', ref, keeper).catch((error: unknown) => error);
    const kept = stack.move();
    return async () => {
      keeper.cancel();
      await holding;
      await kept.disposeAsync();
    };
  });

  const table = async () => (await godwit.db.select().from(runTables).where(eq(runTables.runId, ref.runId)))[0];
  const begin = async () => {
    const planned = await call(bench, 'plan', ref);
    expect(planned).toMatchObject({ tables: 1, units: [{ kind: 'table', ordinal: 1 }] });
    const carry = await call(bench, 'prepareTable', { ...ref, ordinal: 1 });
    const page = await call(bench, 'split', { ...ref, ordinal: 1, generation: 1, upTo: 0, count: 2 });
    return { carry, page, chunk: (number: number) => ({ ...ref, ordinal: 1, generation: 1, chunk: number }) };
  };

  test('a page of chunks is found once, whoever asks again', async () => {
    const { carry, page } = await begin();
    expect(carry).toMatchObject({ generation: 1, next: 1, upTo: 0, splitDone: false });
    expect(page).toMatchObject({ upTo: 2, done: false });
    const again = await call(bench, 'split', { ...ref, ordinal: 1, generation: 1, upTo: 0, count: 2 });
    expect(again).toEqual(page);
    const rest = await call(bench, 'split', { ...ref, ordinal: 1, generation: 1, upTo: 2, count: 100 });
    expect(rest.done).toBe(true);
    const found = await godwit.db.select().from(chunks);
    expect(found.map((one) => one.chunk).sort((a, b) => a - b)).toEqual(
      Array.from({ length: rest.upTo }, (_, i) => i + 1),
    );
    // Bounds are key values: not to be read in the row.
    expect(found.every((one) => one.bounds.subarray(0, 2).toString() === 'GW')).toBe(true);
  });

  test('a chunk is moved once, heartbeats on the way, and moving it again writes nothing', async () => {
    const { chunk } = await begin();
    const environment = alone();
    let beats = 0;
    environment.on('heartbeat', () => beats++);
    expect(await call(bench, 'move', chunk(1), environment)).toEqual({ outcome: 'done' });
    expect(beats).toBeGreaterThan(0);
    const first = await table();
    expect(first?.rowsWritten).toBeGreaterThan(0);
    await godwit.db.update(chunks).set({ status: 'queued', rowsWritten: 0 }).where(eq(chunks.chunk, 1));
    expect(await call(bench, 'move', chunk(1))).toEqual({ outcome: 'done' });
    expect((await table())?.rowsWritten).toBe(first?.rowsWritten);
  });

  test('a canceled chunk ends promptly and the next attempt moves it', async () => {
    const { chunk } = await begin();
    const environment = alone();
    environment.on('heartbeat', () => environment.cancel('CANCELLED'));
    await expect(call(bench, 'move', chunk(1), environment)).rejects.toMatchObject({ name: 'CancelledFailure' });
    expect((await table())?.chunksDone).toBe(0);
    expect(await call(bench, 'move', chunk(1))).toEqual({ outcome: 'done' });
    expect((await table())?.chunksDone).toBe(1);
  });

  test('a snapshot lost between two pages of block ranges makes the table start again, also when no chunk is left', async () => {
    const { chunk } = await begin();
    for (const number of [1, 2]) await call(bench, 'move', chunk(number));
    await godwit.db.update(chunks).set({ kind: 'blocks' });
    await godwit.db.update(snapshots).set({ lostAt: new Date() });
    const split = call(bench, 'split', { ...ref, ordinal: 1, generation: 1, upTo: 2, count: 100 });
    await expect(split).rejects.toMatchObject({ type: 'SNAPSHOT_LOST', nonRetryable: true });
  });

  test('a worker that stops gives its chunk up retryably', async () => {
    const { chunk } = await begin();
    bench.stopping.abort();
    await expect(call(bench, 'move', chunk(1))).rejects.toMatchObject({ type: 'WORKER_STOPPING', nonRetryable: false });
  });

  test('a paused run starts no chunk', async () => {
    const { chunk } = await begin();
    await call(bench, 'setPaused', { ...ref, paused: true, actor: 'test' });
    expect(await call(bench, 'move', chunk(1))).toEqual({ outcome: 'paused' });
  });

  test('an older epoch writes nothing: its run was taken over', async () => {
    const { chunk } = await begin();
    await godwit.db.update(runs).set({ epoch: 2 }).where(eq(runs.id, ref.runId));
    await expect(call(bench, 'move', chunk(1))).rejects.toMatchObject({ type: 'FENCED', nonRetryable: true });
    expect((await table())?.chunksDone).toBe(0);
  });

  test('a source that changed in mid-run stops the table with its code', async () => {
    const { chunk } = await begin();
    await query(source.url, 'ALTER TABLE big ALTER COLUMN n TYPE bigint');
    try {
      await expect(call(bench, 'move', chunk(1))).rejects.toMatchObject({ type: 'SOURCE_CHANGED', nonRetryable: true });
    } finally {
      await query(source.url, 'ALTER TABLE big ALTER COLUMN n TYPE int');
    }
  });

  test('a target that does not answer is waited for, and the table says why', async () => {
    const { chunk } = await begin();
    await query(target.url.replace(/[^/]*$/, 'postgres'), `ALTER DATABASE "${target.name}" ALLOW_CONNECTIONS false`);
    await query(
      target.url.replace(/[^/]*$/, 'postgres'),
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${target.name}'`,
    );
    const failure = await call(bench, 'move', chunk(1)).catch((error: unknown) => error as ApplicationFailure);
    await query(target.url.replace(/[^/]*$/, 'postgres'), `ALTER DATABASE "${target.name}" ALLOW_CONNECTIONS true`);
    if (!('type' in failure)) throw new Error('It moved.');
    expect(failure.nonRetryable).toBe(false);
    expect(await table()).toMatchObject({ status: 'waiting', failure: { code: failure.type, attempt: 1 } });
    const run = async () => (await godwit.db.select().from(runs).where(eq(runs.id, ref.runId)))[0];
    expect(await run()).toMatchObject({ status: 'waiting', failure: { code: failure.type } });
    expect(await call(bench, 'move', chunk(1))).toEqual({ outcome: 'done' });
    expect(await table()).toMatchObject({ status: 'running', failure: null });
    expect(await run()).toMatchObject({ status: 'running', failure: null });
  });

  test('a run ends with balanced books, without its lease and its snapshot', async () => {
    const { chunk } = await begin();
    const { upTo } = await call(bench, 'split', { ...ref, ordinal: 1, generation: 1, upTo: 2, count: 100 });
    for (let number = 1; number <= upTo; number++) await call(bench, 'move', chunk(number));
    await call(bench, 'finishTable', { ...ref, ordinal: 1, generation: 1 });
    expect((await table())?.status).toBe('staged');
    const { details } = await call(bench, 'publishReady', ref);
    expect(details).toContain('| public.big | warehouse | succeeded |');
    expect(await call(bench, 'end', { ...ref, canceled: false })).toMatchObject({ status: 'succeeded' });
    expect(await holding).toBeUndefined();
    expect(await godwit.db.select().from(leases)).toEqual([]);
    expect(await query(target.url, 'SELECT count(*)::int AS n FROM copy.big')).toEqual([{ n: 30000 }]);
    // The worker may have died before it answered: the same is told again, and nothing is written twice.
    const ends = () => godwit.db.select({ at: runs.endedAt }).from(runs).where(eq(runs.id, ref.runId));
    const told = () => godwit.db.$count(events, and(eq(events.runId, ref.runId), eq(events.kind, 'run.succeeded')));
    const [at, times] = [await ends(), await told()];
    expect(await call(bench, 'end', { ...ref, canceled: false })).toMatchObject({ status: 'succeeded' });
    expect([await ends(), await told()]).toEqual([at, times]);
    expect(times).toBe(1);
  });

  test('a lease whose workflow is gone is taken over: the epoch goes up', async () => {
    const [run] = await godwit.db.select().from(runs).where(eq(runs.id, ref.runId));
    const args = { jobId: run?.jobId ?? '', scheduleKey: '', runId: ref.runId, workflowId: run?.workflowId ?? '' };
    expect(await call(bench, 'begin', { ...args, firstExecutionRunId: 'first' })).toMatchObject({
      verdict: 'go',
      epoch: 1,
    });
    expect(await call(bench, 'begin', { ...args, firstExecutionRunId: 'second' })).toMatchObject({
      verdict: 'go',
      epoch: 2,
    });
    expect(await godwit.db.select().from(leases)).toMatchObject([{ firstExecutionRunId: 'second' }]);
    ref = { ...ref, epoch: 2 };
  });
});
