import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { missing } from '../servers/shared.ts';
import { type Installation, install, mappingOf } from './installation.ts';

type Parameter = { name: string; in: string; required?: boolean; schema: object };
type Operation = {
  operationId: string;
  tags: string[];
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { schema: object }> };
  responses: Record<string, { description: string }>;
};
type Document = { openapi: string; paths: Record<string, Record<string, Operation>>; components: { schemas: object } };

describe.skipIf((await missing('postgres')) || (await missing('temporal')))('the contract', () => {
  let godwit: Installation;
  let document: Document;
  let operations: { path: string; method: string; operation: Operation }[];
  beforeAll(async () => {
    godwit = await install({ probeMs: 1_000, updateMs: 1_000 });
    document = (await godwit.request<Document>('GET', '/api/openapi.json')).body;
    operations = Object.entries(document.paths).flatMap(([path, byMethod]) =>
      Object.entries(byMethod).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
    );
    await godwit.request('POST', '/api/jobs', mappingOf('shop'));
  });
  afterAll(() => godwit[Symbol.asyncDispose]());

  test('the OpenAPI document is sound: references lead somewhere, parameters are declared, schemas compile', () => {
    expect(document.openapi).toBe('3.1.0');
    expect(operations.length).toBeGreaterThan(40);
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { path, operation } of operations) {
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();
      const declared = (operation.parameters ?? []).filter((one) => one.in === 'path');
      expect([path, declared.map(({ name }) => name).sort()]).toEqual([path, inPath]);
      expect(declared.every(({ required }) => required)).toBe(true);
      expect(Object.keys(operation.responses)).toContain('default');
    }
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)].map(([, to]) => to as string);
    expect(references.length).toBeGreaterThan(20);
    for (const to of references) {
      const found = to
        .split('/')
        .reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], document);
      expect([to, typeof found]).toEqual([to, 'object']);
    }
    for (const { operation } of operations) {
      for (const { schema } of Object.values(operation.requestBody?.content ?? {})) compile(document, schema);
      for (const { schema } of operation.parameters ?? []) compile(document, schema);
    }
  });

  test('answers are of the shape the document says', async () => {
    const job = compile(document, { $ref: '#/components/schemas/Job' });
    const { body } = await godwit.request('GET', '/api/jobs/shop');
    expect(job.safeParse(body).error).toBeUndefined();
    expect(job.safeParse({ ...body, version: 'one' }).success).toBe(false);
    const problem = compile(document, { $ref: '#/components/schemas/Problem' });
    expect(problem.safeParse((await godwit.request('GET', '/api/jobs/none')).body).error).toBeUndefined();
  });

  test('every route refuses unknown keys, in the query and in the body, and says which were meant', async () => {
    const fill = (path: string) =>
      path
        .replace('{id}', crypto.randomUUID())
        .replace('{ordinal}', '1')
        .replace('{number}', '1')
        .replace('{table}', 'public.orders')
        .replace('{name}', 'shop');
    const open = new Set(['/healthz', '/readyz']);
    for (const { path, method, operation } of operations) {
      if (open.has(path)) continue;
      const queried = await godwit.request(method, `${fill(path)}?unkown=1`);
      expect([method, path, queried.status]).toEqual([method, path, 400]);
      expect(queried.text).toContain('unkown');
      if (!operation.requestBody) continue;
      const bodied = await godwit.request(method, fill(path), { unkown: 1 });
      expect([method, path, [400, 422].includes(bodied.status)]).toEqual([method, path, true]);
      expect(bodied.text).toContain('unkown');
    }
    const near = await godwit.request('GET', '/api/runs?statuss=failed');
    expect(near.text).toContain('did you mean');
  });

  test('odd input of any kind is answered by a problem below 500', async () => {
    const odd = [
      '',
      '%00',
      '%ff',
      "'",
      'a'.repeat(190),
      '-1',
      '1e9',
      '99999999999999999999',
      '..%2f',
      '%F0%9F%98%80',
      '{}',
    ];
    const allowed = new Set([400, 401, 404, 405, 409, 413, 422, 503]);
    for (const { path, method } of operations) {
      if (!/\{/.test(path)) continue;
      for (const value of odd) {
        const at = path.replaceAll(/\{\w+\}/g, value);
        for (const body of method === 'GET' || method === 'DELETE'
          ? [undefined]
          : [undefined, [], null, 'a: [', { a: { b: [] } }]) {
          const answer = await godwit.request(method, at, body);
          expect([method, at, body, answer.status]).toEqual([
            method,
            at,
            body,
            expect.toSatisfy((s: number) => s < 300 || allowed.has(s)),
          ]);
          if (answer.status >= 400) expect((answer.body as { code?: string }).code).toBeTypeOf('string');
        }
      }
    }
    for (const text of [
      'limit=x',
      'limit=0',
      'cursor=WyJhIl0',
      'cursor=WzFd',
      'since=yesterday',
      'until=2024-13-01T00:00:00Z',
      'cursor=WyJ4IiwieSJd',
    ]) {
      for (const path of ['/api/runs', '/api/jobs/shop/runs', `/api/runs/${crypto.randomUUID()}/events`]) {
        expect((await godwit.request('GET', `${path}?${text}`)).status).toBeLessThan(500);
      }
    }
  });

  test('without a token only this machine may call, under its own name and from its own pages', async () => {
    const ask = async (headers: Record<string, string>, path = '/api/jobs') =>
      (await godwit.request('GET', path, undefined, headers)).status;
    expect(await ask({ host: 'localhost:8321' })).toBe(200);
    expect(await ask({ host: '[::1]:8321' })).toBe(200);
    expect(await ask({ host: 'evil.example' })).toBe(401);
    expect(await ask({ host: '127.0.0.1.evil.example' })).toBe(401);
    expect(await ask({ host: 'evil.example' }, '/metrics')).toBe(401);
    expect(await ask({ host: 'localhost:8321', origin: 'http://localhost:8321' })).toBe(200);
    expect(await ask({ host: 'localhost:8321', origin: 'http://evil.example' })).toBe(401);
    expect(await ask({ host: 'localhost:8321', origin: 'null' })).toBe(401);
    expect(await ask({ host: 'evil.example' }, '/healthz')).toBe(200);
  });

  test('health, metrics and docs; nothing on the page comes from elsewhere', async () => {
    expect((await godwit.request('GET', '/healthz')).body).toEqual({ ok: true });
    const ready = await godwit.request<{ checks: Record<string, { ok: boolean }> }>('GET', '/readyz');
    expect([
      ready.status,
      ready.body.checks.database?.ok,
      ready.body.checks.temporal?.ok,
      ready.body.checks.worker?.ok,
    ]).toEqual([503, true, true, false]);
    const metrics = await godwit.request('GET', '/metrics');
    expect(metrics.text).toContain('godwit_http_request_seconds_count{method="GET",route="/api/jobs/:name"');
    const page = await godwit.request('GET', '/api/docs');
    expect(page.headers.get('content-type')).toContain('text/html');
    expect(page.text).toContain('startRun');
    expect(page.text).not.toMatch(/<script|https?:\/\//);
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'");
  });
});

describe.skipIf((await missing('postgres')) || (await missing('temporal')))('with a token', () => {
  test('only who knows it is answered, by any name', async () => {
    await using godwit = await install({ token: 'pw-of-the-api' });
    const ask = async (authorization?: string) =>
      (
        await godwit.request('GET', '/api/jobs', undefined, {
          host: 'godwit.example',
          ...(authorization ? { authorization } : {}),
        })
      ).status;
    expect(await ask()).toBe(401);
    expect(await ask('Bearer wrong')).toBe(401);
    expect(await ask('Bearer pw-of-the-ap')).toBe(401);
    expect(await ask('Bearer pw-of-the-api')).toBe(200);
  });
});

/** Throws when it is no JSON Schema. */
const compile = ({ components }: Document, schema: object) => {
  const text = JSON.stringify({ ...schema, $defs: components.schemas }).replaceAll('#/components/schemas/', '#/$defs/');
  return z.fromJSONSchema(JSON.parse(text));
};
