/** Names on the way: short, of one hash, so that names of 63 bytes, in mixed case or reserved never meet. */
import { createHash } from 'node:crypto';
import { swapsIn, type TableName, type Work } from '../../contract.ts';

/** The schema that holds what Godwit must remember on a target, and tables on their way. */
export const ledgerSchema = '_godwit';

export const hashOf = (work: Work): string =>
  createHash('sha256')
    .update(JSON.stringify(keyOf(work)))
    .digest('hex')
    .slice(0, 20);

/** What a unit of work is known by on the target; the order of the columns in every table of the ledger. */
export const keyOf = (work: Work): readonly [string, string, string, string, string, string, number] => [
  work.installation,
  work.jobUid,
  work.target,
  work.run,
  work.name.schema,
  work.name.name,
  work.generation,
];

export const stagingOf = (work: Work): TableName => ({ schema: ledgerSchema, name: `t_${hashOf(work)}` });
export const indexName = (work: Work, n: number): string => `i_${hashOf(work)}_${n}`;
export const sequenceName = (work: Work, n: number): string => `q_${hashOf(work)}_${n}`;

/** Where the rows go: dumping and increments go into the final table, a load fills a staging. */
export const receiverOf = (work: Work): TableName => (swapsIn(work) ? stagingOf(work) : work.name);

/** Cut to the server's 63 bytes at a character, with room for an ending. */
export function shortened(name: string, ending: string): string {
  let kept = name;
  while (Buffer.byteLength(kept) + Buffer.byteLength(ending) > 63) kept = [...kept].slice(0, -1).join('');
  return kept + ending;
}
