import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createRun } from '../../db/runs.ts';
import { missing } from '../servers/shared.ts';
import { type Installation, install, mappingOf } from './installation.ts';

type Problem = { code: string; detail: string; fix: string; status: number; problems?: { path: string }[] };
type Named = { name: string; settings: Record<string, unknown>; secretNames: string[]; connection: string | null };

describe.skipIf((await missing('postgres')) || (await missing('temporal')))('the resources', () => {
  let godwit: Installation;
  beforeAll(async () => {
    godwit = await install();
  });
  afterAll(() => godwit[Symbol.asyncDispose]());
  const ask = <T = Record<string, unknown>>(...args: Parameters<Installation['request']>) => godwit.request<T>(...args);

  test('a connection is made, shown without its secrets, changed and removed', async () => {
    const settings = { url: 'postgresql://u:pw-in-url@db.example:5433/shop?sslmode=require' };
    const made = await ask<Named>('POST', '/api/connections', { name: 'main', type: 'pgsql', settings });
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({ name: 'main', secretNames: ['password'] });
    expect(made.body.settings).toEqual({
      host: 'db.example',
      port: 5433,
      username: 'u',
      db_name: 'shop',
      sslmode: 'require',
    });
    expect(made.text).not.toContain('pw-in-url');

    const twice = await ask<Problem>('POST', '/api/connections', { name: 'main', type: 'pgsql', settings });
    expect([twice.status, twice.body.code]).toEqual([409, 'ALREADY_EXISTS']);
    expect(twice.headers.get('content-type')).toContain('application/problem+json');

    const changed = await ask<Named>('PUT', '/api/connections/main', { settings: { host: 'other.example' } });
    expect(changed.body).toMatchObject({ settings: { host: 'other.example' }, secretNames: ['password'] });
    const forgotten = await ask<Named>('PUT', '/api/connections/main', { settings: { password: null } });
    expect(forgotten.body).toMatchObject({ settings: {}, secretNames: [] });
    expect((await ask('DELETE', '/api/connections/main')).status).toBe(204);
    expect((await ask<Problem>('GET', '/api/connections/main')).body.code).toBe('NOT_FOUND');
  });

  test('wrong settings are named with what was meant, and never quoted', async () => {
    const wrong = { hots: 'db', port: 99_999_999, password: 12345678 };
    const answer = await ask<Problem>('POST', '/api/connections', { name: 'w', type: 'pgsql', settings: wrong });
    expect([answer.status, answer.body.code]).toEqual([422, 'SETTINGS_INVALID']);
    expect(answer.body.detail).toContain('did you mean "host"');
    expect(answer.body.problems?.map(({ path }) => path).sort()).toEqual([
      'settings.hots',
      'settings.password',
      'settings.port',
    ]);
    expect(answer.text).not.toContain('12345678');
    const typo = await ask<Problem>('POST', '/api/connections', { name: 'w', type: 'pgsq', settings: {} });
    expect(typo.body.detail).toContain('did you mean "pgsql"');
    const file = await ask<Problem>('POST', '/api/sources', { name: 'w', type: 'files', settings: { path: './x' } });
    expect(file.body.code).toBe('SETTINGS_INVALID');
  });

  test('a source inherits from its connection and overrides it; explain says which level set what', async () => {
    const settings = { url: 'postgresql://u@one.example/shop', password: 'pw-one', sslmode: 'require' };
    await ask('POST', '/api/connections', { name: 'one', type: 'pgsql', settings });
    const made = await ask<Named>('POST', '/api/sources', {
      name: 'shop',
      connection: 'one',
      settings: { db_name: 'shop2', password: 'pw-two' },
    });
    expect(made.body).toMatchObject({ connection: 'one', type: 'pgsql', settings: { db_name: 'shop2' } });
    const { body } = await ask<{ settings: object[] }>('GET', '/api/sources/shop/explain');
    expect(body.settings).toEqual([
      { setting: 'connect_timeout', value: 10, from: 'default', secret: false },
      { setting: 'db_name', value: 'shop2', from: 'source', secret: false, overrides: 'shop' },
      { setting: 'host', value: 'one.example', from: 'connection', secret: false },
      { setting: 'password', value: '***', from: 'source', secret: true, overrides: '***' },
      { setting: 'port', value: 5432, from: 'default', secret: false },
      { setting: 'sslmode', value: 'require', from: 'connection', secret: false, overrides: 'prefer' },
      { setting: 'username', value: 'u', from: 'connection', secret: false },
    ]);
    const used = await ask<Problem>('DELETE', '/api/connections/one');
    expect([used.status, used.body.code]).toEqual([409, 'IN_USE']);
    expect(used.body.detail).toContain('source shop');
    const none = await ask<Problem>('POST', '/api/targets', { name: 't', connection: 'nothing', type: 'pgsql' });
    expect(none.body.code).toBe('NOT_FOUND');
  });

  test('a mapping becomes a job; the same again changes nothing; another document is a new version', async () => {
    const mapping = mappingOf('shop-a');
    const made = await ask('POST', '/api/jobs', mapping);
    expect([made.status, made.body.outcome, made.body.version]).toEqual([201, 'created', 1]);
    expect(made.text).not.toContain('pw-of-source');
    const again = await ask('POST', '/api/jobs', mapping);
    expect([again.status, again.body.outcome, again.body.version]).toEqual([200, 'unchanged', 1]);
    const yaml = `name: shop-a\nsource: {source_type: pgsql, url: "postgresql://reader@127.0.0.1:1/shop", password: x}
destination: {warehouse: {destination_type: pgsql, url: "postgresql://writer@127.0.0.1:1/dwh", schema: public}}
tables: [{table_name: public.orders, mode: dumping}]`;
    const changed = await ask('PUT', '/api/jobs/shop-a', yaml);
    expect([changed.status, changed.body.outcome, changed.body.version]).toEqual([200, 'updated', 2]);
    const versions = await ask<{ items: { version: number }[] }>('GET', '/api/jobs/shop-a/versions');
    expect(versions.body.items.map(({ version }) => version)).toEqual([2, 1]);
    // What is written inside a mapping belongs to its job.
    const inline = await ask<Named>('GET', '/api/sources/shop-a%2Fsource');
    expect(inline.body).toMatchObject({ job: 'shop-a', secretNames: ['password'] });
    expect((await ask<Problem>('DELETE', '/api/sources/shop-a%2Fsource')).body.code).toBe('CONFLICT');
    const names = await ask<{ items: Named[] }>('GET', '/api/sources');
    expect(names.body.items.map(({ name }) => name)).not.toContain('shop-a/source');
  });

  test('a target that left the mapping is gone, a rename keeps the uid, a removed job takes its own along', async () => {
    const two = mappingOf('shop-b', {
      destination: { a: { destination_type: 'files', path: './a' }, b: { destination_type: 'files', path: './b' } },
    });
    const made = await ask('POST', '/api/jobs', two);
    await ask(
      'POST',
      '/api/jobs',
      mappingOf('shop-b', { destination: { a: { destination_type: 'files', path: './a' } } }),
    );
    expect((await ask('GET', '/api/targets/shop-b%2Fb')).status).toBe(404);
    const renamed = await ask('PUT', '/api/jobs/shop-b', mappingOf('shop-c'));
    expect([renamed.body.name, renamed.body.uid, renamed.body.version]).toEqual(['shop-c', made.body.uid, 3]);
    expect((await ask('GET', '/api/targets/shop-c%2Fwarehouse')).status).toBe(200);
    expect((await ask('GET', '/api/sources/shop-b%2Fsource')).status).toBe(404);
    await ask('POST', '/api/jobs', mappingOf('taken'));
    expect((await ask<Problem>('PUT', '/api/jobs/shop-c', mappingOf('taken'))).body.code).toBe('ALREADY_EXISTS');
    expect((await ask('DELETE', '/api/jobs/shop-c')).status).toBe(204);
    expect((await ask('GET', '/api/sources/shop-c%2Fsource')).status).toBe(404);
  });

  test('a job by saved names holds them: they cannot be removed or renamed; defaults come from them', async () => {
    await ask('POST', '/api/sources', { name: 's1', type: 'pgsql', settings: { url: 'postgresql://u@h/erp' } });
    await ask('POST', '/api/targets', { name: 't1', type: 'pgsql', settings: { url: 'postgresql://u@h/dwh' } });
    const job = await ask<{ document: { targets: object } }>('POST', '/api/jobs', {
      name: 'saved',
      source: 's1',
      destination: { out: 't1' },
      tables: [{ table_name: 'a', mode: 'replace' }],
    });
    expect(job.body.document.targets).toEqual({ out: { target: 't1', schema: 'sql_erp_dms', table: '{table}' } });
    for (const [method, body] of [['DELETE'], ['PUT', { name: 's2' }]] as const) {
      const refused = await ask<Problem>(method, '/api/sources/s1', body);
      expect([refused.body.code, refused.body.detail]).toEqual(['IN_USE', expect.stringContaining('job saved')]);
    }
    expect((await ask<Problem>('DELETE', '/api/targets/t1')).body.code).toBe('IN_USE');
    const unknown = { name: 'x', source: 'nosuch', tables: [{ table_name: 'a', mode: 'replace' }] };
    expect((await ask<Problem>('POST', '/api/jobs', unknown)).body.code).toBe('NOT_FOUND');
    expect((await ask('GET', '/api/jobs/x')).status).toBe(404);
  });

  test('a wrong mapping says every place at once', async () => {
    const wrong = mappingOf('bad', { tabels: [], tables: [{ table_name: 'a', mode: 'replce' }] });
    const answer = await ask<Problem>('POST', '/api/jobs', wrong);
    expect([answer.status, answer.body.code]).toEqual([422, 'MAPPING_INVALID']);
    expect(answer.body.problems?.map(({ path }) => path)).toEqual(expect.arrayContaining(['tabels', 'tables[0].mode']));
    expect(answer.body.detail).toContain('did you mean "tables"');
    const yaml = await ask<Problem & { problems: { line: number }[] }>('PUT', '/api/jobs/bad', 'name: bad\ntables: [');
    expect([yaml.body.code, yaml.body.problems[0]?.line]).toEqual(['MAPPING_INVALID', 2]);
  });

  test('runs are listed newest first, page by page, each once; filters hold', async () => {
    await ask('POST', '/api/jobs', mappingOf('many'));
    const { rows } = await godwit.database.pool.query<{ id: string }>("SELECT id FROM godwit.jobs WHERE name = 'many'");
    const jobId = rows[0]?.id as string;
    const made: number[] = [];
    for (let i = 0; i < 23; i++) {
      const workflowId = () => `none-${crypto.randomUUID()}`;
      const { run } = await createRun(godwit.db, { jobId, workflowId, trigger: 'api', allowActive: true });
      made.push(run.number);
    }
    // The same instant for some: the order must still be total.
    await godwit.database.pool.query(
      "UPDATE godwit.runs SET created_at = date_trunc('second', created_at), status = CASE WHEN number % 2 = 0 THEN 'failed' ELSE 'succeeded' END WHERE job_id = $1",
      [jobId],
    );
    type List = { items: { number: number; status: string }[]; next?: string };
    const seen: number[] = [];
    let next: string | undefined;
    do {
      const query: string = `/api/runs?job=many&limit=5${next ? `&cursor=${next}` : ''}`;
      const page = await ask<List>('GET', query);
      expect(page.status).toBe(200);
      seen.push(...page.body.items.map(({ number }) => number));
      next = page.body.next;
    } while (next);
    expect(seen.toSorted((a, b) => a - b)).toEqual(made);
    const failed = await ask<List>('GET', '/api/jobs/many/runs?status=failed,partial&limit=500');
    expect(failed.body.items.map(({ number }) => number).every((number) => number % 2 === 0)).toBe(true);
    expect(failed.body.items).toHaveLength(11);
    expect((await ask<Problem>('GET', '/api/runs?cursor=abc')).body.code).toBe('USAGE');
    expect((await ask<Problem>('GET', '/api/runs?limit=501')).status).toBe(400);
    expect((await ask<Problem>('GET', '/api/runs?status=faild')).status).toBe(400);
    expect((await ask('GET', '/api/jobs/many/runs/7')).body).toMatchObject({ job: 'many', number: 7 });
  });

  test('what is too large, no JSON, of another type, or nowhere is a problem', async () => {
    const large = await ask<Problem>('POST', '/api/jobs', { name: 'x'.repeat(1_100_000) });
    expect([large.status, large.body.code]).toEqual([413, 'BODY_TOO_LARGE']);
    const json = { 'content-type': 'application/json' };
    expect((await ask<Problem>('POST', '/api/connections', '{"a":', json)).body.code).toBe('USAGE');
    expect((await ask<Problem>('POST', '/api/jobs', '{"a":', json)).body.code).toBe('USAGE');
    const form = { 'content-type': 'text/plain' };
    expect((await ask<Problem>('POST', '/api/jobs', 'name: x', form)).body.code).toBe('USAGE');
    expect((await ask<Problem>('GET', '/api/nothing')).body.code).toBe('NOT_FOUND');
    expect((await ask<Problem>('GET', '/api/runs/not-a-uuid')).status).toBe(400);
    expect((await ask<Problem>('GET', `/api/runs/${crypto.randomUUID()}`)).status).toBe(404);
    for (const name of ['', '../x', 'a b', 'a/b', 'é', 'x'.repeat(64)]) {
      const answer = await ask<Problem>('POST', '/api/connections', { name, type: 'pgsql', settings: {} });
      expect([name, answer.status]).toEqual([name, 400]);
    }
  });
});
