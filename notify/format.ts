/** A run's end in words for people: what, where, the state of the data, what to do. Names, counts and codes; never a value. */
import type { RunReport, TableReport } from '../db/notifications.ts';
import { codes, type ErrorCode } from '../errors.ts';

export type Message = {
  /** One line: of an e-mail the subject. */
  readonly title: string;
  readonly lines: readonly string[];
};

const signs: Readonly<Record<string, string>> = {
  succeeded: '✅',
  partial: '⚠️',
  failed: '❌',
  canceled: '⏹️',
  skipped: '⏭️',
};

export function messageOf(report: RunReport): Message {
  const { job, number, status, attempt } = report;
  const again = attempt > 1 ? ` (attempt ${attempt})` : '';
  const code = report.status === 'failed' && report.failure ? `: ${report.failure.code}` : '';
  const cut = report.failure?.code === 'CUT_OFF' ? ': cut off' : '';
  return {
    title: `${signs[status] ?? ''} Godwit: ${job}/${number} ${status}${again}${code}${cut}`.trim(),
    lines: [...whatHappened(report), ...state(report), ...whatToDo(report), summary(report)],
  };
}

export const plainText = ({ title, lines }: Message): string => [title, '', ...lines].join('\n');

const known = (code: string) => (code in codes ? codes[code as keyof typeof codes] : undefined);

function whatHappened({ status, failure, failed, tables }: RunReport): string[] {
  const lines: string[] = [];
  if (failure && status !== 'succeeded') {
    const means = known(failure.code)?.means;
    // Of one table's failure the run repeats the sentence.
    const same = failed.length === 1 && failed[0]?.code === failure.code && failed[0].message === failure.message;
    if (means && failure.code !== 'CUT_OFF') lines.push(`What: ${failure.code}. ${means}`);
    if (!same) lines.push(failure.message);
    const where = Object.entries(failure.where ?? {}).filter(([name]) => name !== 'run');
    if (where.length > 0 && failed.length === 0)
      lines.push(`Where: ${where.map(([name, value]) => `${name} ${value}`).join(', ')}`);
  }
  for (const one of failed) lines.push(tableLine(one));
  const more = (tables.failed ?? 0) - failed.length;
  if (more > 0) lines.push(`• and ${more} more tables failed`);
  return lines;
}

const tableLine = ({ name, target, code, message }: TableReport): string =>
  `• ${name} → ${target}: ${code}${message ? `. ${message}` : ''}`;

/** What stands on the targets now. */
function state({ status, tables, kept }: RunReport): string[] {
  const published = tables.succeeded ?? 0;
  if (status === 'succeeded') return [];
  if (status === 'skipped') return ['Data: nothing was touched.'];
  if (status === 'canceled') {
    return [`Data: ${there(published)}; what this run had not published is removed.`];
  }
  const rest = kept ? 'what else was moved is kept aside, and is gone on from' : 'nothing else was changed';
  return [`Data: ${there(published)}; ${rest}.`];
}

const there = (published: number): string =>
  published === 0
    ? 'the targets are as they were before this run, apart from chunks of incremental tables that were committed'
    : `${plural(published, 'table is', 'tables are')} complete on the target`;

/** Mended in the mapping, of which a retry knows the state it was started with. */
const inMapping: ReadonlySet<string> = new Set<ErrorCode>([
  'MAPPING_INVALID',
  'TABLE_MISSING',
  'NO_TABLE_MATCHES',
  'COLUMN_MISSING',
  'NAME_COLLISION',
  'NAME_TOO_LONG',
  'SAME_DATABASE',
  'TYPE_REFUSED',
  'NOT_OWNED',
  'MODE_REFUSED',
]);

function whatToDo({ job, number, status, failure, failed }: RunReport): string[] {
  if (status === 'succeeded' || status === 'canceled') return [];
  const fixes = [...new Set(failed.map(({ fix, code }) => fix || known(code)?.fix || '').filter(Boolean))];
  const own = failure && (failure.fix ?? known(failure.code)?.fix);
  const what = fixes.length > 0 ? fixes.slice(0, 3) : own ? [own] : [];
  const lines = what.length > 0 ? [`What to do: ${what.join(' ')}`] : [];
  if (status === 'skipped' || failure?.code === 'CUT_OFF') return lines;
  const more = `more: godwit show ${job}/${number}`;
  const byMapping = failed.length > 0 && failed.every((one) => inMapping.has(one.code));
  if (byMapping)
    return [...lines, `Then: godwit run with the corrected mapping (a retry goes by the old one) · ${more}`];
  return [...lines, `Then: godwit retry ${job}/${number} · ${more}`];
}

function summary({ tables, rows, bytes, startedAt, endedAt }: RunReport): string {
  const all = Object.values(tables).reduce((so, n) => so + n, 0);
  const by = Object.entries(tables)
    .map(([status, n]) => `${n} ${status}`)
    .sort();
  const books = [
    `${count(rows.read)} read`,
    `${count(rows.written)} written`,
    ...(rows.unchanged > 0 ? [`${count(rows.unchanged)} unchanged`] : []),
    ...(rows.deleted > 0 ? [`${count(rows.deleted)} deleted`] : []),
    ...(rows.filtered > 0 ? [`${count(rows.filtered)} filtered`] : []),
    ...(rows.quarantined > 0 ? [`${count(rows.quarantined)} set aside`] : []),
  ];
  return [
    `Tables: ${all}${by.length > 1 ? ` (${by.join(', ')})` : ''}`,
    `rows: ${books.join(', ')}`,
    ...(bytes > 0 ? [size(bytes)] : []),
    ...(startedAt && endedAt ? [`time: ${duration(Date.parse(endedAt) - Date.parse(startedAt))}`] : []),
  ].join(' · ');
}

const count = (n: number): string => n.toLocaleString('en-US');
const plural = (n: number, one: string, many: string): string => `${count(n)} ${n === 1 ? one : many}`;

function size(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let n = bytes;
  let unit = 0;
  for (; n >= 1000 && unit < units.length - 1; unit++) n /= 1000;
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

function duration(ms: number): string {
  const s = Math.max(0, ms / 1000);
  if (s < 120) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  const minutes = Math.floor(s / 60);
  return minutes < 120 ? `${minutes} min ${Math.round(s % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
