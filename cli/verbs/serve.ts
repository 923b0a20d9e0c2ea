import { GodwitError } from '../../errors.ts';
import type { Context } from '../context.ts';
import { exits } from '../exit.ts';
import { makeHome, removeState, writeState } from '../state.ts';
import { untilSignal } from '../until.ts';

/** A worker as a process of its own, until a signal; logs to stderr. */
export async function worker({ config, out }: Context): Promise<number> {
  if (!config.databaseUrl) throw needs('worker', 'DATABASE_URL');
  const { startWorker } = await import('../../worker/run.ts');
  await migrate(config.databaseUrl);
  const running = await startWorker(config);
  out.say(`The worker is ready: ${config.slots} chunks at once.`);
  await Promise.race([untilSignal(), running.ended]);
  await running.stop();
  return exits.succeeded;
}

async function migrate(url: string): Promise<void> {
  const { Database } = await import('../../db/open.ts');
  await using database = new Database(url, { max: 1 });
  await database.migrate();
}

const needs = (verb: string, variable: string): GodwitError =>
  Object.assign(
    new GodwitError('SETTINGS_INVALID', `\`godwit ${verb}\` is one part of an installation and needs ${variable}.`),
    {
      fix: `Set ${variable}; or run everything in one with \`godwit up\`.`,
    },
  );

/** The API as a process of its own, until a signal. */
export async function api({ config, out }: Context): Promise<number> {
  if (!config.databaseUrl) throw needs('api', 'DATABASE_URL');
  const [{ startApi }, { Database }] = await Promise.all([import('../../api/server.ts'), import('../../db/open.ts')]);
  await using database = new Database(config.databaseUrl, { name: 'godwit api' });
  await database.migrate();
  const running = await startApi({ config, database });
  makeHome(config.home);
  writeState(config.home, { pid: process.pid, kind: 'api', url: running.url, startedAt: new Date().toISOString() });
  out.say(`The API is ready: ${running.url} (docs at ${running.url}/api/docs).`);
  await untilSignal();
  removeState(config.home);
  await running.stop();
  return exits.succeeded;
}
