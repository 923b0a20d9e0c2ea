/** Increments whose bookmark only the worker can compare (`improper_bookmarks` stored as text). */
import type { Batch, Increment, RowsBatch, Work } from '../connectors/contract.ts';
import { tableText } from '../connectors/contract.ts';
import type { Value } from '../connectors/types.ts';
import { GodwitError } from '../errors.ts';
import { microsOf, microsOfEpoch, unitBySize } from './plan/instants.ts';

/** Counts the rows it leaves out: they are `filtered` in the books. */
export type LeftOut = { rows: number };

export async function* within(
  batches: AsyncIterable<Batch>,
  work: Work,
  { range }: Increment,
  leftOut: LeftOut,
): AsyncGenerator<Batch> {
  const at = work.columns.findIndex((column) => column.from === range?.column);
  if (!range || at < 0) {
    throw new GodwitError('INTERNAL', `${tableText(work.source.name)}: the bookmark does not move with the rows.`);
  }
  const from = range.from === undefined ? undefined : microsOf(range.from);
  const upto = range.upto === undefined ? undefined : microsOf(range.upto);
  const keeps = (value: Value): boolean => {
    if (value === null || value === '') return true;
    const micros = instantOf(value);
    if (micros === undefined) {
      const table = tableText(work.source.name);
      const message = `${table}: a bookmark in ${range.column} is no date and time in a standard format.`;
      throw new GodwitError('BOOKMARK_UNREADABLE', message, { table, column: range.column });
    }
    return (from === undefined || micros >= from) && (upto === undefined || micros <= upto);
  };
  for await (const batch of batches) {
    const { rows } = batch as RowsBatch;
    const kept = rows.filter((row) => keeps(row[at] ?? null));
    leftOut.rows += rows.length - kept.length;
    if (kept.length > 0) yield { kind: 'rows', rows: kept };
  }
}

/** ISO 8601 and its kin, RFC 2822, HTTP dates, and epochs of any unit; a time without a zone is taken as UTC. */
export function instantOf(value: Value): bigint | undefined {
  if (typeof value === 'number' || typeof value === 'bigint') return epoch(String(value));
  if (typeof value !== 'string') return undefined;
  const text = value.trim();
  // Seconds of eight digits ended in 1973; a date in eight is common.
  if (/^(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$/.test(text)) {
    return microsOf(`${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}`);
  }
  if (/^-?\d{5,}(\.\d+)?$/.test(text)) return epoch(text);
  return iso(text) ?? spoken(text);
}

const epoch = (text: string) => microsOfEpoch(text, unitBySize(text));

function iso(text: string): bigint | undefined {
  const found =
    /^(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T ](\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?\s*(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?$/i.exec(
      text,
    );
  if (!found) return undefined;
  const [, year, month = '', day = '', hour = '0', minute = '00', second = '00', fraction = '', zone] = found;
  const two = (digits: string) => digits.padStart(2, '0');
  const digits = fraction.slice(0, 6);
  const wall = microsOf(
    `${year}-${two(month)}-${two(day)}T${two(hour)}:${minute}:${second}${digits ? `.${digits}` : ''}`,
  );
  const shift = /^([+-])(\d\d):?(\d\d)?$/.exec(zone ?? '');
  if (wall === undefined || !shift) return wall;
  const minutes = BigInt(Number(shift[2]) * 60 + Number(shift[3] ?? 0)) * 60_000_000n;
  return shift[1] === '-' ? wall + minutes : wall - minutes;
}

/** `Thu, 29 Feb 2024 12:00:00 +0530`, `29 Feb 2024 12:00:00 GMT`. */
function spoken(text: string): bigint | undefined {
  if (!/[A-Za-z]{3}/.test(text)) return undefined;
  const zoned = /(GMT|UTC|Z|[+-]\d{4}|EST|EDT|CST|CDT|MST|MDT|PST|PDT)\s*(\(.*\))?$/i.test(text);
  const millis = Date.parse(zoned ? text : `${text} UTC`);
  return Number.isNaN(millis) ? undefined : BigInt(millis) * 1000n;
}
