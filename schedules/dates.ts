/** Days of the Gregorian calendar, without clocks and zones. Months from 1; weekdays 0 = Monday. */

export const daysInMonth = (year: number, month: number): number =>
  month === 2 ? (isLeap(year) ? 29 : 28) : [4, 6, 9, 11].includes(month) ? 30 : 31;

const isLeap = (year: number): boolean => (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;

export const dayMs = 86_400_000;

/** Midnight of that day on a clock that is always UTC, in milliseconds. */
export const midnight = (year: number, month: number, day: number): number => Date.UTC(year, month - 1, day);

export const weekdayOf = (year: number, month: number, day: number): number =>
  (new Date(midnight(year, month, day)).getUTCDay() + 6) % 7;

/** ISO 8601: week 1 is the one with the year's first Thursday. */
export function isoWeek(year: number, month: number, day: number): number {
  const thursday = midnight(year, month, day) + (3 - weekdayOf(year, month, day)) * dayMs;
  const first = Date.UTC(new Date(thursday).getUTCFullYear(), 0, 1);
  return 1 + Math.floor((thursday - first) / (7 * dayMs));
}

/** `2024-02-29`: is there that day? */
export function isDay(text: string): boolean {
  const at = Date.parse(`${text}T00:00:00Z`);
  return !Number.isNaN(at) && new Date(at).toISOString().startsWith(text);
}
