import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { Installation } from '../installation.ts';
import { apply, newShop, nothingLeft, over, start, story } from '../job.ts';
import { copySnapshots } from '../oracle.ts';
import { both, lakeOf } from '../targets.ts';
import { report, verify } from '../verify.ts';
import { startWriter } from '../writer.ts';

/** SIGTERM again and again, and a worker that sleeps past its heartbeat and wakes up in the midst of the others' work. */
export function signals(at: () => Installation): void {
  test('workers told to stop, and one stopped past its heartbeat and continued: nothing lost, doubled or changed', async () => {
    const here = at();
    const random = here.random.fork('signals');
    const shop = await newShop(here, 'signals');
    await using writer = startWriter(shop.source, random.fork('writer'));
    await apply(here, both(here, shop));
    here.sourceProxy.delay(150);
    const run = await start(here, shop.name);
    await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
    let asleep: number | undefined;
    let terms = 0;
    try {
      await copies.copied(1);
      await sleep(random.between(200, 800));
      asleep = here.workers.signal('SIGSTOP');
      for (const began = Date.now(); Date.now() - began < 18_000; ) {
        await sleep(random.between(1_500, 4_000));
        const awake = here.workers.pids().filter((pid) => pid !== asleep);
        if (here.workers.signal('SIGTERM', random.pick(awake)) !== undefined) terms++;
        if (await nothingLeft(here, run.id)) break;
      }
      here.workers.signal('SIGCONT', asleep);
      here.sourceProxy.delay(0);
      const end = await over(here, run.id, 150);
      expect(end.status, await story(here, run.id)).toBe('succeeded');
      const verdict = await verify(here, shop, run, copies, lakeOf(here, shop));
      report('signals', { stopped: 1, terms, writes: writer.committed, ...verdict });
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
    } finally {
      if (asleep !== undefined) here.workers.signal('SIGCONT', asleep);
      here.sourceProxy.delay(0);
    }
  });
}
