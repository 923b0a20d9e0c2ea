/**
 * Cells written as bytes: PostgreSQL's text format or the CSV of the columnar lane, both told at Format in the contract
 * and in connectors/postgres/select.ts. Texts go from the document's bytes to the line's without becoming strings.
 */
import { isUtf8 } from 'node:buffer';
import { notUtf8 } from './bson.ts';
import { civil } from './dates.ts';

const backslash = 0x5c;
const quote = 0x22;
const comma = 0x2c;
const tab = 0x09;
const newline = 0x0a;
const zero = 0x30;
const minus = 0x2d;

/** By byte: the letter behind the backslash, 0 for bytes that stay. */
const escapes = new Uint8Array(256);
for (const [byte, letter] of [
  [8, 'b'],
  [9, 't'],
  [10, 'n'],
  [11, 'v'],
  [12, 'f'],
  [13, 'r'],
  [backslash, '\\'],
] as const) {
  escapes[byte] = letter.charCodeAt(0);
}

const hexDigits = Buffer.from('0123456789abcdef', 'latin1');

export abstract class Sink {
  protected b: Buffer;
  protected p = 0;
  /** Where the present line began. */
  #line = 0;

  constructor(size: number) {
    this.b = Buffer.allocUnsafeSlow(size);
  }

  abstract readonly separator: number;
  /** NULL. */
  abstract nothing(): void;
  /** A text, from these bytes of UTF-8. */
  abstract text(from: Buffer, start: number, end: number): void;
  abstract bytes(from: Buffer, start: number, end: number): void;

  get length(): number {
    return this.p;
  }

  /** The bytes so far; the sink goes on in new memory. */
  take(): Buffer {
    const taken = this.b.subarray(0, this.p);
    this.b = Buffer.allocUnsafeSlow(this.b.length);
    this.p = 0;
    this.#line = 0;
    return taken;
  }

  separate(): void {
    this.room(1);
    this.b[this.p++] = this.separator;
  }

  endLine(): void {
    this.room(1);
    this.b[this.p++] = newline;
    this.#line = this.p;
  }

  /** What was written of the present line is forgotten. */
  forgetLine(): void {
    this.p = this.#line;
  }

  /** A text without a character that the format would have to escape or quote. */
  ascii(text: string): void {
    const { length } = text;
    this.room(length);
    const { b } = this;
    let { p } = this;
    for (let i = 0; i < length; i++) b[p++] = text.charCodeAt(i);
    this.p = p;
  }

  string(text: string): void {
    const from = Buffer.from(text, 'utf8');
    this.text(from, 0, from.length);
  }

  /** Up to 32 bits; more as a text. */
  int(n: number): void {
    this.room(11);
    const { b } = this;
    let rest = n;
    if (rest < 0) {
      b[this.p++] = minus;
      rest = -rest;
    }
    let length = 1;
    for (let bound = 10; rest >= bound; bound *= 10) length++;
    for (let i = this.p + length - 1; i > this.p; i--) {
      const tenth = (rest / 10) | 0;
      b[i] = zero + (rest - tenth * 10);
      rest = tenth;
    }
    b[this.p] = zero + rest;
    this.p += length;
  }

  hex(from: Buffer, start: number, end: number): void {
    this.room((end - start) * 2);
    const { b } = this;
    let { p } = this;
    for (let i = start; i < end; i++) {
      const byte = from[i] as number;
      b[p++] = hexDigits[byte >> 4] as number;
      b[p++] = hexDigits[byte & 15] as number;
    }
    this.p = p;
  }

  uuid(from: Buffer, start: number): void {
    let at = start;
    for (const [i, length] of [4, 2, 2, 2, 6].entries()) {
      if (i > 0) this.ascii('-');
      this.hex(from, at, at + length);
      at += length;
    }
  }

  /** An instant of the years 1 to 9999: `2024-02-29 12:00:00.5+00`. */
  instant(ms: number): void {
    this.room(26);
    const { b } = this;
    const days = Math.floor(ms / 86_400_000);
    if (days !== this.#days) {
      this.#days = days;
      this.#date = civil(days);
    }
    const { year, month, day } = this.#date;
    let p = this.#two(this.p, Math.floor(year / 100));
    p = this.#two(p, year % 100);
    b[p++] = minus;
    p = this.#two(p, month);
    b[p++] = minus;
    p = this.#two(p, day);
    b[p++] = 0x20;
    const within = ms - days * 86_400_000;
    const seconds = Math.floor(within / 1000);
    const minutes = Math.floor(seconds / 60);
    const hours = Math.floor(minutes / 60);
    p = this.#two(p, hours);
    b[p++] = 0x3a;
    p = this.#two(p, minutes - hours * 60);
    b[p++] = 0x3a;
    p = this.#two(p, seconds - minutes * 60);
    const fraction = within - seconds * 1000;
    if (fraction > 0) {
      b[p++] = 0x2e;
      b[p++] = zero + Math.floor(fraction / 100);
      if (fraction % 100 > 0) b[p++] = zero + (Math.floor(fraction / 10) % 10);
      if (fraction % 10 > 0) b[p++] = zero + (fraction % 10);
    }
    b[p++] = 0x2b;
    b[p++] = zero;
    b[p++] = zero;
    this.p = p;
  }

  #days = Number.NaN;
  #date = { year: 0, month: 0, day: 0 };

  #two(p: number, n: number): number {
    const tenth = Math.floor(n / 10);
    this.b[p] = zero + tenth;
    this.b[p + 1] = zero + n - tenth * 10;
    return p + 2;
  }

  protected room(bytes: number): void {
    if (this.p + bytes <= this.b.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.b.length * 2, this.p + bytes));
    this.b.copy(larger, 0, 0, this.p);
    this.b = larger;
  }
}

export class PgTextSink extends Sink {
  readonly separator = tab;

  nothing(): void {
    this.ascii('\\N');
  }

  text(from: Buffer, start: number, end: number): void {
    this.room((end - start) * 2);
    const { b } = this;
    let { p } = this;
    let high = 0;
    for (let i = start; i < end; i++) {
      const byte = from[i] as number;
      high |= byte;
      const letter = byte > backslash ? 0 : (escapes[byte] as number);
      if (letter !== 0) {
        b[p++] = backslash;
        b[p++] = letter;
      } else b[p++] = byte;
    }
    if (high >= 0x80 && !isUtf8(from.subarray(start, end))) throw notUtf8();
    this.p = p;
  }

  /** `\x` and digits, its backslash escaped. */
  bytes(from: Buffer, start: number, end: number): void {
    this.ascii('\\\\x');
    this.hex(from, start, end);
  }
}

export class CsvSink extends Sink {
  readonly separator = comma;

  /** Nothing between the commas. */
  nothing(): void {}

  text(from: Buffer, start: number, end: number): void {
    this.room((end - start) * 2 + 2);
    const { b } = this;
    const begin = this.p;
    let p = begin;
    let high = 0;
    let special = start === end;
    for (let i = start; i < end; i++) {
      const byte = from[i] as number;
      high |= byte;
      if (byte <= comma && (byte === quote || byte === comma || byte === newline || byte === 13)) special = true;
      b[p++] = byte;
    }
    if (high >= 0x80 && !isUtf8(from.subarray(start, end))) throw notUtf8();
    this.p = special ? this.#quoted(from, start, end, begin) : p;
  }

  /** An empty text is told from NULL by its quotes. */
  #quoted(from: Buffer, start: number, end: number, begin: number): number {
    const { b } = this;
    let p = begin;
    b[p++] = quote;
    for (let i = start; i < end; i++) {
      const byte = from[i] as number;
      if (byte === quote) b[p++] = quote;
      b[p++] = byte;
    }
    b[p++] = quote;
    return p;
  }

  bytes(from: Buffer, start: number, end: number): void {
    if (start === end) this.text(from, start, end);
    else this.hex(from, start, end);
  }
}
