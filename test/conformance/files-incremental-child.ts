/** Run by the crash tests: one increment, or one compaction, in a process that a fault point kills. */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openTarget } from '../../connectors/files/target.ts';
import { openDuckDb } from '../../transforms/duckdb.ts';
import { rowsToParts } from '../../transforms/rows.ts';
import { chunk, writeOptions } from './files-fixture.ts';

const { settings, work, chunks, tidy, root } = JSON.parse(process.argv[2] as string);
const folder = await mkdtemp(join(tmpdir(), 'godwit-files-child-'));
const { signal } = new AbortController();
await using target = await openTarget(settings, { fileRoots: [root], spool: join(folder, 'target') });
if (tidy) {
  await target.tidy?.(work, signal);
} else {
  const spool = join(folder, 'spool');
  await using duckdb = await openDuckDb({ spool, memoryBytes: 100 * 1024 * 1024 });
  await target.prepare(work);
  for (const [i, rows] of chunks.entries()) {
    const claim = await target.claim(work, chunk(i + 1));
    if (claim.done) continue;
    async function* batches() {
      yield { kind: 'rows' as const, rows };
    }
    await target.write(work, claim, rowsToParts(batches(), work, { spool, duckdb, signal }), writeOptions());
  }
  await target.finish(work);
  await target.publish([work], []);
}
