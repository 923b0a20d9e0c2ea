/** Time zones as the runtime's ICU knows them. Instants are milliseconds since 1970. */
import { GodwitError } from '../errors.ts';
import { dayMs, isDay } from './dates.ts';

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(zone: string): Intl.DateTimeFormat {
  let format = formats.get(zone);
  if (!format) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
    formats.set(zone, format);
  }
  return format;
}

/** An IANA name. Not an offset: those have no rules of their own, and Temporal takes none. */
export function isZone(zone: string): boolean {
  if (!/^[A-Za-z][A-Za-z0-9_+/-]*$/.test(zone)) return false;
  try {
    return formatOf(zone) !== undefined;
  } catch {
    return false;
  }
}

/** Throws SCHEDULE_INVALID. */
export function checkZone(zone: string): string {
  if (isZone(zone)) return zone;
  throw new GodwitError('SCHEDULE_INVALID', `"${zone}" is no time zone; expected an IANA name such as Asia/Kolkata.`);
}

/** What its clocks show: milliseconds as if they were UTC's. */
export const wallClock = (zone: string, instant: number): number => instant + offsetAt(zone, instant);

/** Milliseconds that its clocks are ahead of UTC, at that instant. */
export function offsetAt(zone: string, instant: number): number {
  const at: Record<string, number> = {};
  for (const { type, value } of formatOf(zone).formatToParts(instant)) at[type] = Number(value);
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = at;
  const shown = Date.UTC(year, month - 1, day, hour, minute, second);
  return shown - Math.floor(instant / 1000) * 1000;
}

/** The clocks were `before` ahead of UTC, and from `at` on are `after`. */
export type Change = { readonly at: number; readonly before: number; readonly after: number };

const years = new Map<string, readonly Change[]>();
/** No zone changes twice within it. */
const stepMs = 5 * dayMs;

/** The changes of that year (of UTC), in order. */
export function changesOf(zone: string, year: number): readonly Change[] {
  const key = `${zone} ${year}`;
  const known = years.get(key);
  if (known) return known;
  const found: Change[] = [];
  const end = Date.UTC(year + 1, 0, 1);
  let from = Date.UTC(year, 0, 1) - 1000;
  let before = offsetAt(zone, from);
  while (from < end - 1000) {
    const to = Math.min(from + stepMs, end - 1000);
    const after = offsetAt(zone, to);
    if (after !== before) found.push({ at: changeBetween(zone, from, to), before, after });
    before = after;
    from = to;
  }
  if (years.size > 2000) years.clear();
  years.set(key, found);
  return found;
}

/** The first instant of the offset at `to`. */
function changeBetween(zone: string, from: number, to: number): number {
  const wanted = offsetAt(zone, to);
  let low = from;
  let high = to;
  while (high - low > 1000) {
    const middle = Math.floor((low + high) / 2000) * 1000;
    if (offsetAt(zone, middle) === wanted) high = middle;
    else low = middle;
  }
  return high;
}

const lastYear = 9999;

/** The next change after that instant and not after `until`. */
export function nextChange(zone: string, after: number, until: number): Change | undefined {
  const last = Math.min(lastYear, new Date(until).getUTCFullYear());
  for (let year = new Date(after).getUTCFullYear(); year <= last; year++) {
    const found = changesOf(zone, year).find(({ at }) => at > after);
    if (found) return found.at <= until ? found : undefined;
  }
  return undefined;
}

/** `2026-11-21T07:00:00+05:30` */
export function isoIn(zone: string, instant: number): string {
  const offset = offsetAt(zone, instant);
  const minutes = Math.abs(Math.round(offset / 60_000));
  const two = (n: number) => String(n).padStart(2, '0');
  const sign = offset < 0 ? '-' : '+';
  return `${wallText(instant + offset)}${sign}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

/** `2026-11-21T07:00:00` */
export const wallText = (wall: number): string => new Date(wall).toISOString().slice(0, 19);

const writtenForm =
  /^(\d{4}-\d\d-\d\d)(?:[T ]((?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?)(Z|[+-]\d\d:?\d\d)?)?$/;
/**
 * What a person may write for an end of a backfill: date; time, to microseconds; offset. Undefined for another form, and for what
 * no calendar or clock shows.
 */
export function writtenInstant(text: string): RegExpExecArray | undefined {
  const found = writtenForm.exec(text.trim());
  return found && isDay(found[1] as string) ? found : undefined;
}

const written = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?)?(Z|[+-]\d\d:?\d\d)?$/i;

/** ISO text; without an offset it is of that zone's clocks. Throws USAGE. */
export function readInstant(text: string, zone: string): number {
  const [, year, month, day, hour = '00', minute = '00', second = '00', offset] = written.exec(text.trim()) ?? [];
  const wall = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(wall) || !isDay(`${year}-${month}-${day}`)) {
    throw new GodwitError(
      'USAGE',
      `"${text}" is no time; expected 2026-11-21, 2026-11-21T07:00 or 2026-11-21T07:00:00Z.`,
    );
  }
  if (offset === undefined) return instantOf(zone, wall);
  if (/z/i.test(offset)) return wall;
  const ahead = Number(offset.slice(1, 3)) * 60 + Number(offset.slice(-2));
  return wall - (offset.startsWith('-') ? -ahead : ahead) * 60_000;
}

/**
 * When the zone's clocks come to it, in order: twice where they are put back over it; where they are put forward over it, once, at
 * the jump.
 */
function instantsOf(zone: string, wall: number): number[] {
  const [before = 0, after = 0] = [wall - dayMs, wall + dayMs].map((at) => offsetAt(zone, at));
  const exact = [...new Set([wall - before, wall - after])].filter((at) => wallClock(zone, at) === wall);
  if (exact.length > 0) return exact.sort((a, b) => a - b);
  return [nextChange(zone, wall - dayMs, wall + dayMs)?.at ?? wall - before];
}

/** The first instant at which the zone's clocks come to it. */
export const instantOf = (zone: string, wall: number): number => Math.min(...instantsOf(zone, wall));

/** The next instant after that one at which they come to a time of day, `HH:MM` or `HH:MM:SS`. */
export function nextTimeOfDay(time: string, zone: string, after: number): number {
  const [hours = 0, minutes = 0, seconds = 0] = time.split(':').map(Number);
  const midnight = Math.floor(wallClock(zone, after) / dayMs) * dayMs;
  const today = midnight + ((hours * 60 + minutes) * 60 + seconds) * 1000;
  // Yesterday's too: clocks may go back over midnight.
  const around = [-1, 0, 1, 2].flatMap((days) => instantsOf(zone, today + days * dayMs));
  return Math.min(...around.filter((at) => at > after));
}
