/** MongoDB's snapshots live minutes and in one session: a run reads chunk by chunk, each at its own moment. */
import type { Snapshot } from '../contract.ts';
import type { LazySession } from './session.ts';

/** Milliseconds, as ISO 8601 with microseconds. */
export const clockText = (ms: number): string => new Date(ms).toISOString().replace('Z', '000Z');

/** `position`: the cluster time, where a change stream can start; empty on a single server. */
export async function openMoment(lazy: LazySession): Promise<Snapshot> {
  const facts = await lazy.read((session) => session.facts());
  const { promise: lost } = Promise.withResolvers<never>();
  return {
    token: '',
    position: facts.operationTime ?? '',
    takenAt: clockText(facts.now),
    consistency: 'chunk',
    lost,
    async [Symbol.asyncDispose]() {},
  };
}
