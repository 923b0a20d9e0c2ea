/** A PostgreSQL as a target: works to write to it, and pairs of a source and a target. */
import pg from 'pg';
import { afterAll, beforeAll, describe } from 'vitest';
import type { Batch, Counts, Format, PlanColumn, Source, Table, Target, Work } from '../../connectors/contract.ts';
import { openSource } from '../../connectors/postgres/source.ts';
import { openTarget } from '../../connectors/postgres/target.ts';
import type { Row } from '../../connectors/types.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { everyType, everyTypeTables } from './every-type.ts';
import { writeOptions } from './target.ts';

/** The npm package's (18) first, then every older one that Godwit promises. */
const versions = [undefined, 13, 14, 15, 16, 17] as const;
export type Version = (typeof versions)[number];

/** A suite for each version whose server can be had. */
export async function describeVersions(
  what: string,
  suite: (version: Version, named: string) => void,
  among: readonly Version[] = versions,
): Promise<void> {
  for (const version of among) {
    if (await missing(version === undefined ? 'postgres' : `postgres/${version}`)) continue;
    const named = `PostgreSQL ${version ?? 'of the package'} as a target`;
    describe(`${named}${what}`, () => suite(version, named));
  }
}

export const quoted = (name: { schema: string; name: string }) =>
  `${pg.escapeIdentifier(name.schema)}.${pg.escapeIdentifier(name.name)}`;
const signal = new AbortController().signal;

export async function connect(database: TestDatabase): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  return client;
}
export const column = (name: string, native: string, type: PlanColumn['type'], nullable: boolean): PlanColumn => ({
  from: name,
  name,
  shape: 'native',
  type,
  native,
  nullable,
  fit: 'exact',
  misfit: 'stop',
});

const plainTable = (name: string): Table => ({
  system: 'files',
  name: { schema: 'src', name },
  kind: 'table',
  columns: [],
  key: ['id'],
  rows: 4,
  bytes: 100,
  references: [],
  fingerprint: 'f',
});

let numbers = 0;
export function plainWork(over: Partial<Work> = {}): Work {
  const name = `plain ${++numbers}`;
  return {
    installation: 'here',
    jobUid: 'job',
    run: `run ${numbers}`,
    target: 'warehouse',
    mode: 'replace',
    source: plainTable(name),
    name: { schema: `plain schema ${numbers}`, name },
    columns: [column('id', 'integer', { kind: 'int32' }, false), column('v', 'text', { kind: 'text' }, true)],
    key: ['id'],
    generation: 1,
    existing: 'refuse',
    swap: 'rename',
    lane: 'rows',
    readFormat: 'rows',
    writeFormat: 'rows',
    ...over,
  };
}

export async function* give(batches: readonly Batch[]): AsyncGenerator<Batch> {
  yield* batches;
}

export async function visible(client: pg.Client, work: Work): Promise<Row[] | undefined> {
  const { rows } = await client.query('SELECT to_regclass($1) AS there', [quoted(work.name)]);
  if (rows[0].there === null) return undefined;
  const found = await client.query({ text: `SELECT id, v FROM ${quoted(work.name)} ORDER BY id, v`, rowMode: 'array' });
  return found.rows;
}

export async function leftovers(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query(`
    SELECT 'relation ' || n.nspname || '.' || c.relname AS said FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = '_godwit' AND c.relkind IN ('r', 'S') AND c.relname ~ '_[0-9a-f]{20}'
    UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT 'type ' || typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname !~ '^(pg_|_godwit|information_schema)' AND typtype IN ('e', 'd', 'c', 'r')
    UNION ALL SELECT 'work ' || w::text FROM _godwit.work w WHERE published_at IS NULL
    UNION ALL SELECT 'chunk ' || c::text FROM _godwit.chunk c WHERE NOT EXISTS (SELECT FROM _godwit.work w WHERE w.run = c.run AND w.schema_name = c.schema_name AND w.published_at IS NOT NULL)
    UNION ALL SELECT 'made ' || m::text FROM _godwit.made m
    UNION ALL SELECT 'owner ' || o.table_name FROM _godwit.owner o WHERE relation IS NULL
    ORDER BY 1`);
  return rows.map((row) => row.said);
}

/** A work as the planner makes it for two PostgreSQL. */
export function copyWork(table: Table, target: Target, format: Format, over: Partial<Work> = {}): Work {
  const fits = target.fit(table);
  const columns = table.columns.flatMap((one, i): PlanColumn[] => {
    const fit = fits[i];
    if (one.generated || !fit || fit.fit === 'refused') return [];
    return [{ ...column(one.name, fit.native, fit.type, one.nullable), shape: fit.shape }];
  });
  return {
    ...plainWork(),
    run: `copy ${++numbers}`,
    source: table,
    name: table.name,
    columns,
    key: table.key,
    lane: 'direct',
    readFormat: format,
    writeFormat: format,
    ...over,
  };
}

export type Pair = {
  readonly from: TestDatabase;
  readonly to: TestDatabase;
  /** Sessions of somebody else: on the source, on the target. */
  readonly a: pg.Client;
  readonly b: pg.Client;
  readonly source: ReturnType<typeof openSource>;
  readonly target: Target;
  /** Those of `every-type.ts`, by name. */
  readonly tables: ReadonlyMap<string, Table>;
  tableNamed(name: string): Table;
  /** Prepares, copies in one chunk, finishes. The test publishes. */
  load(work: Work, over?: Parameters<typeof writeOptions>[0]): Promise<Counts>;
};

/** Two databases, the first with every type; made before the first test of the suite, and gone after its last. */
export function postgresPair(fromVersion: Version, toVersion: Version): Pair {
  const pair = {} as Pair;
  const made = new AsyncDisposableStack();
  beforeAll(async () => {
    const from = made.use(await createDatabase(undefined, { version: fromVersion }));
    const to = made.use(await createDatabase(undefined, { version: toVersion }));
    const a = await connect(from);
    made.defer(() => a.end());
    const b = await connect(to);
    made.defer(() => b.end());
    const { rows } = await a.query("SELECT current_setting('server_version_num')::int / 10000 AS major");
    await a.query(everyType(rows[0].major));
    for (const client of [a, b])
      await client.query("SET search_path = ''; SET lc_monetary = 'C'; SET TimeZone = 'UTC'");
    const source = made.use(openSource({ url: from.url }));
    const target = made.use(openTarget({ url: to.url }));
    const names = everyTypeTables.map((name) => ({ schema: 'nasty', name }));
    const all = await source.describeAll(names);
    const tables = new Map(all.map((table, i) => [names[i]!.name, table as Table]));
    const tableNamed = (name: string): Table => tables.get(name)!;
    const load: Pair['load'] = (work, over) => copyAll(source, target, work, over);
    Object.assign(pair, { from, to, a, b, source, target, tables, tableNamed, load } satisfies Pair);
  });
  afterAll(() => made.disposeAsync());
  return pair;
}

async function copyAll(
  source: Source,
  target: Target,
  work: Work,
  over: Parameters<typeof writeOptions>[0] = {},
): Promise<Counts> {
  const { source: table, writeFormat: format } = work;
  await target.prepare(work);
  const all = { id: 1, kind: 'all', bounds: null, rows: table.rows } as const;
  const claim = await target.claim(work, all);
  if (claim.done) return claim.done;
  const columns = work.columns.map((one) => ({
    name: one.from ?? one.name,
    shape: one.shape,
    ...(one.constant === undefined ? {} : { constant: { value: one.constant, type: one.type } }),
  }));
  const framed = format !== 'rows';
  const batch = { rows: 300, bytes: 64 * 1024 };
  const batches = source.read(table, all, {
    columns,
    snapshot: { consistency: 'chunk' },
    format,
    framed,
    batch,
    signal,
  });
  const counts = await target.write(work, claim, batches, writeOptions(over));
  await target.finish(work);
  return counts;
}

/** Column `x` of what the statement answers. */
export const contents = async (client: pg.Client, text: string) => (await client.query(text)).rows.map((row) => row.x);
/** Rows as text: at the source, where a parent's rows are its own; and on the target. */
export const rowTexts = (table: Table) =>
  `SELECT x::text AS x FROM ${table.kind === 'partitioned' ? '' : 'ONLY '}${quoted(table.name)} x ORDER BY 1`;
export const copied = (name: { schema: string; name: string }) =>
  `SELECT x::text AS x FROM ${quoted(name)} x ORDER BY 1`;

/** As the server prints them; partitioned and inherited tables apart, which are plain tables on the target. */
const mine = `n.nspname = 'nasty' AND c.relname !~ '^(events|a_|child)'`;
export const definitions = {
  constraints: `SELECT c.relname || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid) || k.convalidated AS x FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${mine} ORDER BY 1`,
  indexes: `SELECT pg_get_indexdef(i.indexrelid) || indisvalid AS x FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${mine} ORDER BY 1`,
  columns: `SELECT format('%s %s %s %s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
      pg_get_expr(d.adbin, d.adrelid)) AS x FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE ${mine} AND c.relkind = 'r' AND a.attnum > 0 ORDER BY c.relname, a.attnum`,
  sequences: `SELECT format('%s %s %s %s %s %s %s', sequencename, data_type, start_value, increment_by, cache_size, cycle, last_value) AS x
    FROM pg_sequences WHERE schemaname = 'nasty' ORDER BY 1`,
  comments: `SELECT format('%s %s %s', c.relname, objsubid, description) AS x FROM pg_description d JOIN pg_class c ON c.oid = d.objoid
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE d.classoid = 'pg_class'::regclass AND ${mine} ORDER BY 1`,
  types: `SELECT t.typname || ' ' || t.typtype::text AS x FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = 'nasty' AND typtype IN ('e', 'd', 'r') ORDER BY 1`,
};
