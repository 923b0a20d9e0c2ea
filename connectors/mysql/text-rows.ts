/**
 * From the packets' length-encoded values to the bytes of `pg-text` and `csv`. A value's length stands right before it and
 * a separator must stand there: so lengths are overwritten by separators, and a row is one run of bytes to copy, broken
 * only where something must be escaped, added or spelled otherwise.
 */
import { GodwitError } from '../../errors.ts';
import { longLength } from './lengths.ts';
import type { TakeRow } from './result.ts';
import { giveBack, takeSlab } from './slabs.ts';

/**
 * How a value's text becomes the format's:
 * `plain` as it is, nothing to escape · `text` escaped · `bytes` hexadecimal · `zoned` with `+00` · `float` a double that
 * stands for a float32, in its shortest form · `fraction` without the zeros at its end, `zonedFraction` with `+00` too.
 */
export const spellings = ['plain', 'text', 'bytes', 'zoned', 'float', 'fraction', 'zonedFraction'] as const;
export type Spelling = (typeof spellings)[number];
const [plain, text, bytes, zoned, float, fraction, zonedFraction] = [0, 1, 2, 3, 4, 5, 6] as const;

export type Filled = { readonly slab: Buffer; readonly length: number };

/** Rows as bytes, in slabs. */
export type TextRows = {
  readonly row: TakeRow;
  /** Slabs that are full; the taker shifts them off, and gives them back. */
  readonly filled: Filled[];
  /** The last one, whatever is in it. */
  end(): void;
  rows(): number;
};

const tab = 9;
const newline = 10;
const carriageReturn = 13;
const quote = 34;
const comma = 44;
const dot = 46;
const zero = 48;
const backslash = 92;
const nullValue = 0xfb;
const digits = Buffer.from('0123456789abcdef');

export function textRows(format: 'pg-text' | 'csv', columns: readonly Spelling[], slabBytes: number): TextRows {
  const kinds = Uint8Array.from(columns, (column) => spellings.indexOf(column));
  const count = kinds.length;
  const csv = format === 'csv';
  const separator = csv ? comma : tab;
  const filled: Filled[] = [];
  let out = takeSlab(slabBytes);
  let size = Math.min(out.length, slabBytes);
  let o = 0;
  let rows = 0;

  const flush = (from: Buffer, at: number, to: number) => {
    const length = to - at;
    if (length > 32) {
      from.copy(out, o, at, to);
    } else {
      let into = o;
      for (let i = at; i < to; ) out[into++] = from[i++] as number;
    }
    o += length;
  };
  const write = (ascii: string) => {
    for (let i = 0; i < ascii.length; i++) out[o++] = ascii.charCodeAt(i);
  };
  const hex = (from: Buffer, at: number, to: number) => {
    for (; to - at > 1024; at += 1024) o += out.write(from.toString('hex', at, at + 1024), o, 'latin1');
    for (let i = at; i < to; i++) {
      const byte = from[i] as number;
      out[o++] = digits[byte >> 4] as number;
      out[o++] = digits[byte & 15] as number;
    }
  };
  /** Room for a row in its longest form: every byte doubled, and a prefix or a suffix for each value. */
  const need = (length: number) => {
    const most = length * 2 + count * 8 + 16;
    if (o + most <= size) return;
    if (o > 0) filled.push({ slab: out, length: o });
    else giveBack(out);
    out = takeSlab(Math.max(most, slabBytes));
    size = Math.max(most, Math.min(out.length, slabBytes));
    o = 0;
  };

  /** Escapes of COPY's text. Returns where the run that is still to be copied begins. */
  const escaped = (from: Buffer, run: number, at: number, to: number): number => {
    for (let i = at; i < to; i++) {
      const byte = from[i] as number;
      if (byte > carriageReturn && byte !== backslash) continue;
      const letter =
        byte === backslash ? backslash : byte === tab ? 116 : byte === newline ? 110 : byte === 13 ? 114 : 0;
      if (letter === 0) continue;
      flush(from, run, i);
      out[o++] = backslash;
      out[o++] = letter;
      run = i + 1;
    }
    return run;
  };
  /** The same for CSV: quotes around a text that needs them, an empty one needs them too. */
  const quoted = (from: Buffer, run: number, at: number, to: number): number => {
    let needed = at === to || (to - at === 2 && from[at] === backslash && from[at + 1] === dot);
    for (let i = at; i < to && !needed; i++) {
      const byte = from[i] as number;
      needed = byte === comma || byte === quote || byte === newline || byte === carriageReturn;
    }
    if (!needed) return run;
    flush(from, run, at);
    out[o++] = quote;
    run = at;
    for (let i = at; i < to; i++) {
      if (from[i] !== quote) continue;
      flush(from, run, i);
      out[o++] = quote;
      run = i;
    }
    flush(from, run, to);
    out[o++] = quote;
    return to;
  };

  const row: TakeRow = (from, at, end) => {
    need(end - at);
    let p = at;
    let run = at; // everything from here to p is still to be copied
    for (let c = 0; c < count; c++) {
      let length = from[p] as number;
      if (length <= 0xfa) {
        if (c > 0) from[p] = separator;
        else run = p + 1;
        p += 1;
      } else {
        if (c > 0) {
          flush(from, run, p);
          out[o++] = separator;
        }
        if (length === nullValue) {
          if (!csv) {
            out[o++] = backslash;
            out[o++] = 78;
          }
          p += 1;
          run = p;
          continue;
        }
        length = longLength(from, p);
        p += from[p] === 0xfc ? 3 : from[p] === 0xfd ? 4 : 9;
        run = p;
      }
      const to = p + length;
      switch (kinds[c]) {
        case plain:
          break;
        case text:
          run = csv ? quoted(from, run, p, to) : escaped(from, run, p, to);
          break;
        case zoned:
          flush(from, run, to);
          write('+00');
          run = to;
          break;
        case bytes:
          flush(from, run, p);
          write(csv ? (length === 0 ? '""' : '') : '\\\\x');
          hex(from, p, to);
          run = to;
          break;
        case float:
          flush(from, run, p);
          write(float32Text(from.toString('latin1', p, to)));
          run = to;
          break;
        case fraction:
        case zonedFraction: {
          flush(from, run, withoutZeros(from, p, to));
          if (kinds[c] === zonedFraction) write('+00');
          run = to;
          break;
        }
      }
      p = to;
    }
    if (p !== end) throw new GodwitError('CONNECTION_FAILED', 'MySQL sent a row of another length than it says.');
    flush(from, run, end);
    out[o++] = newline;
    rows++;
  };

  return {
    row,
    filled,
    end() {
      if (o > 0) filled.push({ slab: out, length: o });
      else giveBack(out);
      o = 0;
      out = Buffer.alloc(0);
      size = 0;
    },
    rows: () => rows,
  };
}

/** Where a time's text ends when the zeros at the end of its fraction are left out. */
function withoutZeros(from: Buffer, at: number, to: number): number {
  const point = to - 7 > at && from[to - 7] === dot ? to - 7 : from.subarray(at, to).lastIndexOf(dot) + at;
  if (point < at) return to;
  let end = to;
  while (from[end - 1] === zero) end--;
  return from[end - 1] === dot ? end - 1 : end;
}

/** The shortest text that reads back as the same float32, of the exact value as a double. */
export function float32Text(double: string): string {
  // A decimal of six digits and less is its own shortest form.
  if (double.length <= 7) return double;
  const value = Number(double);
  for (let precision = 6; precision < 9; precision++) {
    const shorter = Number(value.toPrecision(precision));
    if (Math.fround(shorter) === value) return String(shorter);
  }
  return String(Number(value.toPrecision(9)));
}
