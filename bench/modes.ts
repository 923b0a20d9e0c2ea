/**
 * `npm run bench:modes [-- --small] [--rounds N] [--rows N] [--only syncing,mirroring,quiet]`: the incremental modes from PostgreSQL to
 * PostgreSQL. A tenth of the rows changed, beside what one would write by hand (COPY of the changed rows into a temporary table,
 * INSERT … ON CONFLICT DO UPDATE); the keys of the whole table compared; a job of a hundred tables with nothing new.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { type PostgresServer, startPostgres } from '../servers/postgres.ts';
import { type Contender, compare, godwit, line, m, outside } from './compare.ts';
import { fill } from './data.ts';
import { Installation } from './installation.ts';
import { median } from './measure.ts';
import { onPath, shell } from './peers.ts';

const { values: options } = parseArgs({
  options: {
    small: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    rows: { type: 'string' },
    only: { type: 'string', default: 'syncing,mirroring,quiet' },
  },
});
const rows = Number(options.rows ?? (options.small ? 500_000 : 10_000_000));
const rounds = Number(options.rounds ?? (options.small ? 3 : 5));
const only = new Set(options.only.split(','));
const settings = { shared_buffers: '512MB', max_wal_size: '8GB', checkpoint_timeout: '30min', fsync: 'on' };

type Servers = { readonly source: PostgresServer; readonly target: PostgresServer };

async function on(url: string, ...statements: readonly string[]): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

const job = (name: string, { source, target }: Servers, table: object, schema = 'copied') =>
  ({
    name,
    source: { source_type: 'pgsql', url: source.url },
    destination: { copy: { destination_type: 'pgsql', url: target.url, schema } },
    tables: [{ strict: true, ...table }],
  }) as { name: string };

/** The changed rows lie all over the table; the bookmark has an index, as people who follow it have. */
async function benchSyncing(servers: Servers, installation: Installation, folder: string) {
  const { source, target } = servers;
  await installation.apply(
    job('sync', servers, {
      table_name: 'public.big',
      mode: 'syncing',
      bookmark: 'created_at',
      recheck: { minutes: 0 },
    }),
  );
  await installation.run('sync');
  const changed = rows / 10;
  let turn = 0;
  let since = '';
  await on(
    target.url,
    'CREATE SCHEMA IF NOT EXISTS byhand',
    'CREATE TABLE byhand.big AS SELECT * FROM copied.big',
    'ALTER TABLE byhand.big ADD PRIMARY KEY (id)',
    // As Godwit's copy has it, from the source.
    'CREATE INDEX ON byhand.big (created_at)',
    'ANALYZE byhand.big',
  );
  const contenders: Contender[] = [{ name: 'godwit', run: () => godwit(installation, 'sync') }];
  if (onPath('psql')) {
    const names = 'customer title amount currency created_at shipped_at note paid quantity reference details'.split(
      ' ',
    );
    const set = names.map((name) => `${name} = excluded.${name}`).join(', ');
    contenders.push({
      name: 'psql: COPY of the changed rows, INSERT … ON CONFLICT DO UPDATE',
      run: () => {
        const file = join(folder, 'changed');
        const read = `COPY (SELECT * FROM public.big WHERE created_at >= '${since}') TO STDOUT (FORMAT binary)`;
        const write = [
          'BEGIN',
          'CREATE TEMP TABLE changed (LIKE byhand.big) ON COMMIT DROP',
          `\\\\copy changed FROM '${file}' (FORMAT binary)`,
          `INSERT INTO byhand.big SELECT * FROM changed ON CONFLICT (id) DO UPDATE SET ${set}`,
          'COMMIT',
        ];
        const args = write.map((statement) => `-c "${statement}"`).join(' ');
        return outside(() =>
          shell(
            `psql -q "${source.url}" -c "${read}" > "${file}" && psql -q -v ON_ERROR_STOP=1 "${target.url}" ${args}`,
          ),
        );
      },
    });
  }
  await compare({
    title: `Syncing: ${changed.toLocaleString('en')} rows changed of ${rows.toLocaleString('en')}`,
    count: changed,
    rounds,
    servers,
    contenders,
    rest: async () => {
      // Once for all contenders of a round: each brings the same rows to its own copy.
      if (turn++ % contenders.length === 0) {
        since = new Date(Date.now() - 1).toISOString();
        await on(
          source.url,
          `UPDATE public.big SET quantity = quantity + 1, created_at = clock_timestamp() WHERE id % 10 = ${((turn / contenders.length) | 0) % 10}`,
          'VACUUM ANALYZE public.big',
          'CHECKPOINT',
        );
      }
      await on(target.url, 'VACUUM copied.big', 'VACUUM byhand.big', 'CHECKPOINT');
    },
  });
}

async function benchMirroring(servers: Servers, installation: Installation) {
  const { source } = servers;
  await installation.apply(
    job(
      'mirror',
      servers,
      { table_name: 'public.big', mode: 'mirroring', bookmark: 'created_at', recheck: { minutes: 0 } },
      'mirrored',
    ),
  );
  await installation.run('mirror');
  const walls: number[] = [];
  const memories: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    await on(
      source.url,
      `DELETE FROM public.big WHERE id IN (SELECT (random() * ${rows})::bigint FROM generate_series(1, 1000))`,
    );
    const { wall, memory } = await godwit(installation, 'mirror');
    walls.push(wall);
    memories.push(memory);
    line(`  round ${round}: ${wall.toFixed(2)} s`);
  }
  const wall = median(walls);
  line(
    `\n## Mirroring: some 1,000 rows deleted of ${rows.toLocaleString('en')}: ${wall.toFixed(2)} s, ${Math.round(rows / wall).toLocaleString('en')} keys/s, peak memory ${m(median(memories))}`,
  );
}

async function benchQuiet(servers: Servers, installation: Installation) {
  const { source } = servers;
  await on(
    source.url,
    'DROP SCHEMA IF EXISTS hundred CASCADE',
    'CREATE SCHEMA hundred',
    `DO $$ BEGIN FOR i IN 1..100 LOOP
      EXECUTE format('CREATE TABLE hundred.t%s (id int PRIMARY KEY, name text, at timestamptz DEFAULT now())', i);
      EXECUTE format('INSERT INTO hundred.t%s SELECT g, ''row '' || g FROM generate_series(1, 1000) g', i);
    END LOOP; END $$`,
  );
  await installation.apply(
    job('quiet', servers, { table_name: 'hundred.*', mode: 'syncing', bookmark: 'at' }, 'hundred'),
  );
  await installation.run('quiet');
  const walls: number[] = [];
  for (let round = 0; round < rounds; round++) walls.push((await godwit(installation, 'quiet')).wall);
  line(`\n## Nothing new in 100 tables of 1,000 rows: ${median(walls).toFixed(2)} s (median of ${rounds})`);
}

const folder = await mkdtemp(join(tmpdir(), 'godwit-bench-data-'));
try {
  await using source = await startPostgres({ durable: true, settings });
  await using target = await startPostgres({ durable: true, settings });
  const servers = { source, target };
  await using installation = await Installation.start();
  line(`PostgreSQL ${source.version}, Node ${process.version}, ${rows.toLocaleString('en')} rows`);
  if (only.has('quiet')) await benchQuiet(servers, installation);
  if (only.has('syncing') || only.has('mirroring')) {
    line('filling …');
    const client = new pg.Client(source.url);
    await client.connect();
    await fill(client, 'big', rows);
    await client.query('CREATE INDEX ON big (created_at)');
    await client.end();
  }
  if (only.has('syncing')) await benchSyncing(servers, installation, folder);
  if (only.has('mirroring')) await benchMirroring(servers, installation);
} finally {
  await rm(folder, { recursive: true, force: true });
}
