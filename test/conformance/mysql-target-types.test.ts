/** How MySQL holds the types of other systems: every fit is made, filled at its edges in both lanes, and read back. */
import type mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Batch, Column, Fit, Misfit, PlanColumn, Table, Target } from '../../connectors/contract.ts';
import { fieldsOf, lineOf } from '../../connectors/mysql/target/texts.ts';
import { openTarget } from '../../connectors/mysql/target.ts';
import type { LogicalType, Row, Value } from '../../connectors/types.ts';
import { mysqlHas } from './mysql-every-type.ts';
import {
  column,
  connect,
  describeKinds,
  dropAll,
  give,
  plainWorks,
  quoted,
  rowsOf,
  serverUrl,
  textBatches,
  within,
} from './mysql-works.ts';
import { chunk, codeOf, writeOptions } from './target.ts';

type Case = {
  readonly type: LogicalType;
  readonly native: string;
  readonly fit?: 'checked';
  /** Canonical values (as they arrive after shaping), each with what the server then says. */
  readonly values: readonly (readonly [value: Value, said: string])[];
  /** How the server is asked; default its text. */
  readonly ask?: string;
};

const json = '{"b": 1.10, "a": 0.1000000000000000055511151231257827, "b": [12345678901234567890123, 1e400]}';
const mood = { kind: 'enum', values: ['sad', 'it\'s "ok"', 'a\\b,\t', 'SAD'] } as const;

const cases: Readonly<Record<string, Case>> = {
  flag: {
    type: { kind: 'bool' },
    native: 'tinyint(1)',
    values: [
      [true, '1'],
      [false, '0'],
    ],
  },
  i8: {
    type: { kind: 'int8' },
    native: 'tinyint',
    values: [
      [-128, '-128'],
      [127, '127'],
    ],
  },
  i16: { type: { kind: 'int16' }, native: 'smallint', values: [[-32768, '-32768']] },
  i32: { type: { kind: 'int32' }, native: 'int', values: [[2147483647, '2147483647']] },
  i64: { type: { kind: 'int64' }, native: 'bigint', values: [[-9223372036854775808n, '-9223372036854775808']] },
  u64: {
    type: { kind: 'uint64' },
    native: 'bigint unsigned',
    values: [[18446744073709551615n, '18446744073709551615']],
  },
  f32: {
    type: { kind: 'float32' },
    native: 'float',
    fit: 'checked',
    ask: 'CAST(f32 * 1e0 AS CHAR)',
    values: [
      [Math.fround(3.4028235e38), '3.4028234663852886e38'],
      [Math.fround(0.1), '0.10000000149011612'],
      [Math.fround(1e-45), '1.401298464324817e-45'],
      [16777217, '16777216'],
    ],
  },
  f64: {
    type: { kind: 'float64' },
    native: 'double',
    fit: 'checked',
    values: [
      [1.7976931348623157e308, '1.7976931348623157e308'],
      [5e-324, '5e-324'],
      [0.1, '0.1'],
    ],
  },
  dec: {
    type: { kind: 'decimal', precision: 65, scale: 30 },
    native: 'decimal(65,30)',
    values: [
      [
        '-99999999999999999999999999999999999.999999999999999999999999999999',
        '-99999999999999999999999999999999999.999999999999999999999999999999',
      ],
    ],
  },
  nan: {
    type: { kind: 'decimal', precision: 12, scale: 2, nan: true },
    native: 'decimal(12,2)',
    fit: 'checked',
    values: [['0.10', '0.10']],
  },
  free: {
    type: { kind: 'decimal' },
    native: 'longtext',
    values: [
      ['1.50', '1.50'],
      ['NaN', 'NaN'],
      [`1${'0'.repeat(200)}`, `1${'0'.repeat(200)}`],
    ],
  },
  wide: { type: { kind: 'decimal', precision: 66, scale: 2 }, native: 'longtext', values: [['1.50', '1.50']] },
  txt: {
    type: { kind: 'text' },
    native: 'longtext',
    values: [
      ['', ''],
      ['NULL', 'NULL'],
      ['\\N', '\\N'],
      ['\\.', '\\.'],
      [
        'tab\t nl\n cr\r ff\f vt\v nul\0 sub\x1a bs\b \\ \'"` 🐦',
        'tab\t nl\n cr\r ff\f vt\v nul\0 sub\x1a bs\b \\ \'"` 🐦',
      ],
      [' blanks ', ' blanks '],
    ],
  },
  lim: {
    type: { kind: 'text', length: 5 },
    native: 'varchar(5)',
    values: [
      ['🐦🐦🐦🐦🐦', '🐦🐦🐦🐦🐦'],
      ['a   ', 'a   '],
    ],
  },
  bin: {
    type: { kind: 'bytes' },
    native: 'longblob',
    ask: 'HEX(bin)',
    values: [
      [Uint8Array.of(0, 255, 92, 10, 9), '00FF5C0A09'],
      [Uint8Array.of(), ''],
    ],
  },
  uid: {
    type: { kind: 'uuid' },
    native: 'char(36)',
    values: [['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11']],
  },
  doc: {
    type: { kind: 'json' },
    native: 'longtext',
    values: [
      [json, json],
      ['null', 'null'],
    ],
  },
  day: {
    type: { kind: 'date', wide: true },
    native: 'date',
    fit: 'checked',
    values: [
      ['0001-01-01', '0001-01-01'],
      ['9999-12-31', '9999-12-31'],
    ],
  },
  tim: {
    type: { kind: 'time' },
    native: 'time(6)',
    values: [
      ['24:00:00', '24:00:00.000000'],
      ['00:00:00.000001', '00:00:00.000001'],
    ],
  },
  tim0: { type: { kind: 'time', precision: 0 }, native: 'time', values: [['23:59:59', '23:59:59']] },
  tz: { type: { kind: 'timetz' }, native: 'longtext', values: [['12:00:00+15:59:59', '12:00:00+15:59:59']] },
  ts: {
    type: { kind: 'timestamp', precision: 3 },
    native: 'datetime(3)',
    values: [
      ['9999-12-31T23:59:59.999', '9999-12-31 23:59:59.999'],
      ['0001-01-01T00:00:00', '0001-01-01 00:00:00.000'],
    ],
  },
  tsz: {
    type: { kind: 'timestamptz', wide: true },
    native: 'datetime(6)',
    fit: 'checked',
    values: [
      ['2038-01-19T03:14:08Z', '2038-01-19 03:14:08.000000'],
      ['1969-12-31T23:59:59.999999Z', '1969-12-31 23:59:59.999999'],
    ],
  },
  nano: {
    type: { kind: 'timestamp', precision: 9 },
    native: 'longtext',
    values: [['2024-01-01 00:00:00.123456789', '2024-01-01 00:00:00.123456789']],
  },
  span: { type: { kind: 'interval' }, native: 'longtext', values: [['1 mon -3 days', '1 mon -3 days']] },
  mood: {
    type: mood,
    native: "enum('sad','it''s \"ok\"','a\\\\b,\t','SAD')",
    values: mood.values.map((label) => [label, label] as const),
  },
  digits: { type: { kind: 'enum', values: ['1', '2'] }, native: 'longtext', values: [['2', '2']] },
  list: {
    type: { kind: 'array', of: { kind: 'int64' } },
    native: 'longtext',
    values: [
      ['[1, null, 3]', '[1, null, 3]'],
      [[1n, null, 9007199254740993n], '[1, null, 9007199254740993]'],
    ],
  },
  odd: { type: { kind: 'native' }, native: 'longtext', values: [['(1,2)', '(1,2)']] },
};

const tableOf = (columns: readonly Column[], key: readonly string[]): Table => ({
  system: 'postgres',
  name: { schema: 'public', name: 't' },
  kind: 'table',
  columns,
  key,
  rows: 1,
  bytes: 1,
  references: [],
  fingerprint: '',
});
const sourceColumn = (name: string, type: LogicalType): Column => ({ name, type, native: type.kind, nullable: true });

await describeKinds(': types', (kind) => {
  const { work, prefix } = plainWorks();
  let client: mysql.Connection;
  let target: Target;
  beforeAll(async () => {
    const url = await serverUrl(kind);
    client = await connect(url);
    target = openTarget({ url: within(url, prefix) });
  });
  afterAll(async () => {
    await target?.[Symbol.asyncDispose]();
    if (client) await dropAll(client, prefix);
    await client?.end();
  });

  const planned = (fits: readonly Fit[], columns: readonly Column[], misfit: Misfit = 'stop'): PlanColumn[] =>
    columns.map(({ name, nullable }, i) => {
      const fit = fits[i];
      if (!fit || fit.fit === 'refused') throw new Error(`${name} is refused`);
      return column(name, fit.native, fit.type, nullable, { fit: fit.fit, shape: fit.shape, misfit });
    });
  const written = async (columns: PlanColumn[], rows: readonly Row[], lane: 'rows' | 'pg-text') => {
    const one = work({ columns, key: ['id'], writeFormat: lane });
    expect((await target.refusals(one)).map((error) => error.message)).toEqual([]);
    await target.prepare(one);
    const fields = fieldsOf(columns);
    const text = rows.map((row) => lineOf(fields(row))).join('');
    const batches: AsyncIterable<Batch> =
      lane === 'rows' ? give([{ kind: 'rows', rows }]) : give(textBatches(text, rows.length));
    await target.write(one, await target.claim(one, chunk(1)), batches, writeOptions());
    await target.finish(one);
    await target.publish([one], []);
    return one;
  };

  for (const lane of ['rows', 'pg-text'] as const) {
    test(`every type at its edges by ${lane}`, async () => {
      const names = Object.keys(cases);
      const columns = [
        { ...sourceColumn('id', { kind: 'int32' }), nullable: false },
        ...names.map((name) => sourceColumn(name, (cases[name] as Case).type)),
      ];
      const fits = target.fit(tableOf(columns, ['id']));
      for (const [i, name] of names.entries()) {
        const { native, fit = 'exact' } = cases[name] as Case;
        expect(fits[i + 1], name).toMatchObject({ fit, native });
      }
      const most = Math.max(...names.map((name) => (cases[name] as Case).values.length)) + 1;
      const rows = Array.from(
        { length: most },
        (_, r): Row => [r, ...names.map((name) => (cases[name] as Case).values[r]?.[0] ?? null)],
      );
      const one = await written(planned(fits, columns), rows, lane);
      const asked = names.map((name) => (cases[name] as Case).ask ?? `CAST(\`${name}\` AS CHAR)`);
      const there = await rowsOf(client, `SELECT ${asked.join(', ')} FROM ${quoted(one.name)} ORDER BY id`);
      for (const [i, name] of names.entries()) {
        const said = there.map((row) => row[i] ?? null).map((value) => (value === null ? null : String(value)));
        const wanted = rows.map((_, r) => (cases[name] as Case).values[r]?.[1] ?? null);
        expect(said, name).toEqual(wanted);
      }
    });
  }

  test('keys that differ only in case, accents or blanks are different keys, whatever the type', async () => {
    const columns = [{ ...sourceColumn('id', { kind: 'text' }), nullable: false }];
    const fits = target.fit(tableOf(columns, ['id']));
    expect(fits[0]).toMatchObject({ fit: 'checked', native: 'varchar(750)' });
    const [version] = (await rowsOf(client, 'SELECT VERSION()')) as [[string]];
    // To `utf8mb4_bin` blanks at the end are nothing.
    const blanks = mysqlHas(kind, version[0]).exact ? ['a ', ' '] : [];
    const keys = ['a', 'A', 'á', ' a', 'a\t', 'ss', 'ß', '', ...blanks, 'x'.repeat(750), '🐦'.repeat(750)];
    const one = await written(
      planned(fits, columns),
      keys.map((key) => [key]),
      'pg-text',
    );
    expect((await rowsOf(client, `SELECT COUNT(*) FROM ${quoted(one.name)}`))[0]).toEqual([keys.length]);
    const long = { ...one, run: `${one.run}+` };
    await target.prepare(long);
    const claim = await target.claim(long, chunk(1));
    expect(await codeOf(target.write(long, claim, give(textBatches(`${'x'.repeat(751)}\n`, 1)), writeOptions()))).toBe(
      'VALUE_REFUSED',
    );
    await target.discard(long);
  });

  test('keys of several columns share the bytes of an index; rows that are too wide give up their VARCHARs', async () => {
    const named = (...types: LogicalType[]) =>
      types.map((type, i) => ({ ...sourceColumn(`c${i}`, type), nullable: false }));
    const natives = (columns: Column[], key: string[]) =>
      target.fit(tableOf(columns, key)).map((fit) => (fit.fit === 'refused' ? 'refused' : fit.native));
    const text = { kind: 'text' } as const;
    const columns = named({ kind: 'int64' }, text, { kind: 'text', length: 100 }, { kind: 'bytes' }, { kind: 'uuid' });
    const key = columns.map(({ name }) => name);
    const found = natives(columns, key);
    expect(found.slice(0, 3)).toEqual(['bigint', expect.stringMatching(/^varchar\(\d+\)$/), 'varchar(100)']);
    const sixteen = named(...Array.from({ length: 16 }, () => text));
    for (const some of [columns, sixteen]) {
      const all = some.map(({ name }) => name);
      const fits = target.fit(tableOf(some, all));
      const one = work({ columns: planned(fits, some), key: all });
      expect((await target.refusals(one)).map((error) => error.message)).toEqual([]);
      await target.prepare(one);
      await target.discard(one);
    }
    const wide = [
      ...named({ kind: 'int32' }),
      ...Array.from({ length: 20 }, (_, i) => sourceColumn(`w${i}`, { kind: 'text', length: 1000 })),
    ];
    const widths = natives(wide, ['c0']);
    expect(new Set(widths)).toEqual(new Set(['int', 'varchar(1000)', 'longtext']));
    const one = work({ columns: planned(target.fit(tableOf(wide, ['c0'])), wide), key: ['c0'] });
    expect(await target.refusals(one)).toEqual([]);
    await target.prepare(one);
    await target.discard(one);
  });

  test('what a type cannot hold becomes NULL or the nearest, where the mapping says so', async () => {
    const columns = [
      { ...sourceColumn('id', { kind: 'int32' }), nullable: false },
      sourceColumn('f32', { kind: 'float32' }),
      sourceColumn('f64', { kind: 'float64' }),
    ];
    const rows: Row[] = [
      [1, Number.NaN, Number.NaN],
      [2, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
      [3, Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY],
      [4, 1.5, 1.5],
    ];
    const fits = target.fit(tableOf(columns, ['id']));
    for (const lane of ['rows', 'pg-text'] as const) {
      const nulls = await written(planned(fits, columns, 'null'), rows, lane);
      expect(await rowsOf(client, `SELECT f32, f64 FROM ${quoted(nulls.name)} ORDER BY id`)).toEqual([
        [null, null],
        [null, null],
        [null, null],
        [1.5, 1.5],
      ]);
      const near = await written(planned(fits, columns, 'clamp'), rows, lane);
      const most = 1.7976931348623157e308;
      const said = await rowsOf(client, `SELECT f32 * 1e0, f64 FROM ${quoted(near.name)} ORDER BY id`);
      expect(said).toEqual([
        [null, null],
        [3.4028234663852886e38, most],
        [-3.4028234663852886e38, -most],
        [1.5, 1.5],
      ]);
    }
  });

  describe('the types MySQL keeps for JSON', () => {
    test.skipIf(kind === 'mariadb')(
      'would change numbers, which is why JSON of other systems is text here',
      async () => {
        const [row] = await rowsOf(
          client,
          `SELECT CAST(CAST('{"b": 1.10, "a": 12345678901234567890123}' AS JSON) AS CHAR)`,
        );
        expect(row?.[0]).toBe('{"a": 1.2345678901234568e22, "b": 1.1}');
      },
    );
  });
});
