/** What a published collection is: its documents to the byte, its indexes, who owns it; and what is refused before. */
import { BSON, type Db, type Document, type MongoClient } from 'mongodb';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BadRow, Batch, Chunk, Published, Target, Work } from '../../connectors/contract.ts';
import { openTarget } from '../../connectors/mongodb/target.ts';
import type { Row } from '../../connectors/types.ts';
import { createMongoDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { mongodbEveryTypeOf } from './mongodb-every-type.ts';
import {
  bytesOf,
  bytesOfAll,
  column,
  connect,
  contents,
  give,
  leftovers,
  names,
  plainWork,
  rawWork,
  rowsOfAll,
} from './mongodb-works.ts';
import { codeOf, writeOptions } from './target.ts';

const keys = (id: number): Chunk => ({ id, kind: 'keys', bounds: { upto: [id] }, rows: 3 });
const all: Chunk = { id: 1, kind: 'all', bounds: null, rows: 3 };

describe.skipIf(await missing('mongodb'))('A collection published in MongoDB', () => {
  let database: TestDatabase;
  let client: MongoClient;
  let db: Db;
  let target: Target;
  beforeAll(async () => {
    database = await createMongoDatabase();
    client = await connect(database.url);
    db = client.db(database.name);
    target = openTarget({ url: database.url });
  });
  afterAll(async () => {
    await target?.[Symbol.asyncDispose]();
    await client?.close();
    await database?.drop();
  });

  const plain = (over: Partial<Work> = {}) => plainWork(database.name, over);
  const raw = (over: Parameters<typeof rawWork>[1] = {}) => rawWork(database.name, over);

  async function run(work: Work, batches: readonly Batch[], chunk = all): Promise<Published> {
    await target.prepare(work);
    const claim = await target.claim(work, chunk);
    if (!claim.done) await target.write(work, claim, give(batches), writeOptions());
    await target.finish(work);
    return await target.publish([work], []);
  }

  /** All documents in the order of their bytes. */
  const stored = async (name: string): Promise<string[]> => {
    const found = await db.collection(name).find({}, { raw: true }).toArray();
    return found.map((bytes) => Buffer.from(bytes as unknown as Uint8Array).toString('hex')).sort();
  };

  test('has the documents of another to the byte, whatever is in them', async () => {
    for (const [name, documents] of Object.entries(await mongodbEveryTypeOf(db))) {
      const bytes = documents.map((document) => Buffer.from(BSON.serialize(document)));
      const work = raw({ name: { schema: database.name, name: `copy_${name}` } });
      await run(work, bytesOf(bytes, 3));
      // What the server keeps of them when the driver writes them: not every server keeps the order of a regex's options.
      await db.collection(`plain_${name}`).insertMany(documents.map((one) => ({ ...one }) as Document));
      expect(await stored(work.name.name)).toEqual(await stored(`plain_${name}`));
    }
  });

  test('takes documents up to the limit of 16 MB', async () => {
    const room = 16 * 1024 * 1024 - BSON.calculateObjectSize({ _id: 1, v: '' });
    const large = [1, 2].map((_id) => ({ _id, v: 'x'.repeat(room) }));
    const work = raw();
    await run(work, bytesOfAll(large, 11), keys(1));
    expect((await stored(work.name.name)).map((hex) => hex.length / 2)).toEqual([16_777_216, 16_777_216]);
    await db.collection(work.name.name).drop();
  });

  test('has the indexes of its source, those of users of the old one, and none that is gone at the source', async () => {
    const extras = (indexes: readonly Document[]) => ({
      indexes: indexes.map((index) => BSON.EJSON.stringify({ v: 2, ...index }, { relaxed: false })),
    });
    const first = raw({
      extras: extras([
        { key: { _id: 1 }, name: '_id_' },
        { key: { n: 1, v: -1 }, name: 'n_v', unique: true, sparse: true },
        { key: { at: 1 }, name: 'expiry', expireAfterSeconds: 86_400_000 },
        { key: { v: 'text' }, name: 'words' },
        { key: { n: 1 }, name: 'some', partialFilterExpression: { n: { $gt: 5 } } },
      ]),
    });
    const documents = [1, 2, 3].map((_id) => ({ _id, n: _id, v: `v${_id}`, at: new Date() }));
    await run(first, bytesOfAll(documents));
    const indexes = async () =>
      new Map(
        (await db.collection(first.name.name).listIndexes().toArray()).map(({ v, ns, ...one }) => [one.name, one]),
      );
    const found = await indexes();
    expect([...found.keys()].sort()).toEqual(['_id_', 'expiry', 'n_v', 'some', 'words']);
    expect(found.get('n_v')).toMatchObject({ key: { n: 1, v: -1 }, unique: true, sparse: true });
    expect(found.get('expiry')).toMatchObject({ expireAfterSeconds: 86_400_000 });
    expect(found.get('some')).toMatchObject({ partialFilterExpression: { n: { $gt: 5 } } });

    await db.collection(first.name.name).createIndex({ users: 1 }, { name: 'of users' });
    const fewer = raw({ name: first.name, extras: extras([{ key: { n: 1 }, name: 'some' }]) });
    await run(fewer, bytesOfAll(documents));
    expect([...(await indexes()).keys()].sort()).toEqual(['_id_', 'of users', 'some']);
  });

  test('lacks a unique index that its documents break, and says so', async () => {
    const index = BSON.EJSON.stringify({ v: 2, key: { n: 1 }, name: 'n', unique: true }, { relaxed: false });
    const other = BSON.EJSON.stringify({ v: 2, key: { m: 1 }, name: 'm' }, { relaxed: false });
    const work = raw({ extras: { indexes: [index, other] } });
    const published = await run(
      work,
      bytesOfAll([
        { _id: 1, n: 1 },
        { _id: 2, n: 1 },
      ]),
    );
    expect(published.notes.join()).toContain('index n is left out: some documents break it');
    const found = (await db.collection(work.name.name).listIndexes().toArray()).map(({ name }) => name);
    expect(found.sort()).toEqual(['_id_', 'm']);
  });

  test('keeps every snapshot of mode dumping, whole documents and rows, and drops one that is discarded', async () => {
    const dates = ['2024-01-01T00:00:00.000Z', '2024-01-02T00:00:00.000Z', '2024-01-03T00:00:00.000Z'];
    const dated = (snapshotDate: string) =>
      column('migration_snapshot_date', { kind: 'timestamptz', precision: 3 }, { constant: snapshotDate });
    const base = raw();
    const snapshot = (snapshotDate: string): Work => ({
      ...base,
      run: `run of ${snapshotDate}`,
      mode: 'dumping',
      snapshotDate,
      key: ['migration_snapshot_date', '_id'],
      columns: [...base.columns, dated(snapshotDate)],
    });
    const documents = [1, 2, 3].map((_id) => ({ _id, v: `v${_id}` }));
    for (const date of dates.slice(0, 2)) await run(snapshot(date), bytesOfAll(documents), keys(1));
    const canceled = snapshot(dates[2] as string);
    await target.prepare(canceled);
    const claim = await target.claim(canceled, keys(1));
    await target.write(canceled, claim, give(bytesOfAll(documents)), writeOptions());
    await target.discard(canceled);

    const found = await db.collection(base.name.name).find().sort({ _id: 1 }).toArray();
    expect(found).toEqual(
      dates.slice(0, 2).flatMap((date) =>
        documents.map(({ _id, v }) => ({
          _id: { migration_snapshot_date: new Date(date), _id },
          migration_snapshot_date: new Date(date),
          v,
        })),
      ),
    );
    const complete = await db.collection('_godwit.snapshot').find({ '_id.collection': base.name.name }).toArray();
    expect(complete.map(({ rows }) => rows)).toEqual([3, 3]);
    expect(await leftovers(db)).toEqual([]);

    const rows = plain({
      mode: 'dumping',
      snapshotDate: dates[0] as string,
      key: ['migration_snapshot_date', 'id'],
      columns: [column('id', { kind: 'int32' }), dated(dates[0] as string)],
    });
    await run(rows, rowsOfAll([[1, dates[0] as string]]));
    expect(await db.collection(rows.name.name).find().toArray()).toEqual([
      {
        _id: { migration_snapshot_date: new Date(dates[0] as string), id: 1 },
        id: 1,
        migration_snapshot_date: new Date(dates[0] as string),
      },
    ]);
  });

  test('an interrupted second snapshot is done again without a document twice', async () => {
    const date = (n: number) => `2024-02-0${n}T00:00:00.000Z`;
    const base = plain();
    const snapshot = (n: number): Work => ({
      ...base,
      run: `run ${n}`,
      mode: 'dumping',
      snapshotDate: date(n),
      key: ['migration_snapshot_date', 'id'],
      columns: [
        ...base.columns,
        column('migration_snapshot_date', { kind: 'timestamptz', precision: 3 }, { constant: date(n) }),
      ],
    });
    const rows = (n: number): Row[] => Array.from({ length: 50 }, (_, i) => [i, `v${i}`, date(n)]);
    await run(snapshot(1), rowsOfAll(rows(1)));
    const second = snapshot(2);
    await target.prepare(second);
    await target.write(second, await target.claim(second, all), give(rowsOfAll(rows(2))), writeOptions());
    await target.finish(second);
    // As if the first publication had died in the midst of its copy.
    const [staging] = (await names(db)).filter((name) => name.startsWith('_godwit.t_'));
    const some = await db
      .collection(staging as string)
      .find()
      .limit(20)
      .toArray();
    await db.collection(base.name.name).insertMany(some);
    await target.publish([second], []);
    expect(await db.collection(base.name.name).countDocuments()).toBe(100);
    expect(await leftovers(db)).toEqual([]);
  });

  test('lacks rows that are bad, which are set aside one by one', async () => {
    const columns = [
      column('id', { kind: 'int32' }),
      column('d', { kind: 'date', wide: true }, { misfit: 'quarantine' }),
      column('j', { kind: 'text' }),
    ];
    const work = plain({ columns });
    const rows: Row[] = Array.from({ length: 1000 }, (_, i) => [i, '2024-01-01', 'x']);
    rows[17] = [17, 'infinity', 'x'];
    rows[500] = [499, '2024-01-01', 'the same key'];
    rows[501] = [501, '2024-01-01', 'x'.repeat(17_000_000)];
    const bad: BadRow[] = [];
    await target.prepare(work);
    const claim = await target.claim(work, keys(1));
    const counts = await target.write(
      work,
      claim,
      give([
        { kind: 'rows', rows: rows.slice(0, 400) },
        { kind: 'rows', rows: rows.slice(400) },
      ]),
      {
        ...writeOptions(),
        quarantine: async (some) => {
          bad.push(...some);
        },
      },
    );
    expect(counts).toMatchObject({ read: 1000, written: 997, quarantined: 3 });
    bad.sort((a, b) => a.ordinal - b.ordinal);
    expect(bad.map(({ ordinal, column: name, native }) => [ordinal, name, native])).toEqual([
      [17, 'd', undefined],
      [500, undefined, '11000'],
      [501, undefined, undefined],
    ]);
    expect(bad.map(({ row }) => row[0])).toEqual([17, 499, 501]);
    await target.finish(work);
    await target.publish([work], []);
    expect(await db.collection(work.name.name).countDocuments()).toBe(997);
  });

  test('a document that is refused on the direct lane is found on the rows lane', async () => {
    const documents = [{ _id: 1, v: 'a' }, { _id: 2 }, { _id: 1, v: 'again' }];
    const work = raw();
    await target.prepare(work);
    const claim = await target.claim(work, keys(1));
    expect(await codeOf(target.write(work, claim, give(bytesOfAll(documents)), writeOptions()))).toBe(
      'CONSTRAINT_BROKEN',
    );
    const slow: Work = { ...work, lane: 'rows', readFormat: 'rows', writeFormat: 'rows' };
    const rows: Row[] = documents.map((one) => [one._id, BSON.EJSON.stringify(one, { relaxed: false })]);
    const bad: number[] = [];
    const counts = await target.write(slow, await target.claim(slow, keys(1)), give(rowsOfAll(rows)), {
      ...writeOptions(),
      quarantine: async (some) => {
        bad.push(...some.map(({ ordinal }) => ordinal));
      },
    });
    expect(counts).toMatchObject({ read: 3, written: 2, quarantined: 1 });
    expect(bad).toEqual([2]);
    await target.finish(work);
    await target.publish([work], []);
    expect(await contents(db, work.name.name)).toMatchObject([{ v: 'a' }, {}]);
  });

  test('two chunks with one key are never published', async () => {
    const work = plain();
    await target.prepare(work);
    await target.write(work, await target.claim(work, keys(1)), give(rowsOfAll([[1, 'a']])), writeOptions());
    // The second one twice, so that it is written aside, where nobody else's keys are.
    await target.claim(work, keys(2));
    await target.write(work, await target.claim(work, keys(2)), give(rowsOfAll([[1, 'b']])), writeOptions());
    expect(await codeOf(target.finish(work))).toBe('CONSTRAINT_BROKEN');
    expect(await codeOf(target.publish([work], []))).toBe('CONSTRAINT_BROKEN');
    expect(await names(db)).not.toContain(work.name.name);
    await target.discard(work);
    expect(await leftovers(db)).toEqual([]);
  });

  test('a chunk that was begun and is not done keeps its table from being published', async () => {
    const work = plain();
    await target.prepare(work);
    await target.write(work, await target.claim(work, keys(1)), give(rowsOfAll([[1, 'a']])), writeOptions());
    await target.claim(work, keys(2));
    expect(await codeOf(target.finish(work))).toBe('CONFLICT');
    await target.discard(work);
  });

  test('documents that are not the source’s number are not kept', async () => {
    const work = raw();
    await target.prepare(work);
    const few = bytesOfAll([{ _id: 1 }]).map((batch) =>
      'rows' in batch && batch.kind === 'bytes' ? { ...batch, rows: 2 } : batch,
    );
    const claim = await target.claim(work, keys(1));
    expect(await codeOf(target.write(work, claim, give(few), writeOptions()))).toBe('BOOKS_UNBALANCED');
    const silent = bytesOfAll([{ _id: 1 }]).slice(0, -1);
    expect(await codeOf(target.write(work, await target.claim(work, keys(1)), give(silent), writeOptions()))).toBe(
      'BOOKS_UNBALANCED',
    );
    await target.discard(work);
  });

  test('a collection of others is left alone, adopted or replaced, as the mapping says', async () => {
    const foreign = async () => {
      const work = plain();
      await db.collection<{ _id: string }>(work.name.name).insertOne({ _id: 'theirs' });
      await db.collection(work.name.name).createIndex({ theirs: 1 }, { name: 'theirs' });
      return work;
    };
    const refused = await foreign();
    expect((await target.refusals(refused)).map(({ code }) => code)).toEqual(['NOT_OWNED']);
    expect(await codeOf(target.prepare(refused))).toBe('NOT_OWNED');
    expect((await target.describe(refused.name))?.owner).toBeUndefined();

    const indexes = async (work: Work) =>
      (await db.collection(work.name.name).listIndexes().toArray()).map(({ name }) => name).sort();
    const adopted: Work = { ...(await foreign()), existing: 'adopt' };
    await run(adopted, rowsOfAll([[1, 'a']]));
    expect(await contents(db, adopted.name.name)).toHaveLength(1);
    expect(await indexes(adopted)).toEqual(['_id_', 'theirs']);
    const overwritten: Work = { ...(await foreign()), existing: 'overwrite' };
    await run(overwritten, rowsOfAll([[1, 'a']]));
    expect(await indexes(overwritten)).toEqual(['_id_']);
    expect((await target.describe(overwritten.name))?.owner).toBe(overwritten.jobUid);

    const continued: Work = {
      ...(await foreign()),
      existing: 'adopt',
      mode: 'dumping',
      snapshotDate: '2024-01-01T00:00:00.000Z',
    };
    await run(continued, rowsOfAll([[1, 'a']]));
    expect(await contents(db, continued.name.name)).toHaveLength(2);
  });

  test('names and columns that the server does not take are refused before', async () => {
    const codes = async (over: Partial<Work>) => (await target.refusals(plain(over))).map(({ code }) => code);
    const named = (schema: string, name: string) => codes({ name: { schema, name } });
    expect(await named('a.b', 't')).toEqual(['MAPPING_INVALID']);
    expect(await named('x'.repeat(64), 't')).toEqual(['NAME_TOO_LONG']);
    expect(await named('admin', 't')).toEqual(['MAPPING_INVALID']);
    expect(await named(database.name, 'a$b')).toEqual(['MAPPING_INVALID']);
    expect(await named(database.name, 'system.users')).toEqual(['MAPPING_INVALID']);
    expect(await named(database.name, '_godwit.owner')).toEqual(['MAPPING_INVALID']);
    expect(await named(database.name, 'x'.repeat(250))).toEqual(['NAME_TOO_LONG']);
    expect(await named(database.name, 'shop.orders 2024')).toEqual([]);
    const id = column('_id', { kind: 'int32' });
    expect(await codes({ columns: [id, column('k', { kind: 'int32' })], key: ['k'] })).toEqual(['NAME_COLLISION']);
    expect(await codes({ columns: [id], key: ['_id'] })).toEqual([]);
    const twice = column('a', { kind: 'int32' });
    expect(await codes({ columns: [twice, twice], key: [] })).toEqual(['NAME_COLLISION']);
    expect(await codes({ swap: 'delete-insert' })).toEqual(['SWAP_IMPOSSIBLE']);
    const timeseries = raw({ extras: { kind: 'timeseries' } });
    expect((await target.refusals(timeseries)).map(({ code }) => code)).toEqual(['SWAP_IMPOSSIBLE']);
  });

  test('what a capped source cannot keep is said', async () => {
    const work = raw({ extras: { options: BSON.EJSON.stringify({ capped: true, size: 4096, strange: 1 }) } });
    const { notes } = await run(work, bytesOfAll([{ _id: 1 }]));
    expect(notes.join()).toMatch(/capped.*ordinary/);
    expect(notes.join()).toContain('not carried from the source: strange');
  });

  test('field names with dots, dollars and nothing stay as they are', async () => {
    const { versionArray = [] } = await db.command({ buildInfo: 1 });
    const dollars = versionArray[0] >= 5;
    const odd = ['with.dot', dollars ? '$dollar' : 'dollar$', 'ünï"\'`\\', ' '];
    const work = plain({
      columns: [column('id', { kind: 'int32' }), ...odd.map((name) => column(name, { kind: 'text' }))],
    });
    expect(await target.refusals(work)).toEqual([]);
    await run(work, rowsOfAll([[1, 'a', 'b', 'c', 'd']]));
    const [found] = await contents(db, work.name.name);
    expect(Object.keys(found as Document)).toEqual(['_id', 'id', ...odd]);
    const dollar = plain({ columns: [column('id', { kind: 'int32' }), column('$dollar', { kind: 'text' })] });
    const codes = (await target.refusals(dollar)).map(({ code }) => code);
    expect(codes).toEqual(dollars ? [] : ['NAME_COLLISION']);
  });

  test('checks leave nothing, and say what cannot be reached', async () => {
    const before = await names(db);
    const checks = await target.check();
    expect(checks.filter(({ outcome }) => outcome !== 'pass')).toEqual([]);
    expect(checks.map(({ name }) => name)).toEqual([
      'server',
      'login',
      'version',
      'writable',
      'clock',
      'durability',
      'privileges',
    ]);
    expect(await names(db)).toEqual(before);
    await using nobody = openTarget({ host: '127.0.0.1', port: 9, db_name: 'x', connect_timeout: 1 });
    expect((await nobody.check()).map(({ name, outcome }) => [name, outcome])).toEqual([['server', 'fail']]);
    expect(await codeOf(nobody.prepare(plain()))).toBe('CONNECTION_FAILED');
  });
});
