import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from './client.ts';
import { screen, summary, tableLine, widthsOf } from './lines.ts';
import { duration, type Output, paintOf, plainPaint } from './output.ts';
import { speedometer } from './speeds.ts';
import { isClosed, isTableClosed, type RunTableView, type RunView } from './views.ts';

export type Watched = { readonly run: RunView; readonly tables: readonly RunTableView[] };

type Options = {
  readonly client: Client;
  readonly runId: string;
  readonly out: Output;
  /** Ends the watching, not the run. */
  readonly signal?: AbortSignal;
  /** True while a question is on the screen: nothing is drawn. */
  readonly quiet?: () => boolean;
};

const pollMilliseconds = 250;

/**
 * Follows a run to its end (or the signal's): one line per table, redrawn in a terminal; elsewhere one line per change of
 * state; with JSON one object per change. Returns the last that was seen.
 */
export async function watchRun({ client, runId, out, signal, quiet = () => false }: Options): Promise<Watched> {
  const speeds = speedometer();
  const board = out.tty ? redrawn(out) : changes(out);
  let seen: Watched = await look(client, runId);
  for (;;) {
    if (!quiet()) board.show(seen, speeds(seen.tables));
    if (isClosed(seen.run.status) || signal?.aborted) break;
    const began = performance.now();
    await sleep(pollMilliseconds, undefined, { signal }).catch(() => {});
    if (signal?.aborted) break;
    seen = await look(client, runId);
    // A far or busy API is not asked more than a fifth of the time.
    const took = performance.now() - began - pollMilliseconds;
    if (took > pollMilliseconds / 4) await sleep(Math.min(2_000, took * 4), undefined, { signal }).catch(() => {});
  }
  board.end();
  return seen;
}

/** The run first: when it is closed, the tables asked for after it are final. */
export async function look(client: Client, runId: string): Promise<Watched> {
  const run = await client.get<RunView>(`/api/runs/${runId}`);
  const tables = await client.list<RunTableView>(`/api/runs/${runId}/tables`, { limit: 500 });
  return { run, tables: tables.toSorted((a, b) => a.ordinal - b.ordinal) };
}

type Board = {
  readonly show: (seen: Watched, speeds: ReturnType<ReturnType<typeof speedometer>>) => void;
  readonly end: () => void;
};

function redrawn(out: Output): Board {
  let drawn = 0;
  let last: string[] = [];
  const paint = paintOf(out);
  return {
    show({ run, tables }, speeds) {
      const room = Math.max(5, (process.stdout.rows || 40) - 3);
      const { shown, hidden } = screen(tables, room);
      const widths = widthsOf(shown, out.columns);
      const from = Date.parse(run.startedAt ?? run.createdAt);
      const to = run.endedAt ? Date.parse(run.endedAt) : Date.now();
      const head = `${paint(`${run.job}/${run.number}`, 'bold')} ${run.status}  ${duration(Math.max(0, to - from))}`;
      const lines = [head, ...shown.map((table) => tableLine(table, speeds.get(table.ordinal), widths, paint))];
      if (hidden > 0) {
        const done = tables.filter((table) => isTableClosed(table.status)).length;
        lines.push(paint(`  … and ${hidden} more; ${done} of ${tables.length} tables are done`, 'dim'));
      }
      const up = drawn > 0 ? `\u001b[${drawn}A` : '';
      const body = lines.map((line) => `\u001b[2K${line}\n`).join('');
      process.stdout.write(`${up}\u001b[?7l${body}\u001b[?7h\u001b[J`);
      drawn = lines.length;
      last = lines;
    },
    end() {
      if (last.length > 0) process.stdout.write('');
    },
  };
}

function changes(out: Output): Board {
  let run = '';
  const tables = new Map<number, string>();
  return {
    show(seen, speeds) {
      const runState = `${seen.run.status} ${seen.run.attempt}`;
      if (runState !== run && !isClosed(seen.run.status)) {
        out.text(`${seen.run.job}/${seen.run.number} ${seen.run.status}`);
        out.json({ type: 'run', ...seen.run });
      }
      run = runState;
      const widths = widthsOf(seen.tables, 160);
      for (const table of seen.tables) {
        if (tables.get(table.ordinal) === table.status) continue;
        const first = !tables.has(table.ordinal);
        tables.set(table.ordinal, table.status);
        if (first && table.status === 'queued') continue;
        const speed = speeds.get(table.ordinal);
        out.text(tableLine(table, speed, widths, plainPaint));
        out.json({
          type: 'table',
          ...table,
          ...(speed ? { rowsPerSecond: Math.round(speed.rows), bytesPerSecond: Math.round(speed.bytes) } : {}),
        });
      }
    },
    end() {},
  };
}

/** The last word on a run: outcome, failures, books. */
export function showSummary({ run, tables }: Watched, out: Output): void {
  const paint = paintOf(out);
  for (const line of summary(run, tables, paint)) out.text(line);
  out.json({ type: 'run', ...run });
}
