/** The comparison itself: what is the same in two forms, and that nothing else is. */
import { expect, test } from 'vitest';
import { type Contents, differences } from './contents.ts';
import {
  bytes,
  document,
  float,
  json,
  type Meaning,
  moment,
  number,
  plainNumber,
  plainTime,
  same,
  text,
} from './meaning.ts';

const bool = (value: boolean): Meaning => ({ is: 'bool', value });
const uuid = (value: string): Meaning => ({ is: 'uuid', value });

test.each<[string, Meaning, Meaning]>([
  ['a bool as a number', bool(true), number('1')],
  ['a number as a text', number('1.50'), text('1.5')],
  ['a long as a number of JSON', number('9007199254740993'), json('9007199254740993')],
  ['a float in more digits', float(Math.fround(0.1), true), float(0.1)],
  ['bytes as text', bytes(Buffer.from([0, 255])), text('\\x00ff')],
  [
    'a uuid as bytes',
    uuid('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
    bytes(Buffer.from('a0eebc999c0b4ef8bb6d6bb9bd380a11', 'hex')),
  ],
  ['a date as an instant', moment('date', '2024-02-29'), moment('instant', '2024-02-29T00:00:00Z')],
  ['a year before 1', moment('local', '0044-03-15 00:00:00 BC'), text('-000043-03-15T00:00:00')],
  ['JSON whose keys moved', json('{"a": 1.0, "b": [null]}'), json('{"b": [null], "a": 1}')],
  [
    'an instant within extended JSON',
    document([['d', moment('instant', '2024-01-01T00:00:00Z')]]),
    json('{"d": {"$date": "2024-01-01T00:00:00Z"}}'),
  ],
])('%s is the same', (_, source, target) => {
  expect(same(source, target)).toBe(true);
});

test.each<[string, Meaning, Meaning]>([
  ['NULL and empty', null, text('')],
  ['empty and NULL', text(''), null],
  ['JSON null and NULL', json('null'), null],
  ['a number that was rounded', number('9007199254740993'), float(9007199254740992)],
  ['a decimal cut', number('0.123456789012345678901'), number('0.12345678901234567890')],
  ['a float that lost bits', float(0.1), float(Math.fround(0.1))],
  ['negative zero', float(-0), float(0)],
  ['a text that lost a blank', text('a '), text('a')],
  ['a text in another case', text('A'), text('a')],
  ['a microsecond', moment('instant', '2024-01-01 00:00:00.000001'), moment('instant', '2024-01-01 00:00:00')],
  ['an hour', moment('instant', '2024-01-01 01:00:00'), moment('instant', '2024-01-01 00:00:00')],
  ['bytes as a broken text', bytes(Buffer.from([0, 255])), text('\u0000\ufffd')],
  ['JSON with a value less', json('{"a": 1, "b": null}'), json('{"a": 1}')],
  ['a list in another order', json('[1, 2]'), json('[2, 1]')],
  ['2 in a bool', number('2'), bool(true)],
])('%s is a difference', (_, source, target) => {
  expect(same(source, target)).toBe(false);
});

test('numbers and times in one form', () => {
  expect(['1.50e3', '-0.0', '00.10', '1E-5', '-12e+1', 'NaN'].map(plainNumber)).toEqual([
    '1500',
    '0',
    '0.1',
    '0.00001',
    '-120',
    'NaN',
  ]);
  expect(
    ['2024-01-01T00:00:00.500Z', '12:00:00.000', '0001-12-31 BC', '294276-01-01', 'infinity'].map(plainTime),
  ).toEqual(['2024-01-01 00:00:00.5', '12:00:00', '0000-12-31', '+294276-01-01', 'infinity']);
});

test('rows that are missing, of another, doubled or changed are told, and NULL only where it may be', () => {
  const of = (...rows: (readonly [number, Meaning])[]): Contents => ({
    columns: new Map([
      ['id', 'int'],
      ['v', 'date'],
    ]),
    rows: rows.map(
      ([id, v]) =>
        new Map<string, Meaning>([
          ['id', number(String(id))],
          ['v', v],
        ]),
    ),
  });
  const how = { key: ['id'], cannotHold: (_: string, __: string, value: Meaning) => value?.is === 'date' };
  const said = (source: Contents, target: Contents) => differences(source, target, how);
  const source = of([1, text('a')], [2, null], [3, moment('date', '0000-00-00')]);
  expect(said(source, of([3, null], [1, text('a')], [2, null]))).toEqual([]);
  expect(said(source, of([1, text('a')], [2, null]))).toEqual(['3 rows became 2', 'row 3 is missing']);
  expect(said(source, of([1, text('a')], [2, null], [3, null], [3, null]))).toEqual([
    '3 rows became 4',
    'row 3 is not of the source',
  ]);
  expect(said(source, of([1, text('b')], [2, text('')], [3, text('x')]))).toEqual([
    'row 1: v was text "a" and is text "b"',
    'row 2: v was NULL "∅" and is text ""',
    'row 3: v cannot hold date "0000-00-00" and has text "x"',
  ]);
});
