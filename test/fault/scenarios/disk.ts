import { execFileSync } from 'node:child_process';
import { chownSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { isRoot, serverUser } from '../../../servers/unprivileged.ts';
import type { Installation } from '../installation.ts';
import { apply, newShop, over, runTables, start, story, until } from '../job.ts';
import { copySnapshots, query } from '../oracle.ts';
import { report, verify } from '../verify.ts';

/** The target's tables lie on a small file system, most of it taken: the copy does not fit until somebody frees space. */
export function fullDisk(at: () => Installation): void {
  test('the target disk is full: the run waits and says so, and goes on by itself when there is room', async (context) => {
    const here = at();
    const mount = mountSmall(join(here.target.dir, 'small'), 48);
    if (typeof mount !== 'string') return context.skip(mount.reason);
    try {
      await query(here.target.url, `CREATE TABLESPACE small LOCATION '${mount}'`);
      const shop = await newShop(here, 'full', { rows: 20_000, tablespace: 'small' });
      const ballast = join(mount, 'ballast');
      const free = Number(execFileSync('df', ['--output=avail', '-k', mount]).toString().split('\n')[1]);
      writeFileSync(ballast, Buffer.alloc((free - 3_000) * 1024));
      await apply(here, shop.mapping);
      const run = await start(here, shop.name);
      await using copies = copySnapshots(here.metadata.url, shop.source, run.id);
      await until('a table waits for space', 60, async () =>
        (await runTables(here, run.id)).some(
          (table) => table.status === 'waiting' && table.failure?.code === 'TARGET_FULL',
        ),
      );
      rmSync(ballast);
      const end = await over(here, run.id, 120);
      expect(end.status, await story(here, run.id)).toBe('succeeded');
      const verdict = await verify(here, shop, run, copies);
      report('full disk', verdict);
      expect(verdict).toMatchObject({ lost: 0, doubled: 0, changed: 0 });
    } finally {
      await query(here.target.url, 'DROP DATABASE IF EXISTS "full" WITH (FORCE)').catch(() => {});
      await query(here.target.url, 'DROP TABLESPACE IF EXISTS small').catch(() => {});
      execFileSync('umount', ['-l', mount]);
    }
  });
}

/** A file system of its own for a tablespace; root alone can make one. */
function mountSmall(folder: string, megabytes: number): string | { readonly reason: string } {
  if (!isRoot()) return { reason: 'a small disk: only root can mount one' };
  const user = serverUser();
  try {
    mkdirSync(folder);
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=700`, 'tmpfs', folder], { stdio: 'pipe' });
    if (user) chownSync(folder, user.uid, user.gid);
    expect(statSync(folder).isDirectory()).toBe(true);
    return folder;
  } catch (error) {
    return { reason: `a small disk: it cannot be mounted here (${String((error as Error).message).split('\n')[0]})` };
  }
}
