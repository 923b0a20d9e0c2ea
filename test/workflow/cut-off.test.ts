import { WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import { asc, desc, eq } from 'drizzle-orm';
import { beforeAll, describe, expect, test } from 'vitest';
import { untilCutOff } from '../../activities/cut-off.ts';
import { chunks, events, leases, runs, runTables } from '../../db/schema.ts';
import { startTemporal } from '../../servers/temporal.ts';
import { cancelUpdate, pauseUpdate } from '../../workflows/messages.ts';
import { run } from '../../workflows/run.ts';
import { createDatabase, missing, sharedTemporal, type TestDatabase } from '../servers/shared.ts';
import { type History, writeHistory } from './history-files.ts';
import { install, query } from './installation.ts';
import { startStubbed, testBundle } from './stubbed-worker.ts';
import { type StubTable, stubActivities } from './stubs.ts';

const noTemporal = await missing('temporal');
const noServers = (await missing('postgres')) || noTemporal;
const until = async (check: () => boolean | Promise<boolean>, ms = 60_000) => {
  const end = Date.now() + ms;
  while (!(await check())) {
    if (Date.now() > end) throw new Error('It did not come to that.');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe.skipIf(noTemporal)('the run workflow at its cut-off', () => {
  let temporal: { readonly address: string };
  beforeAll(async () => {
    temporal = await sharedTemporal();
    await testBundle();
  });
  const started = async (
    tables: readonly StubTable[],
    inMs: number,
    more: Parameters<typeof stubActivities>[1] & { eventLimit?: number } = {},
  ) => {
    const { eventLimit, ...options } = more;
    const { state, activities } = stubActivities(tables, { ...options, cutOffAt: Date.now() + inMs });
    const worker = await startStubbed(temporal.address, activities);
    const runId = crypto.randomUUID();
    const handle = await worker.client.workflow.start(run, {
      workflowId: `run/${runId}`,
      taskQueue: worker.queues.control,
      args: [{ jobId: 'job', runId, ...(eventLimit ? { eventLimit } : {}) }],
    });
    const statuses = () => [...state.tables.values()].map((t) => t.status);
    return { state, handle, statuses, worker, [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose]() };
  };
  const failureOf = (handle: WorkflowHandle) =>
    handle.result().then(
      () => undefined,
      (error: unknown) => (error instanceof WorkflowFailedError ? error.cause : error),
    );
  const record = async (name: string, { worker, handle }: Awaited<ReturnType<typeof started>>) => {
    if (!process.env.RECORD_HISTORIES) return;
    const first = worker.client.workflow.getHandle(handle.workflowId, handle.firstExecutionRunId);
    await writeHistory(`${name}-run`, (await first.fetchHistory()) as History);
    const children = worker.client.workflow.list({ query: `ParentWorkflowId = "${handle.workflowId}"` });
    for await (const { workflowId, runId, type } of children) {
      const history = await worker.client.workflow.getHandle(workflowId, runId).fetchHistory();
      await writeHistory(`${name}-${type}`, history as History);
    }
  };

  test('ends what moves, publishes what is complete, discards nothing', async () => {
    const at = Date.now() + 7000;
    await using it = await started([{ chunks: 500, takes: 300 }, { chunks: 2 }, { chunks: 1 }], 7000, { small: 3 });
    expect(await it.handle.result()).toMatchObject({ status: 'partial' });
    expect(Date.now() - at).toBeLessThan(10_000);
    expect(Date.now()).toBeGreaterThan(at - 500);
    expect(it.statuses()).toEqual(['cut off', 'succeeded', 'succeeded']);
    expect(it.state.discarded).toBe(false);
    expect(it.state.log.some((line) => line.startsWith('moved 1/'))).toBe(true);
    await record('cutoff', it);
  });

  test('ends a run that is paused, and one that is only planned', async () => {
    await using it = await started([{ chunks: 500, takes: 100 }], 8000);
    await until(() => it.state.log.length > 0);
    await it.handle.executeUpdate(pauseUpdate, { args: [{ actor: 'test' }] });
    expect(await it.handle.result()).toMatchObject({ status: 'partial' });
    await using late = await started([{ chunks: 5 }], -1000);
    expect(await late.handle.result()).toMatchObject({ status: 'partial' });
    expect(late.statuses()).toEqual(['cut off']);
  });

  test.each(['planning', 'preparing', 'moving', 'finishing'] as const)(
    'is no failure when the clock of a worker at %s was first',
    async (ownClock) => {
      await using it = await started([{ chunks: 2, takes: ownClock === 'moving' ? 60_000 : 5 }], 3000, { ownClock });
      expect(await it.handle.result()).toMatchObject({ status: 'partial' });
      expect(it.statuses()).toEqual(['cut off']);
    },
  );

  test("a user's cancel of work that ends by its own clock is a cancel", async () => {
    await using it = await started([{ chunks: 500, takes: 100 }], 60_000, { ownClock: 'moving' });
    await until(() => it.state.log.length > 0);
    await it.handle.executeUpdate(cancelUpdate, { args: [{ actor: 'test' }] });
    expect(await failureOf(it.handle)).toMatchObject({ name: 'CancelledFailure' });
    expect(it.statuses()).toEqual(['canceled']);
  });

  test('a run that is complete before waits for nothing', async () => {
    const began = Date.now();
    await using it = await started([{ chunks: 3 }], 3_600_000);
    expect(await it.handle.result()).toMatchObject({ status: 'succeeded' });
    expect(Date.now() - began).toBeLessThan(30_000);
    expect(it.state.log).not.toContain('cut off');
  });

  test("a user's cancel is something else", async () => {
    await using it = await started([{ chunks: 500, takes: 100 }], 60_000);
    await until(() => it.state.log.length > 0);
    await it.handle.executeUpdate(cancelUpdate, { args: [{ actor: 'test' }] });
    expect(await failureOf(it.handle)).toMatchObject({ name: 'CancelledFailure' });
    expect(it.statuses()).toEqual(['canceled']);
    expect(it.state.log).not.toContain('cut off');
  });

  test('continue-as-new keeps the deadline, and a table that has continued hears of it', async () => {
    const short = Array.from({ length: 10 }, () => ({ chunks: 2 }));
    await using it = await started([...short, { chunks: 3000, takes: 20 }], 14_000, { eventLimit: 30 });
    expect(await it.handle.result()).toMatchObject({ status: 'partial' });
    expect(it.statuses()).toEqual([...short.map(() => 'succeeded'), 'cut off']);
    const { client } = it.worker;
    const first = client.workflow.getHandle(it.handle.workflowId, it.handle.firstExecutionRunId);
    expect((await first.describe()).status.name).toBe('CONTINUED_AS_NEW');
    const id = `table/${(it.handle.workflowId ?? '').slice('run/'.length)}/11-public.t11`;
    const table = client.workflow.getHandle(id);
    expect((await table.describe()).status.name).toBe('CANCELLED');
    const { events: history } = await table.fetchHistory();
    expect(history?.[0]?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId).not.toBe('');
  });
});

/** The time of day so many seconds ahead, in that zone. */
const ahead = (seconds: number, zone: string) =>
  new Intl.DateTimeFormat('en-GB', { timeZone: zone, timeStyle: 'medium' }).format(Date.now() + seconds * 1000);

describe.skipIf(noServers)('a run with real servers is cut off', () => {
  let source: TestDatabase;
  const rows = 60_000;
  beforeAll(async () => {
    source = await createDatabase();
    await query(
      source.url,
      `CREATE TABLE small (id int PRIMARY KEY, t text); INSERT INTO small SELECT i, 'x' FROM generate_series(1, 50) i;
       CREATE TABLE big (id int PRIMARY KEY, t text, updated_at timestamptz NOT NULL DEFAULT '2024-01-01');
       INSERT INTO big SELECT i, repeat('x', 90), timestamptz '2024-01-01' + i * interval '1 second' FROM generate_series(1, ${rows}) i; ANALYZE;`,
    );
    return () => source.drop();
  });

  const mappingOf = (target: TestDatabase, more: object, table: object) => ({
    name: 'nightly',
    source: { source_type: 'pgsql', url: source.url },
    destination: { warehouse: { destination_type: 'pgsql', url: target.url, schema: 'copy' } },
    tables: [
      { table_name: 'public.small', mode: 'replace' },
      { table_name: 'public.big', mode: 'replace', ...table },
    ],
    ...more,
  });
  const settings = { GODWIT_CHUNK_MB: '1', GODWIT_SLOTS: '2', GODWIT_TIMEZONE: 'Asia/Kolkata' };
  const read = async (godwit: Awaited<ReturnType<typeof install>>) => {
    const [last] = await godwit.db.select().from(runs).orderBy(desc(runs.number)).limit(1);
    const tables = await godwit.db
      .select()
      .from(runTables)
      .where(eq(runTables.runId, last?.id ?? ''))
      .orderBy(asc(runTables.sourceName));
    return { run: last, big: tables[0], small: tables[1] };
  };

  test.each([
    ['replace', {}],
    ['dumping', { mode: 'dumping' }],
  ])('%s: in time, with what is complete published, and the next run goes on', async (mode, table) => {
    await using target = await createDatabase();
    await using godwit = await install(settings);
    await using _worker = await godwit.work();
    const cut = { cut_off_time: ahead(10, 'Asia/Kolkata') };
    const first = await godwit.begin(mappingOf(target, cut, { ...table, time_delay: 1 }));
    expect(await first.result()).toMatchObject({ status: 'partial' });
    const { run: ended, big, small } = await read(godwit);
    const late = (ended?.endedAt?.getTime() ?? 0) - (ended?.cutOffAt?.getTime() ?? 0);
    expect(late).toBeGreaterThanOrEqual(0);
    expect(late).toBeLessThan(15_000);
    expect(small?.status).toBe('succeeded');
    expect(await query(target.url, 'SELECT count(*)::int AS n FROM copy.small')).toEqual([{ n: 50 }]);
    expect(big).toMatchObject({ status: 'cut off', failure: { code: 'CUT_OFF' } });
    expect(big?.chunksDone).toBeGreaterThan(0);
    expect(big?.chunksDone).toBeLessThan(big?.splitDone ? big.chunksTotal : Number.POSITIVE_INFINITY);
    expect(ended?.failure?.code).toBe('CUT_OFF');
    expect(ended?.failure?.message).toMatch(/Left: public\.big \(\d+ of/);
    expect(await godwit.db.select().from(leases)).toEqual([]);

    const next = await godwit.begin(mappingOf(target, { cut_off_time: null }, table));
    expect(await next.result()).toMatchObject({ status: 'succeeded' });
    const after = await read(godwit);
    expect(after.run).toMatchObject({ cutOffAt: null, failure: null });
    expect(after.big?.rowsWritten).toBe(rows);
    const kinds = (await godwit.db.select().from(events).where(eq(events.runId, next.run.id))).map(({ kind }) => kind);
    expect(kinds).toContain('table.continued');
    const dates = mode === 'dumping' ? ', count(DISTINCT migration_snapshot_date)::int AS dates' : '';
    expect(
      await query(target.url, `SELECT count(*)::int AS n, count(DISTINCT id)::int AS d${dates} FROM copy.big`),
    ).toEqual([{ n: rows, d: rows, ...(dates ? { dates: 1 } : {}) }]);
    // Those committed before the cut-off were not moved again.
    const moved = await godwit.db.select().from(chunks).where(eq(chunks.runId, next.run.id));
    expect(moved.filter(({ attempts }) => attempts === 0).length).toBeGreaterThanOrEqual(big?.chunksDone ?? 1);
  });

  test('an increment: what was committed stays, the next run goes on and remembers only then', async () => {
    await using own = await createDatabase();
    await query(
      own.url,
      `CREATE TABLE item (id int PRIMARY KEY, n int, t text, updated_at timestamptz NOT NULL);
       INSERT INTO item SELECT i, 0, repeat('x', 90), timestamptz '2024-01-01' FROM generate_series(1, ${rows}) i; ANALYZE;`,
    );
    await using target = await createDatabase();
    await using godwit = await install(settings);
    await using _worker = await godwit.work();
    const mapping = (more: object, table: object = {}) => ({
      name: 'following',
      source: { source_type: 'pgsql', url: own.url },
      destination: { warehouse: { destination_type: 'pgsql', url: target.url, schema: 'copy' } },
      tables: [{ table_name: 'public.item', mode: 'syncing', bookmark: 'updated_at', primary_key: 'id', ...table }],
      ...more,
    });
    expect(await (await godwit.begin(mapping({}))).result()).toMatchObject({ status: 'succeeded' });
    await query(
      own.url,
      `UPDATE item SET n = 1, updated_at = timestamptz '2025-01-01' + id * interval '1 second'; ANALYZE;`,
    );
    const changed = async () => {
      const [found] = await query<{ n: number }>(target.url, 'SELECT count(*)::int AS n FROM copy.item WHERE n = 1');
      return found?.n ?? 0;
    };
    const cut = { cut_off_time: ahead(12, 'Asia/Kolkata') };
    expect(await (await godwit.begin(mapping(cut, { time_delay: 1 }))).result()).toMatchObject({ status: 'partial' });
    const stopped = await read(godwit);
    expect(stopped.big).toMatchObject({ status: 'cut off', step: 'increment' });
    const committed = await changed();
    expect(committed).toBe(stopped.big?.rowsWritten);
    expect(committed).toBeGreaterThan(0);
    expect(committed).toBeLessThan(rows);

    const next = await godwit.begin(mapping({ cut_off_time: null }));
    expect(await next.result()).toMatchObject({ status: 'succeeded' });
    expect(await changed()).toBe(rows);
    const kinds = (await godwit.db.select().from(events).where(eq(events.runId, next.run.id))).map(({ kind }) => kind);
    expect(kinds).toContain('table.continued');
    const quiet = await godwit.begin(mapping({ cut_off_time: null }));
    expect(await quiet.result()).toMatchObject({ status: 'succeeded' });
    expect((await read(godwit)).big).toMatchObject({ step: 'increment', rowsWritten: 0 });
  });

  test('a retry of it goes on too, until the next cut-off', async () => {
    await using target = await createDatabase();
    await using godwit = await install(settings);
    await using _worker = await godwit.work();
    const first = await godwit.begin(mappingOf(target, { cut_off_time: ahead(6, 'Asia/Kolkata') }, { time_delay: 1 }));
    expect(await first.result()).toMatchObject({ status: 'partial' });
    const again = await godwit.again(first.run.id);
    expect(await again.result()).toMatchObject({ status: 'succeeded' });
    const { run: ended, big } = await read(godwit);
    expect(ended?.cutOffAt?.getTime()).toBeGreaterThan(Date.now() + 3_600_000);
    expect(big).toMatchObject({ status: 'succeeded', rowsWritten: rows });
    expect(await query(target.url, 'SELECT count(*)::int AS n FROM copy.big')).toEqual([{ n: rows }]);
  });

  test('work that does not hear of it is left behind in time, and a cancel is told from it', async () => {
    await using target = await createDatabase();
    await using godwit = await install(settings);
    const { deps } = await godwit.activities();
    const row = await godwit.row(mappingOf(target, {}, {}));
    const cutAt = (ms: number) =>
      godwit.db
        .update(runs)
        .set({ cutOffAt: new Date(Date.now() + ms) })
        .where(eq(runs.id, row.id));
    const ref = { runId: row.id };
    const never = new AbortController().signal;
    await cutAt(500);
    const began = Date.now();
    const deaf = untilCutOff(deps, ref, never, () => new Promise(() => {}));
    await expect(deaf).rejects.toMatchObject({ type: 'CUT_OFF', nonRetryable: false });
    expect(Date.now() - began).toBeLessThan(15_000);
    // Begun after it: not begun at all.
    let worked = false;
    const late = untilCutOff(deps, ref, never, async () => {
      worked = true;
    });
    await expect(late).rejects.toMatchObject({ type: 'CUT_OFF' });
    expect(worked).toBe(false);
    // What ends in time is what it is; so is a cancel, also when the cut-off comes meanwhile.
    await cutAt(60_000);
    expect(await untilCutOff(deps, ref, never, async () => 'done')).toBe('done');
    await cutAt(300);
    const user = new AbortController();
    user.abort(new Error('canceled by somebody'));
    const canceled = untilCutOff(deps, ref, user.signal, async (signal) => {
      await pause(500);
      signal.throwIfAborted();
    });
    await expect(canceled).rejects.toThrow('canceled by somebody');
  });

  test('without Temporal: the chunk in flight stops by itself, and the run ends when Temporal is back', async () => {
    await using target = await createDatabase();
    await using temporal = await startTemporal();
    await using godwit = await install({ ...settings, GODWIT_CHUNK_MB: '64' }, temporal);
    await using _worker = await godwit.work();
    // One chunk of many small batches: it would take minutes.
    await godwit.begin(mappingOf(target, { cut_off_time: ahead(12, 'Asia/Kolkata') }, { time_delay: 6 }));
    const copying = async () => {
      const [found] = await query<{ n: number }>(
        target.url,
        `SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND query ILIKE 'copy%'`,
      );
      return found?.n ?? 0;
    };
    await until(async () => (await copying()) > 0, 20_000);
    await temporal.kill();
    const { run: cut } = await read(godwit);
    const at = cut?.cutOffAt?.getTime() ?? 0;
    expect(at).toBeGreaterThan(Date.now());
    await pause(at - Date.now() - 500);
    expect(await copying()).toBeGreaterThan(0);
    await until(async () => (await copying()) === 0, 15_000);
    expect(Date.now() - at).toBeLessThan(15_000);
    await pause(1000);
    expect(await copying()).toBe(0);
    // It knows nothing of the run: the janitor begins it again, with the deadline it had.
    await temporal.restart();
    await until(async () => (await read(godwit)).run?.endedAt != null, 60_000);
    const { run: ended, big } = await read(godwit);
    expect(ended).toMatchObject({ status: 'partial', epoch: 2, failure: { code: 'CUT_OFF' } });
    expect(ended?.cutOffAt?.getTime()).toBe(at);
    expect(big?.status).toBe('cut off');
    expect(await query(target.url, 'SELECT count(*)::int AS n FROM copy.small')).toEqual([{ n: 50 }]);
  });
});
