import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { projectFolder } from '../../config.ts';
import { startInstallation } from './installation.ts';
import { staleWriter } from './scenarios/fence.ts';
import { report } from './verify.ts';

/** A test that cannot fail proves nothing: with the fence taken out, the stale writer must double rows. */
test('with the fence taken out, a stale writer doubles rows, and the comparison sees it', async () => {
  await using copy = projectWithout(fence);
  await using here = await startInstallation({ workers: 0 });
  await here.replaceWorkers({ count: 2, project: copy.folder });
  const outcome = await staleWriter(here, 'mutant', 'after-read').then(
    ({ verdict }) => verdict,
    (error) => String(error),
  );
  const seen = typeof outcome === 'string' ? outcome : outcome.lost + outcome.doubled + outcome.changed;
  report('without the fence', typeof outcome === 'string' ? { failed: outcome.slice(0, 200) } : outcome);
  expect(seen).not.toBe(0);
});

/** The writer's last statement before COMMIT: rows of an attempt whose epoch is over must not be counted (decision 10). */
const fence = { folder: 'connectors/postgres', from: 'AND epoch = ', to: 'AND -1 <> ' };

/** A copy of the project in which one text, found exactly once, is another. */
function projectWithout({ folder, from, to }: typeof fence): AsyncDisposable & { readonly folder: string } {
  const copy = mkdtempSync(join(tmpdir(), 'godwit-mutant-'));
  const left = new Set(['node_modules', '.git', '.godwit', 'test']);
  for (const name of readdirSync(projectFolder)) {
    if (!left.has(name)) cpSync(join(projectFolder, name), join(copy, name), { recursive: true });
  }
  symlinkSync(join(projectFolder, 'node_modules'), join(copy, 'node_modules'));
  const files = readdirSync(join(copy, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.startsWith('target') && name.endsWith('.ts'))
    .map((name) => join(copy, folder, name));
  const places = files.filter((path) => readFileSync(path, 'utf8').includes(from));
  const [place] = places;
  const text = place === undefined ? '' : readFileSync(place, 'utf8');
  expect(places.length === 1 && text.split(from).length === 2, `the fence is not where it was: ${places}`).toBe(true);
  writeFileSync(place as string, text.replace(from, to));
  return { folder: copy, [Symbol.asyncDispose]: async () => rmSync(copy, { recursive: true, force: true }) };
}
