import type { Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { z } from '@hono/zod-openapi';
import { type WebSocket, WebSocketServer } from 'ws';
import { GodwitError } from '../errors.ts';
import type { ApiDeps } from './deps.ts';
import { Feed } from './feed.ts';
import { judgeUpgrade } from './guard.ts';
import { problemOf, strict } from './problem.ts';

const said = z.discriminatedUnion('type', [
  strict({ type: z.literal('subscribe'), run: z.union([z.uuid(), z.literal('all')]) }),
  strict({ type: z.literal('unsubscribe'), run: z.union([z.uuid(), z.literal('all')]) }),
]);

/** A listener that does not read is dropped before it costs memory; it comes back and asks the API what it missed. */
const mostBuffered = 4 * 1024 * 1024;
const mostRuns = 100;

/**
 * `/ws`: `{"type":"subscribe","run":"<id>"|"all"}` → `{"type":"subscribed"}`, then `run`, `table` and `event` messages
 * with the same shapes as the API's. Dispose closes every socket.
 */
export function serveWebSockets(server: Server, deps: ApiDeps): AsyncDisposable {
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: 64 * 1024,
    handleProtocols: (protocols) => protocols.values().next().value ?? false,
  });
  const feed = new Feed(deps);
  const upgrade = (request: Parameters<typeof judgeUpgrade>[0], socket: Duplex, head: Buffer) => {
    socket.on('error', () => {});
    const path = new URL(request.url ?? '/', 'http://here').pathname;
    const refusal =
      path === '/ws' ? judgeUpgrade(request, deps.token) : new GodwitError('NOT_FOUND', 'WebSockets are at /ws.');
    if (refusal) {
      const problem = problemOf(refusal);
      const text = JSON.stringify(problem);
      const head = `HTTP/1.1 ${problem.status} ${problem.code}\r\ncontent-type: application/problem+json`;
      socket.end(`${head}\r\ncontent-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (client) => converse(client, feed));
  };
  server.on('upgrade', upgrade);
  const beat = setInterval(() => {
    for (const client of sockets.clients) {
      if (silent.has(client)) client.terminate();
      silent.add(client);
      client.ping();
    }
  }, 30_000);
  beat.unref();
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(beat);
      server.off('upgrade', upgrade);
      for (const client of sockets.clients) client.close(1001, 'Godwit stops');
      await feed[Symbol.asyncDispose]();
      for (const client of sockets.clients) client.terminate();
      sockets.close();
    },
  };
}

/** Sockets that have not answered since the last ping. */
const silent = new WeakSet<WebSocket>();

function converse(client: WebSocket, feed: Feed): void {
  const runs = new Set<string>();
  let leave: (() => void) | undefined;
  const send = (message: object) => {
    if (client.readyState !== client.OPEN) return;
    if (client.bufferedAmount > mostBuffered) client.close(1013, 'Too slow: connect again');
    else client.send(JSON.stringify(message));
  };
  client.on('pong', () => silent.delete(client));
  client.on('error', () => client.terminate());
  client.on('close', () => leave?.());
  client.on('message', (data) => {
    silent.delete(client);
    const wish = readWish(String(data));
    if (wish instanceof GodwitError) return send({ type: 'problem', ...problemOf(wish) });
    if (wish.type === 'unsubscribe') runs.delete(wish.run);
    else if (runs.size >= mostRuns) {
      const error = new GodwitError('USAGE', `One socket takes ${mostRuns} runs; subscribe to "all".`);
      return send({ type: 'problem', ...problemOf(error) });
    } else runs.add(wish.run);
    leave ??= feed.listen((message) => {
      if (runs.has('all') || runs.has(message.run)) send(message);
    });
    send({ type: `${wish.type}d`, run: wish.run });
  });
}

function readWish(text: string): z.infer<typeof said> | GodwitError {
  try {
    const parsed = said.safeParse(JSON.parse(text));
    if (parsed.success) return parsed.data;
    return new GodwitError('USAGE', parsed.error.issues.map((issue) => issue.message).join('; '));
  } catch {
    return new GodwitError('USAGE', 'The message is no JSON.');
  }
}
