import { isDay } from '../../schedules/dates.ts';
import type { Client } from '../client.ts';
import type { Context } from '../context.ts';
import { exitOfRun, exits } from '../exit.ts';
import { findRun, findTables } from '../find-run.ts';
import { tableLine, widthsOf } from '../lines.ts';
import { bytes, duration, paintOf, table, usage } from '../output.ts';
import { reach } from '../reach.ts';
import { speedometer } from '../speeds.ts';
import { isClosed, type RunTableView, type RunView } from '../views.ts';
import { look, showSummary } from '../watch.ts';
import { watchToEnd } from './run.ts';

/** The latest runs, of one job or of all. */
export async function runs({ config, out, options }: Context, job?: string): Promise<undefined> {
  const most = Number(options.limit ?? 20);
  if (!Number.isInteger(most) || most < 1) throw usage('--limit is a whole number of at least 1.');
  const chosen = filters(options);
  const none = Object.keys(chosen).length > 0 ? 'No run is of that kind.' : undefined;
  const wish = { ...chosen, ...(job === undefined ? {} : { job }), limit: Math.min(most, 100) };
  await using reached = await reach({ config, out });
  if (options.tables === true) {
    return byTable(await reached.client.list<HistoryLine>('/api/history', wish, most), out, none);
  }
  const all = await reached.client.list<RunView>('/api/runs', wish, most);
  for (const run of all) out.json({ type: 'run', ...run });
  if (all.length === 0) return void out.text(none ?? 'There is no run yet.');
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

/** The options that choose runs, in the API's words. Throws USAGE. */
function filters({ status, table: name, target, mode, since, until, longer }: Context['options']) {
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined);
  const wish = {
    status: text(status),
    table: text(name),
    target: text(target),
    mode: text(mode),
    since: instantOf(text(since), 'since'),
    until: instantOf(text(until), 'until'),
    minSeconds: longer === undefined ? undefined : seconds(String(longer)),
  };
  return Object.fromEntries(Object.entries(wish).filter(([, value]) => value !== undefined)) as Record<string, string>;
}

/** ISO 8601 (a date is its midnight in UTC), or so long ago: `90m`, `24h`, `7d`. */
function instantOf(value: string | undefined, name: string): string | undefined {
  if (value === undefined) return undefined;
  const ago = /^(\d+)([smhd])$/.test(value) ? Date.now() - seconds(value) * 1000 : undefined;
  const zoned = /^\d{4}-\d\d-\d\d$/.test(value) || /(Z|[+-]\d\d:?\d\d)$/.test(value);
  const at = ago ?? (zoned && isDay(value.slice(0, 10)) ? Date.parse(value) : Number.NaN);
  if (Number.isNaN(at))
    throw usage(`--${name} is a date, an instant with its zone (2024-02-29T12:00:00Z), or so long ago (24h, 7d).`);
  return new Date(at).toISOString();
}

function seconds(value: string): number {
  const [, amount, unit = 's'] = /^(\d+(?:\.\d+)?)([smhd])?$/.exec(value) ?? [];
  if (amount === undefined) throw usage('--longer is seconds, or a number with s, m, h or d.');
  return Number(amount) * ({ s: 1, m: 60, h: 3600, d: 86_400 }[unit] ?? 1);
}

type HistoryLine = RunTableView & {
  readonly job: string;
  readonly run: number;
  readonly createdAt: string;
  readonly seconds: number | null;
};

/** One line per run and table. */
function byTable(all: readonly HistoryLine[], out: Context['out'], none = 'Nothing was moved yet.'): undefined {
  for (const one of all) out.json({ type: 'history', ...one });
  if (all.length === 0) return void out.text(none);
  const rows = all.map((one) => [
    `${one.job}/${one.run}`,
    `${one.sourceName} → ${one.target}`,
    one.status,
    one.createdAt.slice(0, 19).replace('T', ' '),
    one.seconds === null ? '' : duration(one.seconds * 1000),
    `${one.mode}${one.step ? ` ${one.step}` : ''}`,
    one.rowsRead,
    one.rowsWritten,
    one.rowsDeleted,
    one.rowsQuarantined,
    bytes(one.bytes),
    one.failure && one.status !== 'succeeded' ? one.failure.code : '',
  ]);
  const head = [
    'RUN',
    'TABLE',
    'STATE',
    'CREATED (UTC)',
    'TOOK',
    'MODE',
    'READ',
    'WRITTEN',
    'DELETED',
    'ASIDE',
    'SIZE',
    '',
  ];
  for (const line of table(rows, head)) out.text(line);
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
  if (options.bounds === true) return await bounds(client, run, out);
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

type Bounds = {
  readonly ordinal: number;
  readonly sourceName: string;
  readonly target: string;
  readonly step: string | null;
  readonly by: string | null;
  readonly column: string | null;
  readonly from: string | null;
  readonly upto: string | null;
};

/** From where to where its tables were read. They may be key values: the look leaves a line in the audit. */
async function bounds(client: Client, run: RunView, out: Context['out']): Promise<number> {
  const all = await client.list<Bounds>(`/api/runs/${run.id}/bounds`, { limit: 500 });
  for (const one of all) out.json({ type: 'bounds', ...one });
  if (all.length === 0) out.text('No table of it is of an incremental mode.');
  const rows = all.map((one) => [
    `${one.sourceName} → ${one.target}`,
    one.step ?? '',
    `${one.by ?? ''} ${one.column ?? ''}`.trim(),
    one.from ?? '(first)',
    one.upto ?? '(last)',
  ]);
  if (rows.length > 0) for (const line of table(rows, ['TABLE', 'STEP', 'BY', 'FROM', 'TO'])) out.text(line);
  return exits.succeeded;
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
