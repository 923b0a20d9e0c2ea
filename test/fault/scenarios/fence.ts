import { expect, test } from 'vitest';
import type { FaultPoint } from '../../../faults.ts';
import type { Installation } from '../installation.ts';
import { apply, newShop, over, runTables, type Shop, start, story, until } from '../job.ts';
import { copySnapshots, query, type SnapshotCopies } from '../oracle.ts';
import { report, type Verdict, verify } from '../verify.ts';

type Stopped = {
  readonly shop: Shop;
  readonly run: string;
  /** The worker that sleeps in the midst of a chunk. */
  readonly worker: number;
  readonly copies: SnapshotCopies;
};

/** Runs a job of one table without a key (whatever is written twice is doubled) until a worker stops at the point. */
export async function stopped(here: Installation, name: string, point: FaultPoint): Promise<Stopped> {
  const shop = await newShop(here, name, { rows: 20_000 });
  await apply(here, { ...shop.mapping, tables: [{ table_name: 'shop.remarks', mode: 'replace' }] });
  here.workers.arm(point, 'SIGSTOP');
  try {
    const run = await start(here, name);
    const copies = copySnapshots(here.metadata.url, shop.source, run.id);
    await until('a worker stops', 60, () => !here.workers.armed(point));
    const worker = here.workers.taker(point);
    if (worker === undefined) throw new Error(`nobody stopped at ${point}`);
    return { shop, run: run.id, worker, copies };
  } finally {
    here.workers.disarm();
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
async function sleepsOn(here: Installation, { shop, run, worker, copies }: Stopped): Promise<Verdict> {
  try {
    const end = await over(here, run, 150);
    expect(end.status, await story(here, run)).toBe('succeeded');
    const open =
      "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'";
    expect(await query(shop.target, open)).toEqual([]);
    return await verify(here, shop, { id: run }, copies);
  } finally {
    here.workers.signal('SIGKILL', worker);
    await copies.stop();
  }
}

export function fence(at: () => Installation): void {
  test('workers stopped in mid-chunk past their heartbeat write nothing when they wake up, and hold up nobody when they do not', async () => {
    const here = at();
    const early = await stopped(here, 'stale_early', 'before-commit');
    const late = await stopped(here, 'stale_late', 'between-checkpoint-and-commit');
    const frozen = await stopped(here, 'frozen', 'after-read');
    const verdicts = await Promise.allSettled([wakes(here, early), wakes(here, late), sleepsOn(here, frozen)]);
    for (const [i, verdict] of verdicts.entries()) {
      if (verdict.status === 'rejected') throw verdict.reason;
      report(
        `stopped at ${['before-commit', 'between-checkpoint-and-commit', 'after-read for good'][i]}`,
        verdict.value,
      );
      expect(verdict.value).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
    }
  });
}
