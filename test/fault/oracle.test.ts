import { expect, test } from 'vitest';
import { compareExact, contentOf } from './oracle.ts';
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
