import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DuckDBInstance } from '@duckdb/node-api';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { PlanColumn, Table, TableState, Target, Work } from '../../connectors/contract.ts';
import { openLocal } from '../../connectors/files/local.ts';
import type { Manifest } from '../../connectors/files/manifest.ts';
import { openS3 } from '../../connectors/files/s3.ts';
import { parseSettings, type S3Settings, type Settings } from '../../connectors/files/settings.ts';
import type { Store } from '../../connectors/files/store.ts';
import { openTarget, targetOf } from '../../connectors/files/target.ts';
import type { Row } from '../../connectors/types.ts';
import { type DuckDb, openDuckDb } from '../../transforms/duckdb.ts';
import { rowsToParts } from '../../transforms/rows.ts';
import { missing, sharedS3 } from '../servers/shared.ts';
import { chunk, fileWork, writeOptions } from './files-fixture.ts';
import { type IncrementalSubject, testIncrementalTarget } from './incremental-target.ts';

let folder: string;
let duckdb: DuckDb;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'godwit-files-incremental-'));
  duckdb = await openDuckDb({ spool: join(folder, 'spool'), memoryBytes: 200 * 1024 * 1024 });
});
afterAll(async () => {
  await duckdb?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

type Place = { readonly settings: Settings; readonly store: Store; readonly open: () => Promise<Target> };
const compact = { parts: 4, megabytes: 16 };
const spool = () => join(folder, 'target-spool');

async function localPlace(): Promise<Place> {
  const path = join(folder, randomUUID(), 'a [lake]');
  await mkdir(path, { recursive: true });
  const settings = parseSettings('files', { path, compact });
  return {
    settings,
    store: await openLocal({ path, fileRoots: [folder] }),
    open: () => openTarget(settings, { fileRoots: [folder], spool: spool() }),
  };
}

async function s3Place(): Promise<Place> {
  const { endpoint, region, accessKeyId, secretAccessKey, bucket } = await sharedS3();
  const given = { s3_bucket_name: bucket, prefix: 'the lake/é', endpoint, region, compact };
  const settings = parseSettings('s3', { ...given, access_key_id: accessKeyId, secret_access_key: secretAccessKey });
  return {
    settings,
    store: openS3(settings as S3Settings),
    open: () => openTarget(settings, { fileRoots: [], spool: spool() }),
  };
}

const kinds = [
  { kind: 'a folder', skip: false, place: localPlace },
  { kind: 'S3', skip: await missing('s3'), place: s3Place },
] as const;

// ── A table ─────────────────────────────────────────────────────────────────────────────────────────────────────────

type Format = 'parquet' | 'csv' | 'ndjson';
type Item = {
  readonly id: number;
  readonly at: string | null;
  readonly name: string | null;
  readonly day: string | null;
  readonly n: number | null;
};
type By = NonNullable<Work['partition']>['format'] | 'none';

const table: Table = {
  system: 'postgres',
  name: { schema: 'shop', name: 'orders' },
  kind: 'table',
  columns: [
    { name: 'id', type: { kind: 'int64' }, native: 'bigint', nullable: false },
    { name: 'changed at', type: { kind: 'timestamptz' }, native: 'timestamptz', nullable: true },
    { name: 'na"me', type: { kind: 'text' }, native: 'text', nullable: true },
    { name: 'day', type: { kind: 'date' }, native: 'date', nullable: true },
    { name: 'n', type: { kind: 'int32' }, native: 'integer', nullable: true },
  ],
  key: ['id'],
  rows: 10,
  bytes: 100,
  references: [],
  fingerprint: 'x',
};
const rowOf = ({ id, at, name, day, n }: Item, stamp: string): Row => [BigInt(id), at, name, day, n, stamp];

const shapes = await (async () => {
  await using store = await openLocal({ path: join(tmpdir(), 'godwit-no-such'), fileRoots: [tmpdir()] });
  const target = targetOf(store);
  const stamp = {
    name: 'godwit_updated_at',
    type: { kind: 'timestamptz' },
    native: 'timestamptz',
    nullable: false,
  } as const;
  return (format: Format, at: string): PlanColumn[] =>
    target.fit({ ...table, columns: [...table.columns, stamp] }, format).map((fit, i): PlanColumn => {
      const column = [...table.columns, stamp][i]!;
      if (fit.fit === 'refused') throw new Error(fit.reason);
      const { name, nullable } = column;
      const own =
        i === table.columns.length ? { constant: at, shape: 'native' as const, type: stamp.type } : { from: name };
      return { name, nullable, misfit: 'stop', ...fit, ...own };
    });
})();

let clock = Date.parse('2024-01-01T00:00:00Z');
type Given = Partial<Work> & { readonly format?: Format; readonly by?: By };
/** A run of that table; each later than the one before. */
function runOf({ format = 'parquet', by = 'none', ...given }: Given = {}): Work {
  clock += 3_600_000;
  const snapshotDate = new Date(clock).toISOString();
  const mode = given.mode ?? 'syncing';
  const column = { datetime: 'day', int: 'n', str: 'na"me', none: '' }[by];
  return fileWork({
    mode,
    source: table,
    columns: shapes(format, snapshotDate),
    writeFormat: format,
    lane: 'rows',
    readFormat: 'rows',
    snapshotDate,
    ...(by === 'none' ? {} : { partition: { column, format: by } }),
    state: stateAt(snapshotDate, mode),
    ...given,
  });
}
const stateAt = (at: string, mode = 'syncing'): TableState => ({
  follow:
    mode === 'logging'
      ? { by: 'key', column: 'id', form: 'native' }
      : { by: 'bookmark', column: 'changed at', form: 'native' },
  settled: { clock: at, upto: at },
  startedAt: at,
  succeededAt: at,
  run: at,
});
const increment = (given: Given = {}): Work =>
  runOf({ increment: { existing: given.mode === 'logging' ? 'keep' : 'update' }, ...given });

const partsFrom = (work: Work, rows: readonly Row[]) =>
  rowsToParts(
    (async function* () {
      yield { kind: 'rows' as const, rows };
    })(),
    work,
    { spool: join(folder, 'spool'), duckdb, signal: new AbortController().signal },
  );
const partsOf = (work: Work, items: readonly Item[]) =>
  partsFrom(
    work,
    items.map((item) => rowOf(item, work.snapshotDate as string)),
  );

/** One run: a chunk per list of rows. */
async function move(target: Target, work: Work, ...chunks: readonly (readonly Item[])[]) {
  await target.prepare(work);
  const counts = [];
  for (const [i, items] of chunks.entries()) {
    const claim = await target.claim(work, chunk(i + 1));
    counts.push(claim.done ?? (await target.write(work, claim, partsOf(work, items), writeOptions())));
  }
  await target.finish(work);
  await target.publish([work], []);
  return counts;
}

const text = async (store: Store, key: string) => {
  const found = await store.get(key);
  return found && new TextDecoder().decode(found.bytes);
};
const manifestOf = async (store: Store): Promise<Manifest> =>
  JSON.parse((await text(store, 'shop/orders/_manifest.json')) ?? 'null');

async function keysOf(store: Store, prefix = ''): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list(prefix)) keys.push(key);
  return keys.sort();
}

/** The folder has exactly the manifest's parts, and nothing waits. */
async function expectTidy(store: Store): Promise<Manifest> {
  const manifest = await manifestOf(store);
  const visible = (await keysOf(store, 'shop/orders/')).filter((key) => !key.includes('/_'));
  expect(visible).toEqual(manifest.parts.map(({ path }) => `shop/orders/${path}`).sort());
  expect(manifest.removing).toEqual([]);
  expect(await keysOf(store, '_godwit/')).toEqual([]);
  const recents = (await keysOf(store, 'shop/orders/_godwit/')).filter((key) => key.includes('recent'));
  expect(recents).toEqual(manifest.recent ? [`shop/orders/${manifest.recent}`] : []);
  return manifest;
}

/** A bucket is mirrored into a folder, as this DuckDB has no httpfs; so its glob characters are plain ones. */
async function mirrorOf(store: Store): Promise<string> {
  if (store.kind === 'local') return `${store.url('').replaceAll('[', '[[]')}/`;
  const mirror = await mkdtemp(join(folder, 'mirror-'));
  for await (const { key } of store.list('shop/')) {
    const at = join(mirror, key);
    await mkdir(dirname(at), { recursive: true });
    await store.fetch(key, at);
  }
  return `${mirror}/`;
}

async function viewOf(store: Store, key: string): Promise<string> {
  const sql = (await text(store, key))!;
  if (store.kind === 'local') return sql;
  expect(sql).toContain(store.url('shop/'));
  return sql.replaceAll(store.url(''), await mirrorOf(store));
}

async function rowsIn(view: string, query: string): Promise<Row[]> {
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  try {
    await connection.run("SET TimeZone = 'Asia/Kolkata'");
    if (view !== '') await connection.run(view);
    return (await connection.runAndReadAll(query)).getRows() as Row[];
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

/** What `_current.sql` shows in a DuckDB of its own. */
async function current(store: Store, stamped = true): Promise<Item[]> {
  const rows = await rowsIn(
    await viewOf(store, 'shop/orders/_current.sql'),
    'SELECT CAST(id AS VARCHAR), CAST("changed at" AS VARCHAR), "na""me", CAST("day" AS VARCHAR), CAST(n AS VARCHAR), godwit_updated_at FROM shop.orders',
  );
  const shown = rows.map(([id, at, name, day, n, stamp]): Item => {
    if (stamped) expect(stamp).not.toBeNull();
    const instant = at === null ? null : new Date(String(at).replace(/\+(\d\d)$/, '+$1:00')).toISOString();
    return {
      id: Number(id),
      at: instant,
      name: name as string | null,
      day: day as string | null,
      n: n === null ? null : Number(n),
    };
  });
  return sorted(shown);
}
const sorted = (items: readonly Item[]): Item[] => [...items].sort((a, b) => a.id - b.id);

let minute = Date.parse('2023-06-01T00:00:00Z');
const now = () => {
  minute += 60_000;
  return new Date(minute).toISOString();
};
const item = (id: number, name: string | null = `name ${id}`, more: Partial<Item> = {}): Item => ({
  id,
  at: now(),
  name,
  day: `2024-0${(id % 3) + 1}-15`,
  n: id % 4,
  ...more,
});

// ── The tests ───────────────────────────────────────────────────────────────────────────────────────────────────────

describe('The incremental modes of a file target', () => {
  test('are syncing and logging: mirroring is refused with its ways out', async () => {
    const { open } = await localPlace();
    await using target = await open();
    expect(target.appends).toBe(true);
    expect(target.partitions).toEqual(['datetime', 'int', 'str']);
    for (const mode of ['replace', 'dumping', 'syncing', 'logging'] as const)
      expect(target.refusesMode?.(mode)).toBeUndefined();
    expect(target.refusesMode?.('mirroring')).toMatch(/cannot.*syncing.*replace.*database/);
  });
});

for (const { kind, skip, place } of kinds) {
  const name = `Files in ${kind} as a target of increments`;
  if (skip) describe.skip(name, () => {});
  else testIncrementalTarget(name, () => subjectIn(place));

  describe.skipIf(skip)(`Increments in ${kind}`, () => {
    test('add parts, remember their state, and show the latest of each key', async () => {
      const { store, open } = await place();
      await using target = await open();
      const load = runOf();
      expect(await target.state?.(load)).toBeUndefined();
      const [one, two, three] = [item(1), item(2), item(3)];
      expect((await move(target, load, [one, two], [three]))[0]).not.toHaveProperty('unchanged');
      expect(await target.state?.(load)).toEqual(load.state);
      const first = await expectTidy(store);
      expect(await current(store)).toEqual([one, two, three]);

      const next = increment();
      const [two2, four] = [item(2, 'new'), item(4, null, { at: null, day: null })];
      // The third is read again, as it came.
      expect(await move(target, next, [three, two2], [four])).toMatchObject([
        { read: 2, written: 1, unchanged: 1, inserted: 1 },
        { read: 1, written: 1, unchanged: 0, inserted: 1 },
      ]);
      const second = await expectTidy(store);
      expect(second.parts.slice(0, first.parts.length)).toEqual(first.parts);
      expect(second.rows).toBe(5);
      expect(await target.state?.(next)).toEqual(next.state);
      expect(await current(store)).toEqual([one, two2, three, four]);
      await target.publish([next], []);
      expect(await expectTidy(store)).toEqual(second);

      // A load takes the place of them all.
      await move(target, runOf(), [four]);
      expect((await expectTidy(store)).parts).toHaveLength(1);
      expect(await current(store)).toEqual([four]);
    });

    test('with nothing new write no part and change nothing but the state', async () => {
      const { store, open } = await place();
      await using target = await open();
      const all = [item(1), item(2, null, { at: null })];
      await move(target, runOf(), all);
      const before = await expectTidy(store);
      const view = await text(store, 'shop/orders/_current.sql');
      for (const chunks of [[], [[]], [all], [[all[0]!], [all[1]!]]] as Item[][][]) {
        const work = increment();
        for (const counts of await move(target, work, ...chunks)) expect(counts.written).toBe(0);
        const { remembers, published, ...rest } = await expectTidy(store);
        const { remembers: _r, published: _p, ...was } = before;
        expect(rest).toEqual(was);
        expect(remembers?.state).toEqual(work.state);
        expect(published).toEqual({ run: work.run, generation: 1 });
      }
      expect(await text(store, 'shop/orders/_current.sql')).toBe(view);
    });

    test('keep what is remembered in a backfill, and see a row that went back to what it was', async () => {
      const { store, open } = await place();
      await using target = await open();
      const load = runOf();
      const [a, b] = [item(1, 'a'), item(1, 'b')];
      await move(target, load, [a]);
      const { state: _state, ...backfill } = increment();
      expect(await move(target, backfill, [b])).toMatchObject([{ written: 1 }]);
      expect(await target.state?.(load)).toEqual(load.state);
      expect(await current(store)).toEqual([b]);
      expect(await move(target, increment(), [a])).toMatchObject([{ written: 1, unchanged: 0 }]);
      expect(await current(store)).toEqual([a]);
      expect(await move(target, increment(), [a])).toMatchObject([{ written: 0, unchanged: 1 }]);
    });

    test('of logging keep what came first', async () => {
      const { store, open } = await place();
      await using target = await open();
      const rows = [item(1, 'first'), item(2, 'first')];
      await move(target, runOf({ mode: 'logging' }), rows);
      expect(await move(target, increment({ mode: 'logging' }), [item(2, 'later'), item(3, 'first')])).toMatchObject([
        { read: 2, written: 1, unchanged: 1 },
      ]);
      expect((await current(store)).map(({ id, name }) => [id, name])).toEqual([
        [1, 'first'],
        [2, 'first'],
        [3, 'first'],
      ]);
    });

    test('go on only from a table that is as the last run left it', async () => {
      const { store, open } = await place();
      await using target = await open();
      await expect(target.prepare(increment())).rejects.toMatchObject({ code: 'STATE_CHANGED' });
      await move(target, runOf({ by: 'int' }), [item(1), item(2), item(3)]);
      const same = increment({ by: 'int' });
      expect(await target.state?.(same)).toBeDefined();
      expect(await target.refusals(same)).toEqual([]);
      const others: Given[] = [
        {},
        { by: 'str' },
        { by: 'int', format: 'csv' },
        { by: 'int', key: ['id', 'n'] },
        { by: 'int', target: 'other' },
        { by: 'int', installation: 'other' },
      ];
      for (const other of others) expect(await target.state?.(increment(other))).toBeUndefined();
      const { parts } = await manifestOf(store);
      await store.delete([`shop/orders/${parts[1]!.path}`]);
      expect(await target.refusals(same)).toMatchObject([{ code: 'STATE_CHANGED' }]);
      await expect(target.prepare(same)).rejects.toMatchObject({ code: 'STATE_CHANGED' });
      // The way out.
      await move(target, runOf({ by: 'int' }), [item(1)]);
      expect(await target.refusals(increment({ by: 'int' }))).toEqual([]);
    });

    test('of two runs at once never mix', async () => {
      const { store, open } = await place();
      await using target = await open();
      const one = item(1);
      await move(target, runOf(), [one]);
      const [left, right] = [increment(), increment()];
      const [two, three] = [item(2), item(3)];
      await target.prepare(left);
      await target.prepare(right);
      await target.write(left, await target.claim(left, chunk(1)), partsOf(left, [two]), writeOptions());
      await target.write(right, await target.claim(right, chunk(1)), partsOf(right, [three]), writeOptions());
      await target.publish([left], []);
      await expect(target.publish([right], [])).rejects.toMatchObject({ code: 'CONFLICT' });
      await expect(target.prepare(right)).rejects.toMatchObject({ code: 'CONFLICT' });
      await target.discard(right);
      await expectTidy(store);
      expect(await current(store)).toEqual([one, two]);
      expect(await target.state?.(right)).toEqual(left.state);
    });

    test('that were canceled leave nothing', async () => {
      const { store, open } = await place();
      await using target = await open();
      await move(target, runOf(), [item(1)]);
      const before = await keysOf(store);
      const work = increment();
      await target.prepare(work);
      await target.write(work, await target.claim(work, chunk(1)), partsOf(work, [item(2)]), writeOptions());
      await target.discard(work);
      expect(await keysOf(store)).toEqual(before);
    });

    test('take over a table that another tool has written', async () => {
      const { store, open } = await place();
      await using target = await open();
      // Files of the same columns, without the stamp.
      const rows = [item(1), item(2)];
      const work = runOf({ existing: 'adopt' });
      const foreign = { ...work, columns: work.columns.slice(0, -1) };
      const made = rowsToParts(
        (async function* () {
          yield { kind: 'rows' as const, rows: rows.map((one) => rowOf(one, '').slice(0, -1)) };
        })(),
        foreign,
        { spool: join(folder, 'spool'), duckdb, signal: new AbortController().signal },
      );
      for await (const part of made) await store.putIfAbsent('shop/orders/theirs.parquet', { file: part.path });
      const refusing = runOf();
      await expect(target.remember!(refusing, refusing.state!)).rejects.toMatchObject({ code: 'NOT_OWNED' });
      await target.remember!(work, work.state!);
      expect(await target.state?.(work)).toEqual(work.state);
      const [two, three] = [item(2, 'new'), item(3)];
      await move(target, increment({ existing: 'adopt' }), [two, three]);
      expect(await current(store, false)).toEqual([rows[0], two, three]);
    });

    test.each(['before-commit', 'after-commit', 'in-publish', 'before-manifest', 'after-swap'])(
      'killed %s leave the old or the new table, and go on',
      async (point) => {
        const { store, settings, open } = await place();
        await using target = await open();
        const old = [item(1), item(2)];
        await move(target, runOf(), old);
        const changed = [item(2, 'new'), item(3)];
        const work = increment();
        const faults = await mkdtemp(join(folder, 'faults-'));
        await writeFile(join(faults, point), 'SIGKILL');
        const argument = {
          settings,
          work,
          chunks: [[changed[0]], [changed[1]]].map((items) =>
            items.map((one) => rowOf(one!, work.snapshotDate!).map(plain)),
          ),
          root: folder,
        };
        expect(await child(argument, faults)).toBe('SIGKILL');
        const after = point === 'after-swap';
        expect((await manifestOf(store)).rows).toBe(after ? 4 : 2);
        if (!after) expect(await current(store)).toEqual(old);
        expect(await child(argument, faults)).toBe(0);
        expect((await expectTidy(store)).rows).toBe(4);
        expect(await current(store)).toEqual([old[0], ...changed]);
      },
    );

    test('are complete after any single failure and a second try', async () => {
      // In S3, where the same code runs, one in six.
      const step = kind === 'S3' ? 6 : 1;
      for (const when of ['before', 'after'] as const) {
        for (let n = 1; ; n += step) {
          const { store } = await place();
          const [one, two, three] = [item(1), item(2), item(3)];
          await move(targetOf(store, { spool: spool() }), runOf(), [one, two]);
          let calls = 0;
          const failing: Record<string, unknown> = { ...store };
          for (const method of ['putIfAbsent', 'replaceIf', 'get', 'fetch', 'size', 'copy', 'delete'] as const) {
            failing[method] = async (...given: [never, never, never]) => {
              const fails = ++calls === n;
              if (fails && when === 'before') throw new Error('the store failed');
              const result = await store[method](...given);
              if (fails) throw new Error('the store failed');
              return result;
            };
          }
          const target = targetOf(failing as unknown as Store, { spool: spool() });
          const work = increment();
          const first = await move(target, work, [two, three], [one]).catch((error: Error) => error);
          if (!(first instanceof Error)) break;
          expect(first.message).toBe('the store failed');
          await move(target, work, [two, three], [one]);
          expect((await expectTidy(store)).rows).toBe(3);
          expect(await current(store)).toEqual([one, two, three]);
          expect(n).toBeLessThan(100);
        }
      }
    }, 240_000);
  });

  describe.skipIf(skip)(`Small parts in ${kind}`, () => {
    const signal = new AbortController().signal;

    test('are joined when there are too many, and what is read stays the same', async () => {
      const { store, open } = await place();
      await using target = await open();
      await move(target, runOf(), [item(1), item(2)]);
      for (let i = 0; i < 3; i++) await move(target, increment(), [item(2, `v${i}`)]);
      const work = increment();
      expect(await target.tidy?.(work, signal)).toEqual([]);
      await move(target, work, [item(3)]);
      const before = await current(store);
      expect(await target.tidy?.(work, signal)).toEqual(['shop.orders: 5 small files were joined into one']);
      const { parts, rows } = await expectTidy(store);
      expect([parts.length, rows]).toEqual([1, 3]);
      expect(await current(store)).toEqual(before);
      expect(await target.refusals(increment())).toEqual([]);
      expect(await move(target, increment(), [before[1]!, item(4)])).toMatchObject([{ written: 1, unchanged: 1 }]);
      expect(await target.tidy?.(work, signal)).toEqual([]);
    });

    test('stay when another run publishes meanwhile', async () => {
      const { store, open } = await place();
      await using target = await open();
      await move(target, runOf(), [item(1)]);
      for (let i = 2; i < 7; i++) await move(target, increment(), [item(i)]);
      const slow: Store = {
        ...store,
        async fetch(key, path) {
          if (!key.includes('recent')) await move(target, increment(), [item(9)]);
          slow.fetch = store.fetch;
          return await store.fetch(key, path);
        },
      };
      const other = targetOf({ ...slow, fetch: (key, path) => slow.fetch(key, path) }, { compact, spool: spool() });
      expect(await other.tidy?.(increment(), signal)).toEqual([]);
      expect((await expectTidy(store)).parts).toHaveLength(7);
      expect((await current(store)).map(({ id }) => id)).toEqual([1, 2, 3, 4, 5, 6, 9]);
    });

    test.each(['in-publish', 'before-manifest', 'after-swap'])(
      'killed %s are joined by the next one',
      async (point) => {
        const { store, settings, open } = await place();
        await using target = await open();
        await move(target, runOf({ by: 'int' }), [item(1), item(2)]);
        for (let i = 0; i < 5; i++) await move(target, increment({ by: 'int' }), [item(1, `v${i}`), item(2, `v${i}`)]);
        const before = await current(store);
        const work = increment({ by: 'int' });
        const faults = await mkdtemp(join(folder, 'faults-'));
        await writeFile(join(faults, point), 'SIGKILL');
        const argument = { settings, work, tidy: true, root: folder };
        expect(await child(argument, faults)).toBe('SIGKILL');
        if (point !== 'after-swap') expect(await current(store)).toEqual(before);
        expect(await child(argument, faults)).toBe(0);
        // Old parts of a compaction that was killed at its end go with the next publication.
        if (point === 'after-swap') await move(target, increment({ by: 'int' }), []);
        expect((await expectTidy(store)).rows).toBe(2);
        expect(await current(store)).toEqual(before);
      },
    );
  });
}

/** As the suite of all targets wants it: a table of an id and a text. */
async function subjectIn(place: () => Promise<Place>): Promise<IncrementalSubject> {
  const { store, open } = await place();
  let tables = 0;
  const small: Table = {
    ...table,
    columns: [
      { name: 'id', type: { kind: 'int32' }, native: 'integer', nullable: false },
      { name: 'v', type: { kind: 'text' }, native: 'text', nullable: true },
    ],
  };
  const under = ({ name }: Work) => `${name.schema}/${name.name}/`;
  // Each has come later than what was asked for before.
  const stamped = (work: Work, rows: readonly Row[]) => {
    clock += 1000;
    const at = new Date(clock).toISOString();
    return partsFrom(
      work,
      rows.map((row) => [...row, at]),
    );
  };
  return {
    open,
    work(over) {
      const { columns, ...work } = runOf({
        name: { schema: 'shop', name: `table ${++tables}` },
        jobUid: 'job',
        ...over,
      });
      const [id, , v, , , stamp] = columns as PlanColumn[];
      return {
        ...work,
        source: small,
        columns: [{ ...id!, type: { kind: 'int32' }, native: 'INTEGER' }, { ...v!, from: 'v', name: 'v' }, stamp!],
      };
    },
    batches: stamped,
    async visible(work) {
      if ((await text(store, `${under(work)}_manifest.json`)) === undefined) {
        const files = (await keysOf(store, under(work))).filter((key) => key.endsWith('.parquet'));
        if (files.length === 0) return undefined;
        const mirror = await mirrorOf(store);
        return await rowsIn(
          '',
          `SELECT id, v FROM read_parquet([${files.map((key) => `'${mirror}${key}'`)}]) ORDER BY id`,
        );
      }
      const view = await viewOf(store, `${under(work)}_current.sql`);
      return await rowsIn(view, `SELECT id, v FROM shop."${work.name.name}" ORDER BY id`);
    },
    leftovers: () => keysOf(store, '_godwit/'),
    async drop(work) {
      await store.delete(await keysOf(store, under(work)));
    },
    async bring(work, rows) {
      for await (const part of partsFrom({ ...work, columns: work.columns.slice(0, -1) }, rows)) {
        if (part.kind === 'file') await store.putIfAbsent(`${under(work)}theirs.parquet`, { file: part.path });
      }
    },
    async [Symbol.asyncDispose]() {},
  };
}

const cases = (['parquet', 'csv', 'ndjson'] as const).flatMap((format) =>
  (['none', 'datetime', 'int', 'str'] as const).flatMap((by) =>
    (['syncing', 'logging'] as const).map((mode) => [format, by, mode] as const),
  ),
);

describe('The current state in a folder', () => {
  test.each(cases)(
    '%s, partitioned by %s, mode %s, is the source after any history of runs',
    async (format, by, mode) => {
      const value = fc.constantFrom('x', 'é "q",\n', 'null', "it's \\", 'a=b/c', '\t{"a":1}');
      const name = by === 'str' ? fc.option(value) : fc.option(fc.oneof(value, fc.constant('')));
      const change = fc.record({
        id: fc.integer({ min: 1, max: 6 }),
        name,
        day: fc.option(fc.constantFrom('2024-02-29', '1999-12-31')),
        n: fc.option(fc.integer({ min: -2, max: 2 })),
        unmarked: fc.boolean(),
      });
      const run = fc.record({ changes: fc.array(change, { maxLength: 4 }), tidy: fc.boolean() });
      await fc.assert(
        fc.asyncProperty(fc.array(run, { minLength: 1, maxLength: 6 }), async (runs) => {
          const { store, open } = await localPlace();
          await using target = await open();
          const source = new Map<number, Item>();
          for (const [i, { changes, tidy }] of runs.entries()) {
            const touched = new Set<number>();
            for (const { id, unmarked, ...values } of changes) {
              if (mode === 'logging' && source.has(id)) continue;
              source.set(id, { id, at: unmarked ? null : now(), ...values });
              touched.add(id);
            }
            const given = { format, by, mode };
            const work = i === 0 ? runOf(given) : increment(given);
            const rows = [...source.values()];
            // Increments read what changed, and a bit of what did not.
            const read = i === 0 ? rows : rows.filter(({ id }) => touched.has(id) || id % 2 === 0);
            const counts = await move(target, work, read);
            if (i > 0) expect(counts[0]!.written).toBeLessThanOrEqual(touched.size);
            if (tidy) await target.tidy?.(work, new AbortController().signal);
            await expectTidy(store);
            expect(await current(store)).toEqual(sorted(rows));
          }
        }),
        { numRuns: 3, endOnFailure: true },
      );
    },
    120_000,
  );
});

const plain = (value: unknown) => (typeof value === 'bigint' ? Number(value) : value);

function child(argument: unknown, faults: string): Promise<string | number | null> {
  const program = fileURLToPath(new URL('files-incremental-child.ts', import.meta.url));
  const started = spawn(process.execPath, [program, JSON.stringify(argument)], {
    env: { ...process.env, GODWIT_FAULT_FOLDER: faults, TMPDIR: faults },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return new Promise((done) => {
    started.on('exit', (code, signal) => done(signal ?? code));
  });
}
