import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Installation } from './installation.ts';
import type { Shop } from './job.ts';
import { openWorkflows } from './keeper.ts';
import { query } from './oracle.ts';
import type { Folders } from './verify.ts';

/**
 * What an ended run must not leave: staging tables and chunk rows on the target, parts of files, spool files, leases, open
 * workflows, sessions. Published tables stay. Waits some seconds for what ends by itself (the keeper looks now and then).
 */
export async function leftovers(at: Installation, shop: Shop, runId: string, folders: Folders): Promise<string[]> {
  let found: string[] = [];
  for (let tries = 0; tries < 40; tries++) {
    found = [
      ...(await onTarget(at, shop)),
      ...inFolders(folders),
      ...inSpools(at),
      ...(await leases(at, runId)),
      ...(await openWorkflows(at)).filter((id) => id.includes(runId) || id.startsWith(`run/${shop.name}/`)),
    ];
    if (found.length === 0) return [];
    await sleep(500);
  }
  return found;
}

/** Tables that are neither published by a run nor Godwit's own books; and books about chunks that nobody needs. */
async function onTarget(at: Installation, shop: Shop): Promise<string[]> {
  const tables = await query<{ name: string }>(
    shop.target,
    `SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'`,
  );
  const published = await query<{ name: string }>(
    at.metadata.url,
    `SELECT target_name AS name FROM godwit.run_tables t JOIN godwit.runs r ON r.id = t.run_id
     JOIN godwit.jobs j ON j.id = r.job_id WHERE j.name = $1 AND t.status = 'succeeded'`,
    [shop.name],
  );
  const known = new Set(published.map(({ name }) => name));
  const strays = tables.map(({ name }) => name).filter((name) => !name.startsWith('_godwit.') && !known.has(name));
  strays.push(...tables.map(({ name }) => name).filter(isStaging));
  if (!tables.some(({ name }) => name === '_godwit.chunk')) return strays;
  // Books of what was published stay until the table's next run.
  const books = await query<{ what: string }>(
    shop.target,
    `SELECT 'books of unpublished ' || w.table_name || ', ' || (SELECT count(*) FROM _godwit.chunk c
       WHERE (c.run, c.schema_name, c.table_name, c.generation) = (w.run, w.schema_name, w.table_name, w.generation)) || ' chunks' AS what
     FROM _godwit.work w WHERE w.published_at IS NULL
     UNION ALL SELECT 'a chunk of ' || c.table_name || ' without its work' FROM _godwit.chunk c
     WHERE NOT EXISTS (SELECT FROM _godwit.work w
       WHERE (c.run, c.schema_name, c.table_name, c.generation) = (w.run, w.schema_name, w.table_name, w.generation))`,
  );
  return [...strays, ...books.map(({ what }) => what)];
}
const isStaging = (name: string): boolean => /^_godwit\.t_[0-9a-f]{20}$/.test(name);

/** Anything in the staging of a file target's root. */
function inFolders(folders: Folders): string[] {
  return Object.values(folders).flatMap((folder) => {
    const staging = join(dirname(folder), '_godwit', 'staging');
    return filesBelow(staging);
  });
}

const filesBelow = (folder: string): string[] =>
  existsSync(folder)
    ? readdirSync(folder, { recursive: true, encoding: 'utf8' })
        .map((name) => join(folder, name))
        .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile())
    : [];

function inSpools(at: Installation): string[] {
  return readdirSync(at.folder)
    .filter((name) => name.startsWith('worker-') && !name.endsWith('.log'))
    .flatMap((worker) => filesBelow(join(at.folder, worker, 'spool')));
}

async function leases(at: Installation, runId: string): Promise<string[]> {
  const rows = await query(at.metadata.url, 'SELECT FROM godwit.leases WHERE run_id = $1', [runId]);
  return rows.map(() => `a lease of run ${runId}`);
}
