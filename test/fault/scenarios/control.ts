import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { Installation } from '../installation.ts';
import { apply, chunksDone, newShop, over, runRow, start, story, tell, until } from '../job.ts';
import { leftovers } from '../leftovers.ts';
import { copySnapshots, query } from '../oracle.ts';
import { everywhere, withLake } from '../targets.ts';
import { report, verify } from '../verify.ts';
import { startWriter } from '../writer.ts';

const movingChunks = async (at: Installation, run: string): Promise<number> => {
  const moving = "SELECT FROM godwit.chunks WHERE run_id = $1 AND status = 'moving'";
  return (await query(at.metadata.url, moving, [run])).length;
};

export function control(at: () => Installation, rounds: number): void {
  test('two starts of one job at once: one runs, the other is refused or skipped, nothing is doubled', async () => {
    const here = at();
    const shop = await newShop(here, 'twice', { rows: 10_000 });
    await apply(here, shop.mapping);
    here.sourceProxy.delay(20);
    const both = await Promise.allSettled([start(here, shop.name), start(here, shop.name)]);
    here.sourceProxy.delay(0);
    const started = both.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    const refused = both.flatMap((one) => (one.status === 'rejected' ? [String(one.reason)] : []));
    for (const reason of refused) expect(reason).toContain('ALREADY_RUNNING');
    const ends = await Promise.all(started.map((run) => over(here, run.id, 90)));
    expect(ends.filter((end) => end.status === 'succeeded')).toHaveLength(1);
    for (const end of ends) expect(['succeeded', 'skipped']).toContain(end.status);
    const leases = await query(
      here.metadata.url,
      'SELECT FROM godwit.leases l JOIN godwit.jobs j ON j.id = l.job_id WHERE j.name = $1',
      [shop.name],
    );
    expect(leases).toEqual([]);
  });

  test('canceled at random times, paused or not: nothing is left behind', async () => {
    const here = at();
    const random = here.random.fork('cancel');
    const shop = await newShop(here, 'canceled', { rows: 20_000 });
    await using _writer = startWriter(shop.source, random.fork('writer'));
    await apply(here, everywhere(here, shop));
    here.sourceProxy.delay(30);
    try {
      for (let round = 0; round < rounds; round++) {
        const run = await start(here, shop.name);
        await sleep(random.between(0, 3_000));
        const paused = random.chance(0.5);
        if (paused) await tell(here, run.id, 'pause').catch(() => {});
        if (paused) await sleep(random.between(0, 1_000));
        await tell(here, run.id, 'cancel').catch(async (error) => {
          if (!['succeeded', 'canceled'].includes((await over(here, run.id, 60)).status)) throw error;
        });
        const end = await over(here, run.id, 60);
        expect(['canceled', 'succeeded'], await story(here, run.id)).toContain(end.status);
        const left = await leftovers(here, shop, run.id, withLake(here, shop));
        report(`cancel ${round + 1}`, { ended: end.status, leftovers: left.length });
        expect(left).toEqual([]);
      }
    } finally {
      here.sourceProxy.delay(0);
    }
  });

  test('paused and resumed at random times: nothing moves while paused, the copy is exact', async () => {
    const here = at();
    const random = here.random.fork('pause');
    const shop = await newShop(here, 'paused', { rows: 6_000 * rounds + 5_000 });
    await using writer = startWriter(shop.source, random.fork('writer'));
    await apply(here, everywhere(here, shop));
    here.sourceProxy.delay(40);
    const run = await start(here, shop.name);
    await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
    let pauses = 0;
    try {
      await copies.copied(1);
      for (let round = 0; round < rounds; round++) {
        await sleep(random.between(100, 800));
        const told = await tell(here, run.id, 'pause').then(
          () => true,
          () => false,
        );
        if (!told) break;
        pauses++;
        // A run whose last tables were just being published ends all the same.
        const ended = async () => (await runRow(here, run.id)).status === 'succeeded';
        const paused = async () => (await runRow(here, run.id)).status === 'paused';
        await until('it says paused', 20, async () => (await paused()) || (await ended()));
        await until('what was moving has ended', 30, async () => (await movingChunks(here, run.id)) === 0);
        const before = await chunksDone(here, run.id);
        await sleep(700);
        expect(await chunksDone(here, run.id)).toBe(before);
        await tell(here, run.id, 'resume').catch(async (error) => {
          if (!(await ended())) throw error;
        });
      }
      here.sourceProxy.delay(0);
      const end = await over(here, run.id, 90);
      expect(end.status, await story(here, run.id)).toBe('succeeded');
      const verdict = await verify(here, shop, run, copies, withLake(here, shop));
      report('pause and resume', { pauses, writes: writer.committed, ...verdict });
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0, byVersions: 0 });
      expect(pauses).toBeGreaterThan(0);
      expect(await leftovers(here, shop, run.id, withLake(here, shop))).toEqual([]);
    } finally {
      here.sourceProxy.delay(0);
    }
  });
}
