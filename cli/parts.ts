import { join } from 'node:path';
import { type Logger, pino } from 'pino';
import type { Config } from '../config.ts';
import { asGodwitError, type GodwitError } from '../errors.ts';

export type Parts = {
  readonly url: string;
  /** Settles with the reason when the worker ends by itself. */
  readonly broken: Promise<GodwitError>;
};

type Codec = { readonly path: string; readonly uiUrl?: string };

/** Worker and API in this process, over a database that is migrated. */
export async function startParts(config: Config, codec: Codec, stops: (() => unknown)[]): Promise<Parts> {
  const log = fileLog(config);
  const [{ startWorker }] = await Promise.all([import('../worker/run.ts')]);
  const worker = await startWorker(config, { log });
  stops.push(() => worker.stop());
  const broken = new Promise<GodwitError>((resolve) => {
    worker.ended.catch((error) => resolve(asGodwitError(error)));
  });
  return { url: 'none', broken };
}

/** What the parts say goes to a file: the terminal is for the person at it. */
const fileLog = ({ home, logLevel }: Config): Logger =>
  pino(
    { level: logLevel, name: 'godwit' },
    pino.destination({ dest: join(home, 'logs', 'godwit.log'), mkdir: true, sync: false }),
  );
