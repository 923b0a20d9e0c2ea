/** MongoDB's snapshots live minutes and in one session: a run reads chunk by chunk, each at its own moment. */
import type { Snapshot } from '../contract.ts';
import type { LazySession } from './session.ts';

/** `position`: the cluster time, where a change stream can start; empty on a single server. */
export async function openMoment(lazy: LazySession): Promise<Snapshot> {
  const facts = await lazy.read((session) => session.facts());
  const { promise: lost } = Promise.withResolvers<never>();
  return {
    token: '',
    position: facts.operationTime ?? '',
    takenAt: new Date(facts.now).toISOString(),
    consistency: 'chunk',
    lost,
    async [Symbol.asyncDispose]() {},
  };
}
