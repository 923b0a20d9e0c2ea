/** Its argument is a file. Run by the fault tests: an increment in a process that a fault point stops or kills. */
import { readFileSync } from 'node:fs';
import type { Work } from '../../connectors/contract.ts';
import { openTarget } from '../../connectors/postgres/target.ts';
import type { Row } from '../../connectors/types.ts';
import { asGodwitError } from '../../errors.ts';
import { give } from './postgres-works.ts';
import { chunk, writeOptions } from './target.ts';

export type ChildArgument = {
  readonly url: string;
  readonly work: Work;
  readonly chunks: readonly (readonly Row[])[];
  /** Keys of a sweep after the chunks. */
  readonly vanished: readonly string[];
};

async function* keysOf(keys: readonly string[]) {
  yield keys;
}

if (process.argv[2] !== undefined) {
  const { url, work, chunks, vanished } = JSON.parse(readFileSync(process.argv[2], 'utf8')) as ChildArgument;
  await using target = openTarget({ url });
  try {
    await target.prepare(work);
    for (const [i, rows] of chunks.entries()) {
      const claim = await target.claim(work, chunk(i + 1));
      if (!claim.done) await target.write(work, claim, give([{ kind: 'rows', rows }]), writeOptions());
    }
    const sweep = await target.claim(work, { id: chunks.length + 1, kind: 'sweep', bounds: {}, rows: 0 });
    if (!sweep.done) await target.deleteKeys?.(work, sweep, keysOf(vanished), new AbortController().signal);
    await target.finish(work);
    await target.publish([work], []);
    console.log('done');
  } catch (error) {
    console.log(asGodwitError(error).code);
  }
}
