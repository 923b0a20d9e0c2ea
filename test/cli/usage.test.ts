import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { systemWords } from '../../cli/systems.ts';
import { systems } from '../../mapping/endpoints.ts';
import { environment, godwit, jsonLines, newHome } from './godwit.ts';

const home = newHome();
afterAll(() => home.remove());
/** Commands here must end before anything is started: an address where nothing listens. */
const env = environment(home.path, { GODWIT_URL: 'http://127.0.0.1:9' });

describe('the command line', () => {
  it('helps within a blink', async () => {
    // 140 ms on a quiet machine, against 40 ms of Node alone; as a ratio it holds on a busy one too.
    const timed = async (run: () => Promise<unknown>) => {
      const began = performance.now();
      await run();
      return performance.now() - began;
    };
    const bareEnv = { ...env, NODE_COMPILE_CACHE: undefined };
    const help: number[] = [];
    const bare: number[] = [];
    for (let i = 0; i < 5; i++) {
      bare.push(await timed(() => promisify(execFile)(process.execPath, ['-e', '0'])));
      help.push(
        await timed(async () => expect((await godwit(['--help'], bareEnv)).out).toContain('godwit run shop.yaml')),
      );
    }
    expect(Math.min(...help) / Math.min(...bare)).toBeLessThan(6);
  });

  it.each([
    [['jobz'], /did you mean one of job, jobs/i],
    [['run'], /missing required argument/],
    [['jobs', '--wat'], /unknown option/],
    [['jobs', '-o', 'xml'], /Allowed choices are text, json/],
    [['run', 'shop', '--watch', '--detach'], /opposites/],
    [['run', 'shop', '--full', '--from', '1'], /--full loads the table again/],
    [['run', 'shop', '--where', 'nonsense'], /--where is col=value/],
    [['runs', '--since', 'yesterday'], /--since is a date/],
    [['runs', '--since', '2026-02-31'], /--since is a date/],
    [['notify', 'log', '--limit', 'x'], /--limit is a whole number/],
    [['notify', 'add', 'x', '-t', 'webhook', 'url=@/nowhere/at/all'], /\/nowhere\/at\/all cannot be read/],
    [['quarantine', 'waive', 'shop/1'], /Say why/],
    [['import'], /Give a Python file/],
    [['import', 'shop.yaml'], /ends in \.py/],
    [['import', 'shop.py', '--state', 'x.json'], /--state stands alone/],
    [['source', 'add', 'x'], /--type/],
    [['source', 'add', 'x', '-t', 'pgsql', 'nonsense'], /write key=value/],
    [['completion', 'tcsh'], /no shell known here/],
    [['down', '--purge'], /--yes/],
    [[], /Usage: godwit/],
  ])('%j is wrong usage: exit 2', async (args, said) => {
    const { code, out, err } = await godwit(args, env);
    expect(out + err).toMatch(said);
    expect(code).toBe(2);
  });

  it('says where a mapping is wrong before it asks anybody', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'godwit-mapping-'));
    const file = join(folder, 'bad.yaml');
    writeFileSync(file, 'source: x\ntables:\n  - { table_name: t, mod: replace }\n');
    const { code, err } = await godwit(['run', file], environment(home.path));
    expect(err).toContain(`${file}:3:22 tables[0].mod: unknown key "mod"; did you mean "mode"?`);
    expect(code).toBe(2);
  });

  it('evaluates a TypeScript mapping, resolves env: in the own shell, and sends neither file nor name of a variable', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'godwit-mapping-'));
    writeFileSync(
      join(folder, 'shop.ts'),
      `const tables: { table_name: string; mode: 'replace' }[] = [{ table_name: 't', mode: 'replace' }];
export default () => ({
  source: { source_type: 'pgsql', url: 'h/d', password: 'env:SHOP_PASSWORD' },
  destination: { lake: { destination_type: 'files', path: './lake' } },
  tables,
});`,
    );
    const seen: { path: string; body: Record<string, unknown> }[] = [];
    const server = createServer((request, answer) => {
      let body = '';
      request.on('data', (bytes) => (body += bytes));
      request.on('end', () => {
        if (request.method === 'PUT') seen.push({ path: request.url ?? '', body: JSON.parse(body) });
        answer.setHeader('content-type', 'application/json').end('{"name":"shop","version":1}');
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const at = { ...env, GODWIT_URL: url };
    const without = await godwit(['apply', './shop.ts'], at, folder);
    const { code } = await godwit(['apply', './shop.ts'], { ...at, SHOP_PASSWORD: 'p-1' }, folder);
    server.close();
    expect(without).toMatchObject({
      code: 1,
      err: expect.stringMatching(/SECRET_UNRESOLVED.*SHOP_PASSWORD is not set/),
    });
    expect(code).toBe(0);
    expect(seen).toEqual([
      {
        path: '/api/jobs/shop',
        body: {
          name: 'shop',
          source: { source_type: 'pgsql', url: 'h/d', password: 'p-1' },
          destination: { lake: { destination_type: 'files', path: join(folder, 'lake') } },
          tables: [{ table_name: 't', mode: 'replace' }],
        },
      },
    ]);
  });

  it('says none for none, and writes a file of rows set aside anew', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'godwit-said-'));
    const answers: Readonly<Record<string, string>> = {
      '/api/settings': '{"items":[{"name":"keep_runs","value":null,"from":"default"}]}',
      '/api/runs': '{"items":[]}',
      '/api/jobs/shop/runs/1': '{"id":"r","job":"shop","number":1,"status":"succeeded","notes":[]}',
      '/api/runs/r/tables': '{"items":[]}',
      '/api/runs/r/quarantine/export': '{"id":1}\n',
    };
    const server = createServer((request, answer) => {
      answer.end(answers[(request.url ?? '').split('?')[0] ?? ''] ?? '{}');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const at = { ...env, GODWIT_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
    const file = join(folder, 'bad.ndjson');
    const [settings, runs, none] = await Promise.all(
      [['settings'], ['runs', '--table', 'nothing'], ['runs']].map((args) => godwit(args, at)),
    );
    for (let i = 0; i < 2; i++) {
      expect((await godwit(['quarantine', 'export', 'shop/1', '--file', file], at)).code).toBe(0);
    }
    server.close();
    expect(settings?.out).toMatch(/keep_runs +none +default/);
    expect([runs?.out, none?.out]).toEqual(['No run is of that kind.\n', 'There is no run yet.\n']);
    expect(readFileSync(file, 'utf8')).toBe('{"id":1}\n');
  });

  it('says in one sentence that nothing answers, as JSON too', async () => {
    const text = await godwit(['jobs'], env);
    expect(text).toMatchObject({ code: 1, out: '' });
    expect(text.err).toMatch(
      /^CONNECTION_FAILED: The Godwit API at GODWIT_URL \(http:\/\/127\.0\.0\.1:9\) does not answer\./,
    );
    const json = await godwit(['jobs', '--output', 'json'], env);
    expect(jsonLines(json.out)).toEqual([
      expect.objectContaining({ type: 'error', code: 'CONNECTION_FAILED', fix: expect.any(String) }),
    ]);
  });

  it('names a wrong variable', async () => {
    const { code, err } = await godwit(['jobs'], { ...env, PORT: 'http' });
    expect(err).toMatch(/SETTINGS_INVALID: Wrong environment: PORT/);
    expect(code).toBe(2);
  });

  it('gives completions that a shell takes', async () => {
    const { out } = await godwit(['completion', 'bash'], env);
    const script = `${out}\nCOMP_WORDS=(godwit source a); COMP_CWORD=2; _godwit; echo "\${COMPREPLY[@]}"; COMP_WORDS=(godwit ru); COMP_CWORD=1; _godwit; echo "\${COMPREPLY[@]}"`;
    const { stdout } = await promisify(execFile)('bash', ['-c', script]);
    expect(stdout.split('\n').slice(0, 2)).toEqual(['add', 'run runs']);
    expect((await godwit(['completion', 'fish'], env)).out).toContain('complete -c godwit');
  });

  it('completes the systems that there are', async () => {
    const { out } = await godwit(['completion', 'bash'], env);
    const script = `${out}\nCOMP_WORDS=(godwit source add x -t my); COMP_CWORD=5; _godwit; echo "\${COMPREPLY[@]}"`;
    expect((await promisify(execFile)('bash', ['-c', script])).stdout.trim()).toBe('mysql');
    expect([...systemWords].sort()).toEqual(Object.keys(systems).sort());
  });

  it('gives a JSON Schema of the mapping', async () => {
    const { out } = await godwit(['schema'], env);
    expect(JSON.parse(out)).toMatchObject({ title: "Godwit's mapping", properties: { tables: { type: 'array' } } });
  });
});
