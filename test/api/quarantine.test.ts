import { randomUUID } from 'node:crypto';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DuckDBInstance } from '@duckdb/node-api';
import { MongoClient } from 'mongodb';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { marker } from '../../activities/quarantine.ts';
import { forgetRuns } from '../../db/history.ts';
import { seeBadRows } from '../../db/quarantine.ts';
import { keyringOf } from '../../secrets/keyring.ts';
import { createSealer } from '../../secrets/seal.ts';
import {
  createDatabase,
  createMongoDatabase,
  createMysqlDatabase,
  missing,
  type TestDatabase,
} from '../servers/shared.ts';
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
  note: string | null;
  firstAt: string;
  lastAt: string;
  runs: number;
};
type Replayed = { tables: { sourceName: string; replayed: number; present: number; open: number }[] };

const [noMariadb, noMongo] = [await missing('mariadb'), await missing('mongodb/4.4')];

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
    // The same replay once more, as after a worker that died before its answer: nothing is written twice, nor settled wrongly.
    await sql(dwh.url, 'ALTER TABLE mended.orders DROP CONSTRAINT lower');
    const { rows: probes } = await godwit.database.pool.query<{ id: string }>(
      `SELECT id FROM godwit.probes WHERE request ->> 'kind' = 'replay' ORDER BY created_at DESC LIMIT 1`,
    );
    const probeId = probes[0]?.id as string;
    await godwit.client.workflow.execute('probe', {
      args: [{ probeId }],
      workflowId: `probe/${probeId}/again`,
      taskQueue: godwit.deps.queues.control,
    });
    const { rows: answers } = await godwit.database.pool.query('SELECT answer FROM godwit.probes WHERE id = $1', [
      probeId,
    ]);
    expect(answers).toMatchObject([{ answer: { kind: 'replay', replayed: 0, open: 1 } }]);
    expect(await rowsOf(second.id, '?state=open')).toHaveLength(1);
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

  test('a row that each run meets again is in every run’s books, and once in the list, of the last run', async () => {
    const second = await withBad('again', 2);
    const third = await run('again');
    expect(third).toMatchObject({ status: 'succeeded', totals: { rowsQuarantined: 3, rowsWritten: 0 } });
    expect(await rowsOf(second.id)).toEqual([]);
    const shown = async ({ id }: Run) =>
      (await rowsOf(id)).map((row) => `${row.values.id} ${row.values.cents} ${row.state} ${row.runs}`).sort();
    expect(await shown(third)).toEqual(['1 7777 open 2', '1001 1001 open 2', '1002 1002 open 2']);
    for (const { firstAt, lastAt } of await rowsOf(third.id)) expect(firstAt < lastAt).toBe(true);
    const lines = async () =>
      (await ask<{ items: { run: number; open: number }[] }>('GET', '/api/quarantine?job=again&state=open')).body.items;
    expect(await lines()).toMatchObject([{ run: 3, open: 3 }]);

    // Given up, and changed at the source.
    const [known] = (await rowsOf(third.id)).filter(({ values }) => values.id === 1002);
    const place = { ordinal: known?.ordinal, chunk: known?.chunk, row: known?.row };
    await ask('POST', `/api/runs/${third.id}/quarantine/waive`, { note: 'known', rows: [place] });
    await sql(shop.url, 'UPDATE orders SET cents = 5001, updated_at = now() WHERE id = 1001');
    const fourth = await run('again');
    expect(fourth).toMatchObject({ status: 'succeeded', totals: { rowsQuarantined: 3 } });
    expect(await shown(fourth)).toEqual(['1 7777 open 3', '1001 5001 open 1', '1002 1002 waived 3']);
    expect((await rowsOf(fourth.id, '?state=waived')).map(({ note }) => note)).toEqual(['known']);
    expect(await rowsOf(third.id)).toEqual([]);
    expect(await lines()).toMatchObject([{ run: 4, open: 2 }]);

    await sql(shop.url, 'UPDATE orders SET cents = 6000, updated_at = now() WHERE id = 1002');
    const fifth = await run('again');
    expect(await shown(fifth)).toEqual(['1 7777 open 4', '1001 5001 open 2', '1002 6000 open 1']);
    // What was given up is in its run's list as it was then.
    expect(await rowsOf(fourth.id)).toMatchObject([{ state: 'waived', note: 'known', values: { cents: 1002 } }]);

    await sql(dwh.url, 'ALTER TABLE again.orders DROP CONSTRAINT low');
    const replayed = await ask<Replayed>('POST', `/api/runs/${fifth.id}/quarantine/replay`, {});
    expect(replayed.body.tables).toMatchObject([{ replayed: 3, present: 0, open: 0 }]);
    const there = 'SELECT id, cents FROM again.orders WHERE cents > 1000 ORDER BY id';
    expect((await target(there)).map(({ id, cents }) => `${id} ${cents}`)).toEqual([
      '1 7777',
      '1001 5001',
      '1002 6000',
    ]);
    expect(await run('again')).toMatchObject({ status: 'succeeded', totals: { rowsQuarantined: 0, rowsWritten: 0 } });
    expect(await lines()).toEqual([]);

    // No value, nor a hash of one that somebody could try values against.
    const { rows: marks } = await godwit.database.pool.query<{ identity: string; digest: string }>(
      'SELECT identity, digest FROM godwit.bad_rows',
    );
    expect(marks.every(({ identity, digest }) => /^[\w-]{43}$/.test(identity) && /^[\w-]{43}$/.test(digest))).toBe(
      true,
    );
    const work = { target: 't', source: { name: {} }, name: {}, columns: [{ name: 'id' }], key: ['id'] } as never;
    const bad = { ordinal: 0, row: [1], reason: '' };
    const other = { mark: createSealer(keyringOf(Buffer.alloc(32, 1))).mark };
    const mine = marker(godwit.deps.sealer, 'job', work)(bad);
    expect(mine).toEqual(marker(godwit.deps.sealer, 'job', work)(bad));
    expect(mine).not.toEqual(marker(other, 'job', work)(bad));
  });

  test('a chunk that is moved again in a run counts it once, and what is known of a row goes with its last run', async () => {
    await job('known');
    const { rows } = await godwit.database.pool.query<{ id: string }>(
      `SELECT id FROM godwit.jobs WHERE name = 'known'`,
    );
    const jobId = rows[0]?.id as string;
    const mark = { identity: 'a row', digest: 'its values' };
    const known = async () =>
      (await godwit.database.pool.query(`SELECT runs, state, digest FROM godwit.bad_rows WHERE identity = 'a row'`))
        .rows;
    const [one, other] = [randomUUID(), randomUUID()];
    for (const runId of [one, one, other, other]) await seeBadRows(godwit.db, [mark, mark], { jobId, runId });
    expect(await known()).toEqual([{ runs: 2, state: 'open', digest: 'its values' }]);
    await godwit.database.pool.query(`UPDATE godwit.bad_rows SET state = 'replayed' WHERE identity = 'a row'`);
    await seeBadRows(godwit.db, [mark], { jobId, runId: other });
    expect(await known()).toEqual([{ runs: 1, state: 'open', digest: 'its values' }]);
    // Two chunks meet the same rows in another order: neither waits for the other.
    const many = Array.from({ length: 500 }, (_, i) => ({ identity: `row ${i}`, digest: 'd' }));
    await Promise.all([
      seeBadRows(godwit.db, many, { jobId, runId: one }),
      seeBadRows(godwit.db, many.toReversed(), { jobId, runId: one }),
    ]);
    await godwit.database.pool.query(
      `UPDATE godwit.bad_rows SET last_at = now() - interval '8 days' WHERE job_id = $1`,
      [jobId],
    );
    await forgetRuns(godwit.db, { days: 365 });
    expect(await known()).toEqual([]);
  });

  test('rows without a key are known by their values, and two that are the same are two', async () => {
    await sql(
      shop.url,
      `CREATE TABLE bare (what text, at timestamptz);
       INSERT INTO bare VALUES ('good', now()), ('bad', 'infinity'), ('bad', 'infinity'), ('other', 'infinity')`,
    );
    await ask('POST', '/api/jobs', {
      name: 'bare',
      source: 'shop',
      destination: { lake: { destination_type: 'files', path: join(godwit.home, 'bare'), schema: 'bare' } },
      tables: [{ table_name: 'public.bare', mode: 'dumping', on_misfit: 'quarantine', max_quarantined: 3 }],
    });
    const whats = async ({ id }: Run) => (await rowsOf(id)).map((row) => `${row.values.what} ${row.runs}`).sort();
    const first = await run('bare');
    expect(first).toMatchObject({ status: 'succeeded', failure: null, totals: { rowsQuarantined: 3 } });
    // Each snapshot has rows of its own.
    const second = await run('bare');
    expect([await whats(first), await whats(second)]).toEqual([
      ['bad 1', 'bad 1', 'other 1'],
      ['bad 1', 'bad 1', 'other 1'],
    ]);
    await ask('POST', '/api/jobs', {
      name: 'bare',
      source: 'shop',
      destination: { lake: { destination_type: 'files', path: join(godwit.home, 'bare'), schema: 'bare2' } },
      tables: [{ table_name: 'public.bare', mode: 'replace', on_misfit: 'quarantine', max_quarantined: 3 }],
    });
    const third = await run('bare');
    await sql(shop.url, `DELETE FROM bare WHERE what = 'other'`);
    const fourth = await run('bare');
    expect([await whats(third), await whats(fourth)]).toEqual([['other 1'], ['bad 2', 'bad 2']]);
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

  test('go into files when the mapping was mended: a value that Parquet cannot hold becomes NULL', async () => {
    await sql(
      shop.url,
      `CREATE TABLE stamps (id int PRIMARY KEY, at timestamptz, updated_at timestamptz NOT NULL);
       INSERT INTO stamps VALUES (1, now(), now()), (2, 'infinity', now()), (3, '20000-01-01', now())`,
    );
    const mapping = (misfit: string) => ({
      name: 'lake',
      source: 'shop',
      destination: { lake: { destination_type: 'files', path: join(godwit.home, 'lake'), schema: 's' } },
      tables: [
        { table_name: 'public.stamps', mode: 'syncing', bookmark: 'updated_at', on_misfit: misfit, max_quarantined: 2 },
      ],
    });
    expect((await ask('POST', '/api/jobs', mapping('quarantine'))).status).toBe(201);
    const first = await run('lake');
    expect([first.status, first.failure, first.totals.rowsQuarantined]).toEqual(['succeeded', null, 2]);
    expect((await ask('POST', '/api/jobs', mapping('null'))).status).toBe(200);
    const replayed = await ask<Replayed>('POST', `/api/runs/${first.id}/quarantine/replay`, {});
    expect([replayed.status, replayed.body.tables]).toMatchObject([200, [{ replayed: 2, open: 0 }]]);
    const parts = globSync('**/*.parquet', { cwd: join(godwit.home, 'lake') }).filter((path) => !/(^|\/)_/.test(path));
    const duckdb = await DuckDBInstance.create(':memory:');
    const reader = await duckdb.connect();
    const files = parts.map((path) => `'${join(godwit.home, 'lake', path)}'`).join(', ');
    const rows = await reader.runAndReadAll(
      `SELECT id, "at" IS NULL AS gone FROM read_parquet([${files}]) ORDER BY id`,
    );
    reader.closeSync();
    duckdb.closeSync();
    expect(rows.getRowsJson()).toEqual([
      [1, false],
      [2, true],
      [3, true],
    ]);
    // The next run goes on from where the table was.
    await sql(shop.url, 'INSERT INTO stamps VALUES (4, now(), now())');
    expect(await run('lake')).toMatchObject({ status: 'succeeded' });
  });

  test('do not go into files that are a whole copy: run again', async () => {
    await sql(
      shop.url,
      `CREATE TABLE entire (id int PRIMARY KEY, at timestamptz); INSERT INTO entire VALUES (1, 'infinity')`,
    );
    const mapping = (mode: string, misfit: string) => ({
      name: `entire_${mode}`,
      source: 'shop',
      destination: { lake: { destination_type: 'files', path: join(godwit.home, mode), schema: 's' } },
      tables: [{ table_name: 'public.entire', mode, on_misfit: misfit, max_quarantined: 1 }],
    });
    for (const mode of ['replace', 'dumping']) {
      await ask('POST', '/api/jobs', mapping(mode, 'quarantine'));
      const { id } = await run(`entire_${mode}`);
      await ask('POST', '/api/jobs', mapping(mode, 'null'));
      const refused = await ask<Problem>('POST', `/api/runs/${id}/quarantine/replay`, {});
      expect([refused.status, refused.body.code], mode).toEqual([422, 'MODE_REFUSED']);
      expect(refused.body.detail).toMatch(/copied whole into files.* Run its job again/);
    }
  });

  const mendedMapping = async (name: string, type: string, settings: object) => {
    await ask('POST', '/api/targets', { name, type, settings });
    await sql(
      shop.url,
      `CREATE TABLE ${name} (id int PRIMARY KEY, day timestamptz(3), updated_at timestamptz NOT NULL);
       INSERT INTO ${name} VALUES (1, now(), now()), (2, 'infinity', now())`,
    );
    const mapping = (misfit: string) => ({
      name,
      source: 'shop',
      destination: { there: { target: name } },
      tables: [{ table_name: name, mode: 'syncing', bookmark: 'updated_at', on_misfit: misfit, max_quarantined: 5 }],
    });
    const made = await ask('POST', '/api/jobs', mapping('quarantine'));
    expect([made.status, made.text]).toEqual([201, expect.anything()]);
    const first = await run(name);
    expect(first).toMatchObject({ status: 'succeeded', failure: null, totals: { rowsQuarantined: 1 } });
    expect((await ask('POST', '/api/jobs', mapping('null'))).status).toBe(200);
    const replayed = await ask<Replayed>('POST', `/api/runs/${first.id}/quarantine/replay`, {});
    expect([replayed.status, replayed.body.tables]).toMatchObject([200, [{ replayed: 1, open: 0 }]]);
    await sql(shop.url, `INSERT INTO ${name} VALUES (3, now(), now())`);
    expect(await run(name)).toMatchObject({ status: 'succeeded', totals: { rowsInserted: 1 } });
  };

  test.skipIf(noMariadb)(
    'belong to the copy they were read for: of replace the newest one, of dumping their own snapshot',
    async () => {
      await using other = await createMysqlDatabase('mariadb');
      await ask('POST', '/api/targets', { name: 'copies', type: 'mariadb', settings: { url: other.url } });
      await sql(
        shop.url,
        `CREATE TABLE whole (id int PRIMARY KEY, day timestamptz(3));
       INSERT INTO whole VALUES (1, now()), (2, 'infinity')`,
      );
      const mapping = (misfit: string) => ({
        name: 'copies',
        source: 'shop',
        destination: { there: { target: 'copies' } },
        tables: [{ table_name: 'whole', mode: 'replace', on_misfit: misfit, max_quarantined: 5 }],
      });
      const dumping = (misfit: string) => ({
        ...mapping(misfit),
        name: 'dumps',
        destination: { there: { target: 'copies', table: 'dump' } },
        tables: [{ ...mapping(misfit).tables[0], mode: 'dumping' }],
      });
      await ask('POST', '/api/jobs', mapping('quarantine'));
      await ask('POST', '/api/jobs', dumping('quarantine'));
      const older = await run('copies');
      // The one that the newer copy has not, and that is still in the list of the older one.
      await sql(shop.url, 'UPDATE whole SET id = 3 WHERE id = 2');
      const runs = [older, await run('copies'), await run('dumps'), await run('dumps')];
      expect(runs.map(({ status, totals }) => [status, totals.rowsQuarantined])).toEqual(
        runs.map(() => ['succeeded', 1]),
      );
      await ask('POST', '/api/jobs', mapping('null'));
      await ask('POST', '/api/jobs', dumping('null'));
      const replay = (i: number) => ask<Replayed & Problem>('POST', `/api/runs/${runs[i]?.id}/quarantine/replay`, {});
      expect((await replay(0)).body.code).toBe('CONFLICT');
      for (const i of [1, 2, 3]) {
        const { status, body } = await replay(i);
        expect([status, body.tables]).toMatchObject([200, [{ replayed: 1, present: 0, open: 0 }]]);
      }
      const connection = await mysql.createConnection(other.url);
      try {
        const [whole] = await connection.query('SELECT id FROM whole ORDER BY id');
        expect(whole).toEqual([{ id: 1 }, { id: 3 }]);
        const [dumps] = await connection.query(
          'SELECT count(*) AS n, sum(day IS NULL) AS gone FROM dump GROUP BY migration_snapshot_date',
        );
        expect(dumps).toEqual([
          { n: 2, gone: '1' },
          { n: 2, gone: '1' },
        ]);
      } finally {
        await connection.end();
      }
    },
  );

  test.skipIf(noMariadb)('go into a MariaDB when the mapping was mended', async () => {
    await using other = await createMysqlDatabase('mariadb');
    await mendedMapping('maria', 'mariadb', { url: other.url });
    const connection = await mysql.createConnection(other.url);
    const [rows] = await connection.query('SELECT id FROM maria WHERE day IS NULL');
    await connection.end();
    expect(rows).toEqual([{ id: 2 }]);
  });

  test.skipIf(noMongo)('go into a MongoDB when the mapping was mended', async () => {
    await using crm = await createMongoDatabase(undefined, 4.4);
    await using client = new MongoClient(crm.url);
    await mendedMapping('mongo', 'mongo', { url: crm.url });
    expect(await client.db(crm.name).collection('mongo').countDocuments({ day: null })).toBe(1);
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
