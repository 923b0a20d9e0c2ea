/**
 * `npm run bench [-- --small] [--rounds N] [--rows N] [--only pg,parquet,tables]`: Godwit and its peers in turn on the
 * same rows, medians and ratios (decision 30). Needs `psql`; other peers are used where they are found.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { type PostgresServer, startPostgres } from '../servers/postgres.ts';
import { fill } from './data.ts';
import { Installation, type Run } from './installation.ts';
import { cpuSeconds, median, ownCpuSeconds, seconds, watchMemory } from './measure.ts';
import { connectorx, onPath, pipeBinary, pipeParquet, runSql } from './peers.ts';

const { values: options } = parseArgs({
  options: {
    small: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    rows: { type: 'string' },
    only: { type: 'string', default: 'fixed,pg,parquet,tables' },
  },
});
const rows = Number(options.rows ?? (options.small ? 500_000 : 10_000_000));
const parquetRows = Math.min(rows, options.small ? 500_000 : 4_000_000);
const rounds = Number(options.rounds ?? (options.small ? 3 : 5));
const only = new Set(options.only.split(','));

const settings = { shared_buffers: '512MB', max_wal_size: '8GB', checkpoint_timeout: '30min', fsync: 'on' };

type Sample = { wall: number; source: number; target: number; mover: number; memory: number };
type Contender = { readonly name: string; readonly run: () => Promise<Omit<Sample, 'source' | 'target'>> };

const line = (text: string) => process.stdout.write(`${text}\n`);
const m = (bytes: number) => `${Math.round(bytes / 1e6)} MB`;

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** All contenders in turn, `rounds` times over, after one warm-up each; medians and ratios to the first. */
async function compare(
  title: string,
  count: number,
  servers: Servers,
  contenders: readonly Contender[],
  rest: () => Promise<void>,
) {
  line(`\n## ${title}: ${count.toLocaleString('en')} rows, ${rounds} rounds`);
  const samples = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    const order = round % 2 ? [...contenders].reverse() : contenders;
    for (const contender of order) {
      await rest();
      const before = [cpuSeconds(servers.source.pid), cpuSeconds(servers.target.pid)] as const;
      const got = await contender.run();
      const sample = {
        ...got,
        source: cpuSeconds(servers.source.pid) - before[0],
        target: cpuSeconds(servers.target.pid) - before[1],
      };
      if (round > 0) samples.get(contender.name)?.push(sample);
      line(`  ${round === 0 ? 'warm-up' : `round ${round}`} ${contender.name}: ${got.wall.toFixed(2)} s`);
    }
  }
  const of = (name: string, field: keyof Sample) => median((samples.get(name) ?? []).map((sample) => sample[field]));
  const first = contenders[0]?.name ?? '';
  const per = (value: number) => ((value / count) * 1e6).toFixed(2);
  line("| | seconds | rows/s | Godwit's speed against it | CPU-s per M rows: mover, source, target | peak memory |");
  line('|---|---|---|---|---|---|');
  for (const { name } of contenders) {
    const wall = of(name, 'wall');
    const ratios = (samples.get(name) ?? []).map(
      (sample, i) => sample.wall / (samples.get(first)?.[i]?.wall ?? Number.NaN),
    );
    const cpu = `${per(of(name, 'mover'))}, ${per(of(name, 'source'))}, ${per(of(name, 'target'))}`;
    line(
      `| ${name} | ${wall.toFixed(2)} | ${Math.round(count / wall).toLocaleString('en')} | ${median(ratios).toFixed(3)} | ${cpu} | ${m(of(name, 'memory'))} |`,
    );
  }
}

type Servers = { readonly source: PostgresServer; readonly target: PostgresServer };

const outside = async (work: () => Promise<unknown>) => ({ wall: await seconds(work), mover: 0, memory: 0 });

/** Seconds from the request to the end, by the run's own books: its tables are readable then. */
const lasted = ({ createdAt, endedAt }: Run) => (Date.parse(endedAt ?? '') - Date.parse(createdAt)) / 1000;

async function godwit(
  installation: Installation,
  job: string,
): Promise<{ wall: number; mover: number; memory: number }> {
  using watch = watchMemory(() => [installation.pid]);
  const before = ownCpuSeconds(installation.pid);
  const run = await installation.run(job);
  const wall = lasted(run);
  return { wall, mover: ownCpuSeconds(installation.pid) - before, memory: watch.peak() };
}

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
  await compare(
    'PostgreSQL → PostgreSQL',
    rows,
    servers,
    [
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
  );
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
  const peers: Contender[] = [];
  if (duckdb) {
    peers.push({
      name: 'psql csv | duckdb',
      run: () => outside(() => pipeParquet(source.url, 'public.part', file, duckdb)),
    });
  } else line('no duckdb on PATH and no Python with it: that peer is left out');
  if (cx)
    peers.push({
      name: 'connectorx + pyarrow',
      run: () => outside(() => connectorx(cx, source.url, 'public.part', file)),
    });
  else line('no Python with connectorx and pyarrow: that peer is left out');
  await compare(
    'PostgreSQL → Parquet (zstd)',
    parquetRows,
    servers,
    [{ name: 'godwit', run: () => godwit(installation, 'lake') }, ...peers],
    async () => {
      await rm(file, { force: true });
      await rm(lake, { recursive: true, force: true });
    },
  );
  if (peers.length > 0) line(`peer's file: ${m((await stat(file).catch(() => ({ size: 0 }))).size)}`);
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
  const { wall, mover, memory } = await godwit(installation, 'many');
  line(
    `\n## ${count} tables of 10 rows: ${wall.toFixed(1)} s, mover ${mover.toFixed(1)} CPU-s, peak memory ${m(memory)}`,
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
  if (only.has('parquet')) await benchParquet(servers, installation, folder);
  if (only.has('tables')) await benchTables(servers, installation);
} finally {
  await rm(folder, { recursive: true, force: true });
}
