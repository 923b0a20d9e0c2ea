/**
 * Sockets that read into buffers which are used again. A copy passes hundreds of MB per second through the process; with a
 * new buffer for every read each few dozen MB of them would be a full garbage collection of everything else the worker
 * holds (measured: a third of the direct lane's CPU).
 *
 * While a copy runs, reads go to slabs: pieces of them are handed out, and a slab is used again when all its pieces were
 * given back. What is never given back is ordinary garbage. Otherwise reads go to one small buffer for all sockets, and the
 * driver gets copies.
 */
import { Socket } from 'node:net';

const slabBytes = 1024 * 1024;
/** A slab with less room than this is not read into any more. */
const leastRead = 128 * 1024;
const mostFree = 8;

type Slab = { readonly buffer: Buffer; pieces: number };

const free: Slab[] = [];
const slabs = new WeakMap<ArrayBufferLike, Slab>();

function takeSlab(): Slab {
  const used = free.pop();
  if (used) return used;
  const slab = { buffer: Buffer.from(new ArrayBuffer(slabBytes)), pieces: 0 };
  slabs.set(slab.buffer.buffer, slab);
  return slab;
}

/** One piece more is in use. No-op for other buffers. */
export function hold(piece: Uint8Array): void {
  const slab = slabs.get(piece.buffer);
  if (slab) slab.pieces++;
}

/** One piece less is in use: nobody may read it any more. No-op for other buffers. */
export function giveBack(piece: Uint8Array): void {
  const slab = slabs.get(piece.buffer);
  if (slab && --slab.pieces === 0 && free.length < mostFree) free.push(slab);
}

/** Reads into this while nothing is copied; libuv fills it and calls back before any other socket is read. */
const small = Buffer.from(new ArrayBuffer(64 * 1024));

type Taker = (piece: Buffer) => void;
const takers = new WeakMap<Socket, { taker: Taker | undefined }>();

/** A plain TCP or Unix socket for the driver. */
export function slabSocket(): Socket {
  const state: { taker: Taker | undefined } = { taker: undefined };
  let slab: Slab | undefined;
  let used = 0;
  let reading: Buffer = small;

  const next = (): Buffer => {
    if (slab && (!state.taker || slabBytes - used < leastRead)) {
      giveBack(slab.buffer);
      slab = undefined;
    }
    if (!state.taker) {
      reading = small;
    } else {
      if (!slab) {
        slab = takeSlab();
        slab.pieces++; // ours, while it is read into
        used = 0;
      }
      reading = slab.buffer.subarray(used);
    }
    return reading;
  };
  const arrived = (length: number): boolean => {
    const piece = reading.subarray(0, length);
    const ofSlab = reading !== small;
    if (ofSlab) used += length;
    if (state.taker) state.taker(ofSlab ? piece : Buffer.from(piece));
    else socket.emit('data', Buffer.from(piece));
    return true;
  };
  // `onread` is an option of connect() in the documentation; the driver makes the socket before it connects it.
  const options = { onread: { buffer: next, callback: arrived } };
  const socket: Socket = new Socket(options as ConstructorParameters<typeof Socket>[0]);
  takers.set(socket, state);
  return socket;
}

/** Sends what arrives to `taker` (undefined: to the driver again). False when the socket is another's, over TLS. */
export function divert(socket: Socket, taker: Taker | undefined): boolean {
  const state = takers.get(socket);
  if (state) state.taker = taker;
  return state !== undefined;
}
