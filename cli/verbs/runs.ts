import { part } from '../client.ts';
import type { Context } from '../context.ts';
import { exitOfRun, exits } from '../exit.ts';
import { findRun, findTables } from '../find-run.ts';
import { tableLine, widthsOf } from '../lines.ts';
import { duration, paintOf, table, usage } from '../output.ts';
import { reach } from '../reach.ts';
import { speedometer } from '../speeds.ts';
import { isClosed, type RunView } from '../views.ts';
import { look, showSummary } from '../watch.ts';
import { watchToEnd } from './run.ts';

/** The latest runs, of one job or of all. */
export async function runs({ config, out, options }: Context, job?: string): Promise<undefined> {
  const most = Number(options.limit ?? 20);
  if (!Number.isInteger(most) || most < 1) throw usage('--limit is a whole number of at least 1.');
  await using reached = await reach({ config, out });
  const path = job === undefined ? '/api/runs' : `/api/jobs/${part(job)}/runs`;
  const all = await reached.client.list<RunView>(path, { limit: Math.min(most, 100) }, most);
  for (const run of all) out.json({ type: 'run', ...run });
  if (all.length === 0) return void out.text('There is no run yet.');
  const rows = all.map((run) => [
    `${run.job}/${run.number}`,
    run.status,
    run.createdAt.slice(0, 19).replace('T', ' '),
    took(run),
    run.trigger,
    run.failure?.code ?? '',
  ]);
  for (const line of table(rows, ['RUN', 'STATE', 'CREATED (UTC)', 'TOOK', 'BY', ''])) out.text(line);
}

const took = (run: RunView): string =>
  run.startedAt && run.endedAt ? duration(Date.parse(run.endedAt) - Date.parse(run.startedAt)) : '';

/** One run with its tables. With --watch its outcome is the exit code. */
export async function show({ config, out, options }: Context, wanted = ''): Promise<number> {
  await using reached = await reach({ config, out });
  const { client } = reached;
  const run = await findRun(client, wanted);
  if (options.watch === true && !isClosed(run.status))
    return await watchToEnd({ client, embedded: reached.embedded, out }, run);
  const seen = await look(client, run.id);
  const speeds = speedometer()(seen.tables);
  const widths = widthsOf(seen.tables, Math.max(out.columns, 100));
  for (const one of seen.tables) {
    out.text(tableLine(one, speeds.get(one.ordinal), widths, paintOf(out)));
    for (const note of one.notes) out.text(`    note: ${note}`);
    out.json({ type: 'table', ...one });
  }
  showSummary(seen, out);
  return options.watch === true ? exitOfRun(seen.run.status) : exits.succeeded;
}

/** pause, resume, cancel, retry: of a run, or of one table of it. */
export const act =
  (action: string) =>
  async ({ config, out, options }: Context, wanted = ''): Promise<undefined> => {
    await using reached = await reach({ config, out });
    const { client } = reached;
    const run = await findRun(client, wanted);
    const label = `${run.job}/${run.number}`;
    if (typeof options.table === 'string') {
      const { tables } = await look(client, run.id);
      for (const one of findTables(tables, options.table)) {
        await client.post(`/api/runs/${run.id}/tables/${one.ordinal}/${action === 'cancel' ? 'skip' : action}`, {});
        out.text(`${done[action]} ${one.sourceName} → ${one.target} of ${label}.`);
        out.json({ type: 'table', action, run: label, table: one.sourceName, target: one.target });
      }
      return;
    }
    await client.post(`/api/runs/${run.id}/${action}`, {});
    const after = (await look(client, run.id)).run;
    out.text(`${done[action]} ${label}. It is ${after.status} now; watch it: godwit show ${label} --watch`);
    out.json({ type: 'run', action, ...after });
  };

const done: Readonly<Record<string, string>> = {
  pause: 'Paused',
  resume: 'Resumed',
  cancel: 'Asked to cancel',
  retry: 'Retried',
};
