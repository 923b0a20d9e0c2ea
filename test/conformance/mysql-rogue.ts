/** A server that is none: it passes everything on to a real one, and in answer to one kind of statement asks for a file. */
import { connect, createServer, type Socket } from 'node:net';

export type Rogue = AsyncDisposable & {
  readonly url: string;
  /** From now on statements that begin so are answered with a request for this file. */
  ask(statement: string, file: string): void;
  /** What the client sent in answer to a request, without its headers; undefined while it sent nothing. */
  readonly got: () => Buffer | undefined;
  /** Resolves when the client has closed the connection on which it was asked. */
  readonly closed: Promise<void>;
};

const header = 4;
const query = 3;

/** `url` of a real server; the connection to it is in the clear. */
export async function startRogue(url: string): Promise<Rogue> {
  const real = new URL(url);
  const port = Number(real.port);
  const closed = Promise.withResolvers<void>();
  const sockets = new Set<Socket>();
  let wanted: { statement: string; file: string } | undefined;
  let answer: Buffer | undefined;
  const server = createServer((client) => {
    const upstream = connect(port, real.hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => {});
    }
    let asked = false;
    client.on('data', (data) => {
      if (asked) {
        // Each packet of an answer: its length, its number, its bytes.
        answer = Buffer.concat([answer ?? Buffer.alloc(0), data.subarray(header)]);
        return;
      }
      const text = data
        .subarray(header + 1)
        .toString()
        .trimStart();
      if (wanted && data[header] === query && text.startsWith(wanted.statement)) {
        asked = true;
        client.once('close', () => closed.resolve());
        const body = Buffer.concat([Buffer.of(0xfb), Buffer.from(wanted.file)]);
        client.write(Buffer.concat([Buffer.of(body.length, 0, 0, 1), body]));
        return;
      }
      upstream.write(data);
    });
    upstream.on('data', (data) => client.write(data));
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  real.port = String(address.port);
  real.searchParams.set('sslmode', 'disable');
  return {
    url: real.href,
    ask(statement, file) {
      wanted = { statement, file };
    },
    got: () => answer,
    closed: closed.promise,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
