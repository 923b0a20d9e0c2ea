import { GodwitError } from '../errors.ts';
import { crontab } from './crontab.ts';
import { daysInMonth, isoWeek, weekdayOf } from './dates.ts';
import { fieldNames, type GivenFields, manualCron, tokensOf } from './manual-cron.ts';

/** A day of the month: by number, the last one, or the first (1) to fifth (5) or last Monday (0) to Sunday (6). */
export type DayRule =
  | { readonly kind: 'numbers'; readonly days: readonly number[] }
  | { readonly kind: 'last' }
  | { readonly kind: 'position'; readonly nth: 1 | 2 | 3 | 4 | 5 | 'last'; readonly weekday: number };

/** All that is there must hold. Absent: any. */
export type DayTest = {
  readonly days?: readonly DayRule[];
  /** ISO week numbers. */
  readonly weeks?: readonly number[];
  /** 0 = Monday. */
  readonly weekdays?: readonly number[];
};

/** A cron expression of either kind, understood. Lists are sorted and without doubles. */
export type Cron = {
  /** Absent: any. */
  readonly years?: readonly number[];
  readonly months: readonly number[];
  /** One of them must hold. */
  readonly days: readonly DayTest[];
  readonly hours: readonly number[];
  readonly minutes: readonly number[];
  readonly seconds: readonly number[];
};

/**
 * The manual's eight fields (APScheduler 3.x: year month day week day_of_week hour minute second; `?` = not given), the same
 * by name (`day_of_week=mon hour=7`), or the five of a crontab. Throws SCHEDULE_INVALID, naming the field.
 */
export function parseCron(text: string): Cron {
  const tokens = tokensOf(text);
  if (tokens.length === 0) throw invalid('The schedule is empty.');
  if (tokens[0]?.startsWith('@') || tokens.length === 5) return crontab(tokens);
  if (tokens.some((token) => token.includes('='))) return manualCron(byName(tokens));
  if (tokens.length === fieldNames.length) {
    return manualCron(Object.fromEntries(fieldNames.map((name, i) => [name, tokens[i]])));
  }
  const many = `${tokens.length} field${tokens.length === 1 ? '' : 's'}`;
  throw invalid(
    `"${text}" has ${many}. Give the five of a crontab (minute hour day month day_of_week), or eight: ${fieldNames.join(' ')} ("?" = not given), or some of the eight by name: "day_of_week=mon hour=7".`,
  );
}

function byName(tokens: readonly string[]): GivenFields {
  const given: Record<string, string> = {};
  for (const token of tokens) {
    const [, name = '', value = ''] = /^([a-z_]+)=(.+)$/i.exec(token) ?? [];
    if (!(fieldNames as readonly string[]).includes(name)) {
      throw invalid(`"${token}" is no field; those of a schedule are ${fieldNames.join(', ')}, each as name=value.`);
    }
    if (given[name] !== undefined) throw invalid(`The field ${name} is given twice.`);
    given[name] = value;
  }
  return given;
}

/** Days of that month on which it runs, ascending. */
export function daysOf({ days }: Cron, year: number, month: number): number[] {
  const last = daysInMonth(year, month);
  const found: number[] = [];
  for (let day = 1; day <= last; day++) if (days.some((test) => holds(test, year, month, day))) found.push(day);
  return found;
}

const holds = ({ days, weeks, weekdays }: DayTest, year: number, month: number, day: number): boolean =>
  (days?.some((rule) => isDay(rule, year, month, day)) ?? true) &&
  (weekdays?.includes(weekdayOf(year, month, day)) ?? true) &&
  (weeks?.includes(isoWeek(year, month, day)) ?? true);

function isDay(rule: DayRule, year: number, month: number, day: number): boolean {
  switch (rule.kind) {
    case 'numbers':
      return rule.days.includes(day);
    case 'last':
      return day === daysInMonth(year, month);
    case 'position': {
      if (weekdayOf(year, month, day) !== rule.weekday) return false;
      return rule.nth === 'last' ? day + 7 > daysInMonth(year, month) : Math.ceil(day / 7) === rule.nth;
    }
  }
}

const invalid = (message: string): GodwitError => new GodwitError('SCHEDULE_INVALID', message);
