import { inspect } from 'node:util';
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import { translate } from '../../connectors/postgres/errors.ts';
import { normalise, parseSettings, resolve } from '../../connectors/postgres/settings.ts';

describe('settings of PostgreSQL', () => {
  test.each([
    ['db.example', { host: 'db.example' }],
    ['db.example:6543', { host: 'db.example', port: 6543 }],
    ['db.example:80/shop', { host: 'db.example', port: 80, db_name: 'shop' }],
    [
      'postgresql://u%40x:p%2Fw@db/my%20db?sslmode=require',
      { host: 'db', username: 'u@x', password: 'p/w', db_name: 'my db', sslmode: 'require' },
    ],
    ['postgres://u@[::1]:5433/d', { host: '::1', port: 5433, username: 'u', db_name: 'd' }],
    ['postgresql://u@/d?host=/var/run/postgresql', { host: '/var/run/postgresql', username: 'u', db_name: 'd' }],
  ])('%s', (url, expected) => {
    expect(normalise({ url })).toEqual(expected);
    expect(normalise(normalise({ url }))).toEqual(expected);
  });

  test('what is given by itself wins over the URL, in either spelling', () => {
    const settings = { url: 'postgresql://a:secret@h/one', database: 'two', user: 'b', password: 'env:X' };
    expect(normalise(settings)).toEqual({ host: 'h', db_name: 'two', username: 'b', password: 'env:X' });
  });

  test('defaults are filled in, and the password is not to be seen', () => {
    const address = resolve({ url: 'h', user: 'u', password: 'pass-0815' });
    expect(address).toMatchObject({ host: 'h', port: 5432, database: 'u', sslmode: 'prefer', connectSeconds: 10 });
    expect(address.password?.()).toBe('pass-0815');
    expect(inspect(address, { depth: 9 }) + JSON.stringify(address)).not.toContain('pass-0815');
  });

  test.each([
    [{ url: 'postgresql://u:pw-0815@h:port/d' }, /url/],
    [{ url: 'h/d?sslrootcert=/etc/ca.pem' }, /ssl_ca/],
    [{ url: 'h/d?nonsense=1' }, /nonsense/],
    [{ host: 'h', port: 99999 }, /port/],
    [{ host: 'h', passwort: 'pw-0815' }, /passwort/],
  ])('%o is refused by its key, never by its value', (settings, message) => {
    const attempt = () => normalise(parseSettings(settings));
    expect(attempt).toThrow(message);
    expect(attempt).toThrow(
      expect.objectContaining({ code: 'SETTINGS_INVALID', message: expect.not.stringContaining('pw-0815') }),
    );
  });
});

test('a server error keeps names and code, and loses every value', () => {
  const error = new pg.DatabaseError('duplicate key value violates unique constraint "k": secret-0815', 1, 'error');
  Object.assign(error, {
    code: '23505',
    detail: 'Key (a)=(secret-0815)',
    where: 'COPY t, line 1: "secret-0815"',
    schema: 's',
    table: 't',
    constraint: 'k',
  });
  const translated = translate(error, { job: 'j' });
  expect(translated).toMatchObject({
    code: 'CONSTRAINT_BROKEN',
    where: { job: 'j', table: 's.t', constraint: 'k', native: '23505' },
  });
  expect(inspect(translated, { depth: 9, showHidden: true })).not.toContain('secret-0815');
});

test.each([
  ['57P01', 'CONNECTION_FAILED', true],
  ['28P01', 'LOGIN_REFUSED', false],
  ['53300', 'SERVER_BUSY', true],
  ['53100', 'TARGET_FULL', true],
  ['22P02', 'VALUE_REFUSED', false],
  ['42501', 'PRIVILEGE_MISSING', false],
  ['XX000', 'INTERNAL', true],
])('SQLSTATE %s is %s', (code, expected, retryable) => {
  const translated = translate(Object.assign(new pg.DatabaseError('m', 1, 'error'), { code }));
  expect([translated.code, translated.retryable]).toEqual([expected, retryable]);
});
