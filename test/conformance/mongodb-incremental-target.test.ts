/** MongoDB as a target of increments; and old attempts that wake up when newer ones, and newer runs, have done their work. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BSON, type Db, type Document, Int32, Long, type MongoClient } from 'mongodb';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Chunk, KeyRange, Target, Work } from '../../connectors/contract.ts';
import { settled } from '../../connectors/mongodb/target/redo.ts';
import { openTarget } from '../../connectors/mongodb/target.ts';
import type { Row } from '../../connectors/types.ts';
import { waitUntil } from '../../servers/child.ts';
import { type FaultProxy, startProxy } from '../../servers/proxy.ts';
import { createMongoDatabase, missing, sharedMongodb, type TestDatabase } from '../servers/shared.ts';
import { armed as armedIn, type Child, startChild } from './child.ts';
import { type IncrementalSubject, nextRun, stateOf, testIncrementalTarget, wholeRun } from './incremental-target.ts';
import type { ChildArgument } from './mongodb-incremental-child.ts';
import {
  bytesOfAll,
  column,
  connect,
  contents,
  give,
  leftovers,
  plainWork,
  rawWork,
  rowsOfAll,
  visible,
} from './mongodb-works.ts';
import { chunk, codeOf, writeOptions } from './target.ts';

async function subject(format: 'rows' | 'bson'): Promise<IncrementalSubject> {
  const { kind } = await sharedMongodb(4.4);
  const database = await createMongoDatabase(undefined, 4.4);
  const client = await connect(database.url);
  const db = client.db(database.name);
  const document = ([id, v]: Row): Document => (format === 'rows' ? { _id: id, id, v } : { _id: id, v });
  return {
    open: () => openTarget({ url: database.url }),
    work: (over) => ({
      ...(format === 'rows' ? plainWork(database.name, over) : rawWork(database.name, over)),
      mode: over?.mode ?? 'syncing',
    }),
    batches: (work, rows) =>
      give(work.writeFormat === 'rows' ? rowsOfAll(rows) : bytesOfAll(rows.map(([_id, v]) => ({ _id, v })))),
    visible: (work) => visible(db, work),
    leftovers: () => leftovers(db),
    tellsSizes: kind !== 'mongo-java-server',
    async drop(work) {
      await db.collection(work.name.name).drop();
    },
    // Without UUIDs another collection of the same name is not told from the one before.
    ...(kind === 'mongo-java-server'
      ? {}
      : {
          async bring(work: Work, rows: readonly Row[]) {
            await db.collection<Document>(work.name.name).insertMany(rows.map(document));
          },
        }),
    ...(format === 'rows' ? { bad: ['2', 'no number'] as Row } : {}),
    async [Symbol.asyncDispose]() {
      await client.close();
      await database.drop();
    },
  };
}

const big = 'x'.repeat(3 * 1024 * 1024);
const sweep = (id: number, bounds: KeyRange = {}): Chunk => ({ id, kind: 'sweep', bounds, rows: 0 });
const never = new AbortController().signal;

// `$merge` came with 4.2; Godwit needs 4.4.
describe.skipIf(await missing('mongodb/4.4'))('MongoDB as a target of increments', () => {
  testIncrementalTarget('rows', () => subject('rows'));
  testIncrementalTarget('whole documents', () => subject('bson'));

  let database: TestDatabase;
  let client: MongoClient;
  /** Of this test alone. */
  let db: Db;
  let target: Target;
  let folder: string;
  let proxy: FaultProxy;
  beforeAll(async () => {
    database = await createMongoDatabase(undefined, 4.4);
    client = await connect(database.url);
    target = openTarget({ url: database.url });
    folder = await mkdtemp(join(tmpdir(), 'godwit-mongodb-increment-'));
    const { hostname, port } = new URL(database.url);
    proxy = await startProxy({ host: hostname, port: Number(port || 27017) });
  });
  let number = 0;
  beforeEach(() => {
    db = client.db(`${database.name}_${++number}`);
  });
  afterEach(() => db.dropDatabase());
  afterAll(async () => {
    await proxy?.stop();
    await target?.[Symbol.asyncDispose]();
    await client?.close();
    await database?.drop();
    await rm(folder, { recursive: true, force: true });
  });

  const subjectOf = { batches: (_: Work, rows: readonly Row[]) => give(rowsOfAll(rows)) };
  const whole = (work: Work, rows: readonly Row[]) => wholeRun({ target, subject: subjectOf }, work, [rows]);
  const loaded = async (rows: readonly Row[], over: Partial<Work> = {}): Promise<Work> => {
    const work = { ...plainWork(db.databaseName, { mode: 'mirroring', ...over }), state: stateOf(1) };
    await whole(work, rows);
    return work;
  };
  const swept = async (work: Work, keys: readonly string[]) => {
    const claim = await target.claim(work, sweep(9));
    async function* given() {
      yield keys;
    }
    return claim.done ?? (await target.deleteKeys?.(work, claim, given(), never));
  };

  // ── What documents keep ─────────────────────────────────────────────────────────────────────────────────────────

  test('fields that the work does not have stay where they are; a field of another type is another value', async () => {
    const work = await loaded([
      [1, 'one'],
      [2, 'two'],
    ]);
    await db.collection<Document>(work.name.name).updateMany({}, { $set: { mine: { kept: true } } });
    const [counts] = await whole(nextRun(work, 2), [
      [1, 'one'],
      [2, 'TWO'],
    ]);
    expect(counts).toMatchObject({ read: 2, updated: 1, unchanged: 1 });
    expect(await db.collection(work.name.name).find().toArray()).toEqual([
      { _id: 1, id: 1, v: 'one', mine: { kept: true } },
      { _id: 2, id: 2, v: 'TWO', mine: { kept: true } },
    ]);
    const columns = [column('id', { kind: 'int32' }), column('v', { kind: 'text' }), column('more', { kind: 'int64' })];
    const [wider] = await whole(nextRun(work, 3, { columns }), [
      [1, 'one', 5n],
      [3, null, null],
    ]);
    expect(wider).toMatchObject({ inserted: 1, updated: 1 });
    expect((await contents(db, work.name.name))[0]).toEqual({
      _id: new Int32(1),
      id: new Int32(1),
      v: 'one',
      mine: { kept: true },
      more: Long.fromBigInt(5n),
    });
  });

  test('whole documents are compared and written byte by byte', async () => {
    const given: Document[] = [
      { _id: new Int32(1), a: new Int32(1), b: [null, { 'x.y': 'dots' }] },
      { _id: new Int32(2), a: new Int32(2), c: 'gone later' },
      { _id: new Int32(3), a: new Int32(3), b: 1.5 },
    ];
    const batches = { batches: (_: Work, rows: readonly Row[]) => give(bytesOfAll(rows.map(([at]) => given[Number(at)] as Document), 5)) }; // biome-ignore format: one line
    const work = { ...rawWork(db.databaseName, { mode: 'syncing' }), state: stateOf(1) };
    await wholeRun({ target, subject: batches }, work, [[[0], [1], [2]]]);
    const [same] = await wholeRun({ target, subject: batches }, nextRun(work, 2), [[[2], [1], [0]]]);
    expect(same).toMatchObject({ read: 3, written: 0, unchanged: 3 });
    given[0] = { _id: new Int32(1), a: Long.fromNumber(1), b: [null, { 'x.y': 'dots' }] };
    given[1] = { _id: new Int32(2), a: new Int32(2) };
    // mongo-java-server keeps the places of fields that it had before.
    const moves = (await sharedMongodb(4.4)).kind === 'mongo-java-server' ? { a: new Int32(4) } : {};
    given[2] = moves.a ? { _id: new Int32(3), ...moves, b: 1.5 } : { _id: new Int32(3), b: 1.5, a: new Int32(3) };
    const [others] = await wholeRun({ target, subject: batches }, nextRun(work, 3), [[[0], [1], [2]]]);
    expect(others).toMatchObject({ read: 3, updated: 3, unchanged: 0 });
    const found = await db.collection(work.name.name).find({}, { raw: true }).sort({ _id: 1 }).toArray();
    expect(found.map((bytes) => Buffer.from(bytes as unknown as Uint8Array).toString('hex'))).toEqual(
      given.map((one) => Buffer.from(BSON.serialize(one)).toString('hex')),
    );
  });

  test('many rows in several groups: counts are exact, and a key met again in a later group wins', async () => {
    const rows = (v: string): Row[] => Array.from({ length: 12_000 }, (_, i) => [i, `${v} ${i % 3}`]);
    const work = await loaded(rows('a'));
    const changed = rows('a').map(([id, v]): Row => (Number(id) % 10 === 0 ? [id as number, 'b'] : [id as number, v as string])); // biome-ignore format: one line
    const again = [...changed, [0, 'last'], [10, 'a 1'], [20_000, 'new'], [20_000, 'newer']] as Row[];
    const [counts] = await whole(nextRun(work, 2), again);
    // 10 is as it was in the end.
    expect(counts).toMatchObject({ read: 12_004, inserted: 1, updated: 1199, written: 1200, unchanged: 10_804 });
    const found = new Map((await visible(db, work))?.map(([id, v]) => [id, v]));
    expect([found.get(0), found.get(10), found.get(20), found.get(20_000)]).toEqual(['last', 'a 1', 'b', 'newer']);
    expect(await leftovers(db)).toEqual([]);
  });

  test('nothing that could stop an increment is carried: no unique index, no time to live, no validator', async () => {
    const indexes = [
      { v: 2, key: { a: 1 }, name: 'a', unique: true },
      { v: 2, key: { at: 1 }, name: 'at', expireAfterSeconds: 60 },
    ].map((index) => BSON.EJSON.stringify(index));
    const work = { ...rawWork(db.databaseName, { mode: 'syncing', extras: { indexes } }), state: stateOf(1) };
    await target.prepare(work);
    await target.finish(work);
    const { notes } = await target.publish([work], []);
    expect(notes.join()).toContain('index a: unique at the source');
    const found = await db.collection(work.name.name).listIndexes().toArray();
    expect(found.map(({ name, unique = false, expireAfterSeconds }) => [name, unique, expireAfterSeconds])).toEqual([
      ['_id_', found[0]?.unique ?? false, undefined],
      ['a', false, undefined],
      ['at', false, undefined],
    ]);
  });

  test('a key that is null cannot be brought by an increment: it is set aside before the chunk is decided', async () => {
    const given: Document[] = [{ _id: null, a: 1 }, { _id: new Int32(2), a: 2 }]; // biome-ignore format: one line
    const batches = { batches: (_: Work, rows: readonly Row[]) => give(bytesOfAll(rows.map(([at]) => given[Number(at)] as Document))) }; // biome-ignore format: one line
    const work = { ...rawWork(db.databaseName, { mode: 'syncing' }), state: stateOf(1) };
    await wholeRun({ target, subject: batches }, work, [[[1]]]);
    const again = nextRun(work, 2);
    expect(await codeOf(wholeRun({ target, subject: batches }, again, [[[0], [1]]]))).toBe('VALUE_REFUSED');
    const json = given.map((document) => BSON.EJSON.stringify(document, { relaxed: false }));
    const slow = { ...again, writeFormat: 'rows' as const };
    const claim = await target.claim(slow, chunk(1));
    const aside: number[] = [];
    const quarantine = async (found: readonly { readonly ordinal: number }[]) => {
      aside.push(...found.map(({ ordinal }) => ordinal));
    };
    const rows = give(rowsOfAll(json.map((text) => ['', text])));
    const counts = await target.write(slow, claim, rows, writeOptions({ quarantine }));
    expect(counts).toMatchObject({ read: 2, written: 0, unchanged: 1, quarantined: 1 });
    expect(aside).toEqual([0]);
  });

  // ── Keys ────────────────────────────────────────────────────────────────────────────────────────────────────────

  test('keys of several columns are documents, swept column by column', async () => {
    const columns = [column('a', { kind: 'int64' }), column('b', { kind: 'text' }), column('v', { kind: 'text' })];
    const rows: Row[] = [
      [10n, 'x', '1'],
      [2n, 'y', '2'],
      [2n, 'ab', '3'],
      [-1n, '', '4'],
    ];
    const work = nextRun(await loaded(rows, { columns, key: ['a', 'b'] }), 2);
    const keys = async (range: KeyRange) => (await Array.fromAsync(target.keys?.(work, range, never) ?? [])).flat();
    expect(await keys({})).toEqual(['-1\0', '2\0ab', '2\0y', '10\0x']);
    expect(await keys({ after: ['-1', ''], upto: ['2', 'y'] })).toEqual(['2\0ab', '2\0y']);
    await target.prepare(work);
    expect(await swept(work, ['2\0ab', '10\0x', '11\0nobody'])).toMatchObject({ deleted: 2 });
    expect(await keys({})).toEqual(['-1\0', '2\0y']);
  });

  test('a table whose keys are not in the order of their values is refused to be mirrored, by its column', async () => {
    const columns = [column('id', { kind: 'timestamptz' }), column('v', { kind: 'text' })];
    const work = plainWork(db.databaseName, { mode: 'mirroring', columns });
    const [refused] = await target.refusals(work);
    expect(refused?.code).toBe('MODE_REFUSED');
    expect(refused?.message).toContain('id');
    expect(await target.refusals({ ...work, mode: 'syncing' })).toEqual([]);
    const mixed = { columns: { _id: { path: ['_id'], form: 'exact json' as const } } };
    expect((await target.refusals(rawWork(db.databaseName, { mode: 'mirroring', extras: mixed })))[0]?.code).toBe('MODE_REFUSED'); // biome-ignore format: one line
  });

  test('rows of another tool are taken over', async () => {
    const work = plainWork(db.databaseName, { mode: 'syncing' });
    expect(await codeOf(target.remember?.({ ...work, existing: 'adopt' }, stateOf(1)) as Promise<void>)).toBe('TABLE_MISSING'); // biome-ignore format: one line
    await db.collection<Document>(work.name.name).insertOne({ _id: 1 as never, id: new Int32(1), v: 'one' });
    expect(await codeOf(target.remember?.(work, stateOf(1)) as Promise<void>)).toBe('NOT_OWNED');
    await target.remember?.({ ...work, existing: 'adopt' }, stateOf(1));
    expect(await target.state?.(work)).toEqual(stateOf(1));
    const [counts] = await whole(nextRun(work, 2), [
      [1, 'one'],
      [2, 'two'],
    ]);
    expect(counts).toMatchObject({ inserted: 1, unchanged: 1 });
    expect(await target.state?.(work)).toEqual(stateOf(2));
  });

  // ── Overtaken ───────────────────────────────────────────────────────────────────────────────────────────────────

  const start = (argument: ChildArgument, faults: string): Child =>
    startChild('mongodb-incremental-child.ts', folder, argument, faults);
  const armed = (point: string, signal: string) => armedIn(folder, point, signal);

  const at: Row[] = [1, 2, 3, 7].map((id) => [id, `${id} loaded`]);
  /** What the old attempt read, and wants to delete. */
  const old: Row[] = [1, 2, 5].map((id) => [id, `${id} old`]);
  const vanished = ['3', '7'];

  /** The next run changes 1, inserts 3 again, and deletes 5 and 7. */
  async function another(work: Work): Promise<Row[]> {
    const next = nextRun(work, 3);
    await whole(next, []);
    const run = nextRun(work, 4);
    await target.prepare(run);
    const claim = await target.claim(run, chunk(1));
    const rows: Row[] = [
      [1, '1 newer'],
      [3, '3 again'],
    ];
    await target.write(run, claim, give(rowsOfAll(rows)), writeOptions());
    await swept(run, ['5', '7']);
    await target.finish(run);
    await target.publish([run], []);
    return (await visible(db, work)) ?? [];
  }

  for (const point of ['before-commit', 'between-checkpoint-and-commit', 'in-swap', 'after-swap'] as const) {
    for (const does of ['write', 'sweep'] as const) {
      test.each(['at once', 'a run later', 'after a cancel'] as const)(
        `a worker stopped ${point} in a ${does} wakes up %s`,
        async (when) => {
          const work = await loaded(at);
          const again = nextRun(work, 2);
          const faults = await armed(point, 'SIGSTOP');
          const kind = does === 'write' ? chunk(1) : sweep(9);
          const argument: ChildArgument = { url: database.url, work: again, chunk: kind, rows: old, keys: vanished, whole: false }; // biome-ignore format: one line
          const { child, said } = start(argument, faults);
          try {
            expect(await waitUntil(() => !existsSync(join(faults, point)), 30_000)).toBe(true);
            const decided = point === 'in-swap' || point === 'after-swap';
            if (when === 'after a cancel') await target.discard(again);
            else {
              const claim = await target.claim(again, kind);
              const young: Row[] = [[1, '1 young']];
              if (does === 'write') await target.write(again, claim, give(rowsOfAll(young)), writeOptions());
              else await swept(again, ['3']);
              await target.finish(again);
              await target.publish([again], []);
              // What was decided is finished, with what the old attempt had; else the newer one's counts.
              const left = (await visible(db, work)) ?? [];
              const expected =
                does === 'write'
                  ? decided
                    ? [...old.slice(0, 2), at[2], old[2], at[3]]
                    : [young[0], ...at.slice(1)]
                  : at.filter(([id]) => id !== 3 && !(decided && id === 7));
              expect(left).toEqual(expected);
            }
            const before = when === 'a run later' ? await another(work) : ((await visible(db, work)) ?? []);
            child.kill('SIGCONT');
            expect(await said).toBe('FENCED');
            expect(await visible(db, work)).toEqual(before);
            expect(JSON.stringify(await contents(db, work.name.name))).not.toContain('_godwit');
            await whole(nextRun(work, 5), []);
            expect(await visible(db, work)).toEqual(before);
            expect(await leftovers(db)).toEqual([]);
          } finally {
            child.kill('SIGKILL');
          }
        },
      );
    }
  }

  test('documents that were on the wire when the attempt was overtaken count for nothing', async () => {
    const work = await loaded(at);
    const again = nextRun(work, 2);
    const url = new URL(database.url);
    url.host = `${proxy.host}:${proxy.port}`;
    url.searchParams.set('directConnection', 'true');
    await using slow = openTarget({ url: url.href });
    await slow.prepare(again);
    const claim = await slow.claim(again, chunk(1));
    const held = Promise.withResolvers<void>();
    const hold = () => {
      proxy.pause();
      held.resolve();
    };
    proxy.afterBytes(8 * 1024 * 1024, hold, 'toServer');
    const heavy: Row[] = [1, 2, 5].map((id) => [id, `${id} old ${big}`]);
    const said = codeOf(slow.write(again, claim, give(rowsOfAll(heavy)), writeOptions()));
    await held.promise;
    try {
      await whole(again, [[1, '1 young']]);
      const before = await another(work);
      proxy.resume();
      expect(await said).toBe('FENCED');
      expect(await visible(db, work)).toEqual(before);
      await whole(nextRun(work, 5), []);
      expect(await leftovers(db)).toEqual([]);
    } finally {
      proxy.resume();
    }
  });

  test.each(['before-commit', 'between-checkpoint-and-commit', 'in-swap', 'after-swap', 'after-commit', 'in-publish'])(
    'an increment killed %s goes on where it was, and ends as if it had not been',
    async (point) => {
      for (const kind of [chunk(1), sweep(9)]) {
        if (point === 'in-publish' && kind.kind === 'sweep') continue;
        const work = await loaded(at);
        const again = nextRun(work, 2);
        const argument = { url: database.url, work: again, chunk: kind, rows: old, keys: vanished, whole: true };
        expect(await start(argument, await armed(point, 'SIGKILL')).said).toBe('SIGKILL');
        expect(await target.state?.(work)).toEqual(stateOf(1));
        const claim = await target.claim(again, kind);
        if (point === 'after-commit' || point === 'in-publish') expect(claim.done).toBeDefined();
        expect(await start(argument, folder).said).toBe('done');
        const written = [...old.slice(0, 2), at[2], old[2], at[3]];
        const expected = kind.kind === 'sweep' ? at.filter(([id]) => id !== 3 && id !== 7) : written;
        expect(await visible(db, work)).toEqual(expected);
        expect(await target.state?.(work)).toEqual(stateOf(2));
        const [checkpoint] = await Array.fromAsync(target.checkpoints(again));
        const counts = kind.kind === 'sweep' ? { deleted: 2 } : { read: 3, inserted: 1, updated: 2, unchanged: 0 };
        expect(checkpoint?.counts).toMatchObject(counts);
        expect(await leftovers(db)).toEqual([]);
      }
    },
  );

  test('a sweep that was decided and never finished leaves no mark', async () => {
    const work = await loaded(at);
    const again = nextRun(work, 2);
    const faults = await armed('after-swap', 'SIGKILL');
    const argument = { url: database.url, work: again, chunk: sweep(9), rows: [], keys: vanished, whole: false };
    expect(await start(argument, faults).said).toBe('SIGKILL');
    // As a process that was killed between the mark and the delete leaves it.
    const [aside] = (await db.listCollections().toArray()).filter(({ name }) => name.startsWith('_godwit.t_'));
    await db.collection<Document>(work.name.name).insertOne({ _id: new Int32(3) as never, id: 3, v: 'back', _godwit_vanished: aside?.name }); // biome-ignore format: one line
    await target.discard(again);
    expect((await visible(db, work))?.map(([id]) => id)).toEqual([1, 2, 3]);
    expect(JSON.stringify(await contents(db, work.name.name))).not.toContain('_godwit');
    expect(await leftovers(db)).toEqual([]);
  });
});

/** mongo-java-server shows no operations. */
const shows = !(await missing('mongodb')) && (await sharedMongodb()).kind !== 'mongo-java-server';

describe.skipIf(!shows)('an operation of an overtaken attempt', () => {
  test('is ended and waited for when the server still runs it, and no other one is', async () => {
    await using database = await createMongoDatabase();
    const client = await connect(database.url);
    const db = client.db(database.name);
    try {
      await db.collection<Document>('c').insertMany(Array.from({ length: 100 }, (_, i) => ({ _id: i as never })));
      const run = (comment: string) =>
        codeOf(db.command({ find: 'c', filter: { $where: 'sleep(100) || true' }, comment, batchSize: 1000 }));
      const [mine, other] = [run('mine'), run('other')];
      const running = async (): Promise<string[]> => {
        const all = await client
          .db('admin')
          .aggregate([{ $currentOp: {} }])
          .toArray();
        return all.flatMap(({ command }) => (command?.comment ? [String(command.comment)] : [])).sort();
      };
      expect(await waitUntil(async () => (await running()).length === 2, 10_000)).toBe(true);
      await settled(db, 'mine');
      expect(await running()).toEqual(['other']);
      expect(await mine).not.toBe('no error');
      await settled(db, 'other');
      await other;
    } finally {
      await client.close();
    }
  });
});
