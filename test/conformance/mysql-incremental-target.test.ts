import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { comparer, missingFrom } from '../../activities/sweep.ts';
import type { Chunk, Counts, KeyBatch, KeyRange, PlanColumn, Source, Target, Work } from '../../connectors/contract.ts';
import { openSource } from '../../connectors/mysql/source.ts';
import { openTarget } from '../../connectors/mysql/target.ts';
import type { Row, Value } from '../../connectors/types.ts';
import type { FaultPoint } from '../../faults.ts';
import { type MysqlKind, startMysql } from '../../servers/mysql.ts';
import { createMysqlDatabase, type TestDatabase } from '../servers/shared.ts';
import {
  type IncrementalSubject,
  nextRun,
  stateOf,
  testIncrementalTarget,
  type Way,
  wholeRun,
  writeChunks,
} from './incremental-target.ts';
import { mysqlEveryType, mysqlEveryTypeTables, mysqlOddDates } from './mysql-every-type.ts';
import type { ChildArgument } from './mysql-incremental-child.ts';
import {
  batchesOf,
  column,
  connect,
  describeKinds,
  dropAll,
  leftovers,
  plainWorks,
  quoted,
  rowsOf,
  serverUrl,
  visible,
  within,
  workOf,
} from './mysql-works.ts';
import { chunk, codeOf, writeOptions } from './target.ts';

async function subject(format: 'rows' | 'pg-text', kind: MysqlKind): Promise<IncrementalSubject> {
  const url = await serverUrl(kind);
  const client = await connect(url);
  const { work, prefix, made } = plainWorks();
  return {
    open: () => openTarget({ url: within(url, prefix) }),
    work: (over) => work({ mode: 'syncing', writeFormat: format, readFormat: format, ...over }),
    batches: (one, rows) => batchesOf(one.writeFormat as 'rows' | 'pg-text', rows),
    visible: (one) => visible(client, one),
    leftovers: () => leftovers(client, prefix, made),
    drop: async ({ name }: Work) => {
      await client.query(`DROP TABLE ${quoted(name)}`);
    },
    bring: async ({ name }: Work, rows) => {
      await client.query(`CREATE DATABASE IF NOT EXISTS ${quoted(name).split('.')[0]} CHARACTER SET utf8mb4`);
      await client.query(`CREATE TABLE ${quoted(name)} (id int NOT NULL PRIMARY KEY, v longtext)`);
      for (const row of rows) await client.query(`INSERT INTO ${quoted(name)} VALUES (?, ?)`, [...row]);
    },
    ...(format === 'rows' ? { bad: ['no number', 'bad'] } : {}),
    async [Symbol.asyncDispose]() {
      await dropAll(client, prefix);
      await client.end();
    },
  };
}

await describeKinds(', incremental modes', (kind) => {
  testIncrementalTarget('rows', () => subject('rows', kind));
  testIncrementalTarget('LOAD DATA of pg-text', () => subject('pg-text', kind));
  describe('beyond what every target does', () => beyond(kind));
  for (const from of ['mysql', 'mariadb'] as const) describe(`from ${from}`, () => copying(from, kind));
});

const never = new AbortController().signal;

function beyond(kind: MysqlKind) {
  const { work, prefix, made } = plainWorks();
  let url: string;
  let client: mysql.Connection;
  let target: Target;
  let way: Way;
  let folder: string;
  beforeAll(async () => {
    url = await serverUrl(kind);
    client = await connect(url);
    target = openTarget({ url: within(url, prefix) });
    way = { target, subject: { batches: (one, rows) => batchesOf(one.writeFormat as 'rows' | 'pg-text', rows) } };
    folder = await mkdtemp(join(tmpdir(), 'godwit-mysql-'));
  });
  afterAll(async () => {
    await target?.[Symbol.asyncDispose]();
    if (client) await dropAll(client, prefix);
    await client?.end();
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  const loaded = async (rows: readonly Row[], over: Partial<Work> = {}): Promise<Work> => {
    const one = work({ mode: 'syncing', readFormat: 'pg-text', writeFormat: 'pg-text', state: stateOf(1), ...over });
    await wholeRun(way, one, [rows]);
    return one;
  };
  const keysOf = async (one: Work, range: KeyRange = {}) =>
    (await Array.fromAsync(target.keys?.(one, range, never) ?? [])).flat();

  // ── Killed ──────────────────────────────────────────────────────────────────────────────────────────────────────

  const killedAt = async (point: FaultPoint, argument: ChildArgument): Promise<void> => {
    const faults = await mkdtemp(join(folder, 'faults-'));
    await writeFile(join(faults, point), 'SIGKILL');
    const file = join(faults, 'argument.json');
    await writeFile(file, JSON.stringify(argument));
    const program = fileURLToPath(new URL('mysql-incremental-child.ts', import.meta.url));
    const child = spawn(process.execPath, [program, file], {
      env: { ...process.env, GODWIT_FAULT_FOLDER: faults },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const [, signal] = (await once(child, 'exit')) as [number | null, string | null];
    expect(signal, `killed at ${point}`).toBe('SIGKILL');
  };
  const points = ['before-commit', 'between-checkpoint-and-commit', 'after-commit', 'after-swap'] as const;

  test.each([...points, 'in-swap'] as const)(
    'a load killed at %s is done again, and remembered once it is seen',
    async (point) => {
      const one = work({ mode: 'syncing', readFormat: 'pg-text', writeFormat: 'pg-text', state: stateOf(1) });
      const rows: Row[] = [[1, 'one'], [2, 'two']]; // biome-ignore format: rows
      await killedAt(point, { url: within(url, prefix), work: one, rows, keys: [] });
      const seen = point === 'in-swap' || point === 'after-swap';
      expect(await visible(client, one)).toEqual(seen ? rows : undefined);
      expect(await target.state?.(one)).toEqual(seen ? stateOf(1) : undefined);
      await wholeRun(way, one, [rows]);
      expect(await visible(client, one)).toEqual(rows);
      expect(await target.state?.(one)).toEqual(stateOf(1));
      const [counts] = await wholeRun(way, nextRun(one, 2), [[[1, 'one'], [3, 'three']]]); // biome-ignore format: rows
      expect(counts).toMatchObject({ read: 2, inserted: 1, unchanged: 1 });
    },
  );

  test('a load that was killed behind its swap is gone on from by the next run itself', async () => {
    const first = await loaded([[1, 'old']]);
    const anew = { ...first, run: `${first.run}-anew`, state: stateOf(2) };
    made.push(anew);
    await killedAt('in-swap', { url: within(url, prefix), work: anew, rows: [[1, 'new']], keys: [] });
    expect(await target.state?.(first)).toEqual(stateOf(2));
    const [counts] = await wholeRun(way, nextRun(first, 3), [[[1, 'new'], [2, 'two']]]); // biome-ignore format: rows
    expect(counts).toMatchObject({ inserted: 1, unchanged: 1 });
    expect(await target.state?.(first)).toEqual(stateOf(3));
    expect(await visible(client, first)).toEqual([[1, 'new'], [2, 'two']]); // biome-ignore format: rows
  });

  test.each(points)('an increment killed at %s is done again, no row of it twice and none lost', async (point) => {
    const one = await loaded([[1, 'one'], [2, 'two'], [3, 'three']], { mode: 'mirroring' }); // biome-ignore format: rows
    const next = nextRun(one, 2);
    const rows: Row[] = [[1, 'changed'], [4, 'four']]; // biome-ignore format: rows
    const after: Row[] = [[1, 'changed'], [3, 'three'], [4, 'four']]; // biome-ignore format: rows
    await killedAt(point, { url: within(url, prefix), work: next, rows, keys: ['2'] });
    expect(await target.state?.(one)).toEqual(point === 'after-swap' ? stateOf(2) : stateOf(1));
    const other = openTarget({ url: within(url, prefix) });
    try {
      await other.prepare(next);
      const claim = await other.claim(next, chunk(1));
      const counts = claim.done ?? (await other.write(next, claim, batchesOf('pg-text', rows), writeOptions()));
      expect(counts).toMatchObject({ read: 2, written: 2, inserted: 1, updated: 1, unchanged: 0 });
      const sweep = await other.claim(next, { id: 2, kind: 'sweep', bounds: {}, rows: 0 });
      const swept = sweep.done ?? (await other.deleteKeys?.(next, sweep, given(['2']), never));
      expect(swept).toMatchObject({ deleted: 1 });
      await other.finish(next);
      await other.publish([next], []);
    } finally {
      await other[Symbol.asyncDispose]();
    }
    expect(await visible(client, one)).toEqual(after);
    expect(await target.state?.(one)).toEqual(stateOf(2));
    const left = await rowsOf(
      client,
      `SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '_godwit' AND TABLE_NAME LIKE 'i\\_%'`,
    );
    expect(left).toEqual([]);
  });

  // ── Keys ────────────────────────────────────────────────────────────────────────────────────────────────────────

  test('keys of another system that are one in a collation of the target are two rows, or an error; never one', async () => {
    const columns = [column('id', 'varchar(50)', { kind: 'text' }, false), column('v', 'longtext', { kind: 'text' })];
    const exact = await loaded([['a', '1'], ['A', '2'], ['a ', '3']], { columns }); // biome-ignore format: rows
    const [counts] = await wholeRun(way, nextRun(exact, 2), [[['a', '1'], ['A', 'x'], ['á', '4'], ['a  ', '5']]]); // biome-ignore format: rows
    expect(counts).toMatchObject({ read: 4, inserted: 2, updated: 1, unchanged: 1 });
    expect(await keysOf(exact)).toEqual(['A', 'a', 'a ', 'a  ', 'á']);
    expect(await keysOf(exact, { after: ['A'], upto: ['a '] })).toEqual(['a', 'a ']);

    const loose = work({ mode: 'syncing', columns, readFormat: 'pg-text', writeFormat: 'pg-text', existing: 'adopt' });
    await client.query(`CREATE DATABASE ${quoted(loose.name).split('.')[0]} CHARACTER SET utf8mb4`);
    await client.query(
      `CREATE TABLE ${quoted(loose.name)} (id varchar(50) COLLATE utf8mb4_unicode_ci PRIMARY KEY, v longtext)`,
    );
    await client.query(`INSERT INTO ${quoted(loose.name)} VALUES ('a', '1'), ('b', '2')`);
    await target.remember?.(loose, stateOf(1));
    const next = nextRun(loose, 2);
    await target.prepare(next);
    for (const [id, key] of ['A', 'b ', 'á'].entries()) {
      const claim = await target.claim(next, chunk(id + 1));
      const code = await codeOf(target.write(next, claim, batchesOf('pg-text', [[key, 'x']]), writeOptions()));
      expect(code, key).toBe('CONSTRAINT_BROKEN');
    }
    const claim = await target.claim(next, chunk(9));
    expect(await target.write(next, claim, batchesOf('pg-text', [['a', 'x'], ['a', '1'], ['c', 'c']]), writeOptions())).toMatchObject({ read: 3, inserted: 1, updated: 0, unchanged: 2 }); // biome-ignore format: rows
    // A key is deleted by its bytes.
    const sweep = await target.claim(next, { id: 10, kind: 'sweep', bounds: {}, rows: 0 });
    expect(await target.deleteKeys?.(next, sweep, given(['A', 'b ', 'c']), never)).toMatchObject({ deleted: 1 });
    expect(await keysOf(next)).toEqual(['a', 'b']);
  });

  test('keys of the other systems: every type comes in order, is found again, and is deleted', async () => {
    const cases: [PlanColumn['type'], string, string[]][] = [
      [{ kind: 'uint64' }, 'bigint unsigned', ['0', '9', '10', '18446744073709551615']],
      [{ kind: 'decimal', precision: 12, scale: 3 }, 'decimal(12,3)', ['-1.5', '-0.001', '0', '9.999', '10']],
      [{ kind: 'uuid' }, 'char(36)', ['00000000-0000-0000-0000-000000000001', 'a0000000-0000-1000-0000-000000000000']],
      [{ kind: 'bytes' }, 'varbinary(20)', ['\\x', '\\x00', '\\x00ff', '\\x7f', '\\xff']],
      [{ kind: 'bool' }, 'tinyint(1)', ['false', 'true']],
      [{ kind: 'date' }, 'date', ['1969-12-31', '2024-02-29']],
      [{ kind: 'time' }, 'time(6)', ['00:00:00.000000', '12:00:00.500000', '24:00:00.000000']],
      [{ kind: 'timestamp' }, 'datetime(6)', ['1969-12-31T23:59:59.999999', '2024-02-29T12:00:00.500000']],
      [{ kind: 'timestamptz' }, 'datetime(3)', ['1969-12-31T23:59:59.999000Z', '2024-02-29T12:00:00.000000Z']],
      [{ kind: 'enum', values: ['sad', 'ok', 'Happy', "a\\'b"] }, `enum('sad','ok','Happy','a\\\\''b')`, ['Happy', "a\\'b", 'ok', 'sad']],
      [{ kind: 'text' }, 'varchar(50)', ['', '\ttab', ' ', 'A', 'a', 'a\\b', 'ä', '\uFFFD', '\u{1F600}']],
    ]; // biome-ignore format: one line each
    for (const [type, native, keys] of cases) {
      const columns = [column('id', native, type, false), column('v', 'longtext', { kind: 'text' })];
      const one = work({ mode: 'mirroring', columns, state: stateOf(1) });
      await wholeRun(way, one, [keys.toReversed().map((key) => [canonicalValue(type, key), 'v'])]);
      const next = nextRun(one, 2);
      expect(await keysOf(next), type.kind).toEqual(keys);
      for (const [i, key] of keys.entries()) {
        expect(await keysOf(next, { upto: [key] }), type.kind).toEqual(keys.slice(0, i + 1));
        expect(await keysOf(next, { after: [key] }), type.kind).toEqual(keys.slice(i + 1));
      }
      expect((await target.digest?.(next, {}, never))?.count).toBe(keys.length);
      await target.prepare(next);
      const claim = await target.claim(next, { id: 1, kind: 'sweep', bounds: {}, rows: 0 });
      const [, ...gone] = keys;
      expect(await target.deleteKeys?.(next, claim, given(gone), never), type.kind).toMatchObject({
        deleted: gone.length,
      });
      expect(await keysOf(next), type.kind).toEqual(keys.slice(0, 1));
    }
  });

  test('a key of several columns', async () => {
    const columns = [
      column('a', 'bigint unsigned', { kind: 'uint64' }, false),
      column('id', 'varchar(20)', { kind: 'text' }, false),
      column('v', 'longtext', { kind: 'text' }),
    ];
    const one = work({ mode: 'mirroring', columns, key: ['id', 'a'], state: stateOf(1) });
    await wholeRun(way, one, [[[10n, 'x', 'v'], [9n, 'x', 'v'], [18446744073709551615n, 'X', 'v'], [1n, '', null]]]); // biome-ignore format: rows
    const next = nextRun(one, 2);
    const keys = ['\x001', 'X\x0018446744073709551615', 'x\x009', 'x\x0010'];
    expect(await keysOf(next)).toEqual(keys);
    expect(await keysOf(next, { after: ['X', '18446744073709551615'], upto: ['x', '9'] })).toEqual(['x\x009']);
    const [counts] = await wholeRun(way, next, [[[10n, 'x', 'other'], [9n, 'x', 'v'], [11n, 'x', 'v']]]); // biome-ignore format: rows
    expect(counts).toMatchObject({ inserted: 1, updated: 1, unchanged: 1 });
  });

  // ── The table that is there ─────────────────────────────────────────────────────────────────────────────────────

  test('columns that the work does not have stay as they are', async () => {
    const one = await loaded([[1, 'one'], [2, 'two']], { onSchemaChange: 'add' }); // biome-ignore format: rows
    await client.query(
      `ALTER TABLE ${quoted(one.name)} ADD COLUMN extra varchar(9) DEFAULT 'filled', ADD COLUMN more int`,
    );
    await client.query(`UPDATE ${quoted(one.name)} SET extra = 'mine', more = 7`);
    await target.remember?.(one, stateOf(1));
    await wholeRun(way, nextRun(one, 2), [[[1, 'changed'], [3, 'three']]]); // biome-ignore format: rows
    expect(await rowsOf(client, `SELECT * FROM ${quoted(one.name)} ORDER BY id`)).toEqual([
      [1, 'changed', 'mine', 7],
      [2, 'two', 'mine', 7],
      [3, 'three', 'filled', null],
    ]);
  });

  test('a column that is new at the source comes to the table, which stays the one that is remembered', async () => {
    const one = await loaded([[1, 'one']], { onSchemaChange: 'add' });
    const columns = [...one.columns, column('n', 'int', { kind: 'int32' })];
    const next = nextRun(one, 2, { columns, writeFormat: 'rows', readFormat: 'rows' });
    expect(await target.refusals(next)).toEqual([]);
    expect((await target.drift?.(next))?.length).toBe(1);
    const [counts] = await wholeRun(way, next, [[[1, 'one', null], [2, 'two', 5]]]); // biome-ignore format: rows
    expect(counts).toMatchObject({ inserted: 1, unchanged: 1 });
    expect(await target.state?.(one)).toEqual(stateOf(2));
    expect((await target.refusals(nextRun(one, 3, { onSchemaChange: 'refuse' }))).map(({ code }) => code)).toEqual([
      'TARGET_DIFFERS',
    ]);
    // Gone at the source again: it stays, and what is there in it.
    await wholeRun(way, nextRun(one, 4), [[[2, 'changed'], [3, 'three']]]); // biome-ignore format: rows
    expect(await rowsOf(client, `SELECT id, v, n FROM ${quoted(one.name)} ORDER BY id`)).toEqual([[1, 'one', null], [2, 'changed', 5], [3, 'three', null]]); // biome-ignore format: rows
  });

  test('a table that was emptied, or made again with the same columns, is another one', async () => {
    for (const change of ['TRUNCATE', 'again'] as const) {
      const one = await loaded([[1, 'one']]);
      const table = quoted(one.name);
      if (change === 'TRUNCATE') await client.query(`TRUNCATE TABLE ${table}`);
      else {
        await client.query(`CREATE TABLE ${quoted({ ...one.name, name: 'copy' })} LIKE ${table}`);
        await client.query(`DROP TABLE ${table}`);
        await client.query(`RENAME TABLE ${quoted({ ...one.name, name: 'copy' })} TO ${table}`);
      }
      expect(await target.state?.(one), change).toBeUndefined();
      expect(await codeOf(target.prepare(nextRun(one, 2))), change).toBe('STATE_CHANGED');
    }
    // One that only got an index is the same.
    const one = await loaded([[1, 'one']]);
    await client.query(`ALTER TABLE ${quoted(one.name)} ADD KEY added (id, v(10))`);
    expect(await target.state?.(one)).toEqual(stateOf(1));
  });

  test('without a unique key there is no telling, so it is refused', async () => {
    const one = work({ mode: 'syncing', existing: 'adopt' });
    await client.query(`CREATE DATABASE ${quoted(one.name).split('.')[0]} CHARACTER SET utf8mb4`);
    await client.query(`CREATE TABLE ${quoted(one.name)} (id int NOT NULL, v longtext, KEY (id))`);
    expect(await codeOf(target.remember?.(one, stateOf(1)) ?? Promise.resolve())).toBe('TARGET_DIFFERS');
    await client.query(`ALTER TABLE ${quoted(one.name)} ENGINE = MyISAM, ADD UNIQUE KEY (id)`);
    expect(await codeOf(target.remember?.(one, stateOf(1)) ?? Promise.resolve())).toBe('TARGET_DIFFERS');
    expect(await target.state?.(one)).toBeUndefined();
  });

  test('another unique index of the table is never taken for the key', async () => {
    const one = await loaded([[1, 'one'], [2, 'two']]); // biome-ignore format: rows
    await client.query(`ALTER TABLE ${quoted(one.name)} ADD UNIQUE KEY (v(20))`);
    const next = nextRun(one, 2);
    await target.prepare(next);
    const claim = await target.claim(next, chunk(1));
    const code = await codeOf(target.write(next, claim, batchesOf('pg-text', [[3, 'one']]), writeOptions()));
    expect(code).toBe('CONSTRAINT_BROKEN');
    expect(await visible(client, one)).toEqual([[1, 'one'], [2, 'two']]); // biome-ignore format: rows
    await target.discard(next);
  });

  test('a trigger for new rows is called for those alone', async () => {
    const one = await loaded([[1, 'one'], [2, 'two']]); // biome-ignore format: rows
    const table = quoted(one.name);
    await client.query(
      `CREATE TRIGGER ${quoted({ ...one.name, name: 'marks' })} BEFORE INSERT ON ${table} FOR EACH ROW SET NEW.v = CONCAT(NEW.v, ' (new)')`,
    );
    const [counts] = await wholeRun(way, nextRun(one, 2), [[[1, 'one'], [2, 'changed'], [3, 'three']]]); // biome-ignore format: rows
    expect(counts).toMatchObject({ read: 3, inserted: 1, updated: 1, unchanged: 1 });
    expect(await visible(client, one)).toEqual([[1, 'one'], [2, 'changed'], [3, 'three (new)']]); // biome-ignore format: rows
  });

  test('a load by delete and insert is remembered in the same transaction', async () => {
    const one = await loaded([[1, 'one']]);
    const anew = { ...one, run: `${one.run}-anew`, swap: 'delete-insert' as const, state: stateOf(2) };
    made.push(anew);
    await wholeRun(way, anew, [[[2, 'two']]]);
    expect(await target.state?.(one)).toEqual(stateOf(2));
    // What is replaced without one has none: the next run of an incremental mode loads it.
    for (const swap of ['delete-insert', 'rename'] as const) {
      await target.remember?.(one, stateOf(3));
      const { state: _state, ...rest } = one;
      const replaced = { ...rest, mode: 'replace' as const, swap, run: `${one.run}-${swap}` };
      made.push(replaced);
      await wholeRun(way, replaced, [[[5, 'five']]]);
      expect(await target.state?.(one), swap).toBeUndefined();
    }
  });

  test('a canceled load leaves what is remembered of the table before it', async () => {
    const one = await loaded([[1, 'one']]);
    const anew = { ...one, run: `${one.run}-anew`, state: stateOf(2) };
    made.push(anew);
    await writeChunks(way, anew, [[[2, 'two']]]);
    await target.finish(anew);
    await target.discard(anew);
    expect(await target.state?.(one)).toEqual(stateOf(1));
    expect(await visible(client, one)).toEqual([[1, 'one']]);
  });

  // ── The ledger ──────────────────────────────────────────────────────────────────────────────────────────────────

  test('a ledger of before is brought up to date by two workers at once, and needs no rights of its own', async () => {
    const database = `${prefix} old`;
    const user = `u${prefix}`;
    await client.query(`CREATE DATABASE \`${database}\` CHARACTER SET utf8mb4`);
    await client.query(`CREATE USER ${user} IDENTIFIED BY 'some words'`);
    const rights = 'SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX';
    await client.query(`GRANT ${rights} ON \`${database}\`.* TO ${user}`);
    const address = new URL(within(url, database));
    address.username = user;
    address.password = encodeURIComponent('some words');
    const one = work({ mode: 'syncing', name: { schema: database, name: 'one' }, state: stateOf(1) });
    {
      await using little = openTarget({ url: address.href });
      expect((await little.refusals(one)).map(({ code }) => code)).toEqual(['PRIVILEGE_MISSING']);
      await client.query(`GRANT CREATE TEMPORARY TABLES ON \`${database}\`.* TO ${user}`);
    }
    {
      await using little = openTarget({ url: address.href });
      expect(await little.refusals(one)).toEqual([]);
      await wholeRun({ ...way, target: little }, one, [[[1, 'one']]]);
    }
    const book = (name: string) => quoted({ schema: database, name: `_godwit_${name}` });
    await client.query(`DROP TABLE ${book('state')}`);
    await client.query(
      `ALTER TABLE ${book('chunk')} DROP rows_unchanged, DROP rows_inserted, DROP rows_updated, DROP rows_deleted`,
    );
    await client.query(`UPDATE ${book('version')} SET version = 1`);
    await using a = openTarget({ url: address.href });
    await using b = openTarget({ url: address.href });
    expect(await a.state?.(one)).toBeUndefined();
    await Promise.all([a.remember?.(one, stateOf(2)), b.remember?.(one, stateOf(2))]);
    expect(await b.state?.(one)).toEqual(stateOf(2));
    const [counts] = await wholeRun({ ...way, target: b }, nextRun(one, 3), [[[1, 'one'], [2, 'two']]]); // biome-ignore format: rows
    expect(counts).toMatchObject({ inserted: 1, unchanged: 1 });
    expect(await rowsOf(client, `SELECT version FROM ${book('version')}`)).toEqual([[2]]);
    // Without PROCESS it is known by when it was made.
    expect(await a.state?.(one)).toEqual(stateOf(3));
    await new Promise((resolve) => setTimeout(resolve, 1100));
    await client.query(`CREATE TABLE ${quoted({ schema: database, name: 'copy' })} LIKE ${quoted(one.name)}`);
    await client.query(`DROP TABLE ${quoted(one.name)}`);
    await client.query(`RENAME TABLE ${quoted({ schema: database, name: 'copy' })} TO ${quoted(one.name)}`);
    expect(await a.state?.(one)).toBeUndefined();
    await client.query(`DROP USER ${user}`);
  });

  test('a server that allows no LOAD DATA LOCAL gets the same rows by REPLACE, and the same counts', async () => {
    await using server = await startMysql({ kind, settings: { local_infile: '0' } });
    const own = await connect(server.url);
    await using other = openTarget({ url: within(server.url, prefix) });
    const there = { ...way, target: other };
    const one = work({ mode: 'mirroring', readFormat: 'pg-text', writeFormat: 'pg-text', state: stateOf(1) });
    await wholeRun(there, one, [[[1, 'one'], [2, 'two']]]); // biome-ignore format: rows
    const next = nextRun(one, 2);
    const [counts] = await writeChunks(there, next, [[[1, 'older'], [1, 'one'], [2, 'x'], [9, 'older'], [9, 'younger']]]); // biome-ignore format: rows
    expect(counts).toMatchObject({ read: 5, inserted: 1, updated: 1, unchanged: 3 });
    const claim = await other.claim(next, { id: 7, kind: 'sweep', bounds: {}, rows: 0 });
    expect(await other.deleteKeys?.(next, claim, given(['1', '5']), never)).toMatchObject({ deleted: 1 });
    expect(await visible(own, one)).toEqual([[2, 'x'], [9, 'younger']]); // biome-ignore format: rows
    await own.end();
  });
}

/** A canonical text to the value it is of. */
function canonicalValue({ kind }: PlanColumn['type'], text: string): Value {
  if (kind === 'bool') return text === 'true';
  return kind === 'bytes' ? Buffer.from(text.slice(2), 'hex') : text;
}

async function* given(keys: KeyBatch): AsyncGenerator<KeyBatch> {
  yield keys;
}

/** Values of every type, from a table of the other server's or this one's own kind. */
function copying(from: MysqlKind, to: MysqlKind) {
  const { work: plain, prefix } = plainWorks();
  let origin: TestDatabase;
  let a: mysql.Connection;
  let b: mysql.Connection;
  let source: Source;
  let target: Target;
  beforeAll(async () => {
    origin = await createMysqlDatabase(from);
    a = await connect(origin.url);
    for (const statement of mysqlEveryType(from)) await a.query(statement);
    const url = await serverUrl(to);
    b = await connect(url);
    source = openSource({ url: origin.url });
    target = openTarget({ url: within(url, prefix) });
  });
  afterAll(async () => {
    await source?.[Symbol.asyncDispose]();
    await target?.[Symbol.asyncDispose]();
    if (b) await dropAll(b, prefix);
    await a?.end();
    await b?.end();
    await origin?.drop();
  });

  const planned = async (name: string, over: Partial<Work> = {}): Promise<Work> => {
    const table = await source.describe({ schema: origin.name, name });
    const base = plain({
      mode: 'mirroring',
      name: { schema: `${prefix} copies`, name },
      run: 'first',
      state: stateOf(1),
    });
    return workOf(base, table, target, over.writeFormat ?? 'pg-text', { key: table.key, ...over });
  };
  const all: Chunk = { id: 1, kind: 'all', bounds: {}, rows: 10 };
  const move = async (one: Work): Promise<Counts> => {
    expect((await target.refusals(one)).map(({ message }) => message)).toEqual([]);
    await target.prepare(one);
    const batches = source.read(one.source, all, {
      columns: one.columns.map(({ from: name = '', shape }) => ({ name, shape })),
      snapshot: { consistency: 'chunk' },
      format: one.readFormat,
      batch: { rows: 500, bytes: 1024 * 1024 },
      signal: never,
    });
    const counts = await target.write(one, await target.claim(one, all), batches, writeOptions());
    await target.finish(one);
    await target.publish([one], []);
    return counts;
  };

  const keyed = [...mysqlEveryTypeTables, mysqlOddDates].filter((name) => name !== 'no_key' && name !== 'events');
  test.each(['pg-text', 'rows'] as const)(
    'rows that are the same are the same in every type, and nothing is written for them (%s)',
    async (format) => {
      for (const name of keyed) {
        const one = await planned(name, { readFormat: format, writeFormat: format, run: `first ${format}` });
        const { read } = await move(one);
        const counts = await move(nextRun(one, 2));
        expect(counts, name).toMatchObject({ read, written: 0, inserted: 0, updated: 0, unchanged: read });
        const want = { snapshot: { consistency: 'chunk' as const }, signal: never };
        const digests = [
          await source.digest?.(one.source, one.source.key, {}, want),
          await target.digest?.(one, {}, never),
        ];
        if (from === to) expect(digests[1], name).toEqual(digests[0]);
        expect(digests[1]?.count, name).toBe(read);
        const types = one.key.map(
          (key) => one.columns.find((found) => found.name === key)?.type ?? { kind: 'text' as const },
        );
        const [there, here] = [
          target.keys?.(one, {}, never),
          () => source.keys?.(one.source, one.source.key, {}, want) ?? given([]),
        ];
        expect(await Array.fromAsync(missingFrom(there ?? given([]), here, comparer(types))), name).toEqual([]);
      }
    },
  );

  test('the least difference is one: case, accents, blanks, labels, signs, digits, bytes', async () => {
    const ci = from === 'mysql' ? 'utf8mb4_0900_ai_ci' : 'utf8mb4_unicode_ci';
    const columns = {
      c: [`varchar(20) COLLATE ${ci}`, `'a'`, `'A'`, `'á'`, `'á '`],
      t: [`text COLLATE ${ci}`, `'ss'`, `'ß'`, `''`, 'NULL'],
      e: [`enum('ok','b\\\\s','q''s') COLLATE ${ci}`, `'b\\\\s'`, `'q''s'`, 'NULL', `'ok'`],
      s: [`set('a','b')`, `'a'`, `'a,b'`, `''`, 'NULL'],
      d: ['double', '0', '1e-300', 'NULL', '0.1'],
      f: ['float', '0.1', '0.10000001', '0.2', '16777216'],
      n: ['decimal(10,2)', '1', '1.01', '1.10', 'NULL'],
      b: ['bit(9)', `b'1'`, `b'100000001'`, `b'0'`, 'NULL'],
      x: ['varbinary(9)', `X'20'`, `X'2020'`, `''`, `X'00'`],
      w: ['datetime(6)', `'2024-01-01'`, `'2024-01-01 00:00:00.000001'`, `'0000-00-00'`, 'NULL'],
      j: ['json', `'1'`, `'"1"'`, `'[1, 2]'`, `'[2, 1]'`],
      y: ['year', '0', '2000', '1999', 'NULL'],
      g: ['point', 'POINT(1, 2)', 'POINT(2, 1)', 'POINT(1, 1)', 'NULL'],
      u: ['bigint unsigned', '18446744073709551615', '18446744073709551614', '0', 'NULL'],
    } as const;
    const names = Object.keys(columns) as (keyof typeof columns)[];
    await a.query(
      `CREATE TABLE least (id int PRIMARY KEY, ${names.map((name) => `${name} ${columns[name][0]}`).join(', ')}) CHARACTER SET utf8mb4`,
    );
    await a.query(
      `INSERT INTO least VALUES ${names.map((_, i) => `(${i}, ${names.map((name) => columns[name][1]).join(', ')})`).join()}`,
    );
    const one = await planned('least');
    await move(one);
    for (const step of [2, 3, 4] as const) {
      for (const [i, name] of names.entries())
        await a.query(`UPDATE least SET ${name} = ${columns[name][step]} WHERE id = ${i}`);
      const counts = await move(nextRun(one, step));
      const changed = await rowsOf(b, `SELECT id FROM ${quoted(one.name)}`);
      expect(counts, `${step}`).toMatchObject({ read: changed.length, updated: names.length, inserted: 0 });
      expect(await move(nextRun(one, step, { run: `again ${step}` }))).toMatchObject({
        unchanged: names.length,
        written: 0,
      });
    }
    await a.query('UPDATE least SET d = -0e0 WHERE id = 0');
    await a.query('UPDATE least SET d = 0e0 WHERE id = 1');
    await move(nextRun(one, 7));
    const shown = `SELECT id, c, e + 0, d * 1e0, f * 1e0, n, HEX(x), HEX(g), j + 0 FROM`;
    const order = 'WHERE id > 0 ORDER BY id';
    expect(await rowsOf(b, `${shown} ${quoted(one.name)} ${order}`)).toEqual(
      await rowsOf(a, `${shown} least ${order}`),
    );
  });

  test('a key that is written otherwise, and the same in its collation, is the same row', async () => {
    await a.query(
      'CREATE TABLE respelled (id varchar(20) COLLATE utf8mb4_unicode_ci PRIMARY KEY, v int) CHARACTER SET utf8mb4',
    );
    await a.query(`INSERT INTO respelled VALUES ('abc', 1), ('other', 2)`);
    const one = await planned('respelled');
    await move(one);
    await a.query(`UPDATE respelled SET id = 'ABC' WHERE id = 'abc'`);
    expect(await move(nextRun(one, 2))).toMatchObject({ updated: 1, unchanged: 1 });
    expect(await rowsOf(b, `SELECT id, v FROM ${quoted(one.name)} ORDER BY v`)).toEqual([['ABC', 1], ['other', 2]]); // biome-ignore format: rows
  });

  test('only the key is unique in a table of an incremental mode, and nothing refers to others', async () => {
    await a.query('CREATE TABLE parents (id int PRIMARY KEY)');
    await a.query(
      `CREATE TABLE children (id int AUTO_INCREMENT PRIMARY KEY, code varchar(9) NOT NULL, parent int, at datetime ON UPDATE CURRENT_TIMESTAMP,
         UNIQUE KEY by_code (code), KEY by_at (at), FOREIGN KEY (parent) REFERENCES parents (id), CHECK (code <> 'none'))`,
    );
    await a.query('INSERT INTO parents VALUES (1)');
    await a.query(`INSERT INTO children VALUES (1, 'a', 1, '2024-01-01'), (2, 'b', 1, '2024-01-01')`);
    const one = await planned('children');
    await move(one);
    // Codes change places: on the way one of them is there twice.
    await a.query(`UPDATE children SET code = 'c', at = '2024-01-02' WHERE id = 1`);
    await a.query(`UPDATE children SET code = 'a', at = '2024-01-02' WHERE id = 2`);
    expect(await move(nextRun(one, 2))).toMatchObject({ updated: 2 });
    const indexes = await rowsOf(
      b,
      `SELECT INDEX_NAME, NON_UNIQUE FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = 'children' ORDER BY INDEX_NAME`,
      [one.name.schema],
    );
    expect(indexes).toEqual([['by_at', 1], ['by_code', 1], ['parent', 1], ['PRIMARY', 0]]); // biome-ignore format: rows
    const constraints = await rowsOf(
      b,
      `SELECT CONSTRAINT_TYPE FROM information_schema.TABLE_CONSTRAINTS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = 'children' ORDER BY 1`,
      [one.name.schema],
    );
    expect(constraints).toEqual([['CHECK'], ['PRIMARY KEY']]);

    const other = await planned('children', { name: { schema: `${prefix} codes`, name: 'by code' }, key: ['code'] });
    await move(other);
    await a.query(`INSERT INTO children VALUES (3, 'd', 1, '2024-01-02')`);
    expect(await move(nextRun(other, 2))).toMatchObject({ inserted: 1, unchanged: 2 });
    // Stagings lie in one database, where a check's name may be another's: then it has another one.
    const beside = [await planned('children', { run: 'x' }), await planned('children', { run: 'y', jobUid: 'other', name: { schema: `${prefix} more`, name: 'children' } })]; // biome-ignore format: one line
    for (const each of beside) {
      await target.prepare(each);
      await target.finish(each);
    }
    for (const each of beside) {
      expect((await target.publish([each], [])).notes.filter((note) => note.includes('check'))).toEqual([]);
      const checks = await rowsOf(
        b,
        `SELECT 1 FROM information_schema.TABLE_CONSTRAINTS WHERE CONSTRAINT_TYPE = 'CHECK' AND TABLE_SCHEMA = ? AND TABLE_NAME = 'children'`,
        [each.name.schema],
      );
      expect(checks).toHaveLength(1);
    }
    const keys = await rowsOf(
      b,
      `SELECT INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = 'by code' AND NON_UNIQUE = 0`,
      [other.name.schema],
    );
    expect(keys).toEqual([['by_code']]);
  });
}
