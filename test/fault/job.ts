import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { createDatabase, through } from './addresses.ts';
import type { Installation } from './installation.ts';
import type { Place } from './kinds/kind.ts';
import { postgresPlace } from './kinds/postgres.ts';
import { type History, historyOf, look, query } from './oracle.ts';
import { rowsOfOrders } from './settings.ts';
import { makeShop, type ShopTable, shop } from './shop.ts';

export type RunTable = {
  readonly ordinal: number;
  readonly target: string;
  readonly source_name: string;
  readonly target_name: string;
  readonly status: string;
  readonly consistency: 'snapshot' | 'chunk';
  readonly snapshot: number | null;
  readonly lane: string;
  readonly failure: { readonly code: string; readonly message: string } | null;
  readonly notes: readonly string[];
  readonly chunks_done: number;
  readonly chunks_total: number;
};
export type RunRow = {
  readonly id: string;
  readonly number: number;
  readonly status: string;
  readonly failure: { readonly code: string; readonly message: string } | null;
};

/** A mapping, as a user writes it. */
export type Mapping = { readonly name: string } & Record<string, unknown>;

export type Shop = {
  readonly name: string;
  readonly tables: readonly ShopTable[];
  readonly mapping: Mapping;
  /** By the target's name in the mapping. */
  readonly places: Places;
  /** What a table of the source ever was. */
  readonly history: (table: ShopTable) => Promise<History>;
};
/** Whose source is PostgreSQL: its direct address, for the test itself. */
export type PostgresShop = Shop & { readonly source: string };
export type Places = Readonly<Record<string, Place>>;

export type ShopOptions = { readonly rows?: number; readonly tablespace?: string };

/** A source with `rows` orders, an empty PostgreSQL target, and a job between them. */
export async function newShop(
  at: Installation,
  name: string,
  { rows, tablespace }: ShopOptions = {},
): Promise<PostgresShop & { readonly target: string }> {
  const target = await createDatabase(at.target, name, tablespace ? `TABLESPACE ${tablespace}` : '');
  return { ...(await shopTo(at, name, postgresPlace(at, target), rows)), target };
}

/** The same to any place. */
export async function shopTo(at: Installation, name: string, place: Place, rows = rowsOfOrders): Promise<PostgresShop> {
  const source = await createDatabase(at.source, name);
  const client = new pg.Client({ connectionString: source });
  await client.connect();
  await makeShop(client, rows);
  await client.end();
  const mapping: Mapping = {
    name,
    source: { source_type: 'pgsql', url: through(at.sourceProxy, source) },
    destination: { copy: place.settings },
    tables: [{ table_name: 'shop.*', mode: 'replace' }],
  };
  const history = (table: ShopTable) => historyOf(source, table);
  return { name, source, tables: shop, mapping, places: { copy: place }, history };
}

export async function request<T>(at: Installation, method: string, path: string, body?: unknown): Promise<T> {
  const answer = await fetch(at.api.url + path, {
    method,
    headers: { 'content-type': 'application/json' },
    signal: AbortSignal.timeout(60_000),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return (text ? JSON.parse(text) : undefined) as T;
}

export const apply = (at: Installation, mapping: Mapping) => request(at, 'POST', '/api/jobs', mapping);
export const start = (at: Installation, job: string): Promise<RunRow> =>
  request(at, 'POST', `/api/jobs/${job}/runs`, {});
export const tell = (at: Installation, run: string, verb: string, body: unknown = {}) =>
  request(at, 'POST', `/api/runs/${run}/${verb}`, body);

export const runRow = async (at: Installation, id: string): Promise<RunRow> => {
  const [row] = await look<RunRow>(
    at.metadata.url,
    'SELECT id, number, status, failure FROM godwit.runs WHERE id = $1',
    [id],
  );
  if (!row) throw new Error(`no run ${id}`);
  return row;
};
export const runTables = (at: Installation, id: string): Promise<RunTable[]> =>
  look(
    at.metadata.url,
    `SELECT ordinal, target, source_name, target_name, status, consistency, snapshot, lane, failure, notes, chunks_done,
      chunks_total FROM godwit.run_tables WHERE run_id = $1 ORDER BY ordinal`,
    [id],
  );
export const chunksDone = async (at: Installation, id: string): Promise<number> =>
  (await runTables(at, id)).reduce((sum, table) => sum + table.chunks_done, 0);

/** All tables have succeeded: there is nothing left to disturb. */
export async function nothingLeft(at: Installation, id: string): Promise<boolean> {
  const tables = await runTables(at, id).catch(() => []);
  return tables.length > 0 && tables.every((table) => table.status === 'succeeded');
}

const closed = ['succeeded', 'partial', 'failed', 'canceled', 'skipped'];

/** Waits until the run is over; after `seconds` an error that says where it stands. */
export async function over(at: Installation, id: string, seconds: number): Promise<RunRow> {
  const deadline = Date.now() + seconds * 1_000;
  for (;;) {
    const row = await runRow(at, id);
    if (closed.includes(row.status)) return row;
    if (Date.now() > deadline) throw new Error(`run ${id} is not over after ${seconds} s: ${await story(at, id)}`);
    await sleep(50);
  }
}

/** Waits for something; after `seconds` an error that names it. */
export async function until(what: string, seconds: number, happened: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + seconds * 1_000;
  while (!(await happened())) {
    if (Date.now() > deadline) throw new Error(`waited ${seconds} s in vain: ${what}`);
    await sleep(20);
  }
}

/** What a reader of a failed test needs: the run, its tables, the last events. */
export async function story(at: Installation, id: string): Promise<string> {
  const run = await runRow(at, id);
  const tables = (await runTables(at, id)).map(
    (t) =>
      `${t.ordinal} ${t.source_name} → ${t.target_name}: ${t.status} ${t.consistency} ${t.chunks_done}/${t.chunks_total} ${t.failure ? `${t.failure.code} ${t.failure.message}` : ''}`,
  );
  const events = await query<{ at: string; kind: string; message: string }>(
    at.metadata.url,
    'SELECT at::text, kind, message FROM godwit.events WHERE run_id = $1 ORDER BY id DESC LIMIT 25',
    [id],
  );
  const failure = run.failure ? ` ${run.failure.code} ${run.failure.message}` : '';
  return [`${run.status}${failure}`, ...tables, ...events.reverse().map((e) => `${e.at} ${e.kind} ${e.message}`)].join(
    '\n',
  );
}
