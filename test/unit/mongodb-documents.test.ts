import fc from 'fast-check';
import {
  Binary,
  BSON,
  BSONRegExp,
  BSONSymbol,
  Code,
  DBRef,
  Decimal128,
  type Document,
  Double,
  Int32,
  Long,
  MaxKey,
  MinKey,
  MongoServerError,
  ObjectId,
  Timestamp,
  UUID,
} from 'mongodb';
import { describe, expect, test } from 'vitest';
import { boundsFilter, keyBounds } from '../../connectors/mongodb/bounds.ts';
import { bson } from '../../connectors/mongodb/bson.ts';
import { canonical } from '../../connectors/mongodb/cells.ts';
import { farInstant, farText, instant, parseInstant } from '../../connectors/mongodb/dates.ts';
import { decimalPlain, decimalText, doublePlain, plain } from '../../connectors/mongodb/decimal.ts';
import { jsonText } from '../../connectors/mongodb/ejson.ts';
import { translate } from '../../connectors/mongodb/errors.ts';
import { Locator } from '../../connectors/mongodb/locate.ts';
import { normalise, parseSettings, resolve } from '../../connectors/mongodb/settings.ts';
import { PgTextSink } from '../../connectors/mongodb/sink.ts';
import { asGodwitError } from '../../errors.ts';

const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return asGodwitError(error).code;
  }
  return 'no error';
};
const bytesOf = (document: Document): Buffer => Buffer.from(BSON.serialize(document, { ignoreUndefined: false }));
const canonicalJson = (document: Document): string => jsonText(bytesOf(document), bson.object, 0, 'canonical');
const plainJson = (document: Document): string => jsonText(bytesOf(document), bson.object, 0, 'plain');

describe('extended JSON', () => {
  const scalar = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string(),
    fc.integer().map((n) => new Int32(n)),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((n) => Long.fromBigInt(n)),
    fc.double().map((n) => new Double(n)),
    fc.boolean(),
    fc.constant(null),
    fc.date({ noInvalidDate: true }),
    fc.uint8Array({ maxLength: 20 }).map((bytes) => new Binary(bytes, 0)),
    fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => new Binary(bytes, 4)),
    fc.uint8Array({ minLength: 12, maxLength: 12 }).map((bytes) => new ObjectId(bytes)),
    fc.constantFrom(new MinKey(), new MaxKey(), new Timestamp({ t: 4e9, i: 1 }), new BSONSymbol('s"\n')),
    fc.constantFrom(new BSONRegExp('a"b', 'im'), new Code('f()"'), new Code('f()', { x: new Int32(1) })),
    fc.constantFrom('1.50', '-1E+3', '0.00', 'NaN', '-Infinity', '1E-6176').map((one) => Decimal128.fromString(one)),
  );
  const name = fc
    .string({ unit: 'binary', maxLength: 8 })
    .filter((text) => !text.includes('\0') && text !== '__proto__' && !text.startsWith('$') && !/^\d+$/.test(text));
  const { document } = fc.letrec((tie) => ({
    document: fc.dictionary(name, tie('value'), { maxKeys: 5 }),
    value: fc.oneof({ maxDepth: 3 }, scalar, tie('document'), fc.array(tie('value'), { maxLength: 4 })),
  }));

  test('canonical is what the specification’s own library writes', () => {
    fc.assert(
      fc.property(document, (fields) => {
        const own = BSON.deserialize(bytesOf(fields as Document), { promoteValues: false, bsonRegExp: true });
        const expected = JSON.parse(BSON.EJSON.stringify(own, { relaxed: false }));
        expect(noNumberForms(JSON.parse(canonicalJson(fields as Document)))).toEqual(noNumberForms(expected));
      }),
      { numRuns: 500 },
    );
  });

  test('plain reads back as the same values', () => {
    fc.assert(
      fc.property(document, (fields) => {
        const json = plainJson(fields as Document);
        expect(json).toBe(plainJson(fields as Document));
        expect(() => JSON.parse(json)).not.toThrow();
        // No digit of a long is lost, and a double is told from an integer.
        for (const value of Object.values(fields as Document)) {
          if (value?._bsontype === 'Long') expect(json).toContain(value.toString());
        }
      }),
      { numRuns: 200 },
    );
    expect(plainJson({ a: new Double(5), b: new Double(-0), c: new Double(1e300), d: new Double(Number.NaN) })).toBe(
      '{"a":5.0,"b":{"$numberDouble":"-0.0"},"c":1e+300,"d":{"$numberDouble":"NaN"}}',
    );
    expect(
      plainJson({ at: new Date(0), far: new Date(8.64e15), id: new UUID('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11') }),
    ).toBe(
      '{"at":{"$date":"1970-01-01T00:00:00Z"},"far":{"$date":{"$numberLong":"8640000000000000"}},"id":{"$uuid":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}}',
    );
  });

  test('references, deprecated types and subtype 2', () => {
    expect(canonicalJson({ r: new DBRef('c', new ObjectId('65e0aabbccddeeff00112233')) })).toBe(
      '{"r":{"$ref":"c","$id":{"$oid":"65e0aabbccddeeff00112233"}}}',
    );
    const pointer = Buffer.concat([
      Buffer.from([0x0c]),
      Buffer.from('p\0'),
      Buffer.from([4, 0, 0, 0]),
      Buffer.from('d.c\0'),
      Buffer.from('65e0aabbccddeeff00112233', 'hex'),
      Buffer.from([0x06]),
      Buffer.from('u\0'),
    ]);
    const size = Buffer.alloc(4);
    size.writeInt32LE(pointer.length + 5);
    const bytes = Buffer.concat([size, pointer, Buffer.from([0])]);
    expect(jsonText(bytes, bson.object, 0, 'canonical')).toBe(
      '{"p":{"$dbPointer":{"$ref":"d.c","$id":{"$oid":"65e0aabbccddeeff00112233"}}},"u":{"$undefined":true}}',
    );
    expect(canonicalJson({ old: new Binary(Buffer.from('abc'), 2) })).toBe(
      '{"old":{"$binary":{"base64":"YWJj","subType":"02"}}}',
    );
  });

  test('bytes that are no UTF-8, and types nobody knows, are refused', () => {
    const broken = bytesOf({ text: 'abcd' });
    broken.set([0xff, 0xfe], broken.indexOf('abcd'));
    expect(codeOf(() => jsonText(broken, bson.object, 0, 'plain'))).toBe('VALUE_REFUSED');
    const at = 4 + 1 + 5;
    expect(codeOf(() => canonical({ path: ['text'], form: 'string' })(broken, bson.string, at))).toBe('VALUE_REFUSED');
    expect(codeOf(() => new PgTextSink(10).text(broken, at + 4, at + 8))).toBe('VALUE_REFUSED');
    const strange = bytesOf({ n: new Int32(1) });
    strange[4] = 0x55;
    expect(codeOf(() => jsonText(strange, bson.object, 0, 'plain'))).toBe('VALUE_REFUSED');
  });
});

/** The library writes `1.0E+3` for decimals and doubles in forms of its own: numbers compare as numbers. */
function noNumberForms(json: unknown): unknown {
  if (Array.isArray(json)) return json.map(noNumberForms);
  if (typeof json !== 'object' || json === null) return json;
  const entries = Object.entries(json);
  if (entries.length === 1 && entries[0]?.[0] === '$numberDouble') {
    const text = String(entries[0][1]);
    return { double: Object.is(Number(text), -0) ? '-0' : Number(text) };
  }
  return Object.fromEntries(entries.map(([key, value]) => [`.${key}`, noNumberForms(value)]));
}

describe('dates', () => {
  test('are what JavaScript says, as far as its own reach', () => {
    fc.assert(
      fc.property(fc.integer({ min: -62_135_596_800_000, max: 253_402_300_799_999 }), (ms) => {
        const iso = new Date(ms).toISOString();
        expect(instant(ms)).toBe(iso.replace(/\.000Z$/, 'Z').replace(/(\.\d*?)0+Z$/, '$1Z'));
        expect(parseInstant(iso)).toBe(instant(ms));
        const sink = new PgTextSink(64);
        sink.instant(ms);
        expect(sink.take().toString()).toBe(`${instant(ms).replace('T', ' ').slice(0, -1)}+00`);
      }),
    );
    fc.assert(
      fc.property(fc.integer({ min: -8_640_000_000_000, max: 8_640_000_000_000 }), (seconds) => {
        const iso = new Date(seconds * 1000).toISOString();
        const year = iso.startsWith('+') || iso.startsWith('-') ? iso : `+00${iso}`;
        expect(farInstant(BigInt(seconds) * 1000n)).toBe(year.replace('.000Z', 'Z'));
      }),
    );
  });

  test('beyond it, the calendar goes on', () => {
    expect(farInstant(2n ** 63n - 1n)).toBe('+292278994-08-17T07:12:55.807Z');
    expect(farInstant(-(2n ** 63n))).toBe('-292275055-05-16T16:47:04.192Z');
    expect(farText(-62135596800001n)).toBe('0001-12-31 23:59:59.999+00 BC');
  });

  test('texts are read as ISO 8601 and as mail headers, and nothing else', () => {
    expect(parseInstant('2024-02-29')).toBe('2024-02-29T00:00:00Z');
    expect(parseInstant('2024-02-29 10:20')).toBe('2024-02-29T10:20:00Z');
    expect(parseInstant('2024-02-29T10:20:30.123456789-0530')).toBe('2024-02-29T15:50:30.123456Z');
    expect(parseInstant('2024-02-29T10:20:30.100Z')).toBe('2024-02-29T10:20:30.1Z');
    expect(parseInstant('Thu, 29 Feb 2024 10:20:30 GMT')).toBe('2024-02-29T10:20:30Z');
    for (const text of ['2023-02-29', '2024-13-01', '24:00', '1709200000', '02/03/2024', '', '0000-01-01', 'now']) {
      expect(parseInstant(text), text).toBeUndefined();
    }
  });
});

describe('decimals', () => {
  test('in plain notation keep every digit', () => {
    expect(['1E+3', '-1.5E-7', '1.50', '0E-3', '-0', '123E-2', '0E+5', 'NaN', '-Infinity'].map(plain)).toEqual([
      '1000',
      '-0.00000015',
      '1.50',
      '0.000',
      '0',
      '1.23',
      '000000'.replace(/^0+(?=\d)/, ''),
      'NaN',
      '-Infinity',
    ]);
    fc.assert(
      fc.property(fc.bigInt(), fc.integer({ min: -50, max: 50 }), (digits, exponent) => {
        const text = plain(`${digits}E${exponent}`);
        expect(text).not.toMatch(/[eE]/);
        const [whole = '', fraction = ''] = text.split('.');
        const scale = 10n ** BigInt(Math.max(0, -exponent));
        const value = BigInt(whole + fraction) * 10n ** BigInt(Math.max(0, exponent) - 0) * (exponent > 0 ? 1n : 1n);
        expect(exponent >= 0 ? BigInt(text) : value).toBe(exponent >= 0 ? digits * 10n ** BigInt(exponent) : digits);
        expect(scale).toBeGreaterThan(0n);
      }),
    );
  });

  test('of doubles read back as the same double, and two numbers never have one text', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true }), (x) => {
        const text = doublePlain(x);
        expect(text).not.toMatch(/[eE]\+/);
        expect(Number(text)).toBe(x + 0);
      }),
    );
    expect(doublePlain(2 ** 60)).toBe('1152921504606846976');
  });
});

describe('locating fields', () => {
  const document = bytesOf({ _id: new Int32(1), a: { b: new Int32(2), c: 'x' }, d: null });
  const all = [['_id'], ['a', 'b'], ['a', 'c'], ['d']];
  const locator = (paths: readonly (readonly string[])[], open = false) =>
    new Locator(
      paths.map((path, slot) => ({ path, slot })),
      paths.length,
      open,
    );

  test('finds them in whatever order they come', () => {
    for (const paths of [all, all.toReversed()]) {
      const found = locator(paths);
      found.locate(document, 0);
      const { types, ats } = found.places;
      const value = (path: string) => paths.findIndex((one) => one.join('.') === path);
      expect(document.readInt32LE(ats[value('a.b')])).toBe(2);
      expect([...types].sort()).toEqual([bson.null, bson.int, bson.int, bson.string].sort());
      found.locate(bytesOf({ d: new Int32(5) }), 0);
      expect([...types].filter((type) => type !== 0)).toEqual([bson.int]);
    }
  });

  test('a field that is not known, or known as something else, is FIELDS_CHANGED; one that comes twice is refused', () => {
    expect(codeOf(() => locator(all.slice(0, 3)).locate(document, 0))).toBe('FIELDS_CHANGED');
    expect(codeOf(() => locator([['_id'], ['a', 'b'], ['d']]).locate(document, 0))).toBe('FIELDS_CHANGED');
    expect(codeOf(() => locator(all).locate(bytesOf({ a: new Int32(1) }), 0))).toBe('FIELDS_CHANGED');
    expect(codeOf(() => locator(all).locate(bytesOf({ a: null, _id: 'x' }), 0))).toBe('no error');
    expect(codeOf(() => locator([['_id']], true).locate(document, 0))).toBe('no error');
    const twice = bytesOf({ d: new Int32(1), e: new Int32(2) });
    twice[twice.indexOf('e\0')] = 'd'.charCodeAt(0);
    expect(codeOf(() => locator(all).locate(twice, 0))).toBe('VALUE_REFUSED');
  });
});

describe('ranges of keys', () => {
  const types = (after: unknown, upto: unknown) => keyBounds(after, upto, true).types;
  test('hold the classes between their bounds', () => {
    expect(types(undefined, new Int32(1))).toEqual([-1, 10, 6]);
    expect(types(new Int32(1), new ObjectId())).toEqual([2, 14, 3, 4, 5]);
    expect(types(new ObjectId(), undefined)).toEqual([8, 9, 17, 11, 12, 13, 15, 127]);
    expect(types('a', 'b')).toEqual([]);
    expect(keyBounds(new ObjectId(), undefined, false).types).toEqual([8, 9, 17, 11, 127]);
  });
  test('NaN goes with the beginning of the numbers', () => {
    const filter = (after: unknown, upto: unknown) =>
      JSON.stringify(boundsFilter({ id: 1, kind: 'keys', rows: 0, bounds: keyBounds(after, upto, false) }));
    expect(filter(undefined, new Int32(5))).toContain('{"_id":null}');
    expect(filter(new Int32(1), new Int32(5))).toContain('"$ne":null');
    expect(filter('a', 'b')).not.toContain('null');
  });
});

describe('settings', () => {
  test('a URL in any of its forms, with its password apart', () => {
    const s = normalise(
      parseSettings({ url: 'mongodb://me:p%40ss@a:1,b/shop?replicaSet=rs0&authSource=admin&w=majority' }),
    );
    expect(s).toEqual({
      host: 'a:1,b',
      db_name: 'shop',
      username: 'me',
      password: 'p@ss',
      auth_source: 'admin',
      replica_set: 'rs0',
    });
    expect(normalise(s)).toEqual(s);
    const address = resolve(s);
    expect(address.hosts).toEqual(['a:1', 'b:27017']);
    expect(JSON.stringify(address)).not.toContain('p@ss');
    const manual = resolve({ url: 'my.connection.url', db_name: 'my-db-name', username: '', password: '' });
    expect(manual).toMatchObject({ hosts: ['my.connection.url:27017'], database: 'my-db-name', tls: false });
    expect(resolve({ url: 'mongodb+srv://c.example.net/d' })).toMatchObject({
      srv: true,
      tls: true,
      hosts: ['c.example.net'],
    });
    expect(resolve({ url: 'mongodb://[::1]:99/x' }).hosts).toEqual(['[::1]:99']);
    // A URL's user is looked for in the database it names; another place wins.
    expect(resolve({ url: 'mongodb://u:p@h/d' }).authSource).toBe('d');
    expect(resolve({ url: 'mongodb://u:p@h/d', auth_source: 'x' }).authSource).toBe('x');
  });
  test('what is wrong is named, never quoted', () => {
    for (const [input, word] of [
      [{ url: 'mongodb://u:secret@h/d?nonsense=1' }, 'nonsense'],
      [{ url: 'mongodb://u:secret@h/' }, 'db_name'],
      [{ url: 'mongodb://u:secret@h/d?tlsCAFile=/x' }, 'tls_ca'],
      [{ url: 'h/d', password: 'secret' }, 'username'],
      [{ url: 'mongodb://u:secret@h,/d' }, 'host'],
    ] as const) {
      try {
        resolve(input as never);
        expect.unreachable();
      } catch (error) {
        expect(asGodwitError(error).code).toBe('SETTINGS_INVALID');
        expect(asGodwitError(error).message).toContain(word);
        expect(asGodwitError(error).message).not.toContain('secret');
      }
    }
  });
});

test('errors of the server are told by their number, and quote nothing', () => {
  const of = (code: number) =>
    translate(
      new MongoServerError({ code, codeName: 'Name', errmsg: 'dup key: { _id: "secret" }', message: 'secret' }),
    );
  expect(
    [13, 18, 26, 43, 50, 91, 112, 189, 10107, 10334, 11000, 11600, 2, 424242].map((code) => of(code).code),
  ).toEqual([
    'PRIVILEGE_MISSING',
    'LOGIN_REFUSED',
    'TABLE_MISSING',
    'SERVER_BUSY',
    'SERVER_BUSY',
    'CONNECTION_FAILED',
    'SERVER_BUSY',
    'CONNECTION_FAILED',
    'CONNECTION_FAILED',
    'ROW_TOO_LARGE',
    'CONSTRAINT_BROKEN',
    'CONNECTION_FAILED',
    'VALUE_REFUSED',
    'INTERNAL',
  ]);
  expect(of(43).retryable).toBe(true);
  for (const code of [2, 11000, 424242]) {
    expect(JSON.stringify([of(code).message, of(code).where, of(code).cause])).not.toContain('secret');
  }
});

describe('decimals from their bytes', () => {
  const same = (bytes: Uint8Array) => {
    const b = Buffer.from([0xaa, ...bytes, 0xbb]);
    const shown = new Decimal128(Buffer.from(bytes)).toString();
    expect(decimalText(b, 1)).toBe(shown);
    expect(decimalPlain(b, 1)).toBe(plain(shown));
  };

  test('sixteen bytes of any kind are shown as the driver shows them', () => {
    fc.assert(fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), same), { numRuns: 5000 });
  });

  test('numbers of every length and exponent are shown as the driver shows them', () => {
    const digits = fc.oneof(
      fc.bigInt({ min: 0n, max: 10n ** 34n - 1n }),
      fc.bigInt({ min: 0n, max: 2n ** 54n }),
      fc.nat().map(BigInt),
    );
    const exponent = fc.oneof(fc.integer({ min: -40, max: 10 }), fc.integer({ min: -6176, max: 6111 }));
    const number = fc.tuple(fc.boolean(), digits, exponent).map(([minus, n, e]) => `${minus ? '-' : ''}${n}E${e}`);
    fc.assert(
      fc.property(number, (text) => same(Decimal128.fromString(text).bytes)),
      { numRuns: 5000 },
    );
  });

  test.each([
    '0',
    '-0',
    '0.00',
    '-0.00',
    '0E+3',
    '0E-10',
    '1E+3',
    '1.50',
    '-1E-7',
    '0.000001',
    'NaN',
    'Infinity',
    '-Infinity',
    '9999999999999999999999999999999999',
    '9007199254740991',
    '9007199254740992',
    '1E-6176',
    '9.999999999999999999999999999999999E+6144',
  ])('%s', (text) => {
    same(Decimal128.fromString(text).bytes);
    expect(decimalText(Buffer.from(Decimal128.fromString(text).bytes), 0)).toBe(text);
  });
});

test('fields are found in whatever order they come, document after document', () => {
  const names = ['_id', 'a', 'b', 'bb', 'deep', 'ä'];
  const known = [...names.filter((name) => name !== 'deep').map((name) => [name]), ['deep', 'x'], ['deep', 'y']];
  const locator = new Locator(
    known.map((path, slot) => ({ path, slot })),
    known.length,
    false,
  );
  const fields = fc.shuffledSubarray([...names]);
  const inner = fc.shuffledSubarray(['x', 'y']);
  fc.assert(
    fc.property(fields, inner, fc.integer({ min: -1000, max: 1000 }), (order, deep, n) => {
      const numberAt = (path: readonly string[]) => n + known.findIndex((one) => one.join('.') === path.join('.'));
      const nested = Object.fromEntries(deep.map((name) => [name, new Int32(numberAt(['deep', name]))]));
      const document = order.map((name) => [name, name === 'deep' ? nested : new Int32(numberAt([name]))]);
      const b = bytesOf(Object.fromEntries(document));
      locator.locate(b, 0);
      for (const [slot, path] of known.entries()) {
        const [name = '', below] = path;
        const there = order.includes(name) && (below === undefined || deep.includes(below));
        expect(locator.places.types[slot]).toBe(there ? bson.int : 0);
        if (there) expect(b.readInt32LE(locator.places.ats[slot])).toBe(numberAt(path));
      }
    }),
    { numRuns: 1000 },
  );
});
