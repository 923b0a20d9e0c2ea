import type { Config } from '../config.ts';
import { GodwitError } from '../errors.ts';
import { answersAt, type Client, makeClient } from './client.ts';
import type { Output } from './output.ts';
import { readState } from './state.ts';

/** A way to the API for one command; disposing stops what was started for it. */
export type Reached = AsyncDisposable & {
  readonly client: Client;
  /** Set when Godwit runs inside this command. */
  readonly embedded: boolean;
};

type Options = { readonly config: Config; readonly out: Output; readonly env?: NodeJS.ProcessEnv };

/**
 * The API at GODWIT_URL; else at HOST and PORT where these are set; else the one that serves this GODWIT_HOME; else
 * everything embedded for as long as the command lasts.
 */
export async function reach({ config, out, env = process.env }: Options): Promise<Reached> {
  const found = await running(config, env);
  if (found !== undefined) {
    return { client: makeClient(found, config.token), embedded: false, [Symbol.asyncDispose]: async () => {} };
  }
  if (out.tty) out.say('Starting Godwit for this command …');
  const { startEmbedded } = await import('./embedded.ts');
  const started = await startEmbedded({
    config: { ...config, host: '127.0.0.1', port: 0 },
    kind: 'command',
    say: () => {},
  });
  return {
    client: makeClient(started.url, config.token),
    embedded: true,
    [Symbol.asyncDispose]: () => started.stop(),
  };
}

/** The address of an API that answers, or undefined. Throws when GODWIT_URL is set and silent. */
export async function running(config: Config, env: NodeJS.ProcessEnv = process.env): Promise<string | undefined> {
  if (config.url) {
    if (await answersAt(config.url, 5_000)) return config.url;
    throw new GodwitError('CONNECTION_FAILED', `The Godwit API at GODWIT_URL (${config.url}) does not answer.`);
  }
  if (env.HOST || env.PORT) {
    const url = `http://${reachable(config.host)}:${config.port}`;
    if (config.port !== 0 && (await answersAt(url))) return url;
  }
  const state = readState(config.home);
  if (state && (await answersAt(state.url, 5_000))) return state.url;
  return undefined;
}

/** An address to listen on as one to call. */
export const reachable = (host: string): string => {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
};
