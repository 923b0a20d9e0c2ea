import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { projectFolder } from '../../../config.ts';
import type { Installation } from '../installation.ts';
import { newShop } from '../job.ts';
import type { Change, Kind } from '../kinds/kind.ts';
import { postgres } from '../kinds/postgres.ts';
import { report } from '../verify.ts';
import { type ShopOf, sleepersRows, sleepsOn, stopped, wakes } from './fence.ts';

export const mutantPromise = 'with the fence taken out a stale writer doubles rows, and the comparison sees it';

export function mutation(at: () => Installation): void {
  test(mutantPromise, async () => {
    const here = at();
    await withoutFence(here, postgres, (name) => newShop(here, name, { rows: sleepersRows }));
  });
}

/** A test that cannot fail proves nothing. Comes last: its workers are not those of the project. */
export async function withoutFence(here: Installation, { name, fence }: Kind, shopOf: ShopOf): Promise<void> {
  await using copy = projectWith(fence.changes);
  await here.replaceWorkers({ count: 4, project: copy.folder });
  // A race by nature: word from Temporal that it was given up may reach the sleeper before it has committed.
  let doubled = 0;
  try {
    for (let time = 1; time <= 3 && doubled === 0; time++) {
      const asleep = await stopped(here, fence.stopAt, (n) => shopOf(`mutant_${time}_${n}`));
      doubled = (await (fence.wakes ? wakes : sleepsOn)(here, asleep)).doubled;
      report(`${name} without the fence, ${time}`, { 'rows written twice': doubled });
    }
  } finally {
    await here.replaceWorkers({ count: 0 });
  }
  expect(doubled).toBeGreaterThan(0);
}

/** A copy of the project in which each text, found exactly once, is another. */
function projectWith(changes: readonly Change[]): AsyncDisposable & { readonly folder: string } {
  const copy = mkdtempSync(join(tmpdir(), 'godwit-mutant-'));
  const left = new Set(['node_modules', '.git', '.godwit', 'test']);
  for (const name of readdirSync(projectFolder)) {
    if (!left.has(name)) cpSync(join(projectFolder, name), join(copy, name), { recursive: true });
  }
  symlinkSync(join(projectFolder, 'node_modules'), join(copy, 'node_modules'));
  for (const { file, from, to } of changes) {
    const text = readFileSync(join(copy, file), 'utf8');
    expect(text.split(from).length - 1, `how often ${file} has the fence`).toBe(1);
    writeFileSync(
      join(copy, file),
      text.replace(from, () => to),
    );
  }
  return { folder: copy, [Symbol.asyncDispose]: async () => rmSync(copy, { recursive: true, force: true }) };
}
