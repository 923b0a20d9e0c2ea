/** Values of quarantined rows as JSON and CSV can say them. */
import type { OpenedRow } from '../db/quarantine.ts';

/** Canonical values that JSON cannot say: whole numbers past 2^53 as text, bytes as `\x…`. */
export const jsonValue = (value: unknown): unknown => {
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`;
  if (Array.isArray(value)) return value.map(jsonValue);
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  return value ?? null;
};

/**
 * RFC 4180. A head line whenever the columns change (another table begins), with an empty line before it. NULL is the
 * empty field, the empty text is quoted.
 */
export async function* csvLines(rows: AsyncIterable<OpenedRow>): AsyncGenerator<string> {
  let head = '';
  for await (const { ordinal, chunk, row, column, code, native, state, content } of rows) {
    const now = line(['_table', '_chunk', '_row', '_state', '_column', '_code', '_reason', ...content.columns]);
    if (now !== head) yield `${head === '' ? '' : '\r\n'}${now}`;
    head = now;
    const values = content.columns.map((_, i) => jsonValue(content.row[i]));
    yield line([ordinal, chunk, row, state, column, native ?? code, content.reason, ...values]);
  }
}

const line = (cells: readonly unknown[]): string => `${cells.map(cell).join(',')}\r\n`;

const cell = (value: unknown): string => {
  if (value === null || value === undefined) return '';
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
  return text === '' || /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
