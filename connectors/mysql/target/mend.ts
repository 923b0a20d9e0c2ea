/**
 * pg-text (connectors/contract.ts) as LOAD DATA and the columns' types read it. Here and not by SET, because the server's
 * one thread is what a load waits for; and without changing a length, because then the bytes are copied once and changed
 * where they lie:
 * 1. `\f` and `\v`, which LOAD DATA would take for the letters, become a backslash before the byte they mean;
 * 2. `t` and `f` of a bool become `1` and `0`;
 * 3. the `+00` of a moment in UTC, of which servers make different things, gives its place to three backslashes before the
 *    marks between day, hour, minute and second, where they mean nothing.
 * Everything else stays what it is, and is refused by the server where it is wrong.
 */
import type { PlanColumn } from '../../contract.ts';

const tab = 9;
const newline = 10;
const backslash = 92;
/** Suits the wire. */
const blockBytes = 256 * 1024;
/** Longer than any bool or moment: one of those is never cut by the end of a block. */
const longest = 64;

const asIs = 0;
const bool = 1;
const zoned = 2;

export class Mender {
  readonly #kinds: Uint8Array;
  readonly #byField: boolean;
  #block = Buffer.allocUnsafe(blockBytes);
  #length = 0;
  #full: Buffer[] = [];
  /** The last byte taken began an escape. */
  #held = false;
  #column = 0;
  /** Where the field began, in the block. */
  #start = 0;

  constructor(columns: readonly Pick<PlanColumn, 'type' | 'native'>[]) {
    this.#kinds = Uint8Array.from(columns, ({ type, native }) =>
      type.kind === 'timestamptz' ? zoned : type.kind === 'bool' && !native.startsWith('bit') ? bool : asIs,
    );
    this.#byField = this.#kinds.some((kind) => kind !== asIs);
  }

  /** The blocks that are full by now. The bytes are the caller's again. */
  take(bytes: Uint8Array): Buffer[] {
    for (let from = 0; from < bytes.length; ) {
      const to = Math.min(bytes.length, from + blockBytes - this.#length);
      this.#block.set(from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to), this.#length);
      const begin = this.#length;
      this.#length += to - from;
      from = to;
      if (this.#byField) this.#fields(begin);
      else this.#escapes(begin);
      if (this.#length === blockBytes) this.#flush();
    }
    return this.#taken();
  }

  /** What is left at the end of the stream. */
  end(): Buffer[] {
    if (this.#length > 0) this.#full.push(this.#block.subarray(0, this.#length));
    this.#block = Buffer.allocUnsafe(0);
    this.#length = 0;
    return this.#taken();
  }

  /** No column needs to be looked at: from one backslash to the next. */
  #escapes(begin: number): void {
    const block = this.#block.subarray(0, this.#length);
    let at = begin;
    if (this.#held) escaped(block, at++);
    this.#held = false;
    for (at = block.indexOf(backslash, at); at >= 0; at = block.indexOf(backslash, at + 2)) {
      if (at + 1 === block.length) this.#held = true;
      else escaped(block, at + 1);
    }
  }

  /** Byte by byte: a tab or a newline as it is always ends a field. */
  #fields(begin: number): void {
    const block = this.#block;
    const end = this.#length;
    const kinds = this.#kinds;
    let column = this.#column;
    let start = this.#start;
    let at = begin;
    if (this.#held) escaped(block, at++);
    this.#held = false;
    for (;;) {
      let byte = 0;
      for (; at < end; at++) {
        byte = block[at] as number;
        if (byte === tab || byte === newline || byte === backslash) break;
      }
      if (at >= end) break;
      if (byte === backslash) {
        if (at + 1 === end) this.#held = true;
        else escaped(block, at + 1);
        at += 2;
        continue;
      }
      const kind = kinds[column];
      if (kind === bool) boolIn(block, start, at);
      else if (kind === zoned) momentIn(block, start, at);
      column = byte === newline ? 0 : column + 1;
      start = ++at;
    }
    this.#column = column;
    this.#start = start;
  }

  /** A short field that has not ended goes on in the next block as a whole. */
  #flush(): void {
    const block = this.#block;
    const open = this.#byField ? this.#length - this.#start : 0;
    const kept = open <= longest ? open : 0;
    this.#full.push(block.subarray(0, this.#length - kept));
    this.#block = Buffer.allocUnsafe(blockBytes);
    if (kept > 0) block.copy(this.#block, 0, this.#length - kept, this.#length);
    this.#length = kept;
    this.#start = 0;
  }

  #taken(): Buffer[] {
    const full = this.#full;
    if (full.length > 0) this.#full = [];
    return full;
  }
}

/** The byte behind a backslash. */
function escaped(block: Uint8Array, at: number): void {
  if (block[at] === 0x66) block[at] = 12;
  else if (block[at] === 0x76) block[at] = 11;
}

/** What is neither true, false nor NULL is made wrong, lest a number be taken for a bool. */
function boolIn(block: Uint8Array, start: number, end: number): void {
  const first = block[start];
  if (end - start === 1 && first === 0x74) block[start] = 0x31;
  else if (end - start === 1 && first === 0x66) block[start] = 0x30;
  else if (end > start && first !== backslash) block[start] = 0x78;
}

/** `2024-02-29 12:00:00.5+00` → `2024-02-29\ 12\:00\:00.5`. What has another form stays as it is. */
function momentIn(block: Uint8Array, start: number, end: number): void {
  const utc = block[end - 3] === 0x2b && block[end - 2] === 0x30 && block[end - 1] === 0x30;
  if (!utc || end - start < 22 || block[start + 4] !== 0x2d || block[start + 10] !== 0x20 || block[start + 16] !== 0x3a)
    return;
  for (let at = end - 1; at > start + 19; at--) block[at] = block[at - 3] as number;
  block[start + 19] = 0x3a;
  block[start + 18] = backslash;
  block[start + 17] = block[start + 15] as number;
  block[start + 16] = block[start + 14] as number;
  block[start + 15] = 0x3a;
  block[start + 14] = backslash;
  block[start + 13] = block[start + 12] as number;
  block[start + 12] = block[start + 11] as number;
  block[start + 11] = 0x20;
  block[start + 10] = backslash;
}
