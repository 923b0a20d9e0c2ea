import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { FaultPoint } from '../../../faults.ts';
import { missing, sharedS3 } from '../../servers/shared.ts';
import type { Installation } from '../installation.ts';
import { apply, newShop, nothingLeft, over, type Shop, start, story, until } from '../job.ts';
import { keeperOf } from '../keeper.ts';
import { copySnapshots, type SnapshotCopies } from '../oracle.ts';
import { type Bucket, download, everywhere, withLake } from '../targets.ts';
import { report, verify } from '../verify.ts';
import { startWriter } from '../writer.ts';

const whileWriting: readonly FaultPoint[] = [
  'after-read',
  'before-commit',
  'between-checkpoint-and-commit',
  'after-commit',
  'before-answer',
];
const whilePublishing: readonly FaultPoint[] = ['in-swap', 'after-swap', 'before-manifest', 'in-publish'];

/** kill -9 of workers, to PostgreSQL, a local folder and a bucket at once. */
export async function kills(at: () => Installation, times: number): Promise<void> {
  const withBucket = !(await missing('s3'));
  const bucketOf = async (): Promise<Bucket | undefined> => (withBucket ? await sharedS3() : undefined);

  test('a worker killed at each point of writing a chunk: the copy is exact', async () => {
    const here = at();
    const shop = await newShop(here, 'points', { rows: 20_000 });
    const bucket = await bucketOf();
    await using writer = startWriter(shop.source, here.random.fork('points'));
    await apply(here, everywhere(here, shop, bucket));
    here.sourceProxy.delay(50);
    const before = here.workers.kills;
    const run = await start(here, shop.name);
    await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
    try {
      // The snapshot's keeper lives on: whatever is killed, all rows must be those of one moment.
      here.workers.spare(await keeperOf(here, run.id));
      for (const point of whileWriting) here.workers.arm(point, 'SIGKILL');
      await until('every point was reached', 150, () => whileWriting.every((point) => !here.workers.armed(point)));
      here.sourceProxy.delay(0);
      const figures = await exactly(here, shop, { run: run.id, copies, bucket, as: 'named points of writing' });
      expect(figures.byVersions).toBe(0);
    } finally {
      report('named points of writing', { kills: here.workers.kills - before, writes: writer.committed });
      here.workers.disarm();
      here.workers.spare(undefined);
      here.sourceProxy.delay(0);
    }
  });

  test(`a worker killed at each point of publishing, and ${times} kills at random times: nothing lost, doubled or changed`, async () => {
    const here = at();
    const random = here.random.fork('random kills');
    const shop = await newShop(here, 'kills');
    const bucket = await bucketOf();
    await using writer = startWriter(shop.source, random.fork('writer'));
    // Two jobs on one source: what is killed in the swap of one is not what is killed in the publication of the other.
    const { copy, ...files } = everywhere(here, shop, bucket).destination as { copy: object };
    const jobs = [
      { ...shop.mapping, name: 'kills', destination: { copy } },
      { ...shop.mapping, name: 'kills_files', destination: files },
    ];
    for (const job of jobs) await apply(here, job);
    const before = here.workers.kills;
    here.sourceProxy.delay(150);
    const runs = await Promise.all(jobs.map((job) => start(here, job.name)));
    await using watching = new AsyncDisposableStack();
    const watched = runs.map((run) => ({
      run,
      copies: watching.use(copySnapshots(here.metadata.url, shop.source, run.id)),
    }));
    const allDone = async () => (await Promise.all(runs.map((run) => nothingLeft(here, run.id)))).every((done) => done);
    try {
      for (const point of whilePublishing) here.workers.arm(point, 'SIGKILL');
      let killed = 0;
      while (killed < times && !(await allDone())) {
        await sleep(random.between(50, 2_500));
        if (here.workers.signal('SIGKILL') !== undefined) killed++;
      }
      here.sourceProxy.delay(0);
      await Promise.all(
        watched.map(({ run, copies }, i) =>
          exactly(here, shop, {
            run: run.id,
            copies,
            bucket: i === 1 ? bucket : undefined,
            as: `random kills, to ${i === 0 ? 'PostgreSQL' : 'files'}`,
          }),
        ),
      );
      expect(killed, 'kills before the runs were over').toBe(times);
      for (const point of whilePublishing) expect(here.workers.armed(point), point).toBe(false);
    } finally {
      report('random kills', { kills: here.workers.kills - before, writes: writer.committed });
      here.workers.disarm();
      here.sourceProxy.delay(0);
    }
  });
}

type Ended = {
  readonly run: string;
  readonly copies: SnapshotCopies;
  readonly bucket: Bucket | undefined;
  /** What its figures are reported under. */
  readonly as: string;
};

async function exactly(here: Installation, shop: Shop, { run, copies, bucket, as }: Ended) {
  const end = await over(here, run, 240);
  expect(end.status, await story(here, run)).toBe('succeeded');
  const downloaded = bucket ? await download(here, shop, bucket) : { places: {}, left: [] };
  const verdict = await verify(here, shop, { id: run }, copies, { ...withLake(here, shop), ...downloaded.places });
  report(as, { ...verdict, leftovers: downloaded.left.length });
  expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
  expect(downloaded.left).toEqual([]);
  return verdict;
}
