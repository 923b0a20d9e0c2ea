/** BSON dates: milliseconds since 1970 in 64 bits, so years to 292 million on both sides, in the proleptic Gregorian calendar. */

/** Years 1 to 9999, in milliseconds: the first and the last one. */
export const firstOrdinary = -62_135_596_800_000;
export const lastOrdinary = 253_402_300_799_999;

const day = 86_400_000;

/** Days since 1970 → year, month, day; the algorithm counts in eras of 400 years that begin in March. */
export function civil(days: number): { year: number; month: number; day: number } {
  const z = days + 719_468;
  const era = Math.floor(z / 146_097);
  const doe = z - era * 146_097;
  const yoe = Math.floor((doe - Math.floor(doe / 1460) + Math.floor(doe / 36_524) - Math.floor(doe / 146_096)) / 365);
  const doy = doe - (365 * yoe + Math.floor(yoe / 4) - Math.floor(yoe / 100));
  const mp = Math.floor((5 * doy + 2) / 153);
  const month = mp < 10 ? mp + 3 : mp - 9;
  return { year: yoe + era * 400 + (month <= 2 ? 1 : 0), month, day: doy - Math.floor((153 * mp + 2) / 5) + 1 };
}

const two = (n: number): string => (n < 10 ? `0${n}` : String(n));

/** `2024-02-29` of the years 1 to 9999; kept for the day asked for last, since neighbours are often of one day. */
let lastDays = Number.NaN;
let lastDate = '';
export function dateText(days: number): string {
  if (days === lastDays) return lastDate;
  const { year, month, day } = civil(days);
  lastDays = days;
  lastDate = `${String(year).padStart(4, '0')}-${two(month)}-${two(day)}`;
  return lastDate;
}

/** `12:00:00`, `12:00:00.5`: no zeros at the end. `within` = milliseconds of the day. */
export function timeText(within: number): string {
  const seconds = Math.floor(within / 1000);
  const ms = within - seconds * 1000;
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const text = `${two(hours)}:${two(minutes - hours * 60)}:${two(seconds - minutes * 60)}`;
  if (ms === 0) return text;
  if (ms % 100 === 0) return `${text}.${ms / 100}`;
  return ms % 10 === 0 ? `${text}.${two(ms / 10)}` : `${text}.${String(ms).padStart(3, '0')}`;
}

/** Canonical timestamptz (connectors/types.ts). */
export function instant(ms: number): string {
  const days = Math.floor(ms / day);
  return `${dateText(days)}T${timeText(ms - days * day)}Z`;
}

/** The same for any 64-bit date: years outside of 1 to 9999 in expanded form. */
export function farInstant(ms: bigint): string {
  const { days, within } = split(ms);
  const { year, month, day } = civil(days);
  const text = String(Math.abs(year)).padStart(6, '0');
  return `${year < 0 ? '-' : '+'}${text}-${two(month)}-${two(day)}T${timeText(within)}Z`;
}

/** As PostgreSQL writes it: `12345-01-01 00:00:00+00`, `0044-03-15 12:00:00+00 BC`. */
export function farText(ms: bigint): string {
  const { days, within } = split(ms);
  const { year, month, day } = civil(days);
  const shown = String(year < 1 ? 1 - year : year).padStart(4, '0');
  return `${shown}-${two(month)}-${two(day)} ${timeText(within)}+00${year < 1 ? ' BC' : ''}`;
}

function split(ms: bigint): { days: number; within: number } {
  const length = BigInt(day);
  const within = ((ms % length) + length) % length;
  return { days: Number((ms - within) / length), within: Number(within) };
}

const pattern =
  /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?\s*(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?$/i;
const mail = /^(?:[a-z]{3}, )?\d{1,2} [a-z]{3} \d{4} \d\d:\d\d(?::\d\d)? (?:GMT|UTC|[+-]\d{4})$/i;

/**
 * A text as a canonical timestamptz: ISO 8601 (without a zone: UTC), or the form of mail headers. Undefined for anything
 * else, as for days that do not exist. Digits below a microsecond are cut.
 */
export function parseInstant(text: string): string | undefined {
  const match = pattern.exec(text);
  if (!match) return mail.test(text) ? fromMail(text) : undefined;
  const [, y, mo, d, h = '0', mi = '0', s = '0', fraction = '', zone = 'Z'] = match;
  const [year, month, dayOfMonth, hour, minute, second] = [y, mo, d, h, mi, s].map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  if (year === 0 || hour > 23 || minute > 59 || second > 59) return undefined;
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, dayOfMonth);
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== dayOfMonth) return undefined;
  const ms = date.getTime() + ((hour * 60 + minute) * 60 + second) * 1000 - offsetOf(zone);
  if (ms < firstOrdinary || ms > lastOrdinary) return undefined;
  const micros = fraction.slice(0, 6).replace(/0+$/, '');
  return instant(ms).replace('Z', micros === '' ? 'Z' : `.${micros}Z`);
}

function offsetOf(zone: string): number {
  const match = /^([+-])(\d\d):?(\d\d)?$/.exec(zone);
  if (!match) return 0;
  return (match[1] === '-' ? -1 : 1) * (Number(match[2]) * 60 + Number(match[3] ?? 0)) * 60_000;
}

function fromMail(text: string): string | undefined {
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? undefined : instant(ms);
}

const canonical = /^([+-]\d{6}|\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?Z$/;

/** A canonical instant in microseconds since 1970; undefined for any other text, and for years past those of JavaScript's dates. */
export function microsOf(text: string): bigint | undefined {
  const found = canonical.exec(text);
  if (!found) return undefined;
  const [, year, month, dayOfMonth, hours, minutes, seconds, fraction = ''] = found;
  const at = new Date(0);
  at.setUTCFullYear(Number(year), Number(month) - 1, Number(dayOfMonth));
  at.setUTCHours(Number(hours), Number(minutes), Number(seconds));
  if (Number.isNaN(at.getTime())) return undefined;
  return BigInt(at.getTime()) * 1000n + BigInt(fraction.padEnd(6, '0'));
}

/** The canonical instant. */
export function microsText(micros: bigint): string {
  const rest = ((micros % 1000n) + 1000n) % 1000n;
  const ms = (micros - rest) / 1000n;
  const ordinary = ms >= BigInt(firstOrdinary) && ms <= BigInt(lastOrdinary);
  const text = ordinary ? instant(Number(ms)) : farInstant(ms);
  if (rest === 0n) return text;
  const [head = '', fraction = ''] = text.slice(0, -1).split('.');
  return `${head}.${fraction.padEnd(3, '0')}${String(rest).padStart(3, '0').replace(/0+$/, '')}Z`;
}
