/**
 * Each mode from each source to each target is cut off in its midst: in the first load, and in an increment; mirroring while it writes
 * or while it deletes. Writes go on between the runs. Nothing is read twice to be safe (`recheck` is none), so that what is lost stays lost.
 */
import { eq } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Chunk } from '../../connectors/contract.ts';
import { chunks, leases } from '../../db/schema.ts';
import { missing } from '../servers/shared.ts';
import { absent } from './from.ts';
import { type Held, installHeld } from './held.ts';
import type { IncrementalMode } from './promise.ts';
import { type Item, type Items, type SourceWord, sources, type Target, type TargetWord, targets } from './worlds.ts';

/** Each source and each target in each mode; all of them with GODWIT_TEST_ALL_PAIRS. */
const few: readonly (readonly [SourceWord, TargetWord])[] = [
  ['mysql', 'pgsql'],
  ['mongo', 'mariadb'],
  ['pgsql', 'mongo'],
  ['pgsql', 'files'],
];
const all = (['pgsql', 'mysql', 'mariadb', 'mongo'] as const).flatMap((from) =>
  (['pgsql', 'mysql', 'mariadb', 'mongo', 'files'] as const).map((to) => [from, to] as const),
);
const pairs = process.env.GODWIT_TEST_ALL_PAIRS ? all : few;
const modes: readonly IncrementalMode[] = ['logging', 'syncing', 'mirroring'];

const skips = new Map<TargetWord, boolean>();
for (const word of new Set(pairs.flat())) skips.set(word, await absent(word));

/** Several chunks of a megabyte each. */
const first = 5_400;
const second = 3_000;
/** The first of the new ones. */
const beyond = first + 100;
const wide = (text: string) => text.padEnd(900, '.');

describe.skipIf((await missing('postgres')) || (await missing('temporal')))(
  'cut off',
  { concurrent: true, timeout: 600_000 },
  () => {
    const stack = new AsyncDisposableStack();
    let godwit: Held;
    beforeAll(async () => {
      godwit = stack.use(await installHeld({ GODWIT_CHUNK_MB: '1' }));
    });
    afterAll(() => stack.disposeAsync());

    for (const [from, to] of pairs) {
      // Files cannot delete.
      const those = modes.filter((mode) => to !== 'files' || mode !== 'mirroring');
      test.skipIf(skips.get(from) || skips.get(to))(`${those.join(', ')} from ${from} to ${to}`, () =>
        story(godwit, from, to, those),
      );
    }
  },
);

/** One job with one table in one mode, and what runs have seen of its source so far: what its target must hold. */
type Copy = {
  readonly mode: IncrementalMode;
  readonly alias: string;
  readonly mapping: object;
  readonly target: Target;
  /** Its increment is cut off while it deletes, not while it writes. */
  readonly deletes: boolean;
  readonly seen: Map<number, Item>;
  /** Chunks that were there when it was cut off. */
  done: readonly number[];
  /** Any row of the increment. */
  wrote: boolean;
};

async function story(godwit: Held, from: SourceWord, to: TargetWord, those: readonly IncrementalMode[]): Promise<void> {
  await using source = await sources[from]();
  await using stack = new AsyncDisposableStack();
  const here = new Map<number, Item>();
  const put = async (...items: Item[]) => {
    await source.put(items);
    for (const item of items) here.set(item.id, item);
  };
  const remove = async (...ids: number[]) => {
    await source.remove(ids);
    for (const id of ids) here.delete(id);
  };
  const now = (id: number, name: string): Item => ({ id, name: wide(`${name} ${id}`), at: Date.now() + (id % 300) });
  const copies: Copy[] = [];
  for (const mode of those) {
    const target = stack.use(await targets[to](godwit.home));
    const alias = `${from}-${to}-${mode}`;
    const mapping = {
      name: alias,
      source: source.settings,
      destination: { [alias]: target.settings },
      tables: [{ ...source.entry, mode, recheck: { minutes: 0, keys: 0 } }],
    };
    const deletes = mode === 'mirroring' && to !== 'pgsql';
    copies.push({ mode, alias, mapping, target, deletes, seen: new Map(), done: [], wrote: false });
  }
  const each = async (work: (copy: Copy) => Promise<void>) => {
    const ended = await Promise.allSettled(copies.map(work));
    for (const result of ended) if (result.status === 'rejected') throw result.reason;
  };
  /** These rows were read as they are now. */
  const saw = ({ mode, seen }: Copy, which: (id: number) => boolean = () => true) => {
    for (const [id, item] of here) if (which(id) && !(mode === 'logging' && seen.has(id))) seen.set(id, item);
  };
  const swept = ({ mode, seen }: Copy) => {
    if (mode === 'mirroring') for (const id of seen.keys()) if (!here.has(id)) seen.delete(id);
  };
  // A first load: all keys, in their order.
  const start = Date.now() - 10 * 86_400_000;
  await put(...numbers(1, first).map((id) => ({ id, name: wide(`first ${id}`), at: start + id * 1000 })));
  const early = (id: number) => id <= 10;
  await each(async (copy) => {
    const { table, done } = await cutShort(godwit, copy, afterTwo);
    expect(table.step).toBe('load');
    // Not there yet, whatever a reader is told then.
    expect(await copy.target.all().catch(() => new Map())).toEqual(new Map());
    saw(copy, early);
    copy.done = done;
  });
  await put(now(3, 'between'), now(first - 1, 'between'), now(first + 1, 'between'));
  await remove(5, first - 3);
  await each(async (copy) => {
    expect((await goesOn(godwit, copy, copy.done)).step).toBe('load');
    saw(copy, (id) => !early(id));
  });

  // An increment: of all rows, and new ones; logging has the new ones alone. Mirroring deletes some.
  await put(...numbers(1, first).flatMap((id) => (here.has(id) ? [now(id, 'second')] : [])));
  await put(...numbers(beyond, beyond + second).map((id) => now(id, 'second')));
  await remove(7, first - 7, ...numbers(100, 1000).filter((id) => id % 3 === 0));
  const committed = ({ mode, deletes, wrote }: Copy) => {
    if (deletes) return () => true;
    // A source may look through all keys for the new ones: those come last.
    return mode === 'logging' ? (id: number) => wrote && id < beyond + 10 : early;
  };
  await each(async (copy) => {
    const before = await copy.target.all();
    const { table, done } = await cutShort(godwit, copy, copy.deletes ? afterOneSweep : afterTwo);
    copy.done = done;
    copy.wrote = table.rowsWritten > 0;
    expect(table.step).toBe('increment');
    const after = await copy.target.all();
    const changed = differences(before, after).filter((id) => after.has(id));
    for (const id of changed) expect(after.get(id)).toEqual(here.get(id));
    const gone = [...before.keys()].filter((id) => !after.has(id));
    expect(gone.filter((id) => here.has(id))).toEqual([]);
    // Parts become visible together. What MongoDB has decided on it copies by itself, and that may not be written down yet.
    if (to === 'files') expect(changed).toEqual([]);
    else if (to === 'mongo') {
      expect(changed.length).toBeGreaterThanOrEqual(table.rowsWritten);
      expect(gone.length).toBeGreaterThanOrEqual(table.rowsDeleted);
    } else expect([changed.length, gone.length], copy.alias).toEqual([table.rowsWritten, table.rowsDeleted]);
    saw(copy, committed(copy));
  });
  const last = beyond + second;
  await put(...[4, first - 2, beyond + 5, last - 2, last + 5].map((id) => now(id, 'between')));
  await remove(6, first - 6, beyond + 6);
  await each(async (copy) => {
    expect((await goesOn(godwit, copy, copy.done)).step).toBe('increment');
    saw(copy, (id) => !committed(copy)(id));
    swept(copy);
    const { table } = await over(godwit, copy, 'what came meanwhile');
    saw(copy);
    swept(copy);
    expect(differences(copy.seen, await copy.target.all()), copy.alias).toEqual([]);
    expect(table.rowsWritten, copy.alias).toBeLessThanOrEqual(copy.mode === 'logging' ? 1 : 5);
  });
}

const numbers = (from: number, upto: number) => Array.from({ length: upto - from + 1 }, (_, i) => from + i);

type Hold = { readonly holds: (chunk: Chunk) => boolean; readonly enough: (done: readonly ChunkRow[]) => boolean };
type ChunkRow = typeof chunks.$inferSelect;

/** The first two chunks of rows pass: keys come in order. MongoDB may have one for what is in no order, which is empty here. */
const afterTwo = (): Hold => ({
  holds: ({ id }) => id > 2,
  enough: (done) => [1, 2].every((id) => done.some((one) => one.chunk === id)),
});
/** All rows pass, and one range of keys. */
function afterOneSweep(): Hold {
  let passed: number | undefined;
  return {
    holds({ id, kind }) {
      if (kind !== 'sweep') return false;
      passed ??= id;
      return id !== passed;
    },
    enough: (done) => done.some((one) => one.kind === 'sweep'),
  };
}

/** The ids whose rows differ. */
function differences(a: Items, b: Items): number[] {
  const same = (x?: Item, y?: Item) => x !== undefined && x.name === y?.name && x.at === y.at;
  return [...new Set([...a.keys(), ...b.keys()])].filter((id) => !same(a.get(id), b.get(id)));
}

/** Milliseconds after which runs are cut off: what this machine needs to come so far, as earlier tries showed. */
let pace = 4000;

/** A run that is cut off while chunks are held, others being there. One that did not come so far is followed by one with more time. */
async function cutShort(godwit: Held, { alias, mapping }: Copy, hold: () => Hold) {
  let stood: readonly string[] = [];
  for (let tries = 0; tries < 6; tries++) {
    const ms = pace;
    const { holds, enough } = hold();
    godwit.rules.set(alias, holds);
    const { run, table } = await godwit.run(mapping, ms);
    godwit.rules.delete(alias);
    expect([run.status, run.failure?.code], `${alias}: ${table?.failure?.message}`).toEqual(['partial', 'CUT_OFF']);
    expect(await godwit.db.select().from(leases).where(eq(leases.runId, run.id))).toEqual([]);
    const found = await godwit.db.select().from(chunks).where(eq(chunks.runId, run.id));
    const done = found.filter(({ status }) => status === 'done');
    stood = found.map(({ chunk, kind, status }) => `${chunk} ${kind} ${status}`);
    if (!table || !enough(done)) {
      pace = Math.max(pace, Math.min(ms * 2, 60_000));
      continue;
    }
    expect(table.status, alias).toBe('cut off');
    expect(run.failure?.message, alias).toMatch(/Left: .*item/);
    return { table, done: done.map(({ chunk }) => chunk) };
  }
  throw new Error(`${alias}: was not cut off in its midst: ${stood.join(', ')}`);
}

/** The next run ends what was cut off: all but what is there. */
async function goesOn(godwit: Held, copy: Copy, done: readonly number[]) {
  const { table, written } = await over(godwit, copy, 'goes on');
  expect(table.notes.join(), copy.alias).toMatch(/goes on where run \d+ stopped/);
  expect(
    written.filter((chunk) => done.includes(chunk)),
    copy.alias,
  ).toEqual([]);
  expect(written.length, copy.alias).toBeGreaterThan(0);
  return table;
}

/** A run that is not cut off. */
async function over(godwit: Held, { alias, mapping }: Copy, what: string) {
  const { run, table, written } = await godwit.run(mapping);
  const failure = table?.failure ?? run.failure;
  expect(run.status, `${alias}: ${what}: ${failure?.code} ${failure?.message}`).toBe('succeeded');
  if (!table) throw new Error(`${alias}: no table`);
  const { rowsRead, rowsWritten, rowsUnchanged, rowsFiltered, rowsQuarantined } = table;
  expect(rowsRead, alias).toBe(rowsWritten + rowsUnchanged + rowsFiltered + rowsQuarantined);
  return { table, written };
}
