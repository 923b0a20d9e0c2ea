import { GodwitError } from '../errors.ts';

const units: Readonly<Record<string, number>> = {
  s: 1,
  second: 1,
  seconds: 1,
  m: 60,
  min: 60,
  minute: 60,
  minutes: 60,
  h: 3600,
  hour: 3600,
  hours: 3600,
  d: 86_400,
  day: 86_400,
  days: 86_400,
  w: 604_800,
  week: 604_800,
  weeks: 604_800,
};
export const intervalUnits = ['weeks', 'days', 'hours', 'minutes', 'seconds'] as const;

/** `15m`, `2h`, `1h 30m`, `1 day`: seconds, whole ones. Throws SCHEDULE_INVALID. */
export function parseInterval(text: string): number {
  let seconds = 0;
  let rest = text.trim();
  while (rest !== '') {
    const [all = '', amount, unit = ''] = /^(\d+(?:\.\d+)?)\s*([a-z]+)\s*/i.exec(rest) ?? [];
    const size = units[unit.toLowerCase()];
    if (amount === undefined || size === undefined) {
      throw new GodwitError('SCHEDULE_INVALID', `"${text}" is no interval; expected 30s, 15m, 2h, 1d, 1w or "1h 30m".`);
    }
    seconds += Number(amount) * size;
    rest = rest.slice(all.length);
  }
  return whole(seconds, text);
}

/** A map of units as one text: `{hours: 2}` is `2h`. */
export const intervalText = (given: Partial<Record<(typeof intervalUnits)[number], number | undefined>>): string =>
  intervalUnits
    .filter((unit) => given[unit] !== undefined)
    .map((unit) => `${given[unit]}${unit[0]}`)
    .join(' ');

function whole(seconds: number, text: string): number {
  if (seconds >= 1 && Number.isInteger(seconds) && seconds <= 366 * 86_400) return seconds;
  const why = seconds > 366 * 86_400 ? 'a year at most' : 'at least a second, and whole ones';
  throw new GodwitError('SCHEDULE_INVALID', `The interval "${text}" is not possible: ${why}.`);
}
