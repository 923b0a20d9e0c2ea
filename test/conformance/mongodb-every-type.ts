/**
 * Collections with the values that break data movers: every BSON type at its edges, fields whose type differs between
 * documents, and keys of every type. Code with scope, symbols and binaries of subtype 5 are left out: mongo-java-server
 * closes the connection on them.
 */
import {
  Binary,
  BSONRegExp,
  Code,
  type Db,
  Decimal128,
  Double,
  Int32,
  Long,
  MaxKey,
  MinKey,
  ObjectId,
  Timestamp,
  UUID,
} from 'mongodb';

type Fields = Readonly<Record<string, unknown>>;

const hex = (text: string) => Buffer.from(text, 'hex');
const date = (milliseconds: number) => new Date(milliseconds);

/** By collection; `_id` is the first field of each. */
export const mongodbEveryType: Readonly<Record<string, readonly Fields[]>> = {
  every_type: [
    { _id: 1 },
    {
      _id: 2,
      v_double: new Double(0.1),
      v_int: new Int32(2147483647),
      v_long: Long.MAX_VALUE,
      v_decimal: Decimal128.fromString('1234567890123456789012345678901.234'),
      v_string: 'tab\tnew\nline\rcr back\\slash "double" \'single\' ,comma \\N ünïcödé 🐦 漢字',
      v_bool: true,
      v_date: date(1709251199999),
      v_id: new ObjectId('65e0aabbccddeeff00112233'),
      v_binary: new Binary(hex('00ff5c0a0922'), 0),
      v_uuid: new UUID('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
      v_custom: new Binary(hex('0102'), 128),
      v_null: null,
      v_array: [1, Long.fromNumber(2), new Double(3), 'four', null, { five: [6] }, []],
      v_nested: { text: 'a', number: Long.MIN_VALUE, deep: { date: date(0), decimal: Decimal128.fromString('1.50') } },
      v_regex: new BSONRegExp('^a.*"b"', 'im'),
      v_timestamp: new Timestamp({ t: 4_000_000_000, i: 7 }),
      v_code: new Code('function () { return "x"; }'),
      v_min: new MinKey(),
      v_max: new MaxKey(),
    },
    {
      _id: 3,
      v_double: new Double(-1.7976931348623157e308),
      v_int: new Int32(-2147483648),
      v_long: Long.MIN_VALUE,
      v_decimal: Decimal128.fromString('-9.999999999999999999999999999999999E+20'),
      v_string: '',
      v_bool: false,
      v_date: date(-62135596800000),
      v_id: new ObjectId('000000000000000000000000'),
      v_binary: new Binary(hex(''), 0),
      v_uuid: new UUID('00000000-0000-0000-0000-000000000000'),
      v_array: [],
      v_nested: {},
      v_regex: new BSONRegExp('', ''),
    },
    {
      _id: 4,
      v_double: new Double(5e-324),
      v_long: Long.fromString('9007199254740993'),
      v_decimal: Decimal128.fromString('0.00'),
      v_string: 'NULL',
      v_date: date(253402300799999),
      v_array: [[[]], [[1, 2], [3]]],
      v_nested: { text: '', number: null },
    },
    { _id: 5, v_double: new Double(-0), v_string: '\\N', v_date: date(-1), v_decimal: Decimal128.fromString('1E-20') },
    { _id: 6, v_double: new Double(3), v_string: '\u0001\u007f\f\v\b', v_nested: { deep: { date: null } } },
  ],

  /** Values that many systems cannot hold at all. */
  far: [
    { _id: 1, d: date(8_640_000_000_000_000), n: new Double(Number.NaN), m: Decimal128.fromString('NaN') },
    { _id: 2, d: date(-8_640_000_000_000_000), n: new Double(Infinity), m: Decimal128.fromString('Infinity') },
    { _id: 3, d: date(253402300800000), n: new Double(-Infinity), m: Decimal128.fromString('1E+6111') },
    { _id: 4, d: date(-62135596800001), n: new Double(1), m: Decimal128.fromString('1E-6176') },
    { _id: 5, d: date(-62198755200000), n: null, m: null },
    { _id: 6 },
  ],

  mixed: [
    { _id: 1, number: new Int32(1), any: 'text', sometimes: 1, deep: { a: new Int32(1) }, list: [1], gone: 1 },
    {
      _id: 2,
      number: Long.fromString('9007199254740993'),
      any: new Int32(7),
      sometimes: null,
      deep: { a: 'x', b: true },
    },
    { _id: 3, number: new Double(2.5), any: new Double(0.5), deep: 'not nested', list: 'not a list', gone: null },
    { _id: 4, number: Decimal128.fromString('0.1'), any: true, deep: null, list: { a: 1 } },
    { _id: 5, number: null, any: date(1704067200000), list: [] },
    { _id: 6, any: { nested: ['x'] }, sometimes: 2 },
    { _id: 7, any: [1, 'two', null], sometimes: Long.MAX_VALUE },
    { _id: 8, any: null },
    { _id: 9, any: new ObjectId('65e0aabbccddeeff00112233'), number: new Int32(-5) },
  ],

  keys: [
    {
      _id: 1,
      'with.dot': 1,
      'with space': 2,
      'ünï"\'`\\': 3,
      Case: 4,
      $dollar: 6,
      nested: { 'a.b': 7, 'ä ö': 8 },
    },
    { _id: 2, 'with.dot': 'x', nested: { 'a.b': null } },
  ],

  ids: [
    { _id: new ObjectId('65e0aabbccddeeff00112233'), v: 'object id' },
    { _id: new ObjectId('65e0aabbccddeeff00112234'), v: 'another' },
    { _id: 'text', v: 'text' },
    { _id: '65e0aabbccddeeff00112233', v: 'text that looks like an object id' },
    { _id: new Int32(7), v: 'int' },
    { _id: Long.MAX_VALUE, v: 'long' },
    { _id: new Double(0.5), v: 'double' },
    { _id: { a: 1, b: 'x' }, v: 'nested' },
    { _id: date(1704067200000), v: 'date' },
    { _id: new UUID('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), v: 'uuid' },
    { _id: true, v: 'bool' },
  ],

  many: Array.from({ length: 5000 }, (_, n) => ({
    _id: new ObjectId(`65e0aabb${String(n).padStart(16, '0')}`),
    n: new Int32(n),
    name: `Row ${n}`,
    amount: Decimal128.fromString((n / 100).toFixed(2)),
    at: date(1704067200000 + n * 60_000),
    ...(n % 3 === 0 ? {} : { ref: Long.fromNumber(n) }),
    tags: [`t${n % 5}`, `u${n % 7}`],
  })),

  text_ids: Array.from({ length: 500 }, (_, n) => ({ _id: `key ${n} ${n % 2 ? 'é' : '\\'}`, v: new Int32(n) })),
};

/** What this server takes of them: before 5.0 no field whose name begins with `$`. */
export async function mongodbEveryTypeOf(db: Db): Promise<typeof mongodbEveryType> {
  const { versionArray = [] } = await db.command({ buildInfo: 1 });
  if (versionArray[0] >= 5) return mongodbEveryType;
  const keys = (mongodbEveryType.keys ?? []).map(({ $dollar, ...rest }) => rest);
  return { ...mongodbEveryType, keys };
}

/** Fills the database; also makes a collection without documents, `empty`. */
export async function fillEveryType(db: Db): Promise<void> {
  await db.createCollection('empty');
  for (const [name, documents] of Object.entries(await mongodbEveryTypeOf(db))) {
    await db.collection(name).insertMany(documents.map((fields) => ({ ...fields })) as never[]);
  }
}
