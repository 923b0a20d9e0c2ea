/** A timing as Temporal's ScheduleSpec takes it: structured calendars, never a cron text. */
import { GodwitError } from '../errors.ts';
import { type Cron, type DayTest, daysOf } from './cron.ts';
import type { Timing } from './timing.ts';

const months = [
  'JANUARY',
  'FEBRUARY',
  'MARCH',
  'APRIL',
  'MAY',
  'JUNE',
  'JULY',
  'AUGUST',
  'SEPTEMBER',
  'OCTOBER',
  'NOVEMBER',
  'DECEMBER',
] as const;
// Theirs begin on Sunday.
const weekdays = ['MONDAY', 'TUESDAY', 'WEDNESDAY', 'THURSDAY', 'FRIDAY', 'SATURDAY', 'SUNDAY'] as const;

type Range = { readonly start: number; readonly end: number; readonly step: number };
export type Calendar = {
  readonly year?: Range[];
  readonly month: (typeof months)[number][];
  readonly dayOfMonth: Range[];
  readonly dayOfWeek: (typeof weekdays)[number][] | '*';
  readonly hour: Range[];
  readonly minute: Range[];
  readonly second: Range[];
};
export type Spec = {
  readonly calendars?: Calendar[];
  readonly intervals?: { readonly every: number }[];
  readonly timezone: string;
  /** Dated calendars end here, in milliseconds: to be extended. */
  readonly until?: number;
};

/** Temporal's calendars know no others. */
const firstYear = 2000;
const lastYear = 2100;
/** How far dated calendars reach. */
export const datedYears = 3;

/**
 * Weeks, `last` and `3rd mon` are no fields of a calendar: their days are listed for three years from the month of `from`
 * on. Throws SCHEDULE_INVALID for what cannot be said.
 */
export function specOf(timing: Timing, from: number): Spec {
  const { timezone } = timing;
  if (timing.kind === 'interval') return { intervals: [{ every: timing.seconds * 1000 }], timezone };
  const { cron } = timing;
  const years = cron.years?.filter((year) => year >= firstYear && year <= lastYear);
  if (years?.length === 0) {
    const sentence = `A schedule's years are ${firstYear} to ${lastYear}; this one has none of them.`;
    throw new GodwitError('SCHEDULE_INVALID', sentence);
  }
  const plain = cron.days.every((test) => !test.weeks && (test.days?.every(({ kind }) => kind === 'numbers') ?? true));
  if (!plain) return dated(cron, timezone, from);
  const calendars = cron.days.map((test) => ({
    ...(years ? { year: ranges(years) } : {}),
    month: monthNames(cron.months),
    ...daysOfTest(test),
    ...clock(cron),
  }));
  return { calendars, timezone };
}

function daysOfTest({ days, weekdays: list }: DayTest): Pick<Calendar, 'dayOfMonth' | 'dayOfWeek'> {
  const numbers = days?.flatMap((rule) => (rule.kind === 'numbers' ? rule.days : []));
  return {
    dayOfMonth: numbers ? ranges(numbers) : [{ start: 1, end: 31, step: 1 }],
    dayOfWeek: list ? list.map((day) => weekdays[day] as (typeof weekdays)[number]) : '*',
  };
}

function dated(cron: Cron, timezone: string, from: number): Spec {
  const start = new Date(from);
  const calendars: Calendar[] = [];
  // One month more at each end: the zone's clocks are ahead of or behind UTC.
  for (let n = -1; n <= datedYears * 12; n++) {
    const at = new Date(Date.UTC(start.getUTCFullYear(), start.getUTCMonth() + n, 1));
    const year = at.getUTCFullYear();
    const month = at.getUTCMonth() + 1;
    if (!cron.months.includes(month) || cron.years?.includes(year) === false || year > lastYear) continue;
    const days = daysOf(cron, year, month);
    if (days.length === 0) continue;
    calendars.push({
      year: ranges([year]),
      month: monthNames([month]),
      dayOfMonth: ranges(days),
      dayOfWeek: '*',
      ...clock(cron),
    });
  }
  return { calendars, timezone, until: Date.UTC(start.getUTCFullYear() + datedYears, start.getUTCMonth(), 1) };
}

const monthNames = (list: readonly number[]) => list.map((month) => months[month - 1] as (typeof months)[number]);
const clock = ({ hours, minutes, seconds }: Cron) => ({
  hour: ranges(hours),
  minute: ranges(minutes),
  second: ranges(seconds),
});

/** Ascending numbers as ranges with steps: 0,5,10,15 is one. */
export function ranges(list: readonly number[]): Range[] {
  const found: Range[] = [];
  for (let i = 0; i < list.length; ) {
    const start = list[i] as number;
    const step = i + 1 < list.length ? (list[i + 1] as number) - start : 1;
    let last = i;
    while (last + 1 < list.length && (list[last + 1] as number) - (list[last] as number) === step) last++;
    // Two numbers far apart are no range.
    if (last === i + 1 && step > 1) last = i;
    found.push({ start, end: list[last] as number, step: last === i ? 1 : step });
    i = last + 1;
  }
  return found;
}
