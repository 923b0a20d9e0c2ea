import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { keeperSeconds } from '../heartbeats.ts';
import type { Installation } from '../installation.ts';
import { apply, chunksDone, newShop, nothingLeft, over, runTables, start, story, until } from '../job.ts';
import { copySnapshots, query } from '../oracle.ts';
import { everywhere, withLake } from '../targets.ts';
import { report, verify } from '../verify.ts';
import { startWriter } from '../writer.ts';

const endBackends = (server: string, database: string, kind = 'true') =>
  query(
    server,
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = $1 AND application_name LIKE 'godwit%' AND pid <> pg_backend_pid() AND ${kind}`,
    [database],
  );
/** The keeper's session: it holds the exported snapshot and asks nothing. */
const endKeeper = (server: string, database: string) =>
  // By what it asked last: who was writing when the snapshot was made.
  endBackends(server, database, "state = 'idle in transaction' AND query LIKE '%godwit.next%'");

type Fault = { readonly name: string; readonly make: (here: Installation, database: string) => Promise<unknown> };

const faults: readonly Fault[] = [
  { name: 'connections of the source ended', make: (here, database) => endBackends(here.source.url, database) },
  { name: 'connections of the target ended', make: (here, database) => endBackends(here.target.url, database) },
  {
    name: 'connections cut in the middle of a COPY',
    make: async (here) => {
      here.sourceProxy.afterBytes(300_000, here.sourceProxy.cut, 'toClient');
      here.targetProxy.afterBytes(300_000, here.targetProxy.cut, 'toServer');
      await sleep(1_000);
    },
  },
  { name: 'target restarted (immediate)', make: (here) => here.target.restart('immediate') },
  { name: 'source restarted (immediate)', make: (here) => here.source.restart('immediate') },
  { name: 'target restarted (fast)', make: (here) => here.target.restart('fast') },
  { name: 'source restarted (fast)', make: (here) => here.source.restart('fast') },
  { name: "Godwit's own PostgreSQL restarted", make: (here) => here.metadata.restart('fast') },
  { name: 'Temporal restarted', make: (here) => here.temporal.restart() },
];

export function serverFaults(at: () => Installation): void {
  test('servers restarted, connections ended in mid-COPY, workers told to stop, one asleep past its heartbeat: nothing lost, doubled or changed', async () => {
    const here = at();
    const random = here.random.fork('servers');
    const shop = await newShop(here, 'servers');
    await using writer = startWriter(shop.source, random.fork('writer'));
    await apply(here, everywhere(here, shop));
    here.sourceProxy.delay(150);
    const run = await start(here, shop.name);
    await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
    let asleep: number | undefined;
    let made = 0;
    let told = 0;
    try {
      await copies.copied(1);
      await until('some chunks are done', 60, async () => (await chunksDone(here, run.id)) >= 3);
      asleep = here.workers.signal('SIGSTOP');
      const since = Date.now();
      for (const fault of faults) {
        if (await nothingLeft(here, run.id)) break;
        await fault.make(here, shop.name);
        made++;
        await sleep(random.between(300, 1_500));
        const awake = here.workers.pids().filter((pid) => pid !== asleep);
        if (random.chance(0.3) && here.workers.signal('SIGTERM', random.pick(awake)) !== undefined) told++;
      }
      await sleep(Math.max(0, (keeperSeconds + 3) * 1_000 - (Date.now() - since)));
      here.workers.signal('SIGCONT', asleep);
      here.sourceProxy.delay(0);
      const end = await over(here, run.id, 200);
      expect(end.status, await story(here, run.id)).toBe('succeeded');
      const verdict = await verify(here, shop, run, copies, withLake(here, shop));
      report('servers', { faults: made, stopped: told, asleep: 1, writes: writer.committed, ...verdict });
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
      expect(made).toBe(faults.length);
    } finally {
      if (asleep !== undefined) here.workers.signal('SIGCONT', asleep);
      here.sourceProxy.delay(0);
    }
  });

  test('the snapshot is lost: keyed tables go on chunk by chunk, the others start again', async () => {
    const here = at();
    const shop = await newShop(here, 'snapshot');
    await using writer = startWriter(shop.source, here.random.fork('snapshot'));
    await apply(here, everywhere(here, shop));
    here.sourceProxy.delay(40);
    const run = await start(here, shop.name);
    await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
    try {
      await copies.copied(1);
      // In the midst of the biggest: what it has begun under the snapshot it must end without.
      const orders = async () => (await runTables(here, run.id)).filter((table) => table.source_name === 'shop.orders');
      await until('a big table is in the midst of its chunks', 60, async () =>
        (await orders()).some((table) => table.chunks_done >= 2 && table.chunks_done + 2 < table.chunks_total),
      );
      expect(await endKeeper(here.source.url, shop.name)).toHaveLength(1);
      await until('the loss is known', 60, async () => {
        const lost = await query(
          here.metadata.url,
          'SELECT FROM godwit.snapshots WHERE run_id = $1 AND lost_at IS NOT NULL',
          [run.id],
        );
        return lost.length > 0;
      });
      here.sourceProxy.delay(0);
      const end = await over(here, run.id, 120);
      expect(end.status, await story(here, run.id)).toBe('succeeded');
      const verdict = await verify(here, shop, run, copies, withLake(here, shop));
      report('snapshot lost', { writes: writer.committed, ...verdict });
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
      expect((await orders()).map((table) => table.consistency)).toContain('chunk');
    } finally {
      here.sourceProxy.delay(0);
    }
  });

  test('a table truncated and one altered in mid-run fail by name; the others succeed; a retry makes them whole', async () => {
    const here = at();
    const shop = await newShop(here, 'altered');
    await apply(here, shop.mapping);
    here.sourceProxy.delay(60);
    const run = await start(here, shop.name);
    await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
    try {
      await copies.copied(1);
      await until('some chunks are done', 60, async () => (await chunksDone(here, run.id)) >= 2);
      await query(
        shop.source,
        'TRUNCATE shop.visits; INSERT INTO shop.visits VALUES (gen_random_uuid(), 1, $$new$$, now())',
      );
      await query(shop.source, 'ALTER TABLE shop.orders ALTER COLUMN note TYPE varchar(200)');
      here.sourceProxy.delay(0);
      const end = await over(here, run.id, 120);
      const tables = await runTables(here, run.id);
      const failed = tables.filter((table) => table.status === 'failed');
      for (const table of failed) expect(table.failure?.code, table.failure?.message).toBe('SOURCE_CHANGED');
      // Whether a table was hit depends on where the run was; none may be wrong without a word.
      const verdict = await verify(here, shop, run, copies);
      report('truncated and altered', {
        failed: failed.map((table) => table.source_name).join(' ') || 'none',
        ...verdict,
      });
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
      expect(end.status).toBe(failed.length === 0 ? 'succeeded' : 'partial');
      expect(failed.length).toBeGreaterThan(0);

      const again = await start(here, shop.name);
      await using later = copySnapshots(here.metadata.url, shop.source, again.id);
      expect((await over(here, again.id, 60)).status, await story(here, again.id)).toBe('succeeded');
      expect(await verify(here, shop, again, later)).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
    } finally {
      here.sourceProxy.delay(0);
    }
  });
}

/** Comes last: nothing that was under way in Temporal is there afterwards. */
export function emptyTemporal(at: () => Installation): void {
  test('the Temporal server is replaced by an empty one in mid-run: the run goes on from its checkpoints', async () => {
    const here = at();
    const shop = await newShop(here, 'empty');
    await using writer = startWriter(shop.source, here.random.fork('empty'));
    await apply(here, shop.mapping);
    here.sourceProxy.delay(60);
    const run = await start(here, shop.name);
    await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
    try {
      await until('some chunks are done', 60, async () => (await chunksDone(here, run.id)) >= 3);
      await here.temporal.kill();
      for (const end of ['', '-shm', '-wal']) rmSync(join(here.folder, `temporal.db${end}`), { force: true });
      await here.temporal.restart();
      here.sourceProxy.delay(0);
      const end = await over(here, run.id, 150);
      expect(end.status, await story(here, run.id)).toBe('succeeded');
      const verdict = await verify(here, shop, run, copies);
      report('empty Temporal', { writes: writer.committed, ...verdict });
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
    } finally {
      here.sourceProxy.delay(0);
    }
  });
}
