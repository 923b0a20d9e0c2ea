/**
 * Sockets whose bytes can be read straight into a reader's own buffer, past the driver. A chunk passes hundreds of MB
 * through the process; a new buffer for every read would make the garbage collector the busiest part of it.
 */
import { Socket } from 'node:net';

/** Takes what arrives. */
export type Taker = {
  /** Where the next bytes go. Never empty. */
  room(): Buffer;
  /** So many bytes were put there. False: no more for now; `resume()` of the socket goes on. */
  arrived(length: number): boolean;
};

/** Reads into this while nobody diverts; libuv fills it and calls back before any other socket is read. */
const small = Buffer.from(new ArrayBuffer(64 * 1024));

const takers = new WeakMap<Socket, { taker: Taker | undefined }>();

/** A socket not yet connected, for the driver. */
export function divertible(): Socket {
  const state: { taker: Taker | undefined } = { taker: undefined };
  let reading: Buffer = small;
  const next = (): Buffer => {
    reading = state.taker ? state.taker.room() : small;
    return reading;
  };
  const arrived = (length: number): boolean => {
    if (!state.taker) {
      socket.emit('data', Buffer.from(reading.subarray(0, length)));
      return true;
    }
    if (reading !== small) return state.taker.arrived(length);
    return put(state.taker, reading.subarray(0, length));
  };
  // `onread` is an option of connect() in the documentation; here the socket is made before it is connected.
  const options = { onread: { buffer: next, callback: arrived } };
  const socket: Socket = new Socket(options as ConstructorParameters<typeof Socket>[0]);
  takers.set(socket, state);
  return socket;
}

/** Sends what arrives to `taker` (undefined: to the driver again). False when the socket is another's, under TLS. */
export function divert(socket: Socket, taker: Taker | undefined): boolean {
  const state = takers.get(socket);
  if (state) state.taker = taker;
  return state !== undefined;
}

/** Bytes that arrived elsewhere. */
export function put(taker: Taker, bytes: Uint8Array): boolean {
  let goOn = true;
  for (let at = 0; at < bytes.length; ) {
    const room = taker.room();
    const part = bytes.subarray(at, at + room.length);
    room.set(part);
    at += part.length;
    goOn = taker.arrived(part.length);
  }
  return goOn;
}
