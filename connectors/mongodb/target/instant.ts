/** Canonical dates and timestamps (connectors/types.ts) → milliseconds since 1970, which is what a BSON date is. */

const day = 86_400_000;

/** Days since 1970 of the proleptic Gregorian calendar, counted in eras of 400 years that begin in March. */
function daysOf(year: number, month: number, dayOfMonth: number): number {
  const y = month <= 2 ? year - 1 : year;
  const era = Math.floor(y / 400);
  const yoe = y - era * 400;
  const doy = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + dayOfMonth - 1;
  const doe = yoe * 365 + Math.floor(yoe / 4) - Math.floor(yoe / 100) + doy;
  return era * 146_097 + doe - 719_468;
}

export const instantOf = (text: string): Date => new Date(millisecondsOf(text));

const longest = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/**
 * `2024-02-29`, `2024-02-29T12:00:00[.5][Z]`, `+012345-01-01…`. NaN for what no BSON date is: infinities, MySQL's partial
 * dates, and fractions finer than milliseconds.
 */
export function millisecondsOf(text: string): number {
  const lead = text.charCodeAt(0);
  const expanded = lead === 43 || lead === 45;
  const dash = expanded ? text.indexOf('-', 1) : 4;
  const year = expanded ? Number(text.slice(0, dash)) : digits(text, 0, 4);
  const month = digits(text, dash + 1, 2);
  const dayOfMonth = digits(text, dash + 4, 2);
  if (month < 1 || month > 12 || dayOfMonth < 1 || dayOfMonth > (longest[month - 1] as number)) return Number.NaN;
  if (dayOfMonth === 29 && month === 2 && (year % 4 !== 0 || (year % 100 === 0 && year % 400 !== 0))) return Number.NaN;
  const days = daysOf(year, month, dayOfMonth);
  const t = dash + 6;
  if (text.length === t) return days * day;
  const seconds = digits(text, t + 1, 2) * 3600 + digits(text, t + 4, 2) * 60 + digits(text, t + 7, 2);
  return days * day + seconds * 1000 + fraction(text, t + 9);
}

function digits(text: string, from: number, count: number): number {
  let value = 0;
  for (let i = from; i < from + count; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (!(digit >= 0 && digit <= 9)) return Number.NaN;
    value = value * 10 + digit;
  }
  return value;
}

function fraction(text: string, dot: number): number {
  if (text.charCodeAt(dot) !== 46) return 0;
  let value = 0;
  let scale = 100;
  for (let i = dot + 1; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 90) break;
    if (scale < 1 && code !== 48) return Number.NaN;
    value += (code - 48) * scale;
    scale = scale > 1 ? scale / 10 : 0;
  }
  return value;
}
