import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Chunk, ReadColumn, Shape, Source, Table } from '../../connectors/contract.ts';
import { mysqlExtras } from '../../connectors/mysql/extras.ts';
import { openSource } from '../../connectors/mysql/source.ts';
import type { Value } from '../../connectors/types.ts';
import type { MysqlKind } from '../../servers/mysql.ts';
import { createMysqlDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { type MysqlHas, mysqlEveryTypeOf, mysqlEveryTypeTables, mysqlHas, mysqlOddDates } from './mysql-every-type.ts';
import {
  codeOf,
  never,
  ownMoment,
  readBytes,
  readRows,
  type SourceSubject,
  testSource,
  text,
  wantRows,
  whole,
} from './source.ts';

type Prepared = { database: TestDatabase; client: mysql.Connection };

async function prepare(kind: MysqlKind): Promise<Prepared> {
  const database = await createMysqlDatabase(kind);
  const client = await mysql.createConnection({ uri: database.url, multipleStatements: true });
  for (const statement of await mysqlEveryTypeOf(kind, client)) await client.query(statement);
  return { database, client };
}

async function subject(kind: MysqlKind): Promise<SourceSubject> {
  const { database, client } = await prepare(kind);
  const named = (name: string) => ({ schema: database.name, name });
  await client.query('INSERT INTO many (id) VALUES (10), (13), (16)');
  return {
    open: () => openSource({ url: database.url, sslmode: 'disable' }),
    tables: {
      keyed: named('many'),
      keyless: named('no_key'),
      empty: named('empty'),
      all: [...mysqlEveryTypeTables, mysqlOddDates, 'a_view'].map(named),
    },
    async count({ name }) {
      const [rows] = await client.query<mysql.RowDataPacket[]>('SELECT COUNT(*) AS n FROM ??', [name]);
      return rows[0]?.n;
    },
    async insert({ name }) {
      await client.query('INSERT INTO ?? () VALUES ()', [name]);
    },
    async replaceStorage({ name }) {
      await client.query(
        `SET foreign_key_checks = 0; DROP TABLE IF EXISTS kept; CREATE TABLE kept LIKE ??; INSERT INTO kept (id, name, amount, at, ref) SELECT id, name, amount, at, ref FROM ??;
         TRUNCATE ??; INSERT INTO ?? (id, name, amount, at, ref) SELECT id, name, amount, at, ref FROM kept; DROP TABLE kept`,
        [name, name, name, name],
      );
    },
    async cutConnections() {
      const [rows] = await client.query<mysql.RowDataPacket[]>(
        'SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()',
      );
      for (const row of rows) await client.query(`KILL ${row.id ?? row.ID}`).catch(() => {});
    },
    async [Symbol.asyncDispose]() {
      await client.end();
      await database.drop();
    },
  };
}

for (const kind of ['mysql', 'mariadb'] as const) {
  const gone = await missing(kind);
  if (!gone) testSource(`${kind} as a source`, () => subject(kind));

  describe.skipIf(gone)(`${kind}, beyond what every source does`, () => {
    let database: TestDatabase;
    let client: mysql.Connection;
    let source: Source;
    let has: MysqlHas;
    const named = (name: string) => ({ schema: database.name, name });
    const shaped = (table: Table, shape: Shape, ...names: string[]): ReadColumn[] =>
      (names.length > 0 ? names : table.columns.map(({ name }) => name)).map((name) => ({ name, shape }));
    const make = async (name: string, columns: string, rows = '') => {
      await client.query(`SET SESSION sql_mode = 'ALLOW_INVALID_DATES'; DROP TABLE IF EXISTS \`${name}\`;
        CREATE TABLE \`${name}\` (${columns})${rows && `; INSERT INTO \`${name}\` ${rows}`}`);
      return await source.describe(named(name));
    };
    const split = (table: Table, rows: number, after?: Chunk) =>
      Array.fromAsync(source.split(table, { size: { rows, bytes: 1e12 }, snapshot: ownMoment, after, signal: never }));
    /** Together the chunks hold every row once. */
    const covered = async (table: Table, chunks: readonly Chunk[]) => {
      const sizes: number[] = [];
      const rows: string[] = [];
      for (const chunk of chunks) {
        const some = await readRows(source, table, chunk);
        sizes.push(some.length);
        rows.push(...text(some));
      }
      expect(rows.sort()).toEqual(text(await readRows(source, table, whole)).sort());
      return sizes;
    };

    beforeAll(async () => {
      ({ database, client } = await prepare(kind));
      const [[row]] = await client.query<mysql.RowDataPacket[]>('SELECT VERSION() AS v');
      has = mysqlHas(kind, row?.v);
      source = openSource({ url: database.url, sslmode: 'disable' });
    });
    afterAll(async () => {
      await source?.[Symbol.asyncDispose]();
      await client?.end();
      await database?.drop();
    });

    test('every type has its canonical form, exactly', async () => {
      const table = await source.describe(named('every type'));
      const rows = await readRows(source, table, whole);
      const value = (id: bigint, column: string): Value | undefined =>
        rows.find((row) => row[0] === id)?.[table.columns.findIndex(({ name }) => name === column)];
      expect(value(2n, 'v_tiny1')).toBe(2);
      expect(value(2n, 'v_ubig')).toBe(18446744073709551615n);
      expect(value(2n, 'v_zero')).toBe(42n);
      expect(value(2n, 'v_decimal')).toBe('99999999999999999999999999999999999.999999999999999999999999999999');
      expect(value(4n, 'v_decimal_12_2')).toBe('0.10');
      expect(value(4n, 'v_float')).toBe(0.1);
      expect(value(5n, 'v_float')).toBe(16777216);
      expect(value(6n, 'v_double')).toBe(5e-324);
      expect(value(2n, 'v_double')).toBe(1.7976931348623157e308);
      expect(value(2n, 'v_float_2')).toBe(12345.67);
      expect(value(2n, 'v_bit1')).toBe(true);
      expect(value(3n, 'v_bit1')).toBe(false);
      expect(value(2n, 'v_bit8')).toBe(0b10100101);
      expect(value(2n, 'v_bit64')).toBe(18446744073709551615n);
      expect(value(2n, 'v_varchar')).toBe('tab\tnl\ncr\r\\N');
      expect(value(2n, 'v_text')).toBe('ünïcödé 🐦 漢字 ,comma');
      expect(value(2n, 'v_longtext')).toBe('lång🐦'.repeat(20000));
      expect(value(2n, 'v_latin1')).toBe('é€ß');
      expect(value(2n, 'v_utf16')).toBe('🐦x');
      expect(value(3n, 'v_text')).toBe('\0\x1a\b');
      expect(value(2n, 'v_binary')).toEqual(Buffer.from('00ff0000', 'hex'));
      expect(value(2n, 'v_longblob')).toEqual(Buffer.from('00ff5c0a'.repeat(1000), 'hex'));
      expect(value(3n, 'v_blob')).toEqual(Buffer.alloc(0));
      expect(value(2n, 'v_enum')).toBe('it\'s "ok"');
      expect(value(2n, 'v_set')).toBe("a,d'e");
      expect(value(3n, 'v_date')).toBe('0001-01-01');
      expect(value(2n, 'v_datetime3')).toBe('2024-02-29T23:59:59.999');
      expect(value(3n, 'v_datetime6')).toBe('1000-01-01T00:00:00.000001');
      expect(value(2n, 'v_timestamp6')).toBe('2038-01-19T03:14:07.999999Z');
      expect(value(2n, 'v_time')).toBe('838:59:59');
      expect(value(3n, 'v_time6')).toBe('-00:00:00.000001');
      expect(value(5n, 'v_time6')).toBe('00:00:00');
      expect(value(18446744073709551615n, 'v_time6')).toBe('00:00:00.5');
      expect(value(4n, 'v_year')).toBe(0);
      expect(value(2n, 'v_point')).toMatch(/^\\x[0-9a-f]{50}$/);
      expect(value(2n, 'v_stored')).toBe(4294967294n);
      expect(value(2n, 'v_invisible')).toBe(-1);
      expect(value(1n, 'v_text')).toBeNull();
      if (kind === 'mariadb') {
        expect(value(2n, 'v_inet6')).toBe('2001:db8::1');
        if (has.uuid) expect(value(2n, 'v_uuid')).toBe('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11');
      }
      const odd = await source.describe(named(mysqlOddDates));
      const dates = await readRows(source, odd, whole);
      expect(dates[1]).toEqual([2, '0000-00-00', '0000-00-00T00:00:00', '0000-00-00T00:00:00', '0000-00-00T00:00:00Z']);
      expect(dates[2]?.slice(1, 4)).toEqual(['2024-00-00', '2024-00-00T00:00:00', '2024-01-00T00:00:00.000001']);
      expect(dates[4]?.[1]).toBe('2023-02-31');
    });

    test('types and native spellings are complete', async () => {
      const table = await source.describe(named('every type'));
      const of = (name: string) => {
        const column = table.columns.find((one) => one.name === name);
        return [column?.type, column?.native];
      };
      // MySQL 8.0.19 and later do not tell a width.
      const wide = kind === 'mariadb' || !has.collation0900;
      expect(of('v_ubig')).toEqual([{ kind: 'uint64' }, wide ? 'bigint(20) unsigned' : 'bigint unsigned']);
      expect(of('v_tiny1')).toEqual([{ kind: 'int8' }, 'tinyint(1)']);
      expect(of('v_decimal')).toEqual([{ kind: 'decimal', precision: 65, scale: 30 }, 'decimal(65,30)']);
      expect(of('v_latin1')[1]).toBe('varchar(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci');
      expect(of('v_enum')[0]).toEqual({ kind: 'enum', values: ['sad', 'it\'s "ok"', '', 'a\\b,\t'] });
      expect(of('v_json')).toEqual([{ kind: 'json' }, 'json']);
      expect(of('v_datetime6')[0]).toEqual({ kind: 'timestamp', wide: true, precision: 6 });
      expect(of('v_timestamp')[0]).toEqual({ kind: 'timestamptz', wide: true, precision: 0 });
      expect(of('v_bit1')[0]).toEqual({ kind: 'bool' });
      expect(table.columns.filter((column) => column.generated).map(({ name }) => name)).toEqual([
        'v_stored',
        'v_virtual',
      ]);
    });

    test('pg-text and csv say the same as the canonical rows', async () => {
      for (const name of [...mysqlEveryTypeTables, mysqlOddDates]) {
        const table = await source.describe(named(name));
        const rows = await readRows(source, table, whole);
        const lines = (await readBytes(source, table, whole, { format: 'pg-text' })).bytes.toString().split('\n');
        expect(lines.pop()).toBe('');
        const expected = rows.map((row) => row.map((value, i) => pgText(value, table, i)).join('\t'));
        expect(
          lines.map((line) =>
            line
              .split('\t')
              .map((cell, i) => (cell === '\\N' ? cell : normal(cell, table, i)))
              .join('\t'),
          ),
          name,
        ).toEqual(expected);
        const csv = (await readBytes(source, table, whole, { format: 'csv' })).bytes.toString();
        expect(
          parseCsv(csv).map((row) => row.map((cell, i) => normal(cell, table, i))),
          name,
        ).toEqual(rows.map((row) => row.map((value, i) => csvText(value, table, i))));
      }
    });

    test('text shapes are the same in every format', async () => {
      const table = await source.describe(named('every type'));
      const columns = shaped(table, 'text');
      const rows = await readRows(source, table, whole, { columns });
      const lines = (await readBytes(source, table, whole, { columns, format: 'pg-text' })).bytes
        .toString()
        .split('\n');
      const cells = lines.slice(0, -1).map((line) => line.split('\t').map(unescaped));
      expect(cells).toEqual(rows);
      const csv = parseCsv((await readBytes(source, table, whole, { columns, format: 'csv' })).bytes.toString());
      expect(csv).toEqual(rows);
      const at = (name: string) => table.columns.findIndex((column) => column.name === name);
      const second = rows.find((row) => row[0] === '2') ?? [];
      expect(second[at('v_point')]).toMatch(/^POINT\(1\.5 -2\.5\)$/);
      expect(second[at('v_bit1')]).toBe('t');
      expect(second[at('v_binary')]).toBe('\\x00ff0000');
      expect(second[at('v_timestamp6')]).toBe('2038-01-19 03:14:07.999999+00');
      expect(second[at('v_float')]).toBe('3.40282e+38');
    });

    test('JSON shapes are JSON, and constants come in their places', async () => {
      const table = await source.describe(named('every type'));
      const rows = await readRows(source, table, whole, { columns: shaped(table, 'json') });
      for (const row of rows) for (const value of row) if (value !== null) JSON.parse(value as string);
      const columns: ReadColumn[] = [
        { name: 'at', shape: 'native', constant: { value: '2024-05-01T10:00:00.250Z', type: { kind: 'timestamptz' } } },
        { name: 'id', shape: 'native' },
        { name: 'note', shape: 'native', constant: { value: "it's\ta \\", type: { kind: 'text' } } },
      ];
      const keyed = await source.describe(named('parent'));
      expect(await readRows(source, keyed, whole, { columns })).toEqual([
        ['2024-05-01T10:00:00.25Z', 1, "it's\ta \\"],
        ['2024-05-01T10:00:00.25Z', 2, "it's\ta \\"],
      ]);
      const { bytes } = await readBytes(source, keyed, whole, { columns, format: 'pg-text' });
      expect(bytes.toString().split('\n')[0]).toBe("2024-05-01 10:00:00.25+00\t1\tit's\\ta \\\\");
    });

    test('what a guard mends is NULL or the nearest', async () => {
      const table = await source.describe(named(mysqlOddDates));
      const guarded = (misfit: 'null' | 'clamp' | 'stop'): ReadColumn[] =>
        table.columns.map(({ name }) => ({ name, shape: 'native', guard: { misfit } }));
      const ids = (rows: readonly (readonly Value[])[]) => new Map(rows.map((row) => [row[0], row.slice(1)]));
      const nulls = ids(await readRows(source, table, whole, { columns: guarded('null') }));
      expect(nulls.get(1)).toEqual([
        '2024-02-29',
        '2024-02-29T01:02:03',
        '2024-02-29T01:02:03.000004',
        '2024-02-29T01:02:03Z',
      ]);
      for (const id of [2, 3, 4, 5, 6]) expect(nulls.get(id), `row ${id}`).toEqual([null, null, null, null]);
      const near = ids(await readRows(source, table, whole, { columns: guarded('clamp') }));
      expect(near.get(2)).toEqual(['0001-01-01', '0001-01-01T00:00:00', '0001-01-01T00:00:00', '0001-01-01T00:00:00Z']);
      expect(near.get(3)).toEqual(['2024-01-01', '2024-01-01T00:00:00', '2024-01-01T00:00:00.000001', null]);
      expect(near.get(4)?.slice(0, 2)).toEqual(['0001-01-01', '0001-01-01T10:00:00']);
      expect(near.get(5)?.slice(0, 2)).toEqual(['2023-02-28', '2023-02-28T12:00:00']);
      expect(near.get(6)).toEqual([null, null, null, null]);
      const times = await make(
        'times',
        'id int primary key, t time(3)',
        "VALUES (1, '-1:00'), (2, '24:00:00'), (3, '12:00:00.5'), (4, NULL)",
      );
      const of = async (misfit: 'null' | 'clamp') =>
        (await readRows(source, times, whole, { columns: [{ name: 't', shape: 'native', guard: { misfit } }] })).map(
          ([t]) => t,
        );
      expect(await of('null')).toEqual([null, null, '12:00:00.5', null]);
      expect(await of('clamp')).toEqual(['00:00:00', '23:59:59.999', '12:00:00.5', null]);
    });

    test('a server in another zone, with another sql_mode, gives the same values', async () => {
      const table = await source.describe(named('every type'));
      const before = text(await readRows(source, table, whole));
      const [[set]] = await client.query<mysql.RowDataPacket[][]>(
        'SELECT @@GLOBAL.time_zone AS zone, @@GLOBAL.sql_mode AS mode',
      );
      const kept = set as unknown as { zone: string; mode: string };
      try {
        await client.query(`SET GLOBAL time_zone = '-05:30', GLOBAL sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES',
          GLOBAL sql_select_limit = 1, GLOBAL character_set_server = latin1`);
        await using other = openSource({ url: database.url, sslmode: 'disable' });
        expect(text(await readRows(other, await other.describe(table.name), whole))).toEqual(before);
      } finally {
        await client.query(
          'SET GLOBAL time_zone = ?, GLOBAL sql_mode = ?, GLOBAL sql_select_limit = DEFAULT, GLOBAL character_set_server = utf8mb4',
          [kept?.zone ?? 'SYSTEM', kept?.mode ?? ''],
        );
      }
    });

    test('rows of any size come whole: around 16 MB packets, and past a batch', async () => {
      const table = await make('large', 'id int primary key, v longblob, w longtext');
      const sizes = [0xffffff - 20, 0xffffff - 9, 0xffffff - 8, 0xffffff - 5, 0xffffff, 0xffffff + 1, 20_000_000, 5];
      await client.query('SET GLOBAL max_allowed_packet = 1073741824');
      const filler = await mysql.createConnection(database.url);
      for (const [id, size] of sizes.entries()) {
        await filler.query("INSERT INTO large VALUES (?, REPEAT('ab', ?), 'x\ty')", [id, Math.ceil(size / 2)]);
      }
      await filler.end();
      let id = 0;
      for await (const batch of source.read(table, whole, wantRows(table))) {
        if (batch.kind !== 'rows') throw new Error('no rows');
        for (const row of batch.rows) {
          expect((row[1] as Buffer).length).toBe(Math.ceil((sizes[id] as number) / 2) * 2);
          expect((row[1] as Buffer).subarray(-2).toString()).toBe('ab');
          expect(row[2]).toBe('x\ty');
          id++;
        }
      }
      expect(id).toBe(sizes.length);
      const read = await readBytes(source, table, whole, { format: 'pg-text' });
      expect(read.rows).toBe(sizes.length);
      expect(read.bytes.length).toBeGreaterThan(2 * 7 * 16_700_000);
      expect(read.bytes.subarray(-20).toString()).toBe('7\t\\\\x616261626162\tx\\ty\n'.slice(-20));
      await client.query('DROP TABLE large');
    });

    test('a reader that takes its time loses nothing', async () => {
      const table = await make('slow', 'id int primary key, v varchar(2000)');
      await client.query(`INSERT INTO slow SELECT id, REPEAT(CHAR(97 + id % 26), 1900) FROM many WHERE id <= 12000`);
      const bytes: Buffer[] = [];
      let batches = 0;
      for await (const batch of source.read(
        table,
        whole,
        wantRows(table, { format: 'pg-text', batch: { rows: 1, bytes: 256 * 1024 } }),
      )) {
        if (batch.kind !== 'bytes') throw new Error('no bytes');
        bytes.push(...batch.bytes.map((part) => Buffer.from(part)));
        batch.release?.();
        if (++batches % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const lines = Buffer.concat(bytes).toString().split('\n').slice(0, -1);
      expect(batches).toBeGreaterThan(10);
      expect(lines.length).toBe(4000);
      for (const line of lines) {
        const [id, v] = line.split('\t');
        expect(v).toBe(String.fromCharCode(97 + (Number(id) % 26)).repeat(1900));
      }
    });

    test('TLS carries the same rows', async ({ skip }) => {
      // MySQL 8.4 and later always have it, and no variable that says so.
      const [[said]] = (await client.query("SHOW VARIABLES LIKE 'have_ssl'")) as unknown as [[{ Value: string }?]];
      const ssl = said?.Value ?? 'YES';
      skip(kind === 'mysql' && ssl !== 'YES', 'this MySQL was built without a TLS of today');
      const table = await source.describe(named('many'));
      const plain = await readBytes(source, table, whole, { format: 'pg-text' });
      if (kind === 'mariadb' && ssl !== 'YES') {
        expect(await codeOf(openSource({ url: database.url, sslmode: 'require' }).identity())).toBe('TLS_FAILED');
        return;
      }
      await using secure = openSource({ url: database.url, sslmode: 'require' });
      const read = await readBytes(secure, table, whole, { format: 'pg-text' });
      expect(read.bytes.equals(plain.bytes)).toBe(true);
      expect(await codeOf(openSource({ url: database.url, sslmode: 'verify-full' }).identity())).toBe('TLS_FAILED');
      // Since 11.4 a certificate of its own making, which nobody vouches for.
      if (kind === 'mariadb') return;
      // Its own authority vouches for it, but not for the name it is reached by.
      const [[at]] = (await client.query('SELECT @@datadir AS folder')) as unknown as [[{ folder: string }]];
      const ssl_ca = await readFile(join(at.folder, 'ca.pem'), 'utf8');
      await using verified = openSource({ url: database.url, sslmode: 'verify-ca', ssl_ca });
      expect(await verified.identity()).toBe(await source.identity());
      expect(await codeOf(openSource({ url: database.url, sslmode: 'verify-full', ssl_ca }).identity())).toBe(
        'TLS_FAILED',
      );
      const other = { url: database.url, sslmode: 'require', ssl_ca: rootCertificates[0] } as const;
      expect(await codeOf(openSource(other).identity())).toBe('TLS_FAILED');
    });

    test('a table of another engine is read whole, and the check says what it is', async () => {
      const table = await make('aisle', 'id int primary key, v text', "VALUES (1, 'a'), (2, 'b')");
      await client.query('ALTER TABLE aisle ENGINE = MyISAM');
      const again = await source.describe(table.name);
      expect(await readRows(source, again, whole)).toHaveLength(2);
      const checks = await source.check();
      expect(checks.find(({ name }) => name === 'engines')).toMatchObject({ outcome: 'warn' });
      await client.query('DROP TABLE aisle');
    });

    test('integers are cut evenly; gaps, skew and the full range of BIGINT UNSIGNED are followed', async () => {
      const dense = await source.describe(named('many'));
      const even = await covered(dense, await split(dense, 500));
      expect(Math.max(...even)).toBeLessThan(1000);
      const skewed = await make('skewed', 'id bigint unsigned primary key, v int');
      await client.query(`INSERT INTO skewed SELECT id, 1 FROM many WHERE id <= 6000;
        INSERT INTO skewed SELECT 18446744073709551615 - id, 2 FROM many WHERE id <= 3000;
        INSERT INTO skewed VALUES (9223372036854775808, 3), (18446744073709551615, 4); ANALYZE TABLE skewed`);
      const table = await source.describe(skewed.name);
      const sizes = await covered(table, await split(table, 300));
      expect(sizes.length).toBeGreaterThan(7);
      expect(Math.max(...sizes)).toBeLessThan(900);
      const negative = await make('negative', 'id int primary key, v int');
      await client.query(
        'INSERT INTO negative SELECT CAST(id AS SIGNED) - 7500, 1 FROM many WHERE id <= 15000; ANALYZE TABLE negative',
      );
      const below = await source.describe(negative.name);
      expect((await covered(below, await split(below, 500))).length).toBeGreaterThan(7);
    });

    test('keys of texts, bytes, dates and several columns are cut by their own order', async () => {
      const kinds: Record<string, [string, string]> = {
        uuid: [
          'char(36)',
          "LOWER(CONCAT(LEFT(SHA2(id, 256), 8), '-', MID(SHA2(id, 256), 9, 4), '-4000-8000-', MID(SHA2(id, 256), 20, 12)))",
        ],
        upper: ['varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin', 'UPPER(SHA2(id, 224))'],
        words: [
          'varchar(60) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci',
          "CONCAT(ELT(1 + id % 5, 'Ärger', 'käse', 'zebra', '漢字', ''), ' ', id)",
        ],
        latin: ['varchar(60) CHARACTER SET latin1', "CONCAT(ELT(1 + id % 4, 'é', 'ß', 'a', 'Z'), id)"],
        wide: ['varchar(60) CHARACTER SET utf16', "CONCAT('k', id)"],
        bytes: ['binary(16)', 'UNHEX(LEFT(SHA2(id, 256), 32))'],
        money: ['decimal(20,4)', 'id / 7'],
        moment: ['datetime(6)', "'2001-01-01' + INTERVAL id * 1234567 MICROSECOND"],
        clock: ['time', 'SEC_TO_TIME(CAST(id AS SIGNED) * 20 - 100000)'],
        ratio: ['double', 'id / 3'],
      };
      for (const [name, [type, value]] of Object.entries(kinds)) {
        await make(name, `k ${type} NOT NULL PRIMARY KEY, v int`);
        await client.query(`INSERT INTO ${name} SELECT ${value}, id FROM many WHERE id <= 9000; ANALYZE TABLE ${name}`);
        const table = await source.describe(named(name));
        const chunks = await split(table, 400);
        const sizes = await covered(table, chunks);
        if (name === 'ratio') {
          expect(chunks.map((chunk) => chunk.kind)).toEqual(['all']);
          continue;
        }
        expect(sizes.length, name).toBeGreaterThan(5);
        expect(Math.max(...sizes), name).toBeLessThan(1300);
        for (const [i, chunk] of chunks.entries()) {
          const rest = await split(table, 400, JSON.parse(JSON.stringify(chunk)));
          expect(
            rest.map(({ id, bounds }) => ({ id, bounds })),
            name,
          ).toEqual(chunks.slice(i + 1).map(({ id, bounds }) => ({ id, bounds })));
        }
      }
      for (const name of ['composite_key', 'events', 'case keys'] as const) {
        const table = await source.describe(named(name));
        const sizes = await covered(table, await split(table, 60));
        if (name !== 'case keys') expect(Math.max(...sizes), name).toBeLessThan(240);
      }
      // One value of the first column holds nearly all rows.
      await make('tenants', 'tenant varchar(20), n int, kind enum("a","b"), PRIMARY KEY (tenant, n, kind)');
      await client.query(
        `INSERT INTO tenants SELECT IF(id % 50 = 0, 'aa', 'one'), id, 'b' FROM many WHERE id <= 9000; ANALYZE TABLE tenants`,
      );
      const tenants = await source.describe(named('tenants'));
      expect(mysqlExtras(tenants)?.keyIndex?.columns).toEqual(['tenant', 'n']);
      const sizes = await covered(tenants, await split(tenants, 300));
      expect(Math.max(...sizes)).toBeLessThan(1000);
    });

    test('a split reads no more of the table than its chunks need', async () => {
      const table = await source.describe(named('upper'));
      const rows = async () => {
        const [found] = await client.query<mysql.RowDataPacket[]>(
          "SHOW GLOBAL STATUS WHERE Variable_name IN ('Handler_read_next', 'Handler_read_prev', 'Handler_read_rnd_next')",
        );
        return found.reduce((sum, row) => sum + Number(row.Value), 0);
      };
      const before = await rows();
      const chunks = await split(table, 400);
      // Others use this server too, so this is no exact count; a walk along the index would be 3,000 rows and more.
      expect(chunks.length).toBeGreaterThan(5);
      expect((await rows()) - before).toBeLessThan(2500);
    });

    test('filters say what their values say, whatever the collation', async () => {
      const table = await make(
        'filtered',
        'id int primary key, v varchar(20) COLLATE utf8mb4_general_ci, u bigint unsigned, t timestamp NULL, d date',
        `VALUES (1, 'a', 18446744073709551615, '2024-01-01 10:00:00', '2024-01-01'), (2, 'A', 1, NULL, '2024-01-02'), (3, 'a ', 2, NULL, NULL), (4, NULL, 3, NULL, NULL)`,
      );
      const ids = async (...where: NonNullable<Parameters<typeof wantRows>[1]>['where'] & object) =>
        (await readRows(source, table, whole, { columns: [{ name: 'id', shape: 'native' }], where })).map(([id]) => id);
      expect(await ids({ column: 'v', op: '=', values: ['a'] })).toEqual([1]);
      expect(await ids({ column: 'v', op: 'in', values: ['A', 'a '] })).toEqual([2, 3]);
      expect(await ids({ column: 'v', op: 'in', values: [] })).toEqual([]);
      expect(await ids({ column: 'v', op: 'is null', values: [] })).toEqual([4]);
      expect(await ids({ column: 'u', op: '>', values: ['18446744073709551614'] })).toEqual([1]);
      expect(await ids({ column: 't', op: '=', values: ['2024-01-01T10:00:00Z'] })).toEqual([1]);
      expect(
        await ids({ column: 'd', op: '>=', values: ['2024-01-02'] }, { column: 'id', op: '<', values: [5] }),
      ).toEqual([2]);
    });

    test('a column that changed, and one of a dropped table, is SOURCE_CHANGED; one added is not', async () => {
      const table = await make('altered', 'id int primary key, v varchar(10)', "VALUES (1, 'a')");
      if (has.instant) await client.query('ALTER TABLE altered ADD COLUMN w int, ALGORITHM = INSTANT');
      expect(await readRows(source, table, whole)).toEqual([[1, 'a']]);
      await client.query('ALTER TABLE altered MODIFY v varchar(20)');
      expect(await codeOf(readRows(source, table, whole))).toBe('SOURCE_CHANGED');
      await client.query('ALTER TABLE altered DROP COLUMN v');
      expect(await codeOf(readRows(source, table, whole))).toBe('SOURCE_CHANGED');
      await client.query('DROP TABLE altered');
      expect(await codeOf(readRows(source, table, whole))).toBe('SOURCE_CHANGED');
    });

    test('while a chunk is read nobody changes the table under it', async () => {
      const table = await make('held', 'id int primary key, v varchar(2000)');
      await client.query(
        "INSERT INTO held SELECT id, REPEAT('x', 1900) FROM many WHERE id <= 12000; SET SESSION lock_wait_timeout = 1",
      );
      const want = wantRows(table, { batch: { rows: 100, bytes: 100_000 } });
      let rows = 0;
      for await (const batch of source.read(table, whole, want)) {
        if (batch.kind !== 'rows') throw new Error('no rows');
        if (rows === 0) await expect(client.query('TRUNCATE held')).rejects.toThrow(/lock wait timeout/i);
        if (rows === 0) await client.query('DELETE FROM held WHERE id > 6000');
        rows += batch.rows.length;
      }
      expect(rows).toBe(4000);
      expect(await readRows(source, table, whole)).toHaveLength(2000);
    });

    test('a description carries what another MySQL needs to make the table', async () => {
      const many = mysqlExtras(await source.describe(named('many')));
      expect(many).toMatchObject({ flavor: kind, engine: 'InnoDB', comment: "many rows; it's fine" });
      expect(Number(many?.autoIncrement)).toBeGreaterThan(15000);
      expect(many?.columns.name).toMatchObject({ default: "'x''y'", charset: 'utf8mb4' });
      expect(many?.columns.id).toMatchObject({ autoIncrement: true });
      expect(many?.columns.at?.default).toMatch(/^current_timestamp\(3\)$/i);
      expect(many?.columns.lower_name?.generated).toMatchObject({
        expression: expect.stringMatching(/^l(ower|case)\(`name`\)$/),
        kind: 'stored',
      });
      expect(many?.indexes.map(({ name }) => name)).toEqual(['PRIMARY', 'many by name', 'many by ref']);
      expect(many?.indexes[1]?.parts).toMatchObject([
        { column: 'name', prefix: 10, ...(has.descending ? { descending: true } : {}) },
        { column: 'amount' },
      ]);
      if (has.checks) expect(many?.checks).toMatchObject([{ name: 'amount is sane', enforced: true }]);
      const child = await source.describe(named('child'));
      expect(child.references).toEqual([named('parent')]);
      expect(mysqlExtras(child)?.foreignKeys).toMatchObject([
        { columns: ['parent_id'], referencedColumns: ['id'], onUpdate: 'CASCADE' },
      ]);
      const events = await source.describe(named('events'));
      expect(events.kind).toBe('partitioned');
      const clause = mysqlExtras(events)?.partitioning ?? '';
      await client.query(
        `CREATE TABLE events_again (id bigint NOT NULL, at datetime NOT NULL, PRIMARY KEY (id, at)) ${clause}`,
      );
      const again = mysqlExtras(await source.describe(named('events_again')));
      expect(again?.partitioning).toBe(clause);
      await client.query('DROP TABLE events_again');
      const all = mysqlExtras(await source.describe(named('every type')));
      if (has.invisible) expect(all?.columns.v_invisible).toMatchObject({ invisible: true });
      expect(all?.columns.v_virtual?.generated?.kind).toBe('virtual');
      expect(mysqlExtras(await source.describe(named('a_view')))?.storage).toBe('');
    });

    test('defaults of every kind make the same table again', async () => {
      const table = await make(
        'defaults',
        `id int primary key, a varchar(20) default 'it''s \\\\ "x"', b int default -5, c bit(8) default b'101', d binary(3) default 'ab',
         e datetime(6) default current_timestamp(6) on update current_timestamp(6), f enum('x','y z') default 'y z', g decimal(8,3) default 1.5,
         h varchar(20) default ${has.defaults ? "(concat('a', 'b''c'))" : "'ab''c'"}, i varchar(10) default 'NULL', j varchar(10) default '', k double default 1e10, l date default '2024-01-01'`,
        '(id) VALUES (1)',
      );
      const columns = Object.entries(mysqlExtras(table)?.columns ?? {}).map(([name, column]) =>
        [
          `\`${name}\` ${column.spelled}`,
          column.default && `DEFAULT ${column.default}`,
          column.onUpdate && `ON UPDATE ${column.onUpdate}`,
        ]
          .filter(Boolean)
          .join(' '),
      );
      await client.query(
        `DROP TABLE IF EXISTS defaults_again; CREATE TABLE defaults_again (${columns.join(', ')}, PRIMARY KEY (id)); INSERT INTO defaults_again (id) VALUES (1)`,
      );
      const again = await source.describe(named('defaults_again'));
      const without = (rows: readonly (readonly Value[])[], of: Table) =>
        rows.map((row) => row.filter((_, i) => of.columns[i]?.name !== 'e'));
      expect(mysqlExtras(again)?.columns).toEqual(mysqlExtras(table)?.columns);
      expect(without(await readRows(source, again, whole), again)).toEqual(
        without(await readRows(source, table, whole), table),
      );
    });

    test('the key is the primary one, else a unique one over whole not-null columns', async () => {
      expect((await make('k1', 'a int not null unique, b int not null, primary key (b)')).key).toEqual(['b']);
      expect((await make('k2', 'a int not null, b varchar(30) not null, unique (b(5)), unique (a, b)')).key).toEqual([
        'a',
        'b',
      ]);
      expect((await make('k3', 'a int, unique (a)')).key).toEqual([]);
    });

    test('a login that may read is enough; what it may not is said', async () => {
      const login = `low_${database.name}`.slice(0, 30);
      const words = new URL(database.url);
      words.username = login;
      words.password = 'low';
      await client.query(`CREATE USER '${login}'@'%' IDENTIFIED BY 'low'; GRANT SELECT ON \`${database.name}\`.many TO '${login}'@'%';
        GRANT SELECT (id) ON \`${database.name}\`.parent TO '${login}'@'%'`);
      try {
        await using low = openSource({ url: words.href, sslmode: kind === 'mysql' ? 'prefer' : 'disable' });
        const table = await low.describe(named('many'));
        expect(await readRows(low, table, whole)).toHaveLength(5000);
        expect(await codeOf(low.describe(named('no_key')))).toBe('PRIVILEGE_MISSING');
        expect(await codeOf(low.describe(named('nothing')))).toBe('PRIVILEGE_MISSING');
        expect((await low.tables()).map(({ name }) => name.name)).toEqual(['many', 'parent']);
        const checks = await low.check();
        expect(checks.filter(({ outcome }) => outcome === 'fail')).toEqual([]);
        // MySQL 8.0 shows everybody where tables lie.
        const shown = has.collation0900 && !has.longFields;
        expect(checks.find(({ name }) => name === 'changes')?.outcome).toBe(shown ? 'pass' : 'warn');
        await using snapshot = await low.open();
        expect(snapshot.consistency).toBe('chunk');
      } finally {
        await client.query(`DROP USER '${login}'@'%'`);
      }
    });

    test('a server that cannot be reached, and a wrong password, are failed checks', async () => {
      const words = new URL(database.url);
      words.password = 'wrong';
      await using refused = openSource({ url: words.href });
      expect((await refused.check()).find(({ name }) => name === 'login')?.outcome).toBe('fail');
      expect(await codeOf(refused.identity())).toBe('LOGIN_REFUSED');
      words.port = '1';
      await using nowhere = openSource({ url: words.href });
      expect((await nowhere.check()).map(({ name, outcome }) => [name, outcome])).toEqual([['server', 'fail']]);
      expect(await codeOf(openSource({ url: `${database.url}_not` }).identity())).toBe('DATABASE_MISSING');
    });

    test('the position is where a change stream can start', async () => {
      await using snapshot = await source.open();
      expect(snapshot.position).toMatch(kind === 'mysql' ? /^[0-9a-f-]{36}:/ : /^\d+-\d+-\d+/);
      expect(Math.abs(Date.parse(snapshot.takenAt) - Date.now())).toBeLessThan(60_000);
    });
  });
}

const unescapes: Record<string, string> = { n: '\n', t: '\t', r: '\r', '\\': '\\' };
const unescaped = (cell: string): string | null =>
  cell === '\\N' ? null : cell.replace(/\\(.)/gs, (_, char: string) => unescapes[char] as string);
const escaped = (value: string): string =>
  value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('\t', '\\t').replaceAll('\r', '\\r');

/** A canonical value as pg-text, told another way than the connector does. */
function pgText(value: Value, table: Table, column: number): string {
  if (value === null) return '\\N';
  const plain = csvText(value, table, column) as string;
  return value instanceof Uint8Array ? `\\\\x${plain}` : escaped(plain);
}

function csvText(value: Value, table: Table, column: number): string | null {
  const type = table.columns[column]?.type;
  if (value === null) return null;
  if (typeof value === 'boolean') return value ? 't' : 'f';
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (type?.kind === 'timestamp') return String(value).replace('T', ' ');
  if (type?.kind === 'timestamptz') return String(value).replace('T', ' ').replace('Z', '+00');
  return String(value);
}

/** Fractions in bytes have all their digits, and a number may be written in more than one way. */
function normal(cell: string | null, table: Table, column: number): string | null {
  if (cell === null) return null;
  switch (table.columns[column]?.type.kind) {
    case 'int8':
    case 'int16':
    case 'int32':
    case 'float32':
    case 'float64':
      return String(Number(cell));
    case 'time':
    case 'timestamp':
    case 'timestamptz':
      return cell.replace(
        /(\.\d*?)0*(\+00)?$/,
        (_, fraction: string, zone = '') => (fraction === '.' ? '' : fraction) + zone,
      );
    default:
      return cell;
  }
}

/** NULL is an empty field without quotes. */
function parseCsv(csv: string): (string | null)[][] {
  const rows: (string | null)[][] = [];
  let row: (string | null)[] = [];
  let at = 0;
  while (at < csv.length) {
    if (csv[at] === '"') {
      let value = '';
      for (at++; ; at++) {
        if (csv[at] === '"' && csv[at + 1] === '"') value += csv[at++];
        else if (csv[at] === '"') break;
        else value += csv[at];
      }
      at++;
      row.push(value);
    } else {
      let end = at;
      while (csv[end] !== ',' && csv[end] !== '\n') end++;
      row.push(end === at ? null : csv.slice(at, end));
      at = end;
    }
    if (csv[at] === '\n') {
      rows.push(row);
      row = [];
    } else if (csv[at] === ',' && csv[at + 1] === '\n') {
      row.push(null);
      at++;
      rows.push(row);
      row = [];
    }
    at++;
  }
  return rows;
}
