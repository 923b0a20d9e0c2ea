import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { WorkflowFailedError } from '@temporalio/client';
import { asc, eq } from 'drizzle-orm';
import { beforeAll, describe, expect, test } from 'vitest';
import { leases, quarantine, runs, runTables, snapshots } from '../../db/schema.ts';
import { cancelUpdate, pauseUpdate, resumeUpdate, stateQuery } from '../../workflows/messages.ts';
import { createDatabase, missing } from '../servers/shared.ts';
import { install, query } from './installation.ts';

const noServers = (await missing('postgres')) || (await missing('temporal'));

type Godwit = Awaited<ReturnType<typeof install>>;
type Begun = Awaited<ReturnType<Godwit['begin']>>;
const until = async (check: () => Promise<boolean>, ms = 20_000) => {
  const end = Date.now() + ms;
  while (!(await check())) {
    if (Date.now() > end) throw new Error('It did not come to that.');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

const shop = `
  CREATE TABLE customer (id bigint PRIMARY KEY, name text NOT NULL, balance numeric(12,2), seen timestamptz DEFAULT now());
  CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint NOT NULL REFERENCES customer, note text, at timestamptz DEFAULT now());
  CREATE TABLE line (order_id bigint REFERENCES orders, n int, what jsonb, PRIMARY KEY (order_id, n));
  CREATE TABLE keyless (a int, b text);
  INSERT INTO customer SELECT i, 'customer ' || i, i * 1.25 FROM generate_series(1, 3000) i;
  INSERT INTO orders (customer, note) SELECT 1 + i % 3000, repeat('n', i % 90) FROM generate_series(1, 60000) i;
  INSERT INTO line SELECT i, 1, jsonb_build_object('what', i) FROM generate_series(1, 20000) i;
  INSERT INTO keyless SELECT i, CASE WHEN i % 3 = 0 THEN NULL ELSE '' END FROM generate_series(1, 500) i;
  ANALYZE;`;
const names = ['customer', 'orders', 'line', 'keyless'];
const contents = async (url: string, schema: string) =>
  Promise.all(
    names.map(async (name) => {
      const sql = `SELECT count(*)::int AS n, coalesce(sum(hashtextextended(t::text, 0)), 0)::text AS h FROM "${schema}"."${name}" t`;
      return (await query<{ n: number; h: string }>(url, sql))[0];
    }),
  );

describe.skipIf(noServers)('one run, end to end', () => {
  let source: Awaited<ReturnType<typeof createDatabase>>;
  beforeAll(async () => {
    source = await createDatabase();
    await query(source.url, shop);
    return () => source.drop();
  });

  const tablesOf = (godwit: Godwit, runId: string) =>
    godwit.db.select().from(runTables).where(eq(runTables.runId, runId)).orderBy(asc(runTables.ordinal));
  const lake = (godwit: Godwit) => ({ destination_type: 'files', path: join(godwit.home, 'lake'), format: 'parquet' });
  const toLake = (godwit: Godwit, more: object = {}) => ({
    name: 'shop',
    source: { source_type: 'pgsql', url: source.url },
    destination: { lake: lake(godwit) },
    tables: [{ table_name: 'public.*', mode: 'replace' }],
    ...more,
  });
  const files = async (godwit: Godwit) =>
    (await readdir(join(godwit.home, 'lake'), { recursive: true })).filter((name) => name.endsWith('.parquet'));
  /** Paused as soon as it moves, so that a test has its time. */
  const pausedEarly = async (handle: Begun['handle']) => {
    await until(async () => (await handle.query(stateQuery)).phase === 'running');
    await handle.executeUpdate(pauseUpdate, { args: [{ actor: 'test' }] });
  };
  const resume = (handle: Begun['handle']) => handle.executeUpdate(resumeUpdate, { args: [{ actor: 'test' }] });

  test('PostgreSQL to Parquet: all rows, balanced books, the lease given back', async () => {
    await using godwit = await install({ GODWIT_CHUNK_MB: '1' });
    await using _worker = await godwit.work();
    const { run, result } = await godwit.begin(toLake(godwit));
    expect(await result()).toEqual({ runId: run.id, status: 'succeeded' });
    const tables = await tablesOf(godwit, run.id);
    expect(tables.map((row) => [row.sourceName, row.rowsWritten])).toEqual([
      ['public.orders', 60000],
      ['public.line', 20000],
      ['public.customer', 3000],
      ['public.keyless', 500],
    ]);
    expect(tables[0]?.chunksDone).toBeGreaterThan(1);
    expect((await files(godwit)).length).toBeGreaterThan(4);
    expect(await godwit.db.select().from(leases)).toEqual([]);
    const [row] = await godwit.db.select().from(runs).where(eq(runs.id, run.id));
    expect(row).toMatchObject({ status: 'succeeded', consistency: 'snapshot', failure: null });
  });

  test('PostgreSQL to PostgreSQL: every row and every key', async () => {
    await using target = await createDatabase();
    await using godwit = await install({ GODWIT_CHUNK_MB: '1' });
    await using _worker = await godwit.work();
    const destination = { warehouse: { destination_type: 'pgsql', url: target.url, schema: 'copy' } };
    const { run, result } = await godwit.begin(toLake(godwit, { destination }));
    const ended = await result().catch((error) => error);
    const failures = (await tablesOf(godwit, run.id)).map((row) => row.failure?.message).filter(Boolean);
    expect(failures).toEqual([]);
    expect(ended).toEqual({ runId: run.id, status: 'succeeded' });
    expect(await contents(target.url, 'copy')).toEqual(await contents(source.url, 'public'));
    const keys = await query<{ contype: string }>(
      target.url,
      `SELECT contype FROM pg_constraint WHERE connamespace = 'copy'::regnamespace AND contype IN ('p', 'f')`,
    );
    expect(keys.map((key) => key.contype).sort()).toEqual(['f', 'f', 'p', 'p', 'p']);
  });

  test('one bad row stops its own table only, and is kept sealed; a mapping may set such rows aside', async () => {
    await using bad = await createDatabase();
    await query(
      bad.url,
      `CREATE TABLE good (id int PRIMARY KEY); INSERT INTO good SELECT generate_series(1, 100);
       CREATE TABLE old (id int PRIMARY KEY, at date);
       INSERT INTO old SELECT i, CASE WHEN i = 77 THEN '0044-03-15 BC'::date ELSE '2024-01-01' END FROM generate_series(1, 200) i;
       ANALYZE;`,
    );
    await using godwit = await install();
    await using _worker = await godwit.work();
    const mapping = { ...toLake(godwit), source: { source_type: 'pgsql', url: bad.url } };
    const strict = await godwit.begin(mapping);
    expect(await strict.result()).toMatchObject({ status: 'partial' });
    const tables = await tablesOf(godwit, strict.run.id);
    const old = tables.find((row) => row.sourceName === 'public.old');
    expect(tables.find((row) => row.sourceName === 'public.good')?.status).toBe('succeeded');
    expect(old).toMatchObject({ status: 'failed', failure: { code: 'VALUE_REFUSED' } });
    const [kept] = await godwit.db.select().from(quarantine);
    expect(kept).toMatchObject({ row: 76, column: 'at', code: 'VALUE_REFUSED' });
    expect(JSON.stringify([old, kept?.content.toString('latin1'), await strict.handle.fetchHistory()])).not.toContain(
      '0044-03-15',
    );

    const table = { table_name: 'public.*', mode: 'replace', on_misfit: 'quarantine', max_quarantined: 5 };
    const lenient = await godwit.begin({ ...mapping, tables: [table] });
    expect(await lenient.result()).toMatchObject({ status: 'succeeded' });
    const again = (await tablesOf(godwit, lenient.run.id)).find((row) => row.sourceName === 'public.old');
    expect(again).toMatchObject({ rowsRead: 200, rowsWritten: 199, rowsQuarantined: 1 });
  });

  test('a second start of the same job is skipped while the first one runs', async () => {
    await using godwit = await install({ GODWIT_CHUNK_MB: '1' });
    await using _worker = await godwit.work();
    const first = await godwit.begin(toLake(godwit));
    await pausedEarly(first.handle);
    const second = await godwit.begin(toLake(godwit));
    expect(await second.result()).toMatchObject({ status: 'skipped' });
    await resume(first.handle);
    expect(await first.result()).toMatchObject({ status: 'succeeded' });
    const third = await godwit.begin(toLake(godwit));
    expect(await third.result()).toMatchObject({ status: 'succeeded' });
  });

  test('a worker that stops in the middle is followed by another: nothing is lost or doubled', async () => {
    await using godwit = await install({ GODWIT_CHUNK_MB: '1', GODWIT_SLOTS: '1' });
    const worker = await godwit.work();
    const { run, result } = await godwit.begin(toLake(godwit));
    await until(async () => (await tablesOf(godwit, run.id)).some((row) => row.chunksDone > 0));
    await worker.stop();
    await using _other = await godwit.work();
    expect(await result()).toMatchObject({ status: 'succeeded' });
    expect((await tablesOf(godwit, run.id)).map((row) => row.rowsWritten)).toEqual([60000, 20000, 3000, 500]);
  });

  test('a lost snapshot: keyed tables go on chunk by chunk, the run says so', async () => {
    await using godwit = await install({ GODWIT_CHUNK_MB: '1', GODWIT_SLOTS: '1' });
    await using _worker = await godwit.work();
    const { run, handle, result } = await godwit.begin(toLake(godwit));
    await pausedEarly(handle);
    await until(async () => (await tablesOf(godwit, run.id)).some((row) => row.snapshot !== null));
    const killed = await query(
      source.url,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`,
    );
    expect(killed.length).toBeGreaterThan(0);
    await until(async () => (await godwit.db.select().from(snapshots)).length > 1);
    await resume(handle);
    expect(await result()).toMatchObject({ status: 'succeeded' });
    expect((await tablesOf(godwit, run.id)).map((row) => row.rowsWritten)).toEqual([60000, 20000, 3000, 500]);
    const [row] = await godwit.db.select().from(runs).where(eq(runs.id, run.id));
    expect(row?.consistency).toBe('chunk');
  });

  test('a cancel leaves nothing unpublished, and a retry of the run moves everything', async () => {
    await using godwit = await install({ GODWIT_CHUNK_MB: '1', GODWIT_SLOTS: '1' });
    await using _worker = await godwit.work();
    const { run, handle, result } = await godwit.begin(toLake(godwit));
    await pausedEarly(handle);
    await handle.executeUpdate(cancelUpdate, { args: [{ actor: 'test' }] });
    await expect(result()).rejects.toThrow();
    const [canceled] = await godwit.db.select().from(runs).where(eq(runs.id, run.id));
    expect(canceled?.status).toBe('canceled');
    const unpublished = (await tablesOf(godwit, run.id)).filter((row) => row.status !== 'succeeded');
    expect(unpublished.length).toBeGreaterThan(0);
    expect(unpublished.every((row) => row.status === 'canceled')).toBe(true);
    const again = await godwit.again(run.id);
    expect(await again.result()).toMatchObject({ status: 'succeeded' });
    expect((await tablesOf(godwit, run.id)).map((row) => row.rowsWritten)).toEqual([60000, 20000, 3000, 500]);
  });

  test('a refused login fails in seconds, with its code and without the password', async () => {
    await using godwit = await install();
    await using _worker = await godwit.work();
    const url = new URL(source.url);
    url.username = 'nobody_here';
    url.password = 'planted-secret';
    const bad = { ...toLake(godwit), source: { source_type: 'pgsql', url: url.href } };
    const { run, result, handle } = await godwit.begin(bad);
    const error = await result().then(
      () => undefined,
      (thrown: unknown) => (thrown as WorkflowFailedError).cause,
    );
    const [row] = await godwit.db.select().from(runs).where(eq(runs.id, run.id));
    expect(row?.status).toBe('failed');
    expect(row?.failure?.code).toBe((error as { type?: string }).type);
    expect(JSON.stringify([row, await handle.fetchHistory()])).not.toContain('planted-secret');
  });
});
