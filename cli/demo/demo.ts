import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Work } from '../../connectors/contract.ts';
import { GodwitError } from '../../errors.ts';
import { runningPostgres } from '../../servers/postgres.ts';
import { type Client, makeClient, part } from '../client.ts';
import type { Context } from '../context.ts';
import { createDatabase, type Embedded, startEmbedded, withDatabase } from '../embedded.ts';
import { exitOfRun, exits } from '../exit.ts';
import { books } from '../lines.ts';
import { bytes, count, duration, type Output, paintOf, plural, table } from '../output.ts';
import { running } from '../reach.ts';
import type { RunView } from '../views.ts';
import { watchRun } from '../watch.ts';
import { demoJob, demoMapping } from './job.ts';
import { type Verified, verifyParquet, verifyPostgres } from './verify.ts';

/**
 * A sample database with awkward values, moved to another PostgreSQL database and to Parquet by a real run, then
 * compared. Stops what it started; the data stays in GODWIT_HOME for `godwit up`.
 */
export async function demo({ config, out }: Context): Promise<number> {
  const began = performance.now();
  const paint = paintOf(out);
  const said = (line: string) => out.text(`${paint(duration(performance.now() - began).padStart(7), 'dim')}  ${line}`);
  out.text(paint("Godwit's demo: PostgreSQL `shop` → PostgreSQL `warehouse` and a lake of Parquet files", 'bold'));

  let interrupted = false;
  const ended = new AbortController();
  const interrupt = () => {
    if (interrupted) process.exit(exits.canceled);
    interrupted = true;
    out.say('Stopping the demo …');
    ended.abort();
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);

  const installation = await open({ config, out }, said);
  try {
    const lake = join(config.home, 'files', 'lake');
    const { client, postgresUrl } = installation;
    await client.put(`/api/jobs/${part(demoJob)}`, demoMapping({ postgresUrl, lake }));
    const started = await client.post<RunView>(`/api/jobs/${part(demoJob)}/runs`, {});
    said(`run ${started.job}/${started.number} started: one source, two targets`);
    out.text();
    const seen = await watchRun({ client, runId: started.id, out, signal: ended.signal });
    out.text();
    if (interrupted) return exits.canceled;
    const verified = await verify({ run: seen.run, postgresUrl, lake });
    showVerified(verified, out);
    const total = books(seen.tables);
    const took = Date.parse(seen.run.endedAt ?? '') - Date.parse(seen.run.startedAt ?? seen.run.createdAt);
    const wrong = verified.filter((one) => !one.same);
    const moved = new Set(seen.tables.filter((one) => one.status === 'succeeded').map((one) => one.sourceName)).size;
    const targets = new Set(seen.tables.map((one) => one.target)).size;
    said(
      `moved ${plural(total.written, 'row')} (${bytes(total.bytes)}) of ${plural(moved, 'table')} to ${plural(targets, 'target')} in ${duration(took)}; books: read ${count(total.read)} = written ${count(total.written)} + filtered ${count(total.filtered)} + quarantined ${count(total.quarantined)}`,
    );
    for (const one of seen.tables) {
      if (one.status !== 'succeeded')
        out.text(
          `  ${one.sourceName} → ${one.target}: ${one.status} ${one.failure?.code ?? ''} ${one.failure?.message ?? ''}`,
        );
    }
    out.text();
    out.text('Where it lies:');
    out.text(
      `  database  ${hidden(withDatabase(postgresUrl, 'warehouse'))}  (password in ${join(config.home, 'postgres', 'password')})`,
    );
    out.text(`  files     ${lake}`);
    out.text("To look at the job and its run, also in Temporal's UI: npm start, then ./godwit show demo");
    const good = seen.run.status === 'succeeded' && wrong.length === 0 && verified.length === seen.tables.length;
    out.json({
      type: 'demo',
      status: seen.run.status,
      verified: wrong.length === 0,
      rows: total.written,
      bytes: total.bytes,
      tables: seen.tables.length,
      lake,
      seconds: (performance.now() - began) / 1000,
    });
    if (wrong.length > 0)
      throw new GodwitError('BOOKS_UNBALANCED', `${plural(wrong.length, 'table')} of the demo differ from the source.`);
    said(good ? paint('everything is the same on both sides', 'green') : `the run ended as ${seen.run.status}`);
    return good ? exits.succeeded : exitOfRun(seen.run.status) || exits.failed;
  } finally {
    await installation.stop();
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
}

type Installation = { readonly client: Client; readonly postgresUrl: string; stop(): Promise<void> };
type Open = Pick<Context, 'config' | 'out'>;

/** The Godwit that serves this GODWIT_HOME, else one for the demo; in both cases with a fresh `shop`. */
async function open({ config, out }: Open, said: (line: string) => void): Promise<Installation> {
  const url = await running({ ...config, url: undefined }, {});
  if (url !== undefined) {
    const postgresUrl = runningUrl(config.home);
    said(`using the Godwit that serves at ${url}`);
    await sample(postgresUrl, said);
    return { client: makeClient(url, config.token), postgresUrl, stop: async () => {} };
  }
  if (config.databaseUrl || config.temporal.address) {
    out.say('note: the demo runs embedded; DATABASE_URL and TEMPORAL_ADDRESS are for `up`, `api` and `worker`.');
  }
  said('starting PostgreSQL, Temporal, worker and API');
  const embedded: Embedded = await startEmbedded({
    config: {
      ...config,
      databaseUrl: undefined,
      temporal: { ...config.temporal, address: undefined },
      host: '127.0.0.1',
      port: 0,
    },
    kind: 'command',
    say: out.say,
    // The sample is made while Temporal and the worker come up.
    onPostgres: (postgresUrl) => sample(postgresUrl, said),
  });
  said(`everything is up: API ${embedded.url}, Temporal UI ${embedded.temporal.ui ?? embedded.temporal.address}`);
  return {
    client: makeClient(embedded.url, config.token),
    postgresUrl: embedded.postgresUrl as string,
    stop: () => embedded.stop(),
  };
}

function runningUrl(home: string): string {
  const dir = join(home, 'postgres');
  const server = runningPostgres(dir);
  const password = existsSync(join(dir, 'password')) ? readFileSync(join(dir, 'password'), 'utf8').trim() : '';
  if (server && password) return `postgresql://postgres:${password}@127.0.0.1:${server.port}/postgres`;
  throw new GodwitError(
    'CONFLICT',
    `The Godwit that serves ${home} has no embedded PostgreSQL for the sample: give the demo another GODWIT_HOME.`,
  );
}

/** `shop`, new each time; `warehouse`, kept: the next demo replaces its tables. */
export async function sample(postgresUrl: string, said: (line: string) => void): Promise<void> {
  const { default: pg } = await import('pg');
  const admin = new pg.Client({ connectionString: postgresUrl });
  await admin.connect();
  await admin.query('DROP DATABASE IF EXISTS shop WITH (FORCE)');
  await admin.end();
  await Promise.all([createDatabase(postgresUrl, 'shop'), createDatabase(postgresUrl, 'warehouse')]);
  const shop = new pg.Client({ connectionString: withDatabase(postgresUrl, 'shop') });
  await shop.connect();
  await shop.query(readFileSync(new URL('./shop.sql', import.meta.url), 'utf8'));
  const { rows } = await shop.query<{ tables: string; rows: string }>(
    "SELECT count(*) AS tables, sum(reltuples) FILTER (WHERE reltuples > 0)::bigint AS rows FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p') AND NOT relispartition AND nspname !~ '^(pg_|information_schema)'",
  );
  await shop.end();
  said(`sample database shop: ${rows[0]?.tables} tables, ~${count(Number(rows[0]?.rows))} rows`);
}

export async function verify({
  run,
  postgresUrl,
  lake,
}: {
  run: RunView;
  postgresUrl: string;
  lake: string;
}): Promise<Verified[]> {
  const [{ default: pg }, { DuckDBInstance }] = await Promise.all([import('pg'), import('@duckdb/node-api')]);
  const connect = async (database: string) => {
    const client = new pg.Client({ connectionString: withDatabase(postgresUrl, database) });
    await client.connect();
    await client.query("SET timezone = 'UTC'; SET extra_float_digits = 1");
    return client;
  };
  const [own, shop, warehouse] = await Promise.all([connect('godwit'), connect('shop'), connect('warehouse')]);
  const instance = await DuckDBInstance.create(':memory:', { threads: '2', memory_limit: '512MB' });
  const duck = await instance.connect();
  try {
    await duck.run("SET TimeZone = 'UTC'");
    const { rows } = await own.query<{ work: Work }>(
      "SELECT work FROM godwit.run_tables WHERE run_id = $1 AND status = 'succeeded' ORDER BY source_name, target DESC",
      [run.id],
    );
    const verified: Verified[] = [];
    for (const { work } of rows) {
      verified.push(
        work.target === 'lake'
          ? await verifyParquet(shop, duck, lake, work)
          : await verifyPostgres(shop, warehouse, work),
      );
    }
    return verified;
  } finally {
    duck.closeSync();
    instance.closeSync();
    await Promise.all([own.end(), shop.end(), warehouse.end()]);
  }
}

function showVerified(all: readonly Verified[], out: Output): void {
  const paint = paintOf(out);
  out.text('Compared with the source by count and content hash:');
  const tables = [...new Set(all.map((one) => one.table))];
  const targets = [...new Set(all.map((one) => one.target))];
  const cell = (one: Verified | undefined) =>
    one === undefined ? '-' : one.same ? `same ${one.detail}` : `DIFFERS: ${one.detail}`;
  const rows = tables.map((name) => [
    name,
    count(all.find((one) => one.table === name)?.rows ?? 0),
    ...targets.map((target) => cell(all.find((one) => one.table === name && one.target === target))),
  ]);
  for (const line of table(rows, ['TABLE', 'ROWS', ...targets.map((target) => target.toUpperCase())]))
    out.text(`  ${line.includes('DIFFERS') ? paint(line, 'red') : line}`);
  for (const one of all) out.json({ type: 'verified', ...one });
  out.text();
}

const hidden = (url: string): string => {
  const shown = new URL(url);
  shown.password = '';
  return shown.href;
};
