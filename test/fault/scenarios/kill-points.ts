import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { FaultPoint } from '../../../faults.ts';
import type { Installation } from '../installation.ts';
import { apply, newShop, nothingLeft, over, runTables, start, story, until } from '../job.ts';
import { keeperOf } from '../keeper.ts';
import { copySnapshots } from '../oracle.ts';
import { both, lakeOf } from '../targets.ts';
import { report, verify } from '../verify.ts';
import { startWriter } from '../writer.ts';

const whileWriting: readonly FaultPoint[] = [
  'after-read',
  'before-commit',
  'between-checkpoint-and-commit',
  'after-commit',
];
const whilePublishing: readonly FaultPoint[] = ['in-swap', 'after-swap', 'before-manifest', 'in-publish'];

/** Every named point once, by kill -9, while the snapshot's keeper lives: the copy must be exact. */
export function killPoints(at: () => Installation): void {
  test('a worker killed at each named point, to PostgreSQL and to files: nothing lost, doubled or changed', async () => {
    const here = at();
    const shop = await newShop(here, 'points');
    await using writer = startWriter(shop.source, here.random.fork('points'));
    await apply(here, both(here, shop));
    here.sourceProxy.delay(15);
    const before = here.workers.kills;
    const run = await start(here, shop.name);
    await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
    try {
      here.workers.spare(await keeperOf(here, run.id));
      for (const point of whileWriting) here.workers.arm(point, 'SIGKILL');
      await until('every point of writing was reached', 120, () =>
        whileWriting.every((one) => !here.workers.armed(one)),
      );
      expect(await copies.copied(1)).toBe(true);
      // The keeper's worker may be the one that publishes. Once all chunks are done nobody needs the snapshot.
      for (const point of whilePublishing) here.workers.arm(point, 'SIGKILL');
      await until('all chunks are done', 120, async () =>
        (await runTables(here, run.id)).every(
          (table) => table.chunks_total > 0 && table.chunks_done === table.chunks_total,
        ),
      );
      here.workers.spare(undefined);
      here.sourceProxy.delay(0);
      const end = await over(here, run.id, 200);
      expect(end.status, await story(here, run.id)).toBe('succeeded');
      for (const point of [...whileWriting, ...whilePublishing]) expect(here.workers.armed(point), point).toBe(false);
      const verdict = await verify(here, shop, run, copies, lakeOf(here, shop));
      report('named points', { kills: here.workers.kills - before, writes: writer.committed, ...verdict });
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0, byVersions: 0 });
    } finally {
      here.workers.disarm();
      here.workers.spare(undefined);
      here.sourceProxy.delay(0);
    }
  });
}

/** kill -9 of any worker at random times, the keeper's too; then tables with keys go on chunk by chunk. */
export function randomKills(at: () => Installation, kills: number): void {
  test(`${kills} kills at random times in one run: nothing lost, doubled or changed`, async () => {
    const here = at();
    const random = here.random.fork('random kills');
    const shop = await newShop(here, 'kills');
    await using writer = startWriter(shop.source, random.fork('writer'));
    await apply(here, both(here, shop));
    const before = here.workers.kills;
    here.sourceProxy.delay(150);
    const run = await start(here, shop.name);
    await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
    try {
      let late = false;
      for (let killed = 0; killed < kills; ) {
        await sleep(random.between(50, 2_500));
        if (await nothingLeft(here, run.id)) {
          late = true;
          break;
        }
        if (here.workers.signal('SIGKILL') !== undefined) killed++;
      }
      here.sourceProxy.delay(0);
      const end = await over(here, run.id, 240);
      expect(end.status, await story(here, run.id)).toBe('succeeded');
      const verdict = await verify(here, shop, run, copies, lakeOf(here, shop));
      report('random kills', { kills: here.workers.kills - before, writes: writer.committed, ...verdict });
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
      expect(late, 'the run was over before all kills').toBe(false);
    } finally {
      here.sourceProxy.delay(0);
    }
  });
}
