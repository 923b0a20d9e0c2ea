/** Instants as numbers of microseconds since 1970, for the arithmetic of bookmarks. Canonical texts: connectors/types.ts. */
import type { Follow } from '../../connectors/contract.ts';
import type { LogicalKind } from '../../connectors/types.ts';
import { instantOf, offsetAt } from '../../schedules/zone.ts';

const pattern = /^([+-]\d{6}|\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?Z?$/;

/** Of a canonical date or timestamp; a date is its midnight, one without a zone is taken as UTC. Undefined for infinities. */
export function microsOf(text: string): bigint | undefined {
  const found = pattern.exec(text);
  if (!found) return undefined;
  const [, year, month, day, hours = '00', minutes = '00', seconds = '00', fraction = ''] = found;
  const at = new Date(0);
  at.setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  at.setUTCHours(Number(hours), Number(minutes), Number(seconds));
  return BigInt(at.getTime()) * 1000n + BigInt(fraction.padEnd(6, '0'));
}

/** The canonical text of that kind. Dates are rounded down to their day. */
export function textOf(micros: bigint, kind: LogicalKind): string {
  const second = floorDiv(micros, 1_000_000n);
  const fraction = micros - second * 1_000_000n;
  const iso = new Date(Number(second) * 1000).toISOString();
  const [date = ''] = iso.split('T');
  if (kind === 'date') return date;
  const digits = fraction === 0n ? '' : `.${fraction.toString().padStart(6, '0').replace(/0+$/, '')}`;
  return `${iso.slice(0, iso.indexOf('.'))}${digits}${kind === 'timestamp' ? '' : 'Z'}`;
}

const perUnit = { seconds: 1_000_000n, milliseconds: 1000n, microseconds: 1n } as const;

/** An epoch of that unit; a fraction of it counts. */
export function microsOfEpoch(text: string, form: Follow['form']): bigint | undefined {
  const found = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
  if (!found) return undefined;
  const [, sign = '', whole = '0', fraction = ''] = found;
  const scaled = BigInt(whole + fraction.slice(0, 9).padEnd(9, '0'));
  const micros = form === 'nanoseconds' ? scaled / 1_000_000_000_000n : (scaled * unitOf(form)) / 1_000_000_000n;
  return sign === '-' ? -micros : micros;
}

/** Rounded down. */
export const epochOf = (micros: bigint, form: Follow['form']): string =>
  (form === 'nanoseconds' ? micros * 1000n : floorDiv(micros, unitOf(form))).toString();

const unitOf = (form: Follow['form']): bigint => perUnit[form as keyof typeof perUnit] ?? 1n;
const floorDiv = (a: bigint, b: bigint): bigint => (a >= 0n ? a / b : -((-a + b - 1n) / b));

/** The end of the year 9999, which many write for "never", in seconds. */
const never = 253_402_300_799n;

/**
 * By its size: the greatest unit in which it is no earlier than 1978, and the smallest in which it is before the year 10000. Who takes a
 * unit that is too small for a lower bound reads more than he must, never less.
 */
export function unitBySize(text: string | undefined): Follow['form'] {
  const size = BigInt(/^-?(\d+)/.exec(text ?? '')?.[1] ?? 0);
  if (size <= never) return 'seconds';
  if (size <= never * 1000n + 999n) return 'milliseconds';
  return size <= never * 1_000_000n + 999_999n ? 'microseconds' : 'nanoseconds';
}

const farOff = 7_258_118_400_000_000n;

/**
 * The unit of a column whose greatest value this is. One that lies past the year 2200 stands for something else (`9999999999999`) and
 * tells nothing of the others: then the smallest.
 */
export function unitByGreatest(text: string | undefined): Follow['form'] {
  const unit = unitBySize(text);
  const micros = text === undefined ? undefined : microsOfEpoch(text, unit);
  return micros !== undefined && micros > farOff ? 'seconds' : unit;
}

/** The wall clock of a zone at an instant, as if it were UTC. */
export const wallMicros = (micros: bigint, zone: string): bigint =>
  micros + BigInt(offsetAt(zone, Number(floorDiv(micros, 1_000_000n)) * 1000)) * 1000n;

/** The first instant at which that zone's clock comes to this: of two the earlier, of none the jump over it. */
export function instantOfWall(wall: bigint, zone: string): bigint {
  const second = floorDiv(wall, 1_000_000n);
  const at = BigInt(instantOf(zone, Number(second) * 1000)) * 1000n;
  const exact = at + wall - second * 1_000_000n;
  return wallMicros(exact, zone) === wall ? exact : at;
}
