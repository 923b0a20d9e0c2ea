/** Rows set aside: list, show, export, replay, waive. */
import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Client } from '../client.ts';
import type { Context } from '../context.ts';
import { exits } from '../exit.ts';
import { findRun, findTables } from '../find-run.ts';
import { count, plural, table, usage } from '../output.ts';
import { reach } from '../reach.ts';
import type { RunTableView, RunView } from '../views.ts';

type Line = {
  readonly job: string;
  readonly run: number;
  readonly sourceName: string;
  readonly target: string;
  readonly columns: readonly string[];
  readonly codes: readonly string[];
  readonly open: number;
  readonly replayed: number;
  readonly waived: number;
  readonly firstAt: string;
};

/** Counts and codes, no values. */
export async function list({ config, out, options }: Context, job?: string): Promise<undefined> {
  const most = Number(options.limit ?? 50);
  if (!Number.isInteger(most) || most < 1) throw usage('--limit is a whole number of at least 1.');
  await using reached = await reach({ config, out });
  const query = { ...(job === undefined ? {} : { job }), ...(options.all === true ? {} : { state: 'open' }) };
  const all = await reached.client.list<Line>('/api/quarantine', { ...query, limit: Math.min(most, 100) }, most);
  for (const one of all) out.json({ type: 'quarantine', ...one });
  if (all.length === 0)
    return void out.text(options.all === true ? 'No row was ever set aside.' : 'No row is set aside.');
  const rows = all.map((one) => [
    `${one.job}/${one.run}`,
    `${one.sourceName}@${one.target}`,
    one.open,
    one.replayed,
    one.waived,
    one.firstAt.slice(0, 16).replace('T', ' '),
    one.columns.join(', '),
    one.codes.join(', '),
  ]);
  for (const line of table(rows, ['RUN', 'TABLE', 'OPEN', 'REPLAYED', 'WAIVED', 'SINCE (UTC)', 'COLUMNS', 'CODES']))
    out.text(line);
}

type Row = {
  readonly ordinal: number;
  readonly chunk: number;
  readonly row: number;
  readonly column: string | null;
  readonly code: string;
  readonly native: string | null;
  readonly state: string;
  readonly firstAt: string;
  readonly lastAt: string;
  readonly runs: number;
  readonly reason: string;
  readonly values: Readonly<Record<string, unknown>>;
};

/** The rows themselves: each look leaves a line in the audit. */
export async function show({ config, out, options }: Context, wanted = ''): Promise<undefined> {
  await using reached = await reach({ config, out });
  const { client } = reached;
  const { run, tables, ordinals } = await find(client, wanted, options.table);
  const most = Number(options.limit ?? 20);
  let left = most;
  for (const ordinal of ordinals) {
    if (left <= 0) break;
    const query = { ...(ordinal === undefined ? {} : { ordinal }), limit: Math.min(left, 100) };
    const rows = await client.list<Row>(`/api/runs/${run.id}/quarantine`, query, left);
    left -= rows.length;
    for (const one of rows) {
      out.json({ type: 'quarantined row', ...one });
      const of = tables.find((each) => each.ordinal === one.ordinal);
      const place = `${of?.sourceName ?? `table ${one.ordinal}`} chunk ${one.chunk} row ${one.row}`;
      out.text(`${place}  ${one.state}  ${one.column ?? ''} ${one.native ?? one.code}: ${one.reason}`);
      if (one.runs > 1)
        out.text(
          `    set aside by ${one.runs} runs, first ${one.firstAt.slice(0, 19)}Z, last ${one.lastAt.slice(0, 19)}Z`,
        );
      for (const [name, value] of Object.entries(one.values)) out.text(`    ${name} = ${JSON.stringify(value)}`);
    }
  }
  if (left < most) return;
  const aside = tables.some(
    (one) => one.rowsQuarantined > 0 && ordinals.some((at) => (at ?? one.ordinal) === one.ordinal),
  );
  out.text(
    aside
      ? 'What was set aside there is in the list of a later run, which met it again.'
      : 'No row is set aside there.',
  );
}

/** NDJSON or CSV, to a file or to stdout. */
export async function exportRows({ config, out, options }: Context, wanted = ''): Promise<undefined> {
  await using reached = await reach({ config, out });
  const { client } = reached;
  const { run, ordinals } = await find(client, wanted, options.table);
  const format = options.format === 'csv' ? 'csv' : 'ndjson';
  // One file for all of them, written anew.
  for (const [i, ordinal] of ordinals.entries()) {
    const query = `format=${format}${ordinal === undefined ? '' : `&ordinal=${ordinal}`}`;
    const body = await client.raw(`/api/runs/${run.id}/quarantine/export?${query}`);
    const file = typeof options.file === 'string' ? options.file : undefined;
    if (file === undefined) await pipeline(Readable.fromWeb(body as never), process.stdout, { end: false });
    else
      await pipeline(
        Readable.fromWeb(body as never),
        createWriteStream(file, { flags: i === 0 ? 'w' : 'a', mode: 0o600 }),
      );
    if (file !== undefined) out.say(`Written to ${file}.`);
  }
}

type Replayed = Pick<Line, 'sourceName' | 'target' | 'open' | 'replayed'> & { readonly present: number };

/** Exit 3 when rows were refused again. */
export async function replay({ config, out, options }: Context, wanted = ''): Promise<number> {
  await using reached = await reach({ config, out });
  const { client } = reached;
  const { run, ordinals } = await find(client, wanted, options.table);
  let left = 0;
  let all = 0;
  for (const ordinal of ordinals) {
    const body = ordinal === undefined ? {} : { ordinal };
    const { tables } = await client.post<{ tables: Replayed[] }>(`/api/runs/${run.id}/quarantine/replay`, body);
    for (const one of tables) {
      all++;
      left += one.open;
      out.json({ type: 'replayed', run: `${run.job}/${run.number}`, ...one });
      const there = one.present > 0 ? ` (${count(one.present)} of these keys were there already)` : '';
      const again = one.open > 0 ? `, ${count(one.open)} refused again` : '';
      out.text(`${one.sourceName} → ${one.target}: ${plural(one.replayed, 'row')} written${there}${again}.`);
    }
  }
  if (all === 0) out.text('No row is set aside there.');
  return left > 0 ? exits.partial : exits.succeeded;
}

export async function waive({ config, out, options }: Context, wanted = ''): Promise<undefined> {
  if (typeof options.note !== 'string' || options.note === '') throw usage('Say why: --note "…".');
  await using reached = await reach({ config, out });
  const { client } = reached;
  const { run, ordinals } = await find(client, wanted, options.table);
  let waived = 0;
  for (const ordinal of ordinals) {
    const body = { note: options.note, ...(ordinal === undefined ? {} : { ordinal }) };
    waived += (await client.post<{ waived: number }>(`/api/runs/${run.id}/quarantine/waive`, body)).waived;
  }
  out.json({ type: 'waived', run: `${run.job}/${run.number}`, waived });
  out.text(`${plural(waived, 'row')} of ${run.job}/${run.number} given up.`);
}

/** The run, and the tables that are meant; all of them = one question without an ordinal. */
async function find(client: Client, wanted: string, name: unknown) {
  const run = await findRun(client, wanted);
  const tables = await client.list<RunTableView>(`/api/runs/${run.id}/tables`, { limit: 500 });
  const ordinals: (number | undefined)[] =
    typeof name === 'string' ? findTables(tables, name).map((one) => one.ordinal) : [undefined];
  return { run, tables, ordinals } satisfies { run: RunView; tables: RunTableView[]; ordinals: unknown[] };
}
