import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import mysql from 'mysql2/promise';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { processExists } from '../../servers/child.ts';
import { type MysqlKind, startMysql } from '../../servers/mysql.ts';
import { findMysql } from '../../servers/mysql-programs.ts';
import { createMysqlDatabase, missing } from './shared.ts';

async function rows(url: string, sql: string): Promise<unknown[]> {
  const connection = await mysql.createConnection(url);
  try {
    return (await connection.query<mysql.RowDataPacket[]>(sql))[0];
  } finally {
    await connection.end();
  }
}

for (const kind of ['mariadb', 'mysql'] satisfies MysqlKind[]) {
  describe.skipIf(await missing(kind))(kind, () => {
    test('is the one it is said to be, with a log of changes by row', async () => {
      await using database = await createMysqlDatabase(kind);
      const [row] = await rows(
        database.url,
        'SELECT VERSION() AS v, DATABASE() AS d, @@log_bin AS l, @@binlog_format AS f',
      );
      expect(row).toMatchObject({ d: database.name, l: 1, f: 'ROW' });
      const { v } = row as { v: string };
      expect(/mariadb/i.test(v)).toBe(kind === 'mariadb');
    });

    test('takes a file of the client, and each database is new and dropped', async () => {
      const database = await createMysqlDatabase(kind);
      const connection = await mysql.createConnection(database.url);
      await connection.query('CREATE TABLE t (a int, b varchar(20)) CHARACTER SET utf8mb4');
      await connection.query({
        sql: "LOAD DATA LOCAL INFILE 'rows' INTO TABLE t CHARACTER SET utf8mb4",
        infileStreamFactory: () => Readable.from([Buffer.from('1\tone\n2\tzwölf 🐦\n')]),
      });
      expect((await connection.query('SELECT a, b FROM t ORDER BY a'))[0]).toEqual([
        { a: 1, b: 'one' },
        { a: 2, b: 'zwölf 🐦' },
      ]);
      await connection.end();
      await database.drop();
      await expect(rows(database.url, 'SELECT 1')).rejects.toMatchObject({ code: 'ER_BAD_DB_ERROR' });
    });

    test('one of our own asks for its password, takes settings, survives kill -9, and leaves nothing', async () => {
      const settings = { 'default-time-zone': '+02:00', 'max-allowed-packet': '8388608', 'sql-mode': 'ANSI_QUOTES' };
      const server = await startMysql({ kind, settings });
      const { url } = server;
      const wrong = new URL(url);
      wrong.password = 'wrong';
      await expect(rows(wrong.href, 'SELECT 1')).rejects.toMatchObject({ code: 'ER_ACCESS_DENIED_ERROR' });
      expect(await rows(url, 'SELECT @@time_zone AS z, @@max_allowed_packet AS p, @@global.sql_mode AS m')).toEqual([
        { z: '+02:00', p: 8_388_608, m: 'ANSI_QUOTES' },
      ]);
      expect(
        await rows(url, "SELECT host AS host FROM mysql.user WHERE user = '' OR (user = 'root' AND host <> '%')"),
      ).toEqual([{ host: 'localhost' }]);
      await rows(url, 'CREATE DATABASE d');
      await rows(url, 'CREATE TABLE d.t ENGINE=InnoDB AS SELECT 7 AS seven');
      await server.kill();
      await expect(rows(url, 'SELECT 1')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
      await server.restart();
      expect(server.url).toBe(url);
      expect(await rows(url, 'SELECT seven FROM d.t')).toEqual([{ seven: 7 }]);
      await server.stop();
      expect(existsSync(server.dir)).toBe(false);
      expect(processExists(server.pid)).toBe(false);
    });

    test('refuses a setting it does not know with the reason', async () => {
      const starting = startMysql({ kind, settings: { 'no-such-setting': '1' } });
      await expect(starting).rejects.toMatchObject({
        code: 'SERVER_START_FAILED',
        message: expect.stringContaining('no-such-setting'),
      });
    });

    test('a version that cannot be had is refused', async () => {
      await expect(startMysql({ kind, version: 4 })).rejects.toMatchObject({ code: 'SERVER_START_FAILED' });
    });
  });
}

test('where it is neither there nor to be had, the reason is said and what to do', async () => {
  const cache = await mkdtemp(join(tmpdir(), 'godwit-test-'));
  onTestFinished(() => rm(cache, { recursive: true, force: true }));
  vi.stubEnv('GODWIT_CACHE', cache);
  vi.stubEnv('PATH', cache);
  onTestFinished(() => void vi.unstubAllEnvs());
  // A server that is installed is found where PATH does not lead, too.
  const installed = ['/usr/sbin/mysqld', '/usr/libexec/mysqld'].some((path) => existsSync(path));
  const find = findMysql('mysql', installed ? 9 : undefined);
  await expect(find).rejects.toMatchObject({
    code: 'DOWNLOAD_FAILED',
    message: expect.stringMatching(/there is no apt-get.*GODWIT_TEST_MYSQL_URL/),
  });
});
