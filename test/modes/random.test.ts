/**
 * Random histories: writes at the source, interleaved with runs. After every run the target is what its mode promises. A
 * clock of the test's own moves on between writes, so bookmarks only grow, as those of a real source do; some commits come late.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { randomOf, seedOfTheDay } from '../fault/random.ts';
import { missing } from '../servers/shared.ts';
import { install } from '../workflow/installation.ts';
import { absent, type Godwit, runOnce } from './from.ts';
import { type IncrementalMode, Model, sorted } from './promise.ts';
import { type Item, type SourceWord, sources, type TargetWord, targets } from './worlds.ts';

const pairs: readonly (readonly [SourceWord, TargetWord, IncrementalMode])[] = [
  ['pgsql', 'pgsql', 'mirroring'],
  ['pgsql', 'mysql', 'syncing'],
  ['mysql', 'pgsql', 'mirroring'],
  ['mongo', 'pgsql', 'syncing'],
  ['pgsql', 'mongo', 'mirroring'],
  ['mysql', 'files', 'syncing'],
  ['pgsql', 'files', 'logging'],
  ['mongo', 'mysql', 'logging'],
];
const rounds = Number(process.env.GODWIT_TEST_ROUNDS ?? 6);

const skips = new Map<string, boolean>();
for (const word of ['pgsql', 'mysql', 'mongo', 'files'] as const) skips.set(word, await absent(word));

describe.skipIf((await missing('postgres')) || (await missing('temporal')))('random histories', () => {
  const stack = new AsyncDisposableStack();
  let godwit: Godwit;
  beforeAll(async () => {
    godwit = stack.use(await install());
    stack.use(await godwit.work());
  });
  afterAll(() => stack.disposeAsync());

  for (const [from, to, mode] of pairs) {
    test.skipIf(skips.get(from) || skips.get(to))(`${mode} from ${from} to ${to}`, async () => {
      const seed = seedOfTheDay();
      const random = randomOf(seed).fork(`${from} ${to} ${mode}`);
      await using source = await sources[from]();
      await using target = await targets[to](godwit.home);
      const mapping = {
        name: `random-${from}-${to}-${mode}`,
        source: source.settings,
        destination: { there: target.settings },
        tables: [{ ...source.entry, mode }],
      };
      const model = new Model(source, mode);
      let clock = Date.now() - 3_600_000;
      let last = 0;
      const item = (id: number): Item => {
        // Of those who committed late, by less than the window.
        const late = random.chance(0.1) ? random.between(0, 1_000_000) : 0;
        clock += random.between(0, 2000);
        const at = random.chance(0.05) ? null : clock - late;
        return { id, name: random.chance(0.1) ? null : `n${random.between(0, 1_000_000)}`, at };
      };
      for (let round = 0; round < rounds; round++) {
        const writes = random.between(0, 40);
        for (let i = 0; i < writes; i++) {
          const ids = [...model.here.keys()];
          const some = () => ids[random.between(0, ids.length - 1)] as number;
          if (ids.length > 0 && random.chance(0.2)) await model.remove(some());
          else if (ids.length > 0 && random.chance(0.4)) await model.put(item(some()));
          else {
            last += random.between(1, 3);
            await model.put(item(last));
          }
        }
        await runOnce(godwit, mapping);
        expect(sorted(await target.all()), `round ${round}, seed ${seed}`).toEqual(sorted(model.run().items));
      }
    });
  }
});
