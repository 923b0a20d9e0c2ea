import { createHash } from 'node:crypto';
import type mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Batch, Target } from '../../connectors/contract.ts';
import { openTarget } from '../../connectors/mysql/target.ts';
import type { Row } from '../../connectors/types.ts';
import { type MysqlKind, startMysql } from '../../servers/mysql.ts';
import { missing } from '../servers/shared.ts';
import { mysqlHas } from './mysql-every-type.ts';
import {
  batchesOf,
  column,
  connect,
  describeKinds,
  dropAll,
  give,
  leftovers,
  plainWorks,
  quoted,
  rowsOf,
  serverUrl,
  textBatches,
  visible,
  within,
} from './mysql-works.ts';
import { chunk, codeOf, type TargetSubject, testTarget, writeOptions } from './target.ts';

async function subject(format: 'rows' | 'pg-text', kind: MysqlKind): Promise<TargetSubject> {
  const url = await serverUrl(kind);
  const client = await connect(url);
  const { work, prefix, made } = plainWorks();
  return {
    open: () => openTarget({ url: within(url, prefix) }),
    work: (over) => work({ writeFormat: format, readFormat: format, ...over }),
    batches: (_, rows) => batchesOf(format, rows),
    visible: (one) => visible(client, one),
    leftovers: () => leftovers(client, prefix, made),
    async [Symbol.asyncDispose]() {
      await dropAll(client, prefix);
      await client.end();
    },
  };
}

await describeKinds('', (kind) => {
  testTarget('rows', () => subject('rows', kind));
  testTarget('LOAD DATA of pg-text', () => subject('pg-text', kind));
  describe('beyond what every target does', () => writing(kind));
});

function writing(kind: MysqlKind) {
  const { work, prefix } = plainWorks();
  let url: string;
  let client: mysql.Connection;
  let target: Target;
  beforeAll(async () => {
    url = await serverUrl(kind);
    client = await connect(url);
    target = openTarget({ url: within(url, prefix) });
  });
  afterAll(async () => {
    await target?.[Symbol.asyncDispose]();
    if (client) await dropAll(client, prefix);
    await client?.end();
  });

  test('the size of a table is that of its files, or the statistics where the login may not see those', async () => {
    const [one, two] = [work({ writeFormat: 'pg-text' }), work({ writeFormat: 'pg-text' })];
    for (const each of [one, two]) {
      await target.prepare(each);
      const lines = Array.from({ length: each === one ? 20_000 : 1 }, (_, i) => `${i}\t${'v'.repeat(100)}\n`).join('');
      const rows = lines.split('\n').length - 1;
      await target.write(each, await target.claim(each, chunk(1)), give(textBatches(lines, rows)), writeOptions());
      await target.finish(each);
      await target.publish([each], []);
    }
    const names = [one.name, { ...one.name, name: one.name.name.toUpperCase() }, two.name];
    const [large = 0, other, small = 0] = (await target.sizes?.(names)) ?? [];
    expect(large).toBeGreaterThan(2_000_000);
    expect(large % 4096).toBe(0);
    expect(other).toBeUndefined();
    expect(small).toBeLessThan(500_000);

    const user = `${prefix}_low`;
    await client.query(`CREATE USER '${user}'@'%' IDENTIFIED BY 'some Words-1'`);
    try {
      for (const { name } of [one, two]) await client.query(`GRANT SELECT ON ${quoted(name)} TO '${user}'@'%'`);
      const own = new URL(within(url, prefix));
      own.username = user;
      own.password = encodeURIComponent('some Words-1');
      await using low = openTarget({ url: own.href });
      const [said = 0, none, little = 0] = (await low.sizes?.(names)) ?? [];
      expect(said).toBeGreaterThan(1_000_000);
      expect(none).toBeUndefined();
      expect(little).toBeGreaterThan(0);
      expect(little).toBeLessThan(said);
    } finally {
      await client.query(`DROP USER '${user}'@'%'`);
    }
  });

  test('bad rows of the rows lane are set aside one by one, the others kept', async () => {
    const one = work({
      columns: [column('id', 'smallint', { kind: 'int32' }, false), column('v', 'varchar(3)', { kind: 'text' })],
      key: [],
    });
    const rows: Row[] = Array.from({ length: 1000 }, (_, i) => [i, 'abc']);
    rows[17] = [70_000, 'abc'];
    rows[500] = [500, 'too long'];
    rows[501] = [501, 'abc '];
    rows[999] = [null, 'abc'];
    await target.prepare(one);
    const bad: string[] = [];
    const counts = await target.write(
      one,
      await target.claim(one, chunk(1)),
      give([
        { kind: 'rows', rows: rows.slice(0, 400) },
        { kind: 'rows', rows: rows.slice(400) },
      ]),
      writeOptions({
        quarantine: async (found) => {
          for (const each of found)
            bad.push(`${each.ordinal} ${each.native} ${each.column} ${each.row === rows[each.ordinal]}`);
        },
      }),
    );
    expect(bad).toEqual(['17 1264 id true', '500 1265 v true', '501 1265 v true', '999 1263 id true']);
    expect(counts).toMatchObject({ read: 1000, written: 996, quarantined: 4 });
    const refuse = target.write(
      one,
      await target.claim(one, chunk(2)),
      give([{ kind: 'rows', rows }]),
      writeOptions({ quarantine: async () => Promise.reject(new Error('too many')) }),
    );
    await expect(refuse).rejects.toThrow('too many');
    await target.finish(one);
    await target.publish([one], []);
    expect((await visible(client, one))?.length).toBe(996);
  });

  test('a stream that breaks off, or says another number, is rolled back', async () => {
    const one = work({ writeFormat: 'pg-text' });
    await target.prepare(one);
    const bytes = [Buffer.from('1\ta\n2\tb\n')];
    for (const said of [undefined, 1, 3]) {
      const claim = await target.claim(one, chunk(1));
      const batch: Batch = { kind: 'bytes', bytes, ...(said === undefined ? {} : { rows: said }) };
      expect(await codeOf(target.write(one, claim, give([batch]), writeOptions()))).toBe('BOOKS_UNBALANCED');
    }
    expect((await Array.fromAsync(target.checkpoints(one))).map((found) => found.done)).toEqual([false]);
    await target.discard(one);
  });

  test('what LOAD DATA LOCAL would mend, cut or leave out takes the whole chunk back', async () => {
    const columns = [
      column('id', 'int', { kind: 'int32' }, false),
      column('v', 'varchar(3)', { kind: 'text' }),
      column('n', 'decimal(5,2)', { kind: 'decimal', precision: 5, scale: 2 }),
      column('d', 'date', { kind: 'date' }),
      column('f', 'double', { kind: 'float64' }),
      column('t', 'time(6)', { kind: 'time' }),
      column('b', 'tinyint(1)', { kind: 'bool' }),
    ];
    const one = work({ writeFormat: 'pg-text', columns });
    await target.prepare(one);
    const good = '1\tabc\t1.20\t2024-02-29\t0.1\t12:00:00\tt\n';
    const write = async (line: string, rows = 2) =>
      target.write(one, await target.claim(one, chunk(1)), give(textBatches(good + line, rows)), writeOptions());
    const refused: [what: string, line: string, code?: string][] = [
      ['a key that is there', '1\tb\t1\t2024-01-01\t1\t00:00:00\tf\n', 'CONSTRAINT_BROKEN'],
      ['too long', '2\tabcd\t1\t2024-01-01\t1\t00:00:00\tf\n'],
      ['blanks beyond the length', '2\tabc \t1\t2024-01-01\t1\t00:00:00\tf\n'],
      ['digits beyond the scale', '2\tb\t1.234\t2024-01-01\t1\t00:00:00\tf\n'],
      ['no number', '2\tb\tNaN\t2024-01-01\t1\t00:00:00\tf\n'],
      ['out of range', '2147483648\tb\t1\t2024-01-01\t1\t00:00:00\tf\n'],
      ['a year past 9999', '2\tb\t1\t12345-12-11\t1\t00:00:00\tf\n'],
      ['before Christ', '2\tb\t1\t0044-03-15 BC\t1\t00:00:00\tf\n'],
      ['infinite', '2\tb\t1\tinfinity\t1\t00:00:00\tf\n'],
      ['a date of no calendar', '2\tb\t1\t2023-02-30\t1\t00:00:00\tf\n'],
      ['a zero date', '2\tb\t1\t0000-00-00\t1\t00:00:00\tf\n'],
      ['not a number', '2\tb\t1\t2024-01-01\tNaN\t00:00:00\tf\n'],
      ['infinity', '2\tb\t1\t2024-01-01\tInfinity\t00:00:00\tf\n'],
      ['beyond a double', '2\tb\t1\t2024-01-01\t1e400\t00:00:00\tf\n'],
      ['beyond 838 hours', '2\tb\t1\t2024-01-01\t1\t839:00:00\tf\n'],
      ['neither true nor false', '2\tb\t1\t2024-01-01\t1\t00:00:00\tx\n'],
      ['NULL in a key', '\\N\tb\t1\t2024-01-01\t1\t00:00:00\tf\n', 'VALUE_REFUSED'],
      ['too few fields', '2\tb\n'],
      ['too many fields', '2\tb\t1\t2024-01-01\t1\t00:00:00\tf\tx\n'],
      ['bytes that are no UTF-8', '2\tÿ\t1\t2024-01-01\t1\t00:00:00\tf\n'],
    ];
    for (const [what, line, code = 'VALUE_REFUSED'] of refused) {
      const bytes = what.startsWith('bytes') ? Buffer.from(good + line, 'latin1') : Buffer.from(good + line);
      const claim = await target.claim(one, chunk(1));
      const got = await codeOf(target.write(one, claim, give(textBatches(bytes, 2)), writeOptions()));
      expect(`${what}: ${got}`).toBe(`${what}: ${code}`);
    }
    expect(await write('2\t \t-0.01\t0001-01-01\t-0\t838:59:59\tf\n')).toMatchObject({ written: 2 });
    await target.discard(one);
  });

  test('a chunk with other bounds than it was begun with is refused', async () => {
    const one = work();
    await target.prepare(one);
    await target.claim(one, chunk(1));
    expect(await codeOf(target.claim(one, { ...chunk(1), bounds: { upto: ['other'] } }))).toBe('INTERNAL');
    await target.discard(one);
  });

  test('a writer stopped between checkpoint and commit is ended by the next claim', async () => {
    const one = work();
    await target.prepare(one);
    const claim = await target.claim(one, chunk(1));
    // The same statements a stopped writer has behind it, from a session that says nothing more.
    const stopped = await connect(url);
    stopped.on('error', () => {});
    const mark = `godwit ${one.run} ${prefix}`;
    await stopped.query('SELECT GET_LOCK(?, 0)', [mark]);
    const of = 'work = (SELECT id FROM _godwit.work WHERE installation = ? AND run = ?)';
    await stopped.query(`UPDATE _godwit.chunk SET session = ? WHERE ${of}`, [mark, one.installation, one.run]);
    await stopped.query('START TRANSACTION');
    await stopped.query(`UPDATE _godwit.chunk SET done = TRUE WHERE ${of}`, [one.installation, one.run]);
    const next = await target.claim(one, chunk(1));
    expect(next.done).toBeUndefined();
    expect(next.epoch).toBe(claim.epoch + 1);
    await expect(stopped.query('COMMIT')).rejects.toThrow();
    stopped.destroy();
    await target.discard(one);
  });

  test('the checkpoint itself is fenced: an epoch that moved on under a writer rolls it back', async () => {
    const one = work();
    await target.prepare(one);
    const claim = await target.claim(one, chunk(1));
    async function* overtaken(): AsyncGenerator<Batch> {
      yield { kind: 'rows', rows: [[1, 'stale']] };
      await client.query(
        'UPDATE _godwit.chunk SET epoch = epoch + 1, session = NULL WHERE work = (SELECT id FROM _godwit.work WHERE installation = ? AND run = ?)',
        [one.installation, one.run],
      );
    }
    expect(await codeOf(target.write(one, claim, overtaken(), writeOptions()))).toBe('FENCED');
    await target.finish(one);
    await target.publish([one], []);
    expect(await visible(client, one)).toEqual([]);
  });

  test('a row of 50 MB goes through, beyond max_allowed_packet', async () => {
    const [version] = (await rowsOf(client, 'SELECT VERSION()')) as [[string]];
    const one = work({
      writeFormat: 'pg-text',
      columns: [column('id', 'int', { kind: 'int32' }, false), column('b', 'longblob', { kind: 'bytes' })],
    });
    const size = (mysqlHas(kind, version[0]).longFields ? 50 : 4) * 1024 * 1024;
    async function* large(): AsyncGenerator<Batch> {
      yield { kind: 'bytes', bytes: [Buffer.from('1\t\\\\x')] };
      const piece = Buffer.from('5c0a'.repeat(128 * 1024));
      for (let sent = 0; sent < size; sent += piece.length / 2) yield { kind: 'bytes', bytes: [piece] };
      yield { kind: 'bytes', bytes: [Buffer.from('\n')], rows: 1 };
    }
    await target.prepare(one);
    await target.write(one, await target.claim(one, chunk(1)), large(), writeOptions());
    await target.finish(one);
    await target.publish([one], []);
    const hash = createHash('sha256')
      .update(Buffer.from('5c0a'.repeat(size / 2), 'hex'))
      .digest('hex');
    const sql = `SELECT LENGTH(b), SHA2(b, 256) FROM ${quoted(one.name)}`;
    expect(await rowsOf(client, sql)).toEqual([[size, hash]]);
    await client.query(`DROP DATABASE \`${one.name.schema}\``);
  });
}

describe.skipIf(await missing('mariadb'))('a server that knows no upper case', () => {
  const { work, prefix } = plainWorks();

  test('keeps a table under its name in lower case; two names of one run that are one there are refused', async () => {
    await using server = await startMysql({ kind: 'mariadb', settings: { 'lower-case-table-names': '1' } });
    await using target = openTarget({ url: within(server.url, prefix) });
    const client = await connect(server.url);
    const first = work({ name: { schema: `${prefix} Shop`, name: 'Orders' } });
    expect(await target.refusals(first)).toEqual([]);
    await target.prepare(first);
    const second = work({ name: { schema: `${prefix} shop`, name: 'orders' }, run: first.run });
    expect(await codeOf(target.prepare(second))).toBe('NAME_COLLISION');
    await target.write(first, await target.claim(first, chunk(1)), batchesOf('rows', [[1, 'a']]), writeOptions());
    await target.finish(first);
    await target.publish([first], []);
    expect(await visible(client, { ...first, name: { schema: `${prefix} shop`, name: 'orders' } })).toEqual([[1, 'a']]);
    expect((await target.describe(first.name))?.owner).toBe(first.jobUid);
    const next = { ...first, run: `${first.run}+` };
    expect(await target.refusals(next)).toEqual([]);
    await target.prepare(next);
    await target.discard(next);
    expect(await visible(client, { ...first, name: { schema: `${prefix} shop`, name: 'orders' } })).toEqual([[1, 'a']]);
    await client.end();
  });
});
