/**
 * What every target of the incremental modes must do, in executable form, beyond `testTarget`. A target that `appends`
 * (files) may write rows again that are there; what is said of unchanged rows is not asked of it.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type {
  Batch,
  Chunk,
  Counts,
  Increment,
  KeyBatch,
  KeyRange,
  TableState,
  Target,
  Work,
} from '../../connectors/contract.ts';
import type { Row } from '../../connectors/types.ts';
import { chunk, codeOf, expectSizes, writeOptions } from './target.ts';

export type IncrementalSubject = AsyncDisposable & {
  /** A new target on it, as another worker would have; the test disposes. */
  open(): Promise<Target> | Target;
  /** The load of a table of its own, mode syncing, columns `id` (int32, the key) and `v` (text). */
  work(over?: Partial<Work>): Work;
  /** Rows in the format `work.writeFormat` names. */
  batches(work: Work, rows: readonly Row[]): AsyncIterable<Batch>;
  /** The current rows as a reader sees them, ordered by id; undefined when there is no table. */
  visible(work: Work): Promise<Row[] | undefined>;
  /** Everything on the target that is there for works which are not published, in words. */
  leftovers(): Promise<string[]>;
  /** Takes the table away, as somebody else would. */
  drop(work: Work): Promise<void>;
  /** Something of each row, by id, that is another after it was written. Absent where nothing shows it. */
  versions?(work: Work): Promise<string[]>;
  /** Makes the table with its key and these rows, as another tool would. Absent: `remember` is not asked for. */
  bring?(work: Work, rows: readonly Row[]): Promise<void>;
  /** Rows lane: a row the target refuses for its data. */
  readonly bad?: Row;
  /** False: this server does not say what a table takes. */
  readonly tellsSizes?: boolean;
};

export const stateOf = (n: number): TableState => ({
  follow: { by: 'bookmark', column: 'at', form: 'native' },
  settled: { upto: `2024-01-0${n}T00:00:00.000001Z`, clock: `2024-01-0${n}T12:00:00.123456Z`, open: { xmax: `${n}` } },
  pending: { upto: 'ünï \\ "q" \u0001', clock: `2024-01-0${n}T12:30:00.000000Z` },
  startedAt: `2024-01-0${n}T12:00:00.123456Z`,
  succeededAt: `2024-01-0${n}T13:00:00.000Z`,
  run: `run ${n}`,
});

/** The next run of a table that was loaded. */
export const nextRun = (work: Work, n: number, over: Partial<Work> = {}): Work => ({
  ...work,
  run: `${work.run}-${n}`,
  increment: { existing: 'update' },
  state: stateOf(n),
  ...over,
});

export type Way = { readonly target: Target; readonly subject: Pick<IncrementalSubject, 'batches'> };

export async function writeChunks(
  { target, subject }: Way,
  work: Work,
  chunks: readonly (readonly Row[])[],
): Promise<Counts[]> {
  await target.prepare(work);
  const counts: Counts[] = [];
  for (const [i, rows] of chunks.entries()) {
    const claim = await target.claim(work, chunk(i + 1));
    counts.push(claim.done ?? (await target.write(work, claim, subject.batches(work, rows), writeOptions())));
  }
  return counts;
}

export async function wholeRun(way: Way, work: Work, chunks: readonly (readonly Row[])[]): Promise<Counts[]> {
  const counts = await writeChunks(way, work, chunks);
  await way.target.finish(work);
  await way.target.publish([work], []);
  return counts;
}

const never = new AbortController().signal;
const sweepChunk = (id: number, bounds: KeyRange = {}): Chunk => ({ id, kind: 'sweep', bounds, rows: 0 });
async function* given(...batches: KeyBatch[]): AsyncGenerator<KeyBatch> {
  yield* batches;
}

/** Gives what it has, then waits until `go` and gives the end. */
async function* halted(batches: AsyncIterable<Batch>, at: () => void, go: Promise<void>): AsyncGenerator<Batch> {
  for await (const batch of batches) {
    yield batch;
    at();
    await go;
  }
}

export function testIncrementalTarget(name: string, make: () => Promise<IncrementalSubject>): void {
  describe(name, () => {
    let subject: IncrementalSubject;
    let target: Target;
    let other: Target;
    let way: Way;
    beforeAll(async () => {
      subject = await make();
      target = await subject.open();
      other = await subject.open();
      way = { target, subject };
    });
    afterAll(async () => {
      await target?.[Symbol.asyncDispose]();
      await other?.[Symbol.asyncDispose]();
      await subject?.[Symbol.asyncDispose]();
    });

    const first: Row[] = [
      [1, 'one'],
      [2, null],
      [3, ''],
    ];
    /** A table after its load, with its state. */
    const loaded = async (rows: readonly Row[] = first, over: Partial<Work> = {}): Promise<Work> => {
      const work = subject.work({ state: stateOf(1), ...over });
      await wholeRun(way, work, [rows]);
      return work;
    };
    const expectCounts = (counts: Counts | undefined, expected: Partial<Counts>) => {
      const { written = 0, unchanged = 0 } = counts ?? {};
      if (target.appends) expect([counts?.read, written + unchanged]).toEqual([expected.read, expected.read]);
      else expect(counts).toMatchObject(expected);
    };

    test('has the incremental modes, and says of a table it never loaded that it remembers nothing', async () => {
      expect(target.refusesMode?.('syncing')).toBeUndefined();
      expect(target.refusesMode?.('logging')).toBeUndefined();
      expect(await target.state?.(subject.work())).toBeUndefined();
    });

    test('says what a published table takes', async () => {
      const work = subject.work({ state: stateOf(1) });
      await expectSizes({ target, tells: subject.tellsSizes }, work, () => wholeRun(way, work, [first]));
    });

    test('a load is remembered in the step that makes it visible, and not before', async () => {
      const work = subject.work({ state: stateOf(1) });
      expect(await target.refusals(work)).toEqual([]);
      await writeChunks(way, work, [first]);
      await target.finish(work);
      expect(await other.state?.(work)).toBeUndefined();
      expect((await subject.visible(work)) ?? []).toEqual([]);
      await target.publish([work], []);
      expect(await other.state?.(work)).toEqual(stateOf(1));
      expect(await subject.visible(work)).toEqual(first);
      expect(await other.state?.({ ...work, jobUid: 'another job' })).toBeUndefined();
      expect(await other.state?.({ ...work, target: 'another target' })).toBeUndefined();
    });

    test('a run with nothing new writes nothing, and is remembered all the same', async () => {
      const work = await loaded();
      const before = await subject.versions?.(work);
      const again = nextRun(work, 2);
      expect(await target.refusals(again)).toEqual([]);
      const [counts] = await wholeRun(way, again, [first]);
      expectCounts(counts, { read: 3, written: 0, unchanged: 3, inserted: 0, updated: 0, quarantined: 0 });
      expect(await subject.versions?.(work)).toEqual(before);
      expect(await target.state?.(again)).toEqual(stateOf(2));
      const empty = nextRun(work, 3);
      const [none] = await wholeRun(way, empty, [[]]);
      expectCounts(none, { read: 0, written: 0, unchanged: 0 });
      expect(await subject.versions?.(work)).toEqual(before);
      expect(await target.state?.(empty)).toEqual(stateOf(3));
      expect(await subject.visible(work)).toEqual(first);
    });

    test('new rows are inserted, changed ones updated, equal ones left; each counted', async () => {
      const work = await loaded();
      const again = nextRun(work, 2);
      const before = await subject.versions?.(work);
      const [counts] = await wholeRun(way, again, [
        [
          [1, 'one'],
          [2, 'not null any more'],
          [3, null],
          [4, 'new'],
        ],
      ]);
      expectCounts(counts, { read: 4, written: 3, inserted: 1, updated: 2, unchanged: 1 });
      expect(await subject.visible(work)).toEqual([
        [1, 'one'],
        [2, 'not null any more'],
        [3, null],
        [4, 'new'],
      ]);
      const now = await subject.versions?.(work);
      if (before && now && !target.appends) {
        expect(now[0]).toBe(before[0]);
        expect(now[1]).not.toBe(before[1]);
      }
    });

    test('values are other ones by their bytes, whatever a collation says', async () => {
      const texts = ['a', 'é', 'b', 'ß', '0'];
      const others = ['A', 'e\u0301', 'b ', 'ss', '00'];
      const rows = (of: string[]): Row[] => of.map((text, i) => [i, text]);
      const work = await loaded(rows(texts));
      const [counts] = await wholeRun(way, nextRun(work, 2), [rows(others)]);
      expectCounts(counts, { read: 5, written: 5, updated: 5, unchanged: 0 });
      expect(await subject.visible(work)).toEqual(rows(others));
    });

    test('of two rows of one key in a chunk the later one wins, and both are in the books', async () => {
      const work = await loaded();
      const [counts] = await wholeRun(way, nextRun(work, 2), [
        [
          [1, 'older'],
          [9, 'older'],
          [1, 'one'],
          [9, 'younger'],
        ],
      ]);
      expectCounts(counts, { read: 4, written: 1, inserted: 1, updated: 0, unchanged: 3 });
      // There the bookmark tells which is the later one.
      if (target.appends) return;
      expect(await subject.visible(work)).toEqual([...first, [9, 'younger']]);
    });

    test('`keep` inserts what is not there and changes nothing else', async () => {
      const work = await loaded();
      const keep: Increment = { existing: 'keep' };
      const [counts] = await wholeRun(way, nextRun(work, 2, { mode: 'logging', increment: keep }), [
        [
          [1, 'changed'],
          [4, 'new'],
        ],
      ]);
      if (target.appends) return;
      expect(counts).toMatchObject({ read: 2, written: 1, inserted: 1, updated: 0, unchanged: 1 });
      expect(await subject.visible(work)).toEqual([...first, [4, 'new']]);
    });

    test('a backfill leaves what is remembered', async () => {
      const work = await loaded();
      const { state: _state, ...backfill } = nextRun(work, 2);
      await wholeRun(way, backfill, [[[5, 'five']]]);
      expect(await subject.visible(work)).toEqual([...first, [5, 'five']]);
      expect(await target.state?.(work)).toEqual(stateOf(1));
    });

    test('a load anew takes the place of the table, and its state that of the one before', async () => {
      const work = await loaded();
      await wholeRun(way, nextRun(work, 2), [[[4, 'four']]]);
      const anew = { ...work, run: `${work.run}-full`, state: stateOf(3) };
      expect(await target.refusals(anew)).toEqual([]);
      await writeChunks(way, anew, [[[7, 'seven']]]);
      await target.finish(anew);
      expect(await target.state?.(work)).toEqual(stateOf(2));
      expect(await subject.visible(work)).toEqual([...first, [4, 'four']]);
      await target.publish([anew], []);
      expect(await target.state?.(work)).toEqual(stateOf(3));
      expect(await subject.visible(work)).toEqual([[7, 'seven']]);
    });

    test('every step may be asked for twice, by two workers', async () => {
      const work = await loaded();
      const again = nextRun(work, 2);
      await Promise.all([target.prepare(again), other.prepare(again)]);
      const [counts] = await writeChunks({ target: other, subject }, again, [[[4, 'four']]]);
      expect(await writeChunks(way, again, [[[4, 'never']]])).toEqual([counts]);
      const checkpoints = await Array.fromAsync(other.checkpoints(again));
      // Files keep no bounds: nothing there is sealed.
      const noted = target.appends ? { ...chunk(1), bounds: null } : chunk(1);
      expect(checkpoints).toEqual([{ chunk: noted, epoch: 1, done: true, counts }]);
      await target.finish(again);
      await other.finish(again);
      const published = await target.publish([again], []);
      expect(await other.publish([again], [])).toEqual(published);
      await target.prepare(again);
      expect(await subject.visible(work)).toEqual([...first, [4, 'four']]);
      expect(await target.state?.(work)).toEqual(stateOf(2));
    });

    test('what was committed stays when the run is canceled, and nothing is remembered of it', async () => {
      const work = await loaded();
      const leftovers = await subject.leftovers();
      const again = nextRun(work, 2);
      await writeChunks(way, again, [[[4, 'four']]]);
      await other.discard(again);
      await other.discard(again);
      if (!target.appends) expect(await subject.visible(work)).toEqual([...first, [4, 'four']]);
      expect(await target.state?.(work)).toEqual(stateOf(1));
      expect(await subject.leftovers()).toEqual(leftovers);
      // The next one reads the same stretch again.
      const third = nextRun(work, 3);
      await wholeRun(way, third, [[[4, 'four']]]);
      expect(await subject.visible(work)).toEqual([...first, [4, 'four']]);
      expect(await target.state?.(work)).toEqual(stateOf(3));
    });

    test('a writer whose chunk was claimed again writes nothing', async () => {
      const work = await loaded();
      const again = nextRun(work, 2);
      await target.prepare(again);
      const old = await target.claim(again, chunk(1));
      const young = await other.claim(again, chunk(1));
      const stale: Row[] = [
        [1, 'stale'],
        [8, 'stale'],
      ];
      expect(await codeOf(target.write(again, old, subject.batches(again, stale), writeOptions()))).toBe('FENCED');
      await other.write(again, young, subject.batches(again, [[1, 'young']]), writeOptions());
      expect(await codeOf(target.write(again, old, subject.batches(again, stale), writeOptions()))).toBe('FENCED');
      await target.finish(again);
      await target.publish([again], []);
      expect(await subject.visible(work)).toEqual([[1, 'young'], ...first.slice(1)]);
    });

    test('a writer that hangs is overtaken, and its older rows never lie over the newer ones', async () => {
      const work = await loaded();
      const again = nextRun(work, 2);
      await target.prepare(again);
      const old = await target.claim(again, chunk(1));
      const begun = Promise.withResolvers<void>();
      const go = Promise.withResolvers<void>();
      const slow: Row[] = [
        [1, 'slow'],
        [8, 'slow'],
      ];
      const late = codeOf(
        target.write(again, old, halted(subject.batches(again, slow), begun.resolve, go.promise), writeOptions()),
      );
      await begun.promise;
      const young = await other.claim(again, chunk(1));
      await other.write(again, young, subject.batches(again, [[1, 'young']]), writeOptions());
      go.resolve();
      expect(['FENCED', 'CONNECTION_FAILED']).toContain(await late);
      await other.finish(again);
      await other.publish([again], []);
      expect(await subject.visible(work)).toEqual([[1, 'young'], ...first.slice(1)]);
    });

    test('ten writers for one chunk leave its rows once', async () => {
      const work = await loaded();
      const again = nextRun(work, 2);
      await target.prepare(again);
      const rows: Row[] = [
        [1, 'ten'],
        [4, 'ten'],
      ];
      const all = Array.from({ length: 10 }, async (_, i) => {
        const mine = i % 2 === 0 ? target : other;
        const claim = await mine.claim(again, chunk(1));
        if (claim.done) return 'done';
        return await codeOf(mine.write(again, claim, subject.batches(again, rows), writeOptions()));
      });
      await Promise.all(all);
      const last = await target.claim(again, chunk(1));
      const counts = last.done ?? (await target.write(again, last, subject.batches(again, rows), writeOptions()));
      expectCounts(counts, { read: 2, written: 2, inserted: 1, updated: 1 });
      await target.finish(again);
      await target.publish([again], []);
      expect(await subject.visible(work)).toEqual([[1, 'ten'], ...first.slice(1), [4, 'ten']]);
    });

    test('a source that fails in the middle leaves nothing, and the chunk can be done again', async () => {
      const work = await loaded();
      const again = nextRun(work, 2);
      await target.prepare(again);
      async function* broken() {
        yield* subject.batches(again, [
          [1, 'half'],
          [4, 'half'],
        ]);
        throw new Error('the source broke');
      }
      const claim = await target.claim(again, chunk(1));
      await expect(target.write(again, claim, broken(), writeOptions())).rejects.toThrow('the source broke');
      if (!target.appends) expect(await subject.visible(work)).toEqual(first);
      const [counts] = await writeChunks(way, again, [[[1, 'whole']]]);
      expectCounts(counts, { read: 1, written: 1, updated: 1 });
      await target.finish(again);
      await target.publish([again], []);
      expect(await subject.visible(work)).toEqual([[1, 'whole'], ...first.slice(1)]);
    });

    test('bad rows of the rows lane are set aside, the others merged', async () => {
      if (!subject.bad) return;
      const work = await loaded(first, { writeFormat: 'rows', readFormat: 'rows' });
      const again = nextRun(work, 2);
      await target.prepare(again);
      const rows: Row[] = [[1, 'good'], subject.bad, [4, 'good']];
      const claim = await target.claim(again, chunk(1));
      const aside: number[] = [];
      const quarantine = async (found: readonly { readonly ordinal: number }[]) => {
        aside.push(...found.map((one) => one.ordinal));
      };
      const counts = await target.write(again, claim, subject.batches(again, rows), writeOptions({ quarantine }));
      expectCounts(
        { ...counts, written: target.appends ? counts.written + counts.quarantined : counts.written },
        {
          read: 3,
          written: 2,
          quarantined: 1,
          inserted: 1,
          updated: 1,
          unchanged: 0,
        },
      );
      expect(aside).toEqual([1]);
      await target.discard(again);
    });

    test('a table that is gone, or that is another by now, is not taken for the one that was left', async () => {
      const work = await loaded();
      const again = nextRun(work, 2);
      await target.prepare(again);
      await subject.drop(work);
      expect(await target.state?.(work)).toBeUndefined();
      expect(await codeOf(target.prepare(nextRun(work, 3)))).toBe('STATE_CHANGED');
      const claim = await target.claim(again, chunk(1));
      const code = await codeOf(target.write(again, claim, subject.batches(again, [[1, 'x']]), writeOptions()));
      expect(code).toBe('STATE_CHANGED');
      if (!subject.bring) return;
      await subject.bring(work, [[1, 'of somebody else']]);
      expect(await target.state?.(work)).toBeUndefined();
      expect(await codeOf(target.prepare(nextRun(work, 3)))).toBe('STATE_CHANGED');
      const second = await target.claim(again, chunk(1));
      expect(await codeOf(target.write(again, second, subject.batches(again, [[1, 'x']]), writeOptions()))).toBe(
        'STATE_CHANGED',
      );
      expect(await codeOf(target.publish([again], []))).toBe('STATE_CHANGED');
      expect(await subject.visible(work)).toEqual([[1, 'of somebody else']]);
    });

    test('the rows of another tool are taken over when that is asked for, and gone on from', async () => {
      if (!subject.bring || !target.remember) return;
      const work = subject.work();
      await subject.bring(work, first);
      expect(await codeOf(target.remember(work, stateOf(1)))).toBe('NOT_OWNED');
      expect(await target.state?.(work)).toBeUndefined();
      await target.remember({ ...work, existing: 'adopt' }, stateOf(1));
      expect(await other.state?.(work)).toEqual(stateOf(1));
      const again = nextRun(work, 2);
      expect(await target.refusals(again)).toEqual([]);
      const [counts] = await wholeRun(way, again, [
        [
          [1, 'one'],
          [4, 'four'],
        ],
      ]);
      expectCounts(counts, { read: 2, written: 1, inserted: 1, unchanged: 1 });
      expect(await subject.visible(work)).toEqual([...first, [4, 'four']]);
      // The owner says it once more: what another tool did meanwhile.
      await target.remember(work, stateOf(3));
      expect(await target.state?.(work)).toEqual(stateOf(3));
    });

    describe('sweeping', () => {
      const many: Row[] = Array.from({ length: 2500 }, (_, i) => [i - 50, `v${i}`]);
      const keysOf = async (work: Work, range: KeyRange = {}) =>
        (await Array.fromAsync(target.keys?.(work, range, never) ?? [])).flat();

      test('gives all keys of a range in their order, and a digest that tells them apart', async () => {
        if (!target.keys) return;
        const work = nextRun(await loaded(many), 2);
        expect(await keysOf(work)).toEqual(many.map(([id]) => String(id)));
        expect(await keysOf(work, { after: ['-3'], upto: ['11'] })).toEqual(
          Array.from({ length: 14 }, (_, i) => String(i - 2)),
        );
        if (!target.digest) return;
        const all = await target.digest(work, {}, never);
        expect(all.count).toBe(2500);
        const low = await target.digest(work, { upto: ['100'] }, never);
        const high = await target.digest(work, { after: ['100'] }, never);
        expect(low.count + high.count).toBe(2500);
        expect(low.hash).not.toBe(high.hash);
        const fresh = nextRun(await loaded(many.map(([id]) => [id as number, 'another'])), 2);
        expect(await target.digest(fresh, {}, never)).toEqual(all);
      });

      test('gives the keys of some parts of a digest, each key in one', async ({ skip }) => {
        const work = nextRun(await loaded(many), 2);
        const { parts } = (await target.digest?.(work, {}, never)) ?? {};
        if (!parts) return skip('no parts of a digest');
        const numbers = [...parts.of.keys()];
        const [low, high] = [numbers.slice(0, 7), numbers.slice(7)];
        const keys = [...(await keysOf(work, { only: low })), ...(await keysOf(work, { only: high }))];
        expect(keys.map(Number).sort((a, b) => a - b)).toEqual(many.map(([id]) => id));
        const fewer = await target.digest?.(work, { upto: ['100'] }, never);
        const found = await keysOf(work, { upto: ['100'], only: low });
        expect(found.length).toBe(
          low.reduce((sum, part) => sum + Number(fewer?.parts?.of.get(part)?.split(' ')[0] ?? 0), 0),
        );
      });

      test('deletes the rows of the keys with the checkpoint, and counts them', async () => {
        if (!target.deleteKeys) return;
        const work = await loaded(many, { mode: 'mirroring' });
        const again = nextRun(work, 2);
        await target.prepare(again);
        const claim = await target.claim(again, sweepChunk(1));
        const counts = await target.deleteKeys(again, claim, given(['0', '7'], ['100', '99999']), never);
        expect(counts).toMatchObject({ read: 0, written: 0, deleted: 3 });
        expect((await other.claim(again, sweepChunk(1))).done).toEqual(counts);
        const gone = new Set([0, 7, 100]);
        expect(await subject.visible(work)).toEqual(many.filter(([id]) => !gone.has(id as number)));
        const nothing = await target.claim(again, sweepChunk(2, { after: ['5'] }));
        expect(await target.deleteKeys(again, nothing, given(), never)).toMatchObject({ deleted: 0 });
        await target.finish(again);
        await target.publish([again], []);
        expect(await target.state?.(work)).toEqual(stateOf(2));
      });

      test('deletes nothing when the keys end with an error, and nothing for an older attempt', async () => {
        if (!target.deleteKeys) return;
        const work = await loaded(first, { mode: 'mirroring' });
        const again = nextRun(work, 2);
        await target.prepare(again);
        async function* broken(): AsyncGenerator<KeyBatch> {
          yield ['1'];
          throw new Error('came back short');
        }
        const claim = await target.claim(again, sweepChunk(1));
        const failing = target.deleteKeys(again, claim, broken(), never);
        await expect(failing).rejects.toThrow('came back short');
        expect(await subject.visible(work)).toEqual(first);
        const old = await target.claim(again, sweepChunk(1));
        const young = await other.claim(again, sweepChunk(1));
        expect(await codeOf(target.deleteKeys(again, old, given(['1']), never))).toBe('FENCED');
        expect(await subject.visible(work)).toEqual(first);
        await other.deleteKeys?.(again, young, given(['2']), never);
        expect(await codeOf(target.deleteKeys(again, old, given(['1']), never))).toBe('FENCED');
        expect(await subject.visible(work)).toEqual([first[0], first[2]]);
        await target.discard(again);
      });
    });
  });
}
