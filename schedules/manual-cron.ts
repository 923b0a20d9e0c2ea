/**
 * Cron as APScheduler 3.x reads it (the mapping manual's): its user guide "apscheduler.triggers.cron" has the table of
 * expressions. All given fields must hold at once; a day and a weekday too.
 */
import { GodwitError } from '../errors.ts';
import type { Cron, DayRule } from './cron.ts';

export const fieldNames = ['year', 'month', 'day', 'week', 'day_of_week', 'hour', 'minute', 'second'] as const;
export type FieldName = (typeof fieldNames)[number];
/** `?` and absence: not given. */
export type GivenFields = Partial<Record<FieldName, string | undefined>>;

const limits: Readonly<Record<FieldName, readonly [number, number]>> = {
  year: [1970, 9999],
  month: [1, 12],
  day: [1, 31],
  week: [1, 53],
  day_of_week: [0, 6],
  hour: [0, 23],
  minute: [0, 59],
  second: [0, 59],
};
/** Right of the least significant field that is given. */
const minimum: Readonly<Record<FieldName, string>> = {
  year: '*',
  month: '1',
  day: '1',
  week: '*',
  day_of_week: '*',
  hour: '0',
  minute: '0',
  second: '0',
};
const names: Partial<Record<FieldName, readonly string[]>> = {
  month: ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'],
  day_of_week: ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'],
};
const weekdayNames = names.day_of_week as readonly string[];
const position = /^(1st|2nd|3rd|4th|5th|last)[\s_]+([a-z]+)$/i;

/** Its fields: `last fri` and `1, 15` are one each. */
export const tokensOf = (text: string): string[] =>
  text
    .trim()
    .replaceAll(/\s*,\s*/g, ',')
    .replaceAll(/\b(1st|2nd|3rd|4th|5th|last)\s+(mon|tue|wed|thu|fri|sat|sun)\b/gi, '$1_$2')
    .split(/\s+/)
    .filter(Boolean);

export function manualCron(given: GivenFields): Cron {
  const all = filled(given);
  const list = (name: FieldName): number[] | undefined => (all[name] === '*' ? undefined : numbers(name, all[name]));
  const year = list('year');
  const weeks = list('week');
  const weekdays = list('day_of_week');
  const days = all.day === '*' ? undefined : dayRules(all.day);
  return {
    ...(year ? { years: year } : {}),
    months: numbers('month', all.month),
    days: [{ ...(days ? { days } : {}), ...(weeks ? { weeks } : {}), ...(weekdays ? { weekdays } : {}) }],
    hours: numbers('hour', all.hour),
    minutes: numbers('minute', all.minute),
    seconds: numbers('second', all.second),
  };
}

/** The eight fields as one text, those not given filled in. */
export const fieldsText = (given: GivenFields): string => {
  const all = filled(given);
  return fieldNames.map((name) => all[name]).join(' ');
};

/** Fields left of the least significant given default to `*`, those right of it to their minimum. */
function filled(given: GivenFields): Readonly<Record<FieldName, string>> {
  const isGiven = (name: FieldName) => given[name] !== undefined && given[name] !== '?';
  const least = fieldNames.findLastIndex(isGiven);
  if (least < 0) throw invalid('The schedule gives no field.');
  const all = fieldNames.map((name, i) => [name, isGiven(name) ? given[name] : i < least ? '*' : minimum[name]]);
  return Object.fromEntries(all) as Record<FieldName, string>;
}

function dayRules(text: string): DayRule[] {
  const plain: string[] = [];
  const rules: DayRule[] = [];
  for (const part of text.split(',')) {
    const [, nth = '', name = ''] = position.exec(part) ?? [];
    if (/^last$/i.test(part)) rules.push({ kind: 'last' });
    else if (nth !== '') {
      const weekday = weekdayNames.indexOf(name.toLowerCase());
      if (weekday < 0) throw wrong('day', part, `"${name}" is no weekday (${weekdayNames.join(', ')})`);
      const which = /^last$/i.test(nth) ? 'last' : (Number(nth[0]) as 1);
      rules.push({ kind: 'position', nth: which, weekday });
    } else plain.push(part);
  }
  return plain.length > 0 ? [{ kind: 'numbers', days: numbers('day', plain.join(',')) }, ...rules] : rules;
}

/** Its values, ascending, without doubles. */
function numbers(name: FieldName, text: string): number[] {
  const found = new Set(text.split(',').flatMap((part) => expand(name, part)));
  return [...found].sort((a, b) => a - b);
}

/** `*`, `* / n`, `a`, `a-b`, `a/n` (from a to the end), `a-b/n`, and names and ranges of names. */
function expand(name: FieldName, part: string): number[] {
  const [least, most] = limits[name];
  const [, star, first, last, step] = /^(?:(\*)|(\d+)(?:-(\d+))?)(?:\/(\d+))?$/.exec(part) ?? [];
  const every = step === undefined ? undefined : Number(step);
  if (star !== undefined) {
    refuseStep(name, part, every, most - least);
    return range(least, most, every ?? 1);
  }
  if (first === undefined) return named(name, part);
  const from = Number(first);
  const to = last === undefined ? (every === undefined ? from : undefined) : Number(last);
  if (to !== undefined && from > to) throw wrong(name, part, 'its range runs backwards');
  if (from < least) throw wrong(name, part, `the least is ${least}`);
  if ((to ?? from) > most) throw wrong(name, part, `the most is ${most}`);
  // APScheduler takes an end of 0 for none.
  refuseStep(name, part, every, (to || most) - from);
  return range(from, to ?? most, every ?? 1);
}

/** APScheduler refuses a step that is wider than its range. */
function refuseStep(name: FieldName, part: string, step: number | undefined, width: number): void {
  if (step === 0) throw wrong(name, part, 'a step is at least 1');
  if (step !== undefined && step > width) throw wrong(name, part, `the step is wider than its range (${width})`);
}

function named(name: FieldName, part: string): number[] {
  const words = names[name];
  const [, first, last] = /^([a-z]+)(?:-([a-z]+))?$/i.exec(part) ?? [];
  if (words === undefined || first === undefined) throw wrong(name, part, known(name));
  const of = (word: string): number => {
    const at = words.indexOf(word.toLowerCase());
    if (at < 0) throw wrong(name, part, `"${word}" is none of ${words.join(', ')}`);
    return at + limits[name][0];
  };
  const from = of(first);
  const to = last === undefined ? from : of(last);
  if (from > to) throw wrong(name, part, 'its range runs backwards');
  return range(from, to, 1);
}

const range = (from: number, to: number, step: number): number[] =>
  Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => from + i * step);

const known = (name: FieldName): string => {
  const [least, most] = limits[name];
  const words = names[name] ? ', names, ranges of names' : '';
  const days = name === 'day' ? ', last, 1st…5th or last with a weekday (3rd mon)' : '';
  return `expected *, */n, numbers from ${least} to ${most}, ranges a-b, steps a-b/n${words}${days}, or a list of these`;
};
const wrong = (name: FieldName, part: string, why: string): GodwitError =>
  invalid(`The field ${name} has "${part.replace('_', ' ')}": ${why}.`);
const invalid = (message: string): GodwitError => new GodwitError('SCHEDULE_INVALID', message);
