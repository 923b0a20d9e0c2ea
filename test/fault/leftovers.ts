import { setTimeout as sleep } from 'node:timers/promises';
import type { Installation } from './installation.ts';
import type { Places, Shop } from './job.ts';
import { openWorkflows } from './keeper.ts';
import { query } from './oracle.ts';
import { spooled } from './spool.ts';

/**
 * What an ended run must not leave: staging tables and chunk rows on the targets, parts of files, spool files, leases, open
 * workflows. Published tables stay. Waits some seconds for what ends by itself (the keeper looks now and then).
 */
export async function leftovers(
  at: Installation,
  shop: Shop,
  runId: string,
  places: Places = shop.places,
): Promise<string[]> {
  let found: string[] = [];
  for (let tries = 0; tries < 40; tries++) {
    const published = await publishedBy(at, shop);
    const onTargets = await Promise.all(Object.values(places).map((place) => place.strays(published)));
    found = [
      ...onTargets.flat(),
      ...spooled(at),
      ...(await leases(at, runId)),
      ...(await openWorkflows(at)).filter((id) => id.includes(runId) || id.startsWith(`run/${shop.name}/`)),
    ];
    if (found.length === 0) return [];
    await sleep(500);
  }
  return found;
}

async function publishedBy(at: Installation, shop: Shop): Promise<ReadonlySet<string>> {
  const rows = await query<{ name: string }>(
    at.metadata.url,
    `SELECT target_name AS name FROM godwit.run_tables t JOIN godwit.runs r ON r.id = t.run_id
     JOIN godwit.jobs j ON j.id = r.job_id WHERE j.name = $1 AND t.status = 'succeeded'`,
    [shop.name],
  );
  return new Set(rows.map(({ name }) => name));
}

async function leases(at: Installation, runId: string): Promise<string[]> {
  const rows = await query(at.metadata.url, 'SELECT FROM godwit.leases WHERE run_id = $1', [runId]);
  return rows.map(() => `a lease of run ${runId}`);
}
