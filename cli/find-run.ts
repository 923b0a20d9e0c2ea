import { GodwitError } from '../errors.ts';
import { type Client, part } from './client.ts';
import { usage } from './output.ts';
import type { RunTableView, RunView } from './views.ts';

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** `job/number`, an id, or a job = its latest run. Throws NOT_FOUND, USAGE. */
export async function findRun(client: Client, wanted: string): Promise<RunView> {
  if (uuid.test(wanted)) return client.get<RunView>(`/api/runs/${wanted}`);
  const [, job = wanted, number] = /^(?:run\/)?([^/]+)\/(\d+)$/.exec(wanted) ?? [];
  if (wanted.includes('/') && number === undefined) {
    throw usage(`"${wanted}" is no run: write job/number, a run's id, or a job for its latest run.`);
  }
  if (number !== undefined) return client.get<RunView>(`/api/jobs/${part(job)}/runs/${number}`);
  const [latest] = await client.list<RunView>(`/api/jobs/${part(job)}/runs`, { limit: 1 }, 1);
  if (latest) return latest;
  throw Object.assign(new GodwitError('NOT_FOUND', `Job ${job} has no run yet.`, { job }), {
    fix: `Start one: godwit run ${job}`,
  });
}

/** The tables `schema.table` or `schema.table@target` means: one per target. */
export function findTables(tables: readonly RunTableView[], wanted: string): RunTableView[] {
  const at = wanted.lastIndexOf('@');
  const named = (name: string, target?: string) =>
    tables.filter(
      (table) =>
        (table.sourceName === name || table.sourceName.endsWith(`.${name}`)) &&
        (target === undefined || table.target === target),
    );
  const found = named(wanted);
  const hits = found.length > 0 || at < 0 ? found : named(wanted.slice(0, at), wanted.slice(at + 1));
  if (hits.length > 0) return hits;
  const known = [...new Set(tables.map((table) => table.sourceName))].slice(0, 20).join(', ');
  throw new GodwitError('NOT_FOUND', `The run has no table "${wanted}"; it has ${known}.`, { table: wanted });
}
