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
const plus = 43;
const zero = 48;
const backslash = 92;
const nullValue = 0xfb;
const digits = Buffer.from('0123456789abcdef');

/** What stands behind the backslash, of the bytes COPY's text must escape. */
const escapes = new Uint8Array(256);
escapes[tab] = 116;
escapes[newline] = 110;
escapes[carriageReturn] = 114;
escapes[backslash] = backslash;

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

  // The loop over all bytes that move: what it uses it holds itself.
  const row: TakeRow = (from, at, end) => {
    need(end - at);
    const to = out;
    let w = o;
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
          w = copy(from, run, p, to, w);
          to[w++] = separator;
        }
        if (length === nullValue) {
          if (!csv) {
            to[w++] = backslash;
            to[w++] = 78;
          }
          p += 1;
          run = p;
          continue;
        }
        length = longLength(from, p);
        p += from[p] === 0xfc ? 3 : from[p] === 0xfd ? 4 : 9;
        run = p;
      }
      const stop = p + length;
      const kind = kinds[c];
      if (kind === plain) {
        p = stop;
        continue;
      }
      if (kind === text) {
        if (csv) {
          const written = quoted(from, p, stop, to, w, run);
          if (written !== w) {
            w = written;
            run = stop;
          }
          p = stop;
          continue;
        }
        for (let i = p; i < stop; i++) {
          const byte = from[i] as number;
          if (byte > carriageReturn && byte !== backslash) continue;
          const letter = escapes[byte] as number;
          if (letter === 0) continue;
          w = copy(from, run, i, to, w);
          to[w++] = backslash;
          to[w++] = letter;
          run = i + 1;
        }
        p = stop;
        continue;
      }
      w = copy(
        from,
        run,
        kind === zoned ? stop : kind === fraction || kind === zonedFraction ? withoutZeros(from, p, stop) : p,
        to,
        w,
      );
      if (kind === bytes) {
        w += to.write(csv ? (length === 0 ? '""' : '') : '\\\\x', w, 'latin1');
        w = hex(from, p, stop, to, w);
      } else if (kind === float) {
        w += to.write(float32Text(from.toString('latin1', p, stop)), w, 'latin1');
      } else if (kind !== fraction) {
        to[w++] = plus;
        to[w++] = zero;
        to[w++] = zero;
      }
      run = stop;
      p = stop;
    }
    if (p !== end) throw new GodwitError('CONNECTION_FAILED', 'MySQL sent a row of another length than it says.');
    w = copy(from, run, end, to, w);
    to[w++] = newline;
    o = w;
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

/** Returns where it ends. */
function copy(from: Buffer, at: number, end: number, to: Buffer, w: number): number {
  const length = end - at;
  if (length > 48) {
    from.copy(to, w, at, end);
    return w + length;
  }
  let out = w;
  for (let i = at; i < end; ) to[out++] = from[i++] as number;
  return out;
}

function hex(from: Buffer, at: number, end: number, to: Buffer, w: number): number {
  let out = w;
  let i = at;
  for (; end - i > 1024; i += 1024) out += to.write(from.toString('hex', i, i + 1024), out, 'latin1');
  for (; i < end; i++) {
    const byte = from[i] as number;
    to[out++] = digits[byte >> 4] as number;
    to[out++] = digits[byte & 15] as number;
  }
  return out;
}

/**
 * The run and a text of CSV with quotes around it, which an empty one needs too. Writes nothing for one that needs none:
 * that is part of the run.
 */
function quoted(from: Buffer, at: number, end: number, to: Buffer, w: number, run: number): number {
  let needed = at === end || (end - at === 2 && from[at] === backslash && from[at + 1] === dot);
  for (let i = at; i < end && !needed; i++) {
    const byte = from[i] as number;
    needed = byte === comma || byte === quote || byte === newline || byte === carriageReturn;
  }
  if (!needed) return w;
  let out = copy(from, run, at, to, w);
  to[out++] = quote;
  let start = at;
  for (let i = at; i < end; i++) {
    if (from[i] !== quote) continue;
    out = copy(from, start, i, to, out);
    to[out++] = quote;
    start = i;
  }
  out = copy(from, start, end, to, out);
  to[out++] = quote;
  return out;
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
