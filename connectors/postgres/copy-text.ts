/** COPY's text format, from bytes cut anywhere to rows of canonical values. */
import { GodwitError } from '../../errors.ts';
import type { ReadColumn, Table } from '../contract.ts';
import type { Row, Value } from '../types.ts';
import { type Parse, parserOf } from './values.ts';

const newline = 10;
const escapes: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };

/** What COPY TO writes of escapes; octal and hex ones it only reads. */
export const unescaped = (cell: string): string => cell.replace(/\\(.)/gs, (_, char: string) => escapes[char] ?? char);

export class CopyTextReader {
  readonly #parsers: readonly Parse[];
  /** Parts of a row that has not ended yet: joined once, when it does. */
  #parts: Uint8Array[] = [];
  /** Bytes that are not UTF-8 (a SQL_ASCII database) are an error, never a replacement character. */
  readonly #utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  constructor(parsers: readonly Parse[]) {
    this.#parsers = parsers;
  }

  /** Rows that are complete with these bytes. */
  push(bytes: Uint8Array): Row[] {
    const end = bytes.lastIndexOf(newline);
    if (end < 0) {
      this.#parts.push(bytes);
      return [];
    }
    const whole = bytes.subarray(0, end);
    const head = this.#parts.length === 0 ? whole : Buffer.concat([...this.#parts, whole]);
    this.#parts = end + 1 < bytes.length ? [bytes.subarray(end + 1)] : [];
    let text: string;
    try {
      text = this.#utf8.decode(head);
    } catch (cause) {
      throw new GodwitError('VALUE_REFUSED', 'A text of the source is not UTF-8.', { cause });
    }
    return text.split('\n').map((line) => this.#row(line));
  }

  #row(line: string): Value[] {
    const parsers = this.#parsers;
    // A table may have no columns at all: then a row is an empty line.
    if (parsers.length === 0) return [];
    const cells: Value[] = line.split('\t');
    const escaped = line.includes('\\');
    for (let i = 0; i < parsers.length; i++) {
      const cell = cells[i] as string;
      if (escaped && cell === '\\N') cells[i] = null;
      else cells[i] = (parsers[i] as Parse)(escaped && cell.includes('\\') ? unescaped(cell) : cell);
    }
    return cells;
  }
}

/** Shaped columns are texts; the others have the canonical form of their type. */
export function rowParsers(table: Table, columns: readonly ReadColumn[]): Parse[] {
  const byName = new Map(table.columns.map((column) => [column.name, column]));
  return columns.map(({ name, shape, guard, constant }) => {
    if (constant) return parserOf(constant.type);
    const column = byName.get(name);
    if (!column || shape !== 'native' || guard?.misfit === 'text') return parserOf({ kind: 'text' });
    return parserOf(column.type, column.native.startsWith('box[') ? ';' : ',');
  });
}
