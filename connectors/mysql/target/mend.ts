/**
 * pg-text (connectors/contract.ts) as LOAD DATA and the columns' types read it. Here and not by SET, because the server's
 * one thread is what a load waits for:
 * 1. `\f` and `\v`, which LOAD DATA would take for the letters, become the bytes they mean;
 * 2. `t` and `f` of a bool become `1` and `0`;
 * 3. the `+00` of a moment in UTC goes: servers differ in what they make of it.
 * Everything else stays what it is, and is refused by the server where it is wrong. In blocks of a size that suits the
 * wire, copied, so that the bytes taken can be given back at once.
 */
import type { PlanColumn } from '../../contract.ts';

const tab = 9;
const newline = 10;
const backslash = 92;
const replaced: Readonly<Record<number, number>> = { 102: 12, 118: 11 };
const blockBytes = 256 * 1024;
/** Longer than any bool or moment: one of those is never cut by the end of a block. */
const roomBytes = 64;

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

  /** The blocks that are full by now. */
  take(bytes: Uint8Array): Buffer[] {
    let from = 0;
    if (this.#held && bytes.length > 0) {
      this.#held = false;
      const other = replaced[bytes[0] as number];
      this.#put(other === undefined ? Uint8Array.of(backslash, bytes[0] as number) : Uint8Array.of(other));
      from = 1;
    }
    if (this.#byField) this.#fields(bytes, from);
    else this.#escapes(bytes, from);
    return this.#taken();
  }

  /** What is left at the end of the stream. */
  end(): Buffer[] {
    if (this.#held) this.#put(Uint8Array.of(backslash));
    this.#held = false;
    if (this.#length > 0) this.#full.push(this.#block.subarray(0, this.#length));
    this.#block = Buffer.allocUnsafe(0);
    this.#length = 0;
    return this.#taken();
  }

  /** No column needs to be looked at: from one backslash to the next. */
  #escapes(bytes: Uint8Array, begin: number): void {
    let from = begin;
    for (let at = bytes.indexOf(backslash, from); at >= 0; at = bytes.indexOf(backslash, at + 2)) {
      if (at + 1 === bytes.length) {
        this.#hold(bytes, from, at);
        return;
      }
      const other = replaced[bytes[at + 1] as number];
      if (other === undefined) continue;
      this.#put(bytes.subarray(from, at));
      this.#put(Uint8Array.of(other));
      from = at + 2;
    }
    this.#put(from === 0 ? bytes : bytes.subarray(from));
  }

  /** Byte by byte: a tab or a newline as it is always ends a field. */
  #fields(bytes: Uint8Array, begin: number): void {
    const kinds = this.#kinds;
    let from = begin;
    for (let at = begin; at < bytes.length; at++) {
      const byte = bytes[at] as number;
      if (byte > backslash || (byte > newline && byte < backslash)) continue;
      if (byte === backslash) {
        if (at + 1 === bytes.length) {
          this.#hold(bytes, from, at);
          return;
        }
        const other = replaced[bytes[at + 1] as number];
        if (other !== undefined) {
          this.#put(bytes.subarray(from, at));
          this.#put(Uint8Array.of(other));
          from = at + 2;
        }
        at++;
      } else if (byte === tab || byte === newline) {
        const ended = kinds[this.#column];
        this.#column = byte === newline ? 0 : this.#column + 1;
        if (ended) {
          this.#put(bytes.subarray(from, at));
          from = at;
          if (ended === bool) this.#bool();
          else this.#zone();
        }
        if (kinds[this.#column]) {
          this.#put(bytes.subarray(from, at + 1));
          from = at + 1;
          if (blockBytes - this.#length < roomBytes) this.#flush();
          this.#start = this.#length;
        }
      }
    }
    this.#put(from === 0 ? bytes : bytes.subarray(from));
  }

  /** What is neither true, false nor NULL is made wrong, lest a number be taken for a bool. */
  #bool(): void {
    const [block, start, end] = [this.#block, this.#start, this.#length];
    const first = block[start];
    if (end - start === 1 && first === 0x74) block[start] = 0x31;
    else if (end - start === 1 && first === 0x66) block[start] = 0x30;
    else if (!(end - start === 2 && first === backslash && block[start + 1] === 0x4e)) this.#put(Uint8Array.of(0x21));
  }

  #zone(): void {
    const end = this.#length;
    const utc = this.#block[end - 3] === 0x2b && this.#block[end - 2] === 0x30 && this.#block[end - 1] === 0x30;
    if (end - this.#start > 3 && utc) this.#length -= 3;
  }

  #hold(bytes: Uint8Array, from: number, at: number): void {
    this.#held = true;
    this.#put(bytes.subarray(from, at));
  }

  #put(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length; ) {
      const to = Math.min(bytes.length, from + blockBytes - this.#length);
      this.#block.set(from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to), this.#length);
      this.#length += to - from;
      from = to;
      if (this.#length === blockBytes) this.#flush();
    }
  }

  #flush(): void {
    this.#full.push(this.#length === blockBytes ? this.#block : this.#block.subarray(0, this.#length));
    this.#block = Buffer.allocUnsafe(blockBytes);
    this.#length = 0;
    this.#start = 0;
  }

  #taken(): Buffer[] {
    const full = this.#full;
    if (full.length > 0) this.#full = [];
    return full;
  }
}
