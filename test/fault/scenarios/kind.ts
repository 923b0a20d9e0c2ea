import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { Installation } from '../installation.ts';
import { apply, chunksDone, nothingLeft, over, shopTo, start, story, tell, until } from '../job.ts';
import { keeperOf } from '../keeper.ts';
import type { Kind, Running } from '../kinds/kind.ts';
import { leftovers } from '../leftovers.ts';
import { copySnapshots } from '../oracle.ts';
import { interruptions, killsInOneRun, rowsTowardsKind } from '../settings.ts';
import { report, verify } from '../verify.ts';
import { startWriter } from '../writer.ts';
import { sleepersRows, stalePromise, staleWriters } from './fence.ts';
import { mutantPromise, withoutFence } from './mutation.ts';

type Here = () => { readonly installation: Installation; readonly target: Running };

/** What is asked of every kind of target, by workers of the project. */
export function faultsTowards(kind: Kind, at: Here): void {
  const times = killsInOneRun;

  test(`a worker killed at each named point, the server disturbed in mid-write, ${times} kills at random times: nothing lost, doubled or changed`, async () => {
    const { installation: here, target } = at();
    const random = here.random.fork(`${kind.name} kills`);
    const shop = await shopTo(here, `${kind.name}_kills`, await target.place('kills'), rowsTowardsKind);
    await using writer = startWriter(shop.source, random.fork('writer'));
    await apply(here, shop.mapping);
    const before = here.workers.kills;
    let disturbed = 0;
    here.sourceProxy.delay(60);
    const run = await start(here, shop.name);
    await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
    try {
      // Until the points of writing are behind, all rows are those of one moment.
      here.workers.spare(await keeperOf(here, run.id));
      for (const point of [...kind.writing, ...kind.publishing]) here.workers.arm(point, 'SIGKILL');
      await until('every point of writing was reached', 150, () =>
        kind.writing.every((point) => !here.workers.armed(point)),
      );
      for (const { make } of target.disturbances) {
        await make();
        disturbed++;
        await sleep(random.between(300, 1_000));
      }
      expect(await nothingLeft(here, run.id), 'the run was over before the server was disturbed').toBe(false);
      here.workers.spare(undefined);
      let killed = 0;
      while (killed < times && !(await nothingLeft(here, run.id))) {
        await sleep(random.between(50, 1_500));
        if (here.workers.signal('SIGKILL') !== undefined) killed++;
      }
      here.sourceProxy.delay(0);
      const end = await over(here, run.id, 240);
      expect(end.status, await story(here, run.id)).toBe('succeeded');
      for (const point of kind.publishing) expect(here.workers.armed(point), `${point} was not reached`).toBe(false);
      const verdict = await verify(here, shop, run, copies);
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
      expect(killed, 'kills before the run was over').toBe(times);
      const left = await leftovers(here, shop, run.id);
      const kills = here.workers.kills - before;
      report(`to ${kind.name}`, {
        kills,
        faults: disturbed,
        writes: writer.committed,
        ...verdict,
        leftovers: left.length,
      });
      expect(left).toEqual([]);
    } finally {
      here.workers.disarm();
      here.workers.spare(undefined);
      here.sourceProxy.delay(0);
    }
  });

  test(stalePromise, async () => {
    const { installation: here, target } = at();
    await staleWriters(here, kind.writing, async (name) =>
      shopTo(here, `${kind.name}_${name}`, await target.place(name), sleepersRows),
    );
  });
}

export function cancelsTowards(kind: Kind, at: Here): void {
  test('canceled at random times: nothing is left behind', async () => {
    const { installation: here, target } = at();
    const random = here.random.fork(`${kind.name} cancel`);
    const shop = await shopTo(here, `${kind.name}_canceled`, await target.place('canceled'), 10_000);
    await apply(here, shop.mapping);
    here.sourceProxy.delay(30);
    try {
      for (let round = 1; round <= interruptions; round++) {
        const run = await start(here, shop.name);
        await until('something was written', 60, async () => (await chunksDone(here, run.id)) > 0);
        await sleep(random.between(0, 500));
        await tell(here, run.id, 'cancel').catch(async (error) => {
          if (!['succeeded', 'canceled'].includes((await over(here, run.id, 60)).status)) throw error;
        });
        const end = await over(here, run.id, 60);
        expect(['canceled', 'succeeded'], await story(here, run.id)).toContain(end.status);
        const left = await leftovers(here, shop, run.id);
        report(`${kind.name}, cancel ${round}`, { ended: end.status, leftovers: left.length });
        expect(left).toEqual([]);
      }
    } finally {
      here.sourceProxy.delay(0);
    }
  });
}

/** Comes last: its workers are not those of the project. */
export function mutantTowards(kind: Kind, at: Here): void {
  test(mutantPromise, async () => {
    const { installation: here, target } = at();
    await withoutFence(here, kind, async (name) =>
      shopTo(here, `${kind.name}_${name}`, await target.place(name), sleepersRows),
    );
  });
}
