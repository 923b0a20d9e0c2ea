import { setTimeout as sleep } from 'node:timers/promises';
import { eq } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import { startApi } from '../../api/server.ts';
import { appendEvent } from '../../db/events.ts';
import { createRun } from '../../db/runs.ts';
import { runs, runTables } from '../../db/schema.ts';
import { missing } from '../servers/shared.ts';
import { type Installation, install, mappingOf } from './installation.ts';

type Message = { type: string; run: string; value: Record<string, unknown>; code?: string };

describe.skipIf((await missing('postgres')) || (await missing('temporal')))('the server', () => {
  let godwit: Installation;
  beforeAll(async () => {
    godwit = await install();
  });
  afterAll(() => godwit[Symbol.asyncDispose]());
  const start = (more: object = {}) =>
    startApi({
      ...godwit,
      config: { ...godwit.config, port: 0, host: '127.0.0.1', ...more },
      log: godwit.deps.log,
      codec: { path: '/codec/unguessable', origin: 'http://localhost:8233' },
    });

  test('a port in use and a listener without a token are refused in words', async () => {
    await using api = await start();
    await expect(start({ port: api.port })).rejects.toMatchObject({ code: 'PORT_IN_USE' });
    await expect(start({ host: '0.0.0.0' })).rejects.toMatchObject({ code: 'TOKEN_REQUIRED' });
    await using open = await start({ host: '0.0.0.0', token: 'pw' });
    expect((await fetch(`http://127.0.0.1:${open.port}/api/jobs`)).status).toBe(401);
    expect((await fetch(`http://127.0.0.1:${open.port}/healthz`)).status).toBe(200);
  });

  test("the codec endpoint answers Temporal's UI under its secret path alone", async () => {
    await using api = await start();
    const body = JSON.stringify({ payloads: [] });
    const decode = (path: string) =>
      fetch(`${api.url}${path}`, { method: 'POST', body, headers: { origin: 'http://localhost:8233' } });
    expect((await decode('/codec/unguessable/decode')).status).toBe(200);
    expect((await decode('/codec/guessed/decode')).status).toBe(404);
    const preflight = await fetch(`${api.url}/codec/unguessable/decode`, {
      method: 'OPTIONS',
      headers: { origin: 'http://localhost:8233' },
    });
    expect(preflight.headers.get('access-control-allow-origin')).toBe('http://localhost:8233');
  });

  test('/ws pushes what changes of the runs asked for, and only of those', async () => {
    await using api = await start();
    await godwit.request('POST', '/api/jobs', mappingOf('pushed'));
    const { rows } = await godwit.database.pool.query<{ id: string }>(
      "SELECT id FROM godwit.jobs WHERE name = 'pushed'",
    );
    const make = async () => {
      const { run } = await createRun(godwit.db, {
        jobId: rows[0]?.id as string,
        workflowId: (job, number) => `${job}/${number}/${crypto.randomUUID()}`,
        trigger: 'api',
        allowActive: true,
      });
      return run.id;
    };
    const [mine, other] = [await make(), await make()];
    const socket = new WebSocket(`${api.url.replace('http', 'ws')}/ws`);
    const got: Message[] = [];
    socket.on('message', (data) => got.push(JSON.parse(String(data)) as Message));
    await new Promise((resolve) => socket.once('open', resolve));
    const until = async (what: (message: Message) => boolean) => {
      const began = performance.now();
      while (!got.some(what)) {
        if (performance.now() - began > 20_000) throw new Error(`never came; got ${JSON.stringify(got)}`);
        await sleep(10);
      }
      return performance.now() - began;
    };
    socket.send('{"type":"subscribe","run":"nobody"}');
    await until((message) => message.type === 'problem');
    socket.send(JSON.stringify({ type: 'subscribe', run: mine }));
    await until((message) => message.type === 'subscribed');
    await until((message) => message.type === 'run' && message.value.status === 'queued');
    await appendEvent(godwit.db, { runId: other, kind: 'run.started', message: 'not mine' });
    await appendEvent(godwit.db, { runId: mine, kind: 'run.started', message: 'mine' });
    expect(await until((message) => message.type === 'event')).toBeLessThan(2_000);
    await godwit.db.insert(runTables).values({
      runId: mine,
      ordinal: 1,
      target: 'w',
      sourceName: 'public.a',
      targetName: 'public.a',
      mode: 'replace',
      lane: 'direct',
      component: 1,
    });
    await until((message) => message.type === 'table' && message.value.rowsWritten === 0);
    await godwit.db.update(runTables).set({ rowsWritten: 5, updatedAt: new Date() }).where(eq(runTables.runId, mine));
    await until((message) => message.type === 'table' && message.value.rowsWritten === 5);
    await godwit.db.update(runs).set({ status: 'succeeded', endedAt: new Date() }).where(eq(runs.id, mine));
    await until((message) => message.type === 'run' && message.value.status === 'succeeded');
    expect(got.filter((message) => message.run === other)).toEqual([]);
    expect(got.filter((message) => message.type === 'event')).toHaveLength(1);
    const closed = new Promise<number>((resolve) => socket.once('close', resolve));
    await api.stop();
    expect(await closed).toBe(1001);
  });

  test('/ws knows strangers', async () => {
    await using api = await start({ token: 'pw' });
    const open = (headers: Record<string, string>, protocols: string[] = []) =>
      new Promise<string>((resolve) => {
        const socket = new WebSocket(`${api.url.replace('http', 'ws')}/ws`, protocols, { headers });
        socket.once('open', () => {
          socket.close();
          resolve('open');
        });
        socket.once('unexpected-response', (_request, response) => resolve(String(response.statusCode)));
        socket.once('error', () => {});
      });
    expect(await open({})).toBe('401');
    expect(await open({ authorization: 'Bearer pw' })).toBe('open');
    expect(await open({}, ['bearer.pw'])).toBe('open');
    await using local = await start();
    const socket = new WebSocket(`${local.url.replace('http', 'ws')}/ws`, {
      headers: { origin: 'http://evil.example' },
    });
    socket.once('error', () => {});
    const status = await new Promise((resolve) => socket.once('unexpected-response', (_q, r) => resolve(r.statusCode)));
    expect(status).toBe(401);
  });
});
