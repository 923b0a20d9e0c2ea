import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DuckDBInstance } from '@duckdb/node-api';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BytesBatch, FileBatch, PlanColumn, RowsBatch, Work } from '../../connectors/contract.ts';
import type { LogicalType, Row } from '../../connectors/types.ts';
import { toParts } from '../../transforms/columnar.ts';
import { type DuckDb, openDuckDb } from '../../transforms/duckdb.ts';
import { rowsToParts } from '../../transforms/rows.ts';
import { noPyarrow, readByPyarrow } from '../conformance/files-pyarrow.ts';

const run = promisify(execFile);

let folder: string;
let duckdb: DuckDb;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'godwit-columnar-'));
  duckdb = await openDuckDb({ spool: join(folder, 'spool'), memoryBytes: 200 * 1024 * 1024 });
});
afterAll(async () => {
  await duckdb[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

type Extra = Partial<Pick<PlanColumn, 'shape' | 'misfit'>>;
const column = (name: string, type: LogicalType, extra: Extra = {}): PlanColumn => ({
  from: name,
  name,
  shape: 'native',
  type,
  native: '',
  nullable: true,
  fit: 'exact',
  misfit: 'stop',
  ...extra,
});

type Given = Pick<Work, 'columns'> & Partial<Pick<Work, 'writeFormat' | 'partition'>>;
const workOf = (given: Given) => ({ name: { schema: 's', name: 't' }, writeFormat: 'parquet' as const, ...given });

async function* stream(csv: string, rows: number, pieces = 1): AsyncGenerator<BytesBatch> {
  const bytes = Buffer.from(csv);
  const size = Math.ceil(bytes.length / pieces) || 1;
  for (let at = 0; at < bytes.length; at += size) yield { kind: 'bytes', bytes: [bytes.subarray(at, at + size)] };
  yield { kind: 'bytes', bytes: [], rows };
}

let taken = 0;
/** Copies the parts out of the spool before they go. */
async function keep(parts: AsyncIterable<FileBatch>): Promise<FileBatch[]> {
  const out = join(folder, `out-${taken++}`);
  const kept: FileBatch[] = [];
  for await (const part of parts) {
    await mkdir(join(out, part.partition), { recursive: true });
    const path = join(out, part.partition, `${kept.length}.${part.path.split('.').at(-1)}`);
    if (part.path) await copyFile(part.path, path);
    kept.push({ ...part, path });
  }
  return kept;
}

const options = (signal = new AbortController().signal) => ({ spool: join(folder, 'spool'), duckdb, signal });
const convert = (csv: string, rows: number, given: Given, pieces = 1) =>
  keep(toParts(() => stream(csv, rows, pieces), workOf(given), options()));

/** What is in the spool beside DuckDB's own folder. */
const spooled = () => readdirSync(join(folder, 'spool')).length - 1;

async function rowsOf(path: string): Promise<unknown[][]> {
  const connection = await (await DuckDBInstance.create(':memory:')).connect();
  const result = await connection.runAndReadAll(
    `SELECT * FROM read_parquet('${path.replaceAll("'", "''")}', hive_partitioning = false)`,
  );
  return result.getRowsJson() as unknown[][];
}

const everything: readonly PlanColumn[] = [
  column('v_bool', { kind: 'bool' }),
  column('v_int16', { kind: 'int16' }),
  column('v_int64', { kind: 'int64' }),
  column('v_uint64', { kind: 'uint64' }),
  column('v_decimal', { kind: 'decimal', precision: 38, scale: 10 }),
  column('v_float32', { kind: 'float32' }),
  column('v_float64', { kind: 'float64' }),
  column('v_text', { kind: 'text' }),
  column('v_bytes', { kind: 'bytes' }),
  column('v_date', { kind: 'date', wide: true }),
  column('v_time', { kind: 'time' }),
  column('v_timestamp', { kind: 'timestamp', wide: true }),
  column('v_timestamptz', { kind: 'timestamptz', wide: true }),
  column('v_uuid', { kind: 'uuid' }),
  column('v_json', { kind: 'json' }),
];
const everyRow = [
  't,-32768,-9223372036854775808,18446744073709551615,-1234567890123456789012345678.0123456789,0.1,-0,' +
    '"a ""b"",\n\\N é🐦","00ff5c0a","0001-01-01","23:59:59.999999","9999-12-31 23:59:59.999999",' +
    '"0001-01-01 00:00:00+00","a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","{""big"": 12345678901234567890.10}"',
  'f,32767,9223372036854775807,0,0.0000000001,NaN,-Infinity,"","",2024-02-29,00:00:00,2024-02-29 12:00:00.000001,' +
    '1970-01-01 00:00:00+00,00000000-0000-0000-0000-000000000000,null',
  ','.repeat(14),
];
const everyCsv = `${everyRow.join('\n')}\n`;

describe('CSV bytes become Parquet', () => {
  test('with every type, NULL and the empty text apart', async () => {
    const [part] = await convert(everyCsv, 3, { columns: everything });
    expect(part).toMatchObject({ kind: 'file', rows: 3, partition: '' });
    expect(await rowsOf(part!.path)).toEqual([
      [
        true,
        -32768,
        '-9223372036854775808',
        '18446744073709551615',
        '-1234567890123456789012345678.0123456789',
        expect.closeTo(0.1, 6),
        -0,
        'a "b",\n\\N é🐦',
        '\\x00\\xFF\\\\x0A',
        '0001-01-01',
        '23:59:59.999999',
        '9999-12-31 23:59:59.999999',
        '0001-01-01 00:00:00+00',
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
        '{"big": 12345678901234567890.10}',
      ],
      [
        false,
        32767,
        '9223372036854775807',
        '0',
        '0.0000000001',
        'NaN',
        '-Infinity',
        '',
        '',
        '2024-02-29',
        '00:00:00',
        '2024-02-29 12:00:00.000001',
        '1970-01-01 00:00:00+00',
        '00000000-0000-0000-0000-000000000000',
        'null',
      ],
      Array.from({ length: 15 }, () => null),
    ]);
    expect(spooled()).toBe(0);
  });

  test('which DuckDB through the pipe and from a file make alike', async () => {
    const times = 6000;
    const [one] = await convert(everyCsv.repeat(times), 3 * times, { columns: everything }, 50);
    expect(one!.rows).toBe(3 * times);
    const rows = await rowsOf(one!.path);
    const [few] = await convert(everyCsv, 3, { columns: everything });
    const expected = (await rowsOf(few!.path)).map((row) => JSON.stringify(row));
    for (const text of expected) expect(rows.filter((row) => JSON.stringify(row) === text)).toHaveLength(times);
  });

  test('of a chunk without rows one empty part', async () => {
    const [part, ...more] = await convert('', 0, { columns: everything });
    expect(more).toEqual([]);
    expect(part!.rows).toBe(0);
    expect(await rowsOf(part!.path)).toEqual([]);
  });

  test('a row of 50 MB among small ones, also behind a pipe and with line feeds in it', async () => {
    const big = 'x'.repeat(25_000_000) + '\n""'.repeat(9_000_000);
    const small = Array.from({ length: 20_000 }, (_, i) => `${i},"${'y'.repeat(80)}"\n`).join('');
    const columns = [column('id', { kind: 'int64' }), column('v', { kind: 'text' })];
    const [part] = await convert(`${small}-1,"${big}"\n${small}`, 40_001, { columns }, 200);
    expect(part!.rows).toBe(40_001);
    const connection = await (await DuckDBInstance.create(':memory:')).connect();
    const sql = `SELECT count(*), max(strlen(v)), md5(max(v) FILTER (id = -1)) FROM read_parquet('${part!.path}')`;
    const [row] = (await connection.runAndReadAll(sql)).getRowsJson();
    expect(row).toEqual(['40001', '43000000', expect.any(String)]);
  }, 60_000);
});

describe('A value which does not fit', () => {
  const refused: readonly [string, LogicalType][] = [
    ['0044-03-15 BC', { kind: 'date', wide: true }],
    ['!0044-03-15 BC', { kind: 'date', wide: true }],
    ['infinity', { kind: 'date', wide: true }],
    ['-infinity', { kind: 'date', wide: true }],
    ['10000-01-01', { kind: 'date', wide: true }],
    ['5874897-12-31', { kind: 'date', wide: true }],
    ['-infinity', { kind: 'timestamp', wide: true }],
    ['10000-01-01 00:00:00', { kind: 'timestamp', wide: true }],
    ['294276-12-31 23:59:59.999999+00', { kind: 'timestamptz', wide: true }],
    ['0044-03-15 12:00:00+00 BC', { kind: 'timestamptz', wide: true }],
    ['infinity', { kind: 'timestamptz', wide: true }],
    ['infinity', { kind: 'timestamp', wide: true }],
    ['!-infinity', { kind: 'timestamptz', wide: true }],
    ['4713-01-01 00:00:00 BC', { kind: 'timestamp', wide: true }],
    ['NaN', { kind: 'decimal', precision: 12, scale: 2, nan: true }],
    ['12345678901.00', { kind: 'decimal', precision: 12, scale: 2 }],
    ['24:00:00', { kind: 'time' }],
    ['SECRET-value', { kind: 'int64' }],
  ];
  test.each(refused)('%s stops, naming the column and not the value', async (value, type) => {
    const columns = [column('id', { kind: 'int32' }), column('The "Column"', type)];
    const failure = await convert(`1,\n2,${value}\n`, 2, { columns }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'VALUE_REFUSED', where: { column: 'The "Column"', table: 's.t' } });
    expect(JSON.stringify([failure, String(failure), (failure as Error).cause])).not.toContain(value);
    expect(spooled()).toBe(0);
  });

  test('in the middle of a long stream stops it too, and the source is told', async () => {
    const columns = [column('id', { kind: 'int32' }), column('v', { kind: 'text' })];
    let told = false;
    async function* endless(): AsyncGenerator<BytesBatch> {
      try {
        for (let i = 0; ; i++) {
          const bad = i === 300 ? 'SECRET,x\n' : '';
          yield { kind: 'bytes', bytes: [Buffer.from(`${i},"${'z'.repeat(50)}"\n`.repeat(500) + bad)] };
        }
      } finally {
        told = true;
      }
    }
    await expect(keep(toParts(endless, workOf({ columns }), options()))).rejects.toMatchObject({
      code: 'VALUE_REFUSED',
      where: { column: 'id' },
    });
    expect(told).toBe(true);
    expect(spooled()).toBe(0);
  });
});

describe('Nothing hangs and nothing is left', () => {
  const columns = [column('id', { kind: 'int32' }), column('v', { kind: 'text' })];
  const line = (i: number) => `${i},"${'z'.repeat(90)}"\n`;
  async function* failing(after: number, error: Error): AsyncGenerator<BytesBatch> {
    for (let i = 0; i < after; i++) yield { kind: 'bytes', bytes: [Buffer.from(line(i).repeat(1000))] };
    throw error;
  }

  test.each([0, 5, 60])('when the source fails after %i batches', async (after) => {
    const error = new Error('the source is gone');
    await expect(keep(toParts(() => failing(after, error), workOf({ columns }), options()))).rejects.toBe(error);
    expect(spooled()).toBe(0);
  });

  test.each([0, 5, 60])('when it is aborted while the source is silent after %i batches', async (after) => {
    const controller = new AbortController();
    async function* silent(): AsyncGenerator<BytesBatch> {
      for (let i = 0; i < after; i++) yield { kind: 'bytes', bytes: [Buffer.from(line(i).repeat(1000))] };
      setTimeout(() => controller.abort(new Error('enough')), 50);
      await new Promise((_, reject) => {
        controller.signal.addEventListener('abort', () => reject(controller.signal.reason));
      });
    }
    await expect(keep(toParts(silent, workOf({ columns }), options(controller.signal)))).rejects.toThrow('enough');
    expect(spooled()).toBe(0);
  });

  test('when the source counts other rows than the files have', async () => {
    await expect(convert(line(1).repeat(10), 11, { columns })).rejects.toMatchObject({ code: 'BOOKS_UNBALANCED' });
    await expect(convert(line(1).repeat(30_000), 29_999, { columns }, 40)).rejects.toMatchObject({
      code: 'BOOKS_UNBALANCED',
    });
    expect(spooled()).toBe(0);
  });

  test('when the consumer leaves', async () => {
    for await (const part of toParts(() => stream(line(1), 1), workOf({ columns }), options())) {
      expect(part.rows).toBe(1);
      break;
    }
    expect(spooled()).toBe(0);
  });

  test('and many at once do not wait for each other', async () => {
    // More streams than libuv has threads, every one of them longer than the pipe.
    const csv = line(7).repeat(20_000);
    const all = await Promise.all(Array.from({ length: 9 }, () => convert(csv, 20_000, { columns }, 30)));
    expect(all.map((parts) => parts[0]?.rows)).toEqual(Array.from({ length: 9 }, () => 20_000));
  });
});

describe('Hive folders', () => {
  test('by year, month and day of a timestamp, NULL in Hive’s own folder', async () => {
    const columns = [column('id', { kind: 'int32' }), column('at', { kind: 'timestamptz', wide: true })];
    const csv = '1,2024-05-07 23:59:59.5+00\n2,2024-05-08 00:00:00+00\n3,\n4,0999-01-01 00:00:00+00\n';
    const partition = { column: 'at', format: 'datetime' } as const;
    const parts = await convert(csv, 4, { columns, partition });
    const nothing = '__HIVE_DEFAULT_PARTITION__';
    expect(parts.map((part) => part.partition).sort()).toEqual([
      'at_year=0999/at_month=01/at_day=01',
      'at_year=2024/at_month=05/at_day=07',
      'at_year=2024/at_month=05/at_day=08',
      `at_year=${nothing}/at_month=${nothing}/at_day=${nothing}`,
    ]);
    expect(await rowsOf(parts.find(({ partition: folders }) => folders.includes('day=07'))!.path)).toEqual([
      [1, '2024-05-07 23:59:59.5+00'],
    ]);
  });

  test('by text, encoded; the column is a folder and not in the file', async () => {
    const columns = [column('id', { kind: 'int32' }), column('Place', { kind: 'text' })];
    const partition = { column: 'Place', format: 'str' } as const;
    const parts = await convert('1,"a/b=c é"\n2,\n3,"../.."\n', 3, { columns, partition });
    expect(parts.map((part) => part.partition).sort()).toEqual([
      'Place=..%2F..',
      'Place=__HIVE_DEFAULT_PARTITION__',
      'Place=a%2Fb%3Dc%20%C3%A9',
    ]);
    expect(parts.map((part) => part.rows)).toEqual([1, 1, 1]);
  });

  test('an empty text is refused: in a folder’s name it is NULL', async () => {
    const columns = [column('id', { kind: 'int32' }), column('Place', { kind: 'text' })];
    const partition = { column: 'Place', format: 'str' } as const;
    await expect(convert('1,""\n', 1, { columns, partition })).rejects.toMatchObject({
      code: 'VALUE_REFUSED',
      where: { column: 'Place' },
    });
  });

  test('more of them than DuckDB has memory for at once', async () => {
    const texts = Array.from({ length: 8 }, (_, i) => column(`t${i}`, { kind: 'text' }));
    const columns = [column('id', { kind: 'int32' }), column('day', { kind: 'date', wide: true }), ...texts];
    const day = (i: number) => new Date(Date.UTC(2022, 0, 1 + (i % 900))).toISOString().slice(0, 10);
    const csv = Array.from({ length: 2700 }, (_, i) => `${i},${day(i)},${texts.map((_, n) => `"t${n}"`)}\n`).join('');
    const partition = { column: 'day', format: 'datetime' } as const;
    for (const writeFormat of ['parquet', 'ndjson'] as const) {
      const parts = await convert(csv, 2700, { columns, writeFormat, partition });
      expect([parts.length, new Set(parts.map((part) => part.partition)).size]).toEqual([900, 900]);
      expect(parts.every(({ rows }) => rows === 3)).toBe(true);
    }
  }, 120_000);

  test('for CSV and NDJSON too, each part with its own count', async () => {
    const columns = [column('id', { kind: 'int32' }), column('n', { kind: 'int64' }), column('v', { kind: 'text' })];
    const csv = Array.from({ length: 30 }, (_, i) => `${i},${i % 3},"a\n""b"", ${i}"\n`).join('');
    for (const writeFormat of ['csv', 'ndjson'] as const) {
      const parts = await convert(csv, 30, { columns, writeFormat, partition: { column: 'n', format: 'int' } });
      expect(parts.map(({ partition, rows }) => `${partition} ${rows}`).sort()).toEqual(['n=0 10', 'n=1 10', 'n=2 10']);
    }
  });
});

describe('Text formats', () => {
  const columns = [
    column('id', { kind: 'int64' }),
    column('t', { kind: 'text' }),
    column('d', { kind: 'text' }, { shape: 'text' }),
    column('f', { kind: 'float64' }),
    column('b', { kind: 'bytes' }),
    column('j', { kind: 'json' }),
    column('ok', { kind: 'bool' }),
  ];
  const csv =
    '9223372036854775807,"a ""b"",\nc\t\\",1e131071,1e300,00ff,"{""n"": 0.12345678901234567890,\n""m"": [1, null]}",t\n' +
    '1,"","0044-03-15 BC",NaN,"",null,f\n,,,,,,\n';

  test('NDJSON keeps every digit', async () => {
    const [part] = await convert(csv, 3, { columns, writeFormat: 'ndjson' });
    expect(readFileSync(part!.path, 'utf8')).toBe(
      '{"id":9223372036854775807,"t":"a \\"b\\",\\nc\\t\\\\","d":"1e131071","f":1e300,"b":"\\\\x00ff","j":{"n": 0.12345678901234567890, "m": [1, null]},"ok":true}\n' +
        '{"id":1,"t":"","d":"0044-03-15 BC","f":"NaN","b":"\\\\x","j":null,"ok":false}\n' +
        '{"id":null,"t":null,"d":null,"f":null,"b":null,"j":null,"ok":null}\n',
    );
  });

  test('CSV tells NULL from the empty text', async () => {
    const [part] = await convert(csv, 3, { columns, writeFormat: 'csv' });
    expect(readFileSync(part!.path, 'utf8')).toBe(
      'id,t,d,f,b,j,ok\n' +
        '9223372036854775807,"a ""b"",\nc\t\\",1e131071,1e300,\\x00ff,"{""n"": 0.12345678901234567890,\n""m"": [1, null]}",true\n' +
        '1,"",0044-03-15 BC,NaN,\\x,null,false\n,,,,,,\n',
    );
  });
});

describe('The rows lane', () => {
  async function* rowsBatch(rows: Row[]): AsyncGenerator<RowsBatch> {
    yield { kind: 'rows', rows };
  }

  test('sets rows aside that do not fit, and gives the rest the same values', async () => {
    const columns = everything;
    const good: Row = [
      true,
      -32768,
      -9223372036854775808n,
      18446744073709551615n,
      '-1234567890123456789012345678.0123456789',
      0.5,
      Number.NEGATIVE_INFINITY,
      'a "b",\n',
      new Uint8Array([0, 255]),
      '0001-01-01',
      '23:59:59.999999',
      '9999-12-31T23:59:59.999999',
      '2024-02-29T12:00:00.000001Z',
      'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
      '{"a":1}',
    ];
    const nulls: Row = good.map(() => null);
    const bad = (i: number, value: Row[number]): Row => good.map((v, at) => (at === i ? value : v));
    const rows = [
      good,
      bad(9, 'infinity'),
      bad(9, '-000043-03-15'),
      bad(10, '24:00:00'),
      bad(4, 'NaN'),
      bad(4, '1e40'),
      bad(11, '+012345-01-01T00:00:00'),
      bad(12, '-infinity'),
      nulls,
    ];
    const parts = await keep(rowsToParts(rowsBatch(rows), workOf({ columns }), options()));
    expect(parts[0]!.rows).toBe(2);
    expect(parts[0]!.bad?.map(({ ordinal, column: name }) => [ordinal, name])).toEqual([
      [1, 'v_date'],
      [2, 'v_date'],
      [3, 'v_time'],
      [4, 'v_decimal'],
      [5, 'v_decimal'],
      [6, 'v_timestamp'],
      [7, 'v_timestamptz'],
    ]);
    const [first] = await rowsOf(parts[0]!.path);
    expect(first).toEqual([
      true,
      -32768,
      '-9223372036854775808',
      '18446744073709551615',
      '-1234567890123456789012345678.0123456789',
      0.5,
      '-Infinity',
      'a "b",\n',
      '\\x00\\xFF',
      '0001-01-01',
      '23:59:59.999999',
      '9999-12-31 23:59:59.999999',
      '2024-02-29 12:00:00.000001+00',
      'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
      '{"a":1}',
    ]);
  });

  test('mends what the mapping says to mend', async () => {
    const wide = { kind: 'date', wide: true } as const;
    const columns = [
      column('n', wide, { misfit: 'null' }),
      column('c', wide, { misfit: 'clamp' }),
      column('d', { kind: 'decimal', precision: 4, scale: 2 }, { misfit: 'clamp' }),
    ];
    const [part] = await keep(
      rowsToParts(rowsBatch([['infinity', '-infinity', '-1000']]), workOf({ columns }), options()),
    );
    expect(part!.bad).toBeUndefined();
    expect(await rowsOf(part!.path)).toEqual([[null, '0001-01-01', '-99.99']]);
  });

  test('any text and any bytes come back as they were', async () => {
    const columns = [column('t', { kind: 'text' }), column('b', { kind: 'bytes' }), column('n', { kind: 'int64' })];
    const text = fc
      .string({ unit: 'binary', maxLength: 40 })
      .map((s) => s.replaceAll('\0', ''))
      .filter((s) => s.isWellFormed());
    const row = fc.tuple(
      fc.option(text, { nil: null }),
      fc.option(fc.uint8Array({ maxLength: 20 }), { nil: null }),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 30 }), async (rows) => {
        const [part] = await keep(rowsToParts(rowsBatch(rows), workOf({ columns }), options()));
        const connection = await (await DuckDBInstance.create(':memory:')).connect();
        const sql = `SELECT t, CASE WHEN b IS NULL THEN NULL ELSE lower(hex(b)) END, CAST(n AS VARCHAR) FROM read_parquet('${part!.path}')`;
        const found = (await connection.runAndReadAll(sql)).getRowsJson();
        expect(found).toEqual(rows.map(([t, b, n]) => [t, b && Buffer.from(b).toString('hex'), String(n)]));
      }),
      { numRuns: 30 },
    );
  });
});

describe.skipIf(await noPyarrow())('A second reader', () => {
  test('reads every type as it was', async () => {
    const [part] = await convert(everyCsv, 3, { columns: everything });
    const { types, rows } = await readByPyarrow(part!.path);
    expect(types).toMatchObject({
      v_uint64: 'uint64',
      v_decimal: 'decimal128(38, 10)',
      v_time: 'time64[us]',
      v_timestamp: 'timestamp[us]',
      v_timestamptz: 'timestamp[us, tz=UTC]',
      v_uuid: 'string',
    });
    expect(rows[0]).toEqual({
      v_bool: true,
      v_int16: 'int -32768',
      v_int64: 'int -9223372036854775808',
      v_uint64: 'int 18446744073709551615',
      v_decimal: 'Decimal -1234567890123456789012345678.0123456789',
      v_float32: 'float 0.10000000149011612',
      v_float64: 'float -0.0',
      v_text: 'a "b",\n\\N é🐦',
      v_bytes: 'bytes 00ff5c0a',
      v_date: '0001-01-01',
      v_time: '23:59:59.999999',
      v_timestamp: '9999-12-31T23:59:59.999999',
      v_timestamptz: '0001-01-01T00:00:00+00:00',
      v_uuid: 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
      v_json: '{"big": 12345678901234567890.10}',
    });
    expect(rows[1]).toMatchObject({ v_float32: 'float nan', v_float64: 'float -inf', v_text: '', v_bytes: 'bytes ' });
    expect(Object.values(rows[2]!).every((value) => value === null)).toBe(true);
  });
});

/** A disk of 4 MB, where this user may mount one. */
async function smallDisk(): Promise<{ path: string; away: () => Promise<void> } | undefined> {
  const path = await mkdtemp(join(tmpdir(), 'godwit-small-disk-'));
  try {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', path]);
  } catch {
    await rm(path, { recursive: true });
    return undefined;
  }
  const away = async () => {
    await run('umount', ['-l', path]);
    await rm(path, { recursive: true, force: true });
  };
  return { path, away };
}

const disk = await smallDisk();
if (!disk) console.warn('skipped: this user may not mount a small disk');
afterAll(() => disk?.away());

describe.skipIf(!disk)('A spool without room', () => {
  const columns = [column('id', { kind: 'int32' }), column('v', { kind: 'text' })];
  const noise = (bytes: number) => randomBytes(bytes).toString('base64');

  test.each(['parquet', 'csv', 'ndjson'] as const)(
    'is LOCAL_DISK_FULL for %s, and is empty afterwards',
    async (format) => {
      const spool = join(disk!.path, 'spool');
      await using small = await openDuckDb({ spool, memoryBytes: 200 * 1024 * 1024 });
      const csv = Array.from({ length: 200 }, (_, i) => `${i},"${noise(60_000)}"\n`).join('');
      const work = workOf({ columns, writeFormat: format });
      const parts = toParts(() => stream(csv, 200, 100), work, {
        spool,
        duckdb: small,
        signal: AbortSignal.timeout(60_000),
      });
      await expect(keep(parts)).rejects.toMatchObject({ code: 'LOCAL_DISK_FULL' });
      expect(readdirSync(spool)).toHaveLength(1);
    },
  );

  test('is LOCAL_DISK_FULL when CSV is spooled too', async () => {
    const spool = join(disk!.path, 'spool');
    await using small = await openDuckDb({ spool, memoryBytes: 200 * 1024 * 1024 });
    async function* rows(): AsyncGenerator<RowsBatch> {
      for (let i = 0; i < 100; i++) yield { kind: 'rows', rows: [[i, noise(100_000)]] };
    }
    const signal = AbortSignal.timeout(60_000);
    await expect(
      keep(rowsToParts(rows(), workOf({ columns }), { spool, duckdb: small, signal })),
    ).rejects.toMatchObject({
      code: 'LOCAL_DISK_FULL',
    });
    expect(readdirSync(spool)).toHaveLength(1);
  });
});

describe('Times and dates of MySQL', () => {
  const time: LogicalType = { kind: 'time', wide: true, precision: 0 };
  const times = (misfit: PlanColumn['misfit']) => ({ columns: [column('t', time, { misfit })] });

  test.each(['25:00:00', '24:00:00', '838:59:59', '100:00:00', '-00:00:01', '-838:59:59'])(
    'a time beyond a day, %s, is refused, mended, and set aside by the rows lane',
    async (value) => {
      const refused = convert(`"${value}"\n`, 1, times('stop'));
      await expect(refused).rejects.toMatchObject({ code: 'VALUE_REFUSED', where: { column: 't' } });
      await expect(refused).rejects.not.toThrow(value);
      const [empty] = await convert(`${value}\n`, 1, times('null'));
      expect(await rowsOf(empty?.path as string)).toEqual([[null]]);
      const [clamped] = await convert(`${value}\n`, 1, times('clamp'));
      const nearest = value.startsWith('-') ? '00:00:00' : '23:59:59.999999';
      expect(await rowsOf(clamped?.path as string)).toEqual([[nearest]]);
      async function* rows(): AsyncGenerator<RowsBatch> {
        yield { kind: 'rows', rows: [['23:59:59'], [value]] };
      }
      const [part] = await keep(rowsToParts(rows(), workOf(times('quarantine')), options()));
      expect(part).toMatchObject({ rows: 1, bad: [{ ordinal: 1, column: 't' }] });
    },
  );

  test.each<[LogicalType['kind'], string]>([
    ['date', '0000-00-00'],
    ['date', '0000-01-01'],
    ['date', '2024-00-00'],
    ['date', '2023-02-31'],
    ['timestamp', '0000-00-00 00:00:00'],
    ['timestamp', '0000-01-01 00:00:00'],
    ['timestamp', '2024-04-31 00:00:00'],
  ])('a %s that no calendar has, %s, is refused, and set aside by the rows lane', async (kind, value) => {
    const columns = [column('d', { kind, wide: true } as LogicalType)];
    await expect(convert(`${value}\n`, 1, { columns })).rejects.toMatchObject({ code: 'VALUE_REFUSED' });
    async function* rows(): AsyncGenerator<RowsBatch> {
      const good = kind === 'date' ? '2024-02-29' : '2024-02-29T00:00:00';
      yield { kind: 'rows', rows: [[value.replace(' ', 'T')], [good]] };
    }
    const [part] = await keep(rowsToParts(rows(), workOf({ columns }), options()));
    expect(part).toMatchObject({ rows: 1, bad: [{ ordinal: 0, column: 'd' }] });
  });

  test('a text with NUL comes back as it was, on both lanes', async () => {
    const given = { columns: [column('t', { kind: 'text' })] };
    const [part] = await convert('"a\0b"\n"c"\n', 2, given);
    expect(await rowsOf(part?.path as string)).toEqual([['a\0b'], ['c']]);
    async function* rows(): AsyncGenerator<RowsBatch> {
      yield { kind: 'rows', rows: [['a\0b'], ['c']] };
    }
    const [spooled] = await keep(rowsToParts(rows(), workOf(given), options()));
    expect(await rowsOf(spooled?.path as string)).toEqual([['a\0b'], ['c']]);
  });
});
