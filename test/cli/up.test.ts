import { execFile, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { projectFolder } from '../../config.ts';
import { waitUntil } from '../../servers/child.ts';
import { missing } from '../servers/shared.ts';
import { environment, godwit, jsonLines, newHome, type Started, start } from './godwit.ts';

const noServers = (await missing('postgres')) || (await missing('temporal'));

describe.skipIf(noServers)('godwit up', () => {
  const home = newHome();
  const env = environment(home.path);
  const files = join(home.path, 'files');
  let up: Started;
  let password: string;

  const serve = async () => {
    const started = start(['up', '-o', 'json'], { ...env, PORT: '0' });
    await waitUntil(() => /"type":"up"/.test(started.said()) || started.child.exitCode !== null, 90_000);
    expect(started.said()).toContain('"type":"up"');
    return started;
  };
  const ports = () => JSON.parse(readFileSync(join(home.path, 'ports.json'), 'utf8')) as { postgres: number };
  const urlOf = (database: string) => `postgresql://postgres:${password}@127.0.0.1:${ports().postgres}/${database}`;
  const query = async (database: string, sql: string) => {
    const client = new pg.Client({ connectionString: urlOf(database) });
    await client.connect();
    return await client.query(sql).finally(() => client.end());
  };
  const mappingFile = (name: string, tables: object[]) => {
    const path = join(home.path, `${name}.json`);
    const source = {
      source_type: 'pgsql',
      url: `127.0.0.1:${ports().postgres}/src`,
      username: 'postgres',
      password: 'env:SRC_PASSWORD',
    };
    const lake = { destination_type: 'files', path: join(files, name), schema: '{schema}', format: 'csv' };
    writeFileSync(path, JSON.stringify({ source, destination: { lake }, tables }));
    return path;
  };
  const run = (args: string[]) => godwit(args, { ...env, SRC_PASSWORD: password });

  beforeAll(async () => {
    up = await serve();
    password = readFileSync(join(home.path, 'postgres', 'password'), 'utf8').trim();
    await query('postgres', 'CREATE DATABASE src');
    await query(
      'src',
      `CREATE TABLE a AS SELECT n AS id, 'text ' || n AS t FROM generate_series(1, 5000) AS n; ALTER TABLE a ADD PRIMARY KEY (id);
       CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b SELECT generate_series(1, 10);
       CREATE VIEW slow AS SELECT n AS id, pg_sleep(0.05)::text AS t FROM generate_series(1, 100000) AS n;`,
    );
    // Its 100,000 rows take over an hour: every run of it is one that is not over.
    await run(['apply', mappingFile('slow', [{ table_name: 'public.slow', mode: 'replace' }])]);
  });
  afterAll(async () => {
    up.child.kill('SIGTERM');
    await up.ended;
    home.remove();
  });

  it('says where everything is, and a second one finds it', async () => {
    const [said] = jsonLines(
      up
        .said()
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .join('\n'),
    );
    expect(said).toMatchObject({
      type: 'up',
      home: home.path,
      url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
    });
    const second = await run(['up']);
    expect(second).toMatchObject({
      code: 0,
      out: expect.stringContaining(`already serves this GODWIT_HOME (${home.path}): ${said?.url}`),
    });
    const state = readFileSync(join(home.path, 'state.json'), 'utf8');
    expect(state).not.toContain(password);
    const ui = await fetch((said as { temporal: { ui: string } }).temporal.ui);
    expect(ui.status).toBe(200);
  });

  it('runs a mapping: exit 0, one JSON object per line, the last one the run with its books', async () => {
    const file = mappingFile('good', [{ table_name: 'public.*', mode: 'replace', exclude: ['public.slow'] }]);
    const { code, out, err } = await run(['run', file, '--output', 'json']);
    expect(err).toBe('');
    expect(code).toBe(0);
    const lines = jsonLines(out);
    expect(
      lines
        .filter((line) => line.type === 'table' && line.status === 'succeeded')
        .map((line) => [line.sourceName, line.rowsRead])
        .sort(),
    ).toEqual([
      ['public.a', 5000],
      ['public.b', 10],
    ]);
    expect(lines.at(-1)).toMatchObject({
      type: 'run',
      job: 'good',
      number: 1,
      status: 'succeeded',
      totals: { rowsRead: 5010, rowsWritten: 5010 },
    });
    expect(out).not.toContain(password);
    const text = await run(['run', 'good']);
    expect(text).toMatchObject({ code: 0 });
    expect(text.out).toMatch(/✓ public\.a → lake +succeeded +5,000/);
    expect(text.out).toContain('books: read 5,010 = written 5,010 + filtered 0 + quarantined 0');
    expect(text.out).not.toContain('\u001b');
    const shown = await run(['show', 'good/1', '-o', 'json']);
    expect(jsonLines(shown.out).at(-1)).toMatchObject({ job: 'good', number: 1 });
    expect((await run(['logs', 'good/1'])).out).toMatch(/info +run\.started/);
    expect((await run(['runs', 'good'])).out).toMatch(/^RUN .*\ngood\/2 +succeeded.*\ngood\/1 +succeeded/);
    expect((await run(['jobs'])).out).toMatch(/good +1 +good\/2 +succeeded/);
  });

  it('a run with a missing table is partial: exit 3; with nothing else it failed: exit 1', async () => {
    const some = mappingFile('some', [
      { table_name: 'public.a', mode: 'replace' },
      { table_name: 'public.nope', mode: 'replace' },
    ]);
    const partial = await run(['run', some]);
    expect(partial.code).toBe(3);
    expect(partial.out).toMatch(/TABLE_MISSING public\.nope → lake: .*public\.nope/);
    const none = mappingFile('none', [{ table_name: 'public.nope*', mode: 'replace' }]);
    const failed = await run(['run', none]);
    expect(failed.code).toBe(1);
    expect(failed.out).toMatch(/NO_TABLE_MATCHES/);
  });

  it('plans a file without storing it', async () => {
    const file = mappingFile('planned', [{ table_name: 'public.a', mode: 'replace' }]);
    const { code, out } = await run(['plan', file]);
    expect(out).toMatch(/public\.a +lake: public\.a +replace +columnar +~5,000/);
    expect(code).toBe(0);
    expect((await run(['jobs'])).out).not.toContain('planned');
    const stored = await run(['apply', file]);
    expect(stored.out).toContain('Job planned is at version 1');
    expect((await run(['plan', 'planned', '-o', 'json'])).code).toBe(0);
  });

  it('saves, shows, tests and removes a source without ever showing its password', async () => {
    const settings = [`url=127.0.0.1:${ports().postgres}`, 'username=postgres', 'password=env:SRC_PASSWORD'];
    const all = [
      await run(['connection', 'add', 'main', '-t', 'pgsql', ...settings]),
      await run(['source', 'add', 'saved', '-c', 'main', 'db_name=src']),
      await run(['source', 'list']),
      await run(['source', 'show', 'saved']),
      await run(['source', 'test', 'saved']),
      await run(['tables', 'saved']),
      await run(['tables', 'saved', 'public.a']),
    ];
    expect(all.map(({ code }) => code)).toEqual(all.map(() => 0));
    expect(all[3]?.out).toMatch(/password +\*\*\* +from connection/);
    expect(all[4]?.out).toMatch(/^pass {2}server/m);
    expect(all[5]?.out).toMatch(/public\.a +table/);
    expect(all[6]?.out).toMatch(/id +integer +int32 +not null/);
    expect(JSON.stringify(all)).not.toContain(password);
    const used = await run(['connection', 'remove', 'main']);
    expect(used).toMatchObject({ code: 1, err: expect.stringMatching(/IN_USE.*saved/s) });
    await run(['source', 'add', 'wrong', '-c', 'main', 'db_name=src', 'password=nope']);
    const tested = await run(['source', 'test', 'wrong']);
    expect(tested.code).toBe(1);
    expect(tested.out + tested.err).toMatch(/password|LOGIN_REFUSED/);
    expect((await run(['source', 'remove', 'saved'])).code).toBe(0);
    expect((await run(['source', 'show', 'saved'])).err).toContain('NOT_FOUND');
  });

  it('a second start is skipped (4), pause and resume are obeyed, a canceled run is 130 and leaves nothing', async () => {
    const detached = await run(['run', 'slow', '--detach', '-o', 'json']);
    expect(detached.code).toBe(0);
    const again = await run(['run', 'slow']);
    expect(again).toMatchObject({ code: 4, err: expect.stringContaining('ALREADY_RUNNING') });
    const watching = run(['show', 'slow', '--watch']);
    await waitUntil(async () => /running/.test((await run(['show', 'slow'])).out), 20_000);
    expect((await run(['pause', 'slow'])).code).toBe(0);
    expect((await run(['resume', 'slow', '-o', 'json'])).code).toBe(0);
    expect((await run(['cancel', 'slow'])).code).toBe(0);
    const ended = await watching;
    expect(ended.out).toMatch(/Run slow\/\d+ canceled/);
    expect(ended.code).toBe(130);
    const left = existsSync(join(files, 'slow'))
      ? readdirSync(join(files, 'slow'), { recursive: true }).filter((name) => /part-/.test(String(name)))
      : [];
    expect(left).toEqual([]);
  });

  const python = spawnSync('python3', ['-c', 'import pty']).status === 0;
  it.skipIf(!python)('Ctrl-C in a terminal asks: Enter detaches, the run goes on; cancel cancels', async () => {
    const terminal = (orders: string[]) =>
      new Promise<{ code: number; out: string }>((resolve) => {
        const script = fileURLToPath(new URL('./terminal.py', import.meta.url));
        const args = [script, process.execPath, join(projectFolder, 'cli', 'main.ts'), 'run', 'slow'];
        const child = execFile('python3', args, { env: { ...env, TERM: 'xterm', COLUMNS: '140' } }, (error, out) =>
          resolve({ code: error ? Number(error.code) : 0, out }),
        );
        child.stdin?.end(`${orders.join('\n')}\n`);
      });
    const open = ['expect running', 'expect public.slow', 'send \\x03', 'expect Detach'];
    const numberOf = async () =>
      String(jsonLines((await run(['runs', 'slow', '-n', '1', '-o', 'json'])).out)[0]?.number);
    const detached = await terminal([...open, 'send \\r']);
    const first = await numberOf();
    expect(detached.out).toContain(`Detached; slow/${first} goes on`);
    expect(detached.code).toBe(0);
    expect((await run(['show', 'slow'])).out).toContain(`Run slow/${first} running`);
    await run(['cancel', 'slow']);
    expect((await run(['show', 'slow', '--watch'])).out).toContain('canceled');

    const canceled = await terminal([...open, 'send \\x1b[B\\x1b[B', 'expect nothing of this run', 'send \\r']);
    expect(canceled.out).toContain(`Run slow/${await numberOf()} canceled`);
    expect(canceled.code).toBe(130);

    const twice = await terminal([...open, 'send \\x03']);
    expect(twice.out).toContain(`Detached; slow/${await numberOf()} goes on`);
    expect(twice.code).toBe(0);
    await run(['cancel', 'slow']);
    await run(['show', 'slow', '--watch']);
  });

  it('a port in use is one sentence, in seconds', async () => {
    const other = newHome();
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const began = performance.now();
    const { code, err } = await godwit(['up'], environment(other.path, { PORT: String(port) }));
    server.close();
    other.remove();
    expect(err).toContain(`PORT_IN_USE: Port ${port} of 127.0.0.1 is used by another program.`);
    expect(err).toContain(`PORT=${port + 1} godwit up`);
    expect(code).toBe(1);
    expect(performance.now() - began).toBeLessThan(10_000);
  });

  it('does not listen beyond loopback without a token', async () => {
    const other = newHome();
    const { code, err } = await godwit(['up'], environment(other.path, { HOST: '0.0.0.0', PORT: '0' }));
    other.remove();
    expect(err).toContain('TOKEN_REQUIRED');
    expect(code).toBe(1);
  });

  it('a killed one leaves nothing that keeps the next from starting; `down` stops it; the data stays', async () => {
    up.child.kill('SIGKILL');
    await up.ended;
    up = await serve();
    expect((await run(['jobs'])).out).toMatch(/good +1 +good\/2/);
    const down = await run(['down']);
    expect(down.out).toMatch(/Stopped Godwit \(process \d+\)/);
    expect((await up.ended).code).toBe(0);
    expect(existsSync(join(home.path, 'state.json'))).toBe(false);
    // No Godwit serves now: the command brings its own.
    const alone = await run(['runs', 'good', '-n', '1']);
    expect(alone.out).toMatch(/good\/2 +succeeded/);
    const detach = await run(['run', 'good', '--detach']);
    expect(detach).toMatchObject({ code: 2, err: expect.stringContaining('godwit up') });
    const purged = await run(['down', '--purge', '--yes']);
    expect(purged.code).toBe(0);
    expect(existsSync(join(home.path, 'postgres'))).toBe(false);
    expect(existsSync(join(home.path, 'key'))).toBe(false);
  });
});
