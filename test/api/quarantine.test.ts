import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { type Installation, install } from './installation.ts';

type Problem = { code: string; detail: string };
type Run = { id: string; number: number; status: string; failure: Problem | null; totals: Record<string, number> };
type Row = {
  ordinal: number;
  chunk: number;
  row: number;
  state: string;
  reason: string;
  native: string;
  values: Record<string, unknown>;
};
type Replayed = { tables: { sourceName: string; replayed: number; present: number; open: number }[] };

describe.skipIf((await missing('postgres')) || (await missing('temporal')))('rows set aside', () => {
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
      `CREATE TABLE orders (id int PRIMARY KEY, note text, cents int, updated_at timestamptz NOT NULL);
       INSERT INTO orders SELECT i, 'row ' || i, i, now() - interval '1 day' FROM generate_series(1, 100) i`,
    );
    await ask('POST', '/api/sources', { name: 'shop', type: 'pgsql', settings: { url: shop.url } });
    await ask('POST', '/api/targets', { name: 'dwh', type: 'pgsql', settings: { url: dwh.url, schema: 'copy' } });
  });
  afterAll(() => stack.disposeAsync());

  const job = (name: string, more: object = {}) =>
    ask('POST', '/api/jobs', {
      name,
      source: 'shop',
      destination: { dwh: { target: 'dwh', schema: name } },
      tables: [
        {
          table_name: 'public.orders',
          mode: 'syncing',
          bookmark: 'updated_at',
          strict: true,
          max_quarantined: 5,
          ...more,
        },
      ],
    });
  const run = async (name: string): Promise<Run> => {
    const { body } = await ask<Run>('POST', `/api/jobs/${name}/runs`, {});
    for (let i = 0; i < 400; i++) {
      const { body: now } = await ask<Run>('GET', `/api/runs/${body.id}`);
      if (['succeeded', 'partial', 'failed', 'canceled', 'skipped'].includes(now.status)) return now;
      await sleep(100);
    }
    throw new Error('the run never ended');
  };
  const rowsOf = async (id: string, query = '') =>
    (await ask<{ items: Row[] }>('GET', `/api/runs/${id}/quarantine${query}`)).body.items;
  const target = async (text: string) => (await sql(dwh.url, text)).rows;

  /** Loaded; then the target takes no cents past `limit`, and `bad` rows past it come. */
  const withBad = async (name: string, bad: number, more: object = {}) => {
    await sql(
      shop.url,
      `DELETE FROM orders WHERE id > 100; UPDATE orders SET cents = id, updated_at = now() - interval '1 day'`,
    );
    expect((await job(name, more)).status).toBe(201);
    expect((await run(name)).status).toBe('succeeded');
    await sql(dwh.url, `ALTER TABLE ${name}.orders ADD CONSTRAINT low CHECK (cents < 1000)`);
    await sql(
      shop.url,
      `INSERT INTO orders SELECT 1000 + i, 'too much, "quoted"', 1000 + i, now() FROM generate_series(1, ${bad}) i;
       INSERT INTO orders VALUES (2000, 'good', 5, now());
       UPDATE orders SET cents = 7777, updated_at = now() WHERE id = 1`,
    );
    return await run(name);
  };

  test('are counted, shown, exported, replayed when the target was mended, and waived', async () => {
    const second = await withBad('mended', 3);
    expect([second.status, second.failure]).toEqual(['succeeded', null]);
    expect(second.totals).toMatchObject({ rowsInserted: 1, rowsQuarantined: 4 });
    expect(await target('SELECT count(*)::int AS n FROM mended.orders')).toEqual([{ n: 101 }]);

    const { body: list } = await ask<{ items: object[] }>('GET', '/api/quarantine?job=mended&state=open');
    expect(list.items).toMatchObject([
      { job: 'mended', run: 2, sourceName: 'public.orders', target: 'dwh', open: 4, replayed: 0, waived: 0 },
    ]);
    expect(JSON.stringify(list)).not.toContain('7777');
    const rows = await rowsOf(second.id);
    expect(rows.map(({ values }) => values.id).sort()).toEqual([1, 1001, 1002, 1003]);

    const csv = await godwit.app.request(`http://127.0.0.1/api/runs/${second.id}/quarantine/export?format=csv`, {
      headers: { host: '127.0.0.1' },
    });
    const lines = (await csv.text()).trim().split('\r\n');
    expect(csv.headers.get('content-type')).toContain('text/csv');
    expect(lines[0]).toBe('_table,_chunk,_row,_state,_column,_code,_reason,id,note,cents,updated_at');
    expect(lines).toHaveLength(5);
    expect(lines.join()).toContain('"too much, ""quoted"""');

    // Nothing was mended: they are refused again, and stay.
    const vain = await ask<Replayed>('POST', `/api/runs/${second.id}/quarantine/replay`, {});
    expect([vain.status, vain.body.tables]).toMatchObject([200, [{ replayed: 0, open: 4 }]]);
    expect(await rowsOf(second.id, '?state=open')).toHaveLength(4);

    const place = rows.find(({ values }) => values.id === 1003);
    const one = { ordinal: place?.ordinal, chunk: place?.chunk, row: place?.row };
    const waived = await ask('POST', `/api/runs/${second.id}/quarantine/waive`, { note: 'a test order', rows: [one] });
    expect(waived.body).toEqual({ waived: 1 });
    expect((await ask<Problem>('POST', `/api/runs/${second.id}/quarantine/waive`, {})).status).toBe(400);

    // Mended for two of the three that are left.
    await sql(dwh.url, 'ALTER TABLE mended.orders DROP CONSTRAINT low, ADD CONSTRAINT lower CHECK (cents < 2000)');
    const half = await ask<Replayed>('POST', `/api/runs/${second.id}/quarantine/replay`, {});
    expect(half.body.tables).toMatchObject([{ replayed: 2, open: 1 }]);
    expect(await target('SELECT id FROM mended.orders WHERE id > 1000 ORDER BY id')).toEqual([
      { id: 1001 },
      { id: 1002 },
      { id: 2000 },
    ]);
    await sql(dwh.url, 'ALTER TABLE mended.orders DROP CONSTRAINT lower');
    const rest = await ask<Replayed>('POST', `/api/runs/${second.id}/quarantine/replay`, {});
    expect(rest.body.tables).toMatchObject([{ replayed: 1, open: 0 }]);
    expect(await target('SELECT cents FROM mended.orders WHERE id = 1')).toEqual([{ cents: 7777 }]);
    const states = (await rowsOf(second.id)).map(({ values, state }) => `${values.id} ${state}`).sort();
    expect(states).toEqual(['1 replayed', '1001 replayed', '1002 replayed', '1003 waived']);
    expect((await ask<Replayed>('POST', `/api/runs/${second.id}/quarantine/replay`, {})).body.tables).toEqual([]);

    const { rows: audit } = await godwit.database.pool.query(
      "SELECT DISTINCT action FROM godwit.audit WHERE object = 'run/mended/2' ORDER BY action",
    );
    expect(audit.map(({ action }) => action)).toEqual([
      'export quarantined rows',
      'open quarantined rows',
      'replay quarantined rows',
      'start',
      'waive quarantined rows',
    ]);
    const { rows: leases } = await godwit.database.pool.query('SELECT 1 FROM godwit.leases');
    expect(leases).toEqual([]);
  });

  test('an older version of a row is not put over a newer one', async () => {
    const second = await withBad('older', 1);
    expect(second.totals).toMatchObject({ rowsQuarantined: 2 });
    await sql(dwh.url, 'ALTER TABLE older.orders DROP CONSTRAINT low');
    await sql(shop.url, 'UPDATE orders SET cents = 42, updated_at = now() WHERE id = 1');
    expect((await run('older')).status).toBe('succeeded');
    const replayed = await ask<Replayed>('POST', `/api/runs/${second.id}/quarantine/replay`, {});
    expect(replayed.body.tables).toMatchObject([{ replayed: 2, open: 0 }]);
    expect(await target('SELECT cents FROM older.orders WHERE id = 1')).toEqual([{ cents: 42 }]);
  });

  test('more of them than the mapping allows stop the table, and nothing of the chunk is there', async () => {
    const second = await withBad('strict', 3, { max_quarantined: 3 });
    expect([second.status, second.failure?.code]).toEqual(['failed', 'VALUE_REFUSED']);
    expect(second.failure?.detail ?? (second.failure as unknown as { message: string }).message).toContain(
      'More than 3',
    );
    expect(await target('SELECT count(*)::int AS n FROM strict.orders')).toEqual([{ n: 100 }]);
    // They belong to no table yet.
    const early = await ask<Problem>('POST', `/api/runs/${second.id}/quarantine/replay`, {});
    expect([early.status, early.body.code]).toEqual([409, 'CONFLICT']);
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
