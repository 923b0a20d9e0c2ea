import type { Server } from 'node:http';
import { createServer } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import type { Client } from '@temporalio/client';
import pino, { type Logger } from 'pino';
import type { Config } from '../config.ts';
import type { Database } from '../db/open.ts';
import { checkSettings } from '../db/settings.ts';
import { GodwitError } from '../errors.ts';
import { createCodec } from '../secrets/codec.ts';
import { createHttpCodec } from '../secrets/http-codec.ts';
import { type Keyring, openKeyring } from '../secrets/keyring.ts';
import { createSealer } from '../secrets/seal.ts';
import { queues } from '../workflows/messages.ts';
import { createApp } from './app.ts';
import type { ApiDeps } from './deps.ts';
import { createClient } from './temporal.ts';
import { serveWebSockets } from './ws.ts';

export type ApiOptions = {
  readonly config: Pick<Config, 'host' | 'port' | 'token' | 'home' | 'given' | 'key' | 'temporal' | 'logLevel'>;
  /** Migrated already. The caller closes it. */
  readonly database: Database;
  /** Handed in where the process has them; else made, and closed with the API. */
  readonly keyring?: Keyring;
  readonly client?: Client;
  readonly queues?: ApiDeps['queues'];
  readonly log?: Logger;
  /** The codec endpoint for Temporal's UI: a path nobody can guess, and the UI's origin. */
  readonly codec?: { readonly path: string; readonly origin: string };
};

export type RunningApi = AsyncDisposable & {
  readonly url: string;
  readonly port: number;
  /** Takes no more requests, lets those in flight end (10 s), closes sockets. Idempotent. */
  stop(): Promise<void>;
};

const loopback = new Set(['127.0.0.1', 'localhost', '::1']);

/** Throws TOKEN_REQUIRED beyond loopback without a token, PORT_IN_USE. */
export async function startApi(options: ApiOptions): Promise<RunningApi> {
  const { config, database } = options;
  if (!loopback.has(config.host) && !config.token) {
    throw new GodwitError('TOKEN_REQUIRED', `The API shall listen on ${config.host}, which others can reach.`);
  }
  checkSettings(config);
  const keyring = options.keyring ?? openKeyring(config);
  const { address, namespace } = config.temporal;
  const client = options.client ?? createClient({ keyring, namespace, ...(address ? { address } : {}) });
  const { codec } = options;
  const deps: ApiDeps = {
    database,
    client,
    sealer: createSealer(keyring),
    queues: options.queues ?? queues,
    settings: config,
    log: options.log ?? pino({ level: config.logLevel, name: 'api' }),
    ...(config.token ? { token: config.token } : {}),
    ...(codec ? { codec: { ...codec, handle: createHttpCodec(createCodec(keyring), codec.origin) } } : {}),
  };
  const app = createApp(deps);
  const server = createServer({ requestTimeout: 120_000, headersTimeout: 20_000 }, getRequestListener(app.fetch));
  const sockets = serveWebSockets(server, deps);
  try {
    await listen(server, config);
  } catch (error) {
    await sockets[Symbol.asyncDispose]();
    throw error;
  }
  const bound = server.address();
  const port = typeof bound === 'object' && bound ? bound.port : config.port;
  const shown = config.host.includes(':') ? `[${config.host}]` : config.host;
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= (async () => {
      await sockets[Symbol.asyncDispose]();
      await close(server);
      if (!options.client) await client.connection.close();
    })();
    return stopped;
  };
  return { url: `http://${shown}:${port}`, port, stop, [Symbol.asyncDispose]: stop };
}

function listen(server: Server, { host, port }: ApiOptions['config']): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') {
        const used = new GodwitError('PORT_IN_USE', `Port ${port} of ${host} is used by another program.`);
        reject(Object.assign(used, { fix: `Stop it, or start with another port: PORT=${port + 1}.` }));
      } else if (error.code === 'EACCES') {
        reject(new GodwitError('PORT_IN_USE', `This user may not listen on port ${port} of ${host}.`));
      } else reject(new GodwitError('SETTINGS_INVALID', `Cannot listen on ${host}:${port}: ${error.message}`));
    });
    server.listen(port, host, () => resolve());
  });
}

async function close(server: Server): Promise<void> {
  const gone = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const late = setTimeout(() => server.closeAllConnections(), 10_000);
  await gone;
  clearTimeout(late);
}
