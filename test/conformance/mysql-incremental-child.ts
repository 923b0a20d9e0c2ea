/** Its argument is a file. Run by the crash tests: a run of one table in a process that a fault point kills. */
import { readFileSync } from 'node:fs';
import type { KeyBatch, Work } from '../../connectors/contract.ts';
import { openTarget } from '../../connectors/mysql/target.ts';
import type { Row } from '../../connectors/types.ts';
import { batchesOf } from './mysql-works.ts';
import { chunk, writeOptions } from './target.ts';

export type ChildArgument = {
  readonly url: string;
  readonly work: Work;
  readonly rows: readonly Row[];
  /** Of rows that vanished. */
  readonly keys: readonly string[];
};

async function* given(keys: KeyBatch): AsyncGenerator<KeyBatch> {
  if (keys.length > 0) yield keys;
}

if (process.argv[2] !== undefined) {
  const { url, work, rows, keys } = JSON.parse(readFileSync(process.argv[2], 'utf8')) as ChildArgument;
  await using target = openTarget({ url });
  await target.prepare(work);
  const claim = await target.claim(work, chunk(1));
  if (!claim.done) await target.write(work, claim, batchesOf('pg-text', rows), writeOptions());
  if (keys.length > 0) {
    const sweep = await target.claim(work, { id: 2, kind: 'sweep', bounds: {}, rows: 0 });
    if (!sweep.done) await target.deleteKeys?.(work, sweep, given(keys), new AbortController().signal);
  }
  await target.finish(work);
  await target.publish([work], []);
}
