/**
 * What a source of the incremental modes must do, in executable form: watermarks, ranges, late commits, keys for a sweep. The
 * runs are those of activities/plan/bounds.ts, into a target that is a map.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Following, rangeOf, stateAfter } from '../../activities/plan/bounds.ts';
import { comparer } from '../../activities/sweep.ts';
import type {
  Chunk,
  Follow,
  KeyRange,
  Range,
  Source,
  Table,
  TableName,
  TableState,
  Watermark,
} from '../../connectors/contract.ts';
import { codeOf, never, ownMoment, readRows, under, whole } from './source.ts';

/** Somebody else's connection. */
export type Hands = AsyncDisposable & {
  /** Begins a transaction: the server's clock then, canonical text of the bookmark's type. */
  begin(): Promise<string>;
  commit(): Promise<void>;
  now(): Promise<string>;
  /** Writes the rows, each new or over the one of its number. Outside of a transaction committed at once. */
  put(name: TableName, rows: readonly (readonly [id: number, at: string | null])[]): Promise<void>;
  truncate(name: TableName): Promise<void>;
};

export type KeyTable = {
  readonly table: Table;
  readonly key: readonly string[];
  /** Its values have another order in ranges than in batches (years past 9999): no range ends at one. */
  readonly unranged?: boolean;
};

export type IncrementalSubject = AsyncDisposable & {
  open(): Source;
  /** A new table: a whole number as key, a bookmark that may be NULL; with an index on it or without. */
  make(options: { readonly indexed: boolean }): Promise<TableName>;
  /** So that the table's estimates are those of its rows. */
  settle(name: TableName): Promise<void>;
  describe(source: Source, name: TableName): Promise<Table>;
  readonly columns: { readonly id: string; readonly at: string };
  /** Digits of a second's fraction that the bookmark keeps. */
  readonly digits: 3 | 6;
  hands(): Promise<Hands>;
  /** Why transactions that are open at a read cannot be known here: then only the `recheck` window is promised. */
  readonly late?: string;
  /** Why a table filled anew cannot be told from the one described. */
  readonly noStorageIdentity?: string;
  /** Tables with keys of every type, and what is hard to sort in them. */
  keyTables(source: Source): Promise<readonly KeyTable[]>;
};

const seconds = (count: number, fraction = ''): string =>
  `${new Date(Date.UTC(2024, 1, 29) + count * 1000).toISOString().slice(0, 19)}${fraction && `.${fraction}`}`;

export function testIncrementalSource(name: string, make: () => Promise<IncrementalSubject>): void {
  describe(name, () => {
    let subject: IncrementalSubject;
    let source: Source;
    let hands: Hands;
    /** A bookmark so many seconds after some day, as the column's canonical text. */
    let at: (count: number, fraction?: string) => string;

    beforeAll(async () => {
      subject = await make();
      source = subject.open();
      hands = await subject.hands();
      const sample = await hands.now();
      at = (count, fraction) => `${seconds(count, fraction)}${sample.endsWith('Z') ? 'Z' : ''}`;
    });
    afterAll(async () => {
      await hands?.[Symbol.asyncDispose]();
      await source?.[Symbol.asyncDispose]();
      await subject?.[Symbol.asyncDispose]();
    });

    const bookmark = (): Follow => ({ by: 'bookmark', column: subject.columns.at, form: 'native' });
    const key = (): Follow => ({ by: 'key', column: subject.columns.id, form: 'native' });

    const tableWith = async (
      rows: readonly (readonly [number, string | null])[],
      options = { indexed: true },
    ): Promise<Table> => {
      const table = await subject.make(options);
      if (rows.length > 0) await hands.put(table, rows);
      await subject.settle(table);
      return await subject.describe(source, table);
    };

    const watermark = async (table: Table, follow: Follow, recheck = 0): Promise<Watermark> => {
      await using snapshot = await source.open();
      const { takenAt: clock, pending } = snapshot;
      const options = { snapshot: under(snapshot), clock, ...(pending ? { pending } : {}), recheck, signal: never };
      const taken = await source.watermark?.(table, follow, options);
      if (!taken) throw new Error('no watermark');
      return taken;
    };

    const chunksOf = (table: Table, range: Range | undefined, rows: number, after?: Chunk) =>
      Array.fromAsync(
        source.split(table, {
          size: { rows, bytes: 1e12 },
          snapshot: ownMoment,
          ...(range ? { range } : {}),
          ...(after ? { after } : {}),
          signal: never,
        }),
      );

    type Found = readonly [id: string, at: string | null];
    const rowsOf = async (table: Table, chunk: Chunk, range?: Range, snapshot = ownMoment): Promise<Found[]> => {
      const columns = [subject.columns.id, subject.columns.at].map((one) => ({ name: one, shape: 'native' as const }));
      const rows = await readRows(source, table, chunk, { columns, snapshot, ...(range ? { range } : {}) });
      return rows.map(([id, value]) => [String(id), value === null || value === undefined ? null : instant(value)]);
    };
    const rangeRows = async (table: Table, range: Range | undefined, rows = 1000): Promise<Found[]> => {
      const found: Found[] = [];
      for (const chunk of await chunksOf(table, range, rows)) found.push(...(await rowsOf(table, chunk, range)));
      return found;
    };
    const ids = (rows: readonly Found[]): number[] => rows.map(([id]) => Number(id)).sort((a, b) => a - b);

    // ── Watermarks ────────────────────────────────────────────────────────────────────────────────────────────────

    test('of an empty table a watermark has a clock and nothing else to read from', async () => {
      const table = await tableWith([]);
      for (const follow of [bookmark(), key()]) {
        const taken = await watermark(table, follow);
        expect(taken.upto).toBeUndefined();
        expect(taken.floor).toBeUndefined();
        expect(taken.clock).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
        expect(Math.abs(Date.parse(taken.clock) - Date.now())).toBeLessThan(60_000);
      }
      expect(await rangeRows(table, { column: subject.columns.at, nulls: true })).toEqual([]);
    });

    test('the greatest bookmark, also one of the future; NULL is none', async () => {
      const table = await tableWith([[1, at(1)], [2, null], [3, '2199-12-31T23:59:59.5Z'.slice(0, at(0).endsWith('Z') ? undefined : -1)]]); // biome-ignore format: rows
      const taken = await watermark(table, bookmark());
      expect(Date.parse(zoned(taken.upto ?? ''))).toBe(Date.parse('2199-12-31T23:59:59.5Z'));
    });

    test('the greatest key, and the one that lies `recheck` keys below', async () => {
      const table = await tableWith(numbers(50).map((id) => [id * 10, at(id)]));
      expect(await watermark(table, key(), 5)).toMatchObject({ upto: '500', floor: '450' });
      expect((await watermark(table, key(), 50)).floor).toBeUndefined();
      expect((await watermark(table, key(), 49)).floor).toBe('10');
    });

    test('a column without an order of time is refused', async () => {
      const table = await tableWith([]);
      const follow = { ...bookmark(), column: subject.columns.id };
      if (!source.documents) expect(await codeOf(watermark(table, follow))).toBe('TYPE_REFUSED');
    });

    // ── Ranges ────────────────────────────────────────────────────────────────────────────────────────────────────

    test('both ends of a range belong to it, with all rows that tie there', async () => {
      const table = await tableWith(numbers(30).map((id) => [id, at(Math.ceil(id / 10))]));
      const range = { column: subject.columns.at, from: at(2), upto: at(2) };
      expect(ids(await rangeRows(table, range))).toEqual(numbers(10).map((i) => i + 10));
      expect(ids(await rangeRows(table, { column: subject.columns.at, from: at(2) }))).toHaveLength(20);
      expect(ids(await rangeRows(table, { column: subject.columns.at, upto: at(2) }))).toHaveLength(20);
      const keys = { column: subject.columns.id, from: '7', upto: '9' };
      expect(ids(await rangeRows(table, keys))).toEqual([7, 8, 9]);
    });

    test('the last digit of a fraction counts', async () => {
      const [low, high] = subject.digits === 6 ? ['000001', '999999'] : ['001', '999'];
      const table = await tableWith([[1, at(1)], [2, at(1, low)], [3, at(1, high)], [4, at(2)]]); // biome-ignore format: rows
      const between = { column: subject.columns.at, from: at(1, low), upto: at(1, high) };
      expect(ids(await rangeRows(table, between))).toEqual([2, 3]);
      expect(ids(await rangeRows(table, { ...between, upto: at(1, low) }))).toEqual([2]);
    });

    test('rows without a bookmark are read where they are asked for, and nowhere else', async () => {
      const table = await tableWith([[1, at(1)], [2, null], [3, at(3)], [4, null]]); // biome-ignore format: rows
      const { at: column } = subject.columns;
      expect(ids(await rangeRows(table, { column, from: at(2), nulls: true }))).toEqual([2, 3, 4]);
      expect(ids(await rangeRows(table, { column, from: at(2) }))).toEqual([3]);
      expect(ids(await rangeRows(table, { column, nulls: true }))).toEqual([1, 2, 3, 4]);
      expect(ids(await rangeRows(table, { column }))).toEqual([1, 3]);
    });

    test('chunks of a range cover each of its rows once, whatever the values and the index', async () => {
      const second = fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constantFrom(7, 7, 20), fc.constant(undefined));
      for (const indexed of [true, false]) {
        await fc.assert(
          fc.asyncProperty(
            fc.array(second, { minLength: 60, maxLength: 300 }),
            fc.record({ from: second, upto: second, nulls: fc.boolean(), size: fc.integer({ min: 5, max: 50 }) }),
            async (values, { from, upto, nulls, size }) => {
              const table = await tableWith(
                values.map((value, i) => [i + 1, value === undefined ? null : at(value)]),
                { indexed },
              );
              const range: Range = {
                column: subject.columns.at,
                ...(from === undefined ? {} : { from: at(from) }),
                ...(upto === undefined ? {} : { upto: at(upto) }),
                nulls,
              };
              const wanted = values.flatMap((value, i) => {
                const inside = value === undefined ? nulls : (from ?? -1) <= value && value <= (upto ?? 99);
                return inside ? [i + 1] : [];
              });
              expect(ids(await rangeRows(table, range, size))).toEqual(wanted);
            },
          ),
          { numRuns: 8 },
        );
      }
    });

    test('chunks of a range are found again from behind any of them', async () => {
      const table = await tableWith(numbers(600).map((id) => [id, id % 50 === 0 ? null : at(id % 90)]));
      const range = { column: subject.columns.at, from: at(10), upto: at(40), nulls: true };
      const chunks = await chunksOf(table, range, 40);
      expect(chunks.length).toBeGreaterThan(3);
      for (const [i, chunk] of chunks.entries()) {
        const rest = await chunksOf(table, range, 40, JSON.parse(JSON.stringify(chunk)) as Chunk);
        expect(rest.map(({ id, kind, bounds }) => ({ id, kind, bounds }))).toEqual(
          chunks.slice(i + 1).map(({ id, kind, bounds }) => ({ id, kind, bounds })),
        );
      }
    });

    // ── Runs ──────────────────────────────────────────────────────────────────────────────────────────────────────

    type Here = Map<string, string | null>;
    type Runner = { readonly here: Here; run(): Promise<number>; state?: TableState };

    /** Runs of one table into a map. `deaf`: without what the source knows of open transactions. */
    const runner = (name: TableName, follow: Follow, how: { recheck?: number; deaf?: boolean } = {}): Runner => {
      const self: Runner = {
        here: new Map(),
        async run() {
          const table = await subject.describe(source, name);
          await using snapshot = await source.open();
          const { takenAt: clock, pending } = snapshot;
          const moment = under(snapshot);
          const recheck = follow.by === 'key' ? (how.recheck ?? 0) : 0;
          const options = { snapshot: moment, clock, ...(pending ? { pending } : {}), recheck, signal: never };
          const full = await source.watermark?.(table, follow, options);
          if (!full) throw new Error('no watermark');
          const { open: _open, oldest: _oldest, ...rest } = full;
          // As it comes back from where it is kept.
          const now = JSON.parse(JSON.stringify(how.deaf ? rest : full)) as Watermark;
          const column = table.columns.find((one) => one.name === follow.column);
          const following: Following = {
            follow,
            kind: column === undefined || column.type.kind === 'text' ? 'timestamptz' : column.type.kind,
            nullable: column?.nullable ?? true,
            lags: { buffer: 0, grace: 0, recheck: how.recheck ?? 0 },
            timezone: 'UTC',
          };
          const range = self.state && rangeOf(self.state, now, following);
          const size = { rows: 100, bytes: 1e12 };
          let written = 0;
          for await (const chunk of source.split(table, {
            size,
            snapshot: moment,
            ...(range ? { range } : {}),
            signal: never,
          })) {
            for (const [id, value] of await rowsOf(table, chunk, range, moment)) {
              if (self.here.get(id) === value && self.here.has(id)) continue;
              self.here.set(id, value);
              written++;
            }
          }
          const ended = source.ended?.bind(source);
          self.state = JSON.parse(
            JSON.stringify(stateAfter(self.state, now, { follow, run: 'r', ended })),
          ) as TableState;
          return written;
        },
      };
      return self;
    };

    const there = async (name: TableName): Promise<[string, string | null][]> => {
      const table = await subject.describe(source, name);
      return (await rangeRows(table, undefined)).map(([id, value]): [string, string | null] => [id, value]).sort();
    };
    const sorted = (here: Here) => [...here].sort();

    test('a run with nothing new writes nothing; ties at the last bookmark and a rewritten NULL arrive', async () => {
      const { name } = await tableWith(numbers(200).map((id) => [id, id === 200 ? null : at(id)]));
      const runs = runner(name, bookmark());
      expect(await runs.run()).toBe(200);
      expect(await runs.run()).toBe(0);
      await hands.put(name, [[201, at(199)], [202, null], [200, at(300)]]); // biome-ignore format: rows
      expect(await runs.run()).toBe(3);
      expect(sorted(runs.here)).toEqual(await there(name));
    });

    test('a bookmark of the future hides nothing that comes after it', async () => {
      const { name } = await tableWith([[1, at(3_000_000_000)]]);
      const runs = runner(name, bookmark());
      await runs.run();
      await hands.put(name, [[2, await hands.now()]]);
      await runs.run();
      expect(sorted(runs.here)).toEqual(await there(name));
    });

    for (const by of ['bookmark', 'key'] as const) {
      const follow = () => (by === 'key' ? key() : bookmark());

      /** The transaction begins before the load or after it, and is open over so many increments; then one run more. */
      const held = async (over: number, since: 'load' | 'increment', deaf = false) => {
        const { name } = await tableWith(numbers(120).map((id) => [id, at(id)]));
        const runs = runner(name, follow(), { deaf });
        await using late = await subject.hands();
        const begin = async () => {
          const began = await late.begin();
          // A key behind all that was committed before it, and before all that comes while it is open.
          await late.put(name, [[since === 'load' ? 200 : 215, began]]);
        };
        if (since === 'load') await begin();
        await hands.put(name, [[210, await hands.now()]]);
        await runs.run();
        if (since === 'increment') await begin();
        for (let i = 0; i < over; i++) {
          await hands.put(name, [[220 + i, await hands.now()]]);
          await runs.run();
        }
        await late.commit();
        await hands.put(name, [[300, await hands.now()]]);
        await runs.run();
        const missed = (await there(name)).filter(([id]) => !runs.here.has(id));
        await runs.run();
        return { missed, again: await runs.run() };
      };

      test.for([
        [1, 'increment'],
        [2, 'increment'],
        [0, 'load'],
        [1, 'load'],
        [2, 'load'],
      ] as const)(
        `a commit that comes %i increments late is not lost, open since the %s (by ${by})`,
        async ([over, since], { skip }) => {
          if (subject.late) return skip(subject.late);
          expect(await held(over, since)).toEqual({ missed: [], again: 0 });
        },
      );

      test(`that rests on what the source knows of open transactions (by ${by})`, async ({ skip }) => {
        if (subject.late) return skip(subject.late);
        expect((await held(2, 'increment', true)).missed).toHaveLength(1);
      });
    }

    test('a transaction that has written nothing yet may still write an old bookmark', async ({ skip }) => {
      if (subject.late) return skip(subject.late);
      const { name } = await tableWith([[1, at(1)]]);
      const runs = runner(name, bookmark());
      await using late = await subject.hands();
      const began = await late.begin();
      await runs.run();
      await hands.put(name, [[2, await hands.now()]]);
      await runs.run();
      await late.put(name, [[3, began]]);
      await runs.run();
      await late.commit();
      await runs.run();
      expect(sorted(runs.here)).toEqual(await there(name));
    });

    test.for(['bookmark', 'key'] as const)(
      'random writers between random runs end with what the source has (by %s)',
      async (by, { skip }) => {
        if (by === 'key' && subject.late) return skip(subject.late);
        const step = fc.oneof(
          fc.record({
            writer: fc.integer({ min: 0, max: 2 }),
            does: fc.constantFrom('begin', 'put', 'commit'),
            id: fc.integer({ min: 0, max: 20 }),
          }),
          fc.constant('run' as const),
        );
        await fc.assert(
          fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async (steps) => {
            const { name } = await tableWith(numbers(150).map((id) => [id * 1000, at(id)]));
            const follow = by === 'key' ? key() : bookmark();
            const runs = runner(name, follow, subject.late ? { recheck: 3600 } : {});
            let given = 150_000;
            const writers = await Promise.all([0, 1, 2].map(() => subject.hands()));
            const began: (string | undefined)[] = [undefined, undefined, undefined];
            try {
              await runs.run();
              for (const one of steps) {
                if (one === 'run') {
                  await runs.run();
                  continue;
                }
                const { writer, does, id } = one;
                const own = writers[writer] as Hands;
                if (does === 'begin') began[writer] ??= await own.begin();
                else if (does === 'put') {
                  // Each its own rows, or none would ever wait for another's commit; keys are given out in order.
                  const number = by === 'key' ? ++given : id * 3 + writer;
                  await own.put(name, [[number, began[writer] ?? (await own.now())]]);
                } else if (began[writer] !== undefined) {
                  await own.commit();
                  began[writer] = undefined;
                }
              }
              for (const [i, own] of writers.entries()) if (began[i] !== undefined) await own.commit();
              await runs.run();
              expect(sorted(runs.here)).toEqual(await there(name));
            } finally {
              for (const own of writers) await own[Symbol.asyncDispose]();
            }
          }),
          { numRuns: 5 },
        );
      },
    );

    test('a table emptied between runs goes on; emptied between description and read it is another one', async () => {
      const { name } = await tableWith(numbers(100).map((id) => [id, at(id)]));
      const runs = runner(name, bookmark());
      await runs.run();
      const before = await subject.describe(source, name);
      await hands.truncate(name);
      await hands.put(name, [[500, await hands.now()]]);
      await runs.run();
      expect(runs.here.has('500')).toBe(true);
      if (subject.noStorageIdentity) return;
      expect(await codeOf(watermark(before, bookmark()))).toBe('SOURCE_CHANGED');
      expect(await codeOf(rangeRows(before, { column: subject.columns.at, from: at(1) }))).toBe('SOURCE_CHANGED');
      if (source.keys) expect(await codeOf(keysOf(before, [subject.columns.id], {}))).toBe('SOURCE_CHANGED');
    });

    // ── Keys ──────────────────────────────────────────────────────────────────────────────────────────────────────

    const keysOf = async (table: Table, key: readonly string[], range: KeyRange): Promise<string[]> => {
      const keys: string[] = [];
      const want = { snapshot: ownMoment, signal: never };
      for await (const batch of source.keys?.(table, key, range, want) ?? []) keys.push(...batch);
      return keys;
    };
    const rangesOf = (table: Table, key: readonly string[], rows: number, after?: Chunk) =>
      Array.fromAsync(
        source.keyRanges?.(table, key, {
          size: { rows, bytes: 1e12 },
          snapshot: ownMoment,
          ...(after ? { after } : {}),
          signal: never,
        }) ?? [],
      );

    test('keys of every type come in the one order, all of them, once', async ({ skip }) => {
      if (!source.keys) return skip('no sweep');
      for (const { table, key, unranged } of await subject.keyTables(source)) {
        const keys = await keysOf(table, key, {});
        const types = key.map(
          (name) => table.columns.find((column) => column.name === name)?.type ?? { kind: 'text' as const },
        );
        const compare = comparer(types);
        for (const [i, one] of keys.entries()) {
          if (i > 0)
            expect(
              compare(keys[i - 1] as string, one),
              `${table.name.name}: ${keys[i - 1]} before ${one}`,
            ).toBeLessThan(0);
        }
        expect(keys, table.name.name).toHaveLength((await readRows(source, table, whole)).length);
        if (unranged) continue;
        // Any key may end a range.
        for (const [i, one] of keys.entries()) {
          const bound = one.split('\0');
          expect(await keysOf(table, key, { upto: bound }), `${table.name.name} up to ${one}`).toEqual(
            keys.slice(0, i + 1),
          );
          expect(await keysOf(table, key, { after: bound }), `${table.name.name} after ${one}`).toEqual(
            keys.slice(i + 1),
          );
        }
      }
    });

    test('ranges of keys are one behind another without a gap, and are found again from behind any', async ({
      skip,
    }) => {
      if (!source.keys) return skip('no sweep');
      const table = await tableWith(numbers(900).map((id) => [id * 7, at(id)]));
      const key = [subject.columns.id];
      const ranges = await rangesOf(table, key, 200);
      expect(ranges.length).toBeGreaterThan(2);
      const all: string[] = [];
      for (const [i, range] of ranges.entries()) {
        expect(range.after).toEqual(ranges[i - 1]?.upto);
        all.push(...(await keysOf(table, key, range)));
        const after: Chunk | undefined = range.upto && { id: 9, kind: 'sweep', bounds: { upto: range.upto }, rows: 0 };
        if (after) expect((await rangesOf(table, key, 200, after))[0]?.after).toEqual(range.upto);
      }
      expect(ranges.at(-1)?.upto).toBeUndefined();
      expect(all).toEqual(numbers(900).map((id) => String(id * 7)));
    });

    test('a digest differs when one key does, and not when rows do', async ({ skip }) => {
      if (!source.digest) return skip('no digest');
      const rows = numbers(300).map((id): [number, string] => [id, at(id)]);
      const want = { snapshot: ownMoment, signal: never };
      const digest = (table: Table, range: KeyRange) => source.digest?.(table, [subject.columns.id], range, want);
      const one = await tableWith(rows);
      const same = await tableWith(rows.map(([id]) => [id, null]).reverse() as [number, null][]);
      const other = await tableWith(rows.map(([id, value]) => [id === 150 ? 4_294_967_446 : id, value]));
      expect(await digest(same, {})).toEqual(await digest(one, {}));
      expect((await digest(other, {}))?.count).toBe(300);
      expect((await digest(other, {}))?.hash).not.toBe((await digest(one, {}))?.hash);
      expect(await digest(other, { upto: ['149'] })).toEqual(await digest(one, { upto: ['149'] }));
      expect(await digest(await tableWith([]), {})).toMatchObject({ count: 0 });
      const { parts } = (await digest(one, {})) ?? {};
      if (!parts) return;
      const changed = (await digest(other, {}))?.parts?.of;
      const only = [...parts.of].filter(([part, hash]) => changed?.get(part) !== hash).map(([part]) => part);
      const found = (await Array.fromAsync(source.keys?.(one, [subject.columns.id], { only }, want) ?? [])).flat();
      expect(found).toContain('150');
      expect(found.length).toBeLessThan(10);
    });
  });
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);
const zoned = (text: string): string => (text.endsWith('Z') ? text : `${text}Z`);
/** Without the zeros at the end of a fraction, which a system may write or not. */
const instant = (value: unknown): string =>
  String(value).replace(/\.(\d*?)0*(Z?)$/, (_, digits: string, zone: string) => `${digits && `.${digits}`}${zone}`);
