/** One source's pairs with every target. A file of its own for each source: files run beside each other. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { noPyarrow } from '../conformance/files-pyarrow.ts';
import { missing } from '../servers/shared.ts';
import { install } from '../workflow/installation.ts';
import { differences } from './contents.ts';
import { move } from './run.ts';
import { type Source, type SourceWord, sameSystem, servers, type TargetWord, targets } from './sides.ts';

const absent = async (word: TargetWord): Promise<boolean> => {
  for (const server of servers[word]) if (await missing(server)) return true;
  return (word === 'files' || word === 's3') && noPyarrow();
};

/** True for those whose server is missing here. */
export async function targetsToSkip(words: readonly TargetWord[]): Promise<Map<TargetWord, boolean>> {
  const skip = new Map<TargetWord, boolean>();
  for (const word of words) skip.set(word, await absent(word));
  return skip;
}

export async function fromSource(
  what: string,
  word: SourceWord,
  open: () => Promise<Source>,
  /** S3 and a folder get the same files: one of them for each source. */
  files: 'files' | 's3',
  skip = false,
): Promise<void> {
  const targetsHere = await targetsToSkip(['pgsql', 'mysql', 'mariadb', 'mongo', files]);
  const noSource = skip || (await absent(word)) || (await missing('postgres')) || (await missing('temporal'));

  describe.skipIf(noSource)(`${what} from ${word}`, () => {
    const stack = new AsyncDisposableStack();
    let source: Source;
    let godwit: Awaited<ReturnType<typeof install>>;
    beforeAll(async () => {
      source = stack.use(await open());
      godwit = stack.use(await install());
      stack.use(await godwit.work());
    });
    afterAll(() => stack.disposeAsync());

    for (const [to, skipped] of targetsHere) {
      test.skipIf(skipped)(`to ${to}`, async () => {
        await using target = await targets[to](godwit.home);
        await move(godwit, {
          name: `${word}-${to}`,
          source: source.settings,
          destination: { there: target.settings },
          tables: [source.entry(to)],
        });
        for (const name of source.tables(to)) {
          const there = await target.read(name);
          const read = await source.read(name);
          const here = source.shaped?.(read, to, there) ?? read;
          const key = source.keyOf(name, [...here.columns.keys()]);
          const find = target.find?.(key);
          const how = {
            key,
            cannotHold: sameSystem(word, to) ? () => false : target.cannotHold,
            ...(target.makes ? { makes: target.makes } : {}),
            ...(find ? { find } : {}),
          };
          expect.soft(differences(here, there, how), name).toEqual([]);
        }
      });
    }
  });
}
