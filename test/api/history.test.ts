import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cutOffAt, requestOf } from '../../api/run-request.ts';
import { forgetRuns } from '../../db/history.ts';
import { createRun } from '../../db/runs.ts';
import { parseMapping } from '../../mapping/parse.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { type Installation, install, mappingOf } from './installation.ts';

type Problem = { code: string; detail: string };
type Run = {
  id: string;
  number: number;
  status: string;
  failure: Problem | null;
  request: object | null;
  totals: Record<string, number>;
};
type Line = {
  job: string;
  run: number;
  sourceName: string;
  target: string;
  mode: string;
  step: string | null;
  status: string;
  rowsRead: number;
  rowsWritten: number;
  rowsInserted: number;
  rowsUpdated: number;
  rowsUnchanged: number;
  retries: number;
  seconds: number | null;
  storageBytes: number | null;
};
type Page<T> = { items: T[]; next?: string };

const over = ['succeeded', 'partial', 'failed', 'canceled', 'skipped'];

describe('what a start may ask for', () => {
  const { document } = parseMapping(
    mappingOf('shop', {
      tables: [
        { table_name: 'public.orders', mode: 'syncing', bookmark: 'updated_at' },
        { table_name: 'log_*', mode: 'logging' },
        { table_name: 'public.prices', mode: 'replace' },
      ],
    }),
  );
  const ask = (wanted: object) => requestOf(document, wanted, { timezone: 'UTC' });
  const refusal = (wanted: object) => {
    try {
      ask(wanted);
    } catch (error) {
      return `${(error as Problem).code} ${(error as Error).message}`;
    }
    return 'taken';
  };

  test('nothing is nothing, and what is asked for is kept apart from its values', () => {
    expect(ask({})).toEqual({});
    expect(ask({ tables: ['orders'], full: true })).toEqual({ request: { tables: ['orders'], full: true } });
    expect(ask({ tables: ['public.orders'], from: '2024-02-01', to: '2024-02-29' })).toEqual({
      request: { tables: ['public.orders'], backfill: true },
      bounds: { from: '2024-02-01', upto: '2024-02-29' },
    });
    expect(ask({ tables: ['log_2024'], from: '17' }).bounds).toEqual({ from: '17' });
  });

  test.each([
    [{ tables: ['order'] }, /^TABLE_MISSING .*"order"; it has public\.orders, log_\*/],
    [{ tables: ['other.orders'] }, /^TABLE_MISSING/],
    [{ tables: ['prices'], from: '2024-02-01' }, /^MODE_REFUSED .*replace always moves the whole/],
    [{ from: '2024-02-01' }, /^USAGE .*name the table/],
    [{ tables: ['orders'], from: '17' }, /^USAGE `from` is no date and time/],
    [{ tables: ['orders'], to: '2024-02-30T' }, /^USAGE `to` is no date/],
    [{ tables: ['orders'], from: '2024-02-30' }, /^USAGE `from` is no date/],
    [{ tables: ['orders'], to: '2024-13-01' }, /^USAGE `to` is no date/],
    [{ tables: ['orders'], to: '2024-02-01T24:30' }, /^USAGE `to` is no date/],
    [{ tables: ['orders'], from: '2024-02-02', to: '2024-02-01T23:59:59Z' }, /^USAGE `from` is after `to`/],
    [{ tables: ['orders'], from: '2024-02-01T23:00', to: '2024-02-01' }, /^taken/],
    [{ tables: ['orders'], full: true, from: '2024-02-01' }, /^USAGE `full`/],
    [{ tables: ['orders'], from: '2024-02-01', where: [{ column: 'a', op: '=', values: ['1'] }] }, /not both/],
    [{ tables: ['orders'], where: [{ column: 'a', op: '=', values: [] }] }, /wrong number of values/],
    [{ cutOff: '25:00' }, /^USAGE `cutOff`/],
    [{ cutOff: '2020-01-01T00:00:00Z' }, /is over already/],
  ])('%j is refused before anything is stored', (wanted, said) => {
    expect(refusal(wanted)).toMatch(said);
  });

  test('no end of a backfill is quoted in a refusal', () => {
    expect(refusal({ tables: ['orders'], from: 'secret-17' })).not.toContain('secret-17');
  });

  test('a cut-off is the next such time of day in the zone, across a change of clocks too', () => {
    const at = (text: string, zone: string, now: string) => cutOffAt(text, zone, new Date(now));
    expect(at('none', 'UTC', '2024-02-01T00:00:00Z')).toBe(null);
    expect(at('18:30', 'Asia/Kolkata', '2024-02-01T00:00:00Z')).toBe('2024-02-01T13:00:00.000Z');
    expect(at('18:30', 'Asia/Kolkata', '2024-02-01T13:00:00Z')).toBe('2024-02-02T13:00:00.000Z');
    expect(at('06:00', 'Europe/Berlin', '2024-03-30T12:00:00Z')).toBe('2024-03-31T04:00:00.000Z');
    // Of 02:30 there is none: the clocks jump over it.
    expect(at('02:30', 'Europe/Berlin', '2024-03-30T12:00:00Z')).toBe('2024-03-31T01:00:00.000Z');
    expect(at('2124-01-01T00:00:00+05:30', 'UTC', '2024-01-01T00:00:00Z')).toBe('2123-12-31T18:30:00.000Z');
  });
});

describe.skipIf((await missing('postgres')) || (await missing('temporal')))('the history', () => {
  const stack = new AsyncDisposableStack();
  let godwit: Installation;
  let shop: TestDatabase;
  let dwh: TestDatabase;
  const ask = <T = Record<string, unknown>>(...args: Parameters<Installation['request']>) => godwit.request<T>(...args);

  beforeAll(async () => {
    godwit = stack.use(await install());
    const worker = await godwit.work();
    stack.defer(() => worker.stop());
    shop = stack.use(await createDatabase());
    dwh = stack.use(await createDatabase());
    await sql(
      shop.url,
      `CREATE TABLE orders (id int PRIMARY KEY, note text, updated_at timestamptz NOT NULL);
       INSERT INTO orders SELECT i, 'row ' || i, '2024-01-01Z'::timestamptz + i * interval '1 hour' FROM generate_series(1, 500) i;
       CREATE TABLE prices (id int PRIMARY KEY, cents int);
       INSERT INTO prices SELECT i, i FROM generate_series(1, 20) i`,
    );
    await ask('POST', '/api/sources', { name: 'shop', type: 'pgsql', settings: { url: shop.url } });
    await ask('POST', '/api/targets', { name: 'dwh', type: 'pgsql', settings: { url: dwh.url, schema: 'copy' } });
    const made = await ask('POST', '/api/jobs', {
      name: 'shop',
      source: 'shop',
      destination: { dwh: 'dwh' },
      tables: [
        { table_name: 'public.orders', mode: 'syncing', bookmark: 'updated_at', strict: true },
        { table_name: 'public.prices', mode: 'replace' },
      ],
    });
    expect(made.status).toBe(201);
  });
  afterAll(() => stack.disposeAsync());

  const run = async (wanted: object = {}): Promise<Run> => {
    const { body, status, text } = await ask<Run>('POST', '/api/jobs/shop/runs', wanted);
    expect([status, text]).toEqual([201, expect.anything()]);
    for (let i = 0; i < 400; i++) {
      const { body: now } = await ask<Run>('GET', `/api/runs/${body.id}`);
      if (over.includes(now.status)) return now;
      await sleep(100);
    }
    throw new Error('the run never ended');
  };
  const lines = async (query: string) => (await ask<Page<Line>>('GET', `/api/history?${query}`)).body.items;

  test('only what the arguments name runs', async () => {
    const first = await run({ tables: ['prices'] });
    expect([first.status, first.failure, first.request]).toEqual(['succeeded', null, { tables: ['prices'] }]);
    expect(await lines('job=shop')).toMatchObject([
      { job: 'shop', run: 1, sourceName: 'public.prices', mode: 'replace', step: null, rowsWritten: 20, retries: 0 },
    ]);
    const answer = await ask<Problem>('POST', '/api/jobs/shop/runs', { tables: ['nosuch'] });
    expect([answer.status, answer.body.code]).toEqual([422, 'TABLE_MISSING']);
    const typo = await ask<Problem>('POST', '/api/jobs/shop/runs', { table: ['prices'] });
    expect([typo.status, typo.text]).toEqual([400, expect.stringContaining('did you mean \\"tables\\"')]);
  });

  test('a load, an increment, a backfill and a full load, with their books', async () => {
    const load = await run();
    expect([load.status, load.failure]).toEqual(['succeeded', null]);
    await sql(
      shop.url,
      `UPDATE orders SET note = 'changed', updated_at = now() WHERE id <= 3;
       INSERT INTO orders VALUES (501, 'new', now()), (502, 'new', now())`,
    );
    const next = await run({ tables: ['orders'] });
    expect([next.status, next.failure]).toEqual(['succeeded', null]);
    expect(next.totals).toMatchObject({ rowsWritten: 5, rowsInserted: 2, rowsUpdated: 3 });
    const idle = await run({ tables: ['orders'] });
    expect(idle.totals).toMatchObject({ rowsWritten: 0, rowsInserted: 0, rowsUpdated: 0 });
    const { rowsRead = 0, rowsUnchanged } = idle.totals;
    expect(rowsUnchanged).toBe(rowsRead);

    // Behind the back of the bookmark: only a backfill of that stretch finds it.
    await sql(shop.url, `UPDATE orders SET note = 'silently' WHERE id IN (30, 40)`);
    const range = { tables: ['orders'], from: '2024-01-02T06:00:00Z', to: '2024-01-02T06:00:00Z' };
    expect((await run(range)).totals).toMatchObject({ rowsRead: 1, rowsWritten: 1, rowsUpdated: 1 });
    const where = { tables: ['orders'], where: [{ column: 'id', op: '=', values: ['40'] }] };
    expect((await run(where)).totals).toMatchObject({ rowsRead: 1, rowsWritten: 1 });
    const { rows } = await sql(dwh.url, `SELECT count(*)::int AS n FROM copy.orders WHERE note = 'silently'`);
    expect(rows).toEqual([{ n: 2 }]);

    await sql(shop.url, 'DELETE FROM orders WHERE id = 502');
    const full = await run({ tables: ['orders'], full: true });
    expect(full.totals).toMatchObject({ rowsWritten: 501 });
    const after = await sql(dwh.url, 'SELECT count(*)::int AS n FROM copy.orders');
    expect(after.rows).toEqual([{ n: 501 }]);
    const steps = (await lines('job=shop&table=orders&limit=10')).map(({ step, run: n }) => `${n} ${step}`);
    expect((await lines('job=shop&table=orders')).every(({ storageBytes }) => (storageBytes ?? 0) > 8192)).toBe(true);
    expect(steps).toEqual(['7 load', '6 backfill', '5 backfill', '4 increment', '3 increment', '2 load']);
  });

  test('bounds are opened in one place, with a line in the audit', async () => {
    const { body: page } = await ask<Page<Line & { runId: string }>>(
      'GET',
      '/api/history?job=shop&table=orders&limit=10',
    );
    const backfill = page.items.find(({ run: n }) => n === 5);
    expect(JSON.stringify(page)).not.toContain('2024-01-02T06:00:00Z');
    type Bounds = { asked: object; items: { from: string; upto: string; step: string; column: string }[] };
    const { body } = await ask<Bounds>('GET', `/api/runs/${backfill?.runId}/bounds`);
    expect(body).toMatchObject({
      asked: { from: '2024-01-02T06:00:00Z', upto: '2024-01-02T06:00:00Z' },
      items: [{ step: 'backfill', column: 'updated_at', from: '2024-01-02T06:00:00Z', upto: '2024-01-02T06:00:00Z' }],
    });
    const { rows } = await godwit.database.pool.query("SELECT object FROM godwit.audit WHERE action = 'open bounds'");
    expect(rows).toEqual([{ object: 'run/shop/5' }]);
  });

  test('filters and pages, of runs and of their tables', async () => {
    const runs = async (query: string) =>
      (await ask<Page<Run>>('GET', `/api/runs?${query}`)).body.items.map(({ number }) => number);
    expect(await runs('job=shop&table=prices')).toEqual([2, 1]);
    expect(await runs('job=shop&mode=replace&status=succeeded')).toEqual([2, 1]);
    expect(await runs('job=shop&target=elsewhere')).toEqual([]);
    expect(await runs('job=shop&minSeconds=3600')).toEqual([]);
    expect(await lines('mode=replace')).toHaveLength(2);
    expect(await lines('table=public.orders&minSeconds=3600')).toEqual([]);
    expect(await lines('since=2100-01-01T00:00:00Z')).toEqual([]);
    const seen: string[] = [];
    let next: string | undefined;
    do {
      const { body } = await ask<Page<Line>>('GET', `/api/history?limit=3${next ? `&cursor=${next}` : ''}`);
      seen.push(...body.items.map((line) => `${line.run} ${line.sourceName}`));
      next = body.next;
    } while (next);
    expect(seen).toHaveLength(8);
    expect(new Set(seen).size).toBe(8);
    expect((await ask<Problem>('GET', '/api/history?cursor=WyJhIl0')).status).toBe(400);
  });

  test('a job tells how its last runs went', async () => {
    type Trend = {
      runs: { number: number }[];
      medianSeconds: number;
      p95Seconds: number;
      successRate7: number;
      successRate30: number;
    };
    const { body } = await ask<Trend>('GET', '/api/jobs/shop/trend?runs=5');
    expect(body.runs.map(({ number }) => number)).toEqual([7, 6, 5, 4, 3]);
    expect([body.successRate7, body.successRate30]).toEqual([1, 1]);
    expect(body.medianSeconds).toBeGreaterThan(0);
    expect(body.p95Seconds).toBeGreaterThanOrEqual(body.medianSeconds);
    await godwit.database.pool.query(`UPDATE godwit.runs SET status = 'failed' WHERE number = 7;
      UPDATE godwit.runs SET ended_at = now() - interval '20 days' WHERE number = 6;
      UPDATE godwit.runs SET status = 'canceled' WHERE number = 5`);
    const after = (await ask<Trend>('GET', '/api/jobs/shop/trend?runs=5')).body;
    // Of 7 days 1, 2, 3, 4 and 7 (failed); of 30 days also 6.
    expect([after.successRate7, after.successRate30]).toEqual([0.8, 5 / 6]);
  });

  test('runs that the settings do not keep are forgotten by the worker', async () => {
    await godwit.database.pool.query(
      `INSERT INTO godwit.settings (name, value) VALUES ('keep_runs_days', '10'), ('keep_runs', '4')`,
    );
    let left: number[] = [];
    for (let i = 0; i < 100 && left.length !== 3; i++) {
      await sleep(100);
      left = (await ask<Page<Run>>('GET', '/api/runs?job=shop')).body.items.map(({ number }) => number);
    }
    // 6 ended 20 days ago; 1, 2 and 3 are beyond the latest four.
    expect(left).toEqual([7, 5, 4]);
  });
});

describe.skipIf(await missing('postgres'))('retention', () => {
  test('old runs go; active, latest, unfinished and unsettled ones stay', async () => {
    await using godwit = await install();
    await godwit.request('POST', '/api/jobs', mappingOf('old'));
    const { rows } = await godwit.database.pool.query<{ id: string }>(`SELECT id FROM godwit.jobs`);
    const jobId = rows[0]?.id as string;
    const ids: string[] = [];
    for (let i = 0; i < 9; i++) {
      const workflowId = (job: string, n: number) => `${godwit.prefix}/${job}/${n}`;
      ids.push((await createRun(godwit.db, { jobId, workflowId, trigger: 'test', allowActive: true })).run.id);
    }
    const table = (n: number, name: string, status: string) =>
      godwit.database.pool.query(
        `INSERT INTO godwit.run_tables (run_id, ordinal, target, source_name, target_name, mode, lane, component, status, work)
         VALUES ($1, 1, 'warehouse', $2, $2, 'replace', 'direct', 1, $3, '{}')`,
        [ids[n - 1], name, status],
      );
    await godwit.database.pool.query(
      `UPDATE godwit.runs SET status = 'succeeded', started_at = now() - interval '40 days', ended_at = now() - interval '40 days', created_at = now() - interval '40 days' + number * interval '1 second'`,
    );
    // 1 goes. 2 is active. 3 left a table unfinished that nobody took up, 4 one that 5 took up.
    await godwit.database.pool.query(`UPDATE godwit.runs SET status = 'paused', ended_at = NULL WHERE number = 2`);
    await table(3, 'a', 'cut off');
    await table(4, 'b', 'failed');
    await table(5, 'b', 'succeeded');
    // 6 has a row that nobody settled, 7 one that was; 8 is recent, 9 the latest.
    for (const n of [6, 7]) {
      await table(n, 'c', 'succeeded');
      await godwit.database.pool.query(
        `INSERT INTO godwit.quarantine (run_id, ordinal, generation, chunk, row, code, content, state) VALUES ($1, 1, 1, 1, 1, 'VALUE_REFUSED', '', $2)`,
        [ids[n - 1], n === 6 ? 'open' : 'waived'],
      );
    }
    await godwit.database.pool.query(`UPDATE godwit.runs SET ended_at = now() - interval '1 day' WHERE number = 8`);
    const left = async () =>
      (await godwit.database.pool.query<{ number: number }>('SELECT number FROM godwit.runs ORDER BY number')).rows.map(
        ({ number }) => number,
      );
    expect(await forgetRuns(godwit.db, {})).toBe(false);
    expect(await left()).toHaveLength(9);
    expect(await forgetRuns(godwit.db, { days: 30 }, 2)).toBe(true);
    while (await forgetRuns(godwit.db, { days: 30 }, 2));
    expect(await left()).toEqual([2, 3, 6, 8, 9]);
    await forgetRuns(godwit.db, { perJob: 1 });
    expect(await left()).toEqual([2, 3, 6, 9]);
  });
});

async function sql(url: string, text: string) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await client.query(text);
  } finally {
    await client.end();
  }
}
