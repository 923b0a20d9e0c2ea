/**
 * `COPY … FROM STDIN` written straight to the driver's socket. Bytes are never copied: buffers go out by one gathered
 * write per batch, and `drain` is the back-pressure. Frames that came from another PostgreSQL are passed on as they are.
 */
import type { Socket } from 'node:net';
import { GodwitError } from '../../../errors.ts';
import { translate } from '../errors.ts';
import { type Session, wireOf } from '../session.ts';

/** What pg hands to a query object when the server is ready for data. */
type CopyConnection = { query(text: string): void; endCopyFrom(): void };

export class CopyIn {
  /** Whoever waits just now, told when the server or the connection says no. */
  #waiting: ((error: unknown) => void) | undefined;
  readonly #ready = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<number>();
  readonly #socket: Socket;
  #connection: CopyConnection | undefined;
  #sql = '';
  #error: unknown;
  #rows = 0;

  constructor(session: Session) {
    this.#socket = wireOf(session.client).stream;
    for (const quiet of [this.#ready.promise, this.#ended.promise]) quiet.catch(() => {});
  }

  /** Resolves when the server waits for data. Throws what it refuses. */
  async start(session: Session, sql: string): Promise<void> {
    this.#sql = sql;
    session.client.query(this as never);
    await this.#ready.promise;
  }

  /**
   * The promise, or the copy's failure if that comes first. Not `Promise.race` with one long promise: that would keep every
   * value it ever raced with, all batches of a chunk.
   */
  or<T>(promise: PromiseLike<T>): Promise<T> {
    if (this.#error !== undefined) return Promise.reject(this.#error);
    return new Promise<T>((resolve, reject) => {
      this.#waiting = reject;
      promise.then(resolve, reject);
    });
  }

  /**
   * Passes bytes on as they are: whole CopyData messages or pieces of them. `release` is called when the last of them has
   * left the process (or never will).
   */
  async frames(parts: readonly Uint8Array[], release?: () => void): Promise<void> {
    this.#check();
    const socket = this.#socket;
    socket.cork();
    for (const part of parts) if (part.length > 0) socket.write(part);
    // Writes end in order: this one after all before it.
    if (release) socket.write(nothing, release);
    socket.uncork();
    if (socket.writableNeedDrain) await this.#drained();
  }

  /** Wraps bytes of the stream, cut anywhere, into CopyData messages. */
  async bytes(parts: readonly Uint8Array[], release?: () => void): Promise<void> {
    let message: Uint8Array[] = [];
    let length = 0;
    const send = async () => {
      if (length === 0) return;
      const frame = [header(length), ...message];
      message = [];
      length = 0;
      await this.frames(frame);
    };
    for (const part of parts) {
      for (let at = 0; at < part.length; at += most) {
        const piece = part.length <= most ? part : part.subarray(at, at + most);
        message.push(piece);
        length += piece.length;
        if (length >= frameBytes) await send();
      }
    }
    await send();
    if (release) await this.frames([], release);
  }

  /** Ends the data. The rows the server took. */
  async end(): Promise<number> {
    this.#check();
    this.#connection?.endCopyFrom();
    return await this.#ended.promise;
  }

  #check(): void {
    if (this.#error !== undefined) throw this.#error;
    if (this.#socket.destroyed) throw new GodwitError('CONNECTION_FAILED', 'The connection to PostgreSQL ended.');
  }

  /** A socket that closes never drains: the driver then tells `handleError`. */
  async #drained(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#socket.once('drain', resolve);
    try {
      await this.or(promise);
    } finally {
      this.#socket.removeListener('drain', resolve);
    }
  }

  // ── What pg calls of a query object ────────────────────────────────────────────────────────────────────────────

  submit(connection: CopyConnection): void {
    connection.query(this.#sql);
  }

  handleCopyInResponse(connection: CopyConnection): void {
    this.#connection = connection;
    this.#ready.resolve();
  }

  handleError(error: unknown): void {
    this.#error ??= translate(error);
    this.#waiting?.(this.#error);
    // The driver forgets the query here; what is asked next waits until the server is ready again.
    this.#settle();
  }

  handleCommandComplete(message: { text: string }): void {
    this.#rows = Number(/^COPY (\d+)/.exec(message.text)?.[1] ?? 0);
  }

  handleReadyForQuery(): void {
    this.#settle();
  }

  #settle(): void {
    const error = this.#error;
    if (error !== undefined) {
      this.#ready.reject(error);
      this.#ended.reject(error);
    } else {
      this.#ended.resolve(this.#rows);
      this.#ready.reject(new GodwitError('INTERNAL', 'COPY ended before it began.'));
    }
  }

  handleRowDescription(): void {}
  handleDataRow(): void {}
  handleEmptyQuery(): void {}
  handlePortalSuspended(): void {}
  handleCopyData(): void {}
}

const nothing = new Uint8Array();
const frameBytes = 262_144;
/** The server takes messages of up to 1 GB; a piece of this size keeps its buffer small. */
const most = 16 * 1024 * 1024;

function header(length: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(5);
  bytes[0] = 0x64; // d: CopyData
  bytes.writeUInt32BE(length + 4, 1);
  return bytes;
}
