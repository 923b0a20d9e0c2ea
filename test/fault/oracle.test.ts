import { expect, test } from 'vitest';
import { compareExact, compareStates, compareVersions, contentOf } from './oracle.ts';
import { randomOf } from './random.ts';

const row = (key: string, hash = `hash of ${key}`) => ({ key, hash });

test('the comparison counts rows that are lost, doubled and changed', () => {
  const wanted = contentOf([row('1'), row('2'), row('3')], true);
  expect(compareExact(wanted, contentOf([row('1'), row('2'), row('3')], true))).toEqual({
    lost: 0,
    doubled: 0,
    changed: 0,
  });
  expect(compareExact(wanted, contentOf([row('1'), row('3')], true))).toEqual({ lost: 1, doubled: 0, changed: 0 });
  expect(compareExact(wanted, contentOf([row('1'), row('2'), row('2'), row('3')], true)).doubled).toBe(1);
  expect(compareExact(wanted, contentOf([row('1'), row('2', 'other'), row('3')], true)).changed).toBe(1);
  expect(compareExact(wanted, contentOf([row('1'), row('2'), row('3'), row('4')], true)).doubled).toBe(1);
});

test('rows without a key are compared as a bag', () => {
  const wanted = contentOf([row('', 'a'), row('', 'a'), row('', 'b')], false);
  expect(compareExact(wanted, contentOf([row('', 'b'), row('', 'a'), row('', 'a')], false))).toEqual({
    lost: 0,
    doubled: 0,
    changed: 0,
  });
  expect(compareExact(wanted, contentOf([row('', 'a'), row('', 'b')], false)).lost).toBe(1);
  expect(compareExact(wanted, contentOf([row('', 'a'), row('', 'a'), row('', 'b'), row('', 'b')], false)).doubled).toBe(
    1,
  );
});

test('a table read chunk by chunk has committed versions only, each key once, and all that nobody touched', () => {
  const history = {
    first: [row('1'), row('2'), row('3')],
    changes: [
      { key: '2', hash: 'later' },
      { key: '3', hash: null },
      { key: '4', hash: 'new' },
    ],
  };
  const difference = (...rows: { key: string; hash: string }[]) => compareVersions(history, contentOf(rows, true));
  expect(difference(row('1'), row('2', 'later'), row('3'), row('4', 'new'))).toEqual({
    lost: 0,
    doubled: 0,
    changed: 0,
  });
  expect(difference(row('1'))).toEqual({ lost: 0, doubled: 0, changed: 0 });
  expect(difference(row('2'))).toEqual({ lost: 1, doubled: 0, changed: 0 });
  expect(difference(row('1'), row('1'))).toEqual({ lost: 0, doubled: 1, changed: 0 });
  expect(difference(row('1', 'never'), row('5'))).toEqual({ lost: 0, doubled: 0, changed: 2 });
});

test('a table without a key is what it was between two transactions', () => {
  const change = (transaction: number, gone: string | null, hash: string | null) => ({
    key: '',
    hash,
    gone,
    transaction,
  });
  const history = {
    first: [row('', 'a'), row('', 'a'), row('', 'b')],
    changes: [change(1, 'a', 'c'), change(1, 'b', null), change(2, null, 'd')],
  };
  const difference = (...hashes: string[]) =>
    compareStates(
      history,
      contentOf(
        hashes.map((hash) => row('', hash)),
        false,
      ),
    );
  const none = { lost: 0, doubled: 0, changed: 0 };
  expect(difference('a', 'a', 'b')).toEqual(none);
  expect(difference('c', 'a')).toEqual(none);
  expect(difference('a', 'd', 'c')).toEqual(none);
  expect(difference('a', 'b', 'c')).toEqual({ lost: 0, doubled: 1, changed: 0 }); // in the midst of a transaction
  expect(difference('a')).toEqual({ lost: 1, doubled: 0, changed: 0 });
  expect(difference('a', 'c', 'c', 'd')).toEqual({ lost: 0, doubled: 1, changed: 0 });
});

test('the same seed draws the same numbers', () => {
  const draw = (seed: number) =>
    Array.from(
      { length: 20 },
      (
        (random) => () =>
          random.between(0, 1_000_000)
      )(randomOf(seed)),
    );
  expect(draw(7)).toEqual(draw(7));
  expect(draw(7)).not.toEqual(draw(8));
});
