import { afterAll, expect, test } from 'vitest';
import { environment, godwit, newHome } from '../cli/godwit.ts';

const home = newHome();
afterAll(() => home.remove());
const next = (...args: string[]) => godwit(['next', ...args], environment(home.path));

test('`godwit next` prints the next times, without a running Godwit', async () => {
  const { code, out } = await next(
    '* * last fri * * 22 0 0',
    '-z',
    'Asia/Kolkata',
    '-a',
    '2027-01-01',
    '-n',
    '2',
    '-o',
    'json',
  );
  expect([code, JSON.parse(out)]).toEqual([0, { next: ['2027-01-29T22:00:00+05:30', '2027-02-26T22:00:00+05:30'] }]);
});

test('`godwit next` says what surprises beside the times', async () => {
  const { out, err } = await next(
    '30 2 * * *',
    '--timezone',
    'Europe/Berlin',
    '--after',
    '2027-03-27T12:00',
    '--count',
    '2',
  );
  expect(out).toBe('2027-03-29T02:30:00+02:00\n2027-03-30T02:30:00+02:00\n');
  expect(err).toMatch(/put forward on 2027-03-28: 02:30:00 does not come/);
});

test('`godwit next` refuses what is none', async () => {
  expect(await next('* * * *')).toMatchObject({
    code: 2,
    out: '',
    err: expect.stringMatching(/SCHEDULE_INVALID.*has 4 fields/),
  });
  expect((await next('15m', '--timezone', 'Asia/Nowhere')).code).toBe(2);
  expect((await next('15m', '--count', '0')).code).toBe(2);
  expect((await next('15m', '--after', 'soon')).code).toBe(2);
});
