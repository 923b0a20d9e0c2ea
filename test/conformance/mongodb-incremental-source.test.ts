import { randomUUID } from 'node:crypto';
import {
  Binary,
  type Db,
  Decimal128,
  type Document,
  Double,
  Int32,
  Long,
  MongoClient,
  ObjectId,
  Timestamp,
  UUID,
} from 'mongodb';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Chunk, DocumentShape, Follow, Range, Source, Table, Watermark } from '../../connectors/contract.ts';
import { openSource } from '../../connectors/mongodb/source.ts';
import { createMongoDatabase, missing, sharedMongodb, type TestDatabase } from '../servers/shared.ts';
import { type IncrementalSubject, type KeyTable, testIncrementalSource } from './incremental-source.ts';
import { codeOf, never, ownMoment, readRows } from './source.ts';

const flatten: DocumentShape = { as: 'flatten', casts: {} };
const flattened = (source: Source): Source => ({
  ...source,
  describe: (name, shape = flatten) => source.describe(name, shape),
  [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
});

async function mongodbSubject(): Promise<IncrementalSubject> {
  const { kind } = await sharedMongodb();
  const database = await createMongoDatabase();
  const client = await new MongoClient(database.url, { writeConcern: { w: 'majority' } }).connect();
  const db = client.db(database.name);
  const put: Awaited<ReturnType<IncrementalSubject['hands']>>['put'] = async ({ name }, rows) => {
    const operations = rows.map(([id, at]) => ({
      replaceOne: {
        filter: { _id: new Long(BigInt(id)) as unknown as ObjectId },
        replacement: { at: at === null ? null : new Date(at) },
        upsert: true,
      },
    }));
    await db.collection(name).bulkWrite(operations);
  };
  return {
    open: () => flattened(openSource({ url: database.url })),
    async make({ indexed }) {
      const name = `t_${randomUUID().slice(0, 8)}`;
      await db.createCollection(name);
      if (indexed) await db.collection(name).createIndex({ at: 1, _id: 1 });
      return { schema: database.name, name };
    },
    async settle() {},
    // A collection without documents shows no fields: a cast names the bookmark.
    describe: (source, name) => source.describe(name, { as: 'flatten', casts: { at: 'datetime' } }),
    columns: { id: '_id', at: 'at' },
    digits: 3,
    async hands() {
      return {
        begin: async () => new Date().toISOString(),
        commit: async () => {},
        now: async () => new Date().toISOString(),
        put,
        async truncate({ name }) {
          const indexes = await db.collection(name).indexes();
          await db.collection(name).drop();
          await db.createCollection(name);
          if (indexes.length > 1) await db.collection(name).createIndex({ at: 1, _id: 1 });
        },
        async [Symbol.asyncDispose]() {},
      };
    },
    late: 'MongoDB says of nobody what he is about to commit',
    ...(kind === 'mongo-java-server' ? { noStorageIdentity: 'mongo-java-server gives collections no UUID' } : {}),
    keyTables: (source) => keyTables(source, db),
    async [Symbol.asyncDispose]() {
      await client.close();
      await database.drop();
    },
  };
}

const ids: Readonly<Record<string, readonly unknown[]>> = {
  ints: [-5, 0, 3, 10, 9, 100].map((n) => new Int32(n)),
  longs: [-(2n ** 62n), -1n, 0n, 7n, 10n, 2n ** 53n + 1n].map((n) => Long.fromBigInt(n)),
  both: [new Int32(2), Long.fromBigInt(10n), new Int32(9), Long.fromBigInt(2n ** 40n)],
  doubles: [-1.5, 0.1, 2, 10, 1e15 + 0.5].map((x) => new Double(x)),
  decimals: ['-1.50', '0.1', '2', '10', '9.99'].map((text) => new Decimal128(text)),
  texts: ['', 'a', 'A', 'é', 'e\u0301', 'z', 'zz', '10', '9', 'with "quotes"', '\uffee'],
  objectIds: Array.from({ length: 20 }, (_, i) => new ObjectId(`${(1000 + i * 37).toString(16).padStart(8, '0')}${'ab'.repeat(8)}`)),
  uuids: ['00000000-0000-4000-8000-000000000001', 'ffffffff-0000-4000-8000-000000000001', '7a000000-0000-4000-8000-000000000000'].map((text) => new UUID(text)),
  dates: ['1969-12-31T23:59:59.999Z', '2024-02-29T00:00:00Z', '2024-02-29T00:00:00.5Z', '2024-02-29T00:00:00.049Z'].map((text) => new Date(text)),
}; // biome-ignore format: lists

async function keyTables(source: Source, db: Db): Promise<KeyTable[]> {
  const tables: KeyTable[] = [];
  for (const [name, values] of Object.entries(ids)) {
    await db.collection<{ _id: unknown }>(`keys_${name}`).deleteMany({});
    await db.collection<{ _id: unknown }>(`keys_${name}`).insertMany(values.map((_id) => ({ _id })));
    const table = await source.describe({ schema: db.databaseName, name: `keys_${name}` });
    tables.push({ table, key: ['_id'] });
  }
  return tables;
}

describe.skipIf(await missing('mongodb'))('MongoDB as a source of increments', () => {
  testIncrementalSource('dates as bookmarks', mongodbSubject);

  let database: TestDatabase;
  let client: MongoClient;
  let db: Db;
  let source: Source;
  beforeAll(async () => {
    database = await createMongoDatabase();
    client = await new MongoClient(database.url, { writeConcern: { w: 'majority' } }).connect();
    db = client.db(database.name);
    source = openSource({ url: database.url });
  });
  afterAll(async () => {
    await source?.[Symbol.asyncDispose]();
    await client?.close();
    await database?.drop();
  });

  let number = 0;
  const collection = async (documents: readonly Document[], index?: Document, as: DocumentShape['as'] = 'raw') => {
    const name = `c_${++number}`;
    await db.createCollection(name);
    if (index) await db.collection(name).createIndex(index as Record<string, 1>);
    if (documents.length > 0) await db.collection(name).insertMany(documents.map((document) => ({ ...document })));
    return await source.describe({ schema: database.name, name }, { as, casts: {} });
  };
  const bookmark = (form: Follow['form'] = 'native'): Follow => ({ by: 'bookmark', column: 'at', form });
  const watermark = async (table: Table, follow: Follow, recheck = 0): Promise<Watermark> => {
    const taken = await source.watermark?.(table, follow, { snapshot: ownMoment, recheck, signal: never });
    if (!taken) throw new Error('no watermark');
    return taken;
  };
  const read = async (table: Table, range: Range, rows = 1000): Promise<unknown[]> => {
    const found: unknown[] = [];
    const size = { rows, bytes: 1e12 };
    for await (const chunk of source.split(table, { size, range, snapshot: ownMoment, signal: never })) {
      found.push(...(await readRows(source, table, chunk, { columns: [{ name: '_id', shape: 'native' }], range })));
    }
    return found.map((row) => (row as unknown[])[0]).sort((a, b) => Number(a) - Number(b));
  };

  const mixed: Document[] = [
    { _id: 1, at: new Date('2024-02-28T00:00:00Z') },
    { _id: 2, at: new Date('2024-02-29T00:00:00Z') },
    { _id: 3, at: new Int32(Date.UTC(2024, 1, 28) / 1000) },
    { _id: 4, at: new Double(Date.UTC(2024, 1, 29) / 1000 + 0.123) },
    { _id: 5, at: Long.fromNumber(Date.UTC(2024, 1, 28)) },
    { _id: 6, at: Long.fromNumber(Date.UTC(2024, 1, 29)) },
    { _id: 7, at: Long.fromBigInt(BigInt(Date.UTC(2024, 1, 29)) * 1000n + 1n) },
    { _id: 8, at: Long.fromBigInt(BigInt(Date.UTC(2024, 1, 29)) * 1_000_000n + 1n) },
    { _id: 9, at: new Decimal128('1709164800.5') },
    { _id: 10, at: null },
    { _id: 11 },
    { _id: 12, at: '2024-02-28T00:00:00Z' },
    { _id: 13, at: [new Date('2024-02-28T00:00:00Z')] },
    { _id: 14, at: { nested: new Date('2024-02-29T00:00:00Z') } },
    { _id: 15, at: true },
    { _id: 16, at: new Double(Number.NaN) },
    { _id: 17, at: new Double(Number.POSITIVE_INFINITY) },
    { _id: 18, at: new Timestamp({ t: 5, i: 1 }) },
    { _id: 19, at: new ObjectId() },
    { _id: 20, at: new Binary(Buffer.of(1)) },
    { _id: 21, at: [] },
    { _id: 22, at: [null, 3] },
  ];

  test.each([
    ['an index', { at: 1 }, 1000],
    ['an index, in chunks', { at: 1 }, 3],
    ['no index', undefined, 1000],
    ['no index, in chunks', undefined, 3],
  ] as const)(
    'bookmarks of every type with %s: each by its class, and what is no instant always',
    async (_, index, rows) => {
      for (const as of ['raw', 'json', 'fields'] as const) {
        const table = await collection(mixed, index, as);
        expect(await watermark(table, bookmark())).toMatchObject({ upto: '2024-02-29T00:00:00.5Z' });
        const always = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22];
        const found = async (range: Omit<Range, 'column'>) =>
          (await read(table, { column: 'at', ...range }, rows)).map(Number);
        expect(await found({ from: '2024-02-29T00:00:00Z', nulls: true })).toEqual([2, 4, 6, 7, 8, 9, ...always]);
        expect(await found({ from: '2024-02-29T00:00:00.001Z', upto: '2024-02-29T00:00:00.123Z', nulls: true })).toEqual([4, ...always]); // biome-ignore format: one line
        expect(await found({ upto: '2024-02-28T23:59:59.999999Z', nulls: true })).toEqual([1, 3, 5, ...always]);
        expect(await found({ nulls: true })).toEqual(mixed.map(({ _id }) => _id));
      }
    },
  );

  test('epochs are compared as numbers, of any numeric type, with all their digits', async () => {
    const documents = [1_709_164_800, 1_709_164_801.123, 1_709_164_802].map((at, _id) => ({ _id, at: new Double(at) }));
    documents.push({ _id: 3, at: Long.fromNumber(1_709_164_801) as unknown as Double });
    for (const index of [{ at: 1 }, undefined]) {
      const table = await collection(documents, index, 'flatten');
      expect(await watermark(table, bookmark('milliseconds'))).toMatchObject({ upto: '1709164802' });
      const range = { column: 'at', from: '1709164801', upto: '1709164801.123', nulls: true };
      expect(await read(table, range)).toEqual([1, 3]);
      expect(await read(table, { ...range, from: '1709164801.123', upto: '1709164801.123' })).toEqual([1]);
    }
  });

  test('bookmarks the server cannot compare: only the clock is known, and all rows are read', async () => {
    const table = await collection([{ _id: 1, at: 'Thu, 29 Feb 2024 12:00:00 GMT' }], undefined, 'fields');
    const taken = await watermark(table, bookmark('text'));
    expect(Object.keys(taken)).toEqual(['clock']);
  });

  test('a field that no filter can name is refused', async () => {
    const table = await collection([{ _id: 1, 'a.b': new Date() }]);
    expect(await codeOf(watermark(table, { ...bookmark(), column: 'a.b' }))).toBe('TYPE_REFUSED');
    expect(await codeOf(watermark(table, { ...bookmark(), column: '_id' }))).toBe('TYPE_REFUSED');
  });

  test('ObjectIds: the floor is an hour back, or so many keys, whichever is lower', async () => {
    const at = (seconds: number, n: number) =>
      new ObjectId(`${seconds.toString(16).padStart(8, '0')}${n.toString(16).padStart(16, '0')}`);
    const now = 1_709_164_800;
    const documents = Array.from({ length: 30 }, (_, i) => ({ _id: at(now + i, i) }));
    const table = await collection(documents, undefined, 'fields');
    const follow: Follow = { by: 'key', column: '_id', form: 'native' };
    const top = at(now + 29, 29).toHexString();
    expect(await watermark(table, follow, 5)).toMatchObject({
      upto: top,
      floor: at(now + 29 - 3600, 0).toHexString(),
    });
    const spread = await collection(Array.from({ length: 30 }, (_, i) => ({ _id: at(now + i * 1000, i) })));
    expect((await watermark(spread, follow, 5)).floor).toBe(at(now + 24_000, 24).toHexString());
    const range = { column: '_id', from: at(now + 10, 10).toHexString(), upto: top };
    const found: unknown[] = [];
    for (const rows of [1000, 7]) {
      const size = { rows, bytes: 1e12 };
      for await (const chunk of source.split(table, { size, range, snapshot: ownMoment, signal: never })) {
        found.push(...(await readRows(source, table, chunk, { columns: [{ name: '_id', shape: 'native' }], range })));
      }
      expect(found.splice(0).flat()).toEqual(documents.slice(10).map(({ _id }) => _id.toHexString()));
    }
  });

  test('keys that are logged: texts, UUIDs and dates have ranges; keys of several types are refused', async () => {
    const follow: Follow = { by: 'key', column: '_id', form: 'native' };
    for (const [values, from] of [
      [['a', 'b', 'c', 'd'], 'b'],
      [
        ['0190a000-0000-7000-8000-000000000000', '0190b000-0000-7000-8000-000000000000'].map((text) => new UUID(text)),
        '0190b000-0000-7000-8000-000000000000',
      ],
      [
        ['2024-01-01T00:00:00Z', '2024-01-02T00:00:00Z', '2024-01-03T00:00:00.5Z'].map((text) => new Date(text)),
        '2024-01-02T00:00:00Z',
      ],
    ] as const) /* biome-ignore format: lists */ {
      const table = await collection(values.map((_id) => ({ _id })), undefined, 'flatten'); // biome-ignore format: one line
      const { upto = '', floor } = await watermark(table, follow, values.length + 1);
      expect(floor).toBeUndefined();
      const size = { rows: 1000, bytes: 1e12 };
      const range: Range = { column: '_id', from, upto };
      const rows: unknown[] = [];
      for await (const chunk of source.split(table, { size, range, snapshot: ownMoment, signal: never })) {
        rows.push(...(await readRows(source, table, chunk, { range })));
      }
      expect(rows).toHaveLength(values.length - 1);
    }
    const several = await collection([{ _id: 1 }, { _id: 'a' }]);
    expect(await codeOf(watermark(several, follow))).toBe('TYPE_REFUSED');
  });

  const keysOf = async (table: Table, where: Parameters<NonNullable<Source['keys']>>[3]['where'] = []) => {
    const keys: string[] = [];
    for await (const batch of source.keys?.(table, ['_id'], {}, { snapshot: ownMoment, where, signal: never }) ?? []) keys.push(...batch); // biome-ignore format: one line
    return keys;
  };
  const rangesOf = (table: Table, rows: number) =>
    Array.fromAsync(
      source.keyRanges?.(table, ['_id'], { size: { rows, bytes: 1e12 }, snapshot: ownMoment, signal: never }) ?? [],
    );

  test('numbers that are texts at the target come in the order of texts, in one range', async ({ skip }) => {
    if ((await sharedMongodb()).kind === 'mongod-3.6') return skip('MongoDB 3.6 has no $toString');
    const table = await collection([1, 2, 10, 11, 100, 9].map((_id) => ({ _id })), undefined, 'fields'); // biome-ignore format: one line
    expect(await keysOf(table)).toEqual(['1', '10', '100', '11', '2', '9']);
    expect(await rangesOf(table, 2)).toEqual([{}]);
  });

  test('keys of several types are refused, and one that came since the plan is an error, never left out', async () => {
    const several = await collection([{ _id: 1 }, { _id: 'a' }]);
    expect(await codeOf(keysOf(several))).toBe('MODE_REFUSED');
    expect(await codeOf(rangesOf(several, 1))).toBe('MODE_REFUSED');
    const table = await collection([{ _id: 1 }, { _id: 2 }]);
    await db.collection<Document>(table.name.name).insertOne({ _id: 'new' as never });
    expect(await codeOf(keysOf(table))).toBe('FIELDS_CHANGED');
  });

  test('keys under a filter are those of the rows that are read under it', async () => {
    const documents = Array.from({ length: 50 }, (_, i) => ({ _id: i, v: new Int32(i % 5) }));
    const table = await collection(documents, undefined, 'flatten');
    const where = [{ column: 'v', op: '=' as const, values: [3] }];
    expect(await keysOf(table, where)).toEqual(documents.filter(({ v }) => Number(v) === 3).map(({ _id }) => `${_id}`));
  });

  test('a sweep of a collection that is gone reads no short list', async () => {
    const table = await collection([{ _id: 1 }]);
    await db.collection(table.name.name).drop();
    expect(await codeOf(keysOf(table))).toBe('SOURCE_CHANGED');
    const chunk: Chunk = { id: 1, kind: 'all', bounds: {}, rows: 1 };
    expect(await codeOf(readRows(source, table, chunk))).toBe('SOURCE_CHANGED');
  });
});
