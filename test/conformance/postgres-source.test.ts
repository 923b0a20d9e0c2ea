import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Source, Table, Target } from '../../connectors/contract.ts';
import { postgresExtras } from '../../connectors/postgres/extras.ts';
import { chunkSelect, planSettings } from '../../connectors/postgres/read.ts';
import { openSource } from '../../connectors/postgres/source.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { everyType, everyTypeTables } from './every-type.ts';
import {
  codeOf,
  never,
  ownMoment,
  readBytes,
  readRows,
  type SourceSubject,
  testSource,
  text,
  under,
  wantRows,
  whole,
} from './source.ts';

const schema = 'nasty';
const named = (name: string) => ({ schema, name });
const quoted = (name: { schema: string; name: string }) =>
  `${pg.escapeIdentifier(name.schema)}.${pg.escapeIdentifier(name.name)}`;

async function connect(database: TestDatabase): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  return client;
}

async function majorOf(client: pg.Client): Promise<number> {
  const { rows } = await client.query("SELECT current_setting('server_version_num')::int / 10000 AS major");
  return rows[0].major;
}

async function prepare(version?: number): Promise<{ database: TestDatabase; client: pg.Client; major: number }> {
  const database = await createDatabase(undefined, { version });
  const client = await connect(database);
  const major = await majorOf(client);
  await client.query(everyType(major, schema));
  return { database, client, major };
}

async function postgresSubject(version?: number): Promise<SourceSubject> {
  const { database, client } = await prepare(version);
  return {
    open: () => openSource({ url: database.url }),
    tables: {
      keyed: named('many'),
      keyless: named('no_key'),
      empty: named('empty'),
      all: [...everyTypeTables, 'a_view', 'a_matview'].map(named),
    },
    async count(name) {
      const only = name.name === 'parent' ? 'ONLY ' : '';
      const { rows } = await client.query(`SELECT count(*)::int AS n FROM ${only}${quoted(name)}`);
      return rows[0].n;
    },
    async insert(name) {
      await client.query(`INSERT INTO ${quoted(name)} DEFAULT VALUES`);
    },
    async replaceStorage(name) {
      await client.query(`CREATE TEMP TABLE kept AS SELECT id, serial_no, name, amount, at, ref FROM ${quoted(name)};
        TRUNCATE ${quoted(name)} CASCADE;
        INSERT INTO ${quoted(name)} (id, serial_no, name, amount, at, ref) SELECT * FROM kept; DROP TABLE kept`);
    },
    async cutConnections() {
      await client.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'godwit' AND datname = current_database()`);
    },
    async [Symbol.asyncDispose]() {
      await client.end();
      await database.drop();
    },
  };
}

const versions = [undefined, 13, 14, 15, 16, 17] as const;
for (const version of versions) {
  const gone = await missing(version === undefined ? 'postgres' : `postgres/${version}`);
  if (!gone) testSource(`PostgreSQL ${version ?? 'of the package'} as a source`, () => postgresSubject(version));
}

describe('PostgreSQL, beyond what every source does', () => {
  let database: TestDatabase;
  let client: pg.Client;
  let source: Source;
  let major: number;
  const rowsOf = async (sql: string): Promise<unknown[][]> =>
    (await client.query({ text: sql, rowMode: 'array' })).rows as unknown[][];

  beforeAll(async () => {
    ({ database, client, major } = await prepare());
    source = openSource({ url: database.url });
  });
  afterAll(async () => {
    await source?.[Symbol.asyncDispose]();
    await client?.end();
    await database?.drop();
  });

  test('every type has a logical type, and every value its canonical form', async () => {
    const table = await source.describe(named('every type'));
    const rows = await readRows(source, table, whole);
    const value = (id: bigint, column: string) =>
      rows.find((row) => row[0] === id)?.[table.columns.findIndex(({ name }) => name === column)];
    expect(value(2n, 'v_int8')).toBe(9223372036854775807n);
    expect(value(2n, 'v_numeric_50_20')).toBe('123456789012345678901234567890.12345678901234567890');
    expect(value(2n, 'v_text')).toBe('tab\tnew\nline\rcr back\\slash "double" \'single\' ,comma \\N');
    expect(value(2n, 'v_bytea')).toEqual(Buffer.from('00ff5c0a0922', 'hex'));
    expect(value(2n, 'v_char')).toBe('ab   ');
    expect(value(2n, 'v_texts')).toEqual(['a,b', null, 'NULL', '', '"q"', 'back\\slash', '{x}', ' sp ']);
    expect(value(2n, 'v_times')).toEqual(['infinity', '2024-01-01T00:00:00.123456Z']);
    expect(value(2n, 'v_boxes')).toEqual(['(1,1),(0,0)', '(2,2),(1,1)']);
    expect(value(3n, 'v_date')).toBe('-000043-03-15');
    expect(value(3n, 'v_timestamptz')).toBe('-infinity');
    expect(value(3n, 'v_text')).toBe('');
    expect(value(1n, 'v_text')).toBeNull();
    expect(value(4n, 'v_ints')).toEqual([[[1, 2], [3, 4]], [[5, 6], [7, null]]]); // biome-ignore format: a cube
    expect(value(4n, 'v_timestamptz')).toBe('+294276-12-31T23:59:59.999999Z');
    expect(value(5n, 'v_timestamp')).toBe('9999-12-31T23:59:59.999999');
    expect(value(5n, 'v_text')).toBe('\\N');
    expect(Object.is(value(5n, 'v_float8'), -0)).toBe(true);
    expect(value(6n, 'v_date')).toBe('+000000-12-31');
    expect(value(-9223372036854775808n, 'v_date')).toBe('+010000-01-01');
  });

  test('text is what the server itself says of every value', async () => {
    const table = await source.describe(named('many'));
    await client.query(`SET TimeZone = 'UTC'`);
    const [expected] = await rowsOf(
      `SELECT md5(string_agg(concat_ws(E'\\t', ${table.columns.map(({ name }) => `coalesce(${pg.escapeIdentifier(name)}::text, '\\N')`).join(', ')}), E'\\n' ORDER BY id)) FROM nasty.many`,
    );
    const copied = await readBytes(source, table, whole, { format: 'pg-text' });
    const lines = copied.bytes.toString().split('\n').slice(0, -1);
    lines.sort((a, b) => Number(a.split('\t')[0]) - Number(b.split('\t')[0]));
    const { createHash } = await import('node:crypto');
    expect(createHash('md5').update(lines.join('\n')).digest('hex')).toBe(expected?.[0]);
  });

  test('framed bytes are the same bytes with their headers', async () => {
    const table = await source.describe(named('every type'));
    for (const format of ['pg-text', 'csv'] as const) {
      const bare = await readBytes(source, table, whole, { format });
      const framed = await readBytes(source, table, whole, { format, framed: true });
      const payloads: Buffer[] = [];
      for (let at = 0; at < framed.bytes.length; ) {
        expect(framed.bytes[at]).toBe(0x64);
        const size = framed.bytes.readUInt32BE(at + 1);
        payloads.push(framed.bytes.subarray(at + 5, at + 1 + size));
        at += 1 + size;
      }
      expect(Buffer.concat(payloads).equals(bare.bytes)).toBe(true);
      expect(framed.rows).toBe(bare.rows);
      expect(payloads).toHaveLength(bare.rows as number);
    }
  });

  test('CSV tells NULL from the empty text, and passes on what is out of range', async () => {
    const table = await source.describe(named('every type'));
    const csv = async (column: string, misfit?: 'stop' | 'null' | 'clamp') =>
      (
        await readBytes(source, table, whole, {
          format: 'csv',
          columns: [
            { name: 'id', shape: 'native' },
            { name: column, shape: 'native', guard: misfit && { misfit } },
          ],
          where: [{ column: 'id', op: '<=', values: [5] }],
        })
      ).bytes
        .toString()
        .split('\n')
        .sort();
    expect(await csv('v_varchar')).toContain('1,');
    expect(await csv('v_varchar')).toContain('3,""');
    expect(await csv('v_date', 'stop')).toEqual(
      expect.arrayContaining(['1,', '2,infinity', '3,0044-03-15 BC', '5,0001-01-01']),
    );
    expect(await csv('v_date', 'null')).toEqual(expect.arrayContaining(['1,', '2,', '3,', '5,0001-01-01']));
    expect(await csv('v_date', 'clamp')).toEqual(
      expect.arrayContaining(['1,', '2,9999-12-31', '3,0001-01-01', '4,9999-12-31']),
    );
    expect(await csv('v_bytea')).toEqual(expect.arrayContaining(['1,', '2,00ff5c0a0922', '3,""']));
    expect(await csv('v_numeric_12_2', 'null')).toEqual(expect.arrayContaining(['2,9999999999.99', '3,']));
  });

  test('a row of 50 MB passes', async () => {
    await client.query(`CREATE TABLE nasty.big (id int PRIMARY KEY, v text);
      INSERT INTO nasty.big VALUES (1, 'x'), (2, repeat('0123456789', 5000000)), (3, 'y')`);
    const table = await source.describe(named('big'));
    const rows = await readRows(source, table, whole);
    expect(rows.map((row) => String(row[1]).length)).toEqual([1, 50_000_000, 1]);
    expect((await readBytes(source, table, whole, { format: 'pg-binary', framed: true })).rows).toBe(3);
  });

  test('binary is offered for built-in types, labels and domains alone', async () => {
    const target = { system: 'postgres' } as Target;
    const table = await source.describe(named('every type'));
    const binary = table.columns.filter(({ name }) => source.exactFormats(table, [name], target)[0] === 'pg-binary');
    const names = binary.map(({ name }) => name);
    expect(names).toEqual(
      expect.arrayContaining(['v_mood', 'v_price2', 'v_ints', 'v_jsonb', 'v_numeric', 'v_timestamptz']),
    );
    for (const name of ['v_money', 'v_regclass', 'v_moods', 'v_address', 'v_addresses', 'v_xml', 'v_floats']) {
      expect(names, name).not.toContain(name);
    }
  });

  test('extras hold what another PostgreSQL needs to make the table again', async () => {
    const table = await source.describe(named('many'));
    const extras = postgresExtras(table);
    expect(extras?.version).toBe(major);
    expect(extras?.columns.id?.sequence).toMatchObject({
      kind: 'identity default',
      start: '7',
      increment: '3',
      cache: '5',
    });
    expect(extras?.columns.serial_no?.sequence).toMatchObject({ kind: 'serial', last: '5000' });
    expect(extras?.columns.lower_name?.generated).toEqual({ expression: 'lower(name)', kind: 'stored' });
    expect(extras?.indexes[0]?.using).toBe('USING btree (lower(name) DESC, amount) WHERE (amount > (10)::numeric)');
    expect(extras?.comment).toBe("many rows; it's fine");
    const types = postgresExtras(await source.describe(named('every type')))?.types.map((type) => type.name.name);
    expect(types).toEqual(['mood', 'price', 'price2', 'address', 'floats']);
    const child = await source.describe(named('composite_key'));
    expect(child.references).toEqual([named('many')]);
    expect(postgresExtras(child)?.foreignKeys[0]?.rest).toBe(' ON DELETE SET NULL DEFERRABLE');
    const parts = postgresExtras(await source.describe(named('events')))?.partitioning;
    expect(parts?.parts.map((part) => part.name.name)).toEqual([
      'events_2023',
      'events_2024',
      'events_rest',
      'events_2024_a',
      'events_2024_b',
    ]);
  });

  test('a thousand tables are described in about a second', async () => {
    await client.query(`CREATE SCHEMA thousand; DO $$ BEGIN FOR i IN 1..1000 LOOP
      EXECUTE format('CREATE TABLE thousand.t%s (id serial PRIMARY KEY, a text, b numeric(10,2), c timestamptz DEFAULT now())', i);
      END LOOP; END $$`);
    const names = Array.from({ length: 1000 }, (_, i) => ({ schema: 'thousand', name: `t${i + 1}` }));
    await source.tables();
    const timed = async (some: typeof names) => {
      const began = performance.now();
      const described = await source.describeAll(some);
      return { described, took: performance.now() - began };
    };
    const one = Math.min(...[await timed(names.slice(0, 1)), await timed(names.slice(0, 1))].map(({ took }) => took));
    const { described: tables, took } = await timed(names);
    expect(tables.every((table) => !(table instanceof Error) && table.key[0] === 'id')).toBe(true);
    // Measured in single ones, where the machine is busy.
    expect(took).toBeLessThan(Math.max(4000, 200 * one));
    await client.query('DROP SCHEMA thousand CASCADE');
  });

  test('a column dropped and made again is SOURCE_CHANGED, not a column of NULLs', async () => {
    await client.query(
      'CREATE TABLE nasty.altered (id int PRIMARY KEY, v int); INSERT INTO nasty.altered VALUES (1, 1)',
    );
    const table = await source.describe(named('altered'));
    await using snapshot = await source.open();
    await client.query('ALTER TABLE nasty.altered DROP v, ADD v int');
    expect(await codeOf(readRows(source, table, whole, { snapshot: under(snapshot) }))).toBe('SOURCE_CHANGED');
    const again = await source.describe(named('altered'));
    await client.query('ALTER TABLE nasty.altered RENAME v TO w');
    expect(await codeOf(readRows(source, again, whole))).toBe('SOURCE_CHANGED');
    await client.query('DROP TABLE nasty.altered');
    expect(await codeOf(readRows(source, again, whole))).toBe('SOURCE_CHANGED');
  });

  test('a truncated partition and a new one are SOURCE_CHANGED', async () => {
    const table = await source.describe(named('events'));
    await client.query('TRUNCATE nasty.events_2024_a');
    expect(await codeOf(readRows(source, table, whole))).toBe('SOURCE_CHANGED');
    const again = await source.describe(named('events'));
    await client.query(
      `CREATE TABLE nasty.events_1999 PARTITION OF nasty.events FOR VALUES FROM ('1999-01-01') TO ('2000-01-01')`,
    );
    expect(await codeOf(readRows(source, again, whole))).toBe('SOURCE_CHANGED');
  });

  test('a random UUID key is cut by blocks under a snapshot, by keys without', async () => {
    await client.query(`CREATE TABLE nasty.scattered (id uuid PRIMARY KEY, v text);
      INSERT INTO nasty.scattered SELECT md5(g::text)::uuid, repeat('x', 50) FROM generate_series(1, 20000) g; ANALYZE nasty.scattered`);
    const table = await source.describe(named('scattered'));
    await using snapshot = await source.open();
    await client.query(
      `UPDATE nasty.scattered SET v = v || 'y' WHERE v LIKE 'x%'; DELETE FROM nasty.scattered WHERE id < '80000000-0000-0000-0000-000000000000'`,
    );
    const size = { rows: 3000, bytes: 1e12 };
    const kinds = async (snapshotRef: typeof ownMoment) =>
      Array.fromAsync(source.split(table, { size, snapshot: snapshotRef, signal: never }));
    const chunks = await kinds(under(snapshot));
    expect(new Set(chunks.map(({ kind }) => kind))).toEqual(new Set([major >= 14 ? 'blocks' : 'keys']));
    expect(chunks.length).toBeGreaterThan(5);
    const ids = new Set<unknown>();
    let rows = 0;
    for (const chunk of chunks) {
      for (const row of await readRows(source, table, chunk, { snapshot: under(snapshot) })) {
        ids.add(row[0]);
        expect(row[1]).toBe('x'.repeat(50));
        rows++;
      }
    }
    expect([rows, ids.size]).toEqual([20000, 20000]);
    expect((await kinds(ownMoment)).every(({ kind }) => kind === 'keys')).toBe(true);
    expect(await codeOf(readRows(source, table, chunks[0] ?? whole))).toBe('SNAPSHOT_LOST');
  });

  test('a chunk is read by its range and nothing else', async () => {
    const plans = async (name: string, size: number, pattern: RegExp) => {
      const table = await source.describe(named(name));
      await using snapshot = await source.open();
      const options = { size: { rows: size, bytes: 1e12 }, snapshot: under(snapshot), signal: never };
      const chunks = await Array.fromAsync(source.split(table, options));
      for (const chunk of chunks) {
        const sql = chunkSelect(table, chunk, wantRows(table), major);
        await client.query('BEGIN');
        await client.query(planSettings(chunk));
        const plan = (await rowsOf(`EXPLAIN (COSTS OFF) ${sql}`)).map(([line]) => line).join('\n');
        await client.query('ROLLBACK');
        expect(plan).toMatch(pattern);
        expect(plan).not.toMatch(/Filter|Seq Scan/);
      }
    };
    await plans('many', 1000, /^Index Scan using many_pkey[\s\S]*Index Cond/);
    await plans('composite_key', 300, /^Index Scan using composite_key_pkey[\s\S]*Index Cond: \(\(?ROW/);
    await plans('scattered', 3000, major >= 14 ? /^Tid Range Scan[\s\S]*TID Cond/ : /Index Cond/);
  });

  test('an aborted read leaves nothing running on the server', async () => {
    await client.query('CREATE VIEW nasty.slow AS SELECT id, pg_sleep(30)::text AS v FROM nasty.many');
    const table = await source.describe(named('slow'));
    const began = performance.now();
    const signal = AbortSignal.timeout(300);
    await expect(readRows(source, table, whole, { signal })).rejects.toThrow(/timeout/i);
    expect(performance.now() - began).toBeLessThan(15_000); // of 30 s and more
    await expect
      .poll(
        async () =>
          (
            await rowsOf(`SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database()
            AND application_name = 'godwit' AND state <> 'idle' AND query LIKE '%slow%'`)
          )[0]?.[0],
        { timeout: 5000 },
      )
      .toBe(0);
    await client.query('DROP VIEW nasty.slow');
  });

  test('a missing privilege names its table, and the others are described', async () => {
    await client.query(`DROP ROLE IF EXISTS godwit_reader; CREATE ROLE godwit_reader LOGIN PASSWORD 'reader-secret';
      GRANT USAGE ON SCHEMA nasty TO godwit_reader; GRANT SELECT ON nasty.many, nasty.empty TO godwit_reader;
      ALTER TABLE nasty.empty ENABLE ROW LEVEL SECURITY`);
    const url = new URL(database.url);
    url.username = 'godwit_reader';
    url.password = 'reader-secret';
    await using reader = openSource({ url: url.href });
    const [many, keyless, empty] = await reader.describeAll([named('many'), named('no_key'), named('empty')]);
    expect(many).not.toBeInstanceOf(Error);
    expect(keyless).toMatchObject({ code: 'PRIVILEGE_MISSING', where: { table: 'nasty.no_key' } });
    expect(empty).toMatchObject({ code: 'PRIVILEGE_MISSING', where: { table: 'nasty.empty' } });
    expect((await reader.check()).find(({ name }) => name === 'privileges')?.outcome).toBe('warn');
    expect(await reader.identity()).toBe(await source.identity());
    await client.query(
      'ALTER TABLE nasty.empty DISABLE ROW LEVEL SECURITY; DROP OWNED BY godwit_reader; DROP ROLE godwit_reader',
    );
  });

  test('each way of not getting in has its code', async () => {
    const broken = async (change: (url: URL) => void, more: object = {}): Promise<string> => {
      const url = new URL(database.url);
      change(url);
      await using other = openSource({ url: url.href, ...more });
      const failed = (await other.check()).find(({ outcome }) => outcome === 'fail');
      expect(failed?.fix).toBeTruthy();
      return `${failed?.name} ${await codeOf(other.tables())}`;
    };
    expect(await broken((url) => (url.password = 'wrong'))).toBe('login LOGIN_REFUSED');
    expect(await broken((url) => (url.pathname = '/nowhere'))).toBe('login DATABASE_MISSING');
    expect(await broken((url) => (url.port = '1'))).toBe('server CONNECTION_FAILED');
    expect(await broken((url) => (url.hostname = 'nowhere.invalid'))).toMatch(/UNKNOWN_HOST|CONNECTION_FAILED/);
    expect(await broken(() => {}, { sslmode: 'require' })).toBe('server TLS_FAILED');
  });

  test('no error shows a value', async () => {
    await client.query(
      `CREATE TABLE nasty.canary (id int PRIMARY KEY, v text); INSERT INTO nasty.canary VALUES (1, 'canary-0815')`,
    );
    const table = await source.describe(named('canary'));
    const column = { name: 'v', shape: 'json' } as const;
    await client.query(`CREATE VIEW nasty.breaks AS SELECT id, v::int AS v FROM nasty.canary`);
    const view = await source.describe(named('breaks'));
    expect(await readRows(source, table, whole, { columns: [column] })).toEqual([['"canary-0815"']]);
    const error = await readRows(source, view, whole).catch((error: unknown) => error);
    const { inspect } = await import('node:util');
    expect(error).toMatchObject({ code: 'VALUE_REFUSED', where: { table: 'nasty.breaks', native: '22P02' } });
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('canary-0815');
  });

  describe('key ranges, whatever the type of the key', () => {
    const int8 = fc
      .oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.bigInt({ min: -5n, max: 5n }))
      .map(String);
    const word = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 6 }),
      fc.constantFrom('', ' ', "'", '\\', '\\\\n', 'A', 'a', 'é', 'e\u0301', 'NULL', '"', '{}', '\u{1f426}'),
    );
    const text = word.filter((value) => !value.includes('\0') && value.isWellFormed());
    const stamp = fc.oneof(
      fc.constantFrom('infinity', '-infinity', '4713-01-01 00:00:00+00 BC', '294276-12-31 23:59:59.999999+00'),
      fc
        .date({ noInvalidDate: true, min: new Date('0001-01-02'), max: new Date('9999-12-30') })
        .map((date) => date.toISOString()),
    );
    const number = fc.oneof(
      fc.constantFrom('NaN', '0', '0.00', '-0.000000000000000000001', '1e300', '-1e300'),
      fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
    );
    const cases: readonly { types: readonly string[]; key: fc.Arbitrary<readonly string[]> }[] = [
      { types: ['bigint'], key: fc.tuple(int8) },
      { types: ['text'], key: fc.tuple(text) },
      { types: ['text COLLATE "C"'], key: fc.tuple(text) },
      { types: ['uuid'], key: fc.tuple(fc.uuid()) },
      { types: ['numeric'], key: fc.tuple(number) },
      { types: ['double precision'], key: fc.tuple(fc.oneof(number, fc.constantFrom('-0', 'Infinity', '-Infinity'))) },
      { types: ['timestamptz'], key: fc.tuple(stamp) },
      {
        types: ['bytea'],
        key: fc.tuple(fc.uint8Array({ maxLength: 4 }).map((bytes) => `\\x${Buffer.from(bytes).toString('hex')}`)),
      },
      {
        types: ['char(4)'],
        key: fc.tuple(fc.string({ unit: fc.constantFrom('a', 'B', ' ', '\\', "'"), maxLength: 4 })),
      },
      {
        types: ['boolean', 'smallint'],
        key: fc.tuple(fc.constantFrom('t', 'f'), fc.integer({ min: -9, max: 9 }).map(String)),
      },
      { types: ['text', 'bigint', 'timestamptz'], key: fc.tuple(text, int8, stamp) },
      {
        types: ['nasty.mood', 'int'],
        key: fc.tuple(fc.constantFrom('sad', '', 'happy,\\tvery'), fc.integer({ min: -9, max: 9 }).map(String)),
      },
      { types: ['nasty.email'], key: fc.tuple(text.map((value) => `${value}@`)) },
      { types: ['inet'], key: fc.tuple(fc.oneof(fc.ipV4(), fc.ipV6())) },
      {
        types: ['integer[]'],
        key: fc.tuple(fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 3 }).map((list) => `{${list}}`)),
      },
    ];
    test.each(cases)('$types', async ({ types, key }) => {
      const columns = types.map((_, i) => `k${i}`);
      const body = `CREATE TABLE nasty.ranges (${types.map((type, i) => `k${i} ${type}`).join(', ')}, n int, PRIMARY KEY (${columns.join(', ')}))`;
      const property = fc.asyncProperty(
        fc.array(key, { maxLength: 60 }),
        fc.integer({ min: 1, max: 25 }),
        async (keys, rows) => {
          await client.query(`DROP TABLE IF EXISTS nasty.ranges; ${body}`);
          const arrays = types.map((_, i) => keys.map((one) => one[i]));
          await client.query(
            `INSERT INTO nasty.ranges SELECT ${types.map((type, i) => `(u.k${i})::${type.replace(/ COLLATE.*/, '')}`).join(', ')}, row_number() OVER ()
             FROM unnest(${types.map((_, i) => `$${i + 1}::text[]`).join(', ')}) AS u(${columns.join(', ')}) ON CONFLICT DO NOTHING`,
            arrays,
          );
          const table = { ...(await source.describe(named('ranges'))), rows: 1e6, bytes: 1e6 } satisfies Table;
          const expected = (await rowsOf('SELECT n FROM nasty.ranges ORDER BY n')).map(([n]) => n);
          const found: unknown[] = [];
          const sizes: number[] = [];
          for await (const chunk of source.split(table, {
            size: { rows, bytes: 1e12 },
            snapshot: ownMoment,
            signal: never,
          })) {
            const part = await readRows(source, table, JSON.parse(JSON.stringify(chunk)), {
              columns: [{ name: 'n', shape: 'native' }],
            });
            sizes.push(part.length);
            found.push(...part.map(([n]) => n));
          }
          expect(found.sort((a, b) => Number(a) - Number(b))).toEqual(expected);
          // Every chunk but the last is full.
          expect(sizes.slice(0, -1).every((size) => size === rows)).toBe(true);
        },
      );
      await fc.assert(property, { numRuns: 12 });
    });
  });

  test('the canonical text of a table is the same whichever way it was cut', async () => {
    const table = await source.describe(named('composite_key'));
    const rows = await readRows(source, table, whole);
    const parts = [];
    for await (const chunk of source.split(table, {
      size: { rows: 7, bytes: 1e12 },
      snapshot: ownMoment,
      signal: never,
    })) {
      parts.push(...(await readRows(source, table, chunk)));
    }
    expect(text(parts)).toEqual(text(rows));
  });
});
