import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { startProxy } from '../../servers/proxy.ts';

/** A server that answers every piece in capitals and says goodbye at the client's half-close. */
async function shouting(): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('data', (piece) => socket.write(piece.toString().toUpperCase()));
    socket.on('end', () => socket.end('BYE'));
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as { port: number }).port;
}

async function client(port: number) {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const state = { text: '', error: undefined as string | undefined, closed: false };
  socket.on('data', (piece) => {
    state.text += piece;
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    state.error = error.code;
  });
  const closed = new Promise<void>((resolve) =>
    socket.on('close', () => {
      state.closed = true;
      resolve();
    }),
  );
  onTestFinished(() => void socket.destroy());
  // A connection that is refused may be reset before it is seen to be open.
  await Promise.race([new Promise((resolve) => socket.once('connect', resolve)), closed]);
  return { socket, state, closed };
}

async function proxied() {
  const proxy = await startProxy({ port: await shouting() });
  onTestFinished(() => proxy.stop());
  return proxy;
}

describe('The fault proxy', () => {
  test('passes bytes both ways, and half-closes', async () => {
    const proxy = await proxied();
    const { socket, state, closed } = await client(proxy.port);
    socket.write('hello');
    await expect.poll(() => state.text).toBe('HELLO');
    socket.end();
    await closed;
    expect(state).toMatchObject({ text: 'HELLOBYE', error: undefined });
    expect(proxy.forwarded).toEqual({ toServer: 5, toClient: 8 });
    await expect.poll(() => proxy.connections).toBe(0);
  });

  test('cut resets every connection; new ones go on', async () => {
    const proxy = await proxied();
    const first = await client(proxy.port);
    first.socket.write('a');
    await expect.poll(() => first.state.text).toBe('A');
    proxy.cut();
    await first.closed;
    expect(first.state.error).toBe('ECONNRESET');
    const second = await client(proxy.port);
    second.socket.write('b');
    await expect.poll(() => second.state.text).toBe('B');
  });

  test('pause holds bytes back until resume', async () => {
    const proxy = await proxied();
    const { socket, state } = await client(proxy.port);
    proxy.pause();
    socket.write('held');
    await sleep(150);
    expect(state).toMatchObject({ text: '', closed: false });
    proxy.resume();
    await expect.poll(() => state.text).toBe('HELD');
  });

  test('refuse resets new connections only', async () => {
    const proxy = await proxied();
    const old = await client(proxy.port);
    proxy.refuse(true);
    const fresh = await client(proxy.port);
    await fresh.closed;
    expect(fresh.state.error).toBe('ECONNRESET');
    old.socket.write('still');
    await expect.poll(() => old.state.text).toBe('STILL');
  });

  test('delay is felt in both directions', async () => {
    const proxy = await proxied();
    const { socket, state } = await client(proxy.port);
    proxy.delay(100);
    const start = performance.now();
    socket.write('late');
    await expect.poll(() => state.text, { interval: 5 }).toBe('LATE');
    expect(performance.now() - start).toBeGreaterThanOrEqual(195);
  });

  test('after so many bytes the action runs, and not one byte later passes before it', async () => {
    const proxy = await proxied();
    const { socket, state, closed } = await client(proxy.port);
    let runs = 0;
    proxy.afterBytes(6, () => {
      runs++;
      proxy.cut();
    });
    socket.write('four');
    await expect.poll(() => state.text).toBe('FOUR');
    socket.write('five and more');
    await closed;
    expect(proxy.forwarded.toServer).toBe(6);
    expect(runs).toBe(1);
  });
});
