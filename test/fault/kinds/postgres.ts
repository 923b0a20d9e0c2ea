import { createDatabase, through } from '../addresses.ts';
import type { Installation } from '../installation.ts';
import { contentOf, query } from '../oracle.ts';
import { digest, keyText } from '../shop.ts';
import type { Kind, Place } from './kind.ts';

const schema = 'copy';

export const postgres: Kind = {
  name: 'postgres',
  writing: ['after-read', 'before-commit', 'between-checkpoint-and-commit', 'after-commit', 'before-answer'],
  publishing: ['in-swap', 'after-swap'],
  async start(at) {
    return {
      place: async (name) => postgresPlace(at, await createDatabase(at.target, name)),
      disturbances: [
        { name: 'restarted', make: () => at.target.restart('immediate') },
        { name: 'connections cut', make: async () => at.targetProxy.cut() },
      ],
      [Symbol.asyncDispose]: async () => {},
    };
  },
  // Decision 10: whoever claims a chunk ends the older attempt's backend, and the older attempt's checkpoint finds its
  // epoch over. Either would hold the stale writer off; without both nothing does.
  fence: {
    stopAt: 'before-commit',
    wakes: true,
    changes: [
      {
        file: 'connectors/postgres/target/ledger.ts',
        from: 'started: string): Promise<void> {\n',
        to: 'started: string): Promise<void> {\n  if (session) return;\n',
      },
      {
        file: 'connectors/postgres/target/claim.ts',
        from: 'AND chunk = $8 AND epoch = $9 AND NOT done RETURNING 1',
        to: 'AND chunk = $8 AND $9::int8 IS NOT NULL RETURNING 1',
      },
    ],
  },
};

export const postgresPlace = (at: Installation, url: string): Place => ({
  settings: { destination_type: 'pgsql', url: through(at.targetProxy, url), schema },
  async content(table) {
    const rows = await query<{ key: string; hash: string }>(
      url,
      `SELECT ${keyText(table)} AS key, ${digest(table)} AS hash FROM ${schema}.${table.name}`,
    );
    return contentOf(rows, table.key.length > 0);
  },
  strays: (published) => strays(url, published),
  async idle() {
    const open = `SELECT pid::text AS pid FROM pg_stat_activity
      WHERE datname = current_database() AND state = 'idle in transaction'`;
    return (await query<{ pid: string }>(url, open)).map(({ pid }) => `backend ${pid}`);
  },
});

/** Tables that are neither published by a run nor Godwit's own books; and books about chunks that nobody needs. */
async function strays(url: string, published: ReadonlySet<string>): Promise<string[]> {
  const tables = await query<{ name: string }>(
    url,
    `SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'`,
  );
  const names = tables.map(({ name }) => name);
  const found = names.filter((name) => isStaging(name) || !(name.startsWith('_godwit.') || published.has(name)));
  if (!names.includes('_godwit.chunk')) return found;
  // Books of what was published stay until the table's next run.
  const books = await query<{ what: string }>(
    url,
    `SELECT 'books of unpublished ' || w.table_name || ', ' || (SELECT count(*) FROM _godwit.chunk c
       WHERE (c.run, c.schema_name, c.table_name, c.generation) = (w.run, w.schema_name, w.table_name, w.generation)) || ' chunks' AS what
     FROM _godwit.work w WHERE w.published_at IS NULL
     UNION ALL SELECT 'a chunk of ' || c.table_name || ' without its work' FROM _godwit.chunk c
     WHERE NOT EXISTS (SELECT FROM _godwit.work w
       WHERE (c.run, c.schema_name, c.table_name, c.generation) = (w.run, w.schema_name, w.table_name, w.generation))`,
  );
  return [...found, ...books.map(({ what }) => what)];
}

const isStaging = (name: string): boolean => /^_godwit\.t_[0-9a-f]{20}$/.test(name);
