/** Its argument is a file. One attempt at a chunk of an increment, or a whole run, in a process that a fault point stops or kills. */
import { readFileSync } from 'node:fs';
import type { Chunk, Work } from '../../connectors/contract.ts';
import { openTarget } from '../../connectors/mongodb/target.ts';
import type { Row } from '../../connectors/types.ts';
import { asGodwitError } from '../../errors.ts';
import { give, rowsOfAll } from './mongodb-works.ts';
import { writeOptions } from './target.ts';

export type ChildArgument = {
  readonly url: string;
  readonly work: Work;
  readonly chunk: Chunk;
  readonly rows: readonly Row[];
  /** Of a sweep chunk. */
  readonly keys: readonly string[];
  /** Completes and publishes too. */
  readonly whole: boolean;
};

if (process.argv[2] !== undefined) {
  const { url, work, chunk, rows, keys, whole } = JSON.parse(readFileSync(process.argv[2], 'utf8')) as ChildArgument;
  await using target = openTarget({ url });
  async function* vanished() {
    yield keys;
  }
  try {
    await target.prepare(work);
    const claim = await target.claim(work, chunk);
    if (!claim.done && chunk.kind === 'sweep') {
      await target.deleteKeys?.(work, claim, vanished(), new AbortController().signal);
    } else if (!claim.done) await target.write(work, claim, give(rowsOfAll(rows)), writeOptions());
    if (whole) {
      await target.finish(work);
      await target.publish([work], []);
    }
    console.log('done');
  } catch (error) {
    console.log(asGodwitError(error).code);
  }
}
