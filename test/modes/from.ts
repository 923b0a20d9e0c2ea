/** Each mode from one source to every target: first run, nothing new, inserts, updates, deletes, ties, late commits, NULLs. */
import { asc, eq } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runTables } from '../../db/schema.ts';
import { missing } from '../servers/shared.ts';
import { install } from '../workflow/installation.ts';
import { type IncrementalMode, Model, sorted } from './promise.ts';
import { type Item, type SourceWord, servers, sources, type TargetWord, targets } from './worlds.ts';

export type Godwit = Awaited<ReturnType<typeof install>>;

export const absent = async (word: TargetWord): Promise<boolean> => {
  for (const server of servers[word]) if (await missing(server)) return true;
  return false;
};

const modes: readonly IncrementalMode[] = ['logging', 'syncing', 'mirroring'];
const minute = 60_000;

/** A run to its end; its only table. */
export async function runOnce(godwit: Godwit, mapping: object) {
  const { run, result } = await godwit.begin(mapping);
  const ended = await result().catch((error: Error) => ({ status: `failed: ${String(error.cause ?? error)}` }));
  const tables = await godwit.db
    .select()
    .from(runTables)
    .where(eq(runTables.runId, run.id))
    .orderBy(asc(runTables.ordinal));
  const [table] = tables;
  if (!table || tables.length !== 1) throw new Error(`${tables.length} tables: ${ended.status}`);
  if (ended.status !== 'succeeded') {
    throw new Error(`${ended.status}: ${table.failure?.code ?? ''} ${table.failure?.message ?? ''}`);
  }
  const { rowsRead, rowsWritten, rowsUnchanged, rowsFiltered, rowsQuarantined } = table;
  expect(rowsRead).toBe(rowsWritten + rowsUnchanged + rowsFiltered + rowsQuarantined);
  return table;
}

/** MySQL and MariaDB are one connector: both are a source, and each source goes to one of them. GODWIT_TEST_ALL_PAIRS: to all. */
const towards = (word: SourceWord): readonly TargetWord[] => {
  if (process.env.GODWIT_TEST_ALL_PAIRS) return ['pgsql', 'mysql', 'mariadb', 'mongo', 'files'];
  if (word === 'mariadb') return ['pgsql', 'mariadb'];
  return ['pgsql', word === 'mongo' ? 'mariadb' : 'mysql', 'mongo', 'files'];
};

export async function fromSource(word: SourceWord): Promise<void> {
  const there = new Map<TargetWord, boolean>();
  for (const to of towards(word)) there.set(to, await absent(to));
  const skip = (await absent(word)) || (await missing('postgres')) || (await missing('temporal'));

  describe.skipIf(skip)(`from ${word}`, () => {
    const stack = new AsyncDisposableStack();
    let godwit: Godwit;
    beforeAll(async () => {
      godwit = stack.use(await install());
      stack.use(await godwit.work());
    });
    afterAll(() => stack.disposeAsync());

    for (const [to, skipped] of there) {
      for (const mode of modes) {
        // Files cannot delete: refused, see files-incremental.test.ts.
        if (to === 'files' && mode === 'mirroring') continue;
        test.skipIf(skipped)(`${mode} to ${to}`, () => story(godwit, word, to, mode));
      }
    }
  });
}

async function story(godwit: Godwit, word: SourceWord, to: TargetWord, mode: IncrementalMode): Promise<void> {
  await using source = await sources[word]();
  await using target = await targets[to](godwit.home);
  const mapping = {
    name: `${word}-${to}-${mode}`,
    source: source.settings,
    destination: { there: target.settings },
    tables: [{ ...source.entry, mode }],
  };
  const model = new Model(source, mode);
  const step = async (what: string) => {
    const table = await runOnce(godwit, mapping);
    const { items, written, deleted } = model.run();
    expect(sorted(await target.all()), what).toEqual(sorted(items));
    expect({ written: table.rowsWritten, deleted: table.rowsDeleted }, what).toEqual({ written, deleted });
    return table;
  };
  const now = Date.now();
  const last = now - 5 * minute;
  const item = (id: number, name: string | null, at: number | null): Item => ({ id, name, at });

  const old = Array.from({ length: 500 }, (_, i) => item(i + 1, `old ${i}`, now - 10 * 24 * 60 * minute + i * minute));
  await model.put(...old, item(501, 'last', last), item(502, 'no bookmark', null));
  expect((await step('first run')).step).toBe('load');
  expect((await step('nothing new')).step).toBe('increment');

  await model.put(item(601, 'new', now), item(602, null, now + 1));
  await step('inserts');
  await model.put(item(7, 'changed', now + 1000), item(601, 'changed too', now + 1000));
  await step('updates');
  await model.put(item(501, 'changed at its own bookmark', last), item(603, 'a tie', last));
  await step('ties');
  await model.put(item(502, 'no bookmark, changed', null), item(604, 'no bookmark either', null));
  await step('bookmarks of NULL');
  await model.put(item(605, 'committed late', now - 30 * minute));
  await step('late');
  await model.put(item(606, 'from a clock that is fast', now + 24 * 60 * minute), item(607, 'after it', now + 2000));
  await step('a bookmark in the future');
  await model.put(item(608, 'after that', now + 3000));
  await step('what comes after a bookmark in the future');
  await model.remove(1, 2, 250, 501, 608);
  await step('deletes');
  await model.put(item(250, 'come again', now + 4000));
  await step('a key that comes again');
  const quiet = await step('nothing new at the end');
  expect(quiet.rowsWritten).toBe(0);
}
