/**
 * One statement's rows, read past the driver: the text protocol sends each row as a packet of length-encoded texts, and a
 * taker walks those where they lie. (Protocol: "Text Resultset" in MySQL's and MariaDB's manuals.)
 */
import { GodwitError, type Where } from '../../errors.ts';
import { serverError } from './errors.ts';
import { longLength } from './lengths.ts';
import { askedForFile, type Session, wireOf } from './session.ts';
import { divert, put, type Taker } from './socket.ts';

/** Walks one row: its length-encoded values lie in `bytes` from `at` to `end`, which it may overwrite. */
export type TakeRow = (bytes: Buffer, at: number, end: number) => void;

export type ResultOptions = {
  readonly columns: number;
  readonly row: TakeRow;
  /** Asked after each arrival: true while what was taken must be carried off first. */
  readonly full: () => boolean;
  /** Something arrived. */
  readonly arrived: () => void;
  readonly where?: Where;
};

export type Result = {
  /** Resolves with the number of warnings when all rows were taken. Rejects with the server's error, or a lost connection. */
  readonly ended: Promise<number>;
  /** There is room again. */
  resume(): void;
};

const leastRoom = 64 * 1024;
const inboxBytes = 256 * 1024;
/** A packet of this length is continued by the next one. */
const continued = 0xffffff;

/** The session does nothing else until `ended` is settled; when it rejects the session must be destroyed. */
export function readResult(session: Session, sql: string, options: ResultOptions): Result {
  const wire = wireOf(session.client);
  const socket = wire.stream;
  const { promise: ended, resolve, reject } = Promise.withResolvers<number>();
  ended.catch(() => {});
  let inbox = Buffer.from(new ArrayBuffer(inboxBytes));
  let start = 0;
  let end = 0;
  let state: 'head' | 'columns' | 'rows' | 'over' = 'head';
  let definitions = 0;

  const over = () => state === 'over';
  const finish = (end: () => void) => {
    if (state === 'over') return;
    state = 'over';
    socket.off('close', closed);
    divert(socket, undefined);
    wire.packetParser = parser;
    end();
  };
  const fail = (error: unknown) => finish(() => reject(error));
  const closed = () =>
    session.lost.catch((error: unknown) => {
      fail(error);
      options.arrived();
    });
  const broken = (what: string) =>
    fail(new GodwitError('CONNECTION_FAILED', `MySQL sent ${what}.`, { ...options.where }));

  /** Whole packets from `start` on; what is left begins with a packet that has not arrived completely. */
  const walk = () => {
    while (end - start >= 4) {
      const length = lengthAt(inbox, start);
      if (length === continued) {
        if (!walkLong()) return;
        continue;
      }
      const next = start + 4 + length;
      if (next > end) return;
      const first = inbox[start + 4] as number;
      if (state === 'rows' && first !== 0xff && (first !== 0xfe || length >= 9)) {
        options.row(inbox, start + 4, next);
        start = next;
        continue;
      }
      other(first, start + 4, next);
      start = next;
      if (state === 'over') return;
    }
  };

  /** A row of 16 MB and more: its packets are moved together where they lie. False while some are still to come. */
  const walkLong = (): boolean => {
    let at = start;
    let total = 0;
    for (let more = true; more; ) {
      if (end - at < 4) return false;
      const length = lengthAt(inbox, at);
      if (at + 4 + length > end) return false;
      total += length;
      at += 4 + length;
      more = length === continued;
    }
    if (state !== 'rows') {
      broken('a packet that is no row but as long as one');
      return false;
    }
    let to = start + 4;
    for (let from = start; from < at; ) {
      const length = lengthAt(inbox, from);
      const following = from + 4 + length;
      inbox.copyWithin(to, from + 4, following);
      to += length;
      from = following;
    }
    options.row(inbox, start + 4, start + 4 + total);
    start = at;
    return true;
  };

  const other = (first: number, at: number, to: number) => {
    if (first === 0xff) return fail(errorIn(inbox.subarray(at, to), options.where));
    switch (state) {
      case 'head':
        if (first === 0xfb) return fail(askedForFile(options.where));
        if (first === 0) return broken('no rows for a SELECT');
        definitions = first < 0xfb ? first : longLength(inbox, at);
        if (definitions !== options.columns) return broken('another number of columns than was asked for');
        state = 'columns';
        return;
      case 'columns':
        // So many definitions, then an end.
        if (definitions-- === 0) state = 'rows';
        return;
      case 'rows': {
        const warnings = inbox.readUInt16LE(at + 1);
        if (to !== end) return broken('more than one result');
        return finish(() => resolve(warnings));
      }
    }
  };

  const taker: Taker = {
    room() {
      if (start === end) {
        start = 0;
        end = 0;
      } else if (inbox.length - end < leastRoom) {
        // A packet larger than half of it: twice the room.
        if (end - start > inbox.length / 2) {
          const larger = Buffer.from(new ArrayBuffer(inbox.length * 2));
          inbox.copy(larger, 0, start, end);
          inbox = larger;
        } else {
          inbox.copyWithin(0, start, end);
        }
        end -= start;
        start = 0;
      }
      return inbox.subarray(end);
    },
    arrived(length) {
      if (state === 'over') return true;
      end += length;
      try {
        walk();
      } catch (error) {
        fail(error);
      }
      options.arrived();
      return over() || !options.full();
    },
  };

  const parser = wire.packetParser;
  const direct = divert(socket, taker);
  if (!direct) {
    wire.packetParser = {
      execute: (data) => {
        if (!put(taker, data)) socket.pause();
      },
    };
  }
  socket.once('close', closed);
  if (socket.destroyed) closed();
  socket.write(queryPacket(sql));
  return {
    ended,
    resume: () => {
      socket.resume();
    },
  };
}

const lengthAt = (bytes: Buffer, at: number): number =>
  (bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16);

/** COM_QUERY. */
function queryPacket(sql: string): Buffer {
  const length = Buffer.byteLength(sql) + 1;
  if (length >= continued) throw new GodwitError('INTERNAL', 'A statement is too long.');
  const packet = Buffer.allocUnsafe(length + 4);
  packet.writeUIntLE(length, 0, 3);
  packet[3] = 0;
  packet[4] = 3;
  packet.write(sql, 5, 'utf8');
  return packet;
}

/** `0xff`, the number, `#` and the SQLSTATE, the message. */
function errorIn(packet: Buffer, where: Where | undefined): GodwitError {
  const number = packet.readUInt16LE(1);
  const marked = packet[3] === 0x23;
  const state = marked ? packet.toString('latin1', 4, 9) : '';
  return serverError({ number, message: packet.toString('utf8', marked ? 9 : 3), state }, where);
}
