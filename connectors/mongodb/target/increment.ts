/**
 * One attempt at a chunk of an increment, into the collection people read. No transaction here either (see write.ts), and
 * documents carry nothing of Godwit's; so what an overtaken attempt sends late must find nothing to do. Therefore the
 * documents never travel to the table by themselves; the server takes them from a collection whose name is never used again:
 *
 * 1. The attempt compares what it reads with the table, and puts what differs into a collection of its own, named by chunk and
 *    epoch (differ.ts). The table is not touched; an attempt that is overtaken here has changed nothing.
 * 2. One update of the chunk, on condition of the epoch, says `staged`, with the counts: from now on the chunk is decided, and
 *    nobody reads its rows again. When nothing differs it is done at once, and nothing was written.
 * 3. `$merge` takes the documents from there into the table (redo.ts). Who is stopped before or in the midst of it is followed by
 *    one who does the same again, with the same documents.
 * 4. The collection is dropped: a `$merge` that arrives later reads nothing, so it neither brings an older version back
 *    nor what was deleted since. One that is under way in the server is waited for, or ended.
 * 5. The checkpoint, on condition of the epoch.
 *
 * Documents that vanished are deleted in the same way (vanished.ts).
 */
import { reach } from '../../../faults.ts';
import type { Batch, Counts, Increment } from '../../contract.ts';
import { mongoExtras } from '../extras.ts';
import { type Attempt, checkpoint, guarded, lifeNow, moveIn, type Writing } from './attempt.ts';
import { stillMine } from './claim.ts';
import { countsOf, Differ } from './differ.ts';
import { asideOf, hashOf, stagingOf } from './names.ts';
import { applyStaged, cleanUpStaged, collationOf, commitStaged, sameTable, stagedBy } from './redo.ts';

export async function writeIncrement(
  writing: Writing,
  increment: Increment,
  batches: AsyncIterable<Batch>,
): Promise<Counts> {
  const { ledger, work, claim, options } = writing;
  const attempt: Attempt = { ledger, work, claim, signal: options.signal };
  return await guarded(
    attempt,
    async (aborted) => {
      const life = await lifeNow(writing);
      return await decided(attempt, { life, aborted }, batches, () =>
        stage(writing, increment, { life, aborted, batches }),
      );
    },
    () => cleanUpStaged(attempt),
  );
}

export type Staged = { readonly counts: Counts; readonly staged: number };
type Running = { readonly life: string; readonly aborted: Promise<never> };

/** From what was staged, now or by an earlier attempt, to the checkpoint. What is decided is not read again. */
export async function decided(
  attempt: Attempt,
  { life, aborted }: Running,
  input: AsyncIterable<unknown>,
  stageNow: () => Promise<Staged>,
): Promise<Counts> {
  const { ledger, work, claim } = attempt;
  await sameTable(ledger, work);
  let before = await stagedBy(attempt, life);
  if (before) {
    void Promise.resolve(input[Symbol.asyncIterator]().return?.()).catch(() => {});
  } else {
    const { counts, staged } = await stageNow();
    reach('between-checkpoint-and-commit');
    if (staged === 0) {
      await checkpoint(attempt, { life, counts });
      reach('after-commit');
      return counts;
    }
    await commitStaged(attempt, life, counts);
    before = { epoch: claim.epoch, counts };
  }
  await Promise.race([applyStaged(attempt, life, before.epoch), aborted]);
  await checkpoint(attempt, { life, counts: before.counts, staged: before.epoch });
  reach('after-commit');
  return before.counts;
}

type Staging = Running & { readonly batches: AsyncIterable<Batch> };

async function stage(writing: Writing, { existing }: Increment, { life, aborted, batches }: Staging): Promise<Staged> {
  const { ledger, work, claim, options } = writing;
  const collation = await collationOf(ledger, work);
  const differ = new Differ({
    db: ledger.db,
    table: work.name.name,
    aside: asideOf(stagingOf(hashOf(work), life), claim.chunk.id, claim.epoch),
    ...(collation ? { collation } : {}),
    existing,
    merges: mongoExtras(work.source)?.as !== 'raw',
    signal: options.signal,
    aborted,
    fence: () => stillMine(ledger, work, claim, life),
  });
  const counts = await moveIn(writing, { inserter: differ, batches, aborted });
  return { counts: countsOf(counts, differ.counts), staged: differ.counts.staged };
}
