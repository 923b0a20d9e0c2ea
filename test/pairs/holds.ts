/**
 * What the column types of each target cannot hold, from the systems' manuals: with `on_misfit: null` such values, and no
 * others, are NULL there.
 */
import type { Meaning } from './meaning.ts';

type CannotHold = (column: string, type: string, value: Meaning) => boolean;

const times = ['date', 'local', 'instant', 'time'];

/** Years 1 to 9999, and finite. */
const ordinary = (value: string): boolean => /^\d{4}-/.test(value) && !value.startsWith('0000');
const calendar = (value: string): boolean => {
  const [date = ''] = value.split(' ');
  const read = new Date(`${date}T00:00:00Z`);
  return !Number.isNaN(read.getTime()) && read.toISOString().startsWith(date);
};
const withinDay = (value: string): boolean => /^\d\d:/.test(value) && value < '24';

/** Of other systems' values. Years past 9999 and before 1 and the end of a day (24:00) fit. */
export const postgresCannot: CannotHold = (_, type, value) => {
  if (value?.is === 'text') return value.value.includes('\0');
  if (value === null || !times.includes(value.is) || typeof value.value !== 'string') return false;
  if (type === 'time') return !withinDay(value.value) && value.value !== '24:00:00';
  // The year before the first, which instants have; of MySQL's dates those of year 0 are none.
  if (value.is === 'instant' && /^0000-(0[1-9]|1[0-2])-(?!00)/.test(value.value)) return false;
  return /^(date|timestamp)/.test(type) && !(ordinary(value.value) && calendar(value.value)) && !farYear(value.value);
};

/** 4713 BC to 294276, as PostgreSQL's manual says of timestamps; dates of other systems end before that. */
const farYear = (value: string): boolean => {
  const year = Number(/^[+-]\d+(?=-\d\d-\d\d)/.exec(value)?.[0] ?? Number.NaN);
  return year > -4712 && year <= 294_276;
};

export const parquetCannot: CannotHold = (_, type, value) => {
  if (value === null) return false;
  if (value.is === 'number') return /^decimal/.test(type) && !/^-?[\d.]+$/.test(value.value);
  if (!times.includes(value.is) || typeof value.value !== 'string') return false;
  if (/^time\d/.test(type)) return !withinDay(value.value);
  return /^(date|timestamp)/.test(type) && !(ordinary(value.value) && calendar(value.value));
};

/** The manual's years are 1000 to 9999; those from 0 on are kept as well. */
export const mysqlCannot: CannotHold = (_, type, value) => {
  if (value === null) return false;
  if (value.is === 'float') return /^(float|double)/.test(type) && !Number.isFinite(value.value);
  if (value.is === 'number') return type === 'decimal' && !/^-?[\d.]+$/.test(value.value);
  if (!times.includes(value.is) || typeof value.value !== 'string') return false;
  if (type === 'date' || type === 'datetime') return !ordinary(value.value);
  return false;
};

/** A date there is a number of milliseconds, of 64 bits; drivers show those within 100 million days of 1970. */
export const mongodbCannot: CannotHold = (_, type, value) => {
  // There is one null; and an array begins where arrays begin.
  if (value?.is === 'json') return value.value === null;
  if (value?.is === 'list') return value.bounds === true;
  if (value === null || !times.includes(value.is) || typeof value.value !== 'string') return false;
  return type === 'instant' && !(ordinary(value.value) && calendar(value.value));
};
