import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { planWork } from '../../activities/plan/work.ts';
import { readColumn } from '../../activities/read.ts';
import type { Batch, BytesBatch, Misfit, RowsBatch, Source, Target, Work } from '../../connectors/contract.ts';
import { parseSettings } from '../../connectors/files/settings.ts';
import { openTarget } from '../../connectors/files/target.ts';
import { openSource } from '../../connectors/postgres/source.ts';
import type { TableEntry } from '../../mapping/document.ts';
import { toParts } from '../../transforms/columnar.ts';
import { type DuckDb, openDuckDb } from '../../transforms/duckdb.ts';
import { rowsToParts } from '../../transforms/rows.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { everyType } from './every-type.ts';
import { writeOptions } from './files-fixture.ts';
import { noPyarrow, readByPyarrow } from './files-pyarrow.ts';

const skip = await missing('postgres');
const noSecondReader = await noPyarrow();

describe.skipIf(skip)('PostgreSQL to files', () => {
  let folder: string;
  let database: TestDatabase;
  let client: pg.Client;
  let source: Source;
  let target: Target;
  let duckdb: DuckDb;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'godwit-files-pg-'));
    database = await createDatabase();
    client = new pg.Client({ connectionString: database.url });
    await client.connect();
    const { rows } = await client.query<{ version: string }>("SELECT current_setting('server_version_num') AS version");
    await client.query(everyType(Math.floor(Number(rows[0]!.version) / 10_000)));
    await client.query("SET TimeZone = 'UTC'");
    source = openSource({ url: database.url });
    target = await openTarget(parseSettings('files', { path: join(folder, 'lake') }), { fileRoots: [folder] });
    duckdb = await openDuckDb({ spool: join(folder, 'spool'), memoryBytes: 200 * 1024 * 1024 });
  });
  afterAll(async () => {
    await duckdb?.[Symbol.asyncDispose]();
    await source?.[Symbol.asyncDispose]();
    await client?.end();
    await database?.drop();
    await rm(folder, { recursive: true, force: true });
  });

  type Wish = { readonly misfit?: Misfit; readonly format?: 'parquet' | 'csv' | 'ndjson' };

  async function plan(name: string, { misfit, format = 'parquet' }: Wish = {}): Promise<Work> {
    const table = await source.describe({ schema: 'nasty', name });
    const entry: TableEntry = {
      name: `nasty.${name}`,
      exclude: [],
      mode: 'dumping',
      batchSize: 1000,
      excludeColumns: [],
      rename: {},
      where: [],
      existing: 'refuse',
      swap: 'rename',
      continue: 'resume',
      onMisfit: misfit ? { '*': misfit } : {},
      maxQuarantined: 0,
      views: false,
    };
    const { work } = planWork({
      entry,
      table,
      source,
      target: { ...target, fit: (of) => target.fit(of, format) },
      targetName: 'lake',
      use: { target: 'lake', schema: '{schema}', table: `{table} ${misfit} ${format}`, format },
      installation: 'test',
      jobUid: 'job',
      run: 'run',
      snapshotDate: '2026-01-02T03:04:05.678Z',
    });
    return work;
  }

  /** Moves the table; where the first part lies. */
  async function move(work: Work): Promise<string> {
    await using snapshot = await source.open();
    const signal = new AbortController().signal;
    const at = { consistency: 'snapshot', token: snapshot.token } as const;
    await target.prepare(work);
    const options = { spool: join(folder, 'spool'), duckdb, signal };
    for await (const chunk of source.split(work.source, {
      size: { rows: 2000, bytes: 1 << 20 },
      snapshot: at,
      signal,
    })) {
      const read = (): AsyncIterable<Batch> =>
        source.read(work.source, chunk, {
          columns: work.columns.map(readColumn),
          snapshot: at,
          format: work.readFormat,
          batch: { rows: 1000, bytes: 1 << 18 },
          signal,
        });
      const parts =
        work.lane === 'columnar'
          ? toParts(read as () => AsyncIterable<BytesBatch>, work, options)
          : rowsToParts(read() as AsyncIterable<RowsBatch>, work, options);
      await target.write(work, await target.claim(work, chunk), parts, writeOptions());
    }
    await target.finish(work);
    await target.publish([work], []);
    return join(folder, 'lake', work.name.schema, work.name.name.replaceAll('"', '%22'));
  }

  test.skipIf(noSecondReader)('every type is the same for a second reader', async () => {
    const work = await plan('every type', { misfit: 'null' });
    expect(work.lane).toBe('columnar');
    const { rows } = await readByPyarrow(await move(work), 'dataset');
    const byId = new Map(rows.map((row) => [row.id, row]));
    expect(byId.size).toBe(7);
    expect(byId.get('int 2')).toMatchObject({
      v_bool: true,
      v_int8: 'int 9223372036854775807',
      v_float8: 'float 1.7976931348623157e+308',
      v_numeric: 'NaN',
      v_numeric_12_2: 'Decimal 9999999999.99',
      v_numeric_50_20: '123456789012345678901234567890.12345678901234567890',
      v_bytea: 'bytes 00ff5c0a0922',
      v_json: '{"b": 1.10, "a": [null, "\\u00e9"], "b": 2}',
      v_uuid: 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
      v_date: null,
      v_time: null,
      v_timestamp: null,
      v_timestamp0: '2024-02-29T23:59:59',
      v_timestamptz: null,
      v_mood: 'it\'s "ok"',
      migration_snapshot_date: '2026-01-02T03:04:05.678000+00:00',
    });
    expect(byId.get('int 3')).toMatchObject({
      v_text: '',
      v_varchar: '',
      v_mood: '',
      v_date: null,
      v_float4: 'float nan',
    });
    expect(byId.get('int 1')).toMatchObject({ v_text: null, v_bool: null, v_bytea: null });
    expect(byId.get('int 5')).toMatchObject({
      v_date: '0001-01-01',
      v_timestamptz: '9999-12-31T23:59:59.999999+00:00',
      v_float8: 'float -0.0',
    });
    // Every column that became text is PostgreSQL's own text, in every row.
    const texts = work.columns.filter(({ shape, type, from }) => from && (shape === 'text' || type.kind === 'text'));
    expect(texts.length).toBeGreaterThan(20);
    const list = texts
      .map(({ from }) => {
        // As COPY writes it: concat takes the type's own output, which some casts to text are not.
        const name = pg.escapeIdentifier(from!);
        return `CASE WHEN ${name} IS DISTINCT FROM NULL THEN concat(${name}) END`;
      })
      .join(', ');
    const found = await client.query({ text: `SELECT id::text, ${list} FROM nasty."every type"`, rowMode: 'array' });
    for (const [id, ...values] of found.rows as (string | null)[][]) {
      const row = byId.get(`int ${id}`)!;
      for (const [i, { name }] of texts.entries()) {
        expect([name, row[name]]).toEqual([name, values[i]]);
      }
    }
    expect(byId.get('int 2')!.v_char).toBe('ab   ');
  });

  test('a value that does not fit stops the table, naming its column', async () => {
    const work = await plan('every type');
    await expect(move(work)).rejects.toMatchObject({ code: 'VALUE_REFUSED', where: { column: expect.any(String) } });
  });

  test.skipIf(noSecondReader)('a table of many rows is the same through both lanes', async () => {
    const work = await plan('many');
    const fast = await readByPyarrow(await move(work), 'dataset');
    const slow = { ...work, name: { ...work.name, name: 'slow' }, lane: 'rows', readFormat: 'rows' } as const;
    const other = await readByPyarrow(await move(slow), 'dataset');
    const sorted = (rows: readonly unknown[]) => rows.map((row) => JSON.stringify(row)).sort();
    expect(fast.rows).toHaveLength(5000);
    expect(sorted(other.rows)).toEqual(sorted(fast.rows));
    expect(other.types).toEqual(fast.types);
    const { rows } = await client.query('SELECT sum(amount)::text AS sum, count(ref)::int AS refs FROM nasty.many');
    const cents = fast.rows.map(({ amount }) => BigInt(String(amount).replace(/Decimal |\./g, '')));
    expect(cents.reduce((a, b) => a + b)).toBe(BigInt(rows[0].sum.replace('.', '')));
    expect(fast.rows.filter(({ ref }) => ref !== null)).toHaveLength(rows[0].refs);
  });

  test('CSV can be loaded back into PostgreSQL and is then the same', async () => {
    const work = await plan('no_key', { format: 'csv' });
    const path = await move(work);
    const parts: string[] = [];
    for (const name of await import('node:fs/promises').then(({ readdir }) => readdir(path))) {
      if (!name.endsWith('.csv')) continue;
      await copyFile(join(path, name), join(folder, name));
      parts.push(join(folder, name));
    }
    await client.query('CREATE TABLE back (a integer, b text, at timestamptz)');
    const { from } = await import('pg-copy-streams');
    const { pipeline } = await import('node:stream/promises');
    const { createReadStream } = await import('node:fs');
    for (const part of parts) {
      await pipeline(createReadStream(part), client.query(from('COPY back FROM STDIN (FORMAT csv, HEADER)')));
    }
    const differences = await client.query(
      '(SELECT a, b FROM back EXCEPT ALL SELECT a, b FROM nasty.no_key) UNION ALL (SELECT a, b FROM nasty.no_key EXCEPT ALL SELECT a, b FROM back)',
    );
    expect(differences.rows).toEqual([]);
    expect((await client.query('SELECT count(*)::int AS n FROM back')).rows[0].n).toBe(1000);
  });
});
