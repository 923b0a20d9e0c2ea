import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { describe, expect, onTestFinished, test } from 'vitest';
import { processExists, waitUntil } from '../../servers/child.ts';
import { availablePostgres, removePostgres, runningPostgres, startPostgres } from '../../servers/postgres.ts';
import { reachableBy } from '../../servers/unprivileged.ts';
import { createDatabase, missing } from './shared.ts';

const nobody = { name: 'nobody', uid: 65_534, gid: 65_534 };
const servers = join(import.meta.dirname, '../../servers/postgres.ts');

async function rows(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

async function occupiedPort(): Promise<number> {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void other.close());
  return (other.address() as { port: number }).port;
}

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'godwit-test-'));
  await chmod(path, 0o755);
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

describe('PostgreSQL', () => {
  test('a temporary one serves, and stopping it leaves nothing', async () => {
    const server = await startPostgres({ settings: { work_mem: '7MB' } });
    expect(await rows(server.url, 'SHOW work_mem')).toEqual([{ work_mem: '7MB' }]);
    expect(await rows(server.url, 'SHOW wal_level')).toEqual([{ wal_level: 'logical' }]);
    await server.stop();
    expect(existsSync(server.dir)).toBe(false);
    expect(processExists(server.pid)).toBe(false);
    expect(runningPostgres(server.dir)).toBeUndefined();
  });

  test('asks for the password, on loopback only', async () => {
    await using server = await startPostgres();
    const wrong = new URL(server.url);
    wrong.password = 'wrong';
    await expect(rows(wrong.href, 'SELECT 1')).rejects.toMatchObject({ code: '28P01' });
    expect(await rows(server.url, 'SHOW listen_addresses')).toEqual([{ listen_addresses: '127.0.0.1' }]);
  });

  test('a kept folder keeps data, password and port between starts, and is removed on request', async () => {
    const dir = join(await folder(), 'postgres');
    const first = await startPostgres({ dir, durable: true });
    expect(await rows(first.url, 'SHOW fsync')).toEqual([{ fsync: 'on' }]);
    await rows(first.url, 'CREATE TABLE t AS SELECT 1 AS a');
    await first.stop();
    await using second = await startPostgres({ dir, durable: true, port: first.port });
    expect(second.url).toBe(first.url);
    expect(await rows(first.url, 'SELECT a FROM t')).toEqual([{ a: 1 }]);
    await removePostgres(dir);
    expect(existsSync(dir)).toBe(false);
    expect(await waitUntil(() => !second.running(), 2_000)).toBe(true);
  });

  test('comes back with its data after kill -9, a stale postmaster.pid notwithstanding', async () => {
    await using server = await startPostgres();
    await rows(server.url, 'CREATE TABLE t AS SELECT 1 AS a');
    const { pid } = server;
    await server.kill();
    expect(server.running()).toBe(false);
    await expect(rows(server.url, 'SELECT 1')).rejects.toThrow();
    await server.restart();
    expect(server.pid).not.toBe(pid);
    expect(await rows(server.url, 'SELECT a FROM t')).toEqual([{ a: 1 }]);
  });

  test('restart ends open connections and keeps the port', async () => {
    await using server = await startPostgres();
    const client = new pg.Client({ connectionString: server.url });
    const ended = new Promise<Error & { code?: string }>((resolve) => client.on('error', resolve));
    await client.connect();
    await server.restart();
    expect((await ended).code).toBe('57P01');
    expect(await rows(server.url, 'SELECT 1 AS a')).toEqual([{ a: 1 }]);
  });

  test('a second start on a served folder is reported', async () => {
    const dir = join(await folder(), 'postgres');
    await using server = await startPostgres({ dir });
    await expect(startPostgres({ dir })).rejects.toMatchObject({
      code: 'ALREADY_EXISTS',
      message: expect.stringContaining(String(server.pid)),
    });
  });

  test('a port in use is one sentence', async () => {
    const port = await occupiedPort();
    await expect(startPostgres({ port })).rejects.toMatchObject({
      code: 'PORT_IN_USE',
      message: `Port ${port} for the embedded PostgreSQL is in use.`,
    });
  });

  test('two at once get ports and data of their own', async () => {
    const [a, b] = await Promise.all([startPostgres(), startPostgres()]);
    await using _a = a;
    await using _b = b;
    expect(a.port).not.toBe(b.port);
    await rows(a.url, 'CREATE TABLE only_here (a int)');
    await expect(rows(b.url, 'TABLE only_here')).rejects.toMatchObject({ code: '42P01' });
  });

  test('does not outlive a parent that is killed, and its temporary folder goes too', async () => {
    const script = `const { startPostgres } = await import(${JSON.stringify(servers)});
      const server = await startPostgres(); console.log(JSON.stringify({ pid: server.pid, dir: server.dir })); setInterval(() => {}, 1000);`;
    const parent = spawn(process.execPath, ['--input-type=module', '-e', script]);
    const [line] = await new Promise<Buffer[]>((resolve) => parent.stdout.once('data', (...data) => resolve(data)));
    const { pid, dir } = JSON.parse(String(line)) as { pid: number; dir: string };
    expect(processExists(pid)).toBe(true);
    parent.kill('SIGKILL');
    expect(await waitUntil(() => !processExists(pid) && !existsSync(dir), 10_000)).toBe(true);
  });

  test('root with a private folder: the data lies where PostgreSQL can reach it', async ({ skip }) => {
    skip(process.getuid?.() !== 0, 'PostgreSQL as root: not run as root');
    const home = await folder();
    await chmod(home, 0o700);
    const dir = join(home, 'postgres');
    await mkdir(dir);
    onTestFinished(() => removePostgres(dir));
    const server = await startPostgres({ dir });
    await rows(server.url, 'CREATE TABLE t AS SELECT 1 AS a');
    await server.stop();
    await using again = await startPostgres({ dir });
    expect(await rows(again.url, 'SELECT a FROM t')).toEqual([{ a: 1 }]);
  });

  test('an ordinary user starts it as well as root', async ({ skip }) => {
    skip(process.getuid?.() !== 0, 'PostgreSQL as another user: not run as root (the other tests are ordinary users)');
    skip(!reachableBy(nobody, import.meta.dirname), 'PostgreSQL as another user: who cannot come to this clone');
    const home = await folder();
    await chown(home, nobody.uid, nobody.gid);
    const script = `const { startPostgres } = await import(${JSON.stringify(servers)});
      const server = await startPostgres({ dir: ${JSON.stringify(join(home, 'postgres'))} }); console.log(process.getuid(), server.url); await server.stop();`;
    const env = { ...process.env, HOME: home };
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      uid: nobody.uid,
      gid: nobody.gid,
      cwd: home,
      env,
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece) => (said += piece));
    await new Promise((resolve) => child.on('close', resolve));
    expect(said).toMatch(/^65534 postgresql:\/\/postgres:.+@127\.0\.0\.1:\d+\/postgres\n$/);
  });

  test('every version of this machine starts', async () => {
    for (const { version } of await availablePostgres()) {
      await using server = await startPostgres({ version });
      const [row] = (await rows(server.url, 'SHOW server_version_num')) as { server_version_num: string }[];
      expect(Math.floor(Number(row?.server_version_num) / 10_000)).toBe(version);
    }
  });
});

describe.skipIf(await missing('postgres/13'))('PostgreSQL 13', () => {
  test('is fetched for those who ask', async () => {
    await using database = await createDatabase(undefined, { version: 13 });
    const [row] = (await rows(database.url, 'SHOW server_version')) as { server_version: string }[];
    expect(row?.server_version).toMatch(/^13\./);
  });
});

test('a test database is new, and gone after', async () => {
  const name = `T est ${randomBytes(4).toString('hex')}`;
  {
    await using database = await createDatabase(name);
    expect(await rows(database.url, 'SELECT current_database() AS name')).toEqual([{ name }]);
  }
  await sleep(0);
  await using other = await createDatabase();
  expect(await rows(other.url, `SELECT 1 FROM pg_database WHERE datname = '${name}'`)).toEqual([]);
});
