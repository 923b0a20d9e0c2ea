import { expect, test } from 'vitest';
import { widens } from '../../connectors/postgres/target/drift.ts';

const wider = [
  ['smallint', 'integer'],
  ['integer', 'bigint'],
  ['bigint', 'numeric'],
  ['integer', 'numeric(12,2)'],
  ['numeric(12,2)', 'numeric(14,2)'],
  ['numeric(12,2)', 'numeric'],
  ['character varying(10)', 'character varying(20)'],
  ['character varying(10)', 'character varying'],
  ['character varying', 'text'],
  ['timestamp(3) with time zone', 'timestamp with time zone'],
] as const;
test.each(wider)('%s holds no more than %s, and not the other way round', (from, to) => {
  expect(widens(from, to)).toBe(true);
  expect(widens(to, from)).toBe(false);
});

const other = [
  ['integer', 'numeric(11,2)'],
  ['numeric(12,2)', 'numeric(14,3)'],
  ['real', 'double precision'],
  ['character(5)', 'character(9)'],
  ['integer', 'text'],
  ['timestamp without time zone', 'timestamp with time zone'],
  ['integer[]', 'bigint[]'],
] as const;
test.each(other)('%s is no narrower %s', (from, to) => {
  expect(widens(from, to)).toBe(false);
  expect(widens(to, from)).toBe(false);
});
