/**
 * What every target must do, in executable form. A connector passes when `testTarget` is green against its real server.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Batch, Chunk, Claim, Counts, Target, Work, WriteOptions } from '../../connectors/contract.ts';
import type { Row } from '../../connectors/types.ts';
import { asGodwitError } from '../../errors.ts';

/** A prepared server, and the eyes of somebody else on it. */
export type TargetSubject = AsyncDisposable & {
  /** A new target on it, as another worker would have; the test disposes. */
  open(): Promise<Target> | Target;
  /** Work on a table of its own, mode replace, columns `id` (int32, the key) and `v` (text). */
  work(over?: Partial<Work>): Work;
  /** Rows in the format `work.writeFormat` names. */
  batches(work: Work, rows: readonly Row[]): AsyncIterable<Batch>;
  /** What a reader of the target sees, ordered by id; undefined when there is no table. */
  visible(work: Work): Promise<Row[] | undefined>;
  /** Everything on the target that is there for works which are not published, in words. */
  leftovers(): Promise<string[]>;
  /** False: this server does not say what a table takes. */
  readonly tellsSizes?: boolean;
};

const never = new AbortController().signal;
export const writeOptions = (over: Partial<WriteOptions> = {}): WriteOptions => ({
  signal: never,
  quarantine: async (rows) => {
    throw new Error(`unexpected bad row ${rows[0]?.ordinal}: ${rows[0]?.reason}`);
  },
  ...over,
});

export const chunk = (id: number): Chunk => ({ id, kind: 'keys', bounds: { upto: [String(id)] }, rows: 2 });
export const codeOf = async (promise: Promise<unknown>): Promise<string> => {
  try {
    await promise;
    return 'no error';
  } catch (error) {
    return asGodwitError(error).code;
  }
};

const rowsOf = (id: number): Row[] => [
  [id * 10, `a${id}`],
  [id * 10 + 1, null],
];

export async function writeAll(
  target: Target,
  subject: TargetSubject,
  work: Work,
  ids: readonly number[],
): Promise<Counts[]> {
  await target.prepare(work);
  const counts: Counts[] = [];
  for (const id of ids) {
    const claim = await target.claim(work, chunk(id));
    counts.push(claim.done ?? (await target.write(work, claim, subject.batches(work, rowsOf(id)), writeOptions())));
  }
  return counts;
}

/** For the history: a published table with rows takes something, one that is not there nothing. */
export async function expectSizes(
  { target, tells = true }: { readonly target: Target; readonly tells?: boolean | undefined },
  work: Work,
  publish: () => Promise<unknown>,
): Promise<void> {
  const there = async () => (await target.sizes?.([work.name]))?.[0];
  expect(await there()).toBeUndefined();
  await publish();
  const size = await there();
  if (tells) expect(size).toBeGreaterThan(0);
  else expect(size).toBeUndefined();
  const none = { ...work.name, name: 'not there' };
  expect(await target.sizes?.([none, work.name, none])).toEqual([undefined, size, undefined]);
}

/** Gives what it has, then waits until `go` and gives the rest. */
async function* halted(batches: AsyncIterable<Batch>, at: () => void, go: Promise<void>): AsyncGenerator<Batch> {
  for await (const batch of batches) {
    yield batch;
    at();
    await go;
  }
}

export function testTarget(name: string, make: () => Promise<TargetSubject>): void {
  describe(name, () => {
    let subject: TargetSubject;
    let target: Target;
    let other: Target;
    beforeAll(async () => {
      subject = await make();
      target = await subject.open();
      other = await subject.open();
    });
    afterAll(async () => {
      await target?.[Symbol.asyncDispose]();
      await other?.[Symbol.asyncDispose]();
      await subject?.[Symbol.asyncDispose]();
    });

    const complete = async (work: Work, ids: readonly number[]) => {
      await writeAll(target, subject, work, ids);
      await target.finish(work);
      return await target.publish([work], []);
    };

    test('says the same identity through two connections, and passes its own checks', async () => {
      expect(await target.identity()).toBe(await other.identity());
      expect((await target.check()).filter((check) => check.outcome === 'fail')).toEqual([]);
    });

    test('shows nothing before publish and everything after it', async () => {
      const work = subject.work();
      expect(await target.refusals(work)).toEqual([]);
      await writeAll(target, subject, work, [1, 2]);
      expect((await subject.visible(work)) ?? []).toEqual([]);
      await target.finish(work);
      expect((await subject.visible(work)) ?? []).toEqual([]);
      await target.publish([work], []);
      expect(await subject.visible(work)).toEqual([...rowsOf(1), ...rowsOf(2)]);
    });

    test('every step may be asked for twice, by two workers', async () => {
      const work = subject.work();
      await Promise.all([target.prepare(work), other.prepare(work)]);
      await writeAll(other, subject, work, [1]);
      await writeAll(target, subject, work, [1]);
      await target.finish(work);
      await other.finish(work);
      const first = await target.publish([work], []);
      expect(await other.publish([work], [])).toEqual(first);
      expect(await subject.visible(work)).toEqual(rowsOf(1));
    });

    test('says what a published table takes', async () => {
      const work = subject.work();
      await expectSizes({ target, tells: subject.tellsSizes }, work, () => complete(work, [1, 2]));
    });

    test('a durable chunk is remembered with its counts', async () => {
      const work = subject.work();
      const [counts] = await writeAll(target, subject, work, [7]);
      expect(counts).toMatchObject({ read: 2, written: 2, filtered: 0, quarantined: 0 });
      expect((await other.claim(work, chunk(7))).done).toEqual(counts);
      const checkpoints = await Array.fromAsync(other.checkpoints(work));
      expect(checkpoints).toEqual([{ chunk: chunk(7), epoch: 1, done: true, counts }]);
      await target.discard(work);
    });

    test('an empty chunk is durable too', async () => {
      const work = subject.work();
      await target.prepare(work);
      const claim = await target.claim(work, chunk(1));
      const counts = await target.write(work, claim, subject.batches(work, []), writeOptions());
      expect(counts).toMatchObject({ read: 0, written: 0 });
      expect((await target.claim(work, chunk(1))).done).toEqual(counts);
      await target.finish(work);
      await target.publish([work], []);
      expect(await subject.visible(work)).toEqual([]);
    });

    test('a writer whose chunk was claimed again writes nothing', async () => {
      const work = subject.work();
      await target.prepare(work);
      const old = await target.claim(work, chunk(1));
      const young = await other.claim(work, chunk(1));
      expect(young.epoch).toBeGreaterThan(old.epoch);
      const stale = codeOf(target.write(work, old, subject.batches(work, [[999, 'stale']]), writeOptions()));
      expect(await stale).toBe('FENCED');
      await other.write(work, young, subject.batches(work, rowsOf(1)), writeOptions());
      expect(await codeOf(target.write(work, old, subject.batches(work, [[999, 'stale']]), writeOptions()))).toBe(
        'FENCED',
      );
      await target.finish(work);
      await target.publish([work], []);
      expect(await subject.visible(work)).toEqual(rowsOf(1));
    });

    test('a writer that hangs is overtaken, and what it does later does not count', async () => {
      const work = subject.work();
      await target.prepare(work);
      const old = await target.claim(work, chunk(1));
      const begun = Promise.withResolvers<void>();
      const go = Promise.withResolvers<void>();
      const slow = halted(
        subject.batches(work, [
          [998, 'slow'],
          [999, 'slow'],
        ]),
        begun.resolve,
        go.promise,
      );
      const late = codeOf(target.write(work, old, slow, writeOptions()));
      await begun.promise;
      const young = await other.claim(work, chunk(1));
      await other.write(work, young, subject.batches(work, rowsOf(1)), writeOptions());
      go.resolve();
      expect(['FENCED', 'CONNECTION_FAILED']).toContain(await late);
      await other.finish(work);
      await other.publish([work], []);
      expect(await subject.visible(work)).toEqual(rowsOf(1));
    });

    test('ten writers for one chunk leave its rows once', async () => {
      const work = subject.work();
      await target.prepare(work);
      const all = Array.from({ length: 10 }, async (_, i) => {
        const mine = i % 2 === 0 ? target : other;
        const claim: Claim = await mine.claim(work, chunk(1));
        if (claim.done) return 'done';
        return await codeOf(mine.write(work, claim, subject.batches(work, rowsOf(1)), writeOptions()));
      });
      await Promise.all(all);
      const last = await target.claim(work, chunk(1));
      if (!last.done) await target.write(work, last, subject.batches(work, rowsOf(1)), writeOptions());
      await target.finish(work);
      await target.publish([work], []);
      expect(await subject.visible(work)).toEqual(rowsOf(1));
    });

    test('a source that fails in the middle leaves nothing, and the chunk can be done again', async () => {
      const work = subject.work();
      await target.prepare(work);
      async function* broken() {
        yield* subject.batches(work, [[1, 'half']]);
        throw new Error('the source broke');
      }
      const claim = await target.claim(work, chunk(1));
      await expect(target.write(work, claim, broken(), writeOptions())).rejects.toThrow('the source broke');
      const again = await target.claim(work, chunk(1));
      expect(again.done).toBeUndefined();
      await target.write(work, again, subject.batches(work, rowsOf(1)), writeOptions());
      await target.finish(work);
      await target.publish([work], []);
      expect(await subject.visible(work)).toEqual(rowsOf(1));
    });

    test('an abort ends a write with its reason and leaves nothing', async () => {
      const work = subject.work();
      await target.prepare(work);
      const controller = new AbortController();
      const forever = new Promise<void>((_, reject) => {
        controller.signal.addEventListener('abort', () => reject(controller.signal.reason));
      });
      const claim = await target.claim(work, chunk(1));
      const slow = halted(
        subject.batches(work, rowsOf(1)),
        () => setTimeout(() => controller.abort(new Error('enough')), 50),
        forever,
      );
      await expect(target.write(work, claim, slow, writeOptions({ signal: controller.signal }))).rejects.toThrow(
        'enough',
      );
      expect((await target.claim(work, chunk(1))).done).toBeUndefined();
      await target.discard(work);
    });

    test('discard leaves nothing behind, twice too, and ends who still writes', async () => {
      const before = await subject.leftovers();
      const work = subject.work();
      await writeAll(target, subject, work, [1]);
      const claim = await target.claim(work, chunk(2));
      const begun = Promise.withResolvers<void>();
      const go = Promise.withResolvers<void>();
      const late = codeOf(
        target.write(work, claim, halted(subject.batches(work, rowsOf(2)), begun.resolve, go.promise), writeOptions()),
      );
      await begun.promise;
      await other.discard(work);
      await other.discard(work);
      go.resolve();
      expect(await late).not.toBe('no error');
      expect(await subject.leftovers()).toEqual(before);
      expect(await subject.visible(work)).toBeUndefined();
      expect(await codeOf(target.write(work, claim, subject.batches(work, rowsOf(2)), writeOptions()))).toBe('FENCED');
      expect(await subject.leftovers()).toEqual(before);
    });

    test('discard of one table leaves what another one beside it needs, and that of the last one leaves nothing', async () => {
      const beside = ({ name: { schema, name } }: Work): Work => ({
        ...subject.work(),
        name: { schema, name: `beside ${name}` },
      });
      const kept = subject.work();
      const gone = beside(kept);
      await writeAll(target, subject, kept, [1]);
      await writeAll(other, subject, gone, [1]);
      await other.discard(gone);
      await target.finish(kept);
      await target.publish([kept], []);
      expect(await subject.visible(kept)).toEqual(rowsOf(1));

      const before = await subject.leftovers();
      const first = subject.work();
      const last = beside(first);
      for (const work of [first, last]) await writeAll(target, subject, work, [1]);
      for (const work of [first, last]) await target.discard(work);
      expect(await subject.leftovers()).toEqual(before);
    });

    test('discard of what is published touches nothing', async () => {
      const work = subject.work();
      await complete(work, [1]);
      await target.discard(work);
      expect(await subject.visible(work)).toEqual(rowsOf(1));
    });

    test('the old rows stay readable until the new ones take their place', async () => {
      const first = subject.work();
      await complete(first, [1]);
      const second = { ...first, run: `${first.run}-2` };
      expect(await target.refusals(second)).toEqual([]);
      await writeAll(target, subject, second, [2]);
      await target.finish(second);
      expect(await subject.visible(second)).toEqual(rowsOf(1));
      await target.publish([second], []);
      expect(await subject.visible(second)).toEqual(rowsOf(2));
    });

    test('a canceled second run leaves the first one as it was', async () => {
      const first = subject.work();
      await complete(first, [1]);
      const before = await subject.leftovers();
      const second = { ...first, run: `${first.run}-2` };
      await writeAll(target, subject, second, [2]);
      await target.finish(second);
      await target.discard(second);
      expect(await subject.visible(first)).toEqual(rowsOf(1));
      expect(await subject.leftovers()).toEqual(before);
    });

    test('the next generation begins with nothing', async () => {
      const first = subject.work();
      await writeAll(target, subject, first, [1, 2]);
      await target.discard(first);
      const second = { ...first, generation: 2 };
      await target.prepare(second);
      expect((await target.claim(second, chunk(1))).done).toBeUndefined();
      await writeAll(target, subject, second, [1]);
      await target.finish(second);
      await target.publish([second], []);
      expect(await subject.visible(second)).toEqual(rowsOf(1));
    });

    test('a table of another job is not touched without being told to', async () => {
      const work = subject.work();
      await complete(work, [1]);
      const stranger = { ...work, jobUid: 'another job', run: 'another run' };
      expect((await target.refusals(stranger)).map((error) => error.code)).toContain('NOT_OWNED');
      expect(await codeOf(target.prepare(stranger))).toBe('NOT_OWNED');
      expect(await target.refusals({ ...stranger, existing: 'overwrite' })).toEqual([]);
      expect((await target.describe(work.name))?.owner).toBe(work.jobUid);
    });
  });
}
