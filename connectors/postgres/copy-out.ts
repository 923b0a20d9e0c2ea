/**
 * `COPY … TO STDOUT` read straight from the driver's socket. The driver's parser would make an object per row; here a row
 * costs one hop over its frame header. While the copy runs, the socket's data goes to us instead of the parser; every
 * message that is not CopyData is handed to the parser as it came, so the driver's own state stays right and the
 * connection is usable afterwards.
 */
import type { Socket } from 'node:net';
import { GodwitError } from '../../errors.ts';
import { translate } from './errors.ts';
import { type Session, wireOf } from './session.ts';
import { divert, giveBack, hold } from './slabs.ts';

export type CopyOutOptions = {
  /** Keep the CopyData headers (`BytesBatch.framed`). */
  readonly framed: boolean;
  /** About so many bytes are read ahead while the consumer works on the batch before. */
  readonly bytes: number;
  readonly signal?: AbortSignal;
};

/** `release`: see BytesBatch. */
export type CopyOutBatch = { readonly bytes: Uint8Array[]; readonly rows?: number; readonly release?: () => void };

const copyData = 0x64; // d
const copyDone = 0x63; // c
const eager = 512 * 1024;
const fullRead = 65_536;
const restMs = 1;
const errorResponse = 0x45; // E

/**
 * Batches of about `bytes` bytes; the last one has the row count (and may be empty). Leaving the loop early, an error in
 * it or the signal destroys the session: whoever stops in mid-copy cannot use it again.
 */
export async function* copyOut(session: Session, sql: string, options: CopyOutOptions): AsyncGenerator<CopyOutBatch> {
  const reader = new CopyReader(session, options);
  let finished = false;
  try {
    options.signal?.throwIfAborted();
    reader.start(sql);
    for (;;) {
      const bytes = await reader.next();
      options.signal?.throwIfAborted();
      if (bytes === undefined) break;
      yield { bytes, release: () => bytes.forEach(giveBack) };
    }
    finished = true;
    yield { bytes: [], rows: reader.rows };
  } catch (error) {
    throw options.signal?.aborted ? options.signal.reason : error;
  } finally {
    if (!finished) reader.abandon();
  }
}

/** What pg calls of a query object; everything else of it stays with the driver. */
interface Submittable {
  submit(connection: { query(text: string): void }): void;
}

type DataListener = (chunk: Buffer) => void;

class CopyReader implements Submittable {
  rows = 0;
  readonly #session: Session;
  readonly #socket: Socket;
  readonly #framed: boolean;
  readonly #limit: number;
  readonly #signal: AbortSignal | undefined;
  #text = '';
  /** The driver's own data listeners, put back at the end. */
  #listeners: DataListener[] = [];
  #taken = false;

  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #total = 0;
  #ended = false;
  #error: unknown;
  #wake: (() => void) | undefined;

  /** Payload bytes still to come of the CopyData message under way. */
  #left = 0;
  /** Beginning of a message whose header, or (not CopyData) whose whole, is not there yet. */
  #stub: Buffer | undefined;

  constructor(session: Session, options: CopyOutOptions) {
    this.#session = session;
    this.#socket = wireOf(session.client).stream;
    this.#framed = options.framed;
    this.#limit = Math.max(65_536, options.bytes);
    this.#signal = options.signal;
  }

  start(sql: string): void {
    this.#text = sql;
    this.#signal?.addEventListener('abort', this.#aborted, { once: true });
    this.#session.client.query(this as never);
  }

  /** Everything read since the last call, or undefined at the end. Throws what the server or the connection said. */
  async next(): Promise<Buffer[] | undefined> {
    while (this.#pendingBytes === 0 && !this.#ended) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
    if (this.#error !== undefined) throw this.#error;
    if (this.#pendingBytes === 0) {
      this.#signal?.removeEventListener('abort', this.#aborted);
      return undefined;
    }
    const pending = this.#pending;
    this.#pending = [];
    this.#pendingBytes = 0;
    if (this.#taken && this.#socket.isPaused()) this.#socket.resume();
    return pending;
  }

  abandon(): void {
    this.#signal?.removeEventListener('abort', this.#aborted);
    this.#giveBack();
    if (!this.#ended) this.#session.destroy();
  }

  readonly #aborted = (): void => {
    this.#fail(this.#signal?.reason);
    this.abandon();
  };

  // ── The driver's side ──────────────────────────────────────────────────────────────────────────────────────────

  submit(connection: { query(text: string): void }): void {
    this.#listeners = this.#socket.listeners('data') as DataListener[];
    for (const listener of this.#listeners) this.#socket.removeListener('data', listener);
    if (!divert(this.#socket, this.#data)) this.#socket.on('data', this.#data);
    this.#taken = true;
    connection.query(this.#text);
  }

  handleError(error: unknown): void {
    this.#fail(translate(error));
  }

  handleCommandComplete(message: { text: string }): void {
    this.rows = Number(/^COPY (\d+)/.exec(message.text)?.[1] ?? 0);
  }

  handleReadyForQuery(): void {
    this.#end();
  }

  handleRowDescription(): void {}
  handleDataRow(): void {}
  handleEmptyQuery(): void {}
  handlePortalSuspended(): void {}
  handleCopyInResponse(): void {}
  handleCopyData(): void {}

  #fail(error: unknown): void {
    this.#error ??= error ?? new GodwitError('CONNECTION_FAILED', 'The copy was stopped.');
    this.#end();
  }

  #end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  // ── The socket's side ──────────────────────────────────────────────────────────────────────────────────────────

  readonly #data = (chunk: Buffer): void => {
    let data = chunk;
    if (this.#stub) {
      data = Buffer.concat([this.#stub, chunk]);
      this.#stub = undefined;
    }
    if (this.#framed) this.#hop(data);
    else this.#strip(data);
    if (this.#pendingBytes === 0) return;
    this.#total += chunk.length;
    if (this.#total < eager) this.#wake?.();
    if (!this.#taken) return;
    if (this.#pendingBytes >= this.#limit) {
      this.#wake?.();
      this.#socket.pause();
    } else if (this.#total >= eager && chunk.length < fullRead) this.#rest();
  };

  /**
   * The server sends 8 kB at a time; a reader as fast as it wakes up for each. Past the first few of them the handle stops
   * reading for a millisecond, so that the kernel collects what one read can take.
   */
  #rest(): void {
    const handle = (
      this.#socket as unknown as { _handle?: { readStop?(): void; readStart?(): void; reading?: boolean } }
    )._handle;
    // TLS hands out records of 16 kB however much was read: their length says nothing.
    const tls = 'encrypted' in this.#socket;
    if (tls || !handle?.readStop || !handle.readStart) {
      this.#wake?.();
      return;
    }
    handle.readStop();
    setTimeout(() => {
      this.#wake?.();
      if (!this.#socket.destroyed) handle.readStart?.();
    }, restMs);
  }

  /** Passes on ranges of CopyData messages untouched. */
  #hop(data: Buffer): void {
    const { length } = data;
    let from = 0;
    let at = Math.min(this.#left, length);
    this.#left -= at;
    while (at < length) {
      if (length - at < 5) {
        // A header in two pieces: kept back, so that what is passed on is cut within payloads only.
        this.#push(data, from, at);
        this.#stub = Buffer.from(data.subarray(at));
        return;
      }
      const size = data.readUInt32BE(at + 1) + 1;
      if (data[at] === copyData) {
        const end = at + size;
        if (end > length) this.#left = end - length;
        at = Math.min(end, length);
        continue;
      }
      this.#push(data, from, at);
      at = this.#other(data, at, size);
      if (at < 0) return;
      from = at;
    }
    this.#push(data, from, length);
  }

  /** Moves the payloads together over the headers, in place: no buffer per row. */
  #strip(data: Buffer): void {
    const { length } = data;
    let at = Math.min(this.#left, length);
    this.#left -= at;
    let kept = at;
    while (at < length) {
      if (length - at < 5) {
        this.#stub = Buffer.from(data.subarray(at));
        break;
      }
      const size = data.readUInt32BE(at + 1) + 1;
      if (data[at] !== copyData) {
        this.#push(data, 0, kept);
        at = this.#other(data, at, size);
        if (at < 0) return;
        this.#strip(data.subarray(at));
        return;
      }
      const end = at + size;
      const stop = Math.min(end, length);
      data.copyWithin(kept, at + 5, stop);
      kept += stop - at - 5;
      this.#left = end - stop;
      at = stop;
    }
    this.#push(data, 0, kept);
  }

  /** A message of another kind goes to the driver whole. Where the data goes on, or -1 when nothing here is left. */
  #other(data: Buffer, at: number, size: number): number {
    const type = data[at];
    if (type === copyDone || type === errorResponse) {
      this.#giveBack();
      this.#toDriver(data.subarray(at));
      return -1;
    }
    if (at + size > data.length) {
      this.#stub = Buffer.from(data.subarray(at));
      return -1;
    }
    this.#toDriver(data.subarray(at, at + size));
    return at + size;
  }

  #push(data: Buffer, from: number, to: number): void {
    if (to <= from) return;
    const piece = from === 0 && to === data.length ? data : data.subarray(from, to);
    hold(piece);
    this.#pending.push(piece);
    this.#pendingBytes += to - from;
  }

  /** A copy: the driver keeps what it does not understand yet. */
  #toDriver(piece: Buffer): void {
    const data = Buffer.from(piece);
    for (const listener of this.#listeners) listener.call(this.#socket, data);
  }

  #giveBack(): void {
    if (!this.#taken) return;
    this.#taken = false;
    if (!divert(this.#socket, undefined)) this.#socket.removeListener('data', this.#data);
    for (const listener of this.#listeners) this.#socket.on('data', listener);
    if (this.#socket.isPaused()) this.#socket.resume();
  }
}
