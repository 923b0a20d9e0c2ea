import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { asc, eq } from 'drizzle-orm';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runTables } from '../../db/schema.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { install, query } from './installation.ts';

const noServers = (await missing('postgres')) || (await missing('temporal'));

describe.skipIf(noServers)('columns that change at the source between two runs', () => {
  let source: TestDatabase;
  let target: TestDatabase;
  let godwit: Awaited<ReturnType<typeof install>>;
  beforeAll(async () => {
    await using stack = new AsyncDisposableStack();
    godwit = stack.use(await install());
    stack.use(await godwit.work());
    const kept = stack.move();
    return () => kept.disposeAsync();
  });
  beforeEach(async () => {
    source = await createDatabase();
    target = await createDatabase();
    await query(
      source.url,
      `CREATE TABLE item (id int PRIMARY KEY, code varchar(5), price numeric(8,2) NOT NULL, gone int NOT NULL);
       INSERT INTO item VALUES (1, 'a', 1.50, 7), (2, 'b', 2.25, 8)`,
    );
    return async () => {
      await source.drop();
      await target.drop();
    };
  });
  let n = 0;
  const run = async (table: object, lake = false) => {
    const folder = {
      destination_type: 'files',
      path: join(godwit.home, `lake ${n}`),
      format: 'parquet',
      schema: 'copy',
    };
    const { run: begun, result } = await godwit.begin({
      name: `items-${n}`,
      source: { source_type: 'pgsql', url: source.url },
      destination: { to: lake ? folder : { destination_type: 'pgsql', url: target.url, schema: 'copy' } },
      tables: [{ table_name: 'public.item', mode: 'dumping', ...table }],
    });
    await result().catch(() => {});
    const [row] = await godwit.db
      .select()
      .from(runTables)
      .where(eq(runTables.runId, begun.id))
      .orderBy(asc(runTables.ordinal));
    return row!;
  };
  const columns = () =>
    query<{ name: string; type: string; must: boolean }>(
      target.url,
      `SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attnotnull AS must FROM pg_attribute
       WHERE attrelid = 'copy.item'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    );
  const drift = `ALTER TABLE item ADD COLUMN extra text NOT NULL DEFAULT 'e'; ALTER TABLE item DROP COLUMN gone;
    ALTER TABLE item ALTER id TYPE bigint, ALTER code TYPE varchar(9), ALTER price TYPE numeric(10,2), ALTER price DROP NOT NULL;
    INSERT INTO item (id, code, price, extra) VALUES (3000000000, 'long code', NULL, 'x')`;
  const wanted = [
    { name: 'id', type: 'bigint', must: true },
    { name: 'code', type: 'character varying(9)', must: false },
    { name: 'price', type: 'numeric(10,2)', must: false },
    { name: 'gone', type: 'integer', must: false },
  ];
  const extra = { name: 'extra', type: 'text', must: false };
  const date = { name: 'migration_snapshot_date', type: 'timestamp with time zone', must: true };

  test('add: new ones come, dropped ones stay empty, wider types widen; the older snapshot is as it was', async () => {
    n++;
    expect((await run({})).status).toBe('succeeded');
    await query(source.url, drift);
    const row = await run({});
    expect(row).toMatchObject({ status: 'succeeded', failure: null, rowsWritten: 3 });
    expect(row.notes.join('\n')).toMatch(/extra: new at the source.*gone: not at the source; it stays/s);
    expect(await columns()).toEqual([...wanted, date, extra]);
    const rows = await query(
      target.url,
      `SELECT id::text, code, price::text, gone, extra FROM copy.item ORDER BY migration_snapshot_date, id`,
    );
    expect(rows).toEqual([
      { id: '1', code: 'a', price: '1.50', gone: 7, extra: null },
      { id: '2', code: 'b', price: '2.25', gone: 8, extra: null },
      { id: '1', code: 'a', price: '1.50', gone: null, extra: 'e' },
      { id: '2', code: 'b', price: '2.25', gone: null, extra: 'e' },
      { id: '3000000000', code: 'long code', price: null, gone: null, extra: 'x' },
    ]);
    expect((await run({})).status).toBe('succeeded');
  });

  test('narrowing is refused with the column and both types, and so is a type a view uses', async () => {
    n++;
    expect((await run({})).status).toBe('succeeded');
    const before = await columns();
    await query(source.url, `ALTER TABLE item ALTER id TYPE smallint, ADD COLUMN extra int`);
    const narrow = await run({});
    expect(narrow).toMatchObject({ status: 'failed', failure: { code: 'TARGET_DIFFERS' } });
    expect(narrow.failure?.message).toContain('id is integer there and smallint at the source');
    await query(source.url, `ALTER TABLE item ALTER id TYPE bigint`);
    await query(target.url, `CREATE VIEW copy.v AS SELECT id FROM copy.item`);
    const used = await run({});
    expect(used.failure?.message).toMatch(/id is integer there and bigint at the source, and .*copy\.v uses it/);
    expect(await columns()).toEqual(before);
  });

  test('refuse: any difference; ignore: the target stays as it is, new columns are left out', async () => {
    n++;
    expect((await run({})).status).toBe('succeeded');
    const before = await columns();
    await query(source.url, `ALTER TABLE item DROP COLUMN code, ADD COLUMN extra int`);
    const refused = await run({ on_schema_change: 'refuse' });
    expect(refused).toMatchObject({ status: 'failed', failure: { code: 'TARGET_DIFFERS' } });
    expect(refused.failure?.message).toMatch(/extra is not there; code is there only/);
    const ignored = await run({ on_schema_change: 'ignore' });
    expect(ignored).toMatchObject({ status: 'succeeded', rowsWritten: 2 });
    expect(ignored.notes.join()).toContain('extra: new at the source and left out');
    expect(await columns()).toEqual(before);
    await query(source.url, `ALTER TABLE item ALTER id TYPE bigint`);
    expect((await run({ on_schema_change: 'ignore' })).failure?.code).toBe('TARGET_DIFFERS');
  });

  test('the old table of a delete-insert follows too', async () => {
    n++;
    const table = { mode: 'replace', swap: 'delete-insert' };
    expect((await run(table)).status).toBe('succeeded');
    await query(source.url, drift);
    expect(await run(table)).toMatchObject({ status: 'succeeded', failure: null });
    expect(await columns()).toEqual([...wanted, extra]);
    expect(await query(target.url, `SELECT id::text, gone, extra FROM copy.item ORDER BY 1 DESC LIMIT 1`)).toEqual([
      { id: '3000000000', gone: null, extra: 'x' },
    ]);
  });

  test('files: a new snapshot has its own columns, noted; refused by the last one; or without the new ones', async () => {
    n++;
    const names = async () => {
      const text = await readFile(join(godwit.home, `lake ${n}`, 'copy', 'item', '_manifest.json'), 'utf8');
      return (JSON.parse(text).columns as { name: string }[]).map((column) => column.name);
    };
    expect((await run({}, true)).status).toBe('succeeded');
    await query(
      source.url,
      `ALTER TABLE item DROP COLUMN gone, ADD COLUMN extra int; ALTER TABLE item ALTER id TYPE bigint`,
    );
    const refused = await run({ on_schema_change: 'refuse' }, true);
    expect(refused).toMatchObject({ status: 'failed', failure: { code: 'TARGET_DIFFERS' } });
    expect(refused.failure?.message).toMatch(/id: \w+ in earlier snapshots.*extra: new.*gone: not in new snapshots/s);
    expect((await run({ on_schema_change: 'ignore' }, true)).status).toBe('succeeded');
    expect(await names()).toEqual(['id', 'code', 'price', 'migration_snapshot_date']);
    const row = await run({}, true);
    expect(row.status).toBe('succeeded');
    expect(row.notes.join()).toContain('extra: new; earlier snapshots do not have it');
    expect(await names()).toEqual(['id', 'code', 'price', 'extra', 'migration_snapshot_date']);
  });
});
