/**
 * MongoDB before 4.4 in the protocol of today's drivers: they ask for a server's `hello` and for at least wire version 9.
 * What a table is, how it is stored and read has not changed, so an old server is a real one to test with; a listener in
 * front of it answers the greeting as a newer one would, and passes all else on untouched.
 */
import { connect, createServer, type Socket } from 'node:net';
import { BSON } from 'mongodb';

const host = '127.0.0.1';
const versionField = Buffer.from('\x10maxWireVersion\0');
/** Of MongoDB 4.4, the oldest that the driver takes. */
const version = 9;
/** Message header, flag bits, section kind, length of the document: then its first element. */
const firstElement = 16 + 4 + 1 + 4;
const opMsg = 2013;

export type Greeting = AsyncDisposable & { readonly port: number };

export async function startGreeting(port: number, server: number): Promise<Greeting> {
  const open = new Set<Socket>();
  const listener = createServer({ noDelay: true }, (client) => {
    const behind = connect({ host, port: server, noDelay: true });
    for (const socket of [client, behind]) {
      open.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => {
        open.delete(socket);
        client.destroy();
        behind.destroy();
      });
    }
    const messages = whole();
    client.on('data', (bytes: Buffer) => {
      for (const piece of messages(bytes)) if (!behind.write(piece)) client.pause();
    });
    behind.on('drain', () => client.resume());
    behind.on('data', (bytes: Buffer) => {
      const at = bytes.indexOf(versionField);
      if (at >= 0 && bytes.length >= at + versionField.length + 4)
        bytes.writeInt32LE(version, at + versionField.length);
      if (!client.write(bytes)) behind.pause();
    });
    client.on('drain', () => behind.resume());
  });
  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject);
    listener.listen(port, host, resolve);
  });
  return {
    port,
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
}

/** Bytes of the client, a greeting among them replaced; what is long passes as it comes. */
function whole(): (bytes: Buffer) => Buffer[] {
  let held: Buffer = Buffer.alloc(0);
  /** Of a message whose beginning has passed. */
  let left = 0;
  return (bytes) => {
    const out: Buffer[] = [];
    let rest = held.length > 0 ? Buffer.concat([held, bytes]) : bytes;
    held = Buffer.alloc(0);
    while (rest.length > 0) {
      if (left > 0) {
        const piece = rest.subarray(0, left);
        out.push(piece);
        left -= piece.length;
        rest = rest.subarray(piece.length);
        continue;
      }
      const length = rest.length >= 4 ? rest.readInt32LE(0) : 0;
      const short = length < 4096;
      if (rest.length < 4 || rest.length < (short ? length : firstElement + 8)) {
        held = Buffer.from(rest);
        break;
      }
      if (short) {
        out.push(greeted(rest.subarray(0, length)));
        rest = rest.subarray(length);
      } else left = length;
    }
    return out;
  };
}

const hello = Buffer.from('hello\0');

function greeted(message: Buffer): Buffer {
  const name = firstElement + 1;
  if (message.length < name + hello.length || message.readInt32LE(12) !== opMsg) return message;
  if (!message.subarray(name, name + hello.length).equals(hello)) return message;
  const { hello: _hello, ...rest } = BSON.deserialize(message.subarray(firstElement - 4));
  const document = BSON.serialize({ isMaster: 1, ...rest });
  const head = Buffer.from(message.subarray(0, firstElement - 4));
  head.writeInt32LE(head.length + document.length, 0);
  return Buffer.concat([head, document]);
}
