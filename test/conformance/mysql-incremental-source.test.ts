import { createHash } from 'node:crypto';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Chunk, Follow, Range, Source, Table, Watermark } from '../../connectors/contract.ts';
import { openSource } from '../../connectors/mysql/source.ts';
import { ended } from '../../connectors/mysql/watermark.ts';
import { openTarget as openPostgres } from '../../connectors/postgres/target.ts';
import type { MysqlKind } from '../../servers/mysql.ts';
import { createDatabase, createMysqlDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { type Hands, type IncrementalSubject, type KeyTable, testIncrementalSource } from './incremental-source.ts';
import { connect, plainWorks, quoted, rowsOf, workOf } from './mysql-works.ts';
import { codeOf, never, ownMoment, readRows, under } from './source.ts';
import { writeOptions } from './target.ts';

const iso = (instant: string) => `DATE_FORMAT(${instant}, '%Y-%m-%dT%H:%i:%s.%f')`;

type KeyFixture = {
  readonly columns: string;
  readonly key: string;
  readonly values: string;
  readonly only?: MysqlKind;
};

/** Of several versions: by their text, not by their time. */
const uuids = Array.from({ length: 9 }, (_, i) =>
  createHash('md5')
    .update(`${i}`)
    .digest('hex')
    .replace(/^(.{8})(.{4}).(.{3})(.{4})(.{12})$/, `$1-$2-${1 + (i % 7)}$3-$4-$5`),
);
const texts = `('a'), ('B'), ('c'), ('ä!'), ('Z'), (''), (' x'), ('aa'), ('a a'), ('a-a'), ('a\\\\b'), ('tab\\tnew\\nline'), ('\u{1F600}'), ('\uFFFD'), ('\uE000')`;
/** Primary keys, and values that are hard to sort. */
const keyTables: Readonly<Record<string, KeyFixture>> = {
  int: { columns: 'id int', key: 'id', values: '(-2147483648), (-10), (-9), (0), (9), (10), (100), (2147483647)' },
  bigint: { columns: 'id bigint', key: 'id', values: '(-9223372036854775808), (-1), (2), (10), (9007199254740993), (9007199254740992), (9223372036854775807)' },
  unsigned: { columns: 'id bigint unsigned', key: 'id', values: '(0), (1), (10), (9), (9223372036854775807), (9223372036854775808), (18446744073709551615)' },
  zerofill: { columns: 'id int(6) zerofill', key: 'id', values: '(0), (1), (10), (9), (1234567)' },
  decimal: { columns: 'id decimal(12,3)', key: 'id', values: '(-1.5), (-1.501), (0), (10), (9.999), (9.99), (-0.001)' },
  double: { columns: 'id double', key: 'id', values: '(-1.5), (0.1), (1e20), (1e-7), (10), (9), (1.5e300)' },
  float: { columns: 'id float', key: 'id', values: '(-1.5), (0.1), (16777217), (1e-7), (10), (9), (3.4e38)' },
  year: { columns: 'id year', key: 'id', values: '(1999), (2024), (0)' },
  bit: { columns: 'id bit(12)', key: 'id', values: `(b'1'), (b'101'), (b'111111111111')` },
  bool: { columns: 'id bit(1)', key: 'id', values: `(b'0'), (b'1')` },
  varchar: { columns: 'id varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci', key: 'id', values: texts },
  bin: { columns: 'id varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin', key: 'id', values: `${texts}, ('A'), ('b'), ('a\\t')` },
  nopad: { columns: 'id varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin', key: 'id', values: `${texts}, ('A'), ('a '), ('a\\t')`, only: 'mariadb' },
  '0900': { columns: 'id varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin', key: 'id', values: `${texts}, ('A'), ('a '), ('a\\t')`, only: 'mysql' },
  latin: { columns: 'id varchar(20) CHARACTER SET latin1', key: 'id', values: `('a'), ('B'), ('é'), ('z'), ('ß x')` },
  char: { columns: 'id char(4)', key: 'id', values: `('ab'), ('abc'), ('B'), ('é')` },
  prefix: { columns: 'id varchar(700) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci', key: 'id', values: `(CONCAT(REPEAT('ü', 690), 'b')), (CONCAT(REPEAT('ü', 690), 'a')), (CONCAT(REPEAT('ü', 690), 'C'))` },
  enum: { columns: `id enum('sad','ok','Happy')`, key: 'id', values: `('sad'), ('ok'), ('Happy')` },
  set: { columns: `id set('b','a')`, key: 'id', values: `('b'), ('a'), ('a,b'), ('')` },
  binary: { columns: 'id binary(4)', key: 'id', values: `(X'00'), (X'FF'), (X'00FF'), (X'7F000001')` },
  varbinary: { columns: 'id varbinary(20)', key: 'id', values: `(''), (X'00'), (X'FF'), (X'00FF'), (X'7F'), (X'2020')` },
  date: { columns: 'id date', key: 'id', values: `('2024-02-29'), ('1000-01-01'), ('9999-12-31'), ('1969-12-31')` },
  zero: { columns: 'id date', key: 'id', values: `('2024-02-29'), ('0000-00-00'), ('2024-00-00'), ('2024-02-00')` },
  datetime: { columns: 'id datetime(6)', key: 'id', values: `('2024-02-29 12:00:00'), ('2024-02-29 12:00:00.1'), ('2024-02-29 12:00:00.000001'), ('1969-12-31 23:59:59.999999'), ('0000-00-00 00:00:00')` },
  timestamp: { columns: 'id timestamp(3) NOT NULL DEFAULT 0', key: 'id', values: `('2024-02-29 12:00:00'), ('2024-02-29 12:00:00.1'), ('1970-01-01 00:00:01')` },
  time: { columns: 'id time(1)', key: 'id', values: `('00:00:00'), ('12:00:00.5'), ('-12:00:00'), ('99:59:59'), ('100:00:00'), ('-838:59:59')` },
  uuid: { columns: 'id uuid', key: 'id', values: uuids.map((id) => `('${id}')`).join(), only: 'mariadb' },
  inet: { columns: 'id inet6', key: 'id', values: `('::1'), ('10.0.0.1'), ('fe80::'), ('2001:db8::1')`, only: 'mariadb' },
  pair: { columns: 'b varchar(9), a bigint unsigned', key: 'a, b', values: `('x', 10), ('Y', 10), ('', 9), ('!', 9), ('y', 18446744073709551615), ('ab', 9)` },
  dated: { columns: 'd date, n varchar(9)', key: 'n, d', values: `('2024-01-01', 'b'), ('2023-01-01', 'b'), ('2025-01-01', 'a')` },
  down: { columns: 'a int, b int', key: 'a DESC, b', values: '(1, 10), (2, 9), (2, 10)', only: 'mysql' },
  at: { columns: 'at varchar(9), `godwit key` int', key: 'at', values: `('b', 1), ('a', 2)` },
}; // biome-ignore format: one line each

const lenient = `SET sql_mode = 'NO_ENGINE_SUBSTITUTION', time_zone = '+00:00'`;

async function mysqlSubject(kind: MysqlKind): Promise<IncrementalSubject> {
  const database = await createMysqlDatabase(kind);
  const client = await connect(database.url);
  await client.query(lenient);
  for (const [name, { columns, key, values, only }] of Object.entries(keyTables)) {
    if (only && only !== kind) continue;
    await client.query(`CREATE TABLE \`key ${name}\` (${columns}, PRIMARY KEY (${key}))`);
    await client.query(`INSERT INTO \`key ${name}\` VALUES ${values}`);
  }
  let tables = 0;
  return {
    open: () => openSource({ url: database.url }),
    async make({ indexed }) {
      const name = `t${++tables}`;
      const index = indexed ? ', KEY (at)' : '';
      await client.query(`CREATE TABLE ${name} (id bigint PRIMARY KEY, at datetime(6) NULL, note text${index})`);
      return { schema: database.name, name };
    },
    async settle(name) {
      await client.query(`ANALYZE TABLE ${quoted(name)}`);
    },
    describe: (source, name) => source.describe(name),
    columns: { id: 'id', at: 'at' },
    digits: 6,
    async hands(): Promise<Hands> {
      const own = await connect(database.url);
      await own.query(lenient);
      const clock = async (): Promise<string> =>
        String((await rowsOf(own, `SELECT ${iso('UTC_TIMESTAMP(6)')}`))[0]?.[0]);
      return {
        async begin() {
          // It begins for the engine with its first look at a table.
          const now = await clock();
          await own.query('START TRANSACTION WITH CONSISTENT SNAPSHOT');
          return now;
        },
        async commit() {
          await own.query('COMMIT');
        },
        now: clock,
        async put(name, rows) {
          const values = rows.map(([id, at]) => [id, at?.replace('T', ' ').replace('Z', '') ?? null]);
          await own.query(`INSERT INTO ${quoted(name)} (id, at) VALUES ? ON DUPLICATE KEY UPDATE at = VALUES(at)`, [
            values,
          ]);
        },
        async truncate(name) {
          await own.query(`TRUNCATE ${quoted(name)}`);
        },
        [Symbol.asyncDispose]: () => own.end(),
      };
    },
    async keyTables(source): Promise<KeyTable[]> {
      const all: KeyTable[] = [];
      for (const [name, { only }] of Object.entries(keyTables)) {
        if (only && only !== kind) continue;
        const table = await source.describe({ schema: database.name, name: `key ${name}` });
        all.push({ table, key: table.key });
      }
      return all;
    },
    async [Symbol.asyncDispose]() {
      await client.end();
      await database.drop();
    },
  };
}

function beyond(kind: MysqlKind) {
  let database: TestDatabase;
  let client: mysql.Connection;
  let source: Source;
  beforeAll(async () => {
    database = await createMysqlDatabase(kind);
    client = await connect(database.url);
    await client.query(lenient);
    source = openSource({ url: database.url });
  });
  afterAll(async () => {
    await source?.[Symbol.asyncDispose]();
    await client?.end();
    await database?.drop();
  });

  const made = async (name: string, columns: string, values: string): Promise<Table> => {
    await client.query(`CREATE TABLE ${name} (${columns})`);
    if (values) await client.query(`INSERT INTO ${name} VALUES ${values}`);
    await client.query(`ANALYZE TABLE ${name}`);
    return await source.describe({ schema: database.name, name });
  };
  const watermark = async (table: Table, follow: Follow, recheck = 0, of = source): Promise<Watermark> => {
    await using snapshot = await of.open();
    const { takenAt: clock, pending } = snapshot;
    const options = { snapshot: under(snapshot), clock, ...(pending ? { pending } : {}), recheck, signal: never };
    const taken = await of.watermark?.(table, follow, options);
    if (!taken) throw new Error('no watermark');
    return taken;
  };
  const by = (column: string, form: Follow['form'] = 'native'): Follow => ({ by: 'bookmark', column, form });
  const keyed = (column: string): Follow => ({ by: 'key', column, form: 'native' });
  const chunksOf = (table: Table, range: Range, rows = 1000): Promise<Chunk[]> =>
    Array.fromAsync(source.split(table, { size: { rows, bytes: 1e12 }, range, snapshot: ownMoment, signal: never }));
  const idsIn = async (table: Table, range: Range, rows = 1000): Promise<string[]> => {
    const found: string[] = [];
    for (const chunk of await chunksOf(table, range, rows)) {
      const columns = [{ name: 'id', shape: 'native' as const }];
      for (const [id] of await readRows(source, table, chunk, { columns, range })) found.push(String(id));
    }
    return found.sort();
  };

  test('a zero date is a bookmark that is none: never the greatest, and read with those that are NULL', async () => {
    const zero = `'0000-00-00 00:00:00'`;
    const rows = Array.from({ length: 300 }, (_, i) => `(${i + 100}, '2024-02-29 12:00:00')`).join();
    const nullable = await made(
      'zeros',
      'id int primary key, at datetime null, key (at)',
      `(1, ${zero}), (2, null), (3, '2024-01-01'), ${rows}`,
    );
    expect(await idsIn(nullable, { column: 'at', from: '2024-03-01T00:00:00', nulls: true }, 50)).toEqual(['1', '2']);
    expect(
      await idsIn(nullable, { column: 'at', from: '2024-01-01T00:00:00', upto: '2024-01-02T00:00:00' }, 50),
    ).toEqual(['3']);
    // Without NULL in the column zero is its word for it.
    const never = await made(
      'nonulls',
      'id int primary key, at timestamp(3) not null default 0, key (at)',
      `(1, ${zero}), (3, '2024-01-01'), ${rows}`,
    );
    expect(await idsIn(never, { column: 'at', from: '2024-03-01T00:00:00Z' }, 50)).toEqual(['1']);
    const only = await made('onlyzeros', 'id int primary key, at datetime', `(1, ${zero})`);
    expect((await watermark(only, by('at'))).upto).toBeUndefined();
    const odd = await made(
      'odd',
      'id int primary key, at date',
      `(1, '2024-02-00'), (2, '2024-00-00'), (3, '2023-12-31')`,
    );
    expect((await watermark(odd, by('at'))).upto).toBe('2024-02-00');
    expect(await idsIn(odd, { column: 'at', from: '2023-12-31', upto: '2024-02-00' })).toEqual(['1', '2', '3']);
    expect(await idsIn(odd, { column: 'at', from: '2023-12-31', upto: '2024-02-31' })).toEqual(['1', '2', '3']);
  });

  test('instants are of UTC, whatever the zone of the server and of who wrote them', async () => {
    await client.query(`SET time_zone = '+05:30'`);
    const table = await made(
      'zoned',
      'id int primary key, at timestamp(6) null, key (at)',
      `(1, '2024-02-29 12:00:00.5'), (2, '2037-12-31 23:59:59.999999')`,
    );
    await client.query(`SET time_zone = '+00:00'`);
    expect((await watermark(table, by('at'))).upto).toBe('2037-12-31T18:29:59.999999Z');
    expect(
      await idsIn(table, { column: 'at', from: '2024-02-29T06:30:00.5Z', upto: '2024-02-29T06:30:00.5Z' }),
    ).toEqual(['1']);
    expect(await idsIn(table, { column: 'at', from: '0001-01-01T00:00:00Z', upto: '9999-12-31T00:00:00Z' })).toEqual([
      '1',
      '2',
    ]);
    expect(
      await idsIn(table, { column: 'at', from: '-000043-03-15T00:00:00Z', upto: '+012345-01-01T00:00:00Z' }),
    ).toEqual(['1', '2']);
  });

  test('epochs of every size and sign, dates, decimals and singles', async () => {
    const table = await made(
      'epochs',
      'id int primary key, s int unsigned, ms bigint, us bigint unsigned, d decimal(20,6), f float, day date',
      `(1, 1709164800, -5, 18446744073709551615, 1709164800.5, 0.1, '2024-02-29'), (2, 4294967295, 9223372036854775807, 9, 1709164800.50, 16777216, '2024-03-01'), (3, null, null, null, null, null, null)`,
    );
    const upto = async (column: string, form: Follow['form']) => (await watermark(table, by(column, form))).upto;
    expect(await upto('s', 'seconds')).toBe('4294967295');
    expect(await upto('ms', 'milliseconds')).toBe('9223372036854775807');
    expect(await upto('us', 'microseconds')).toBe('18446744073709551615');
    expect(await upto('d', 'seconds')).toBe('1709164800.5');
    expect(await upto('f', 'seconds')).toBe('16777216');
    expect(await upto('day', 'native')).toBe('2024-03-01');
    expect(await idsIn(table, { column: 'us', from: '18446744073709551615' })).toEqual(['1']);
    expect(await idsIn(table, { column: 'ms', upto: '-5' })).toEqual(['1']);
    expect(await idsIn(table, { column: 's', from: '-100', nulls: true })).toEqual(['1', '2', '3']);
    expect(await idsIn(table, { column: 'f', from: '0.1', upto: '0.1' })).toEqual(['1']);
    expect(await idsIn(table, { column: 'day', from: '2024-02-29', upto: '2024-02-29' })).toEqual(['1']);
    expect(await codeOf(watermark(table, by('s')))).toBe('TYPE_REFUSED');
    expect(await codeOf(watermark(table, by('day', 'seconds')))).toBe('TYPE_REFUSED');
    expect(await codeOf(watermark(table, by('gone')))).toBe('COLUMN_MISSING');
  });

  test('texts are followed by their bytes, also where the collation has another order and takes some for one', async () => {
    const table = await made(
      'cased',
      'id varchar(20) character set utf8mb4 collate utf8mb4_unicode_ci primary key',
      `('a'), ('B'), ('c'), ('Z'), ('ä!'), ('')`,
    );
    expect(await watermark(table, keyed('id'), 2)).toMatchObject({ upto: 'ä!', floor: 'a' });
    expect(await idsIn(table, { column: 'id', from: 'B', upto: 'Z' })).toEqual(['B', 'Z']);
    expect(await idsIn(table, { column: 'id', from: 'a' })).toEqual(['a', 'c', 'ä!']);
    expect(await idsIn(table, { column: 'id', upto: 'A' })).toEqual(['']);
    const latin = await made('latin', 'id varchar(20) character set latin1 primary key', `('é'), ('z'), ('F')`);
    expect((await watermark(latin, keyed('id'))).upto).toBe('é');
    const json = await made('jsons', 'id int primary key, j json', `(1, '{}')`);
    expect(await codeOf(watermark(json, keyed('j')))).toBe('TYPE_REFUSED');
  });

  test('keys of 64 bits without a sign have a watermark, a floor and ranges', async () => {
    const table = await made(
      'big',
      'id bigint unsigned primary key',
      `(18446744073709551615), (18446744073709551614), (9223372036854775808), (3)`,
    );
    expect(await watermark(table, keyed('id'), 1)).toMatchObject({
      upto: '18446744073709551615',
      floor: '18446744073709551614',
    });
    expect(await idsIn(table, { column: 'id', from: '9223372036854775808', upto: '18446744073709551614' })).toEqual([
      '18446744073709551614',
      '9223372036854775808',
    ]);
  });

  test('a short stretch of a long table is one chunk of its index, a long one is many, and the whole is cut by the key', async () => {
    const rows = Array.from({ length: 5000 }, (_, i) => `(${i}, '2024-01-01' + interval ${i} minute, 'x')`).join();
    const table = await made('long_one', 'id int primary key, at datetime, note varchar(9), key (at)', rows);
    const at = (minute: number) => new Date(Date.UTC(2024, 0, 1, 0, minute)).toISOString().slice(0, 19);
    const few = await chunksOf(table, { column: 'at', from: at(4900) }, 500);
    expect(few.map(({ kind }) => kind)).toEqual(['range']);
    expect(few[0]?.rows).toBeGreaterThan(50);
    const many = await chunksOf(table, { column: 'at', from: at(3000), upto: at(4499) }, 500);
    expect(many.map(({ kind }) => kind)).toEqual(many.map(() => 'range'));
    expect(many.length).toBeGreaterThanOrEqual(3);
    const most = await chunksOf(table, { column: 'at', from: at(10) }, 500);
    expect(new Set(most.map(({ kind }) => kind))).toEqual(new Set(['keys']));
    const unindexed = await chunksOf(table, { column: 'note', from: 'x' }, 500);
    expect(new Set(unindexed.map(({ kind }) => kind))).toEqual(new Set(['keys']));
    expect(await idsIn(table, { column: 'at', from: at(3000), upto: at(4499) }, 500)).toHaveLength(1500);
  });

  test('a login without PROCESS follows all the same, without what is known of open transactions', async () => {
    const table = await made('plain', 'id int primary key, at datetime(6)', `(1, '2024-01-01')`);
    const user = `u${database.name.slice(2)}`;
    await client.query(`CREATE USER ${user} IDENTIFIED BY 'some words'`);
    await client.query(`GRANT SELECT ON ${database.name}.* TO ${user}`);
    const url = new URL(database.url);
    url.username = user;
    url.password = encodeURIComponent('some words');
    await using little = openSource({ url: url.href });
    const described = await little.describe(table.name);
    await client.query('START TRANSACTION WITH CONSISTENT SNAPSHOT');
    for (const follow of [by('at'), keyed('id')]) {
      const taken = await watermark(described, follow, 0, little);
      expect(taken.upto).toBeDefined();
      expect([taken.open, taken.active, taken.oldest]).toEqual([undefined, undefined, undefined]);
      expect((await watermark(table, follow)).active).toBeDefined();
    }
    await client.query('COMMIT');
    await client.query(`DROP USER ${user}`);
  });

  /** Others use the server too: of what is open, that of this connection. */
  const mine = async (other: mysql.Connection, { open }: Watermark): Promise<string[]> => {
    const [[id, trx] = []] = await rowsOf(
      other,
      `SELECT CONNECTION_ID(), (SELECT CAST(MAX(trx_id) AS CHAR) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = CONNECTION_ID())`,
    );
    return ((open ?? []) as string[]).filter((one) => one.startsWith(`${id} `) || one === trx);
  };
  const idle = () => new Promise((resolve) => setTimeout(resolve, 250));

  test('who only reads holds nothing up, and who began long ago is known by when', async () => {
    const table = await made('held', 'id int primary key, at datetime(6)', `(1, '2024-01-01')`);
    const other = await connect(database.url);
    try {
      await other.query('START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY');
      expect(await mine(other, await watermark(table, by('at')))).toEqual([]);
      await other.query('COMMIT');
      const [[before] = []] = await rowsOf(client, `SELECT DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%dT%H:%i:%s')`);
      await other.query(`SET time_zone = '+05:30'`);
      await other.query('START TRANSACTION WITH CONSISTENT SNAPSHOT');
      const first = await watermark(table, by('at'));
      const begun = await mine(other, first);
      expect(begun).toHaveLength(1);
      const since = String(begun[0]).slice(-19).replace(' ', 'T');
      expect(since >= String(before)).toBe(true);
      expect(`${since}.000000Z` >= (first.oldest ?? '')).toBe(true);
      expect(Date.parse(first.oldest ?? '')).toBeLessThanOrEqual(Date.parse(first.clock) + 1000);
      // Of keys: only who has written.
      expect(await mine(other, await watermark(table, keyed('id')))).toEqual([]);
      await other.query(`INSERT INTO held VALUES (2, null)`);
      await idle();
      const held = await watermark(table, keyed('id'));
      await idle();
      const writing = await mine(other, held);
      expect(writing).toHaveLength(1);
      const gone = async (follow: Follow, open: readonly string[]) =>
        ended({ clock: '', open }, await watermark(table, follow));
      expect([await gone(keyed('id'), writing), await gone(by('at'), begun)]).toEqual([false, false]);
      await other.query('COMMIT');
      expect([await gone(keyed('id'), writing), await gone(by('at'), begun)]).toEqual([true, true]);
    } finally {
      await other.end();
    }
  });

  test('an answer about transactions is never an old one, also while others ask all the time', async () => {
    const table = await made('asked', 'id int primary key, at datetime(6)', `(1, '2024-01-01')`);
    const asker = await connect(database.url);
    const other = await connect(database.url);
    const [[id] = []] = await rowsOf(other, 'SELECT CONNECTION_ID()');
    const open = async () =>
      (((await watermark(table, by('at'))).open ?? []) as string[]).filter((one) => one.startsWith(`${id} `));
    try {
      for (let i = 0; i < 3; i++) {
        await asker.query('SELECT COUNT(*) FROM information_schema.innodb_trx');
        await other.query('START TRANSACTION WITH CONSISTENT SNAPSHOT');
        expect(await open()).toHaveLength(1);
        await asker.query('SELECT COUNT(*) FROM information_schema.innodb_trx');
        await other.query('COMMIT');
        expect(await open()).toEqual([]);
      }
    } finally {
      await asker.end();
      await other.end();
    }
  });

  test('ranges of keys are cut by the index where it has their order, else there is one', async () => {
    const rows = Array.from({ length: 3000 }, (_, i) => i * 3);
    const cases = {
      k_int: ['id int', (i: number) => `(${i})`],
      k_unsigned: ['id bigint unsigned', (i: number) => `(${18446744073709542000n + BigInt(i)})`],
      k_bin: ['id varbinary(9)', (i: number) => `(X'${i.toString(16).padStart(8, '0')}')`],
      k_at: ['id datetime(3)', (i: number) => `('2024-01-01' + interval ${i} second)`],
      k_exact: [
        `id varchar(20) collate ${kind === 'mysql' ? 'utf8mb4_0900_bin' : 'utf8mb4_nopad_bin'}`,
        (i: number) => `('ä${i}')`,
      ],
    } as const;
    for (const [name, [column, value]] of Object.entries(cases)) {
      const table = await made(name, `${column} primary key`, rows.map(value).join());
      const options = { size: { rows: 700, bytes: 1000 }, snapshot: ownMoment, signal: never };
      const ranges = await Array.fromAsync(source.keyRanges?.(table, ['id'], options) ?? []);
      expect(ranges.length, name).toBeGreaterThan(3);
      const all: string[] = [];
      let sum = 0;
      for (const [i, range] of ranges.entries()) {
        expect(range.after).toEqual(ranges[i - 1]?.upto);
        const want = { snapshot: ownMoment, signal: never };
        const keys = (await Array.fromAsync(source.keys?.(table, ['id'], range, want) ?? [])).flat();
        const digest = await source.digest?.(table, ['id'], range, want);
        expect(digest?.count).toBe(keys.length);
        sum += keys.length;
        all.push(...keys);
        const after: Chunk = { id: 4, kind: 'sweep', bounds: { upto: range.upto }, rows: 0 };
        if (!range.upto) continue;
        const [next] = await Array.fromAsync(source.keyRanges?.(table, ['id'], { ...options, after }) ?? []);
        expect(next?.after).toEqual(range.upto);
      }
      expect(sum).toBe(3000);
      expect(new Set(all).size).toBe(3000);
    }
    const cased = await made(
      'k_ci',
      'id varchar(9) collate utf8mb4_unicode_ci primary key',
      rows.map((i) => `('k${i}')`).join(),
    );
    expect(
      await Array.fromAsync(
        source.keyRanges?.(cased, ['id'], { size: { rows: 100, bytes: 1000 }, snapshot: ownMoment, signal: never }) ??
          [],
      ),
    ).toEqual([{}]);
  });

  test('keys that break off in the middle throw', async () => {
    // More of them than fit between the server and here.
    const table = await made(
      'cut',
      'id varbinary(500) primary key',
      Array.from({ length: 40 }, (_, i) => `('${i}')`).join(),
    );
    await client.query(
      `INSERT INTO cut SELECT RPAD(CONCAT_WS('.', a.id, b.id, c.id), 500, 'x') FROM cut a, cut b, cut c`,
    );
    let taken = 0;
    const read = async () => {
      for await (const batch of source.keys?.(table, ['id'], {}, { snapshot: ownMoment, signal: never }) ?? []) {
        if (taken === 0) {
          const found = await rowsOf(
            client,
            `SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT%ORDER BY%' AND DB = ? AND ID <> CONNECTION_ID()`,
            [database.name],
          );
          for (const [id] of found) await client.query(`KILL ${id}`);
          if (found.length !== 1) throw new Error(`${found.length} statements are running`);
        }
        taken += batch.length;
      }
    };
    expect(await codeOf(read())).toBe('CONNECTION_FAILED');
    expect(taken).toBeLessThan(64_040);
  });
}

/** What an ENUM calls its values comes from the spelling of its type, where the server escapes it. */
function labels(kind: MysqlKind) {
  test('labels with backslashes and quotes reach PostgreSQL as they are, however the table was made', async () => {
    await using origin = await createMysqlDatabase(kind);
    await using database = await createDatabase();
    const client = await connect(origin.url);
    const reader = new pg.Client({ connectionString: database.url });
    await reader.connect();
    await using source = openSource({ url: origin.url });
    await using target = openPostgres({ url: database.url });
    try {
      const wanted = [
        'back\\slash',
        '\\',
        'two\\\\',
        "it's",
        '"',
        'new\nline',
        'tab\t',
        'carriage\r',
        'a\\b',
        "\\'",
        "'",
        'ends\\',
        '%_',
        'ü',
      ];
      const escaped = (text: string) => mysql.escape(text);
      const plain = (text: string) => `'${text.replaceAll("'", "''")}'`;
      for (const [name, spelled] of Object.entries({ escaped, plain })) {
        await client.query(`SET sql_mode = '${name === 'plain' ? 'NO_BACKSLASH_ESCAPES' : ''}'`);
        const list = wanted.map(spelled).join();
        await client.query(
          `CREATE TABLE \`${name}\` (id int PRIMARY KEY, e enum(${list}), s set(${list})) CHARACTER SET utf8mb4`,
        );
        await client.query(
          `INSERT INTO \`${name}\` VALUES ${wanted.map((one, i) => `(${i}, ${spelled(one)}, ${spelled(one)})`).join()}`,
        );
        const table = await source.describe({ schema: origin.name, name });
        expect(table.columns[1]?.type).toEqual({ kind: 'enum', values: wanted });
        for (const format of ['pg-text', 'rows'] as const) {
          const one = workOf(
            plainWorks().work({ name: { schema: 'public', name: `${name} ${format}` } }),
            table,
            target,
            format,
          );
          await target.prepare(one);
          const chunk: Chunk = { id: 1, kind: 'all', bounds: {}, rows: 9 };
          const batches = source.read(table, chunk, {
            columns: one.columns.map(({ from = '', shape }) => ({ name: from, shape })),
            snapshot: ownMoment,
            format,
            batch: { rows: 500, bytes: 1e6 },
            signal: never,
          });
          await target.write(one, await target.claim(one, chunk), batches, writeOptions());
          await target.finish(one);
          await target.publish([one], []);
          const { rows } = await reader.query(`SELECT e::text AS e, s::text AS s FROM "${name} ${format}" ORDER BY id`);
          expect(rows, `${name} ${format}`).toEqual(wanted.map((text) => ({ e: text, s: text })));
        }
      }
    } finally {
      await client.end();
      await reader.end();
    }
  });
}

for (const kind of ['mysql', 'mariadb'] as const) {
  const gone = await missing(kind);
  if (!gone) testIncrementalSource(`${kind} as a source of the incremental modes`, () => mysqlSubject(kind));
  describe.skipIf(gone)(`${kind}, beyond what every source of the incremental modes does`, () => beyond(kind));
  describe.skipIf(gone || (await missing('postgres')))(`the labels of an ENUM of ${kind}`, () => labels(kind));
}
