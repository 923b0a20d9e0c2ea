import type { Check } from '../connectors/contract.ts';
import { openChannel } from '../db/settings.ts';
import { send } from '../notify/send.ts';
import { resolveReferences } from '../secrets/references.ts';
import type { Deps } from './deps.ts';
import { ours, storedFailure } from './failures.ts';

export type ChannelDeps = Pick<Deps, 'db' | 'sealer'> & {
  readonly config: Pick<Deps['config'], 'home' | 'given' | 'envAllow'>;
};

/** A channel of the settings with its secrets, wherever they are. Throws NOT_FOUND, SECRET_UNRESOLVED. */
export async function readyChannel(deps: ChannelDeps, name: string) {
  const { home, envAllow } = deps.config;
  const { type, settings, secrets } = await openChannel(deps.db, deps.sealer, { place: deps.config, name });
  return { type, settings: { ...settings, ...(await resolveReferences(secrets, { home, envAllow })) } };
}

/** Sends a message that says it is a test. */
export async function testChannel(deps: ChannelDeps, name: string): Promise<Check[]> {
  try {
    const { type, settings } = await readyChannel(deps, name);
    const message = {
      title: `✅ Godwit: test of the channel ${name}`,
      lines: [
        'Notifications of runs come to this place.',
        'Which ends of which jobs are told: `notify` in the mapping, or in the settings.',
      ],
    };
    await send(type, settings, { id: crypto.randomUUID(), event: 'test', message, data: {} });
    return [{ name: 'send', outcome: 'pass', detail: `A test message was taken by the channel ${name} (${type}).` }];
  } catch (error) {
    const { message, fix } = storedFailure(ours(error));
    return [{ name: 'send', outcome: 'fail', detail: message, ...(fix ? { fix } : {}) }];
  }
}
