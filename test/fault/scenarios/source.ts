import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { FaultPoint } from '../../../faults.ts';
import type { Installation } from '../installation.ts';
import { apply, chunksDone, nothingLeft, over, runTables, start, story, until } from '../job.ts';
import { leftovers } from '../leftovers.ts';
import { killsInOneRun, rowsTowardsKind } from '../settings.ts';
import type { SourceKind } from '../sources/source.ts';
import { report, verify } from '../verify.ts';

const points: readonly FaultPoint[] = ['after-read', 'before-commit', 'between-checkpoint-and-commit', 'after-commit'];

/** Each chunk reads its own moment: every row must be one that was committed, and what nobody touched must be there, once. */
export function faultsFrom(kind: SourceKind, at: () => Installation): void {
  test(`${kind.name}, changed all the while, to PostgreSQL: workers killed, the source disturbed in mid-read: each row is a committed version, none lost or doubled`, async () => {
    const here = at();
    const random = here.random.fork(`from ${kind.name}`);
    await using source = await kind.start(here, rowsTowardsKind);
    const { shop } = source;
    await using writer = source.write(random.fork('writer'));
    await apply(here, shop.mapping);
    const before = here.workers.kills;
    let disturbed = 0;
    source.delay(60);
    try {
      const run = await start(here, shop.name);
      for (const point of points) here.workers.arm(point, 'SIGKILL');
      await until('some chunks are done', 90, async () => (await chunksDone(here, run.id)) >= 2);
      for (const { make } of source.disturbances) {
        await make();
        disturbed++;
        await sleep(random.between(300, 1_000));
      }
      expect(await nothingLeft(here, run.id), 'the run was over before the source was disturbed').toBe(false);
      let killed = 0;
      while (killed < killsInOneRun && !(await nothingLeft(here, run.id))) {
        await sleep(random.between(50, 1_500));
        if (here.workers.signal('SIGKILL') !== undefined) killed++;
      }
      source.delay(0);
      const end = await over(here, run.id, 240);
      expect(end.status, await story(here, run.id)).toBe('succeeded');
      for (const point of points) expect(here.workers.armed(point), `${point} was not reached`).toBe(false);
      await writer.stop();
      const verdict = await verify(here, shop, run);
      const tables = await runTables(here, run.id);
      expect(tables.map(({ consistency }) => consistency)).toEqual(tables.map(() => 'chunk'));
      expect(Math.max(...tables.map(({ chunks_total: chunks }) => chunks))).toBeGreaterThan(1);
      const left = await leftovers(here, shop, run.id);
      const kills = here.workers.kills - before;
      report(`from ${kind.name}`, {
        kills,
        faults: disturbed,
        writes: writer.committed,
        ...verdict,
        leftovers: left.length,
      });
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0, exact: 0 });
      expect(verdict.byVersions).toBe(shop.tables.length);
      expect(killed, 'kills before the run was over').toBe(killsInOneRun);
      expect(writer.committed).toBeGreaterThan(50);
      expect(left).toEqual([]);
    } finally {
      here.workers.disarm();
      source.delay(0);
    }
  });
}
