/**
 * PostgreSQL beside other systems: its text for them is shaped and guarded as the rows lane would, and what it cannot hold
 * of theirs is refused by value, set aside or mended.
 */
import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BadRow, Misfit, PlanColumn, ReadColumn, Source, Table, Target } from '../../connectors/contract.ts';
import { openSource } from '../../connectors/postgres/source.ts';
import { openTarget } from '../../connectors/postgres/target.ts';
import { parserOf } from '../../connectors/postgres/values.ts';
import type { LogicalType, Row, Value } from '../../connectors/types.ts';
import { holds, nearest } from '../../transforms/holds.ts';
import { mended } from '../../transforms/mend.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { column, plainWork } from './postgres-works.ts';
import { readBytes, readRows, whole } from './source.ts';
import { chunk, codeOf, writeOptions } from './target.ts';

const noServer = await missing('postgres');

describe.skipIf(noServer)('PostgreSQL’s text for another system', () => {
  let database: TestDatabase;
  let client: pg.Client;
  let source: Source;
  beforeAll(async () => {
    database = await createDatabase();
    client = new pg.Client({ connectionString: database.url });
    await client.connect();
    source = openSource({ url: database.url });
  });
  afterAll(async () => {
    await source?.[Symbol.asyncDispose]();
    await client?.end();
    await database?.drop();
  });

  /** The lines of COPY text as fields, escapes undone. */
  const fields = (bytes: Buffer): (string | null)[][] =>
    bytes
      .toString()
      .split('\n')
      .slice(0, -1)
      .map((line) => line.split('\t').map((field) => (field === '\\N' ? null : unescaped(field))));
  const escapes: Record<string, string> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };
  const unescaped = (field: string) => field.replace(/\\(.)/gs, (_, char: string) => escapes[char] ?? char);

  const day = fc.oneof(
    fc.constantFrom(
      'infinity',
      '-infinity',
      '0001-01-01',
      '9999-12-31',
      '10000-01-01',
      '0001-12-31 BC',
      '4713-01-01 BC',
    ),
    fc.integer({ min: 1, max: 12_000 }).map((year) => `${String(year).padStart(4, '0')}-02-28`),
  );
  const second = fc.constantFrom('00:00:00', '23:59:59.999999', '12:34:56.789');
  const moment = fc.tuple(day, second).map(([date, time]) => {
    if (date.endsWith('y')) return date;
    return date.endsWith(' BC') ? `${date.slice(0, -3)} ${time} BC` : `${date} ${time}`;
  });
  const numeric = fc.oneof(
    fc.constant('NaN'),
    fc
      .tuple(fc.integer({ min: -9999999, max: 9999999 }), fc.nat(99))
      .map(([a, b]) => `${a}.${String(b).padStart(2, '0')}`),
  );
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 20 }).map((one) => one.replaceAll('\0', '')),
    fc.constantFrom('\\N', '\\', '\b\f\n\r\t\v', '', "'", '\u2028'),
  );
  const row = fc.tuple(day, moment, moment, numeric, text, fc.boolean(), fc.uint8Array({ maxLength: 9 }), fc.double());

  const guards: Misfit[] = ['stop', 'null', 'clamp', 'text', 'quarantine'];
  test.each(guards)('is shaped and guarded (%s) as its rows are', async (misfit) => {
    await client.query(`DROP TABLE IF EXISTS odd; CREATE TABLE odd (n int PRIMARY KEY, d date, ts timestamp, tz timestamptz,
      num numeric(12,2), t text, b boolean, raw bytea, f float8, list text[], span interval, net inet)`);
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 40 }), async (rows) => {
        await client.query('TRUNCATE odd');
        for (const [n, [d, ts, tz, num, t, b, raw, f]] of rows.entries()) {
          const zoned = tz.endsWith(' BC') ? `${tz.slice(0, -3)}+00 BC` : tz.endsWith('y') ? tz : `${tz}+00`;
          const list = [t, null, num];
          await client.query(`INSERT INTO odd VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,'1 year 2 days 03:04:05','10.0.0.1')`, [
            n, d, ts, zoned, num, t, b, Buffer.from(raw), String(f), list,
          ]); // biome-ignore format: one row
        }
        const table = await source.describe({ schema: 'public', name: 'odd' });
        const types = new Map(table.columns.map(({ name, type }) => [name, type]));
        const guarded = new Set(['d', 'ts', 'tz', 'num']);
        const shapes: Record<string, ReadColumn['shape']> = { list: 'json', span: 'text', net: 'text' };
        const columns = table.columns.map(
          ({ name }): ReadColumn => ({
            name,
            shape: shapes[name] ?? (guarded.has(name) && misfit === 'text' ? 'text' : 'native'),
            ...(guarded.has(name) && misfit !== 'text' ? { guard: { misfit } } : {}),
          }),
        );
        const plain = await readRows(source, table, whole);
        const copied = fields((await readBytes(source, table, whole, { format: 'pg-text', columns })).bytes);
        expect(copied.length).toBe(plain.length);
        for (const [r, given] of plain.entries()) {
          for (const [c, { name, shape, guard }] of columns.entries()) {
            const type = types.get(name) as LogicalType;
            const found = copied[r]?.[c] ?? null;
            const value = given[c] ?? null;
            if (shape === 'json') {
              expect(JSON.parse(found as string)).toEqual(value);
              continue;
            }
            const test =
              guard && (guard.misfit === 'null' || guard.misfit === 'clamp')
                ? holds(type, { endOfDay: true })
                : undefined;
            const wanted = mend(value, type, test, guard?.misfit);
            expect(found === null ? null : parserOf(type)(found), `${name} of row ${r}`).toEqual(wanted);
          }
        }
      }),
      { numRuns: 8 },
    );
  });

  const mend = (value: Value, type: LogicalType, test: ReturnType<typeof holds>, misfit?: Misfit): Value => {
    if (value === null || !test || test(value)) return value;
    return misfit === 'null' ? null : (nearest(value, type) ?? null);
  };

  test('has the constants of a plan in every row', async () => {
    await client.query('DROP TABLE IF EXISTS odd; CREATE TABLE odd (n int PRIMARY KEY); INSERT INTO odd VALUES (1)');
    const table = await source.describe({ schema: 'public', name: 'odd' });
    const at: ReadColumn = {
      name: 'migration_snapshot_date',
      shape: 'native',
      constant: { value: '2024-02-29T12:00:00.5Z', type: { kind: 'timestamptz' } },
    };
    const columns: ReadColumn[] = [{ name: 'n', shape: 'native' }, at];
    const { bytes } = await readBytes(source, table, whole, { format: 'pg-text', columns });
    expect(bytes.toString()).toBe('1\t2024-02-29 12:00:00.5+00\n');
  });
});

describe.skipIf(noServer)('What PostgreSQL cannot hold of other systems', () => {
  let database: TestDatabase;
  let client: pg.Client;
  let target: Target;
  beforeAll(async () => {
    database = await createDatabase();
    client = new pg.Client({ connectionString: database.url });
    await client.connect();
    target = openTarget({ url: database.url });
  });
  afterAll(async () => {
    await target?.[Symbol.asyncDispose]();
    await client?.end();
    await database?.drop();
  });

  const types: readonly (readonly [name: string, type: LogicalType, native: string])[] = [
    ['id', { kind: 'int32' }, 'int'],
    ['big', { kind: 'uint64' }, 'bigint unsigned'],
    ['exact', { kind: 'decimal', precision: 65, scale: 30 }, 'decimal(65,30)'],
    ['day', { kind: 'date', wide: true }, 'date'],
    ['moment', { kind: 'timestamp', wide: true, precision: 0 }, 'datetime'],
    ['zoned', { kind: 'timestamptz', wide: true, precision: 6 }, 'timestamp(6)'],
    ['clock', { kind: 'time', wide: true, precision: 3 }, 'time(3)'],
    ['said', { kind: 'text', length: 20 }, 'varchar(20)'],
    ['mood', { kind: 'enum', values: ['a', 'b'] }, "enum('a','b')"],
    ['doc', { kind: 'json' }, 'json'],
    ['raw', { kind: 'bytes' }, 'blob'],
    ['f', { kind: 'float32' }, 'float'],
  ];
  const table: Table = {
    system: 'mysql',
    name: { schema: 'shop', name: 'odd' },
    kind: 'table',
    columns: types.map(([name, type, native]) => ({ name, type, native, nullable: true })),
    key: ['id'],
    rows: 1,
    bytes: 1,
    references: [],
    fingerprint: 'f',
  };
  const columnsFor = (misfit: Misfit): PlanColumn[] =>
    target.fit(table).map((fit, i) => {
      if (fit.fit === 'refused') throw new Error(fit.reason);
      const one = table.columns[i] as Table['columns'][number];
      return { ...column(one.name, fit.native, fit.type, one.nullable), shape: fit.shape, fit: fit.fit, misfit };
    });
  const good: Row = [
    1,
    18446744073709551615n,
    '-12345678901234567890123456789012345.123456789012345678901234567890',
    '9999-12-31',
    '2024-02-29T12:00:00',
    '1970-01-01T00:00:01.000001Z',
    '23:59:59.999',
    'é\t\\N',
    'a',
    '{"b": 1, "a": "\\u0000", "b": 2}',
    Buffer.from([0, 255, 92]),
    Math.fround(0.1),
  ];
  const with_ = (id: number, name: string, value: Value): Row =>
    good.map((one, i) => (i === 0 ? id : types[i]?.[0] === name ? value : one));
  /** Each holds one value that PostgreSQL refuses, and what it becomes when clamped. */
  const bad: readonly (readonly [string, Value, Value | undefined])[] = [
    ['day', '0000-00-00', '0001-01-01'],
    ['day', '2024-00-00', '2024-01-01'],
    ['day', '2023-02-31', '2023-02-28'],
    ['moment', '0000-00-00T00:00:00', '0001-01-01T00:00:00'],
    ['moment', '2024-04-31T10:11:12', '2024-04-30T10:11:12'],
    ['zoned', '+294277-01-01T00:00:00Z', '+294276-12-31T23:59:59.999999Z'],
    ['clock', '838:59:59', '23:59:59.999'],
    ['clock', '-00:00:01', '00:00:00'],
    ['clock', '25:00:00', '23:59:59.999'],
    ['clock', '100:00:00', '23:59:59.999'],
    ['clock', '-12:00:00', '00:00:00'],
    ['said', 'a\0b', undefined],
  ];

  const write = async (misfit: Misfit, rows: readonly Row[], aside?: BadRow[]) => {
    const work = { ...plainWork(), source: table, columns: columnsFor(misfit), key: ['id'] };
    await target.prepare(work);
    const claim = await target.claim(work, chunk(1));
    async function* batches() {
      yield { kind: 'rows' as const, rows };
    }
    const counts = await target.write(
      work,
      claim,
      mended(batches(), work.columns, target.holds),
      writeOptions(aside ? { quarantine: async (found) => void aside.push(...found) } : {}),
    );
    await target.finish(work);
    await target.publish([work], []);
    const name = `${pg.escapeIdentifier(work.name.schema)}.${pg.escapeIdentifier(work.name.name)}`;
    return { counts, name };
  };

  test('is checked where values decide, and the rest is exact', () => {
    const fits = target.fit(table).map((fit, i) => [types[i]?.[0], fit.fit, fit.fit === 'refused' ? '' : fit.native]);
    expect(fits).toEqual([
      ['id', 'exact', 'integer'],
      ['big', 'exact', 'numeric(20,0)'],
      ['exact', 'exact', 'numeric(65,30)'],
      ['day', 'checked', 'date'],
      ['moment', 'checked', 'timestamp(0) without time zone'],
      ['zoned', 'checked', 'timestamp(6) with time zone'],
      ['clock', 'checked', 'time(3) without time zone'],
      ['said', 'checked', 'character varying(20)'],
      ['mood', 'exact', 'text'],
      ['doc', 'exact', 'json'],
      ['raw', 'exact', 'bytea'],
      ['f', 'exact', 'real'],
    ]);
  });

  test('never stops what it can hold', async () => {
    const { counts, name } = await write('stop', [good, types.map((_, i) => (i === 0 ? 2 : null))]);
    expect(counts).toMatchObject({ read: 2, written: 2, quarantined: 0 });
    const { rows } = await client.query(
      `SELECT big::text, exact::text, said, doc::text, raw, f::text, moment::text FROM ${name} ORDER BY id LIMIT 1`,
    );
    const [, big, exact, , , , , said, , doc, raw] = good;
    expect(rows).toEqual([{ big: String(big), exact, said, doc, raw, f: '0.1', moment: '2024-02-29 12:00:00' }]);
  });

  test.each(bad)('stops the table: %s %j', async (name, value) => {
    const aside: BadRow[] = [];
    const { counts } = await write('stop', [good, with_(2, name, value)], aside);
    expect(counts).toMatchObject({ read: 2, written: 1, quarantined: 1 });
    expect(aside).toMatchObject([{ ordinal: 1, native: expect.stringMatching(/^22/) }]);
    if (name === 'said') expect(aside[0]?.reason).toMatch(/NUL byte/);
  });

  test('becomes NULL where the mapping says so', async () => {
    const { counts, name } = await write(
      'null',
      bad.map(([column, value], i) => with_(i, column, value)),
    );
    expect(counts).toMatchObject({ read: bad.length, written: bad.length, quarantined: 0 });
    const nulls = types.map(([column]) => `count(*) - count(${column}) AS ${column}`).join(', ');
    const { rows } = await client.query(`SELECT ${nulls} FROM ${name}`);
    const counted = Map.groupBy(bad, ([column]) => column);
    for (const [column] of types) expect(Number(rows[0][column]), column).toBe(counted.get(column)?.length ?? 0);
  });

  test.each(['null', 'clamp'] as const)(
    'is not what other systems cannot hold: %s mends none of it',
    async (misfit) => {
      const held: readonly (readonly [string, Value, string])[] = [
        ['day', '+012345-01-01', '12345-01-01'],
        ['day', '+5874897-12-31', '5874897-12-31'],
        ['day', '-004713-11-24', '4714-11-24 BC'],
        ['day', 'infinity', 'infinity'],
        ['moment', '+294276-12-31T23:59:59', '294276-12-31 23:59:59'],
        ['moment', '+000000-02-29T00:00:00', '0001-02-29 00:00:00 BC'],
        ['zoned', '+010000-01-01T00:00:00.5Z', '10000-01-01 00:00:00.5+00'],
        ['clock', '24:00:00', '24:00:00'],
      ];
      const rows = held.map(([column, value], i) => with_(i, column, value));
      const { counts, name } = await write(misfit, rows);
      expect(counts).toMatchObject({ written: held.length, quarantined: 0 });
      await client.query(`SET TimeZone = 'UTC'`);
      for (const [i, [column, , text]] of held.entries()) {
        const { rows } = await client.query(`SELECT ${column}::text AS found FROM ${name} WHERE id = $1`, [i]);
        expect(rows[0].found, column).toBe(text);
      }
    },
  );

  test('becomes the nearest where the mapping says so, if there is one', async () => {
    const clamped = bad.filter(([, , to]) => to !== undefined);
    const { counts, name } = await write(
      'clamp',
      clamped.map(([column, value], i) => with_(i, column, value)),
    );
    expect(counts).toMatchObject({ written: clamped.length, quarantined: 0 });
    await client.query(`SET TimeZone = 'UTC'`);
    for (const [i, [column, , to]] of clamped.entries()) {
      const { rows } = await client.query(`SELECT ${column}::text AS found FROM ${name} WHERE id = $1`, [i]);
      expect(rows[0].found).toBe(String(to).replace(/^\+/, '').replace('T', ' ').replace('Z', '+00'));
    }
    expect(await codeOf(write('clamp', [with_(1, 'said', 'a\0b')]))).not.toBe('no error');
  });
});
