/**
 * pg-text as LOAD DATA reads it: the same but for `\f` and `\v`, which it would take for the letters. In blocks of a size
 * that suits the wire, copied, so that the bytes taken can be given back at once.
 */
const backslash = 92;
const replaced: Readonly<Record<number, number>> = { 102: 12, 118: 11 };
const blockBytes = 256 * 1024;

export class Mender {
  #block = Buffer.allocUnsafe(blockBytes);
  #length = 0;
  #full: Buffer[] = [];
  /** The last byte taken began an escape. */
  #held = false;

  /** The blocks that are full by now. */
  take(bytes: Uint8Array): Buffer[] {
    let from = 0;
    if (this.#held && bytes.length > 0) {
      this.#held = false;
      const other = replaced[bytes[0] as number];
      if (other === undefined) this.#put(Uint8Array.of(backslash, bytes[0] as number));
      else this.#put(Uint8Array.of(other));
      from = 1;
    }
    let at = bytes.indexOf(backslash, from);
    while (at >= 0) {
      if (at + 1 === bytes.length) {
        this.#held = true;
        this.#put(bytes.subarray(from, at));
        return this.#taken();
      }
      const other = replaced[bytes[at + 1] as number];
      if (other !== undefined) {
        this.#put(bytes.subarray(from, at));
        this.#put(Uint8Array.of(other));
        from = at + 2;
      }
      at = bytes.indexOf(backslash, at + 2);
    }
    this.#put(from === 0 ? bytes : bytes.subarray(from));
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

  #put(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length; ) {
      const to = Math.min(bytes.length, from + blockBytes - this.#length);
      this.#block.set(from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to), this.#length);
      this.#length += to - from;
      from = to;
      if (this.#length === blockBytes) {
        this.#full.push(this.#block);
        this.#block = Buffer.allocUnsafe(blockBytes);
        this.#length = 0;
      }
    }
  }

  #taken(): Buffer[] {
    const full = this.#full;
    if (full.length > 0) this.#full = [];
    return full;
  }
}
