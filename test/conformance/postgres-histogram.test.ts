import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Chunk, Source, Table } from '../../connectors/contract.ts';
import { openSource } from '../../connectors/postgres/source.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';

describe.skipIf(await missing('postgres'))('chunks cut by the statistics', () => {
  let database: TestDatabase;
  let client: pg.Client;
  let source: Source;
  beforeAll(async () => {
    database = await createDatabase();
    client = new pg.Client(database.url);
    await client.connect();
    source = await openSource({ url: database.url });
  });
  afterAll(async () => {
    await source[Symbol.asyncDispose]();
    await client.end();
    await database[Symbol.asyncDispose]();
  });

  const signal = new AbortController().signal;
  const split = async (table: Table, rows: number, after?: Chunk) => {
    const chunks: Chunk[] = [];
    const options = { size: { rows, bytes: 1e12 }, snapshot: { consistency: 'chunk' } as const, signal };
    for await (const chunk of source.split(table, { ...options, ...(after ? { after } : {}) })) chunks.push(chunk);
    return chunks;
  };
  const keysOf = async (table: Table, chunk: Chunk) => {
    const keys: string[] = [];
    const want = { columns: [{ name: 'id', shape: 'native' as const }], format: 'rows' as const, signal };
    const batch = { rows: 10_000, bytes: 1e6 };
    for await (const got of source.read(table, chunk, { ...want, batch, snapshot: { consistency: 'chunk' } })) {
      if (got.kind === 'rows') for (const row of got.rows) keys.push(String(row[0]));
    }
    return keys;
  };
  const make = async (name: string, type: string, value: string, rows = 40_000) => {
    await client.query(
      `CREATE TABLE ${name} AS SELECT (${value})::${type} AS id, 'x' AS text FROM generate_series(1, ${rows}) i`,
    );
    await client.query(`ALTER TABLE ${name} ADD PRIMARY KEY (id)`);
    await client.query(`ANALYZE ${name}`);
  };
  const covers = async (table: Table, chunks: readonly Chunk[], rows: number) => {
    const all = (await Promise.all(chunks.map((chunk) => keysOf(table, chunk)))).flat();
    expect(all.length).toBe(rows);
    expect(new Set(all).size).toBe(rows);
  };

  test.for([
    ['bigint', '(i - 20000) * 461168601842738'],
    ['uuid', 'md5(i::text)'],
    ['date', `date '1990-01-01' + i`],
    ['timestamptz', `timestamptz '2020-01-01' + i * interval '1 hour 1 microsecond'`],
  ])('of a %s key: even, an even number, every row once', async ([type, value]) => {
    const name = `k_${type}`;
    await make(name, type as string, value as string);
    // The key's order is the disk's order to the planner only where it is: a random uuid is cut by blocks otherwise.
    const described = await source.describe({ schema: 'public', name });
    const table = { ...described, extras: { ...(described.extras as object), correlation: 1 } };
    const chunks = await split(table, 9_000);
    expect(chunks.map((chunk) => chunk.kind)).toEqual(Array(6).fill('keys'));
    await covers(table, chunks, 40_000);
    const sizes = await Promise.all(chunks.map(async (chunk) => (await keysOf(table, chunk)).length));
    for (const size of sizes) expect(size).toBeGreaterThan(40_000 / 6 / 2);
    for (const size of sizes) expect(size).toBeLessThan((40_000 / 6) * 2);
    for (const [i, chunk] of chunks.entries()) {
      expect((await split(table, 9_000, chunk)).map(({ bounds }) => bounds)).toEqual(
        chunks.slice(i + 1).map(({ bounds }) => bounds),
      );
    }
  });

  test('old statistics are not believed: the index is walked, also from a bound they knew', async () => {
    await make('old', 'bigint', 'i');
    const before = await source.describe({ schema: 'public', name: 'old' });
    const first = await split(before, 9_000);
    await client.query(`INSERT INTO old SELECT i, 'new' FROM generate_series(100001, 140000) i`);
    await client.query('SELECT pg_stat_force_next_flush()');
    const table = await source.describe({ schema: 'public', name: 'old' });
    const walked = await split(table, 9_000);
    await covers(table, walked, 80_000);
    const sizes = await Promise.all(walked.map(async (chunk) => (await keysOf(table, chunk)).length));
    expect(Math.max(...sizes)).toBeLessThan(12_000);
    const [kept] = first as [Chunk];
    await covers(table, [kept, ...(await split(table, 9_000, kept))], 80_000);
  });
});
