/**
 * BSON on its way out: one growing buffer, written from front to back, for thousands of documents (bsonspec.org). Nothing
 * is built in between: a row of a dozen columns costs two or three microseconds.
 */

const first = 1 << 20;

export class Out {
  b: Buffer;
  at = 0;

  constructor(bytes = first) {
    this.b = Buffer.allocUnsafe(bytes);
  }

  /** Makes sure that so many bytes can be written. */
  room(bytes: number): void {
    if (this.at + bytes <= this.b.length) return;
    let size = this.b.length * 2;
    while (size < this.at + bytes) size *= 2;
    const bigger = Buffer.allocUnsafe(size);
    this.b.copy(bigger, 0, 0, this.at);
    this.b = bigger;
  }

  /** What was written so far, for somebody who keeps it; this begins anew with as much room. */
  take(): Buffer {
    const taken = this.b.subarray(0, this.at);
    this.b = Buffer.allocUnsafe(Math.max(first, this.at + (this.at >> 3)));
    this.at = 0;
    return taken;
  }

  byte(value: number): void {
    this.room(1);
    this.b[this.at++] = value;
  }

  int32(value: number): void {
    this.room(4);
    setInt32(this.b, this.at, value);
    this.at += 4;
  }

  double(value: number): void {
    this.room(8);
    this.b.writeDoubleLE(value, this.at);
    this.at += 8;
  }

  int64(value: bigint): void {
    this.room(8);
    this.b.writeBigInt64LE(value, this.at);
    this.at += 8;
  }

  bytes(value: Uint8Array): void {
    this.room(value.length);
    this.b.set(value, this.at);
    this.at += value.length;
  }

  /** The length with the NUL, the text, the NUL. */
  string(value: string): void {
    const start = this.at;
    this.room(value.length * 3 + 5);
    const end = utf8Into(this.b, start + 4, value);
    this.b[end] = 0;
    setInt32(this.b, start, end - start - 3);
    this.at = end + 1;
  }

  /** The name of an element, with its NUL. */
  name(value: string): void {
    this.room(value.length * 3 + 1);
    const end = utf8Into(this.b, this.at, value);
    this.b[end] = 0;
    this.at = end + 1;
  }

  /** Leaves room for the length of a document that begins here; `close` it with what this gives. */
  open(): number {
    const start = this.at;
    this.room(4);
    this.at += 4;
    return start;
  }

  close(start: number): void {
    this.room(1);
    this.b[this.at++] = 0;
    setInt32(this.b, start, this.at - start);
  }
}

export function setInt32(b: Uint8Array, at: number, value: number): void {
  b[at] = value;
  b[at + 1] = value >> 8;
  b[at + 2] = value >> 16;
  b[at + 3] = value >> 24;
}

/** Short texts byte by byte: calling into the runtime costs more than they do. */
const short = 24;

/** The offset behind the text. */
export function utf8Into(b: Buffer, start: number, text: string): number {
  if (text.length > short) return start + b.write(text, start);
  let at = start;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 0x80) return start + b.write(text, start);
    b[at++] = code;
  }
  return at;
}

const two32 = 2 ** 32;

/** A whole number of milliseconds, or any whole number up to 2^53, as 64 bits. */
export function setSafeInt64(b: Uint8Array, at: number, value: number): void {
  const high = Math.floor(value / two32);
  setInt32(b, at, (value - high * two32) | 0);
  setInt32(b, at + 4, high);
}
