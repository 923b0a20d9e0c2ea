import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { projectFolder } from '../../../config.ts';
import type { Installation } from '../installation.ts';
import { report } from '../verify.ts';
import { stopped, wakes } from './fence.ts';

/** A test that cannot fail proves nothing. Comes last: its workers are not those of the project. */
export function mutation(at: () => Installation): void {
  test('with the fence taken out a stale writer doubles rows, and the comparison sees it', async () => {
    const here = at();
    await using copy = projectWithout(fence);
    await here.replaceWorkers({ count: 2, project: copy.folder });
    // A race by nature: word from Temporal that it was given up may reach the sleeper before it has committed.
    let doubled = 0;
    for (let time = 1; time <= 3 && doubled === 0; time++) {
      const verdict = await wakes(here, await stopped(here, `mutant_${time}`, 'before-commit'));
      doubled = verdict.doubled;
      report(`without the fence, ${time}`, { 'rows written twice': doubled });
    }
    expect(doubled).toBeGreaterThan(0);
  });
}

/**
 * Decision 10, in the PostgreSQL target: whoever claims a chunk ends the older attempt's backend, and the older attempt's
 * checkpoint finds its epoch over. Either would hold the stale writer off; without both nothing does.
 */
const fence = [
  {
    file: 'connectors/postgres/target/ledger.ts',
    from: 'started: string): Promise<void> {\n',
    to: 'started: string): Promise<void> {\n  if (session) return;\n',
  },
  {
    file: 'connectors/postgres/target/claim.ts',
    from: 'AND chunk = $8 AND epoch = $9 AND NOT done RETURNING 1',
    to: 'AND chunk = $8 AND $9::int8 IS NOT NULL RETURNING 1',
  },
] as const;

/** A copy of the project in which each text, found exactly once, is another. */
function projectWithout(changes: typeof fence): AsyncDisposable & { readonly folder: string } {
  const copy = mkdtempSync(join(tmpdir(), 'godwit-mutant-'));
  const left = new Set(['node_modules', '.git', '.godwit', 'test']);
  for (const name of readdirSync(projectFolder)) {
    if (!left.has(name)) cpSync(join(projectFolder, name), join(copy, name), { recursive: true });
  }
  symlinkSync(join(projectFolder, 'node_modules'), join(copy, 'node_modules'));
  for (const { file, from, to } of changes) {
    const text = readFileSync(join(copy, file), 'utf8');
    expect(text.split(from).length - 1, `how often ${file} has the fence`).toBe(1);
    writeFileSync(join(copy, file), text.replace(from, to));
  }
  return { folder: copy, [Symbol.asyncDispose]: async () => rmSync(copy, { recursive: true, force: true }) };
}
