import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MongoClient } from 'mongodb';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { startApi } from '../../api/server.ts';
import { readMappingFile } from '../../cli/mapping-file.ts';
import { type Installation, install } from '../api/installation.ts';
import { createDatabase, createMongoDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { environment, godwit, jsonLines, newHome } from './godwit.ts';

const python = (() => {
  try {
    return execFileSync('python3', ['--version']).toString();
  } catch {
    return undefined;
  }
})();
const old = (name: string) => fileURLToPath(new URL(`./old-mappings/${name}`, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'godwit-import-'));
const home = newHome();
const env = environment(home.path, { GODWIT_URL: 'http://127.0.0.1:9' });
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  home.remove();
});

describe.skipIf(!python)('godwit import', () => {
  it('writes the YAML of a Python mapping: variables by name, nothing lost, the manual’s time zone', async () => {
    const { code, out, err } = await godwit(['import', old('shop.py'), '--out', folder], {
      ...env,
      SHOP_PASSWORD: 'secret-of-the-shell',
    });
    expect(out).toContain(`shop: written to ${join(folder, 'shop.yaml')}`);
    expect(out).toMatch(/by hand: the function get_table_name/);
    expect(err).toContain('SHOP_URL, SHOP_DB, SHOP_USER, SHOP_PASSWORD');
    expect(code).toBe(3);
    const text = readFileSync(join(folder, 'shop.yaml'), 'utf8');
    expect(text).not.toContain('secret-of-the-shell');
    expect(text).toMatch(/^# by hand: the function get_table_name/);
    expect(parse(text)).toEqual({
      name: 'shop',
      timezone: 'Asia/Kolkata',
      source: {
        source_type: 'pgsql',
        url: 'env:SHOP_URL',
        db_name: 'env:SHOP_DB',
        username: 'env:SHOP_USER',
        password: 'env:SHOP_PASSWORD',
      },
      destination: {
        pgsql_destination_3: {
          destination_type: 'pgsql',
          url: 'env:DWH_URL',
          db_name: 'env:DWH_DB',
          username: 'env:DWH_USER',
          password: 'env:DWH_PASSWORD',
          schema: 'public',
        },
      },
      tables: [
        {
          table_name: 'my_table',
          cron: 'self-managed',
          mode: 'mirroring',
          batch_size: 10000,
          bookmark: 'updated_at',
          improper_bookmarks: false,
          primary_key: 'id',
          primary_key_datatype: 'uuid',
          partition_col: 'created_at',
          partition_col_format: 'datetime',
          buffer_updation_lag: { hours: 2 },
          grace_updation_lag: { days: 1 },
          strict: true,
        },
        {
          table_name: 'events',
          cron: '* * * * * 7-19 */1 0',
          mode: 'logging',
          primary_key: 'id',
          primary_key_datatype: 'int',
          partition_col: false,
        },
        { table_name: 'prices', cron: 'self-managed', mode: 'dumping', batch_size: 1000 },
      ],
    });
    const again = await godwit(['import', old('shop.py'), '--out', folder], env);
    expect([again.code, again.err]).toEqual([2, expect.stringContaining('is there already')]);
  });

  it('names what needs a hand, and leaves out what Godwit does not have', async () => {
    const { code, out, err } = await godwit(['import', old('crm.py'), '--out', folder, '-o', 'json'], env);
    expect(code).toBe(3);
    const lines = jsonLines(out) as { name: string; file: string | null; byHand: string[] }[];
    expect(lines.map(({ name, file }) => [name, file !== null])).toEqual([
      ['crm', true],
      ['stream', false],
    ]);
    const [crm, stream] = lines.map(({ byHand }) => byHand.join('\n'));
    expect(crm).toContain('destination my_dest_2: targets of redshift');
    expect(crm).toContain('my_collection: query_hint is not known');
    expect(stream).toContain('source: sources of kafka');
    expect(stream).toContain('topics: ');
    expect(stream).toContain('redis: ');
    expect(err).toContain('encryption_store: not needed');
    const { mapping } = { mapping: parse(readFileSync(join(folder, 'crm.yaml'), 'utf8')) };
    expect(mapping).toMatchObject({ timezone: 'Europe/Berlin', cut_off_time: '23:30:00', notify: false });
    expect(Object.keys(mapping.destination)).toEqual(['dwh']);
    expect(mapping.collections[0]).not.toHaveProperty('query_hint');
  });

  it('reads files whose modules are not installed, and names what hangs on a variable', async () => {
    const file = join(folder, 'parts.py');
    writeFileSync(
      file,
      `import datetime, os
from pytz_that_is_not_installed import timezone as other
from datetime import timezone
from common_that_is_not_installed import *
from framework_that_is_not_installed import Base, hook

class Job(Base):
    pass

@hook
def process_dict(record):
    return record

with hook() as session:
    pass

mapping = {
    'source': {'source_type': 'pgsql', 'url': 'db.example.org', 'db_name': 'shop', 'username': None, 'port': int(os.getenv('SHOP_PORT', '5433'))},
    'destination': {},
    'tables': [
        {'table_name': 'a', 'cron': 'self-managed', 'mode': 'dumping', 'bookmark': False},
        {'table_name': 'b', 'cron': 'self-managed', 'mode': 'dumping', 'bookmark': FROM_COMMON,
         'buffer_updation_lag': datetime.timedelta(hours=2)},
    ],
}
cut_off_time = datetime.time(6, 30, 0, 5)
`,
    );
    const { code, out } = await godwit(['import', file, '--out', folder], env);
    expect([code, out]).toEqual([3, expect.stringMatching(/by hand: SHOP_PORT: the file makes a number/)]);
    expect(out).toMatch(/by hand: the function process_dict/);
    expect(out).toMatch(/by hand: b: a value is put together from common_that_is_not_installed\.FROM_COMMON/);
    expect(parse(readFileSync(join(folder, 'parts.yaml'), 'utf8'))).toMatchObject({
      timezone: 'Asia/Kolkata',
      cut_off_time: '06:30:00',
      source: { source_type: 'pgsql', url: 'db.example.org', db_name: 'shop', port: 5433 },
      tables: [
        { table_name: 'a', cron: 'self-managed', mode: 'dumping' },
        { table_name: 'b', buffer_updation_lag: { minutes: 120 } },
      ],
    });
  });

  it('does not write what it does not know in the place of a time zone, and says where settings go', async () => {
    const file = join(folder, 'settings.py');
    writeFileSync(
      file,
      `import os
settings = {'timezone': os.getenv('ZONE'), 'notify': True, 'encryption_store': {}}
`,
    );
    const alone = await godwit(['import', file, '--out', folder], env);
    expect([alone.code, alone.out]).toEqual([0, '']);
    expect(alone.err).toMatch(/godwit settings set timezone VALUE[\s\S]*godwit settings set notify true/);
    writeFileSync(
      join(folder, 'zoned.py'),
      `from settings import settings
mapping = {'source': {'source_type': 'pgsql', 'url': 'h', 'db_name': 'd'}, 'tables': [{'table_name': 'a', 'mode': 'dumping'}]}
`,
    );
    const { code, out } = await godwit(['import', join(folder, 'zoned.py'), '--out', folder], env);
    expect([code, out]).toEqual([3, expect.stringMatching(/by hand: timezone: .*Asia\/Kolkata/)]);
    expect(parse(readFileSync(join(folder, 'zoned.yaml'), 'utf8'))).toMatchObject({ timezone: 'Asia/Kolkata' });
  });

  it('says in a sentence what Python says', async () => {
    const file = join(folder, 'broken.py');
    writeFileSync(file, 'mapping = {\n');
    const { code, err } = await godwit(['import', file], env);
    expect([code, err]).toEqual([
      2,
      expect.stringMatching(/USAGE: .*broken\.py cannot be read by Python: SyntaxError/),
    ]);
    writeFileSync(file, 'x = 1\n');
    expect((await godwit(['import', file], env)).err).toContain('has no dictionary with a source');
  });
});

const noServers = (await missing('postgres')) || (await missing('temporal')) || (await missing('mongodb'));

describe.skipIf(!python || noServers)('what was imported', () => {
  const stack = new AsyncDisposableStack();
  let installed: Installation;
  let shop: TestDatabase;
  let dwh: TestDatabase;
  let crm: TestDatabase;
  let at: NodeJS.ProcessEnv;
  let mongo: MongoClient;

  const sql = async (url: string, text: string) => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    try {
      return (await client.query(text)).rows;
    } finally {
      await client.end();
    }
  };
  const runs = async (args: string[]) => await godwit(['run', ...args, '-o', 'json'], at, folder);

  beforeAll(async () => {
    installed = stack.use(await install());
    const worker = await installed.work();
    stack.defer(() => worker.stop());
    const api = stack.use(
      await startApi({
        config: { ...installed.config, port: 0 },
        database: installed.database,
        keyring: installed.keyring,
        client: installed.client,
        queues: installed.deps.queues,
        log: installed.deps.log,
      }),
    );
    shop = stack.use(await createDatabase());
    dwh = stack.use(await createDatabase());
    crm = stack.use(await createMongoDatabase());
    mongo = stack.use(new MongoClient(crm.url));
    const place = (url: string) => {
      const { hostname, port, pathname, username, password } = new URL(url);
      return {
        url: `${hostname}:${port}`,
        db: pathname.slice(1),
        user: decodeURIComponent(username),
        password: decodeURIComponent(password),
      };
    };
    const [from, to, documents] = [place(shop.url), place(dwh.url), place(crm.url)];
    at = {
      ...environment(home.path),
      GODWIT_URL: api.url,
      SHOP_URL: from.url,
      SHOP_DB: from.db,
      SHOP_USER: from.user,
      SHOP_PASSWORD: from.password || 'none',
      DWH_URL: to.url,
      DWH_DB: to.db,
      DWH_USER: to.user,
      DWH_PASSWORD: to.password || 'none',
      CRM_URL: crm.url,
      CRM_DB: documents.db,
    };
    await sql(
      shop.url,
      `CREATE TABLE my_table (id uuid PRIMARY KEY, note text, payload jsonb, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
       INSERT INTO my_table SELECT md5(i::text)::uuid, 'row ' || i, '{"a": 1}', '2024-01-01Z'::timestamptz + i * interval '1 day', now() - interval '3 days' FROM generate_series(1, 200) i;
       CREATE TABLE events (id bigint PRIMARY KEY, what text);
       INSERT INTO events SELECT i, 'event ' || i FROM generate_series(1, 300) i;
       CREATE TABLE prices (id int PRIMARY KEY, cents int);
       INSERT INTO prices VALUES (1, 100), (2, 200)`,
    );
    await mongo
      .db(crm.name)
      .collection('my_collection')
      .insertMany(
        Array.from({ length: 50 }, (_, i) => ({
          name: `n${i}`,
          created_at: new Date(1.7e12 + i * 1000),
          updated_at: new Date(Date.now() - 3 * 86_400_000),
          is_available: i % 2 === 0,
          priority: String(i),
          amount: i / 2,
        })),
      );
  });
  afterAll(() => stack.disposeAsync());

  it('runs unchanged from PostgreSQL: loads, then moves what is new and takes away what vanished', async () => {
    expect((await readMappingFile(join(folder, 'shop.yaml'), at)).parsed.document.timezone).toBe('Asia/Kolkata');
    const first = await runs(['./shop.yaml']);
    expect([first.err, first.code]).toEqual([expect.anything(), 0]);
    const counts = () =>
      sql(
        dwh.url,
        `SELECT (SELECT count(*)::int FROM public.my_table) AS mine, (SELECT count(*)::int FROM public.events) AS events, (SELECT count(*)::int FROM public.prices) AS prices`,
      );
    expect(await counts()).toEqual([{ mine: 200, events: 300, prices: 2 }]);
    await sql(
      shop.url,
      `DELETE FROM my_table WHERE note = 'row 7'; UPDATE my_table SET note = 'new', updated_at = now() WHERE note = 'row 8';
       INSERT INTO events VALUES (301, 'late')`,
    );
    const second = await runs(['shop']);
    expect([second.err, second.code]).toEqual([expect.anything(), 0]);
    expect(await counts()).toEqual([{ mine: 199, events: 301, prices: 4 }]);
    expect(await sql(dwh.url, `SELECT payload ->> 'a' AS a FROM public.my_table WHERE note = 'new'`)).toEqual([
      { a: '1' },
    ]);
  });

  it('is seen in the history, by run, by table and by job', async () => {
    const tables = jsonLines((await godwit(['runs', 'shop', '--tables', '--table', 'events', '-o', 'json'], at)).out);
    expect(tables).toMatchObject([
      { run: 2, step: 'increment', rowsInserted: 1, status: 'succeeded' },
      { run: 1, step: 'load', rowsWritten: 300 },
    ]);
    const text = await godwit(['runs', 'shop', '--mode', 'mirroring', '--since', '1d'], at);
    expect(text.out).toMatch(/shop\/2 +succeeded/);
    expect((await godwit(['runs', '--since', 'yesterday'], at)).code).toBe(2);
    const job = await godwit(['job', 'show', 'shop'], at);
    expect(job.out).toMatch(/succeeded: 100 % in 7 days[\s\S]*median[\s\S]*shop\/1/);
    const bounds = jsonLines((await godwit(['show', 'shop/2', '--bounds', '-o', 'json'], at)).out);
    expect(bounds.find(({ sourceName }) => sourceName === 'public.events')).toMatchObject({ by: 'key', upto: '301' });
    const shown = await godwit(['show', 'shop/2'], at);
    expect(shown.out).toMatch(/events .* 1 inserted/);
    expect(shown.out).toMatch(/of increments: .*1 deleted/);
    expect((await godwit(['quarantine', 'list'], at)).out).toContain('No row is set aside.');
    const part = await runs(['shop', '--table', 'events', '--from', '1', '--to', '10']);
    expect([part.code, jsonLines(part.out).at(-1)]).toMatchObject([0, { totals: { rowsRead: 10, rowsWritten: 0 } }]);
    const wrong = await runs(['shop', '--table', 'prices', '--from', '1']);
    expect([wrong.code, wrong.out]).toEqual([1, expect.stringContaining('MODE_REFUSED')]);
    expect((await runs(['shop', '--full', '--from', '1'])).code).toBe(2);
  });

  it('runs unchanged from MongoDB, with the casts it names', async () => {
    const first = await runs(['./crm.yaml']);
    expect([first.err, first.code]).toEqual([expect.anything(), 0]);
    const rows = await sql(
      dwh.url,
      `SELECT count(*)::int AS n, sum(priority)::int AS p, pg_typeof(min(created_at))::text AS t FROM crm.my_collection`,
    );
    expect(rows).toEqual([{ n: 50, p: 1225, t: expect.stringContaining('timestamp') }]);
    await mongo
      .db(crm.name)
      .collection('my_collection')
      .updateOne({ name: 'n1' }, { $set: { priority: 1000, updated_at: new Date() } });
    const second = await runs(['crm']);
    expect([second.err, second.code]).toEqual([expect.anything(), 0]);
    expect(await sql(dwh.url, `SELECT sum(priority)::int AS p FROM crm.my_collection`)).toEqual([{ p: 2224 }]);
  });

  it('goes on where the old tool stopped: tables it has filled are not loaded again', async () => {
    const state = join(folder, 'state.json');
    const table = (name: string, more: object) => ({ table_name: name, ...more });
    // The old tool's own tables: one row is the old tool's alone, and would be gone after a load.
    await sql(
      dwh.url,
      `CREATE SCHEMA kept;
       CREATE TABLE kept.my_table (id uuid PRIMARY KEY, note text, payload jsonb, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
       INSERT INTO kept.my_table VALUES (md5('old')::uuid, 'only here', NULL, now(), now());
       CREATE TABLE kept.events (id bigint PRIMARY KEY, what text);
       INSERT INTO kept.events VALUES (1, 'as the old tool left it')`,
    );
    const yaml = parse(readFileSync(join(folder, 'shop.yaml'), 'utf8'));
    yaml.name = 'kept';
    yaml.destination.pgsql_destination_3.schema = 'kept';
    yaml.tables = [
      { ...yaml.tables[0], mode: 'syncing', partition_col: false },
      { ...yaml.tables[1], cron: 'self-managed' },
    ];
    writeFileSync(join(folder, 'kept.json'), JSON.stringify(yaml));
    expect((await godwit(['apply', './kept.json'], at, folder)).code).toBe(0);
    const lastRun = new Date(Date.now() - 4 * 3_600_000).toISOString();
    writeFileSync(
      state,
      JSON.stringify({
        job: 'kept',
        tables: [table('my_table', { last_run: lastRun }), table('events', { last_run: lastRun })],
      }),
    );
    const half = await godwit(['import', '--state', state], at);
    expect([half.code, half.out]).toEqual([3, expect.stringMatching(/my_table → .* goes on in kept\.my_table/)]);
    expect(half.out).toMatch(/events → .*USAGE: .*last_key/);
    writeFileSync(state, JSON.stringify([table('events', { last_run_time: lastRun, last_primary_key: 299 })]));
    const rest = await godwit(['import', '--state', state, '--job', 'kept'], at);
    expect([rest.code, rest.out]).toEqual([0, expect.stringContaining('goes on in kept.events')]);
    const twice = await godwit(['import', '--state', state, '--job', 'kept'], at);
    expect([twice.code, twice.out]).toEqual([3, expect.stringContaining('CONFLICT')]);

    const run = await runs(['kept']);
    expect([run.err, run.code]).toEqual([expect.anything(), 0]);
    const notes = await sql(dwh.url, `SELECT note FROM kept.my_table ORDER BY note`);
    // Changed within the lags before the last run of the old tool: one row; nothing was loaded.
    expect(notes).toEqual([{ note: 'new' }, { note: 'only here' }]);
    expect(await sql(dwh.url, `SELECT what FROM kept.events WHERE id = 1`)).toEqual([
      { what: 'as the old tool left it' },
    ]);
  });

  it('rows set aside are seen, exported, replayed and given up by command', async () => {
    const file = join(folder, 'kept.json');
    const mapping = JSON.parse(readFileSync(file, 'utf8'));
    mapping.tables = [{ ...mapping.tables[1], max_quarantined: 2 }];
    writeFileSync(file, JSON.stringify(mapping));
    await sql(dwh.url, `ALTER TABLE kept.events ADD CONSTRAINT good CHECK (what !~ '^bad')`);
    await sql(shop.url, `INSERT INTO events VALUES (400, 'bad one'), (401, 'bad two')`);
    expect((await runs(['./kept.json'])).code).toBe(0);
    const list = await godwit(['quarantine', 'list', 'kept'], at);
    expect([list.code, list.out]).toEqual([0, expect.stringMatching(/kept\/\d+ +public\.events@\S+ +2 +0 +0/)]);
    expect((await godwit(['quarantine', 'show', 'kept'], at)).out).toMatch(
      /chunk \d+ row \d+ {2}open[\s\S]*what = "bad one"/,
    );
    const csv = await godwit(['quarantine', 'export', 'kept', '--table', 'events', '--format', 'csv'], at);
    expect(csv.out.split('\r\n').map((line) => line.split(',').at(-1))).toEqual(['what', 'bad one', 'bad two', '']);
    const rows = join(folder, 'rows.ndjson');
    expect((await godwit(['quarantine', 'export', 'kept', '--file', rows], at)).code).toBe(0);
    expect(jsonLines(readFileSync(rows, 'utf8'))).toMatchObject([{ values: { id: '400' } }, { values: { id: '401' } }]);
    const vain = await godwit(['quarantine', 'replay', 'kept'], at);
    expect([vain.code, vain.out]).toEqual([3, expect.stringContaining('0 rows written, 2 refused again')]);
    await sql(dwh.url, `ALTER TABLE kept.events DROP CONSTRAINT good, ADD CONSTRAINT better CHECK (what <> 'bad two')`);
    expect((await godwit(['quarantine', 'replay', 'kept'], at)).out).toContain('1 row written, 1 refused again');
    const waived = await godwit(['quarantine', 'waive', 'kept', '--note', 'known'], at);
    expect(waived.out).toContain('1 row of kept/');
    expect(await sql(dwh.url, 'SELECT id::int FROM kept.events WHERE id >= 400')).toEqual([{ id: 400 }]);
  });

  it('reads the state from a MongoDB, and leaves documents of another form out', async () => {
    await mongo
      .db(crm.name)
      .collection('encryption_store')
      .insertMany([{ table: 'nosuch', last_run: new Date(0), job: 'kept' }, { something: 'else' }]);
    const answer = await godwit(['import', '--state', crm.url], at);
    expect(answer.err).toMatch(/1 document of another form left out/);
    expect(answer.err).toMatch(/TABLE_MISSING/);
  });
});
