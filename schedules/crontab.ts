/**
 * The five fields of crontab(5), into the form of the manual's: 0 and 7 = Sunday; names; steps; and where day and weekday
 * are both restricted (neither begins with `*`), one of them is enough.
 */
import { GodwitError } from '../errors.ts';
import type { Cron, DayTest } from './cron.ts';

const fields = [
  { name: 'minute', least: 0, most: 59, words: [] },
  { name: 'hour', least: 0, most: 23, words: [] },
  { name: 'day', least: 1, most: 31, words: [] },
  {
    name: 'month',
    least: 1,
    most: 12,
    words: ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'],
  },
  { name: 'day_of_week', least: 0, most: 7, words: ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] },
] as const;
type Field = (typeof fields)[number];

const nicknames: Readonly<Record<string, string>> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
};

export function crontab(tokens: readonly string[]): Cron {
  const [first = ''] = tokens;
  if (first.startsWith('@')) {
    const meant = tokens.length === 1 ? nicknames[first.toLowerCase()] : undefined;
    if (!meant) throw invalid(`"${tokens.join(' ')}" is none of ${Object.keys(nicknames).join(', ')}.`);
    return crontab(meant.split(' '));
  }
  const [minutes, hours, days, months, sundayFirst] = fields.map((field, i) => numbers(field, tokens[i] ?? '')) as [
    number[],
    number[],
    number[],
    number[],
    number[],
  ];
  const weekdays = sorted(sundayFirst.map((day) => (day + 6) % 7));
  const any = (text: string | undefined) => text === '*';
  const starts = (text: string | undefined) => text?.startsWith('*') === true;
  const byDay: DayTest = any(tokens[2]) ? {} : { days: [{ kind: 'numbers', days }] };
  const byWeekday: DayTest = any(tokens[4]) ? {} : { weekdays };
  const both = starts(tokens[2]) || starts(tokens[4]);
  return { months, days: both ? [{ ...byDay, ...byWeekday }] : [byDay, byWeekday], hours, minutes, seconds: [0] };
}

const numbers = (field: Field, text: string): number[] =>
  sorted(text.split(',').flatMap((part) => expand(field, part)));
const sorted = (list: readonly number[]): number[] => [...new Set(list)].sort((a, b) => a - b);

function expand(field: Field, part: string): number[] {
  const { least, most } = field;
  const [, range = '', step] = /^([^/]+)(?:\/(\d+))?$/.exec(part) ?? [];
  const every = step === undefined ? 1 : Number(step);
  if (every === 0) throw wrong(field, part, 'a step is at least 1');
  const [, first, last] = /^([a-z\d]+)(?:-([a-z\d]+))?$/i.exec(range) ?? [];
  if (range !== '*' && first === undefined)
    throw wrong(field, part, 'expected *, a value, a range, or a list of these');
  const from = first === undefined ? least : numberOf(field, first, part);
  // 7 is Sunday again, at a range's end; `*` has it once.
  const end = field.name === 'day_of_week' ? 6 : most;
  const given = last === undefined ? undefined : numberOf(field, last, part);
  const to = given ?? (first === undefined || step !== undefined ? end : from);
  const until = field.name === 'day_of_week' && given === 0 && from > 0 ? 7 : to;
  if (from > until) throw wrong(field, part, 'its range runs backwards');
  return Array.from({ length: Math.floor((until - from) / every) + 1 }, (_, i) => from + i * every);
}

function numberOf(field: Field, text: string, part: string): number {
  const { least, most, words } = field;
  const at = (words as readonly string[]).indexOf(text.toLowerCase());
  if (at >= 0) return at + least;
  if (!/^\d+$/.test(text)) throw wrong(field, part, `"${text}" is no value of it`);
  const value = Number(text);
  if (value < least || value > most) throw wrong(field, part, `expected ${least} to ${most}`);
  return value;
}

const wrong = ({ name }: Field, part: string, why: string): GodwitError =>
  invalid(`The field ${name} has "${part}": ${why}.`);
const invalid = (message: string): GodwitError => new GodwitError('SCHEDULE_INVALID', message);
