import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { projectFolder } from '../../config.ts';
import { codes, type ErrorCode } from '../../errors.ts';
import { type Installation, startInstallation } from './installation.ts';
import { apply, type Mapping, newShop, over, type RunTable, runTables, start, story, tell } from './job.ts';
import { query } from './oracle.ts';

/** What a user can get wrong: each has a code and a sentence that says where; permanent faults end in seconds. */
describe('bad input', () => {
  let here: Installation;
  let shop: Awaited<ReturnType<typeof newShop>>;
  let n = 0;
  beforeAll(async () => {
    here = await startInstallation({ workers: 1 });
    shop = await newShop(here, 'bad', { rows: 500 });
  });
  afterAll(async () => {
    await here?.[Symbol.asyncDispose]();
  });

  const table = (name: string, more: object = {}) => ({ table_name: name, mode: 'replace', ...more });
  const mapping = (more: object): Mapping => ({ ...shop.mapping, name: `bad_${++n}`, ...more });
  const files = (name: string) => {
    const path = join(here.files, name);
    mkdirSync(path, { recursive: true });
    return { destination_type: 'files', path, schema: 'shop', format: 'parquet' };
  };
  const target = () => ({ ...(shop.mapping.destination as { copy: object }).copy, schema: `to_${n}` });

  /** Runs it; the outcome must be there within these seconds. */
  async function run(job: Mapping, seconds = 15) {
    await apply(here, job);
    const { id } = await start(here, job.name);
    const row = await over(here, id, seconds);
    return { row, tables: await runTables(here, id), story: await story(here, id) };
  }
  const failureOf = (tables: readonly RunTable[], name: string) =>
    tables.find((one) => one.source_name === name)?.failure;
  const isSaid = (
    failure: { code: string; message: string; fix?: string } | null | undefined,
    code: ErrorCode,
    ...names: RegExp[]
  ) => {
    expect(failure?.code, failure?.message).toBe(code);
    for (const name of names) expect(failure?.message).toMatch(name);
    expect(failure?.message).toMatch(/[.\])]$/);
    expect(codes[code].fix).not.toBe('');
  };

  test('a wrong password of the source ends the run as LOGIN_REFUSED', async () => {
    const url = new URL(shop.source);
    url.password = 'not-this-one';
    const { row } = await run(
      mapping({ source: { source_type: 'pgsql', url: url.href }, tables: [table('shop.small_1')] }),
    );
    expect(row.status).toBe('failed');
    isSaid(row.failure, 'LOGIN_REFUSED', /postgres/, /127\.0\.0\.1:\d+, database bad/);
    expect(row.failure?.message).not.toContain('not-this-one');
  });

  test('a wrong password of one target fails the tables of that target; the other target gets its copy', async () => {
    const url = new URL(shop.target);
    url.password = 'not-this-one';
    const job = mapping({ tables: [table('shop.small_1')] });
    const { row, tables, story } = await run({
      ...job,
      destination: { good: target(), bad: { destination_type: 'pgsql', url: url.href } },
    });
    expect(row.status, story).toBe('partial');
    expect(tables.find((one) => one.target === 'good')?.status).toBe('succeeded');
    isSaid(tables.find((one) => one.target === 'bad')?.failure, 'LOGIN_REFUSED');
  });

  test('an unknown host ends the run as UNKNOWN_HOST', async () => {
    const source = { source_type: 'pgsql', url: 'postgresql://me@nowhere.invalid:5432/shop', password: 'x' };
    const { row } = await run(mapping({ source, tables: [table('shop.small_1')] }));
    expect(row.status).toBe('failed');
    isSaid(row.failure, 'UNKNOWN_HOST', /nowhere\.invalid/);
  });

  test('a missing table fails alone, with the nearest name; the others succeed', async () => {
    const job = mapping({ tables: [table('shop.smal_1'), table('shop.small_2')] });
    const { row, tables } = await run({ ...job, destination: { copy: target() } });
    expect(row.status).toBe('partial');
    isSaid(failureOf(tables, 'shop.smal_1'), 'TABLE_MISSING', /shop\.smal_1/, /small_1/);
    expect(tables.find((one) => one.source_name === 'shop.small_2')?.status).toBe('succeeded');
  });

  test('a wildcard that matches nothing is NO_TABLE_MATCHES; the others succeed', async () => {
    const job = mapping({ tables: [table('shp.*'), table('shop.small_2')] });
    const { row, tables } = await run({ ...job, destination: { copy: target() } });
    expect(row.status).toBe('partial');
    isSaid(failureOf(tables, 'shp.*'), 'NO_TABLE_MATCHES', /shp\.\*/);
  });

  test('no privilege on one of many tables: PRIVILEGE_MISSING names it; the others succeed', async () => {
    await query(
      shop.source,
      `CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT USAGE ON SCHEMA shop TO reader;
       GRANT SELECT ON ALL TABLES IN SCHEMA shop TO reader; REVOKE SELECT ON shop.small_2 FROM reader`,
    );
    const url = new URL(shop.source);
    url.username = 'reader';
    url.password = 'reader';
    const job = mapping({ source: { source_type: 'pgsql', url: url.href }, tables: [table('shop.small_*')] });
    const { row, tables, story } = await run({ ...job, destination: { copy: target() } });
    expect(row.status, story).toBe('partial');
    isSaid(failureOf(tables, 'shop.small_2'), 'PRIVILEGE_MISSING', /small_2/);
    expect(tables.filter((one) => one.status === 'succeeded')).toHaveLength(2);
  });

  test('no privilege on the target: PRIVILEGE_MISSING says what to grant', async () => {
    await query(shop.target, "CREATE ROLE looker LOGIN PASSWORD 'looker'");
    const url = new URL(shop.target);
    url.username = 'looker';
    url.password = 'looker';
    const job = mapping({ tables: [table('shop.small_1')] });
    const destination = { copy: { destination_type: 'pgsql', url: url.href, schema: 'forbidden' } };
    const { row, tables } = await run({ ...job, destination });
    expect(row.status).toBe('failed');
    isSaid(failureOf(tables, 'shop.small_1') ?? row.failure, 'PRIVILEGE_MISSING', /CREATE|permission|privilege/i);
  });

  test('a table on the target that Godwit did not make, with rows and other columns, is left as it was', async () => {
    const job = mapping({ tables: [table('shop.small_1'), table('shop.small_2')] });
    await query(
      shop.target,
      `CREATE SCHEMA to_${n}; CREATE TABLE to_${n}.small_1 (other int); INSERT INTO to_${n}.small_1 VALUES (7)`,
    );
    const { row, tables } = await run({ ...job, destination: { copy: target() } });
    expect(row.status).toBe('partial');
    isSaid(failureOf(tables, 'shop.small_1'), 'NOT_OWNED', new RegExp(`to_${n}\\.small_1`));
    expect(await query(shop.target, `SELECT other FROM to_${n}.small_1`)).toEqual([{ other: 7 }]);
    expect(tables.find((one) => one.source_name === 'shop.small_2')?.status).toBe('succeeded');
  });

  test('dumping into an adopted table with other columns is TARGET_DIFFERS', async () => {
    const job = mapping({ tables: [{ table_name: 'shop.small_1', mode: 'dumping', existing: 'adopt' }] });
    await query(
      shop.target,
      `CREATE SCHEMA to_${n}; CREATE TABLE to_${n}.small_1 (id bigint, rev text); INSERT INTO to_${n}.small_1 VALUES (7, 'x')`,
    );
    const { tables, story } = await run({ ...job, destination: { copy: target() } });
    expect(failureOf(tables, 'shop.small_1')?.code, story).toBe('TARGET_DIFFERS');
    isSaid(failureOf(tables, 'shop.small_1'), 'TARGET_DIFFERS', /small_1/, /rev|label|migration_snapshot_date/);
  });

  test('a value that does not fit stops its table as VALUE_REFUSED with the column; the others succeed', async () => {
    await query(
      shop.source,
      "CREATE SCHEMA odd; CREATE TABLE odd.times (id int PRIMARY KEY, at timestamptz); INSERT INTO odd.times VALUES (1, now()), (2, 'infinity'), (3, '0044-03-15 BC')",
    );
    const job = mapping({ tables: [table('odd.times'), table('shop.small_1')] });
    const { row, tables } = await run({ ...job, destination: { lake: files(job.name) } });
    expect(row.status).toBe('partial');
    isSaid(failureOf(tables, 'odd.times'), 'VALUE_REFUSED', /odd\.times/, /\bat\b/);
    expect(tables.find((one) => one.source_name === 'shop.small_1')?.status).toBe('succeeded');
  });

  test('bytes that are no UTF-8, from a SQL_ASCII database, stop their table as VALUE_REFUSED; a NUL in json passes', async () => {
    await query(here.source.url, "CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII'");
    const url = new URL(here.source.url);
    url.pathname = '/bytes';
    await query(
      url.href,
      `CREATE TABLE public.broken (id int PRIMARY KEY, note text); INSERT INTO public.broken VALUES (1, E'a\\377b');
       CREATE TABLE public.nul (id int PRIMARY KEY, doc json, raw bytea); INSERT INTO public.nul VALUES (1, '{"a":"\\u0000"}', '\\x0000')`,
    );
    for (const destination of [{ copy: target() }, { lake: files('bytes') }]) {
      const job = mapping({
        source: { source_type: 'pgsql', url: url.href },
        destination: 'copy' in destination ? { copy: { ...destination.copy, schema: 'bytes' } } : destination,
        tables: [table('public.broken'), table('public.nul')],
      });
      const { row, tables, story } = await run(job);
      expect(row.status, story).toBe('partial');
      isSaid(failureOf(tables, 'public.broken'), 'VALUE_REFUSED', /public\.broken/);
      expect(tables.find((one) => one.source_name === 'public.nul')?.status, story).toBe('succeeded');
    }
    expect(await query(shop.target, "SELECT doc::text, raw = '\\x0000' AS same FROM bytes.nul")).toEqual([
      { doc: '{"a":"\\u0000"}', same: true },
    ]);
  });

  test('a row of 50 MB goes through, to PostgreSQL and to files', async () => {
    await query(
      shop.source,
      "CREATE SCHEMA wide; CREATE TABLE wide.rows (id int PRIMARY KEY, body text); ALTER TABLE wide.rows ALTER body SET STORAGE EXTERNAL; INSERT INTO wide.rows VALUES (1, 'x'), (2, repeat(md5('a'), 1638400))",
    );
    const job = mapping({ tables: [table('wide.rows')] });
    const { row, story } = await run({ ...job, destination: { copy: target(), lake: files(job.name) } }, 60);
    expect(row.status, story).toBe('succeeded');
    const [same] = await query(
      shop.target,
      `SELECT md5(body) AS hash, length(body) AS long FROM to_${n}.rows WHERE id = 2`,
    );
    const [wanted] = await query(
      shop.source,
      'SELECT md5(body) AS hash, length(body) AS long FROM wide.rows WHERE id = 2',
    );
    expect(same).toEqual(wanted);
  });

  test('a mapping with a wrong key or a wrong type is refused with its place and the nearest key', async () => {
    const refused = (body: unknown) => apply(here, body as Mapping).then(() => 'accepted', String);
    const wrongKey = await refused(mapping({ tables: [{ table_name: 'shop.small_1', mod: 'replace' }] }));
    expect(wrongKey).toMatch(/422/);
    expect(wrongKey).toMatch(/MAPPING_INVALID/);
    expect(wrongKey).toMatch(/tables\[?\.?0/);
    expect(wrongKey).toMatch(/mode/);
    const wrongType = await refused(mapping({ tables: [table('shop.small_1', { batch_size: 'many' })] }));
    expect(wrongType).toMatch(/MAPPING_INVALID/);
    expect(wrongType).toMatch(/batch_size/);
  });

  test('a job that is running already is refused with the run that has it', async () => {
    const job = mapping({ tables: [table('shop.orders')] });
    await apply(here, { ...job, destination: { copy: target() } });
    here.sourceProxy.pause();
    const first = await start(here, job.name);
    try {
      const second = await start(here, job.name).then(() => 'accepted', String);
      expect(second).toMatch(/409/);
      expect(second).toMatch(/ALREADY_RUNNING/);
      expect(second).toMatch(new RegExp(`${job.name}.*1|run 1`));
    } finally {
      here.sourceProxy.resume();
    }
    await tell(here, first.id, 'cancel').catch(() => {});
    await over(here, first.id, 60);
  });

  test('a port in use: the API says so in one sentence and ends with 1', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as { port: number };
    const api = spawn(process.execPath, ['cli/main.ts', 'api'], {
      cwd: projectFolder,
      env: { ...here.env, GODWIT_HOME: join(here.folder, 'second'), PORT: String(port) },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    for (const stream of [api.stdout, api.stderr]) stream.on('data', (piece) => (said += piece));
    const late = setTimeout(() => api.kill('SIGKILL'), 30_000);
    const code = await new Promise((resolve) => api.once('close', resolve));
    clearTimeout(late);
    taken.close();
    expect(code, said).toBe(1);
    expect(said).toMatch(/PORT_IN_USE/);
    expect(said).toContain(String(port));
    expect(said).not.toMatch(/\n\s+at /);
  });
});
