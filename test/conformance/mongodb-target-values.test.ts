/** Bytes a MongoDB target makes: of values, of rows, of streams. No server. */
import fc from 'fast-check';
import { BSON, Decimal128, type Document } from 'mongodb';
import { describe, expect, test } from 'vitest';
import type { Work } from '../../connectors/contract.ts';
import { setDecimal } from '../../connectors/mongodb/target/decimal128.ts';
import { deleteStatement } from '../../connectors/mongodb/target/delete-keys.ts';
import { DocumentCutter, type Group } from '../../connectors/mongodb/target/documents.ts';
import { millisecondsOf } from '../../connectors/mongodb/target/instant.ts';
import { jsonInto } from '../../connectors/mongodb/target/json-in.ts';
import { Out } from '../../connectors/mongodb/target/out.ts';
import { rowEncoder } from '../../connectors/mongodb/target/rows.ts';
import { snapshotRewriter } from '../../connectors/mongodb/target/snapshot-document.ts';
import type { LogicalType, Row, Value } from '../../connectors/types.ts';
import { mongodbEveryType } from './mongodb-every-type.ts';
import { bytesOf, column, plainWork, rawWork } from './mongodb-works.ts';

const exact = { promoteValues: false, promoteBuffers: false, bsonRegExp: true } as const;

function documentOf(work: Work, row: Row, ordinal = 0): Document {
  const out = new Out();
  const bad = rowEncoder(work, 7).encode(out, row, ordinal);
  if (bad) throw new Error(`${bad.column}: ${bad.reason}`);
  return BSON.deserialize(out.take(), exact);
}

/** Canonical extended JSON of the one value. */
function held(type: LogicalType, value: Value): unknown {
  const work = plainWork('d', { columns: [column('v', type)], key: [] });
  return BSON.EJSON.serialize(documentOf(work, [value]), { relaxed: false }).v;
}

describe('A value becomes', () => {
  const cases: readonly [string, LogicalType, Value, unknown][] = [
    ['bool', { kind: 'bool' }, true, true],
    ['int', { kind: 'int16' }, -32768, { $numberInt: '-32768' }],
    ['long', { kind: 'int64' }, 9223372036854775807n, { $numberLong: '9223372036854775807' }],
    ['long', { kind: 'int64' }, -9223372036854775808n, { $numberLong: '-9223372036854775808' }],
    ['decimal', { kind: 'uint64' }, 18446744073709551615n, { $numberDecimal: '18446744073709551615' }],
    ['double', { kind: 'float64' }, -0, { $numberDouble: '-0.0' }],
    ['double', { kind: 'float64' }, Number.NaN, { $numberDouble: 'NaN' }],
    ['double', { kind: 'float32' }, 0.10000000149011612, { $numberDouble: '0.10000000149011612' }],
    ['decimal', { kind: 'decimal', precision: 12, scale: 2 }, '1.50', { $numberDecimal: '1.50' }],
    ['decimal', { kind: 'decimal', precision: 12, scale: 2, nan: true }, 'NaN', { $numberDecimal: 'NaN' }],
    [
      'decimal',
      { kind: 'decimal', precision: 34, scale: 0 },
      '-9'.padEnd(35, '9'),
      { $numberDecimal: '-9'.padEnd(35, '9') },
    ],
    ['text', { kind: 'decimal' }, '1.50', '1.50'],
    ['text', { kind: 'decimal', precision: 35, scale: 0 }, '1'.repeat(35), '1'.repeat(35)],
    ['text', { kind: 'text' }, 'é\u0000"\\ 🐦', 'é\u0000"\\ 🐦'],
    ['text', { kind: 'text' }, 'x'.repeat(100_000), 'x'.repeat(100_000)],
    ['text', { kind: 'enum', values: ['a'] }, 'a', 'a'],
    ['text', { kind: 'time' }, '23:59:59.999999', '23:59:59.999999'],
    ['text', { kind: 'interval' }, 'P1Y', 'P1Y'],
    ['text', { kind: 'timestamptz' }, '2024-02-29T12:00:00.123456Z', '2024-02-29T12:00:00.123456Z'],
    [
      'date',
      { kind: 'timestamptz', precision: 3 },
      '2024-02-29T12:00:00.123Z',
      { $date: { $numberLong: '1709208000123' } },
    ],
    ['date', { kind: 'timestamp', precision: 0 }, '1969-12-31T23:59:59', { $date: { $numberLong: '-1000' } }],
    ['date', { kind: 'date' }, '2024-02-29', { $date: { $numberLong: '1709164800000' } }],
    ['date', { kind: 'date' }, '-000043-03-15', { $date: { $numberLong: '-63517824000000' } }],
    ['date', { kind: 'date' }, '+012345-01-01', { $date: { $numberLong: '327403382400000' } }],
    [
      'uuid',
      { kind: 'uuid' },
      'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11',
      { $binary: { base64: 'oO68mZwLTvi7bWu5vTgKEQ==', subType: '04' } },
    ],
    ['binData', { kind: 'bytes' }, new Uint8Array([0, 255]), { $binary: { base64: 'AP8=', subType: '00' } }],
    ['binData', { kind: 'bytes' }, new Uint8Array([]), { $binary: { base64: '', subType: '00' } }],
    [
      'array',
      { kind: 'array', of: { kind: 'int64' } },
      [1n, null, [2n]],
      [{ $numberLong: '1' }, null, [{ $numberLong: '2' }]],
    ],
    ['array', { kind: 'array', of: { kind: 'json' } }, ['{"a":1}'], [{ a: { $numberInt: '1' } }]],
    ['null', { kind: 'json' }, null, null],
  ];
  test.each(cases)('%s: %o %s', (_, type, value, expected) => {
    expect(held(type, value)).toEqual(expected);
  });

  const misfits: readonly [LogicalType, Value][] = [
    [{ kind: 'int32' }, 2147483648],
    [{ kind: 'date', wide: true }, 'infinity'],
    [{ kind: 'date', wide: true }, '-infinity'],
    [{ kind: 'date', wide: true }, '0000-00-00'],
    [{ kind: 'date', wide: true }, '2024-00-00'],
    [{ kind: 'date', wide: true }, '2023-02-29'],
    [{ kind: 'date', wide: true }, '2024-04-31'],
    [{ kind: 'timestamp', precision: 3 }, '2024-01-01T00:00:00.0001'],
    [{ kind: 'uuid' }, 'no uuid'],
    [{ kind: 'decimal', precision: 3, scale: 0 }, '12345678901234567890123456789012345'],
  ];
  test.each(misfits)('nothing: %o %s', (type, value) => {
    expect(() => held(type, value)).toThrow(/v: The value cannot be held as/);
    const columns = [column('v', type, { misfit: 'null' })];
    expect(documentOf(plainWork('d', { columns, key: [] }), [value]).v).toBeNull();
  });

  test('Decimal128 of any number, as the driver makes it', () => {
    const digits = fc.stringMatching(/^-?(0|[1-9]\d{0,33})$/);
    const fraction = fc.stringMatching(/^\d{0,33}$/);
    fc.assert(
      fc.property(digits, fraction, (whole, part) => {
        const text = part === '' ? whole : `${whole}.${part}`;
        const b = Buffer.alloc(16);
        const fits = setDecimal(b, 0, text);
        let expected: Decimal128 | undefined;
        try {
          expected = Decimal128.fromString(text);
        } catch {
          expected = undefined;
        }
        expect(fits).toBe(expected !== undefined);
        if (expected) expect(new Decimal128(b).toString()).toBe(expected.toString());
      }),
      { numRuns: 3000 },
    );
  });

  test('the instant JavaScript knows for it', () => {
    fc.assert(
      fc.property(fc.date({ min: new Date(-8.64e15), max: new Date(8.64e15), noInvalidDate: true }), (date) => {
        expect(millisecondsOf(date.toISOString())).toBe(date.getTime());
      }),
      { numRuns: 5000 },
    );
  });
});

describe('JSON in a document', () => {
  const of = (text: string): unknown => {
    const out = new Out();
    const start = out.open();
    const type = out.at;
    out.byte(0);
    out.name('v');
    const found = jsonInto(out, text);
    if (found === undefined) {
      expect(out.at).toBe(type + 3);
      return 'no exact form';
    }
    out.b[type] = found;
    out.close(start);
    return (BSON.EJSON.serialize(BSON.deserialize(out.take(), exact), { relaxed: false }) as Document).v;
  };

  test('says the same as its text, whatever it is', () => {
    const key = fc.string().filter((name) => !name.includes('\0') && name !== '__proto__' && !name.startsWith('$'));
    const tree = fc.letrec((tie) => ({
      value: fc.oneof(
        { depthSize: 'small' },
        fc.string({ unit: 'grapheme' }),
        fc.double({ noNaN: true, noDefaultInfinity: true }),
        fc.maxSafeInteger(),
        fc.boolean(),
        fc.constant(null),
        fc.array(tie('value'), { maxLength: 5 }),
        fc.dictionary(key, tie('value'), { maxKeys: 20 }),
      ),
    })).value;
    fc.assert(
      fc.property(tree, fc.constantFrom(undefined, 1), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        const out = new Out();
        const start = out.open();
        const type = out.at;
        out.byte(0);
        out.name('v');
        const found = jsonInto(out, text);
        expect(found).toBeDefined();
        out.b[type] = found as number;
        out.close(start);
        const back = BSON.deserialize(out.take(), { useBigInt64: true }).v as unknown;
        const plain = (x: unknown): unknown =>
          typeof x === 'bigint'
            ? Number(x)
            : x instanceof Decimal128
              ? Number(x.toString())
              : Array.isArray(x)
                ? x.map(plain)
                : typeof x === 'object' && x !== null
                  ? Object.fromEntries(Object.entries(x).map(([name, one]) => [name, plain(one)]))
                  : x;
        expect(plain(back)).toEqual(JSON.parse(text));
      }),
      { numRuns: 1500 },
    );
  });

  const numbers: readonly [string, unknown][] = [
    ['1', { $numberInt: '1' }],
    ['-2147483649', { $numberLong: '-2147483649' }],
    ['9223372036854775808', { $numberDecimal: '9223372036854775808' }],
    ['0.1', { $numberDouble: '0.1' }],
    ['5.0', { $numberDouble: '5.0' }],
    ['1.10', { $numberDecimal: '1.10' }],
    ['0.1000000000000000055511151231257827', { $numberDecimal: '0.1000000000000000055511151231257827' }],
    ['1e3', { $numberDouble: '1000.0' }],
    ['1.5E-3', { $numberDouble: '0.0015' }],
    ['1e400', { $numberDecimal: '1E+400' }],
    ['-0', { $numberDouble: '-0.0' }],
    ['1e7000', 'no exact form'],
    ['1234567890123456789012345678901234567', 'no exact form'],
    ['{"a":1,"a":2}', 'no exact form'],
    ['{"a":{"b":[{"c":1,"c":1}]}}', 'no exact form'],
    ['{"a\\u0000b":1}', 'no exact form'],
    ['"\\ud800"', 'no exact form'],
    [`${'['.repeat(200)}${']'.repeat(200)}`, 'no exact form'],
    ['nonsense', 'no exact form'],
    ['1 2', 'no exact form'],
    [
      '{"b":1,"a":2,"10":3,"":4}',
      { b: { $numberInt: '1' }, a: { $numberInt: '2' }, 10: { $numberInt: '3' }, '': { $numberInt: '4' } },
    ],
  ];
  test.each(numbers)('%s', (text, expected) => {
    expect(of(text)).toEqual(expected);
  });

  test('without an exact form stays its text', () => {
    expect(held({ kind: 'json' }, '{"a":1,"a":2}')).toBe('{"a":1,"a":2}');
  });
});

describe('The key of a row', () => {
  const id = column('id', { kind: 'int64' });
  const part = column('part', { kind: 'text' });
  const keyOf = (work: Work, row: Row, ordinal = 0) =>
    BSON.EJSON.serialize(documentOf(work, row, ordinal), { relaxed: false });

  test('of one column is its value, and the column stays', () => {
    const work = plainWork('d', { columns: [id, part], key: ['id'] });
    expect(Object.entries(keyOf(work, [7n, 'x']))).toEqual([
      ['_id', { $numberLong: '7' }],
      ['id', { $numberLong: '7' }],
      ['part', 'x'],
    ]);
  });

  test('of several is a document in their order', () => {
    const work = plainWork('d', { columns: [id, part], key: ['part', 'id'] });
    expect(Object.entries(keyOf(work, [7n, 'x'])._id as object)).toEqual([
      ['part', 'x'],
      ['id', { $numberLong: '7' }],
    ]);
  });

  test('called _id is not there twice', () => {
    const work = plainWork('d', { columns: [{ ...id, name: '_id' }, part], key: ['_id'] });
    expect(keyOf(work, [7n, 'x'])).toEqual({ _id: { $numberLong: '7' }, part: 'x' });
  });

  test('that is an array or JSON is a document of one field, since `_id` cannot be an array', () => {
    const tags = column('tags', { kind: 'array', of: { kind: 'text' } });
    const work = plainWork('d', { columns: [tags], key: ['tags'] });
    expect(keyOf(work, [['a']])._id).toEqual({ tags: ['a'] });
  });

  test('of a table without one is the same in every attempt, and another for every row and chunk', () => {
    const work = plainWork('d', { columns: [id, part], key: [] });
    const [one, again, two] = [keyOf(work, [1n, 'x'], 0), keyOf(work, [1n, 'x'], 0), keyOf(work, [1n, 'x'], 1)];
    expect(one._id).toEqual(again._id);
    expect(one._id).not.toEqual(two._id);
  });

  test('in a table of snapshots has the date in front', () => {
    const snapshotDate = '2024-01-02T03:04:05.678Z';
    const date = column('migration_snapshot_date', { kind: 'timestamptz', precision: 3 }, { constant: snapshotDate });
    const dated = { mode: 'dumping', snapshotDate, columns: [id, part, date] } as const;
    const at = { $date: { $numberLong: '1704164645678' } };
    const keyed = keyOf(plainWork('d', { ...dated, key: ['migration_snapshot_date', 'id'] }), [7n, 'x', snapshotDate]);
    expect(keyed).toEqual({
      _id: { migration_snapshot_date: at, id: { $numberLong: '7' } },
      id: { $numberLong: '7' },
      part: 'x',
      migration_snapshot_date: at,
    });
    const keyless = keyOf(plainWork('d', { ...dated, key: [] }), [7n, 'x', snapshotDate]);
    expect(keyless._id).toEqual({ migration_snapshot_date: at, row: { $oid: expect.any(String) } });
  });
});

describe('A stream of documents', () => {
  const all = Object.values(mongodbEveryType)
    .flat()
    .slice(0, 500)
    .map((document) => Buffer.from(BSON.serialize(document)));
  const cutter = (over: Partial<ConstructorParameters<typeof DocumentCutter>[0]> = {}) =>
    new DocumentCutter({ withIds: true, madeId: (out) => out.bytes(Buffer.alloc(12)), ...over });
  const run = (taker: DocumentCutter, documents: readonly Uint8Array[], cuts: number): Group[] => {
    const groups: Group[] = [];
    for (const batch of bytesOf(documents, cuts)) if (batch.kind === 'bytes') groups.push(...taker.take(batch));
    return [...groups, ...taker.end()];
  };

  test('cut anywhere gives the same bytes, and every key', () => {
    for (const cuts of [1, 2, 3, 7, 50, 1000, 20_000]) {
      const groups = run(cutter(), all, cuts);
      expect(Buffer.concat(groups.flatMap(({ parts }) => [...parts])).equals(Buffer.concat(all))).toBe(true);
      const ids = Buffer.concat(groups.map((group) => group.ids as Buffer));
      const { statement, next } = deleteStatement(ids, 0, 10_000);
      expect(next).toBe(ids.length);
      const asked = BSON.deserialize(statement, exact);
      expect(asked.q._id.$in).toEqual(all.map((bytes) => BSON.deserialize(bytes, exact)._id));
    }
  });

  test('that is large goes in several groups', () => {
    const large = Array.from({ length: 5 }, (_, _id) => Buffer.from(BSON.serialize({ _id, v: 'x'.repeat(5_000_000) })));
    const groups = run(cutter(), large, 37);
    expect(groups.filter(({ count }) => count > 0).map(({ count }) => count)).toEqual([1, 1, 1, 1, 1]);
    expect(Buffer.concat(groups.flatMap(({ parts }) => [...parts])).equals(Buffer.concat(large))).toBe(true);
  });

  test('that ends within a document is refused', () => {
    const taker = cutter();
    taker.take({ kind: 'bytes', bytes: [Buffer.concat(all).subarray(0, -3)] });
    expect(() => taker.end()).toThrow('cut or damaged');
  });

  test('gives a key to what has none, and knows one that is not in front', () => {
    const odd = [BSON.serialize({ a: 1 }), BSON.serialize({ a: 1, _id: 'x' })];
    const groups = run(cutter(), odd, 1);
    const back = groups.flatMap(({ parts }) => [...parts]);
    expect(BSON.deserialize(back[0] as Uint8Array)).toMatchObject({ a: 1, _id: expect.anything() });
    const { statement } = deleteStatement(Buffer.concat(groups.map((group) => group.ids as Buffer)), 0, 10);
    expect(BSON.deserialize(statement).q._id.$in[1]).toBe('x');
  });

  test('of a snapshot keeps every field, and has the date in key and field', () => {
    const snapshotDate = '2024-01-02T03:04:05.678Z';
    const date = column('migration_snapshot_date', { kind: 'timestamptz', precision: 3 }, { constant: snapshotDate });
    const plain = rawWork('d');
    const work: Work = { ...plain, mode: 'dumping', snapshotDate, columns: [...plain.columns, date] };
    const rewrite = snapshotRewriter(work, () => {});
    const groups = run(cutter({ ...(rewrite ? { rewrite } : {}) }), all, 13);
    const back = Buffer.concat(groups.flatMap(({ parts }) => [...parts]));
    let at = 0;
    for (const bytes of all) {
      const size = back.readInt32LE(at);
      const { _id, migration_snapshot_date: shown, ...rest } = BSON.deserialize(back.subarray(at, at + size), exact);
      const { _id: id, ...fields } = BSON.deserialize(bytes, exact);
      expect(_id).toEqual({ migration_snapshot_date: new Date(snapshotDate), _id: id });
      expect(shown).toEqual(new Date(snapshotDate));
      expect(rest).toEqual(fields);
      at += size;
    }
    const own = BSON.serialize({ _id: 1, migration_snapshot_date: 5 });
    expect(() => run(cutter({ ...(rewrite ? { rewrite } : {}) }), [own], 1)).toThrow('of its own');
  });
});
