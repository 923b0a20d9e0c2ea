import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { workflowBundle } from '../../worker/bundle.ts';

test('the workflows bundle without anything of Node or a driver, and only once', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'godwit-bundle-'));
  try {
    const [first, second] = await Promise.all([workflowBundle(folder), workflowBundle(folder)]);
    expect(second).toBe(first);
    expect(await readdir(folder)).toHaveLength(1);
    const code = await readFile(first, 'utf8');
    for (const name of ['run', 'table', 'hold', 'probe']) expect(code).toContain(`./workflows/${name}.ts`);
    for (const foreign of ['drizzle-orm', 'node_modules/pg/', 'duckdb', './activities/move']) {
      expect(code).not.toContain(foreign);
    }
    const { ino, mtimeMs } = await stat(first);
    expect(await workflowBundle(folder)).toBe(first);
    expect(await stat(first)).toMatchObject({ ino, mtimeMs });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
