import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CopyTextReader } from '../../connectors/postgres/copy-text.ts';
import { ident, literal } from '../../connectors/postgres/sql.ts';
import { logical, nativeOf } from '../../connectors/postgres/types.ts';
import { parseArray, parserOf } from '../../connectors/postgres/values.ts';

const escaped = (value: string | null): string =>
  value === null
    ? '\\N'
    : value.replace(
        /[\\\b\f\n\r\t\v]/g,
        (char) => `\\${({ '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't', '\v': 'v' })[char] ?? char}`,
      );

const cell = fc.option(
  fc.oneof(fc.string({ unit: 'grapheme' }), fc.constantFrom('', '\\N', '\\', '\t', '\n', '\\.', 'a\\tb')),
  { nil: null },
);

describe("COPY's text", () => {
  test('is read the same wherever the bytes are cut', () => {
    const property = fc.property(
      fc.array(fc.tuple(cell, cell), { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 9 }),
      (rows, cuts) => {
        const bytes = Buffer.from(rows.map((row) => `${row.map(escaped).join('\t')}\n`).join(''));
        const reader = new CopyTextReader([parserOf({ kind: 'text' }), parserOf({ kind: 'text' })]);
        const read: unknown[] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = cuts[i % cuts.length] as number;
          read.push(...reader.push(bytes.subarray(at, at + size)));
          at += size;
        }
        expect(read).toEqual(rows);
      },
    );
    fc.assert(property, { numRuns: 300 });
  });

  test('that is not UTF-8 is refused, never repaired', () => {
    const reader = new CopyTextReader([parserOf({ kind: 'text' })]);
    expect(() => reader.push(Buffer.from([0x61, 0xff, 0x0a]))).toThrow(/UTF-8/);
  });

  test('of a table without columns is rows all the same', () => {
    expect(new CopyTextReader([]).push(Buffer.from('\n\n'))).toEqual([[], []]);
  });
});

describe('arrays', () => {
  const written = (value: unknown): string =>
    value === null
      ? 'NULL'
      : Array.isArray(value)
        ? `{${value.map(written).join(',')}}`
        : `"${String(value).replace(/["\\]/g, (char) => `\\${char}`)}"`;

  test('come back as they were written, at any depth', () => {
    const leaf = fc.option(fc.string({ unit: 'grapheme' }), { nil: null });
    const tree = fc.oneof(fc.array(leaf), fc.array(fc.array(leaf, { minLength: 1 }), { minLength: 1 }));
    const property = fc.property(tree, (value) => {
      expect(parseArray(written(value), (text) => text, ',')).toEqual(value);
    });
    fc.assert(property);
  });

  test('have bounds, bare words and other delimiters', () => {
    // Bounds of their own are no part of a list: such an array stays as it is written.
    const ints = parserOf({ kind: 'array', of: { kind: 'int32' } });
    expect([ints('{1,NULL}'), ints('[0:1]={1,NULL}')]).toEqual([[1, null], '[0:1]={1,NULL}']);
    expect(parseArray('{}', Number, ',')).toEqual([]);
    expect(parseArray('{"NULL",NULL,null}', (text) => text, ',')).toEqual(['NULL', null, 'null']);
    expect(parseArray('{(1,1),(0,0);(2,2),(1,1)}', (text) => text, ';')).toEqual(['(1,1),(0,0)', '(2,2),(1,1)']);
    expect(() => parseArray('{1,2', Number, ',')).toThrow();
  });
});

test.each([
  ['date', '2024-02-29', '2024-02-29'],
  ['date', '0044-03-15 BC', '-000043-03-15'],
  ['date', '0001-01-01 BC', '+000000-01-01'],
  ['date', '5874897-12-31', '+5874897-12-31'],
  ['date', '-infinity', '-infinity'],
  ['timestamp', '2024-02-29 23:59:59.000001', '2024-02-29T23:59:59.000001'],
  ['timestamp', '10000-01-01 00:00:00', '+010000-01-01T00:00:00'],
  ['timestamptz', '2024-02-29 23:59:59+00', '2024-02-29T23:59:59Z'],
  ['timestamptz', '4713-01-01 00:00:00+00 BC', '-004712-01-01T00:00:00Z'],
  ['timestamptz', 'infinity', 'infinity'],
] as const)('%s %s is %s', (kind, text, canonical) => {
  expect(parserOf({ kind })(text)).toBe(canonical);
});

test('numerics keep what their modifier says', () => {
  const numeric = (precision: number, scale: number) =>
    logical({ schema: 'pg_catalog', name: 'numeric', kind: 'b', typmod: ((precision << 16) | (scale & 0x7ff)) + 4 });
  expect(numeric(12, 2)).toEqual({ kind: 'decimal', precision: 12, scale: 2, nan: true });
  expect(numeric(3, -2)).toEqual({ kind: 'decimal', precision: 5, scale: 0, nan: true });
  expect(numeric(2, 5)).toEqual({ kind: 'decimal', precision: 5, scale: 5, nan: true });
  expect(nativeOf({ kind: 'array', of: { kind: 'array', of: { kind: 'int32' } } })).toBe('integer[]');
  expect(nativeOf({ kind: 'timestamptz', precision: 3 })).toBe('timestamp(3) with time zone');
});

test('names and texts are quoted so that nothing ends early', () => {
  expect(ident('a"b')).toBe('"a""b"');
  expect(literal("it's")).toBe("'it''s'");
  expect(literal("a\\'b")).toBe(" E'a\\\\''b'");
});
