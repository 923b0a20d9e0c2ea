/**
 * `npm run bench [-- --small] [--rounds N] [--rows N] [--only fixed,pg,others,parquet,tables]`: Godwit and its peers in turn on the
 * same rows, medians and ratios (decision 30). Needs `psql`; other peers are used where they are found.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { type PostgresServer, startPostgres } from '../servers/postgres.ts';
import { type Contender, compare, godwit, lasted, line, m, outside } from './compare.ts';
import { fill } from './data.ts';
import { Installation } from './installation.ts';
import { median } from './measure.ts';
import { connectorx, dlt, onPath, pipeBinary, pipeParquet, runSql, sling } from './peers.ts';

const { values: options } = parseArgs({
  options: {
    small: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    rows: { type: 'string' },
    only: { type: 'string', default: 'fixed,pg,others,parquet,tables' },
  },
});
const rows = Number(options.rows ?? (options.small ? 500_000 : 10_000_000));
const parquetRows = Math.min(rows, options.small ? 500_000 : 4_000_000);
const otherRows = Math.min(rows, 1_000_000);
const rounds = Number(options.rounds ?? (options.small ? 3 : 5));
const only = new Set(options.only.split(','));

const settings = { shared_buffers: '512MB', max_wal_size: '8GB', checkpoint_timeout: '30min', fsync: 'on' };

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

type Servers = { readonly source: PostgresServer; readonly target: PostgresServer };

async function benchPostgres(servers: Servers, installation: Installation) {
  const { source, target } = servers;
  const [{ ddl } = { ddl: '' }] = await withClient(source.url, async (client) => {
    const found = await client.query<{ ddl: string }>(
      `SELECT string_agg(format('%I %s%s', attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END), ', ' ORDER BY attnum) AS ddl
       FROM pg_attribute WHERE attrelid = 'public.big'::regclass AND attnum > 0`,
    );
    return found.rows;
  });
  await installation.apply({
    name: 'big',
    source: { source_type: 'pgsql', url: source.url },
    destination: { copy: { destination_type: 'pgsql', url: target.url, schema: 'copied' } },
    tables: [{ table_name: 'public.big', mode: 'replace' }],
  } as { name: string });
  const rest = () =>
    withClient(target.url, async (client) => {
      await client.query('DROP SCHEMA IF EXISTS copied CASCADE');
      await client.query('DROP TABLE IF EXISTS peer');
      await client.query('DROP SCHEMA IF EXISTS _godwit CASCADE');
      await client.query(`CREATE TABLE peer (${ddl})`);
      await client.query('CHECKPOINT');
    });
  await compare({
    title: 'PostgreSQL → PostgreSQL',
    count: rows,
    rounds,
    servers,
    contenders: [
      { name: 'godwit', run: () => godwit(installation, 'big') },
      {
        name: 'psql | psql, into a keyed table',
        run: async () => {
          await runSql(target.url, 'ALTER TABLE peer ADD PRIMARY KEY (id)');
          return outside(() => pipeBinary(source.url, target.url, 'public.big', 'peer'));
        },
      },
      {
        name: 'psql | psql, then ADD PRIMARY KEY',
        run: () =>
          outside(async () => {
            await pipeBinary(source.url, target.url, 'public.big', 'peer');
            await runSql(target.url, 'ALTER TABLE peer ADD PRIMARY KEY (id)');
          }),
      },
    ],
    rest,
  });
}

async function benchParquet(servers: Servers, installation: Installation, folder: string) {
  const { source } = servers;
  const lake = join(installation.home, 'files', 'lake');
  await withClient(source.url, (client) => fill(client, 'part', parquetRows));
  await installation.apply({
    name: 'lake',
    source: { source_type: 'pgsql', url: source.url },
    destination: { lake: { destination_type: 'files', path: lake } },
    tables: [{ table_name: 'public.part', mode: 'replace' }],
  } as { name: string });
  const python = ['python3', process.env.GODWIT_BENCH_PYTHON ?? ''].find(
    (program) => program && spawnSync(program, ['-c', 'import duckdb']).status === 0,
  );
  const duckdb = onPath('duckdb') ? 'duckdb' : python;
  const cx = [process.env.GODWIT_BENCH_PYTHON ?? '', 'python3'].find(
    (program) => program && spawnSync(program, ['-c', 'import connectorx, pyarrow']).status === 0,
  );
  const file = join(folder, 'peer.parquet');
  const sizes = new Map<string, number>();
  const sized = async <T>(name: string, path: string, result: T): Promise<T> => {
    sizes.set(name, await sizeOf(path));
    return result;
  };
  const peers: Contender[] = [];
  if (duckdb) {
    peers.push({
      name: 'psql csv | duckdb',
      run: async () => sized('duckdb', file, await outside(() => pipeParquet(source.url, 'public.part', file, duckdb))),
    });
  } else line('no duckdb on PATH and no Python with it: that peer is left out');
  if (cx)
    peers.push({
      name: 'connectorx + pyarrow',
      run: async () => sized('pyarrow', file, await outside(() => connectorx(cx, source.url, 'public.part', file))),
    });
  else line('no Python with connectorx and pyarrow: that peer is left out');
  await compare({
    title: 'PostgreSQL → Parquet (zstd)',
    count: parquetRows,
    rounds,
    servers,
    contenders: [
      { name: 'godwit', run: async () => sized('godwit', lake, await godwit(installation, 'lake')) },
      ...peers,
    ],
    rest: async () => {
      await rm(file, { force: true });
      await rm(lake, { recursive: true, force: true });
    },
  });
  for (const [name, bytes] of sizes) line(`${name}: ${m(bytes)} of Parquet`);
}

/** Bytes of a file, or of all files below a folder. */
async function sizeOf(path: string): Promise<number> {
  const found = await stat(path);
  if (!found.isDirectory()) return found.size;
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  const sizes = entries
    .filter((entry) => entry.isFile())
    .map(async (entry) => (await stat(join(entry.parentPath, entry.name))).size);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/** Tools of the same trade, on fewer rows: they take their time. */
async function benchOthers({ source, target }: Servers, installation: Installation, folder: string) {
  const program = [process.env.GODWIT_BENCH_SLING ?? '', 'sling'].find((name) => name && onPath(name));
  const python = [process.env.GODWIT_BENCH_PYTHON ?? '', 'python3'].find(
    (name) => name && spawnSync(name, ['-c', 'import dlt, psycopg2, sqlalchemy, pyarrow']).status === 0,
  );
  if (!program) line('no sling on PATH (or GODWIT_BENCH_SLING): that peer is left out');
  if (!python) line('no Python with dlt, psycopg2, sqlalchemy and pyarrow: that peer is left out');
  if (!program && !python) return;
  await withClient(source.url, (client) => fill(client, 'few', otherRows));
  await installation.apply({
    name: 'few',
    source: { source_type: 'pgsql', url: source.url },
    destination: { copy: { destination_type: 'pgsql', url: target.url, schema: 'few_copied' } },
    tables: [{ table_name: 'public.few', mode: 'replace' }],
  } as { name: string });
  const contenders: Contender[] = [{ name: 'godwit', run: () => godwit(installation, 'few') }];
  if (program)
    contenders.push({
      name: 'Sling',
      run: () => outside(() => sling(program, source.url, target.url, 'public.few', 'public.few_sling')),
    });
  if (python) {
    const way = { from: source.url, to: target.url, table: 'few', dataset: 'few_dlt', folder: join(folder, 'dlt') };
    contenders.push({ name: 'dlt', run: () => outside(() => dlt(python, way)) });
  }
  const rest = () =>
    withClient(target.url, async (client) => {
      await client.query('DROP SCHEMA IF EXISTS few_copied CASCADE; DROP SCHEMA IF EXISTS few_dlt CASCADE');
      await client.query('DROP TABLE IF EXISTS few_sling; DROP SCHEMA IF EXISTS _godwit CASCADE');
      await rm(join(folder, 'dlt'), { recursive: true, force: true });
    });
  const servers = { source, target };
  const title = 'PostgreSQL → PostgreSQL, other tools';
  await compare({ title, count: otherRows, rounds, servers, contenders, rest });
}

/** What a run costs before and after its data: one table of one row. */
async function benchFixed(servers: Servers, installation: Installation) {
  await withClient(servers.source.url, (client) =>
    client.query('DROP TABLE IF EXISTS one; CREATE TABLE one (id int PRIMARY KEY); INSERT INTO one VALUES (1)'),
  );
  await installation.apply({
    name: 'one',
    source: { source_type: 'pgsql', url: servers.source.url },
    destination: { copy: { destination_type: 'pgsql', url: servers.target.url, schema: 'fixed' } },
    tables: [{ table_name: 'public.one', mode: 'replace' }],
  } as { name: string });
  const times: number[] = [];
  for (let i = 0; i < 6; i++) times.push(lasted(await installation.run('one')));
  line(
    `\n## Fixed cost of a run: ${median(times.slice(1)).toFixed(2)} s (median of 5; first ${times[0]?.toFixed(2)} s)`,
  );
}

async function benchTables(servers: Servers, installation: Installation) {
  const count = options.small ? 100 : 1000;
  await withClient(servers.source.url, async (client) => {
    await client.query('DROP SCHEMA IF EXISTS many CASCADE; CREATE SCHEMA many');
    await client.query(
      `DO $$ BEGIN FOR i IN 1..${count} LOOP
      EXECUTE format('CREATE TABLE many.t%s (id int PRIMARY KEY, name text, at timestamptz DEFAULT now())', i);
      EXECUTE format('INSERT INTO many.t%s SELECT g, ''row '' || g FROM generate_series(1, 10) g', i);
      IF i %% 200 = 0 THEN COMMIT; END IF; END LOOP; END $$`.replaceAll('%%', '%'),
    );
  });
  await installation.apply({
    name: 'many',
    source: { source_type: 'pgsql', url: servers.source.url },
    destination: { copy: { destination_type: 'pgsql', url: servers.target.url, schema: 'many' } },
    tables: [{ table_name: 'many.*', mode: 'replace' }],
  } as { name: string });
  const { wall, mover, memory, temporal } = await godwit(installation, 'many');
  line(
    `\n## ${count} tables of 10 rows: ${wall.toFixed(1)} s, mover ${mover.toFixed(1)} CPU-s, peak memory ${m(memory)}, Temporal's share ${(temporal * 100).toFixed(1)} %`,
  );
}

if (!onPath('psql')) {
  line('The bench needs `psql` on PATH as its peer.');
  process.exit(2);
}
const folder = await mkdtemp(join(tmpdir(), 'godwit-bench-data-'));
try {
  await using source = await startPostgres({ durable: true, settings });
  await using target = await startPostgres({ durable: true, settings });
  const servers = { source, target };
  await using installation = await Installation.start();
  line(`PostgreSQL ${source.version}, Node ${process.version}, ${rows.toLocaleString('en')} rows`);
  if (only.has('fixed')) await benchFixed(servers, installation);
  if (only.has('pg')) {
    line('filling …');
    await withClient(source.url, (client) => fill(client, 'big', rows));
    await benchPostgres(servers, installation);
  }
  if (only.has('others')) await benchOthers(servers, installation, folder);
  if (only.has('parquet')) await benchParquet(servers, installation, folder);
  if (only.has('tables')) await benchTables(servers, installation);
} finally {
  await rm(folder, { recursive: true, force: true });
}
