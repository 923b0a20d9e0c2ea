/** Tables cut by months: loads, increments that move rows between months, dumping, swaps, names. */
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Target, Work } from '../../connectors/contract.ts';
import { openTarget } from '../../connectors/postgres/target.ts';
import type { Row } from '../../connectors/types.ts';
import { createDatabase, type TestDatabase } from '../servers/shared.ts';
import { nextRun, stateOf, type Way, wholeRun, writeChunks } from './incremental-target.ts';
import {
  column,
  connect,
  contents,
  describeVersions,
  give,
  leftovers,
  plainWork,
  quoted,
  type Version,
} from './postgres-works.ts';
import { chunk, codeOf, writeOptions } from './target.ts';

await describeVersions(', partitions', partitions, [undefined, 13]);

function partitions(version: Version) {
  let database: TestDatabase;
  let client: pg.Client;
  let target: Target;
  let way: Way;
  beforeAll(async () => {
    database = await createDatabase(undefined, { version });
    client = await connect(database);
    await client.query(`SET TimeZone = 'UTC'`);
    target = openTarget({ url: database.url });
    way = { target, subject: { batches: (_, rows) => give(rows.length === 0 ? [] : [{ kind: 'rows', rows }]) } };
  });
  afterAll(async () => {
    await target?.[Symbol.asyncDispose]();
    await client?.end();
    await database?.drop();
  });

  const nullable = column('At', 'timestamp(6) without time zone', { kind: 'timestamp' }, true);
  const columns = [
    column('id', 'integer', { kind: 'int32' }, false),
    nullable,
    column('v', 'text', { kind: 'text' }, true),
  ];
  const cut = (over: Partial<Work> = {}): Work =>
    plainWork({
      mode: 'syncing',
      columns,
      partition: { column: 'At', format: 'datetime' },
      state: stateOf(1),
      ...over,
    });

  /** `partition|id|at|v` of every row, and the bounds of every partition, by name. */
  const rowsOf = ({ name }: Work): Promise<string[]> =>
    contents(
      client,
      `SELECT concat_ws('|', split_part(tableoid::regclass::text, '.', 2), id, "At", v) AS x FROM ${quoted(name)} ORDER BY id, "At"`,
    );
  const partsOf = ({ name }: Work): Promise<string[]> =>
    contents(
      client,
      `SELECT c.relname || ' ' || pg_get_expr(c.relpartbound, c.oid) AS x FROM pg_inherits i
         JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE i.inhparent = '${quoted(name)}'::regclass AND n.nspname = $$${name.schema}$$ ORDER BY 1`,
    );

  const rows: Row[] = [
    [1, '2024-01-31T23:59:59.999999', 'a'],
    [2, '2024-02-01T00:00:00', 'b'],
    [3, null, 'c'],
    [4, 'infinity', 'd'],
    [5, '9999-12-31T23:59:59.999999', 'e'],
    [6, '-000043-03-15T00:00:00', 'f'],
    [7, '+010000-01-01T00:00:00', 'g'],
    [8, '0001-01-01T00:00:00', 'h'],
  ];

  test('a load makes the months its rows need, and the rest lies in DEFAULT', async () => {
    const work = cut();
    expect(await target.refusals(work)).toEqual([]);
    expect(await target.drift?.(work)).toEqual(['cut by the months of At (UTC); the key of the table is (id, At)']);
    const counts = await wholeRun(way, work, [rows.slice(0, 3), rows.slice(3)]);
    expect(counts.map(({ written }) => written)).toEqual([3, 5]);
    const { name } = work.name;
    expect(await partsOf(work)).toEqual(
      [
        `${name}_default DEFAULT`,
        `${name}_p0001_01 FOR VALUES FROM ('0001-01-01 00:00:00') TO ('0001-02-01 00:00:00')`,
        `${name}_p2024_01 FOR VALUES FROM ('2024-01-01 00:00:00') TO ('2024-02-01 00:00:00')`,
        `${name}_p2024_02 FOR VALUES FROM ('2024-02-01 00:00:00') TO ('2024-03-01 00:00:00')`,
        `${name}_p9999_12 FOR VALUES FROM ('9999-12-01 00:00:00') TO ('10000-01-01 00:00:00')`,
      ].sort(),
    );
    expect((await rowsOf(work)).map((row) => row.split('|')[0]?.replaceAll('"', '').slice(name.length))).toEqual([
      '_p2024_01',
      '_p2024_02',
      '_default',
      '_default',
      '_p9999_12',
      '_default',
      '_default',
      '_p0001_01',
    ]);
    expect((await leftovers(client)).filter((one) => !/^(schema|type) /.test(one))).toEqual([]);
    expect(await target.state?.(work)).toEqual(stateOf(1));
  });

  test('nothing new writes nothing; a row that moves to another month is one row; NULL comes and goes', async () => {
    const work = cut();
    await wholeRun(way, work, [rows]);
    const marks = () => contents(client, `SELECT xmin || ' ' || ctid AS x FROM ${quoted(work.name)} ORDER BY id`);
    const before = await marks();
    const [same] = await wholeRun(way, nextRun(work, 2), [rows]);
    expect(same).toMatchObject({ read: 8, written: 0, unchanged: 8 });
    expect(await marks()).toEqual(before);
    const [counts] = await wholeRun(way, nextRun(work, 3), [
      [
        [1, '2024-03-05T00:00:00', 'moved'],
        [2, '2024-02-01T00:00:00', 'in place'],
        [3, '2024-02-10T00:00:00', 'dated'],
        [4, null, 'd'],
        [5, '9999-12-31T23:59:59.999999', 'e'],
        [9, null, 'new'],
        [10, '2030-07-01T00:00:00', 'new'],
      ],
    ]);
    expect(counts).toMatchObject({ read: 7, written: 6, inserted: 2, updated: 4, unchanged: 1 });
    const found = await rowsOf(work);
    expect(found.map((row) => row.split('|').slice(1).join('|'))).toEqual([
      '1|2024-03-05 00:00:00|moved',
      '2|2024-02-01 00:00:00|in place',
      '3|2024-02-10 00:00:00|dated',
      '4|d',
      '5|9999-12-31 23:59:59.999999|e',
      '6|0044-03-15 00:00:00 BC|f',
      '7|10000-01-01 00:00:00|g',
      '8|0001-01-01 00:00:00|h',
      '9|new',
      '10|2030-07-01 00:00:00|new',
    ]);
    expect(await contents(client, `SELECT count(*)::int AS x FROM ${quoted(work.name)}`)).toEqual([10]);
  });

  test('`keep` looks for the key in all months', async () => {
    const work = cut({ mode: 'logging' });
    await wholeRun(way, work, [rows]);
    const again = nextRun(work, 2, { increment: { existing: 'keep' } });
    const [counts] = await wholeRun(way, again, [
      [
        [1, '2024-05-01T00:00:00', 'elsewhere'],
        [3, '2024-05-01T00:00:00', 'elsewhere'],
        [11, '2024-05-01T00:00:00', 'new'],
      ],
    ]);
    expect(counts).toMatchObject({ read: 3, written: 1, inserted: 1, unchanged: 2 });
  });

  test('chunks at once that bring one key to two months leave one row, and make one month once', async () => {
    const work = cut();
    await wholeRun(way, work, [[]]);
    const again = nextRun(work, 2);
    await target.prepare(again);
    const months = Array.from({ length: 6 }, (_, i) => `2024-0${i + 1}-15T00:00:00`);
    const all = months.map(async (month, i) => {
      const claim = await target.claim(again, chunk(i + 1));
      const batch: Row[] = [
        [1, month, `from ${i}`],
        ...months.map((other, j): Row => [100 + i * 10 + j, other, 'own']),
      ];
      return await target.write(again, claim, give([{ kind: 'rows', rows: batch }]), writeOptions());
    });
    const counts = await Promise.all(all);
    expect(counts.reduce((sum, one) => sum + (one.inserted ?? 0), 0)).toBe(37);
    expect(counts.reduce((sum, one) => sum + (one.updated ?? 0), 0)).toBe(5);
    expect(await contents(client, `SELECT count(*)::int AS x FROM ${quoted(work.name)} WHERE id = 1`)).toEqual([1]);
    expect(await partsOf(work)).toHaveLength(7);
    await target.discard(again);
  });

  test('chunks at once of a load', async () => {
    const work = cut();
    await target.prepare(work);
    const all = Array.from({ length: 6 }, async (_, i) => {
      const claim = await target.claim(work, chunk(i + 1));
      const batch = Array.from(
        { length: 30 },
        (_, n): Row => [
          i * 100 + n,
          n % 10 === 9 ? null : `2024-${String(1 + ((n + i) % 12)).padStart(2, '0')}-02T00:00:00`,
          'x',
        ],
      );
      return await target.write(work, claim, give([{ kind: 'rows', rows: batch }]), writeOptions());
    });
    expect((await Promise.all(all)).reduce((sum, one) => sum + one.written, 0)).toBe(180);
    await target.finish(work);
    await target.publish([work], []);
    expect(await partsOf(work)).toHaveLength(13);
    expect(await contents(client, `SELECT count(*)::int AS x FROM ${quoted(work.name)}`)).toEqual([180]);
  });

  test('the years asked for are there at once; a swap takes one partitioned table for another', async () => {
    const schema = `Long ${'s'.repeat(50)}`;
    const name = `Mixed "${'x'.repeat(56)}"`.slice(0, 63);
    const twin = `${name.slice(0, -1)}y`;
    const partition = { column: 'At', format: 'datetime', years: [2023, 2024] } as const;
    const required = columns.map((one) => (one.name === 'At' ? { ...one, nullable: false } : one));
    const work = cut({ name: { schema, name }, partition, columns: required });
    const beside = cut({ name: { schema, name: twin }, partition, columns: required });
    for (const one of [work, beside]) {
      expect(await target.refusals(one)).toEqual([]);
      await wholeRun(way, one, [rows.slice(0, 2)]);
      expect(await partsOf(one)).toHaveLength(25);
    }
    const key = `SELECT pg_get_constraintdef(oid) AS x FROM pg_constraint WHERE conrelid = '${quoted(work.name)}'::regclass AND contype IN ('p', 'u')`;
    expect(await contents(client, key)).toEqual(['PRIMARY KEY (id, "At")']);
    await client.query(`CREATE VIEW public.over_it AS SELECT id FROM ${quoted(work.name)}`);
    const anew = { ...work, run: `${work.run}-full`, state: stateOf(2) };
    expect(await target.refusals(anew)).toEqual([]);
    await wholeRun(way, anew, [rows.slice(1, 2)]);
    expect(await partsOf(work)).toHaveLength(25);
    expect(await contents(client, 'SELECT id AS x FROM public.over_it')).toEqual([2]);
    const [counts] = await wholeRun(way, nextRun(anew, 3), [[[2, '2025-01-01T00:00:00', 'moved']]]);
    expect(counts).toMatchObject({ inserted: 0, updated: 1 });
    expect(await partsOf(work)).toHaveLength(26);
    expect(await contents(client, `SELECT id AS x FROM ${quoted(beside.name)} ORDER BY 1`)).toEqual([1, 2]);
  });

  test('two rows of one key in two months stop the load: no constraint would', async () => {
    const work = cut();
    await writeChunks(way, work, [
      [
        [1, '2024-01-01T00:00:00', 'a'],
        [1, '2024-02-01T00:00:00', 'b'],
      ],
    ]);
    expect(await codeOf(target.finish(work))).toBe('CONSTRAINT_BROKEN');
    await target.discard(work);
  });

  test('dumping into months, and a discard of the whole', async () => {
    const instant = '2024-06-01T00:00:00.000Z';
    const stamp = {
      ...column('migration_snapshot_date', 'timestamp with time zone', { kind: 'timestamptz' }, false),
      from: undefined,
      constant: instant,
    } as unknown as Work['columns'][number];
    const work = cut({
      mode: 'dumping',
      state: undefined,
      snapshotDate: instant,
      columns: [...columns, stamp],
      key: ['migration_snapshot_date', 'id'],
    });
    const dated = (row: Row): Row => [...row, instant];
    await wholeRun(way, work, [rows.slice(0, 3).map(dated), rows.slice(3).map(dated)]);
    expect((await partsOf(work)).length).toBe(5);
    expect((await rowsOf(work)).length).toBe(8);
    const later = '2024-07-01T00:00:00.000Z';
    const second = {
      ...work,
      run: `${work.run}-2`,
      snapshotDate: later,
      columns: [...columns, { ...stamp, constant: later }],
    };
    await wholeRun(way, second, [[[1, '2025-05-05T00:00:00', 'z', later]]]);
    expect((await partsOf(work)).length).toBe(6);
    expect((await rowsOf(work)).length).toBe(9);
  });

  test('a staging that is canceled leaves nothing, its partitions neither', async () => {
    const before = await leftovers(client);
    const work = cut();
    await writeChunks(way, work, [rows]);
    await target.discard(work);
    expect(await leftovers(client)).toEqual(before);
    const staged = await contents(
      client,
      `SELECT relname AS x FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '_godwit' AND relname ~ '^t_'`,
    );
    expect(staged).toEqual([]);
  });

  test('a column without months is refused in the plan', async () => {
    const work = cut({ partition: { column: 'v', format: 'datetime' } });
    expect((await target.refusals(work)).map(({ code }) => code)).toEqual(['TYPE_REFUSED']);
  });

  test('a table somebody else cut otherwise takes its rows where they belong, and gets the months it lacks', async () => {
    const work = cut({ existing: 'adopt' });
    const { schema } = work.name;
    await client.query(`CREATE SCHEMA "${schema}"; CREATE TABLE ${quoted(work.name)} (id integer NOT NULL, "At" timestamp, v text) PARTITION BY RANGE ("At");
      CREATE TABLE "${schema}".y2024 PARTITION OF ${quoted(work.name)} FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
      INSERT INTO ${quoted(work.name)} VALUES (1, '2024-01-31', 'theirs')`);
    await target.remember?.(work, stateOf(1));
    const [counts] = await wholeRun(way, nextRun(work, 2), [
      [
        [1, '2025-01-01T00:00:00', 'moved'],
        [2, '2024-12-31T00:00:00', 'new'],
        [3, null, 'null'],
      ],
    ]);
    expect(counts).toMatchObject({ inserted: 2, updated: 1 });
    expect((await partsOf(work)).map((part) => part.split(' FOR')[0])).toEqual([
      `${work.name.name}_default DEFAULT`,
      `${work.name.name}_p2025_01`,
      'y2024',
    ]);
  });
}
