import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalRows } from '../../connectors/mysql/canonical-rows.ts';
import { serverError, translate } from '../../connectors/mysql/errors.ts';
import type { Selected } from '../../connectors/mysql/select.ts';
import { normalise, parseSettings, resolve } from '../../connectors/mysql/settings.ts';
import { float32Text, type Spelling, textRows } from '../../connectors/mysql/text-rows.ts';

/** A row as the protocol sends it: each value with its length before it. */
function packet(values: readonly (Buffer | null)[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      if (value === null) return Buffer.from([0xfb]);
      const { length } = value;
      if (length < 0xfb) return Buffer.concat([Buffer.from([length]), value]);
      if (length < 0x10000) return Buffer.concat([Buffer.from([0xfc, length & 255, length >> 8]), value]);
      return Buffer.concat([Buffer.from([0xfd, length & 255, (length >> 8) & 255, length >> 16]), value]);
    }),
  );
}

type Cell = { readonly spelling: Spelling; readonly sent: Buffer | null };

function written(format: 'pg-text' | 'csv', rows: readonly (readonly Cell[])[], slabBytes: number): string {
  const text = textRows(format, rows[0]?.map(({ spelling }) => spelling) ?? [], slabBytes);
  for (const row of rows) {
    // Somewhere in a larger buffer, as a packet lies.
    const bytes = Buffer.concat([Buffer.from('head'), packet(row.map(({ sent }) => sent)), Buffer.from('tail')]);
    text.row(bytes, 4, bytes.length - 4);
    expect(bytes.subarray(-4).toString()).toBe('tail');
  }
  text.end();
  expect(text.rows()).toBe(rows.length);
  return Buffer.concat(text.filled.map(({ slab, length }) => slab.subarray(0, length))).toString();
}

const hostile = fc.oneof(
  fc.string({ unit: fc.constantFrom('\t', '\n', '\r', '\\', ',', '"', '.', 'N', 'a', 'é', '🐦', '\0', '\b', ' ') }),
  fc.string({ unit: 'binary', maxLength: 400 }),
  fc.constantFrom('', '\\N', '\\.', 'x'.repeat(250), 'x'.repeat(251), 'tab\t'.repeat(20_000)),
);
const cell = (spelling: Spelling): fc.Arbitrary<Cell> => {
  const value =
    spelling === 'bytes'
      ? fc.uint8Array({ maxLength: 3000 }).map((bytes) => Buffer.from(bytes))
      : spelling === 'text'
        ? hostile.map((text) => Buffer.from(text))
        : spelling === 'plain' || spelling === 'zoned'
          ? fc.integer().map((number) => Buffer.from(String(number)))
          : fc
              .constantFrom('12:00:00', '12:00:00.500', '12:00:00.000000', '-1:00:10.10')
              .map((text) => Buffer.from(text));
  return fc.option(value, { nil: null }).map((sent) => ({ spelling, sent }));
};
const table = fc
  .array(fc.constantFrom<Spelling>('plain', 'text', 'bytes', 'zoned', 'fraction', 'zonedFraction'), {
    minLength: 1,
    maxLength: 8,
  })
  .chain((spellings) => fc.array(fc.tuple(...spellings.map(cell)), { minLength: 1, maxLength: 12 }));

const escaped = (text: string) =>
  text.replace(/[\t\n\r\\]/g, (c) => ({ '\t': '\\t', '\n': '\\n', '\r': '\\r' })[c] ?? '\\\\');
const shortened = (text: string) => (text.includes('.') ? text.replace(/\.?0+$/, '') : text);

function plainly({ spelling, sent }: { spelling: Spelling; sent: Buffer }): string {
  const text = sent.toString();
  switch (spelling) {
    case 'zoned':
      return `${text}+00`;
    case 'fraction':
      return shortened(text);
    case 'zonedFraction':
      return `${shortened(text)}+00`;
    default:
      return text;
  }
}

describe('rows walked in their packets', () => {
  test('are the same as rows escaped one value at a time, whatever the size of the slabs', () => {
    fc.assert(
      fc.property(table, fc.constantFrom(1, 300, 5000, 1 << 20), (rows, slabBytes) => {
        const pg = rows.map((row) =>
          row
            .map(({ spelling, sent }) =>
              sent === null
                ? '\\N'
                : spelling === 'bytes'
                  ? `\\\\x${sent.toString('hex')}`
                  : spelling === 'text'
                    ? escaped(sent.toString())
                    : plainly({ spelling, sent }),
            )
            .join('\t'),
        );
        expect(written('pg-text', rows, slabBytes)).toBe(pg.map((line) => `${line}\n`).join(''));
        const csv = rows.map((row) =>
          row
            .map(({ spelling, sent }) => {
              if (sent === null) return '';
              const text = spelling === 'bytes' ? sent.toString('hex') : plainly({ spelling, sent });
              return text === '' || text === '\\.' || /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
            })
            .join(','),
        );
        expect(written('csv', rows, slabBytes)).toBe(csv.map((line) => `${line}\n`).join(''));
      }),
      { numRuns: 300 },
    );
  });

  test('a float32 has the shortest text that reads back as it', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
        const text = float32Text(Object.is(value, -0) ? '-0' : String(value));
        expect(Math.fround(Number(text))).toBe(value);
        expect(text.replace(/[^\d]|e.*$/g, '').length).toBeLessThanOrEqual(
          String(value).replace(/[^\d]|e.*$/g, '').length,
        );
      }),
      { numRuns: 2000 },
    );
    expect(float32Text('0.10000000149011612')).toBe('0.1');
    expect(float32Text('3.4028234663852886e38')).toBe('3.4028235e+38');
  });

  test('bytes that are no UTF-8 are an error that names the column, a replacement character of the text is not', () => {
    const columns: Selected[] = [{ sql: 'v', spelling: 'text', type: { kind: 'text' } }];
    const read = (bytes: Buffer) => {
      const rows = canonicalRows(columns, ['note']);
      const row = packet([bytes]);
      rows.row(row, 0, row.length);
      return rows.take()[0]?.[0];
    };
    expect(read(Buffer.from('a\ufffdb'))).toBe('a\ufffdb');
    expect(() => read(Buffer.from([0x61, 0xff]))).toThrow(/column note/);
  });

  test('a row of another length than it says is an error', () => {
    const text = textRows('pg-text', ['plain', 'plain'], 1000);
    const row = packet([Buffer.from('1'), Buffer.from('2'), Buffer.from('3')]);
    expect(() => text.row(row, 0, row.length)).toThrow(/another length/);
  });
});

describe('errors of the server', () => {
  test('no value of a message passes on, names do', () => {
    const said = (number: number, message: string, state = 'HY000') => serverError({ number, message, state }).message;
    expect(said(1062, "Duplicate entry 'secret@x' for key 'users.by_mail'")).not.toContain('secret');
    expect(said(1062, "Duplicate entry 'secret@x' for key 'users.by_mail'")).toContain('users.by_mail');
    expect(said(1366, "Incorrect integer value: 'secret' for column `shop`.`t`.`age` at row 3")).toContain(
      'column age',
    );
    expect(said(1366, "Incorrect integer value: 'secret' for column `shop`.`t`.`age` at row 3")).not.toContain(
      'secret',
    );
    expect(said(1064, "syntax error near 'secret'")).not.toContain('secret');
    expect(said(3999, "Unheard-of value 'secret'", '22000')).not.toContain('secret');
  });

  test('numbers have their codes', () => {
    const code = (number: number, message = '', state = 'HY000') => serverError({ number, message, state }).code;
    expect([1045, 1049, 1146, 1142, 1213, 1205, 3024, 1040].map((number) => code(number))).toEqual([
      'LOGIN_REFUSED',
      'DATABASE_MISSING',
      'TABLE_MISSING',
      'PRIVILEGE_MISSING',
      'SERVER_BUSY',
      'SERVER_BUSY',
      'SERVER_BUSY',
      'SERVER_BUSY',
    ]);
    expect(code(1114)).toBe('TARGET_FULL');
    expect(code(1030, 'Got error 28 "No space left on device" from storage engine InnoDB')).toBe('TARGET_FULL');
    expect(code(9999, '', '23000')).toBe('CONSTRAINT_BROKEN');
    expect(translate(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })).code).toBe(
      'CONNECTION_FAILED',
    );
    expect(translate(Object.assign(new Error('x'), { code: 'ENOTFOUND', hostname: 'db' })).message).toContain('db');
  });
});

describe('settings', () => {
  test('one stored form from every spelling, the password under its own key', () => {
    const stored = { host: 'db', port: 3307, db_name: 'shop', username: 'me', password: 'p/w' };
    expect(normalise(parseSettings({ url: 'mysql://me:p%2Fw@db:3307/shop' }))).toEqual(stored);
    expect(normalise(parseSettings({ url: 'mariadb://db:3307/shop', user: 'me', password: 'p/w' }))).toEqual(stored);
    expect(normalise(parseSettings({ url: 'db:3307/shop', username: 'me', password: 'p/w' }))).toEqual(stored);
    expect(normalise(normalise(parseSettings({ url: 'mysql://me:p%2Fw@db:3307/shop' })))).toEqual(stored);
    expect(normalise(parseSettings({ url: 'mysql://me@db/shop?ssl-mode=VERIFY_IDENTITY' })).sslmode).toBe(
      'verify-full',
    );
    expect(normalise(parseSettings({ url: 'mysql://me@[::1]:80/shop' }))).toMatchObject({ host: '::1', port: 80 });
    expect(resolve({ url: 'mysql://me@localhost/shop?socket=/run/mysqld.sock' }).host).toBe('/run/mysqld.sock');
  });

  test('what is wrong is named, never quoted', () => {
    const message = (settings: Parameters<typeof resolve>[0]) => {
      try {
        resolve(settings);
      } catch (error) {
        return (error as Error).message;
      }
      return 'nothing';
    };
    expect(message({ url: 'mysql://me:secret@db/shop?nonsense=1' })).toMatch(/nonsense/);
    expect(message({ url: 'mysql://me:secret@db:port/shop' })).not.toContain('secret');
    expect(message({ url: 'mysql://me@db' })).toBe('db_name is missing.');
    expect(message({ url: 'db/shop' })).toBe('username is missing.');
    expect(message({ url: 'mysql://me@db/shop?sslca=/etc/ca.pem' })).toMatch(/PEM text/);
    expect(JSON.stringify(resolve({ url: 'mysql://me:secret@db/shop' }))).not.toContain('secret');
  });
});
