/**
 * What workers do outside of runs, killed in its midst: rows set aside are replayed, tables of another tool are taken over. Either is
 * asked for again, or goes on by itself, and nothing is there twice, nothing lost, and the books are right.
 */
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { FaultPoint } from '../../faults.ts';
import { freePort } from '../../servers/ports.ts';
import { createDatabase } from './addresses.ts';
import { type Installation, startInstallation } from './installation.ts';
import { apply, over, request, start, story, until } from './job.ts';
import { query } from './oracle.ts';
import { startApi } from './processes.ts';

type Replayed = { readonly tables: readonly { replayed: number; present: number; open: number }[] };
type Taken = { readonly tables: readonly { table: string; failure?: { code: string; message: string } }[] };
type RunTotals = { readonly read: number; readonly written: number; readonly aside: number; readonly steps: string };

describe('killed outside of a run', () => {
  let here: Installation;
  let source: string;
  beforeAll(async () => {
    here = await startInstallation({ workers: 1 });
    source = await createDatabase(here.source, 'outside');
  });
  afterAll(async () => {
    await here?.api.stop();
    await here?.[Symbol.asyncDispose]();
  });

  const run = async (job: string): Promise<{ readonly id: string; readonly totals: RunTotals }> => {
    const { id } = await start(here, job);
    const ended = await over(here, id, 120);
    expect(ended.status, await story(here, id)).toBe('succeeded');
    const [totals] = await query<RunTotals>(
      here.metadata.url,
      `SELECT sum(rows_read)::int AS read, sum(rows_written)::int AS written, sum(rows_quarantined)::int AS aside,
         string_agg(DISTINCT step, ',') AS steps
       FROM godwit.run_tables WHERE run_id = $1`,
      [id],
    );
    if (!totals) throw new Error('a run without tables');
    return { id, totals };
  };
  /** As somebody does who gets no answer. */
  const insisting = async <T>(path: string, body: object = {}): Promise<T> => {
    let answer: T | undefined;
    let last: unknown;
    await until(`an answer to ${path}`, 200, async () => {
      try {
        answer = await request<T>(here, 'POST', path, body);
        return true;
      } catch (error) {
        // That it is running already is true while a worker is not known to be dead.
        last = error;
        if (!/ALREADY_RUNNING|TEMPORAL_UNREACHABLE|INTERNAL|fetch failed|TimeoutError/.test(String(error))) throw error;
        return false;
      }
    }).catch((error) => {
      throw last ?? error;
    });
    return answer as T;
  };
  const arm = (...points: FaultPoint[]) => {
    for (const point of points) here.workers.arm(point, 'SIGKILL');
  };
  const taken = (...points: FaultPoint[]) => points.every((point) => !here.workers.armed(point));
  const states = (id: string) =>
    query<{ state: string; rows: number }>(
      here.metadata.url,
      'SELECT state, count(*)::int AS rows FROM godwit.quarantine WHERE run_id = $1 GROUP BY state ORDER BY state',
      [id],
    );
  const leases = () => query(here.metadata.url, 'SELECT 1 FROM godwit.leases');

  test('a replay, when its rows are written and when they are published', async () => {
    const target = await createDatabase(here.target, 'replayed');
    await query(source, 'CREATE TABLE orders (id int PRIMARY KEY, cents int, at timestamptz NOT NULL)');
    await query(source, `INSERT INTO orders SELECT i, i, now() - interval '1 day' FROM generate_series(1, 100) i`);
    await apply(here, {
      name: 'replayed',
      source: { source_type: 'pgsql', url: source },
      destination: { copy: { destination_type: 'pgsql', url: target, schema: 'copy' } },
      tables: [{ table_name: 'public.orders', mode: 'syncing', bookmark: 'at', max_quarantined: 50 }],
    });
    await run('replayed');
    await query(target, 'ALTER TABLE copy.orders ADD CONSTRAINT low CHECK (cents < 1000)');
    await query(source, 'INSERT INTO orders SELECT i, i, now() FROM generate_series(1001, 1020) i');
    await query(source, 'UPDATE orders SET cents = 7777, at = now() WHERE id = 1');
    await query(source, 'UPDATE orders SET cents = 9999, at = now() WHERE id = 2');
    const { id, totals } = await run('replayed');
    expect(totals).toMatchObject({ aside: 22 });

    await query(target, 'ALTER TABLE copy.orders DROP CONSTRAINT low');
    await query(target, 'ALTER TABLE copy.orders ADD CONSTRAINT lower CHECK (cents < 9000)');
    arm('after-commit', 'after-swap');
    const answer = await insisting<Replayed>(`/api/runs/${id}/quarantine/replay`);
    expect(taken('after-commit', 'after-swap')).toBe(true);
    expect(answer.tables).toMatchObject([{ replayed: 21, open: 1 }]);
    const content = () =>
      query(
        target,
        `SELECT count(*)::int AS n, count(DISTINCT id)::int AS ids, sum(cents)::int AS cents FROM copy.orders`,
      );
    // 1 to 100 without the first, which is another, and 1001 to 1020. The second is refused still.
    const wanted = [{ n: 120, ids: 120, cents: 5050 - 1 + 7777 + 20_210 }];
    expect(await content()).toEqual(wanted);
    expect(await states(id)).toEqual([
      { state: 'open', rows: 1 },
      { state: 'replayed', rows: 21 },
    ]);
    expect(await leases()).toEqual([]);
    const again = await insisting<Replayed>(`/api/runs/${id}/quarantine/replay`);
    expect(again.tables).toMatchObject([{ replayed: 0, open: 1 }]);
    await query(target, 'ALTER TABLE copy.orders DROP CONSTRAINT lower');
    expect((await insisting<Replayed>(`/api/runs/${id}/quarantine/replay`)).tables).toMatchObject([{ replayed: 1 }]);
    expect((await run('replayed')).totals).toMatchObject({ written: 0, aside: 0 });
    expect(await content()).toMatchObject([{ n: 120, ids: 120 }]);
  });

  test('a replay into files, and the API with it', async () => {
    await query(source, 'CREATE TABLE stamps (id int PRIMARY KEY, day timestamptz, at timestamptz NOT NULL)');
    await query(
      source,
      `INSERT INTO stamps VALUES (1, now(), now()), (2, 'infinity', now()), (3, '20000-01-01', now())`,
    );
    const path = join(here.files, 'lake');
    const mapping = (on_misfit: string) => ({
      name: 'lake',
      source: { source_type: 'pgsql', url: source },
      destination: { lake: { destination_type: 'files', path, schema: 's' } },
      tables: [{ table_name: 'public.stamps', mode: 'syncing', bookmark: 'at', on_misfit, max_quarantined: 2 }],
    });
    await apply(here, mapping('quarantine'));
    const { id, totals } = await run('lake');
    expect(totals).toMatchObject({ aside: 2 });
    await apply(here, mapping('null'));
    arm('before-manifest');
    const lost = request(here, 'POST', `/api/runs/${id}/quarantine/replay`, {}).catch(() => 'no answer');
    await until('the worker dies', 60, () => taken('before-manifest'));
    await here.api.stop();
    expect(await lost).toBe('no answer');
    here = { ...here, api: await startApi({ folder: here.folder, port: await freePort(), env: here.env }) };
    await insisting<Replayed>(`/api/runs/${id}/quarantine/replay`);
    expect(await states(id)).toEqual([{ state: 'replayed', rows: 2 }]);
    const parts = globSync('**/*.parquet', { cwd: path }).filter((part) => !/(^|\/)_/.test(part));
    expect(await ids(parts.map((part) => join(path, part)))).toEqual([1, 2, 3]);
    expect(await leases()).toEqual([]);
  });

  test('tables that are taken over, between the first and the second', async () => {
    const target = await createDatabase(here.target, 'kept');
    await query(target, 'CREATE SCHEMA copy');
    for (const name of ['one', 'two']) {
      const table = `CREATE TABLE %.${name} (id int PRIMARY KEY, note text, at timestamptz NOT NULL)`;
      await query(source, table.replace('%', 'public'));
      await query(
        source,
        `INSERT INTO ${name} SELECT i, 'old', now() - interval '2 days' FROM generate_series(1, 50) i`,
      );
      await query(source, `INSERT INTO ${name} VALUES (51, 'new', now())`);
      await query(target, table.replace('%', 'copy'));
      // What a load would take away: a row that is gone at the source.
      await query(
        target,
        `INSERT INTO copy.${name} SELECT i, 'old', now() - interval '2 days' FROM generate_series(0, 50) i`,
      );
    }
    await apply(here, {
      name: 'kept',
      source: { source_type: 'pgsql', url: source },
      destination: { copy: { destination_type: 'pgsql', url: target, schema: 'copy' } },
      tables: ['one', 'two'].map((name) => ({
        table_name: `public.${name}`,
        mode: 'syncing',
        bookmark: 'at',
        strict: true,
      })),
    });
    const lastRun = new Date(Date.now() - 86_400_000).toISOString();
    const wish = { tables: ['public.one', 'public.two'].map((table) => ({ table, lastRun })) };
    arm('after-commit');
    const { tables } = await insisting<Taken>('/api/jobs/kept/takeover', wish);
    expect(tables.map(({ table, failure }) => `${table} ${failure?.message ?? 'goes on'}`).sort()).toEqual([
      'public.one goes on',
      'public.two goes on',
    ]);
    expect(taken('after-commit')).toBe(true);
    // Somebody who did not see the answer: what is remembered stays.
    const again = await insisting<Taken>('/api/jobs/kept/takeover', wish);
    expect(again.tables.map(({ failure }) => failure?.code)).toEqual(['CONFLICT', 'CONFLICT']);
    expect((await run('kept')).totals).toMatchObject({ written: 2, steps: 'increment' });
    for (const name of ['one', 'two']) {
      expect(
        await query(target, `SELECT count(*)::int AS n, min(id) AS least, max(id) AS most FROM copy.${name}`),
      ).toEqual([{ n: 52, least: 0, most: 51 }]);
    }
  });
});

async function ids(files: readonly string[]): Promise<number[]> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  const connection = await instance.connect();
  try {
    const list = files.map((file) => `'${file}'`).join(', ');
    const read = await connection.runAndReadAll(`SELECT id FROM read_parquet([${list}]) ORDER BY id`);
    return read.getRows().map(([id]) => Number(id));
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}
