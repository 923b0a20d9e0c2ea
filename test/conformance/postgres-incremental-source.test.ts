import { execFile } from 'node:child_process';
import { chmod, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Chunk, Follow, Range, Source, Watermark } from '../../connectors/contract.ts';
import { ended, type Pending } from '../../connectors/postgres/pending.ts';
import { chunkSelect, planSettings } from '../../connectors/postgres/read.ts';
import { openSource } from '../../connectors/postgres/source.ts';
import { startPostgres } from '../../servers/postgres.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { type Hands, type IncrementalSubject, type KeyTable, testIncrementalSource } from './incremental-source.ts';
import { codeOf, never, ownMoment, readRows, under, wantRows } from './source.ts';

const quoted = (name: { schema: string; name: string }) =>
  `${pg.escapeIdentifier(name.schema)}.${pg.escapeIdentifier(name.name)}`;
const iso = (instant: string) => `to_char(${instant} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at`;

/** With owner and rights: the server runs as another user. */
const cp = (from: string, to: string) => promisify(execFile)('cp', ['-a', from, to]);

async function connect(database: TestDatabase): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  return client;
}

/** Primary keys, and values that are hard to sort. `COLLATE` shows that the server's own order is not asked. */
const keyTables: Readonly<Record<string, { columns: string; key: string; values: string; unranged?: boolean }>> = {
  int4: { columns: 'id int4', key: 'id', values: '(-2147483648), (-10), (-9), (0), (9), (10), (100), (2147483647)' },
  int8: { columns: 'id int8', key: 'id', values: '(-9223372036854775808), (-1), (2), (10), (9007199254740993), (9007199254740992), (9223372036854775807)' },
  oid: { columns: 'id oid', key: 'id', values: '(1), (10), (4294967295)' },
  numeric: { columns: 'id numeric', key: 'id', values: '(-1.50), (-1.5001), (0), (1e30), (10.0), (9.99), (0.0000001), (100)' },
  decimal: { columns: 'id numeric(12,3)', key: 'id', values: '(-1.5), (0), (10), (9.999), (9.99)' },
  float8: { columns: 'id float8', key: 'id', values: `(-1.5), (0.1), (1e20), (1e-7), (10), (9)` },
  text: { columns: 'id text COLLATE "en-x-icu"', key: 'id', values: `('a'), ('B'), ('b'), ('A'), ('ä'), ('Z'), (''), (' '), ('aa'), ('a a'), ('a-a'), (E'a\\\\b'), (E'tab\\tnew\\nline'), ('\u{1F600}'), ('\uFFFD'), ('\uE000')` },
  varchar: { columns: 'id varchar(3)', key: 'id', values: `('abc'), ('ab'), ('ABC'), ('abd')` },
  char: { columns: 'id char(4)', key: 'id', values: `('ab'), ('abc'), ('AB'), ('é')` },
  enum: { columns: 'id mood', key: 'id', values: `('sad'), ('ok'), ('Happy')` },
  uuid: { columns: 'id uuid', key: 'id', values: Array.from({ length: 9 }, (_, i) => `(md5('${i}')::uuid)`).join() },
  bytea: { columns: 'id bytea', key: 'id', values: `(''), ('\\x00'), ('\\xff'), ('\\x00ff'), ('\\x7f')` },
  bool: { columns: 'id bool', key: 'id', values: '(true), (false)' },
  date: { columns: 'id date', key: 'id', values: `('2024-02-29'), ('0001-01-01'), ('9999-12-31'), ('1969-12-31')` },
  'wide date': { columns: 'id date', key: 'id', unranged: true, values: `('2024-02-29'), ('12345-01-01'), ('0001-12-31 BC'), ('0044-03-15 BC'), ('infinity'), ('-infinity')` },
  timestamp: { columns: 'id timestamp', key: 'id', values: `('2024-02-29 12:00'), ('2024-02-29 12:00:00.1'), ('2024-02-29 12:00:00.000001'), ('1969-12-31 23:59:59.999999')` },
  timestamptz: { columns: 'id timestamptz(3)', key: 'id', values: `('2024-02-29 12:00+02'), ('2024-02-29 12:00+00'), ('2024-02-29 12:00:00.1+00')` },
  'wide timestamptz': { columns: 'id timestamptz', key: 'id', unranged: true, values: `('infinity'), ('-infinity'), ('12345-01-01 00:00:00.5+00'), ('0044-03-15 12:00+00 BC'), ('2024-02-29 12:00+00')` },
  time: { columns: 'id time', key: 'id', values: `('00:00'), ('12:00:00.5'), ('12:00:00'), ('24:00')` },
  interval: { columns: 'id interval', key: 'id', values: `('1 day'), ('25:00'), ('1 month'), ('-1 second')` },
  inet: { columns: 'id inet', key: 'id', values: `('10.0.0.1'), ('9.0.0.1/8'), ('::1')` },
  domain: { columns: 'id short', key: 'id', values: `('abc'), ('B')` },
  pair: { columns: 'b text, a int8', key: 'a, b', values: `('x', 10), ('X', 10), ('', 9), (E'\\t', 9), ('y', -1), ('ab', 9)` },
  dated: { columns: 'd date, n text', key: 'n, d', values: `('2024-01-01', 'b'), ('2023-01-01', 'b'), ('2025-01-01', 'B')` },
  at: { columns: 'at text, "godwit key" int', key: 'at', values: `('b', 1), ('a', 2)` },
}; // biome-ignore format: one line each

async function postgresSubject(version?: number): Promise<IncrementalSubject> {
  const database = await createDatabase(undefined, { version });
  const client = await connect(database);
  await client.query(`CREATE TYPE mood AS ENUM ('sad', 'ok', 'Happy'); CREATE DOMAIN short AS varchar(3)`);
  for (const [name, { columns, key, values }] of Object.entries(keyTables)) {
    const table = pg.escapeIdentifier(`key ${name}`);
    await client.query(
      `CREATE TABLE ${table} (${columns}, PRIMARY KEY (${key})); INSERT INTO ${table} VALUES ${values}`,
    );
  }
  let tables = 0;
  return {
    open: () => openSource({ url: database.url }),
    async make({ indexed }) {
      const name = `t${++tables}`;
      await client.query(`CREATE TABLE ${name} (id bigint PRIMARY KEY, at timestamptz, note text)`);
      if (indexed) await client.query(`CREATE INDEX ON ${name} (at)`);
      return { schema: 'public', name };
    },
    async settle(name) {
      await client.query(`ANALYZE ${quoted(name)}`);
    },
    describe: (source, name) => source.describe(name),
    columns: { id: 'id', at: 'at' },
    digits: 6,
    async hands(): Promise<Hands> {
      const own = await connect(database);
      const clock = async (sql: string): Promise<string> => (await own.query(sql)).rows[0].at;
      return {
        async begin() {
          await own.query('BEGIN');
          return await clock(`SELECT ${iso('now()')}`);
        },
        async commit() {
          await own.query('COMMIT');
        },
        now: () => clock(`SELECT ${iso('clock_timestamp()')}`),
        async put(name, rows) {
          await own.query(
            `INSERT INTO ${quoted(name)} (id, at) SELECT * FROM unnest($1::bigint[], $2::timestamptz[])
             ON CONFLICT (id) DO UPDATE SET at = excluded.at`,
            [rows.map(([id]) => id), rows.map(([, at]) => at)],
          );
        },
        async truncate(name) {
          await own.query(`TRUNCATE ${quoted(name)}`);
        },
        [Symbol.asyncDispose]: () => own.end(),
      };
    },
    async keyTables(source): Promise<KeyTable[]> {
      const all: KeyTable[] = [];
      for (const [name, { unranged }] of Object.entries(keyTables)) {
        const table = await source.describe({ schema: 'public', name: `key ${name}` });
        all.push({ table, key: table.key, ...(unranged ? { unranged } : {}) });
      }
      return all;
    },
    async [Symbol.asyncDispose]() {
      await client.end();
      await database.drop();
    },
  };
}

for (const version of [undefined, 13, 15] as const) {
  const gone = await missing(version === undefined ? 'postgres' : `postgres/${version}`);
  const title = `PostgreSQL ${version ?? 'of the package'} as a source of the incremental modes`;
  if (!gone) testIncrementalSource(title, () => postgresSubject(version));
}

describe.skipIf(await missing('postgres'))('PostgreSQL, beyond what every source of the incremental modes does', () => {
  let database: TestDatabase;
  let client: pg.Client;
  let source: Source;
  beforeAll(async () => {
    database = await createDatabase();
    client = await connect(database);
    source = openSource({ url: database.url });
  });
  afterAll(async () => {
    await source?.[Symbol.asyncDispose]();
    await client?.end();
    await database?.drop();
  });

  const described = (name: string) => source.describe({ schema: 'public', name });
  const watermark = async (name: string, follow: Follow, recheck = 0, of = source): Promise<Watermark> => {
    await using snapshot = await of.open();
    const { takenAt: clock, pending = '' } = snapshot;
    const options = { snapshot: under(snapshot), clock, pending, recheck, signal: never };
    const taken = await of.watermark?.(await of.describe({ schema: 'public', name }), follow, options);
    if (!taken) throw new Error('no watermark');
    return taken;
  };
  const bookmark = (column: string, form: Follow['form'] = 'native'): Follow => ({ by: 'bookmark', column, form });
  const key = (column: string): Follow => ({ by: 'key', column, form: 'native' });
  const chunksOf = async (name: string, range: Range, rows: number): Promise<Chunk[]> =>
    Array.fromAsync(
      source.split(await described(name), { size: { rows, bytes: 1e12 }, range, snapshot: ownMoment, signal: never }),
    );

  test('few rows are one chunk, many are ranges along the index, most of a table is cut by its key', async () => {
    await client.query(`CREATE TABLE big (id int PRIMARY KEY, at timestamptz, pad text DEFAULT repeat('x', 100));
      INSERT INTO big SELECT i, CASE WHEN i % 100 > 0 THEN timestamptz '2024-01-01' + i * interval '1 second' END FROM generate_series(1, 20000) i;
      CREATE INDEX ON big (at); ANALYZE big`);
    const from = (seconds: number): Range => ({
      column: 'at',
      from: new Date(Date.UTC(2024, 0, 1) + seconds * 1000).toISOString(),
      nulls: true,
    });
    expect((await chunksOf('big', from(19_900), 1000)).map(({ kind }) => kind)).toEqual(['all']);
    const many = await chunksOf('big', from(15_000), 1000);
    expect(many.map(({ kind }) => kind)).toEqual(Array(6).fill('range'));
    expect(many.at(-1)?.bounds).toEqual({ column: 'at', nulls: true });
    expect(new Set((await chunksOf('big', from(100), 1000)).map(({ kind }) => kind))).toEqual(new Set(['keys']));
    const table = await described('big');
    for (const chunk of many) {
      await client.query('BEGIN');
      await client.query(planSettings(chunk));
      const { rows } = await client.query(`EXPLAIN ${chunkSelect(table, chunk, wantRows(table), 18)}`);
      await client.query('ROLLBACK');
      expect(rows.map((row) => row['QUERY PLAN']).join('\n')).toContain('big_at_idx');
    }
  });

  test('rows that came since the statistics were made are cut all the same', async () => {
    await client.query(`CREATE TABLE stale (id int PRIMARY KEY, at timestamptz) WITH (autovacuum_enabled = off);
      INSERT INTO stale SELECT i, timestamptz '2024-01-01' + i * interval '1 second' FROM generate_series(1, 9000) i;
      CREATE INDEX ON stale (at); ANALYZE stale;
      INSERT INTO stale SELECT 9000 + i, timestamptz '2025-01-01' + i * interval '1 second' FROM generate_series(1, 4000) i`);
    const range = { column: 'at', from: '2025-01-01T00:00:00Z' };
    const chunks = await chunksOf('stale', range, 1000);
    expect(chunks.map(({ kind }) => kind)).toEqual(Array(4).fill('range'));
    const table = await described('stale');
    const counts = await Promise.all(chunks.map((chunk) => readRows(source, table, chunk, { range })));
    expect(counts.map((rows) => rows.length)).toEqual([1000, 1000, 1000, 1000]);
  });

  test('many rows without a bookmark are cut by the key', async () => {
    await client.query(`CREATE TABLE sparse (id int PRIMARY KEY, at timestamptz);
      INSERT INTO sparse SELECT i, CASE WHEN i % 2 = 0 THEN timestamptz '2024-01-01' + i * interval '1 second' END FROM generate_series(1, 6000) i;
      CREATE INDEX ON sparse (at); ANALYZE sparse`);
    const range = { column: 'at', from: '2024-01-01T01:39:00Z', nulls: true };
    const chunks = await chunksOf('sparse', range, 1000);
    expect(new Set(chunks.map(({ kind }) => kind))).toEqual(new Set(['keys']));
    const table = await described('sparse');
    const rows = (await Promise.all(chunks.map((chunk) => readRows(source, table, chunk, { range })))).flat();
    expect(rows.length).toBe(3000 + 31);
    expect(new Set(rows.map(([id]) => id)).size).toBe(rows.length);
  });

  test.for([
    ['int', 'i', 'seconds', '1500', '1600'],
    ['bigint', 'i * 1000::bigint', 'milliseconds', '1500000', '1600000'],
    ['numeric', 'i + 0.5', 'seconds', '1500.5', '1600.25'],
    ['float8', 'i', 'seconds', '1500', '1600'],
    ['date', `date '2024-01-01' + i`, 'native', '2024-06-01', '2024-06-30'],
    [
      'timestamp',
      `timestamp '2024-01-01' + i * interval '1 minute'`,
      'native',
      '2024-01-01T10:00:00.000001',
      '2024-01-01T11:00:00',
    ],
  ] as const)('a bookmark of type %s is followed and cut', async ([type, value, form, from, upto]) => {
    await client.query(`CREATE TABLE b_${type} (id int PRIMARY KEY, b ${type}); CREATE INDEX ON b_${type} (b);
      INSERT INTO b_${type} SELECT i, ${value} FROM generate_series(1, 3000) i; ANALYZE b_${type}`);
    const { rows: [wanted] } = await client.query(`SELECT count(*)::int AS n, (SELECT max(b)::text FROM b_${type}) AS top FROM b_${type} WHERE b >= '${from}' AND b <= '${upto}'`); // biome-ignore format: one query
    const taken = await watermark(`b_${type}`, bookmark('b', form));
    expect(taken.upto?.replace('T', ' ').replace('.000000', '')).toBe(wanted.top);
    const range = { column: 'b', from, upto };
    const table = await described(`b_${type}`);
    const chunks = await chunksOf(`b_${type}`, range, 20);
    const rows = (await Promise.all(chunks.map((chunk) => readRows(source, table, chunk, { range })))).flat();
    expect(rows.length).toBe(wanted.n);
    expect(wanted.n).toBeGreaterThan(20);
    expect(new Set(chunks.map(({ kind }) => kind))).toEqual(new Set(['range']));
  });

  test('texts are compared by their bytes; an index in that order serves them', async () => {
    await client.query(`CREATE TABLE texts (id text COLLATE "en-x-icu" PRIMARY KEY, c text COLLATE "C", v varchar(40) COLLATE "C");
      INSERT INTO texts SELECT t, t, t FROM (SELECT CASE WHEN i % 2 = 0 THEN 'k' ELSE 'K' END || lpad(i::text, 6, '0') AS t FROM generate_series(1, 4000) i) x;
      CREATE INDEX ON texts (c); CREATE INDEX ON texts (v); ANALYZE texts`);
    expect(await watermark('texts', key('id'), 10)).toMatchObject({ upto: 'k004000', floor: 'k003980' });
    const table = await described('texts');
    for (const column of ['id', 'c', 'v']) {
      const range = { column, from: 'K003000', upto: 'k001000' };
      const chunks = await chunksOf('texts', range, 100);
      expect(chunks[0]?.kind, column).toBe(column === 'id' ? 'keys' : 'range');
      const rows = (await Promise.all(chunks.map((chunk) => readRows(source, table, chunk, { range })))).flat();
      expect(rows.length, column).toBe(1000);
    }
  });

  test('a bookmark without an order, and one only the worker can compare', async () => {
    await client.query(
      `CREATE TABLE odd (id int PRIMARY KEY, t text, j jsonb, b bool); INSERT INTO odd VALUES (1, 'Thu, 29 Feb 2024', '{}', true)`,
    );
    for (const [follow, code] of [[bookmark('j'), 'TYPE_REFUSED'], [key('b'), 'TYPE_REFUSED'], [bookmark('t'), 'TYPE_REFUSED'], [key('no'), 'COLUMN_MISSING']] as const) {
      expect(await codeOf(watermark('odd', follow))).toBe(code);
    } // biome-ignore format: pairs
    expect((await watermark('odd', bookmark('t', 'text'))).upto).toBeUndefined();
  });

  test('who is open is told by all; who has the table in hand by its keys alone; readers of Godwit by nobody', async () => {
    await client.query(`CREATE TABLE parts (id bigserial, at timestamptz, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
      CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1); CREATE TABLE elsewhere (id int PRIMARY KEY)`);
    const other = await connect(database);
    const open = async () => ({
      bookmark: (await watermark('parts', bookmark('at'))).open !== undefined,
      key: (await watermark('parts', key('id'))).open !== undefined,
    });
    await using _held = await source.open();
    expect(await open()).toEqual({ bookmark: false, key: false });
    const cases: [string, boolean][] = [
      ['SELECT 1', false],
      ['INSERT INTO elsewhere VALUES (1)', false],
      ['SELECT * FROM parts', false],
      ['INSERT INTO parts (k) VALUES (1)', true],
      ['INSERT INTO part1 (id, k) VALUES (900, 1)', true],
      [`SELECT nextval('parts_id_seq')`, true],
    ];
    for (const [sql, expected] of cases) {
      await other.query('BEGIN');
      const began = Date.now();
      await other.query(sql);
      expect(await open(), sql).toEqual({ bookmark: true, key: expected });
      const { oldest = '' } = await watermark('parts', bookmark('at'));
      expect(Math.abs(Date.parse(oldest) - began)).toBeLessThan(20_000);
      await other.query('ROLLBACK');
    }
    await other.end();
    expect(await open()).toEqual({ bookmark: false, key: false });
  });

  test('a commit between the snapshot and the watermark is open still', async () => {
    await client.query('CREATE TABLE between (id int PRIMARY KEY, at timestamptz DEFAULT now())');
    const table = await described('between');
    const other = await connect(database);
    await other.query('BEGIN; INSERT INTO between VALUES (1)');
    await using snapshot = await source.open();
    await other.query('COMMIT');
    const { takenAt: clock, pending = '' } = snapshot;
    const options = { snapshot: under(snapshot), clock, pending, recheck: 0, signal: never };
    for (const follow of [bookmark('at'), key('id')]) {
      const taken = (await source.watermark?.(table, follow, options)) as Watermark;
      expect(taken.upto).toBeUndefined();
      expect(taken.open).toBeDefined();
      expect(ended(taken, taken)).toBe(false);
      expect(ended(taken, await watermark('between', follow))).toBe(true);
    }
    await other.end();
  });

  test('a sequence that hands out keys in advance widens the window', async () => {
    await client.query(`CREATE SEQUENCE ahead CACHE 50;
      CREATE TABLE cached (id int PRIMARY KEY DEFAULT nextval('ahead')); INSERT INTO cached SELECT i FROM generate_series(1, 60000) i`);
    const { rows } = await client.query('SHOW max_connections');
    expect((await watermark('cached', key('id'), 10)).floor).toBe(
      String(60_000 - 50 * Number(rows[0].max_connections)),
    );
  });

  test('a policy that hides rows is an error, and a check says so', async () => {
    await client.query(`CREATE TABLE secret (id int PRIMARY KEY, at timestamptz, who text);
      INSERT INTO secret VALUES (1, now(), 'a'), (2, now(), 'b'); CREATE ROLE limited_${database.name} LOGIN PASSWORD 'x';
      GRANT SELECT ON ALL TABLES IN SCHEMA public TO limited_${database.name}`);
    const url = new URL(database.url);
    url.username = `limited_${database.name}`;
    url.password = 'x';
    try {
      await using limited = openSource({ url: url.href });
      const table = await limited.describe({ schema: 'public', name: 'secret' });
      const checkOf = async () => (await limited.check()).find(({ name }) => name === 'row security');
      expect(await checkOf()).toMatchObject({ outcome: 'pass' });
      const want = { snapshot: ownMoment, signal: never };
      expect((await limited.digest?.(table, ['id'], {}, want))?.count).toBe(2);
      await client.query(`ALTER TABLE secret ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON secret USING (who = 'a')`);
      expect(await checkOf()).toMatchObject({ outcome: 'warn', detail: expect.stringContaining('public.secret') });
      expect(await codeOf(Array.fromAsync(limited.keys?.(table, ['id'], {}, want) ?? []))).toBe('PRIVILEGE_MISSING');
      await expect(limited.digest?.(table, ['id'], {}, want)).rejects.toThrow(/BYPASSRLS/);
      expect(await codeOf(limited.describe(table.name))).toBe('PRIVILEGE_MISSING');
      const options = { ...want, recheck: 0 };
      expect(await codeOf(limited.watermark?.(table, bookmark('at'), options) as Promise<Watermark>)).toBe(
        'PRIVILEGE_MISSING',
      );
    } finally {
      await client.query(`DROP OWNED BY limited_${database.name}; DROP ROLE limited_${database.name}`);
    }
  });

  test('a login that may not see the activity of others still sees that they are open', async () => {
    const role = `plain_${database.name}`;
    await client.query(
      `CREATE TABLE seen (id int PRIMARY KEY, at timestamptz); CREATE ROLE ${role} LOGIN PASSWORD 'x'; GRANT SELECT ON seen TO ${role}`,
    );
    const url = new URL(database.url);
    url.username = role;
    url.password = 'x';
    const other = await connect(database);
    try {
      await using plain = openSource({ url: url.href });
      await other.query('BEGIN; INSERT INTO seen VALUES (1, now())');
      for (const follow of [bookmark('at'), key('id')]) {
        const taken = await watermark('seen', follow, 0, plain);
        expect(taken.open).toBeDefined();
        expect(taken.oldest).toBeUndefined();
      }
      expect((await plain.check()).find(({ name }) => name === 'transactions')?.outcome).toBe('warn');
    } finally {
      await other.end();
      await client.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
  });

  test('a range of a partitioned table, and of a view over it, is read once', async () => {
    await client.query(`CREATE TABLE months (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
      CREATE TABLE m1 PARTITION OF months FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
      CREATE TABLE m2 PARTITION OF months DEFAULT; CREATE INDEX ON months (at); CREATE VIEW seen_months AS SELECT * FROM months;
      INSERT INTO months SELECT i, timestamptz '2024-01-01' + i * interval '10 minutes' FROM generate_series(1, 9000) i; ANALYZE months`);
    const range = { column: 'at', from: '2024-01-25T00:00:00Z', upto: '2024-02-10T00:00:00Z', nulls: true };
    const wanted = (16 * 24 * 60) / 10 + 1;
    for (const name of ['months', 'seen_months']) {
      const chunks = await chunksOf(name, range, 500);
      expect(chunks.map(({ kind }) => kind)).toContain(name === 'months' ? 'range' : 'all');
      const table = await described(name);
      const rows = (await Promise.all(chunks.map((chunk) => readRows(source, table, chunk, { range })))).flat();
      expect(rows.length, name).toBe(wanted);
      expect(new Set(rows.map(([id]) => id)).size, name).toBe(wanted);
      const taken = await watermark(name, bookmark('at'));
      expect(taken.upto).toBe('2024-03-03T12:00:00.000000Z');
    }
  });

  test('a digest that is stopped ends its statement on the server', async () => {
    await client.query('CREATE TABLE long (id int PRIMARY KEY); INSERT INTO long SELECT generate_series(1, 3000000)');
    const table = await described('long');
    const stop = new AbortController();
    const digest = source.digest?.(table, ['id'], {}, { snapshot: ownMoment, signal: stop.signal });
    const running = async () =>
      (
        await client.query(`SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%hash%extended%'
        AND datname = current_database() AND pid <> pg_backend_pid()`)
      ).rowCount;
    await vi.waitFor(async () => expect(await running()).toBeGreaterThan(0), { timeout: 10_000, interval: 5 });
    stop.abort(new Error('enough'));
    await expect(digest).rejects.toThrow('enough');
    await vi.waitFor(async () => expect(await running()).toBe(0), 5000);
  });

  test('keys stop with an error when the connection does', async () => {
    await client.query('CREATE TABLE cut (id int PRIMARY KEY); INSERT INTO cut SELECT generate_series(1, 400000)');
    const table = await described('cut');
    const reading = async () => {
      let first = true;
      for await (const _ of source.keys?.(table, ['id'], {}, { snapshot: ownMoment, signal: never }) ?? []) {
        if (!first) continue;
        first = false;
        await client.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE application_name = 'godwit' AND datname = current_database() AND state = 'active'`);
      }
    };
    expect(await codeOf(reading())).toBe('CONNECTION_FAILED');
  });
});

describe('who was open has ended', () => {
  const list = (over: Partial<Pending>): Pending => ({
    server: 'a',
    standby: false,
    xmin: '90',
    next: '100',
    open: [{ id: '3/1', xids: ['95'] }],
    prepared: [],
    ...over,
  });
  const of = (then: Pending, now: Pending) =>
    ended({ clock: '', open: then }, { clock: '', active: now, open: undefined });
  const silent = [{ id: '3/1', xids: [] }];

  test.for<[string, Pending, Pending, boolean]>([
    ['still there', list({}), list({}), false],
    ['another in its place', list({}), list({ open: [{ id: '3/2', xids: [] }] }), true],
    ['prepared since', list({}), list({ open: [], prepared: ['95'] }), false],
    ['another one prepared since', list({}), list({ open: [], prepared: ['101'] }), true],
    [
      'it had not written, one was prepared since',
      list({ open: silent }),
      list({ open: [], prepared: ['101'] }),
      false,
    ],
    [
      'it had not written, one was prepared before',
      list({ open: silent, others: ['80'] }),
      list({ open: [], prepared: ['80'] }),
      true,
    ],
    ['the server restarted', list({}), list({ server: 'b' }), true],
    ['a standby now, which has not come so far', list({}), list({ standby: true, xmin: '99' }), false],
    ['a standby now, which has', list({}), list({ standby: true, xmin: '100' }), true],
    ['a standby then, the primary now', list({ standby: true }), list({ xmin: '99' }), false],
  ])('%s', ([, then, now, expected]) => {
    expect(of(then, now)).toBe(expected);
  });
});

describe.skipIf(await missing('postgres'))('transactions that are prepared, and servers that restart', () => {
  test('a prepared transaction is open until it is committed, over a restart too', async () => {
    await using server = await startPostgres({ settings: { max_prepared_transactions: '5' } });
    const follow: Follow = { by: 'bookmark', column: 'at', form: 'native' };
    const taken = async (): Promise<Watermark> => {
      await using source = openSource({ url: server.url });
      await using snapshot = await source.open();
      const { takenAt: clock, pending = '' } = snapshot;
      const options = { snapshot: under(snapshot), clock, pending, recheck: 0, signal: never };
      return (await source.watermark?.(
        await source.describe({ schema: 'public', name: 't' }),
        follow,
        options,
      )) as Watermark;
    };
    let client = new pg.Client(server.url);
    client.on('error', () => {});
    await client.connect();
    await client.query('CREATE TABLE t (id int PRIMARY KEY, at timestamptz)');
    await client.query('BEGIN');
    const silent = await taken();
    await client.query('INSERT INTO t VALUES (1, now())');
    const writing = await taken();
    await client.query(`PREPARE TRANSACTION 'one'`);
    const prepared = await taken();
    for (const one of [silent, writing, prepared]) expect(one.open).toBeDefined();
    for (const one of [silent, writing, prepared]) expect(ended(one, await taken())).toBe(false);
    await client.end();
    await server.restart();
    for (const one of [silent, writing, prepared]) expect(ended(one, await taken())).toBe(false);
    client = new pg.Client(server.url);
    await client.connect();
    await client.query(`COMMIT PREPARED 'one'`);
    for (const one of [silent, writing, prepared]) expect(ended(one, await taken())).toBe(true);
    await client.end();
  });

  test('a standby takes who has written at the primary for open, and the last commit it has for its clock', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'godwit-standby-'));
    await chmod(folder, 0o755);
    const at = (name: string) => join(folder, name);
    try {
      for (const name of ['primary', 'standby']) await (await startPostgres({ dir: at(name) })).stop();
      const data = await realpath(join(at('standby'), 'data'));
      await cp(`${await realpath(join(at('primary'), 'data'))}/.`, data);
      await cp(join(at('primary'), 'password'), join(at('standby'), 'password'));
      await writeFile(join(data, 'standby.signal'), '');
      await using primary = await startPostgres({ dir: at('primary') });
      const { host, port, user, password } = primary;
      const primary_conninfo = `host=${host} port=${port} user=${user} password=${password}`;
      await using standby = await startPostgres({ dir: at('standby'), settings: { primary_conninfo } });
      const [one, two, here] = [new pg.Client(primary.url), new pg.Client(primary.url), new pg.Client(standby.url)];
      for (const client of [one, two, here]) {
        client.on('error', () => {});
        await client.connect();
      }
      const replayed = async () => {
        const { rows: [lsn] } = await two.query('SELECT pg_current_wal_insert_lsn() AS at'); // biome-ignore format: one value
        await vi.waitFor(async () => {
          const { rows } = await here.query('SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn AS there', [lsn.at]);
          expect(rows[0].there).toBe(true);
        }, 20_000);
      };
      await one.query('CREATE TABLE t (id int PRIMARY KEY, at timestamptz)');
      await replayed();
      await using source = openSource({ url: standby.url });
      const table = await source.describe({ schema: 'public', name: 't' });
      const taken = async (by: Follow['by']): Promise<Watermark> => {
        await using snapshot = await source.open();
        const { takenAt: clock, pending = '' } = snapshot;
        const follow: Follow = { by, column: by === 'key' ? 'id' : 'at', form: 'native' };
        const options = { snapshot: under(snapshot), clock, pending, recheck: 0, signal: never };
        return (await source.watermark?.(table, follow, options)) as Watermark;
      };
      expect((await taken('bookmark')).open).toBeUndefined();
      // Two that write, of which the later one ends first: it is beyond the end of any snapshot of before.
      await one.query('BEGIN; INSERT INTO t VALUES (1, now())');
      await two.query('BEGIN; INSERT INTO t VALUES (2, now())');
      await two.query('SELECT pg_log_standby_snapshot()').catch(() => two.query('CHECKPOINT'));
      await replayed();
      const both = await taken('bookmark');
      expect(both.open).toBeDefined();
      expect((await taken('key')).open).toBeDefined();
      await one.query('COMMIT');
      await replayed();
      expect(ended(both, await taken('bookmark'))).toBe(false);
      await two.query('COMMIT');
      const { rows: [{ now }] } = await two.query('SELECT clock_timestamp() AS now'); // biome-ignore format: one value
      await replayed();
      const after = await taken('bookmark');
      expect(ended(both, after)).toBe(true);
      expect(after.open).toBeUndefined();
      expect(Date.parse(after.clock)).toBeLessThanOrEqual(now.getTime());
      for (const client of [one, two, here]) await client.end();
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
