/** Its argument is a file. Run by the fence and crash tests: one attempt at a chunk, or a whole run, in a process that a fault point stops or kills. */
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
  readonly chunks: readonly { readonly chunk: Chunk; readonly rows: readonly Row[] }[];
  /** Completes and publishes too. */
  readonly whole: boolean;
};

if (process.argv[2] !== undefined) {
  const { url, work, chunks, whole } = JSON.parse(readFileSync(process.argv[2], 'utf8')) as ChildArgument;
  await using target = openTarget({ url });
  try {
    await target.prepare(work);
    for (const { chunk, rows } of chunks) {
      const claim = await target.claim(work, chunk);
      if (!claim.done) await target.write(work, claim, give(rowsOfAll(rows)), writeOptions());
    }
    if (whole) {
      await target.finish(work);
      await target.publish([work], []);
    }
    console.log('done');
  } catch (error) {
    console.log(asGodwitError(error).code);
  }
}
