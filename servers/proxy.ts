import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export type ProxyOptions = {
  /** The real server. */
  readonly host?: string;
  readonly port: number;
};

export type FaultProxy = AsyncDisposable & {
  readonly host: string;
  readonly port: number;
  /** Connections open now. */
  readonly connections: number;
  /** Bytes forwarded since the start, both directions. */
  readonly forwarded: { readonly toServer: number; readonly toClient: number };
  /** Resets every connection (RST, not a polite end). New ones are accepted. */
  cut(): void;
  /** Holds all bytes back; connections stay open. What was held goes on after `resume`. */
  pause(): void;
  resume(): void;
  /** New connections are reset as they come. */
  refuse(on: boolean): void;
  /** Every piece (up to 64 KB) is held this long, in order: slow, and slower for much data. 0 ends it. */
  delay(milliseconds: number): void;
  /** Does the action once, when `bytes` more have passed in that direction; none after them passes before it. */
  afterBytes(bytes: number, action: () => void, direction?: Direction): void;
  stop(): Promise<void>;
};

export type Direction = 'toServer' | 'toClient';

type Trap = { left: number; readonly action: () => void; readonly direction: Direction };

/** A TCP proxy on loopback that can misbehave on command, for fault tests. */
export async function startProxy({ host = '127.0.0.1', port }: ProxyOptions): Promise<FaultProxy> {
  const pairs = new Set<readonly [Socket, Socket]>();
  const forwarded = { toServer: 0, toClient: 0 };
  let traps: Trap[] = [];
  let refusing = false;
  let late = 0;
  let paused: { readonly over: Promise<void>; readonly end: () => void } | undefined;

  const listener = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    if (refusing) {
      client.on('error', () => {});
      client.resetAndDestroy();
      return;
    }
    const server = connect({ host, port, noDelay: true, allowHalfOpen: true });
    const pair = [client, server] as const;
    pairs.add(pair);
    for (const socket of pair) {
      socket.on('error', () => {});
      socket.once('close', () => {
        pairs.delete(pair);
        client.destroy();
        server.destroy();
      });
    }
    server.once('error', () => client.resetAndDestroy());
    void forward(client, server, 'toServer').catch(() => reset(pair));
    void forward(server, client, 'toClient').catch(() => reset(pair));
  });

  async function forward(from: Socket, to: Socket, direction: Direction): Promise<void> {
    // Kept open at its end: the other direction may still have much to say.
    for await (const piece of from.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      if (late > 0) await sleep(late);
      for (const part of upToTraps(piece, direction)) {
        if (to.destroyed) return;
        if (paused) await paused.over;
        forwarded[direction] += part.length;
        if (!to.write(part)) await drained(to);
      }
    }
    to.end();
  }

  /** The piece, cut where a trap lies in it; the trap's action runs between the parts. */
  function* upToTraps(piece: Buffer, direction: Direction): Generator<Buffer> {
    let rest = piece;
    while (rest.length > 0) {
      const mine = traps.filter((trap) => trap.direction === direction);
      const step = Math.min(rest.length, ...mine.map(({ left }) => left));
      if (step > 0) yield rest.subarray(0, step);
      rest = rest.subarray(step);
      for (const trap of mine) trap.left -= step;
      const due = mine.filter(({ left }) => left <= 0);
      traps = traps.filter((trap) => !due.includes(trap));
      for (const { action } of due) action();
    }
  }

  const reset = (pair: readonly [Socket, Socket]) => {
    for (const socket of pair) socket.resetAndDestroy();
  };
  const cut = () => {
    for (const pair of pairs) reset(pair);
  };
  const resume = () => {
    paused?.end();
    paused = undefined;
  };

  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject);
    listener.listen(0, '127.0.0.1', resolve);
  });
  const address = listener.address() as { port: number };

  async function stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => listener.close(() => resolve()));
    cut();
    resume();
    await closed;
  }

  return {
    host: '127.0.0.1',
    port: address.port,
    get connections() {
      return pairs.size;
    },
    forwarded,
    cut,
    pause() {
      if (paused) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      paused = { over: promise, end: resolve };
    },
    resume,
    refuse(on) {
      refusing = on;
    },
    delay(milliseconds) {
      late = milliseconds;
    },
    afterBytes(bytes, action, direction = 'toServer') {
      traps.push({ left: bytes, action, direction });
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed || !socket.writableNeedDrain) return resolve();
    const end = () => {
      socket.off('drain', end);
      socket.off('close', end);
      resolve();
    };
    socket.on('drain', end);
    socket.on('close', end);
  });
}
