/** LOAD DATA LOCAL: what a server may ask of a client, and what becomes of a client whose server does not allow it. */
import type mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Batch } from '../../connectors/contract.ts';
import { openSession } from '../../connectors/mysql/session.ts';
import { resolve } from '../../connectors/mysql/settings.ts';
import { Mender } from '../../connectors/mysql/target/mend.ts';
import { openTarget } from '../../connectors/mysql/target.ts';
import { type MysqlServer, startMysql } from '../../servers/mysql.ts';
import { missing } from '../servers/shared.ts';
import { startRogue } from './mysql-rogue.ts';
import {
  column,
  connect,
  describeKinds,
  dropAll,
  give,
  plainWorks,
  quoted,
  rowsOf,
  serverUrl,
  textBatches,
  visible,
  within,
} from './mysql-works.ts';
import { chunk, codeOf, writeOptions } from './target.ts';

await describeKinds(': a server that asks for files', (kind) => {
  const { work, prefix } = plainWorks();
  const bytes = () => give(textBatches('1\ta\n2\tb\n', 2));

  test('it gets nothing for another name than that of our stream, and the connection ends', async () => {
    await using rogue = await startRogue(await serverUrl(kind));
    await using target = openTarget({ url: within(rogue.url, prefix) });
    const one = work({ writeFormat: 'pg-text' });
    await target.prepare(one);
    const claim = await target.claim(one, chunk(1));
    rogue.ask('LOAD DATA LOCAL', '/etc/passwd');
    expect(await codeOf(target.write(one, claim, bytes(), writeOptions()))).toBe('SERVER_UNSUITABLE');
    await rogue.closed;
    expect(rogue.got()?.length ?? 0).toBe(0);
    await target.discard(one);
  });

  test('it gets nothing in answer to any other statement, of a target or a source', async () => {
    await using rogue = await startRogue(await serverUrl(kind));
    await using target = openTarget({ url: within(rogue.url, prefix) });
    rogue.ask('SELECT COLUMN_NAME', '/etc/passwd');
    expect(await codeOf(target.describe({ schema: 'information_schema', name: 'TABLES' }))).toBe('SERVER_UNSUITABLE');
    await rogue.closed;
    expect(rogue.got()?.length ?? 0).toBe(0);

    await using second = await startRogue(await serverUrl(kind));
    await using session = await openSession(resolve({ url: within(second.url, 'information_schema') }));
    second.ask('SELECT 42', '/etc/passwd');
    expect(await codeOf(session.query('SELECT 42'))).toBe('SERVER_UNSUITABLE');
    await second.closed;
    expect(second.got()?.length ?? 0).toBe(0);
  });
});

/** `local_infile` is off by default since MySQL 8. */
for (const kind of ['mariadb', 'mysql'] as const) {
  describe.skipIf(await missing(kind))(`${kind} without LOAD DATA LOCAL`, () => {
    const { work, prefix } = plainWorks();
    let server: MysqlServer;
    let client: mysql.Connection;
    beforeAll(async () => {
      server = await startMysql({ kind, settings: { 'local-infile': '0', 'max-allowed-packet': '1048576' } });
      client = await connect(server.url);
    });
    afterAll(async () => {
      if (client) await dropAll(client, prefix);
      await client?.end();
      await server?.[Symbol.asyncDispose]();
    });

    test('the same bytes come in as INSERT, and the checks say why that is slow', async () => {
      await using target = openTarget({ url: within(server.url, prefix) });
      const off = (await target.check()).find((check) => check.name === 'local_infile');
      expect(off?.outcome).toBe('warn');
      const one = work({
        writeFormat: 'pg-text',
        columns: [
          column('id', 'int', { kind: 'int32' }, false),
          column('v', 'longtext', { kind: 'text' }),
          column('b', 'longblob', { kind: 'bytes' }),
          column('t', 'datetime(6)', { kind: 'timestamptz' }),
          column('y', 'tinyint(1)', { kind: 'bool' }),
        ],
      });
      const lines = Array.from(
        { length: 2500 },
        (_, i) => `${i}\ta\\tb\\\\\\f'"\\n\\v ${i}\t\\\\x00ff5c27\t2024-02-29 12:00:00.5+00\t${i % 2 ? 't' : 'f'}\n`,
      );
      lines.push('2500\t\\N\t\\\\x\t\\N\t\\N\n');
      await target.prepare(one);
      const claim = await target.claim(one, chunk(1));
      const text = Buffer.from(lines.join(''));
      const pieces: Batch[] = [];
      for (let at = 0; at < text.length; at += 777)
        pieces.push({ kind: 'bytes', bytes: [text.subarray(at, at + 777)] });
      pieces.push({ kind: 'bytes', bytes: [], rows: lines.length });
      expect(await target.write(one, claim, give(pieces), writeOptions())).toMatchObject({ written: 2501 });
      await target.finish(one);
      await target.publish([one], []);
      const rows = await rowsOf(client, `SELECT id, v, HEX(b), t, y FROM ${quoted(one.name)} WHERE id IN (7, 2500)`);
      expect(rows).toEqual([
        [7, 'a\tb\\\f\'"\n\v 7', '00FF5C27', '2024-02-29 12:00:00.500000', 1],
        [2500, null, '', null, null],
      ]);
    });

    test('bad rows are found by INSERT too, those larger than a packet among them', async () => {
      await using target = openTarget({ url: within(server.url, prefix) });
      const one = work();
      await target.prepare(one);
      const rows = Array.from({ length: 300 }, (_, i) => [i, 'x'] as [number, string | null]);
      rows[40] = [3_000_000_000, 'x'];
      rows[41] = [41, 'y'.repeat(2_000_000)];
      rows[42] = [39, 'a key that is there'];
      const bad: string[] = [];
      const counts = await target.write(
        one,
        await target.claim(one, chunk(1)),
        give([{ kind: 'rows', rows }]),
        writeOptions({
          quarantine: async (found) => {
            for (const each of found) bad.push(`${each.ordinal} ${each.native}`);
          },
        }),
      );
      expect(bad).toEqual(['40 1264', '41 1153', '42 1062']);
      expect(counts).toMatchObject({ read: 300, written: 297, quarantined: 3 });
      await target.finish(one);
      await target.publish([one], []);
      expect((await visible(client, one))?.length).toBe(297);
    });
  });
}

test('the mender changes what LOAD DATA does not know and nothing else, wherever the bytes are cut', () => {
  const plain = column('v', 'longtext', { kind: 'text' });
  const flag = column('b', 'tinyint(1)', { kind: 'bool' });
  const moment = column('m', 'datetime(6)', { kind: 'timestamptz' });
  const cases: [columns: (typeof plain)[], text: string, wanted: string][] = [
    [[plain], 'a\\fb\\\\f\\vc\\\\\\f\\\\\\\\v\\n\\t\\N\\\\\n', 'a\\\fb\\\\f\\\vc\\\\\\\f\\\\\\\\v\\n\\t\\N\\\\\n'],
    [
      [flag, plain, moment, flag],
      't\tt\t2024-01-01 00:00:00+00\tf\n\\N\tx+00\t\\N\t\\N\nf\t\t0044-03-15 00:00:00+00 BC\tt\n1\t\\f+00\tinfinity\ttrue\n',
      '1\tt\t2024-01-01\\ 00\\:00\\:00\t0\n\\N\tx+00\t\\N\t\\N\n0\t\t0044-03-15 00:00:00+00 BC\t1\nx\t\\\f+00\tinfinity\txrue\n',
    ],
    [[moment], '2024-02-29 12:34:56.5+00\n\\N\n+00\n', '2024-02-29\\ 12\\:34\\:56.5\n\\N\n+00\n'],
    [
      [moment],
      '2024-02-29 12:34:56.123456+00\n12345-01-01 00:00:00+00\n',
      '2024-02-29\\ 12\\:34\\:56.123456\n12345-01-01 00:00:00+00\n',
    ],
  ];
  for (const [columns, text, wanted] of cases) {
    for (let size = 1; size <= text.length; size++) {
      const mender = new Mender(columns);
      const got: Buffer[] = [];
      for (let at = 0; at < text.length; at += size) got.push(...mender.take(Buffer.from(text.slice(at, at + size))));
      got.push(...mender.end());
      expect(Buffer.concat(got).toString()).toBe(wanted);
    }
  }
});

test('the ends of its blocks change nothing', () => {
  const columns = [column('v', 'longtext', { kind: 'text' }), column('m', 'datetime(6)', { kind: 'timestamptz' })];
  const lines = Array.from({ length: 12_000 }, (_, i) => `${'x'.repeat(i % 97)}\\f\t2024-01-01 00:00:00.${i}+00\n`);
  const mender = new Mender(columns);
  const got = [...mender.take(Buffer.from(lines.join(''))), ...mender.end()];
  expect(got.length).toBeGreaterThan(2);
  const wanted = lines.map((line) =>
    line.replace('\\f', '\\\f').replace('-01 00:00:', '-01\\ 00\\:00\\:').replace('+00\n', '\n'),
  );
  expect(Buffer.concat(got).toString()).toBe(wanted.join(''));
});
