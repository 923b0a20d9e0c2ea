import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import {
  Binary,
  BSON,
  type Db,
  Decimal128,
  type Document,
  Double,
  Int32,
  Long,
  MaxKey,
  MinKey,
  MongoClient,
  ObjectId,
  Timestamp,
  UUID,
} from 'mongodb';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type {
  Chunk,
  DocumentShape,
  FieldCast,
  Predicate,
  Source,
  Table,
  TableName,
} from '../../connectors/contract.ts';
import { openSource } from '../../connectors/mongodb/source.ts';
import { unescaped } from '../../connectors/postgres/copy-text.ts';
import type { Row, Value } from '../../connectors/types.ts';
import { startProxy } from '../../servers/proxy.ts';
import { createMongoDatabase, missing, sharedMongodb, type TestDatabase } from '../servers/shared.ts';
import { fillEveryType, mongodbEveryType } from './mongodb-every-type.ts';
import {
  codeOf,
  never,
  ownMoment,
  readBytes,
  readRows,
  type SourceSubject,
  testSource,
  text,
  wantRows,
  whole,
} from './source.ts';

const gone = await missing('mongodb');
const flatten: DocumentShape = { as: 'flatten', casts: {} };
const thorough = (as: DocumentShape['as']): DocumentShape => ({ as, casts: {}, thorough: true });

/** Described as `flatten` wherever a test does not say how. */
const flattened = (source: Source): Source => ({
  ...source,
  describe: (name, shape = flatten) => source.describe(name, shape),
  describeAll: (names, shape = flatten) => source.describeAll(names, shape),
  [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
});

async function mongodbSubject(): Promise<SourceSubject> {
  const { url, kind } = await sharedMongodb();
  const database = await createMongoDatabase();
  const client = await new MongoClient(url).connect();
  const proxy = await startProxy({ port: Number(new URL(url).port) });
  const db = client.db(database.name);
  await fillEveryType(db);
  const keyed = Array.from({ length: 1200 }, (_, n) => ({ id: new Int32(n), name: `n ${n}`, at: new Date(n * 1e8) }));
  await db.collection('keyed').insertMany(keyed);
  const named = (name: string): TableName => ({ schema: database.name, name });
  return {
    open: () => flattened(openSource({ url: proxied(url, proxy.port), db_name: database.name })),
    tables: {
      keyed: named('keyed'),
      empty: named('empty'),
      all: ['keyed', 'empty', ...Object.keys(mongodbEveryType)].map(named),
    },
    count: ({ name }) => db.collection(name).countDocuments(),
    async insert({ name }) {
      await db.collection(name).insertOne({ id: new Int32(0), name: 'new', at: new Date() });
    },
    async replaceStorage({ name }) {
      const kept = await db.collection(name).find({}, { promoteValues: false }).toArray();
      await db.collection(name).drop();
      await db.collection(name).insertMany(kept);
    },
    async cutConnections() {
      proxy.cut();
    },
    ...(kind !== 'mongo-java-server' ? {} : { noStorageIdentity: 'mongo-java-server gives collections no UUID' }),
    async [Symbol.asyncDispose]() {
      await client.close();
      await proxy.stop();
      await database.drop();
    },
  };
}

function proxied(url: string, port: number): string {
  const through = new URL(url);
  through.host = `127.0.0.1:${port}`;
  return through.href;
}

if (!gone) testSource('MongoDB as a source', mongodbSubject);

describe.skipIf(gone)('MongoDB, beyond what every source does', () => {
  let database: TestDatabase;
  let client: MongoClient;
  let db: Db;
  let source: Source;
  let real: boolean;
  /** MongoDB before 5.0 takes no field whose name begins with `$`. */
  let dollars: boolean;
  const named = (name: string): TableName => ({ schema: '', name });
  let made = 0;
  /** A new collection with these documents. */
  async function collection(documents: readonly Document[]): Promise<TableName> {
    const name = `c${++made}`;
    if (documents.length > 0) await db.collection(name).insertMany(documents.map((fields) => ({ ...fields })));
    else await db.createCollection(name);
    return named(name);
  }
  const rowsOf = async (name: TableName, shape: DocumentShape): Promise<{ table: Table; rows: Row[] }> => {
    const table = await source.describe(name, shape);
    return { table, rows: await readRows(source, table, whole) };
  };
  const cellOf = ({ table, rows }: { table: Table; rows: Row[] }, id: Value, column: string): Value | undefined =>
    rows.find((row) => row[0] === id)?.[table.columns.findIndex(({ name }) => name === column)];
  const typesOf = (table: Table) => Object.fromEntries(table.columns.map((column) => [column.name, column.type]));

  beforeAll(async () => {
    const { url, kind } = await sharedMongodb();
    real = kind !== 'mongo-java-server';
    dollars = kind !== 'mongod-3.6';
    database = await createMongoDatabase();
    client = await new MongoClient(url).connect();
    db = client.db(database.name);
    await fillEveryType(db);
    source = openSource({ url, db_name: database.name });
  });
  afterAll(async () => {
    await source?.[Symbol.asyncDispose]();
    await client?.close();
    await database?.drop();
  });

  test('every type has a logical type, and every value its canonical form', async () => {
    const read = await rowsOf(named('every_type'), flatten);
    expect(typesOf(read.table)).toMatchObject({
      _id: { kind: 'int32' },
      v_double: { kind: 'float64' },
      v_int: { kind: 'int32' },
      v_long: { kind: 'int64' },
      v_decimal: { kind: 'decimal', nan: true },
      v_string: { kind: 'text' },
      v_bool: { kind: 'bool' },
      v_date: { kind: 'timestamptz', precision: 3 },
      v_id: { kind: 'text', length: 24 },
      v_binary: { kind: 'bytes' },
      v_uuid: { kind: 'uuid' },
      v_custom: { kind: 'bytes' },
      v_array: { kind: 'json' },
      v_nested_text: { kind: 'text' },
      v_nested_deep_decimal: { kind: 'decimal' },
      v_regex: { kind: 'json' },
      v_timestamp: { kind: 'json' },
    });
    const value = (id: number, column: string) => cellOf(read, id, column);
    expect(value(2, 'v_long')).toBe(9223372036854775807n);
    expect(value(4, 'v_long')).toBe(9007199254740993n);
    expect(value(2, 'v_decimal')).toBe('1234567890123456789012345678901.234');
    expect(value(3, 'v_decimal')).toBe('-999999999999999999999.9999999999999');
    expect(value(5, 'v_decimal')).toBe('0.00000000000000000001');
    expect(value(2, 'v_string')).toBe(mongodbEveryType.every_type?.[1]?.v_string);
    expect(value(6, 'v_string')).toBe('\u0001\u007f\f\v\b');
    expect(value(3, 'v_date')).toBe('0001-01-01T00:00:00Z');
    expect(value(4, 'v_date')).toBe('9999-12-31T23:59:59.999Z');
    expect(value(2, 'v_id')).toBe('65e0aabbccddeeff00112233');
    expect(value(2, 'v_binary')).toEqual(Buffer.from('00ff5c0a0922', 'hex'));
    expect(value(3, 'v_binary')).toEqual(Buffer.alloc(0));
    expect(value(2, 'v_uuid')).toBe('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11');
    expect(value(2, 'v_array')).toBe('[1,2,3.0,"four",null,{"five":[6]},[]]');
    expect(value(2, 'v_nested_number')).toBe(-9223372036854775808n);
    expect(value(2, 'v_nested_deep_date')).toBe('1970-01-01T00:00:00Z');
    expect(value(2, 'v_nested_deep_decimal')).toBe('1.50');
    expect(value(2, 'v_regex')).toBe('{"$regularExpression":{"pattern":"^a.*\\"b\\"","options":"im"}}');
    expect(value(2, 'v_timestamp')).toBe('{"$timestamp":{"t":4000000000,"i":7}}');
    expect(value(2, 'v_min')).toBe('{"$minKey":1}');
    expect(Object.is(value(5, 'v_double'), -0)).toBe(true);
    // Missing and NULL are one.
    expect(value(1, 'v_double')).toBeNull();
    expect(value(2, 'v_null')).toBeNull();
    expect(value(3, 'v_nested_text')).toBeNull();
  });

  test('far dates, NaN and infinities keep their value, and their columns say so', async () => {
    const read = await rowsOf(named('far'), flatten);
    expect(typesOf(read.table).d).toEqual({ kind: 'timestamptz', precision: 3, wide: true });
    const column = (name: string) => read.rows.map((row) => row[read.table.columns.findIndex((c) => c.name === name)]);
    expect(column('d')).toEqual([
      '+275760-09-13T00:00:00Z',
      '-271821-04-20T00:00:00Z',
      '+010000-01-01T00:00:00Z',
      '+000000-12-31T23:59:59.999Z',
      '-000001-01-01T00:00:00Z',
      null,
    ]);
    expect(column('n')).toEqual([Number.NaN, Infinity, -Infinity, 1, null, null]);
    expect(column('m').slice(0, 3)).toEqual(['NaN', 'Infinity', `1${'0'.repeat(6111)}`]);
    expect(column('m')[3]).toBe(`0.${'0'.repeat(6175)}1`);
    const guarded = async (misfit: 'null' | 'clamp' | 'text') =>
      (
        await readRows(source, read.table, whole, { columns: [{ name: 'd', shape: 'native', guard: { misfit } }] })
      ).flat();
    expect((await guarded('null')).every((value) => value === null)).toBe(true);
    expect((await guarded('clamp')).slice(0, 2)).toEqual(['9999-12-31T23:59:59.999Z', '0001-01-01T00:00:00Z']);
    expect((await guarded('text')).slice(0, 5)).toEqual([
      '275760-09-13 00:00:00+00',
      '271822-04-20 00:00:00+00 BC',
      '10000-01-01 00:00:00+00',
      '0001-12-31 23:59:59.999+00 BC',
      '0002-01-01 00:00:00+00 BC',
    ]);
  });

  test('types that differ are united without loss: widened, or JSON', async () => {
    const read = await rowsOf(named('mixed'), flatten);
    const types = typesOf(read.table);
    expect(types.number).toEqual({ kind: 'decimal', nan: true });
    expect(read.rows.map((row) => row[1])).toEqual([
      '1',
      '9007199254740993',
      '2.5',
      '0.1',
      null,
      null,
      null,
      null,
      '-5',
    ]);
    expect(types.any).toEqual({ kind: 'json' });
    expect(cellOf(read, 1, 'any')).toBe('"text"');
    expect(cellOf(read, 2, 'any')).toBe('7');
    expect(cellOf(read, 5, 'any')).toBe('{"$date":"2024-01-01T00:00:00Z"}');
    expect(cellOf(read, 7, 'any')).toBe('[1,"two",null]');
    expect(cellOf(read, 9, 'any')).toBe('{"$oid":"65e0aabbccddeeff00112233"}');
    expect(types.sometimes).toEqual({ kind: 'int64' });
    // Once a document and once not: one column, which holds both.
    expect(types.deep).toEqual({ kind: 'json' });
    expect(cellOf(read, 2, 'deep')).toBe('{"a":"x","b":true}');
    const kind = async (...values: unknown[]) => {
      const table = await source.describe(await collection(values.map((v, i) => ({ _id: new Int32(i), v }))), flatten);
      return typesOf(table).v?.kind;
    };
    expect(await kind(new Int32(1), new Double(0.5))).toBe('float64');
    expect(await kind(Long.fromNumber(2 ** 53 - 1), new Double(0.5))).toBe('float64');
    expect(await kind(Long.fromString('9007199254740993'), new Double(0.5))).toBe('decimal');
    expect(await kind(new Int32(1), Decimal128.fromString('1'))).toBe('decimal');
    expect(await kind(true, new Int32(1))).toBe('json');
    expect(await kind(new UUID(), new Binary(Buffer.from('x')))).toBe('json');
    expect(await kind('x', new ObjectId())).toBe('json');
    expect(await kind(null, null)).toBe('text');
  });

  test('keys of mixed types become texts that stay different', async () => {
    for (const as of ['flatten', 'fields', 'json'] as const) {
      const { table, rows } = await rowsOf(named('ids'), { as, casts: {} });
      expect(table.key).toEqual(['_id']);
      expect(table.columns[0]).toMatchObject({ name: '_id', type: { kind: 'text' }, nullable: false });
      const keys = rows.map((row) => row[0]);
      expect(new Set(keys).size).toBe(mongodbEveryType.ids?.length);
      expect(keys).toContain('"65e0aabbccddeeff00112233"');
      expect(keys).toContain('{"$oid":"65e0aabbccddeeff00112233"}');
      expect(keys).toContain('{"a":{"$numberInt":"1"},"b":"x"}');
    }
    const doubles = await collection([{ _id: new Double(0.1) }, { _id: Decimal128.fromString('0.2') }]);
    expect((await rowsOf(doubles, flatten)).rows.map(([key]) => key)).toContain('{"$numberDouble":"0.1"}');
    // 2^60 and the digits JavaScript shows for it are two numbers, and two keys.
    const big = await collection([{ _id: new Double(2 ** 60) }, { _id: Long.fromString('1152921504606847000') }]);
    expect((await rowsOf(big, flatten)).rows.map(([key]) => key).sort()).toEqual([
      '1152921504606846976',
      '1152921504606847000',
    ]);
    // mongo-java-server takes two subtypes, and 0.1 in two types, for one key.
    if (!real) return;
    const bytes = await collection([
      { _id: new Binary(Buffer.from('x'), 0) },
      { _id: new Binary(Buffer.from('x'), 128) },
    ]);
    expect(new Set((await rowsOf(bytes, flatten)).rows.map(([key]) => key)).size).toBe(2);
    const tenths = await collection([{ _id: new Double(0.1) }, { _id: Decimal128.fromString('0.1') }]);
    expect(new Set((await rowsOf(tenths, flatten)).rows.map(([key]) => key)).size).toBe(2);
  });

  test('JSON of a whole document is what the driver makes of it', async () => {
    for (const name of ['every_type', 'far', 'mixed', 'keys', 'ids']) {
      const { rows } = await rowsOf(named(name), { as: 'json', casts: {} });
      const documents = await db.collection(name).find({}, { promoteValues: false, bsonRegExp: true }).toArray();
      const own = documents.map((document) => JSON.parse(BSON.EJSON.stringify(document, { relaxed: false })));
      const far = (json: unknown) => JSON.stringify(json).replace(/"1E\+?(-?\d+)"/g, '"1E$1"');
      expect(rows.map((row) => far(JSON.parse(row[1] as string)))).toEqual(own.map(far));
    }
  });

  test('a document that fits no longer is FIELDS_CHANGED; looking at all documents finds what it needs', async () => {
    const many = Array.from({ length: 3000 }, (_, n) => ({
      _id: new Int32(n),
      a: new Int32(n),
      d: { x: 'x' },
      at: new Date(0),
    }));
    const name = await collection(many);
    const own = db.collection<{ _id: number }>(name.name);
    for (const as of ['flatten', 'fields'] as const) {
      const before = await source.describe(name, { as, casts: {} });
      await own.updateOne({ _id: 1500 }, { $set: { fresh: 'field' } });
      for (const format of ['rows', 'pg-text', 'csv'] as const) {
        const reading =
          format === 'rows' ? readRows(source, before, whole) : readBytes(source, before, whole, { format });
        expect(await codeOf(reading), format).toBe('FIELDS_CHANGED');
      }
      const after = await source.describe(name, thorough(as));
      expect(after.columns.map((column) => column.name)).toContain('fresh');
      expect(after.fingerprint).not.toBe(before.fingerprint);
      expect(await readRows(source, after, whole)).toHaveLength(3000);
      await own.updateOne({ _id: 1500 }, { $unset: { fresh: 1 } });
    }
    const json = await source.describe(name, { as: 'json', casts: {} });
    await own.insertOne({ _id: 'another type' } as never);
    expect(await codeOf(readRows(source, json, whole))).toBe('FIELDS_CHANGED');
    const mixed = await source.describe(name, thorough('json'));
    expect(await readRows(source, mixed, whole)).toHaveLength(3001);
    await own.deleteOne({ _id: 'another type' } as never);
    const changes: readonly [Document, string, string][] = [
      [{ a: Long.fromNumber(5) }, 'a', 'int64'],
      [{ a: 'text' }, 'a', 'json'],
      [{ d: 7 }, 'd', 'json'],
      [{ 'd.y': 7 }, 'd_y', 'int32'],
      [{ at: new Date(8.64e15) }, 'at', 'timestamptz'],
    ];
    for (const [change, column, kind] of changes) {
      await own.updateMany({}, [{ $set: { d: { x: 'x' } } }]).catch(() => {});
      const before = await source.describe(name, flatten);
      const [field = ''] = Object.keys(change);
      const old = await own.findOne({ _id: 1501 });
      await own.updateOne({ _id: 1501 }, { $set: change });
      expect(await codeOf(readRows(source, before, whole)), field).toBe('FIELDS_CHANGED');
      const after = await source.describe(name, thorough('flatten'));
      expect(typesOf(after)[column]?.kind, field).toBe(kind);
      expect(await readRows(source, after, whole), field).toHaveLength(3000);
      await own.replaceOne({ _id: 1501 }, old as Document);
    }
  });

  test('two fields that would be one column are refused, both named', async () => {
    const refused = async (documents: Document[], one: string, two: string, shape = flatten) => {
      const [found] = await source.describeAll([await collection(documents)], shape);
      expect(found).toMatchObject({ code: 'NAME_COLLISION' });
      expect((found as Error).message).toContain(one);
      expect((found as Error).message).toContain(two);
    };
    await refused([{ a_b: 1, a: { b: 2 } }], '"a_b"', '"a → b"');
    await refused([{ Name: 1 }, { name: 2 }], '"Name"', '"name"', { as: 'fields', casts: {} });
    await refused([{ a: { b_c: 1, b: { c: 1 } } }], '"a → b_c"', '"a → b → c"');
    const json = await source.describe(await collection([{ Name: 1, name: 2 }]), { as: 'json', casts: {} });
    expect(json.columns.map((column) => column.name)).toEqual(['_id', 'document']);
  });

  test('names with dots, dollars, blanks, quotes, no letter at all, and long ones are columns', async () => {
    const { table, rows } = await rowsOf(named('keys'), flatten);
    expect(table.columns.map((column) => column.name)).toEqual([
      '_id',
      'with.dot',
      'with space',
      'ünï"\'`\\',
      'Case',
      ...(dollars ? ['$dollar'] : []),
      'nested_a.b',
      'nested_ä ö',
    ]);
    expect(rows).toEqual([
      [1, '1', 2, 3, 4, ...(dollars ? [6] : []), 7, 8],
      [2, '"x"', null, null, null, ...(dollars ? [null] : []), null, null],
    ]);
    const long = 'x'.repeat(200);
    const odd = await rowsOf(
      await collection([{ _id: new Int32(1), '': 'nameless', [long]: { [long]: 1 }, constructor: 2, toString: null }]),
      flatten,
    );
    expect(odd.table.columns.map((column) => column.name)).toEqual([
      '_id',
      '_',
      `${long}_${long}`,
      'constructor',
      'toString',
    ]);
    expect(odd.rows).toEqual([[1, 'nameless', 1, 2, null]]);
    const inherited = { columns: [{ name: 'valueOf', shape: 'native' as const }] };
    expect(await codeOf(readRows(source, odd.table, whole, inherited))).toBe('COLUMN_MISSING');
  });

  test('a map with many keys stays one column; an empty document is told from nothing only as JSON', async () => {
    const map = Object.fromEntries(Array.from({ length: 150 }, (_, n) => [`key${n}`, n]));
    const { table } = await rowsOf(await collection([{ _id: new Int32(1), map, none: {} }]), flatten);
    expect(typesOf(table)).toMatchObject({ map: { kind: 'json' }, none: { kind: 'json' } });
  });

  test("the manual's casts: what can be read is, else its default", async () => {
    const casts: Record<string, FieldCast> = {
      i: 'int',
      f: 'float',
      b: 'bool',
      d: 'datetime',
      m: 'decimal',
      j: 'json',
      s: 'str',
      never: 'int',
    };
    const values: readonly unknown[] = [
      new Int32(5),
      Long.MAX_VALUE,
      new Double(3.9),
      Decimal128.fromString('1E+3'),
      ' 42 ',
      '2024-02-29T12:00:00.123456+02:00',
      'true',
      true,
      new Date(1500),
      'nonsense',
      null,
      { a: new Int32(1) },
      new Double(Number.NaN),
      '2024-02-30',
      '99999999999999999999',
    ];
    const documents = values.map((v, n) => ({ _id: new Int32(n), i: v, f: v, b: v, d: v, m: v, j: v, s: v }));
    const { table, rows } = await rowsOf(await collection(documents), { as: 'fields', casts });
    const column = (name: string) => rows.map((row) => row[table.columns.findIndex((one) => one.name === name)]);
    expect(typesOf(table)).toMatchObject({
      _id: { kind: 'text' },
      i: { kind: 'int64' },
      f: { kind: 'float64' },
      b: { kind: 'bool' },
      d: { kind: 'timestamptz' },
      m: { kind: 'decimal' },
      j: { kind: 'json' },
      s: { kind: 'text' },
    });
    const max = 9223372036854775807n;
    expect(column('i')).toEqual([5n, max, 3n, 1000n, 42n, 0n, 0n, 1n, 0n, 0n, 0n, 0n, 0n, 0n, 0n]);
    const N = null;
    expect(column('f')).toEqual([5, 2 ** 63, 3.9, 1000, 42, N, N, 1, N, N, N, N, Number.NaN, N, 1e20]);
    expect(column('b')).toEqual([true, true, true, true, N, N, true, true, N, N, N, N, N, N, N]);
    expect(column('d').filter((value) => value !== null)).toEqual([
      '2024-02-29T10:00:00.123456Z',
      '1970-01-01T00:00:01.5Z',
    ]);
    expect(column('m').slice(0, 5)).toEqual(['5', String(max), '3.9', '1000', '42']);
    expect(column('j').slice(0, 5)).toEqual(['5', String(max), '3.9', '{"$numberDecimal":"1E+3"}', '" 42 "']);
    expect(column('s')).toEqual([
      '5',
      String(max),
      '3.9',
      '1E+3',
      ' 42 ',
      '2024-02-29T12:00:00.123456+02:00',
      'true',
      'True',
      '1970-01-01 00:00:01.500000',
      'nonsense',
      N,
      '{"a":1}',
      'nan',
      '2024-02-30',
      '99999999999999999999',
    ]);
    // A field that no document has is there all the same.
    expect(new Set(column('never'))).toEqual(new Set([0n]));
    expect(await codeOf(source.describe(named('far'), { as: 'fields', casts: { _id: 'int' } }))).toBe(
      'MAPPING_INVALID',
    );
  });

  test('the two text formats say what the rows say', async () => {
    const shapes: readonly DocumentShape[] = [flatten, { as: 'fields', casts: {} }, { as: 'json', casts: {} }];
    for (const name of [...Object.keys(mongodbEveryType), 'empty']) {
      for (const shape of shapes) {
        const table = await source.describe(named(name), shape);
        const columns = table.columns.map((column) => ({ name: column.name, shape: 'text' as const }));
        const expected = await readRows(source, table, whole, { columns });
        const pgText = await readBytes(source, table, whole, { format: 'pg-text' });
        const lines = pgText.bytes.toString('utf8').split('\n').slice(0, -1);
        const parsed = lines.map((line) => line.split('\t').map((cell) => (cell === '\\N' ? null : unescaped(cell))));
        expect(parsed, `${name} ${shape.as}`).toEqual(expected);
        expect(pgText.rows).toBe(expected.length);
        const csv = await readBytes(source, table, whole, { format: 'csv' });
        const bytes = new Set(table.columns.flatMap(({ type }, i) => (type.kind === 'bytes' ? [i] : [])));
        const inCsv = expected.map((row) =>
          row.map((cell, i) => (bytes.has(i) && typeof cell === 'string' ? cell.slice(2) : cell)),
        );
        expect(parseCsv(csv.bytes.toString('utf8')), `${name} ${shape.as}`).toEqual(inCsv);
      }
    }
  });

  test('whole documents come byte for byte', async () => {
    for (const name of Object.keys(mongodbEveryType)) {
      const table = await source.describe(named(name), { as: 'raw', casts: {} });
      const { bytes, rows } = await readBytes(source, table, whole, { format: 'bson' });
      const expected = await db.collection(name).find({}, { raw: true }).toArray();
      expect(Buffer.compare(bytes, Buffer.concat(expected as unknown as Uint8Array[])), name).toBe(0);
      expect(rows).toBe(expected.length);
    }
    const table = await source.describe(named('ids'), { as: 'raw', casts: {} });
    const where = [{ column: '_id', op: '=', values: ['"text"'] }] as const;
    const one = await readBytes(source, table, whole, { format: 'bson', where });
    expect(BSON.deserialize(one.bytes)).toEqual({ _id: 'text', v: 'text' });
    expect(one.rows).toBe(1);
    const target = { system: 'mongodb' } as never;
    const raw = await source.describe(named('many'), { as: 'raw', casts: {} });
    expect(source.exactFormats(raw, ['_id', 'document'], target)).toEqual(['bson']);
    expect(source.exactFormats(raw, ['_id'], target)).toEqual([]);
    expect(source.exactFormats(await source.describe(named('many'), flatten), ['_id'], target)).toEqual([]);
  });

  test('chunks of keys of all types cover each document once, whatever their size', async () => {
    const keys: unknown[] = [
      ...Array.from({ length: 40 }, (_, n) => new Int32(n * 3)),
      ...Array.from({ length: 10 }, (_, n) => new Double(n * 5.5 + 0.25)),
      ...['9007199254740993', '-9223372036854775808', '9223372036854775807'].map((one) => Long.fromString(one)),
      ...['1E+100', '-0.001'].map((one) => Decimal128.fromString(one)),
      // Of these mongo-java-server has two orders, one to sort by and one to compare with.
      ...(real
        ? [
            new Double(Number.NaN),
            new Double(Number.POSITIVE_INFINITY),
            ...Array.from({ length: 10 }, () => new UUID()),
          ]
        : []),
      ...Array.from({ length: 40 }, (_, n) => `key ${n} ${'é'.repeat(n % 3)}`),
      '',
      ...Array.from({ length: 20 }, (_, n) => ({ a: new Int32(n), b: 'x' })),
      ...Array.from({ length: 20 }, (_, n) => new ObjectId(`65e0aabb${String(n).padStart(16, '0')}`)),
      ...Array.from({ length: 10 }, (_, n) => new Date(n * 1e11 - 3e11)),
      new Binary(Buffer.from('x')),
      new Timestamp({ t: 1, i: 1 }),
      true,
      false,
      new MinKey(),
      new MaxKey(),
    ];
    const name = await collection(keys.map((_id, n) => ({ _id, n: new Int32(n) })));
    const table = await source.describe(name, { as: 'json', casts: {} });
    for (const rows of [1, 2, 7, 20, 50, 100]) {
      for (const described of [table, { ...table, rows: 1_000_000 }]) {
        const size = described === table ? rows : rows * 5000;
        const chunks = await split(described, size);
        if (described === table && rows < 20) expect(chunks.length).toBeGreaterThan(5);
        const found: string[] = [];
        for (const chunk of chunks)
          found.push(...text(await readRows(source, table, JSON.parse(JSON.stringify(chunk)))));
        expect(found.sort()).toEqual(text(await readRows(source, table, whole)));
      }
    }
  });

  const split = (table: Table, rows: number, after?: Chunk): Promise<Chunk[]> =>
    Array.fromAsync(source.split(table, { size: { rows, bytes: 1e12 }, snapshot: ownMoment, after, signal: never }));

  test('a large collection is split by a sample: even chunks, and the rest of them after any', async () => {
    const table = { ...(await source.describe(named('many'), flatten)), rows: 300_000 };
    const sampled = async (after?: Chunk): Promise<Chunk[]> => {
      // mongo-java-server fails to draw a sample now and then; the walk that stands in for it knows the true size.
      for (let tries = 1; ; tries++) {
        const found = await split(table, 30_000, after);
        if (found.length > 1 || tries === 20) return found;
      }
    };
    const chunks = await sampled();
    expect(chunks.length).toBeGreaterThan(6);
    const sizes: number[] = [];
    for (const chunk of chunks) sizes.push((await readRows(source, table, chunk)).length);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(5000);
    // The sample of mongo-java-server is not drawn evenly, nor that of 3.6 from a collection that is all in memory still.
    if (real && dollars) expect(Math.max(...sizes)).toBeLessThan(1500);
    const rest = await sampled(chunks[3]);
    expect(rest[0]?.id).toBe(5);
    const before = await Promise.all(chunks.slice(0, 4).map((chunk) => readRows(source, table, chunk)));
    const after = await Promise.all(rest.map((chunk) => readRows(source, table, chunk)));
    const all = [...before, ...after].flat();
    expect(new Set(all.map(([key]) => key)).size).toBe(5000);
    expect(all).toHaveLength(5000);
  });

  test('what the server filters is what the canonical values say', async () => {
    const scalar: Record<string, fc.Arbitrary<unknown>> = {
      i: fc.oneof(
        fc.integer({ min: -5, max: 5 }).map((n) => new Int32(n)),
        fc.constantFrom(null, undefined),
      ),
      l: fc.oneof(
        fc.integer({ min: -5, max: 5 }).map((n) => new Int32(n)),
        fc.constantFrom(Long.MAX_VALUE, Long.fromNumber(3), Long.fromString('9007199254740993'), null, undefined),
      ),
      s: fc.constantFrom('', 'a', 'A', 'ä', 'b', 'B', '🐦', '\uffff', 'ab', null, undefined),
      d: fc.constantFrom(new Date(0), new Date(1), new Date(-1), new Date(1704067200123), null, undefined),
      o: fc.constantFrom(
        new ObjectId('000000000000000000000001'),
        new ObjectId('00000000000000000000000a'),
        null,
        undefined,
      ),
      b: fc.constantFrom(true, false, null, undefined),
      n: fc.constantFrom({ x: new Int32(1) }, { x: new Int32(2) }, { x: null }, {}, null, undefined),
    };
    const random = fc.sample(fc.record(scalar), { seed: 7, numRuns: 300 });
    // One of each, so that every field has all its types in the description.
    const documents = random.map((fields, n) => ({ _id: new Int32(n), ...defined(fields), 'a.b': new Int32(n % 3) }));
    const name = await collection(documents);
    const table = await source.describe(name, thorough('flatten'));
    const all = await readRows(source, table, whole);
    const operands: Record<string, readonly (string | number | boolean)[]> = {
      i: [-5, 0, 2, 7],
      l: [3, '9007199254740993', '9223372036854775807', '9223372036854775808'],
      s: ['', 'a', 'B', 'ä', '🐦', 'zz'],
      d: ['1970-01-01', '1970-01-01T00:00:00.0005Z', '2024-01-01 00:00:00.123', '1969-12-31T23:59:59.999Z'],
      o: ['000000000000000000000001', '0', 'ffffffffffffffffffffffff'],
      b: [true, false, 'f'],
      n_x: [1, 2],
      'a.b': [0, 1, 5],
    };
    const predicate = fc
      .constantFrom(...Object.keys(operands))
      .chain((column) =>
        fc.record<Predicate>({
          column: fc.constant(column),
          op: fc.constantFrom('=', 'in', '<', '<=', '>', '>=', 'is null', 'is not null'),
          values: fc.array(fc.constantFrom(...(operands[column] as readonly string[])), { minLength: 1, maxLength: 3 }),
        }),
      )
      .filter(({ column, op }) => column !== 'b' || !/[<>]/.test(op));
    await fc.assert(
      fc.asyncProperty(fc.array(predicate, { minLength: 1, maxLength: 2 }), async (where) => {
        const expected = all.filter((row) =>
          where.every((one) => passes(row[table.columns.findIndex((c) => c.name === one.column)] as Value, one)),
        );
        expect(text(await readRows(source, table, whole, { where }))).toEqual(text(expected));
      }),
      { numRuns: 150 },
    );
    expect(await codeOf(readRows(source, table, whole, { where: [{ column: 'x', op: 'is null', values: [] }] }))).toBe(
      'COLUMN_MISSING',
    );
    const wrong: Predicate = { column: 'i', op: '=', values: ['one'] };
    expect(await codeOf(readRows(source, table, whole, { where: [wrong] }))).toBe('MAPPING_INVALID');
  });

  test('real data sets come as their documents say', async () => {
    for (const name of ['accounts', 'customers', 'theaters']) {
      const file = new URL(`../../../shared/datasets/mongo/${name}.json`, import.meta.url);
      let lines: string[];
      try {
        lines = readFileSync(file, 'utf8').trim().split('\n');
      } catch {
        console.warn(`skipped: the data set ${name} is not here`);
        continue;
      }
      const documents = lines.map((line) => BSON.EJSON.parse(line, { relaxed: false }) as Document);
      await db.collection(name).insertMany(documents);
      const json = await rowsOf(named(name), { as: 'json', casts: {} });
      expect(json.rows.map((row) => row[1])).toEqual(lines.map((line) => JSON.stringify(JSON.parse(line))));
      const flat = await rowsOf(named(name), flatten);
      expect(flat.rows).toHaveLength(lines.length);
      for (const [i, row] of flat.rows.entries()) {
        for (const [c, { name: column, type }] of flat.table.columns.entries()) {
          const path = column === '_id' ? ['_id'] : pathIn(documents[i] as Document, column);
          const own = path?.reduce<unknown>((at, key) => (at as Document | undefined)?.[key], documents[i]);
          expect(row[c], `${name} ${column}`).toEqual(plainly(own, type.kind));
        }
      }
    }
  });

  test('a document of 16 MB, in every format', async () => {
    const name = await collection([
      { _id: new Int32(1), text: 'é'.repeat(7_900_000) },
      { _id: new Int32(2), text: 'x' },
    ]);
    const table = await source.describe(name, flatten);
    const rows = await readRows(source, table, whole);
    expect(rows.map((row) => (row[1] as string).length)).toEqual([7_900_000, 1]);
    const { bytes } = await readBytes(source, table, whole, { format: 'pg-text' });
    expect(bytes.length).toBe(15_800_000 + 7);
    const { bytes: csv } = await readBytes(source, table, whole, { format: 'csv' });
    expect(csv.length).toBe(15_800_000 + 7);
    const raw = await readBytes(source, table, whole, { format: 'bson' });
    expect(raw.rows).toBe(2);
  });

  test('constants stand in every row, in the place asked for', async () => {
    const table = await source.describe(named('text_ids'), flatten);
    const columns = [
      { name: 'when', shape: 'native', constant: { value: '2024-01-02T03:04:05.120Z', type: { kind: 'timestamptz' } } },
      { name: 'v', shape: 'native' },
    ] as const;
    const where = [{ column: 'v', op: '=', values: [3] }] as const;
    expect(await readRows(source, table, whole, { columns, where })).toEqual([['2024-01-02T03:04:05.12Z', 3]]);
    const { bytes } = await readBytes(source, table, whole, { columns, where, format: 'pg-text' });
    expect(bytes.toString()).toBe('2024-01-02 03:04:05.12+00\t3\n');
  });

  test('values are told as JSON where a column asks for it', async () => {
    const table = await source.describe(named('every_type'), flatten);
    const columns = table.columns.map(({ name }) => ({ name, shape: 'json' as const }));
    const rows = await readRows(source, table, whole, { columns });
    for (const row of rows) for (const cell of row) if (cell !== null) JSON.parse(cell as string);
    const read = { table, rows };
    expect(cellOf(read, '2', 'v_long')).toBe('9223372036854775807');
    expect(cellOf(read, '2', 'v_uuid')).toBe('"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"');
    expect(cellOf(read, '2', 'v_array')).toBe('[1,2,3.0,"four",null,{"five":[6]},[]]');
  });

  test('system collections and Godwit’s own are not tables', async () => {
    await db.collection('_godwit_chunk').insertOne({ a: 1 });
    const names = (await source.tables()).map((table) => table.name.name);
    expect(names).toContain('many');
    expect(names.filter((name) => /^(system\.|_godwit)/.test(name))).toEqual([]);
  });

  test('the position is the cluster time where the server has one', async () => {
    await using snapshot = await source.open();
    expect(snapshot.consistency).toBe('chunk');
    expect(snapshot.position).toMatch(real ? /^\d+:\d+$/ : /^$/);
    expect(Math.abs(Date.parse(snapshot.takenAt) - Date.now())).toBeLessThan(60_000);
  });

  test('other addresses of the database have its identity, another database has not', async () => {
    const { url } = await sharedMongodb();
    const other = (address: string, name: string) => openSource({ url: address, db_name: name });
    await using byName = other(url.replace('127.0.0.1', 'localhost'), database.name);
    await using elsewhere = other(url, `${database.name}_2`);
    expect(await byName.identity()).toBe(await source.identity());
    expect(await elsewhere.identity()).not.toBe(await source.identity());
  });

  test('a server that is not there is a failed check, and an error that is tried again', async () => {
    await using nowhere = openSource({ url: 'mongodb://127.0.0.1:1', db_name: 'x', connect_timeout: 0.5 });
    expect(await nowhere.check()).toMatchObject([{ name: 'server', outcome: 'fail' }]);
    expect(await codeOf(nowhere.tables())).toBe('CONNECTION_FAILED');
    await using unknown = openSource({ url: 'mongodb://nobody.invalid', db_name: 'x', connect_timeout: 0.5 });
    expect(await codeOf(unknown.tables())).toBe('UNKNOWN_HOST');
  });

  test('a connection lost in mid-read is an error that is tried again', async () => {
    const { url } = await sharedMongodb();
    await using proxy = await startProxy({ port: Number(new URL(url).port) });
    await using through = openSource({ url: proxied(url, proxy.port), db_name: database.name });
    const table = await through.describe(named('many'), flatten);
    const reading = (async () => {
      for await (const _ of through.read(table, whole, wantRows(table, { batch: { rows: 100, bytes: 10_000 } }))) {
        proxy.cut();
      }
    })();
    expect(await codeOf(reading)).toBe('CONNECTION_FAILED');
    expect(await readRows(through, table, whole)).toHaveLength(5000);
  });
});

const defined = (fields: object): Document =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));

/** Decision 20, said again in other words. */
function passes(value: Value, { op, values }: Predicate): boolean {
  if (op === 'is null') return value === null;
  if (op === 'is not null') return value !== null;
  if (value === null) return false;
  const order = (operand: string | number | boolean): number => {
    if (typeof value === 'boolean') return value === (operand === true) ? 0 : 1;
    if (typeof value === 'number' || typeof value === 'bigint') {
      const [a, b] = [BigInt(value), BigInt(operand)];
      return a < b ? -1 : a > b ? 1 : 0;
    }
    if (/^\d{4}-.*Z$/.test(value as string)) return microseconds(value as string) - microseconds(String(operand));
    return Buffer.compare(Buffer.from(value as string), Buffer.from(String(operand)));
  };
  if (op === 'in') return values.some((one) => order(one) === 0);
  const found = order(values[0] as string);
  return { '=': found === 0, '<': found < 0, '<=': found <= 0, '>': found > 0, '>=': found >= 0 }[op];
}

function microseconds(instant: string): number {
  const [whole = '', fraction = ''] = instant.replace(' ', 'T').replace('Z', '').split('.');
  return Date.parse(`${whole.includes('T') ? whole : `${whole}T00:00:00`}Z`) * 1000 + Number(fraction.padEnd(6, '0'));
}

/** By the names in a column of a flattened document. */
function pathIn(document: Document, column: string): string[] | undefined {
  for (const [key, value] of Object.entries(document)) {
    if (key === column) return [key];
    if (!column.startsWith(`${key}_`) || typeof value !== 'object' || value === null) continue;
    const rest = pathIn(value, column.slice(key.length + 1));
    if (rest) return [key, ...rest];
  }
  return undefined;
}

/** A value of a data set as its column shows it. */
function plainly(value: unknown, kind: string): Value {
  if (value === undefined || value === null) return null;
  if (kind === 'json') return BSON.EJSON.stringify(value as Document, { relaxed: true });
  if (kind === 'int32' || kind === 'float64') return Number(value);
  if (kind === 'timestamptz') return (value as Date).toISOString().replace(/\.?0+Z$/, 'Z');
  if (kind === 'text') return String(value);
  return value as Value;
}

/** The columnar lane's dialect: an empty field is NULL, an empty text is in quotes. */
function parseCsv(csv: string): (string | null)[][] {
  const rows: (string | null)[][] = [];
  let row: (string | null)[] = [];
  for (let at = 0; at < csv.length; ) {
    let cell: string | null = null;
    if (csv[at] === '"') {
      const match = /"((?:[^"]|"")*)"/y;
      match.lastIndex = at;
      const found = match.exec(csv) as RegExpExecArray;
      cell = (found[1] as string).replaceAll('""', '"');
      at = match.lastIndex;
    } else {
      let end = at;
      while (csv[end] !== ',' && csv[end] !== '\n') end++;
      if (end > at) cell = csv.slice(at, end);
      at = end;
    }
    row.push(cell);
    if (csv[at] === '\n') {
      rows.push(row);
      row = [];
    }
    at++;
  }
  return rows;
}
