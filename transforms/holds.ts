/** What a column of a logical type can hold of the canonical values (connectors/types.ts), and the nearest that it can. */
import type { Holds } from '../connectors/contract.ts';
import type { LogicalType, Value } from '../connectors/types.ts';

export type Test = (value: Value) => boolean;

/**
 * The years 1 to 9999 of the calendar and finite, unless the holder has more; a time within a day; a decimal's digits; a
 * text without NUL. Undefined: everything. A string is always the value's own text, whatever the type.
 */
export function holds(type: LogicalType, holder: Holds): Test | undefined {
  const { endOfDay } = holder;
  switch (type.kind) {
    case 'date':
      return (value) => isDate(String(value)) || isFar(String(value), 'date', holder);
    case 'timestamp':
    case 'timestamptz':
      return (value) => {
        const text = String(value);
        return (moment.test(text) && isDate(text.slice(0, 10))) || isFar(text, 'moment', holder);
      };
    case 'time':
      return (value) => timeOfDay.test(String(value)) || (endOfDay && lastMoment.test(String(value)));
    case 'decimal':
      return decimalTest(type.precision, type.scale ?? 0);
    case 'text':
      return (value) => !String(value).includes('\0');
    default:
      return undefined;
  }
}

const moment = /^\d{4}-\d\d-\d\d[T ](?!24)\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00)?$/;
const timeOfDay = /^(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d+)?$/;
const lastMoment = /^24:00:00(?:\.0+)?$/;

const calendar = /^(\d{4})-(\d\d)-(\d\d)$/;

/** A day that there was: MySQL also has months and days 0, and February 31. */
function isDate(text: string): boolean {
  const [, year, month, day] = calendar.exec(text) ?? [];
  if (year === undefined || year === '0000') return false;
  return Number(day) >= 1 && Number(day) <= daysOf(Number(year), Number(month));
}

const expanded = /^([+-]\d{6,})-(\d\d)-(\d\d)(?:[T ](?!24)\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00)?)?$/;
/** November 24th of 4714 BC; the manual's last years of `date` and of timestamps. */
const firstOfPostgres = { year: -4713, day: '11-24' };
const lastOfPostgres = { date: 5_874_897, moment: 294_276 };

/** In the expanded form of years that do not have four digits. */
function isFar(text: string, what: 'date' | 'moment', { years }: Holds): boolean {
  if (years === undefined) return false;
  if (text === 'infinity' || text === '-infinity') return years === 'postgres';
  const [, digits, month = '', day = ''] = expanded.exec(text) ?? [];
  if (digits === undefined || text.includes(':') !== (what === 'moment')) return false;
  const year = Number(digits);
  if (Number(day) < 1 || Number(day) > daysOf(year, Number(month))) return false;
  if (years === 'finite') return true;
  const { year: first } = firstOfPostgres;
  return year <= lastOfPostgres[what] && (year > first || (year === first && `${month}-${day}` >= firstOfPostgres.day));
}

const daysOf = (year: number, month: number): number =>
  month < 1 || month > 12
    ? 0
    : month === 2
      ? year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0)
        ? 29
        : 28
      : [4, 6, 9, 11].includes(month)
        ? 30
        : 31;

const decimalTest =
  (precision: number | undefined, scale: number): Test =>
  (value) => {
    const parts = /^-?0*(\d*)(?:\.(\d*?)0*)?$/.exec(String(value));
    if (parts === null || precision === undefined) return parts !== null;
    return (parts[1] ?? '').length <= precision - scale && (parts[2] ?? '').length <= scale;
  };

/** Undefined where there is none: NaN, texts. */
export function nearest(value: Value, type: LogicalType, years?: Holds['years']): Value | undefined {
  const text = String(value);
  const below = text.startsWith('-');
  switch (type.kind) {
    case 'date':
      return years === 'postgres' && expanded.test(text) ? ends(lastOfPostgres.date, below) : nearestDate(text);
    case 'timestamp':
    case 'timestamptz': {
      const zone = type.kind === 'timestamptz' ? 'Z' : '';
      if (years === 'postgres' && expanded.test(text)) {
        return `${ends(lastOfPostgres.moment, below)}T${below ? '00:00:00' : `23:59:59${nines(type.precision)}`}${zone}`;
      }
      const day = nearestDate(/^\d/.test(text) ? text.slice(0, 10) : text);
      const own = calendar.test(text.slice(0, 10)) && !text.startsWith('0000') ? text.slice(11) : '';
      if (own !== '') return `${day}T${own}`;
      return day === first ? `${day}T00:00:00${zone}` : `${day}T23:59:59${nines(type.precision)}${zone}`;
    }
    case 'time':
      return below ? '00:00:00' : `23:59:59${nines(type.precision)}`;
    case 'decimal': {
      const { precision, scale = 0 } = type;
      if (precision === undefined || text === 'NaN') return undefined;
      const whole = '9'.repeat(precision - scale) || '0';
      return `${below ? '-' : ''}${whole}${scale > 0 ? `.${'9'.repeat(scale)}` : ''}`;
    }
    default:
      return undefined;
  }
}

const ends = (last: number, below: boolean): string =>
  below ? `-00${-firstOfPostgres.year}-${firstOfPostgres.day}` : `+${String(last).padStart(6, '0')}-12-31`;

const first = '0001-01-01';
const nines = (precision = 6): string => (precision === 0 ? '' : `.${'9'.repeat(Math.min(precision, 6))}`);

/** A day that there is not: the first of its month, or the last; any other year: the first or the last day there is. */
function nearestDate(text: string): string {
  const [, year, month, day] = calendar.exec(text) ?? [];
  // +000000 is 1 BC.
  if (year === undefined) return /^(?:-|\+0+-)/.test(text) ? first : '9999-12-31';
  if (year === '0000') return first;
  const inMonth = Math.min(12, Math.max(1, Number(month)));
  const inDay = Math.min(daysOf(Number(year), inMonth), Math.max(1, Number(day)));
  return `${year}-${String(inMonth).padStart(2, '0')}-${String(inDay).padStart(2, '0')}`;
}
