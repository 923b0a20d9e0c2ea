/** The picture of a run: pure functions from what the API says to lines of text. */
import { bytes, type Colour, count, duration, type Paint, pad, plural } from './output.ts';
import { isTableClosed, type RunTableView, type RunView } from './views.ts';

/** Rows and bytes per second of each table, by ordinal. */
export type Speeds = ReadonlyMap<number, { readonly rows: number; readonly bytes: number }>;
export const rowsDone = (table: RunTableView): number =>
  table.rowsRead + (isTableClosed(table.status) ? 0 : table.rowsMoving);

const marks: Readonly<Record<string, [string, Colour]>> = {
  succeeded: ['✓', 'green'],
  failed: ['✗', 'red'],
  skipped: ['-', 'dim'],
  canceled: ['-', 'dim'],
  'cut off': ['-', 'yellow'],
  waiting: ['…', 'yellow'],
  paused: ['‖', 'yellow'],
  queued: ['·', 'dim'],
};

/** One line per table: state, rows done of estimate, rows/s, MB/s, ETA, lane. Cut to the terminal's width. */
export function tableLine(
  table: RunTableView,
  speed: { rows: number; bytes: number } | undefined,
  widths: Widths,
  paint: Paint,
): string {
  const [mark, colour] = marks[table.status] ?? ['▸', 'bold'];
  const done = rowsDone(table);
  const closed = isTableClosed(table.status);
  const of =
    closed || table.estimatedRows < 0
      ? count(done)
      : `${count(done)} of ~${count(Math.max(done, table.estimatedRows))}`;
  const moving = table.status === 'running' || closed;
  const rate = moving && speed && speed.rows > 0 ? `${short(speed.rows)} rows/s` : '';
  const flow = moving && speed && speed.bytes > 0 ? `${(speed.bytes / 1e6).toFixed(1)} MB/s` : '';
  const left = table.estimatedRows - done;
  const eta =
    table.status === 'running' && speed && speed.rows > 0 && left > 0
      ? `ETA ${duration((left / speed.rows) * 1000)}`
      : '';
  const cells = [
    pad(shortened(`${table.sourceName} → ${table.target}`, widths.name), widths.name),
    pad(table.status, 9),
    pad(of, widths.rows, true),
    pad(rate, 12, true),
    pad(flow, 10, true),
    pad(eta, 9, true),
    pad(table.lane, 8),
  ];
  const trouble = table.failure && table.status !== 'succeeded' ? table.failure.code : '';
  const told = closed && changes(table) && trouble === '' ? changesText(books([table])) : '';
  return `${paint(mark, colour)} ${cells.join(' ')} ${paint(trouble, 'red')}${told}`.trimEnd();
}

/** Its beginning and its end, where the target stands. */
function shortened(text: string, width: number): string {
  const letters = [...text];
  if (letters.length <= width) return text;
  const end = Math.min(16, Math.floor(width / 2));
  return `${letters.slice(0, width - end - 1).join('')}…${letters.slice(-end).join('')}`;
}

export type Widths = { readonly name: number; readonly rows: number };
export const widthsOf = (tables: readonly RunTableView[], columns: number): Widths => ({
  name: Math.min(
    Math.max(10, ...tables.map((table) => [...`${table.sourceName} → ${table.target}`].length)),
    Math.max(20, columns - 78),
  ),
  rows: Math.max(8, ...tables.map((table) => count(Math.max(table.rowsRead, table.estimatedRows, 0)).length * 2 + 5)),
});

const short = (n: number): string =>
  n >= 1e6 ? `${(n / 1e6).toFixed(1)}M` : n >= 1e4 ? `${Math.round(n / 1e3)}k` : count(Math.round(n));

export type Books = {
  read: number;
  written: number;
  unchanged: number;
  filtered: number;
  quarantined: number;
  inserted: number;
  updated: number;
  deleted: number;
  bytes: number;
};
export function books(tables: readonly RunTableView[]): Books {
  const sum = (of: (table: RunTableView) => number) => tables.reduce((total, table) => total + of(table), 0);
  return {
    read: sum((table) => table.rowsRead),
    written: sum((table) => table.rowsWritten),
    unchanged: sum((table) => table.rowsUnchanged),
    filtered: sum((table) => table.rowsFiltered),
    inserted: sum((table) => table.rowsInserted),
    updated: sum((table) => table.rowsUpdated),
    deleted: sum((table) => table.rowsDeleted),
    quarantined: sum((table) => table.rowsQuarantined),
    bytes: sum((table) => table.bytes),
  };
}

/** The last lines of a watched run: outcome, failures with what to do, books. */
export function summary(run: RunView, tables: readonly RunTableView[], paint: Paint): string[] {
  const total = books(tables);
  const colour = run.status === 'succeeded' ? 'green' : run.status === 'failed' ? 'red' : 'yellow';
  const started = Date.parse(run.startedAt ?? run.createdAt);
  const took = run.endedAt ? `in ${duration(Date.parse(run.endedAt) - started)}` : '';
  const lines = [`${paint(`Run ${run.job}/${run.number} ${run.status}`, colour)} ${took}`.trimEnd()];
  if (tables.length > 0) {
    const seconds = run.endedAt ? (Date.parse(run.endedAt) - started) / 1000 : 0;
    const speed = seconds > 0 && total.read > 0 ? `, ${short(total.read / seconds)} rows/s` : '';
    const good = tables.filter((table) => table.status === 'succeeded').length;
    lines.push(
      `  ${good} of ${plural(tables.length, 'table')} · ${plural(total.read, 'row')} · ${bytes(total.bytes)}${speed}`,
    );
    lines.push(`  books: ${booksLine(total, paint)}`);
    if (tables.some((table) => changes(table) && table.status !== 'failed'))
      lines.push(`  of increments: ${changesText(total)}`);
  }
  if (run.failure) lines.push(...failureLines(run.failure, '', paint));
  for (const [, group] of failures(tables)) {
    const [first] = group as [RunTableView];
    const names = group.slice(0, 5).map((table) => `${table.sourceName} → ${table.target}`);
    const more = group.length > names.length ? ` and ${group.length - names.length} more` : '';
    lines.push(
      ...failureLines(first.failure as NonNullable<RunView['failure']>, `${names.join(', ')}${more}: `, paint),
    );
  }
  for (const note of run.notes) lines.push(`  note: ${note}`);
  return lines;
}

/** Promise 3. What is unchanged is only spoken of where it can be. */
function booksLine(total: Books, paint: Paint): string {
  const { read, written, unchanged, filtered, quarantined } = total;
  const parts = [
    `written ${count(written)}`,
    ...(unchanged > 0 ? [`unchanged ${count(unchanged)}`] : []),
    `filtered ${count(filtered)}`,
    `quarantined ${count(quarantined)}`,
  ];
  const balanced = read === written + unchanged + filtered + quarantined;
  return `read ${count(read)} = ${parts.join(' + ')}${balanced ? '' : paint('  NOT BALANCED', 'red')}`;
}

/** Went into a table that was there, row by row. */
const changes = ({ step }: RunTableView): boolean => step === 'increment' || step === 'backfill';

/** `12 inserted, 3 updated, 1 deleted`; `nothing new`. */
export function changesText(total: Pick<Books, 'inserted' | 'updated' | 'deleted'>): string {
  const parts = (['inserted', 'updated', 'deleted'] as const).flatMap((what) =>
    total[what] > 0 ? [`${count(total[what])} ${what}`] : [],
  );
  return parts.length > 0 ? parts.join(', ') : 'nothing new';
}

/** Tables that failed with the same words, together. */
const failures = (tables: readonly RunTableView[]): Map<string, RunTableView[]> =>
  Map.groupBy(
    tables.filter((table) => table.failure && table.status !== 'succeeded'),
    (table) => `${table.failure?.code} ${table.failure?.message}`,
  );

export function failureLines(failure: NonNullable<RunView['failure']>, who: string, paint: Paint): string[] {
  const lines = [`  ${paint(failure.code, 'red')} ${who}${failure.message}`];
  if (failure.fix) lines.push(`    what to do: ${failure.fix}`);
  return lines;
}

/**
 * The lines that fit the screen: all tables when there is room, else those at work, the latest ended ones, and a line
 * that counts the rest.
 */
export function screen(tables: readonly RunTableView[], room: number): { shown: RunTableView[]; hidden: number } {
  if (tables.length <= room) return { shown: [...tables], hidden: 0 };
  const rank = (table: RunTableView) => (table.status === 'queued' ? 2 : isTableClosed(table.status) ? 1 : 0);
  const ended = (table: RunTableView) => Date.parse(table.endedAt ?? '') || 0;
  const chosen = tables.toSorted((a, b) => rank(a) - rank(b) || ended(b) - ended(a)).slice(0, Math.max(1, room - 1));
  return { shown: chosen.toSorted((a, b) => a.ordinal - b.ordinal), hidden: tables.length - chosen.length };
}
