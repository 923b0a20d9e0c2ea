import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MongoClient } from 'mongodb';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDatabase, createMongoDatabase, missing, sharedMongodb, type TestDatabase } from '../servers/shared.ts';
import { type Installation, install } from './installation.ts';

type Problem = { code: string; detail: string; fix: string };
type Run = {
  id: string;
  number: number;
  status: string;
  attempt: number;
  failure: Problem | null;
  totals: Record<string, number>;
};
type Check = { name: string; outcome: string; detail: string };

const canary = `canary-${crypto.randomUUID()}`;

const noMongo = await missing('mongodb');

describe.skipIf((await missing('postgres')) || (await missing('temporal')))('through a worker', () => {
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
      `CREATE TABLE orders (id int PRIMARY KEY, note text);
       INSERT INTO orders SELECT i, 'row ' || i FROM generate_series(1, 500) i;
       INSERT INTO orders VALUES (501, '${canary}-row');
       CREATE TABLE "Odd.Name" (a int);
       CREATE TABLE third (a int PRIMARY KEY)`,
    );
    const password = new URL(shop.url).password;
    await ask('POST', '/api/sources', {
      name: 'shop',
      type: 'pgsql',
      settings: { url: withoutPassword(shop.url), password },
    });
    await ask('POST', '/api/targets', { name: 'dwh', type: 'pgsql', settings: { url: dwh.url, schema: 'copy' } });
  });
  afterAll(() => stack.disposeAsync());

  const until = async (id: string, statuses: readonly string[]): Promise<Run> => {
    for (let i = 0; i < 300; i++) {
      const { body } = await ask<Run>('GET', `/api/runs/${id}`);
      if (statuses.includes(body.status)) return body;
      await sleep(100);
    }
    throw new Error(`the run never was ${statuses.join(' or ')}`);
  };
  const over = ['succeeded', 'partial', 'failed', 'canceled', 'skipped'];

  test('the API is ready', async () => {
    const ready = await ask('GET', '/readyz');
    expect([ready.status, ready.text]).toEqual([200, expect.stringContaining('"ready":true')]);
  });

  test('a source and a target are tested, by named checks', async () => {
    for (const path of ['/api/sources/shop/test', '/api/targets/dwh/test']) {
      const { status, body } = await ask<{ checks: Check[] }>('POST', path, {});
      expect(status).toBe(200);
      expect(body.checks.length).toBeGreaterThan(1);
      expect(body.checks.filter(({ outcome }) => outcome === 'fail')).toEqual([]);
    }
    await ask('POST', '/api/connections', { name: 'c', type: 'pgsql', settings: { url: shop.url } });
    expect((await ask<{ checks: Check[] }>('POST', '/api/connections/c/test')).body.checks[0]?.outcome).toBe('pass');
  });

  test('a wrong password is told within seconds, and not shown', async () => {
    const settings = { url: withoutPassword(shop.url), password: `${canary}-password` };
    await ask('POST', '/api/sources', { name: 'locked', type: 'pgsql', settings });
    const began = performance.now();
    const { text, status } = await ask('POST', '/api/sources/locked/test');
    expect(performance.now() - began).toBeLessThan(10_000);
    expect(status === 422 || text.includes('"fail"')).toBe(true);
    expect(text).toContain('password');
    const browse = await ask<Problem>('GET', '/api/sources/locked/tables');
    expect([browse.status, browse.body.code]).toEqual([422, 'LOGIN_REFUSED']);
  });

  test('tables are browsed page by page, and one with its columns', async () => {
    type Page = { items: { name: { schema: string; name: string } }[]; next?: string };
    const names: string[] = [];
    let next: string | undefined;
    do {
      const page = await ask<Page>('GET', `/api/sources/shop/tables?limit=2${next ? `&cursor=${next}` : ''}`);
      names.push(...page.body.items.map(({ name }) => `${name.schema}.${name.name}`));
      next = page.body.next;
    } while (next);
    expect(names.toSorted()).toEqual(['public.Odd.Name', 'public.orders', 'public.third']);
    const { body } = await ask<{ key: string[]; columns: object[] }>('GET', '/api/sources/shop/tables/public.orders');
    expect(body).toMatchObject({ key: ['id'], columns: [{ name: 'id', native: 'integer' }, { name: 'note' }] });
    expect((await ask('GET', '/api/sources/shop/tables/public.Odd.Name')).status).toBe(200);
    expect((await ask<Problem>('GET', '/api/sources/shop/tables/public.nosuch')).body.code).toBe('TABLE_MISSING');
  });

  test.skipIf(noMongo)('collections are browsed, dots in their names and all, and moved', async () => {
    const { url } = await sharedMongodb();
    await using crm = await createMongoDatabase();
    await using client = new MongoClient(url);
    const db = client.db(crm.name);
    await db.collection('logs.2024').insertMany([{ n: 1, deep: { at: new Date(0) } }, { n: 2.5 }]);
    const made = await ask('POST', '/api/connections', { name: 'cluster', type: 'mongodb', settings: { url } });
    expect(made.body).toMatchObject({ type: 'mongo' });
    const tested = await ask<{ checks: Check[] }>('POST', '/api/connections/cluster/test');
    expect(tested.body.checks.filter(({ outcome }) => outcome === 'fail')).toEqual([]);
    const settings = { db_name: crm.name };
    await ask('POST', '/api/sources', { name: 'crm', connection: 'cluster', settings });
    type Page = { items: { name: { schema: string; name: string }; kind: string }[] };
    const { body } = await ask<Page>('GET', '/api/sources/crm/tables');
    expect(body.items).toMatchObject([{ name: { schema: crm.name, name: 'logs.2024' }, kind: 'collection' }]);
    type Described = { key: string[]; columns: { name: string; type: { kind: string } }[] };
    for (const name of ['logs.2024', `${crm.name}.logs.2024`]) {
      const table = await ask<Described>('GET', `/api/sources/crm/tables/${name}`);
      expect(table.body.key).toEqual(['_id']);
      expect(table.body.columns.map(({ name, type }) => `${name} ${type.kind}`)).toEqual([
        '_id text',
        'n float64',
        'deep_at timestamptz',
      ]);
    }
    const job = {
      name: 'logs',
      source: 'crm',
      destination: { copy: 'dwh' },
      collections: [{ collection_name: 'logs.*', mode: 'replace' }],
    };
    expect((await ask('POST', '/api/jobs', job)).status).toBe(201);
    const started = await ask<Run>('POST', '/api/jobs/logs/runs');
    expect(await until(started.body.id, over)).toMatchObject({ status: 'succeeded', totals: { rowsWritten: 2 } });
    const refused = { ...job, source: 'shop', collections: [{ ...job.collections[0], fields: { n: 'int' } }] };
    const answer = await ask<Problem>('PUT', '/api/jobs/logs', refused);
    expect([answer.status, answer.body.code]).toEqual([422, 'MAPPING_INVALID']);
    expect(answer.body.detail).toContain('`fields` is for sources of documents (mongo), and shop is of type pgsql');
  });

  const mapping = (name: string) => ({
    name,
    source: 'shop',
    destination: {
      copy: 'dwh',
      lake: { destination_type: 'files', path: join(godwit.home, name), schema: 'lake', format: 'ndjson' },
    },
    tables: [{ table_name: 'public.orders', mode: 'replace' }],
  });

  test('a job is planned, applied or not', async () => {
    const name = `p-${godwit.prefix}`;
    const applied = await ask('POST', '/api/jobs', mapping(name));
    expect([applied.status, applied.text]).toEqual([201, expect.anything()]);
    for (const method of ['POST', 'GET']) {
      const { status, body } = await ask<{ tables: { target: string; lane: string; failure?: object }[] }>(
        method,
        `/api/jobs/${name}/plan`,
      );
      expect([status, body.tables?.map(({ target, lane }) => `${target} ${lane}`).toSorted()]).toEqual([
        200,
        ['copy direct', 'lake columnar'],
      ]);
    }
    const other = await ask<{ tables: object[] }>('POST', '/api/plan', {
      name: 'not-applied',
      source: 'shop',
      destination: { copy: 'dwh' },
      tables: [{ table_name: 'public.*', mode: 'replace' }],
    });
    expect([other.status, other.body.tables?.length]).toEqual([200, 3]);
    expect((await ask('GET', '/api/jobs/not-applied')).status).toBe(404);
  });

  test('a run starts once per Idempotency-Key, moves the rows, and tells what it did', async () => {
    const name = `r-${godwit.prefix}`;
    await ask('POST', '/api/jobs', mapping(name));
    const key = { 'idempotency-key': 'k1', 'x-godwit-client': 'cli' };
    const started = await ask<Run & { trigger: string }>('POST', `/api/jobs/${name}/runs`, {}, key);
    expect([started.status, started.body.number, started.body.trigger]).toEqual([201, 1, 'cli']);
    const again = await ask<Run>('POST', `/api/jobs/${name}/runs`, {}, key);
    expect([again.status, again.body.id]).toEqual([200, started.body.id]);
    const ended = await until(started.body.id, over);
    expect([ended.status, ended.failure]).toEqual(['succeeded', null]);
    expect(ended.totals).toMatchObject({ tables: 2, succeeded: 2, rowsRead: 1002, rowsWritten: 1002 });
    const { rows } = await sql(dwh.url, 'SELECT count(*)::int AS n FROM copy.orders');
    expect(rows).toEqual([{ n: 501 }]);
    const tables = await ask<{ items: { status: string; lane: string }[] }>('GET', `/api/runs/${ended.id}/tables`);
    expect(tables.body.items.map(({ status }) => status)).toEqual(['succeeded', 'succeeded']);
    const chunks = await ask<{ items: { rowsWritten: number }[] }>('GET', `/api/runs/${ended.id}/tables/1/chunks`);
    expect(chunks.body.items.reduce((sum, { rowsWritten }) => sum + rowsWritten, 0)).toBe(501);
    const events = await ask<{ items: { kind: string; id: number }[] }>('GET', `/api/runs/${ended.id}/events`);
    expect(events.body.items.map(({ kind }) => kind)).toContain('run.started');
    const last = events.body.items.at(-1)?.id ?? 0;
    expect((await ask<{ items: [] }>('GET', `/api/runs/${ended.id}/events?after=${last}`)).body.items).toEqual([]);
    const late = await ask<Problem>('POST', `/api/runs/${ended.id}/pause`, {});
    expect([late.status, late.body.code, late.body.fix]).toEqual([409, 'CONFLICT', 'Start a new run.']);
    expect((await ask<Problem>('POST', `/api/runs/${ended.id}/retry`)).body.code).toBe('CONFLICT');
    expect((await ask<{ lastRun: Run }>('GET', `/api/jobs/${name}`)).body.lastRun.status).toBe('succeeded');
  });

  test('while a table is locked: paused, resumed, one run only, canceled; then retried', async () => {
    const name = `s-${godwit.prefix}`;
    await ask('POST', '/api/jobs', {
      ...mapping(name),
      destination: { copy: 'dwh' },
      tables: [{ table_name: 'public.third', mode: 'replace' }],
    });
    const blocker = new pg.Client({ connectionString: shop.url });
    await blocker.connect();
    try {
      await blocker.query('BEGIN; LOCK TABLE third IN ACCESS EXCLUSIVE MODE');
      const { body: run } = await ask<Run>('POST', `/api/jobs/${name}/runs`);
      const second = await ask<Problem>('POST', `/api/jobs/${name}/runs`);
      expect([second.status, second.body.code]).toEqual([409, 'ALREADY_RUNNING']);
      expect(second.body.detail).toContain('Run 1 ');
      for (const path of [`/api/jobs/${name}`]) {
        const inUse = await ask<Problem>('DELETE', path);
        expect(inUse.body.code).toBe('IN_USE');
      }
      expect(
        (await ask<Problem>('PUT', `/api/jobs/${name}`, { ...mapping('other-name'), destination: {} })).body.code,
      ).toBe('CONFLICT');
      expect((await ask<Run>('POST', `/api/runs/${run.id}/pause`, { note: 'lunch' })).status).toBe(200);
      expect((await ask<Problem>('POST', `/api/runs/${run.id}/pause`)).body.code).toBe('CONFLICT');
      expect((await ask<Run>('POST', `/api/runs/${run.id}/resume`)).status).toBe(200);
      expect((await ask<Run>('POST', `/api/runs/${run.id}/cancel`)).status).toBe(200);
      await blocker.query('ROLLBACK');
      expect((await until(run.id, over)).status).toBe('canceled');
      const retried = await ask<Run>('POST', `/api/runs/${run.id}/retry`);
      expect([retried.status, retried.body.attempt]).toEqual([200, 2]);
      const ended = await until(run.id, over);
      expect([ended.status, ended.failure]).toEqual(['succeeded', null]);
    } finally {
      await blocker.end();
    }
    const { rows } = await godwit.database.pool.query("SELECT action, data FROM godwit.audit WHERE action = 'pause'");
    expect(rows).toEqual([{ action: 'pause', data: { note: 'lunch' } }]);
  });

  test('quarantined rows are counted for all and opened in one place, with a line in the audit', async () => {
    const name = `q-${godwit.prefix}`;
    await ask('POST', '/api/jobs', mapping(name));
    const { body: run } = await ask<Run>('POST', `/api/jobs/${name}/runs`);
    await until(run.id, over);
    const content = { columns: ['id', 'note'], row: [9007199254740993n, `${canary}-row`], reason: 'too long' };
    await godwit.database.pool.query(
      `INSERT INTO godwit.quarantine (run_id, ordinal, generation, chunk, row, "column", code, content) VALUES ($1, 1, 1, 1, 7, 'note', 'VALUE_REFUSED', $2)`,
      [run.id, godwit.deps.sealer.sealJson(content, 'quarantined row')],
    );
    const counts = await ask('GET', `/api/runs/${run.id}/quarantine/counts`);
    expect(counts.body).toEqual({
      items: [{ ordinal: 1, column: 'note', code: 'VALUE_REFUSED', state: 'open', rows: 1 }],
    });
    const opened = await godwit.app.request(`http://127.0.0.1/api/runs/${run.id}/quarantine`, {
      headers: { host: '127.0.0.1' },
    });
    const { items } = (await opened.json()) as { items: { values: object; reason: string }[] };
    expect(items).toMatchObject([{ values: { id: '9007199254740993', note: `${canary}-row` }, reason: 'too long' }]);
    const { rows } = await godwit.database.pool.query(
      "SELECT object FROM godwit.audit WHERE action = 'open quarantined rows'",
    );
    expect(rows).toEqual([{ object: `run/${name}/1` }]);
  });

  // Last: it looks at everything the others left.
  test('no secret and no row value is in any answer, log line or column of the metadata', async () => {
    const secrets = [canary, new URL(shop.url).password, Buffer.from(canary).toString('base64').slice(0, -4)];
    expect(godwit.answers.length).toBeGreaterThan(40);
    for (const secret of secrets) {
      expect(godwit.answers.filter((answer) => answer.includes(secret))).toEqual([]);
      expect(godwit.lines.filter((line) => line.includes(secret))).toEqual([]);
    }
    const { rows: tables } = await godwit.database.pool.query<{ name: string }>(
      "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) AS name FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    );
    expect(tables.length).toBeGreaterThan(14);
    let searched = 0;
    for (const { name } of tables) {
      const { rows } = await godwit.database.pool.query<{ line: string; bytes: string }>(
        `SELECT t::text AS line, encode(convert_to(t::text, 'UTF8'), 'escape') AS bytes FROM ${name} t`,
      );
      for (const { line, bytes } of rows) {
        searched++;
        // bytea shows as hex in a row's text.
        for (const secret of secrets) {
          expect([name, line.includes(secret)]).toEqual([name, false]);
          expect([name, bytes.includes(Buffer.from(secret).toString('hex'))]).toEqual([name, false]);
        }
      }
    }
    expect(searched).toBeGreaterThan(50);
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

const withoutPassword = (url: string): string => {
  const changed = new URL(url);
  changed.password = '';
  return changed.href;
};
