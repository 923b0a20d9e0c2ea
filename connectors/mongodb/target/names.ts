/**
 * Names on the target. All that is Godwit's begins with `_godwit.` in the database written to. Names of collections on
 * their way are never used twice: `life` is made anew whenever a work begins from nothing, and `turn` whenever somebody
 * takes over to complete, publish or discard it. So whoever was overtaken has a name in his hand that means nothing.
 */
import { createHash } from 'node:crypto';
import type { Work } from '../../contract.ts';

export const ledgerNames = {
  owner: '_godwit.owner',
  work: '_godwit.work',
  chunk: '_godwit.chunk',
  snapshot: '_godwit.snapshot',
  intent: '_godwit.intent',
} as const;

export const hashOf = (work: Work): string =>
  createHash('sha256')
    .update(
      JSON.stringify([
        work.installation,
        work.jobUid,
        work.target,
        work.run,
        work.name.schema,
        work.name.name,
        work.generation,
      ]),
    )
    .digest('hex')
    .slice(0, 20);

/** Of all collections of a work, whatever its life; of all works without a hash. */
export const stagingPrefix = (hash: string): string => (hash === '' ? '_godwit.t_' : `_godwit.t_${hash}_`);

/** The work a collection on its way belongs to. */
export const hashIn = (name: string): string => name.slice(stagingPrefix('').length).split('_')[0] ?? '';

/** Receives the rows of first attempts. */
export const stagingOf = (hash: string, life: string): string => `${stagingPrefix(hash)}${life}`;

/** Receives the rows of a later attempt at a chunk. */
export const asideOf = (staging: string, chunk: number, epoch: number): string => `${staging}_c${chunk}_e${epoch}`;

/** The same collection as `staging`, in the hands of who completes or publishes it. */
export const turnOf = (staging: string, turn: number): string => (turn === 0 ? staging : `${staging}_t${turn}`);

/** Which turn a name is of, if it is one of this staging's. */
export function turnIn(staging: string, name: string): number | undefined {
  if (name === staging) return 0;
  if (!name.startsWith(`${staging}_t`)) return undefined;
  const turn = name.slice(staging.length + 2);
  return /^\d+$/.test(turn) ? Number(turn) : undefined;
}
