import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Batch, Chunk, Claim, Counts, FileBatch, Target, Work, WriteOptions } from '../../connectors/contract.ts';

/** A Work as the planner makes it, of a table of two columns. */
export function fileWork(given: Partial<Work> = {}): Work {
  const name = given.name ?? { schema: 'shop', name: 'orders' };
  const type = { kind: 'int64' } as const;
  const plain = { shape: 'native', nullable: true, fit: 'exact', misfit: 'stop' } as const;
  return {
    installation: 'test',
    jobUid: 'job-1',
    run: randomUUID(),
    target: 'lake',
    mode: 'replace',
    source: {
      system: 'postgres',
      name,
      kind: 'table',
      columns: [{ name: 'id', type, native: 'bigint', nullable: true }],
      key: ['id'],
      rows: 10,
      bytes: 100,
      references: [],
      fingerprint: 'x',
    },
    name,
    columns: [{ from: 'id', name: 'id', type, native: 'BIGINT', ...plain }],
    key: ['id'],
    generation: 1,
    existing: 'refuse',
    swap: 'rename',
    lane: 'columnar',
    readFormat: 'csv',
    writeFormat: 'ndjson',
    ...given,
  };
}

export const chunk = (id: number): Chunk => ({ id, kind: 'keys', bounds: null, rows: 10 });

export const writeOptions = (signal = new AbortController().signal): WriteOptions => ({
  signal,
  quarantine: async () => {},
});

let made = 0;
/** Part files with that content in a folder that stands for the spool. */
export async function* fileParts(
  folder: string,
  contents: readonly (string | Buffer)[],
  partition = '',
): AsyncGenerator<Batch> {
  for (const content of contents) {
    const path = join(folder, `spooled-${made++}`, 'part');
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
    const bytes = Buffer.byteLength(content);
    const rows = typeof content === 'string' ? content.split('\n').length - 1 : 1;
    yield { kind: 'file', path, partition, rows, bytes } satisfies FileBatch;
  }
}

type Writing = {
  readonly folder: string;
  readonly contents: readonly (string | Buffer)[];
  readonly partition?: string;
};
export const writeParts = (target: Target, work: Work, claim: Claim, given: Writing): Promise<Counts> =>
  target.write(work, claim, fileParts(given.folder, given.contents, given.partition), writeOptions());

/** One run from beginning to end: a chunk per content. */
export async function wholeRun(target: Target, work: Work, folder: string, contents: readonly string[]): Promise<void> {
  await target.prepare(work);
  for (const [i, content] of contents.entries()) {
    const claim = await target.claim(work, chunk(i + 1));
    if (!claim.done) await writeParts(target, work, claim, { folder, contents: [content] });
  }
  await target.finish(work);
  await target.publish([work], []);
}
