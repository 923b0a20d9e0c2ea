import type { PlannedTable } from '../../activities/plan/index.ts';
import type { Client } from '../client.ts';
import { part } from '../client.ts';
import type { Context } from '../context.ts';
import { exits } from '../exit.ts';
import { failureLines } from '../lines.ts';
import { isFile, readMappingFile } from '../mapping-file.ts';
import { bytes, count, duration, type Output, paintOf, plural, table, usage } from '../output.ts';
import { reach } from '../reach.ts';
import type { RunView } from '../views.ts';

export type JobView = {
  readonly name: string;
  readonly version: number;
  readonly source?: string;
  readonly targets?: readonly string[];
  readonly lastRun?: RunView | null;
};

type Plan = { readonly tables: readonly PlannedTable[] };

/** Stores a mapping as its job, a new version when it changed. */
export const applyMapping = (client: Client, mapping: NamedMapping): Promise<JobView> =>
  client.put<JobView>(`/api/jobs/${part(mapping.name)}`, mapping);

export async function apply({ config, out }: Context, file = ''): Promise<undefined> {
  const mapping = await mappingOf(file, out);
  await using reached = await reach({ config, out });
  const job = await applyMapping(reached.client, mapping);
  out.text(`Job ${job.name} is at version ${job.version}. Next: godwit plan ${job.name}, godwit run ${job.name}`);
  out.json({ type: 'job', ...job });
}

type NamedMapping = { readonly name: string };

/** Read before anything is started: a wrong one is told at once. */
export async function mappingOf(file: string, out: Output): Promise<NamedMapping> {
  const { name, mapping, parsed } = await readMappingFile(file);
  for (const warning of parsed.warnings) out.say(`note: ${warning}`);
  return { ...mapping, name };
}

type Trend = {
  readonly runs: readonly {
    readonly number: number;
    readonly status: string;
    readonly endedAt: string;
    readonly seconds: number | null;
    readonly rowsRead: number;
    readonly rowsWritten: number;
  }[];
  readonly medianSeconds: number | null;
  readonly p95Seconds: number | null;
  readonly successRate7: number | null;
  readonly successRate30: number | null;
};

/** One job: what it moves, and how its last runs went. */
export async function showJob({ config, out, options }: Context, name = ''): Promise<undefined> {
  const last = Number(options.runs ?? 10);
  if (!Number.isInteger(last) || last < 1 || last > 500) throw usage('--runs is a whole number from 1 to 500.');
  await using reached = await reach({ config, out });
  const { client } = reached;
  const job = await client.get<JobView>(`/api/jobs/${part(name)}`);
  const trend = await client.get<Trend>(`/api/jobs/${part(name)}/trend`, { runs: last });
  out.json({ type: 'job', ...job, trend });
  const targets = job.targets && job.targets.length > 0 ? job.targets.join(', ') : 'no target';
  out.text(`Job ${job.name}, version ${job.version}: ${job.source ?? ''} → ${targets}`);
  const share = (rate: number | null) => (rate === null ? 'no run' : `${Math.round(rate * 1000) / 10} %`);
  out.text(`  succeeded: ${share(trend.successRate7)} in 7 days, ${share(trend.successRate30)} in 30 days`);
  const time = (seconds: number | null) => (seconds === null ? '' : duration(seconds * 1000));
  if (trend.medianSeconds !== null)
    out.text(`  takes: median ${time(trend.medianSeconds)}, p95 ${time(trend.p95Seconds)}`);
  if (trend.runs.length === 0) return void out.text(`  No run has ended yet: godwit run ${job.name}`);
  const rows = trend.runs.map((run) => [
    `${job.name}/${run.number}`,
    run.status,
    run.endedAt.slice(0, 19).replace('T', ' '),
    time(run.seconds),
    run.rowsRead,
    run.rowsWritten,
  ]);
  for (const line of table(rows, ['RUN', 'STATE', 'ENDED (UTC)', 'TOOK', 'READ', 'WRITTEN'])) out.text(line);
}

export async function jobs({ config, out }: Context): Promise<undefined> {
  await using reached = await reach({ config, out });
  const all = await reached.client.list<JobView>('/api/jobs');
  for (const job of all) out.json({ type: 'job', ...job });
  if (all.length === 0)
    return void out.text('There is no job yet: godwit apply shop.yaml (docs/mapping.md), or godwit demo.');
  const rows = all.map((job) => [
    job.name,
    job.version,
    job.lastRun ? `${job.name}/${job.lastRun.number}` : '',
    job.lastRun?.status ?? 'never ran',
  ]);
  for (const line of table(rows, ['JOB', 'VERSION', 'LATEST RUN', 'STATE'])) out.text(line);
}

/** Exit 1 when a table is refused. */
export async function plan({ config, out }: Context, wanted = ''): Promise<number> {
  const mapping = isFile(wanted) ? await mappingOf(wanted, out) : undefined;
  await using reached = await reach({ config, out });
  const { client } = reached;
  const { tables } = await client.post<Plan>(mapping ? '/api/plan' : `/api/jobs/${part(wanted)}/plan`, mapping ?? {});
  for (const one of tables) out.json({ type: 'table', ...one });
  const rows = tables.map((one) => [
    one.sourceName,
    one.target === '' ? '(no target)' : `${one.target}: ${one.targetName}`,
    one.mode,
    one.failure ? 'refused' : one.lane,
    one.estimatedRows < 0 ? '?' : `~${count(one.estimatedRows)}`,
    bytes(one.estimatedBytes),
    one.failure ? one.failure.code : one.why,
  ]);
  for (const line of table(rows, ['TABLE', 'TARGET', 'MODE', 'LANE', 'ROWS', 'SIZE', 'WHY'])) out.text(line);
  const refused = tables.filter((one) => one.failure);
  for (const one of tables) {
    if (one.failure)
      for (const line of failureLines(one.failure, `${one.sourceName} → ${one.target}: `, paintOf(out))) out.text(line);
    for (const note of one.notes) out.text(`  note: ${one.sourceName} → ${one.target}: ${note}`);
  }
  const rowsTotal = tables.reduce((sum, one) => sum + Math.max(0, one.estimatedRows), 0);
  out.text(
    `${plural(tables.length, 'table')} to move, ~${count(rowsTotal)} rows${refused.length > 0 ? `; ${refused.length} refused` : ''}.`,
  );
  return refused.length > 0 ? exits.failed : exits.succeeded;
}
