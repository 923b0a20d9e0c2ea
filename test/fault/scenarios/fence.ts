import { expect, test } from 'vitest';
import type { FaultPoint } from '../../../faults.ts';
import type { Installation } from '../installation.ts';
import { apply, newShop, over, type PostgresShop, runTables, start, story, until } from '../job.ts';
import { keeperOf } from '../keeper.ts';
import { postgres } from '../kinds/postgres.ts';
import { leftovers } from '../leftovers.ts';
import { copySnapshots, type SnapshotCopies } from '../oracle.ts';
import { report, type Verdict, verify } from '../verify.ts';

type Stopped = {
  readonly shop: PostgresShop;
  readonly run: string;
  /** The worker that sleeps in the midst of a chunk. */
  readonly worker: number;
  readonly copies: SnapshotCopies;
};

export type ShopOf = (name: string) => Promise<PostgresShop>;

/**
 * Runs a job of one table without a key (whatever is written twice is doubled) until a worker stops at the point. One that
 * keeps the run's snapshot is woken at once: without it the table would begin anew, apart from all that he has in hand.
 */
export async function stopped(
  here: Installation,
  point: FaultPoint,
  shopOf: (n: number) => ReturnType<ShopOf>,
): Promise<Stopped> {
  for (let n = 1; ; n++) {
    const shop = await shopOf(n);
    await apply(here, { ...shop.mapping, tables: [{ table_name: 'shop.remarks', mode: 'replace' }] });
    here.workers.arm(point, 'SIGSTOP');
    try {
      const run = await start(here, shop.name);
      const copies = copySnapshots(here.metadata.url, shop.source, run.id);
      await until('a worker stops', 60, () => !here.workers.armed(point));
      const worker = here.workers.taker(point);
      if (worker === undefined) throw new Error(`nobody stopped at ${point}`);
      if ((await keeperOf(here, run.id)) !== worker) return { shop, run: run.id, worker, copies };
      here.workers.signal('SIGCONT', worker);
      await copies.stop();
      await over(here, run.id, 60);
    } finally {
      here.workers.disarm();
    }
  }
}

/** It outlives its heartbeat, another worker moves its chunk, then it goes on: it must write nothing. */
export async function wakes(here: Installation, { shop, run, worker, copies }: Stopped): Promise<Verdict> {
  try {
    const moved = async () => (await runTables(here, run)).every((table) => table.chunks_done >= 1);
    await until('another worker moved the chunk', 120, moved);
    expect(here.workers.signal('SIGCONT', worker), 'the stopped worker').toBe(worker);
    const end = await over(here, run, 120);
    expect(end.status, await story(here, run)).toBe('succeeded');
    return await verify(here, shop, { id: run }, copies);
  } finally {
    here.workers.signal('SIGCONT', worker);
    await copies.stop();
  }
}

/** It never wakes up: neither its transaction nor its locks may hold up the others. */
export async function sleepsOn(here: Installation, { shop, run, worker, copies }: Stopped): Promise<Verdict> {
  try {
    const end = await over(here, run, 150);
    expect(end.status, await story(here, run)).toBe('succeeded');
    for (const place of Object.values(shop.places)) expect((await place.idle?.()) ?? []).toEqual([]);
    return await verify(here, shop, { id: run }, copies);
  } finally {
    here.workers.signal('SIGKILL', worker);
    await copies.stop();
  }
}

/** Of orders; the table that moves has a tenth. */
export const sleepersRows = 5_000;
const asleep = { rows: sleepersRows };

/**
 * Three workers stopped at once. A kind whose data and checkpoint become durable in one step has no
 * `between-checkpoint-and-commit`.
 */
export async function staleWriters(here: Installation, points: readonly FaultPoint[], shopOf: ShopOf): Promise<void> {
  const stop = (name: string, point: FaultPoint) => stopped(here, point, (n) => shopOf(`${name}_${n}`));
  const early = await stop('stale_early', 'before-commit');
  const between = points.includes('between-checkpoint-and-commit');
  const late = between ? await stop('stale_late', 'between-checkpoint-and-commit') : undefined;
  const frozen = await stop('frozen', 'after-read');
  const all = [
    { at: 'before-commit', verdict: wakes(here, early) },
    ...(late ? [{ at: 'between-checkpoint-and-commit', verdict: wakes(here, late) }] : []),
    { at: 'after-read for good', verdict: sleepsOn(here, frozen) },
  ];
  const verdicts = await Promise.allSettled(all.map(({ verdict }) => verdict));
  for (const [i, verdict] of verdicts.entries()) {
    if (verdict.status === 'rejected') throw verdict.reason;
    report(`stopped at ${all[i]?.at}`, verdict.value);
    expect(verdict.value).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
  }
  for (const { shop, run } of [early, late, frozen].filter((one) => one !== undefined)) {
    expect(await leftovers(here, shop, run)).toEqual([]);
  }
}

export const stalePromise =
  'workers stopped in mid-chunk past their heartbeat write nothing when they wake up, and hold up nobody when they do not';

export function fence(at: () => Installation): void {
  test(stalePromise, async () => {
    const here = at();
    await staleWriters(here, postgres.writing, (name) => newShop(here, name, asleep));
  });
}
