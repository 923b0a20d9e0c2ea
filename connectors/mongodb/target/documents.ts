/**
 * A stream of BSON, cut anywhere, into what one insert command takes: whole documents, not copied, with the keys they
 * have where somebody must remember them.
 */
import { GodwitError } from '../../../errors.ts';
import type { BytesBatch } from '../../contract.ts';
import { behindName, bson, int32, sizeOf } from '../bson.ts';
import { Out } from './out.ts';
import { largestDocument } from './rows.ts';

/** Of one insert command: the server takes 48 MB and 100,000 documents, and is not faster by more than this. */
export const groupBytes = 8 * 1024 * 1024;
export const groupDocuments = 50_000;

/** Documents for one insert command. */
export type Group = {
  readonly parts: readonly Uint8Array[];
  readonly count: number;
  readonly bytes: number;
  /** The values of `_id`, one after another: a byte for the type, then the value. */
  readonly ids?: Buffer;
  /** To be called when the server has them. */
  readonly release?: () => void;
};

export type Cutting = {
  readonly withIds: boolean;
  /** Documents of a group, when fewer than one command takes. */
  readonly most?: number;
  /** Changes a document that begins here and has this length: the new one is written behind what is there. */
  readonly rewrite?: (b: Buffer, at: number, length: number, out: Out, ordinal: number) => void;
  /** Of documents that have none (those of a view). */
  readonly madeId: (out: Out, ordinal: number) => void;
};

export class DocumentCutter {
  readonly #how: Cutting;
  readonly #groups: Group[] = [];
  #parts: Uint8Array[] = [];
  #count = 0;
  #bytes = 0;
  #ids = new Out();
  #releases: (() => void)[] = [];
  /** Beginning of a document whose end has not come. */
  #rest: Buffer[] = [];
  #restBytes = 0;
  /** Documents so far. */
  read = 0;

  constructor(how: Cutting) {
    this.#how = how;
  }

  /** Groups that are full now. */
  take(batch: BytesBatch): Group[] {
    for (const piece of batch.bytes) this.#piece(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength));
    if (batch.release) {
      // A beginning that waits for its end is still in these bytes.
      if (this.#restBytes > 0) this.#rest = [Buffer.concat(this.#rest)];
      this.#releases.push(batch.release);
    }
    return this.#groups.splice(0);
  }

  /** What is left. Throws when the stream ended within a document. */
  end(): Group[] {
    if (this.#restBytes > 0) throw cut();
    if (this.#count > 0 || this.#releases.length > 0) this.#close();
    return this.#groups.splice(0);
  }

  #piece(piece: Buffer): void {
    let b = piece;
    if (this.#restBytes > 0) {
      this.#rest.push(piece);
      this.#restBytes += piece.length;
      const head = this.#restBytes < 64 || this.#rest.length > 1 ? headOf(this.#rest) : (this.#rest[0] as Buffer);
      if (head.length < 4 || this.#restBytes < sane(int32(head, 0))) return;
      b = Buffer.concat(this.#rest);
      this.#rest = [];
      this.#restBytes = 0;
    }
    let at = 0;
    let from = 0;
    while (b.length - at >= 4) {
      const length = sane(int32(b, at));
      if (b.length - at < length) break;
      if (this.#count > 0 && this.#bytes + length > groupBytes) {
        this.#keep(b, from, at);
        from = at;
        this.#close();
      }
      if (!this.#document(b, at, length)) {
        // It goes changed, so what stood before it goes by itself.
        this.#keep(b, from, at);
        from = at + length;
      }
      at += length;
      if (this.#count >= (this.#how.most ?? groupDocuments)) {
        this.#keep(b, from, at);
        from = at;
        this.#close();
      }
    }
    this.#keep(b, from, at);
    if (at < b.length) {
      this.#rest = [b.subarray(at)];
      this.#restBytes = b.length - at;
    }
  }

  /** False when another document was written in its place. */
  #document(b: Buffer, at: number, length: number): boolean {
    const { rewrite, withIds, madeId } = this.#how;
    const ordinal = this.read++;
    this.#count++;
    if (b[at + length - 1] !== 0) throw cut();
    const id = idAt(b, at, length);
    if (!rewrite && id >= 0) {
      this.#bytes += length;
      if (withIds) this.#remember(b, id);
      return true;
    }
    const out = new Out(length + 128);
    if (rewrite) rewrite(b, at, length, out, ordinal);
    else withId(b, at, length, out, (o) => madeId(o, ordinal));
    if (out.at > largestDocument) throw tooLarge(out.at);
    const made = out.b.subarray(0, out.at);
    this.#pending.push(made);
    this.#bytes += made.length;
    if (withIds) this.#remember(made, 4);
    return false;
  }

  #pending: Uint8Array[] = [];

  #keep(b: Buffer, from: number, to: number): void {
    if (to > from) this.#parts.push(b.subarray(from, to));
    if (this.#pending.length > 0) this.#parts.push(...this.#pending.splice(0));
  }

  /** `element`: where the type of `_id` stands. */
  #remember(b: Buffer, element: number): void {
    const type = b[element] as number;
    const start = element + 5;
    const size = sizeOf(b, type, start);
    this.#ids.room(size + 1);
    this.#ids.b[this.#ids.at] = type;
    b.copy(this.#ids.b, this.#ids.at + 1, start, start + size);
    this.#ids.at += size + 1;
  }

  #close(): void {
    const releases = this.#releases;
    this.#releases = [];
    this.#groups.push({
      parts: this.#parts,
      count: this.#count,
      bytes: this.#bytes,
      ...(this.#how.withIds ? { ids: this.#ids.take() } : {}),
      release: () => {
        for (const release of releases) release();
      },
    });
    this.#parts = [];
    this.#count = 0;
    this.#bytes = 0;
  }
}

/** Enough of the beginning to read a length from. */
function headOf(pieces: readonly Buffer[]): Buffer {
  let head = pieces[0] as Buffer;
  for (let i = 1; head.length < 4 && i < pieces.length; i++) head = Buffer.concat([head, pieces[i] as Buffer]);
  return head;
}

const sane = (length: number): number => {
  if (length < 5) throw cut();
  if (length > largestDocument + 16 * 1024) throw tooLarge(length);
  return length;
};

const cut = (): GodwitError => new GodwitError('BOOKS_UNBALANCED', 'The stream of documents is cut or damaged.');
const tooLarge = (bytes: number): GodwitError =>
  new GodwitError('VALUE_REFUSED', `A document has ${bytes} bytes; ${largestDocument} is the limit.`);

/** Where the element `_id` begins, or -1. It is the first one, unless somebody made the document by hand. */
export function idAt(b: Buffer, at: number, length: number): number {
  const end = at + length - 1;
  let p = at + 4;
  while (p < end) {
    // _id, NUL
    if (b[p + 1] === 95 && b[p + 2] === 105 && b[p + 3] === 100 && b[p + 4] === 0) return p;
    const value = behindName(b, p + 1);
    p = value + sizeOf(b, b[p] as number, value);
  }
  return -1;
}

/** The document with an `_id` in front. */
function withId(b: Buffer, at: number, length: number, out: Out, id: (out: Out) => void): void {
  const start = out.open();
  out.byte(bson.objectId);
  out.name('_id');
  id(out);
  out.bytes(b.subarray(at + 4, at + length - 1));
  out.close(start);
}
