import { expect, test } from 'vitest';
import type { FaultPoint } from '../../../faults.ts';
import type { Installation } from '../installation.ts';
import { apply, type Mapping, newShop, over, runTables, type Shop, start, story, until } from '../job.ts';
import { keeperOf } from '../keeper.ts';
import { copySnapshots, query } from '../oracle.ts';
import { report, type Verdict, verify } from '../verify.ts';
import { startWriter } from '../writer.ts';

const only = (shop: Shop, ...tables: string[]): Mapping => ({
  ...shop.mapping,
  tables: tables.map((name) => ({ table_name: `shop.${name}`, mode: 'replace' })),
});

/**
 * A worker is stopped at the point with an open transaction on the target, outlives its heartbeat, sees (after SIGCONT)
 * its chunk done by another, and must write nothing. The table has no key: whatever it wrote would be doubled.
 */
export async function staleWriter(
  here: Installation,
  name: string,
  point: FaultPoint,
): Promise<{ verdict: Verdict; shop: Shop; run: string }> {
  const shop = await newShop(here, name, { rows: 20_000 });
  await apply(here, only(shop, 'remarks'));
  here.workers.arm(point, 'SIGSTOP');
  const run = await start(here, name);
  await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
  let stopped: number | undefined;
  try {
    await until('a worker stops', 60, () => !here.workers.armed(point));
    stopped = here.workers.taker(point);
    expect(stopped).toBeDefined();
    // The stopped one may be the keeper too: its snapshot stays open, for its connection does.
    await until('another worker moved the chunk', 120, async () =>
      (await runTables(here, run.id)).every((table) => table.chunks_done >= 1),
    );
    expect(here.workers.signal('SIGCONT', stopped), 'the stopped worker is there').toBe(stopped);
    const end = await over(here, run.id, 120);
    expect(end.status, await story(here, run.id)).toBe('succeeded');
    return { verdict: await verify(here, shop, run, copies), shop, run: run.id };
  } finally {
    here.workers.disarm();
    if (stopped !== undefined) here.workers.signal('SIGCONT', stopped);
  }
}

export function fence(at: () => Installation): void {
  test.each(['after-read', 'between-checkpoint-and-commit'] as const)(
    'a worker stopped at %s past its heartbeat, and continued, writes nothing',
    async (point) => {
      const { verdict } = await staleWriter(at(), `stale_${point.replaceAll('-', '_')}`, point);
      report(`stale writer, ${point}`, verdict);
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
    },
  );

  test('a worker stopped for good in an open transaction does not hold up the swap', async () => {
    const here = at();
    const shop = await newShop(here, 'frozen', { rows: 20_000 });
    await using _writer = startWriter(shop.source, here.random.fork('frozen'));
    await apply(here, only(shop, 'orders', 'items'));
    here.workers.arm('after-read', 'SIGSTOP');
    const run = await start(here, shop.name);
    await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
    let stopped: number | undefined;
    try {
      here.workers.spare(await keeperOf(here, run.id).catch(() => undefined));
      await until('a worker stops', 60, () => !here.workers.armed('after-read'));
      stopped = here.workers.taker('after-read');
      const end = await over(here, run.id, 150);
      expect(end.status, await story(here, run.id)).toBe('succeeded');
      const verdict = await verify(here, shop, run, copies);
      report('frozen worker', verdict);
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
      const held = await query(
        shop.target,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'",
      );
      expect(held).toEqual([]);
    } finally {
      here.workers.disarm();
      here.workers.spare(undefined);
      if (stopped !== undefined) here.workers.signal('SIGKILL', stopped);
    }
  });
}
