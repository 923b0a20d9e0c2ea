import { join } from 'node:path';
import { type Logger, pino } from 'pino';
import type { Config } from '../config.ts';
import { asGodwitError, type GodwitError } from '../errors.ts';
import { reachable } from './reach.ts';

export type Parts = {
  /** Of the API, as one calls it. */
  readonly url: string;
  /** Settles with the reason when the worker ends by itself. */
  readonly broken: Promise<GodwitError>;
};

type Codec = { readonly path: string; readonly uiUrl?: string };

/** Worker and API in this process, over a database that is migrated. What was started is pushed on `stops`. */
export async function startParts(config: Config, codec: Codec, stops: (() => unknown)[]): Promise<Parts> {
  const log = fileLog(config);
  const [{ startWorker }, { startApi }, { Database }] = await Promise.all([
    import('../worker/run.ts'),
    import('../api/server.ts'),
    import('../db/open.ts'),
  ]);
  const starting = startWorker(config, { log });
  const database = new Database(config.databaseUrl as string, { name: 'godwit api' });
  stops.push(() => database[Symbol.asyncDispose]());
  const results = await Promise.allSettled([
    starting.then((worker) => {
      stops.push(() => worker.stop());
      return worker;
    }),
    startApi({
      config,
      database,
      log,
      ...(codec.uiUrl ? { codec: { path: codec.path, origin: codec.uiUrl } } : {}),
    }).then((api) => {
      stops.push(() => api.stop());
      return api;
    }),
  ]);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  const [worker, api] = results as [
    PromiseFulfilledResult<Awaited<typeof starting>>,
    PromiseFulfilledResult<{ port: number }>,
  ];
  const broken = new Promise<GodwitError>((resolve) => {
    worker.value.ended.catch((error) => resolve(asGodwitError(error)));
  });
  return { url: `http://${reachable(config.host)}:${api.value.port}`, broken };
}

/** What the parts say goes to a file: the terminal is for the person at it. */
const fileLog = ({ home, logLevel }: Config): Logger => {
  const dest = join(home, 'logs', 'godwit.log');
  return pino({ level: logLevel, name: 'godwit' }, pino.destination({ dest, mkdir: true, sync: false }));
};
