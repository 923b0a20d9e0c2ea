import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eq, sql } from 'drizzle-orm';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { testChannel } from '../../activities/channel.ts';
import { listNotifications, queueNotifications, sendAgain } from '../../db/notifications.ts';
import { notifications, runs, runTables } from '../../db/schema.ts';
import { changeSetting, saveChannel } from '../../db/settings.ts';
import { notifyRound } from '../../worker/notifier.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { install, query } from './installation.ts';
import { httpReceiver, smtpReceiver } from './receivers.ts';

const noServers = (await missing('postgres')) || (await missing('temporal'));
type Godwit = Awaited<ReturnType<typeof install>>;

/** The function that docs/notifications.md gives to receivers. */
async function documentedCheck() {
  const page = readFileSync(new URL('../../docs/notifications.md', import.meta.url), 'utf8');
  const [, code = ''] = /```js\n([\s\S]*?)```/.exec(page) ?? [];
  const folder = await mkdtemp(join(tmpdir(), 'godwit-snippet-'));
  const file = join(folder, 'check.mjs');
  await writeFile(file, code);
  const { isFromGodwit } = (await import(file)) as {
    isFromGodwit: (secret: string, headers: object, body: string) => boolean;
  };
  await rm(folder, { recursive: true, force: true });
  return isFromGodwit;
}

describe.skipIf(noServers)('notifications', () => {
  let godwit: Godwit;
  let deps: Awaited<ReturnType<Godwit['activities']>>['deps'];
  let source: TestDatabase;
  beforeAll(async () => {
    source = await createDatabase();
    await query(
      source.url,
      `CREATE TABLE t (id int PRIMARY KEY, n text); INSERT INTO t VALUES (1, 'a'), (2, 'value-of-a-row')`,
    );
    return () => source.drop();
  });
  beforeEach(async () => {
    godwit = await install({ GODWIT_SECRET_HOOK: 'unused' });
    deps = (await godwit.activities()).deps;
  });
  afterEach(() => godwit[Symbol.asyncDispose]());

  const channel = (name: string, given: Record<string, unknown>) =>
    saveChannel(godwit.db, deps.sealer, { name, given, actor: 'test' });
  const mappingOf = (more: object, password?: string) => ({
    name: 'told',
    source: { source_type: 'pgsql', url: source.url, ...(password ? { password } : {}) },
    destination: { lake: { destination_type: 'files', path: join(godwit.home, 'lake'), schema: 'copy' } },
    tables: [{ table_name: 'public.t', mode: 'replace' }],
    ...more,
  });
  /** An ended run without a workflow, to be told of. */
  const ended = async (set: Partial<typeof runs.$inferInsert> = {}) => {
    const run = await godwit.row(mappingOf({}));
    const times = { startedAt: new Date(Date.now() - 5000), endedAt: new Date() };
    await godwit.db
      .update(runs)
      .set({ status: 'failed', ...times, ...set })
      .where(eq(runs.id, run.id));
    return run;
  };
  const queue = (runId: string, channels: string[], end: 'failed' | 'succeeded' = 'failed') =>
    queueNotifications(godwit.db, { runId, end, attempt: 1, channels });
  const all = async () => (await listNotifications(godwit.db, { limit: 100 })).items;
  const dueNow = () => godwit.db.update(notifications).set({ nextAt: sql`now()` });

  test('a webhook is signed as documented, tried again after 500 and 429, and told once', async () => {
    const isFromGodwit = await documentedCheck();
    await using receiver = await httpReceiver((_taken, before) =>
      before === 0
        ? { status: 500 }
        : before === 1
          ? { status: 429, headers: { 'retry-after': '120' } }
          : { status: 200 },
    );
    const secret = 'signing-secret';
    await channel('hook', { type: 'webhook', url: `${receiver.url}/in?key=k`, secret });
    const run = await ended();
    await queue(run.id, ['hook']);
    await queue(run.id, ['hook']);
    await notifyRound(deps);
    const [first] = await all();
    expect(first).toMatchObject({ status: 'queued', attempts: 1, failure: { code: 'CONNECTION_FAILED' } });
    expect(first?.nextAt.getTime()).toBeGreaterThan(Date.now() + 3000);
    // Not due yet.
    await notifyRound(deps);
    expect(receiver.taken).toHaveLength(1);
    await dueNow();
    await notifyRound(deps);
    const [second] = await all();
    expect(second?.failure?.message).toContain('429');
    expect(second?.nextAt.getTime()).toBeGreaterThan(Date.now() + 100_000);
    await dueNow();
    await notifyRound(deps);
    expect(await all()).toMatchObject([{ status: 'sent', attempts: 3, failure: null }]);
    await dueNow();
    await notifyRound(deps);
    expect(receiver.taken).toHaveLength(3);
    for (const { headers, body, path } of receiver.taken) {
      expect(path).toBe('/in?key=k');
      expect(isFromGodwit(secret, headers, body)).toBe(true);
      expect(isFromGodwit('another', headers, body)).toBe(false);
      expect(isFromGodwit(secret, headers, `${body} `)).toBe(false);
      const late = { ...headers, 'godwit-timestamp': String(Math.floor(Date.now() / 1000) - 3600) };
      expect(isFromGodwit(secret, late, body)).toBe(false);
    }
    expect(new Set(receiver.taken.map(({ headers }) => headers['godwit-id']))).toEqual(new Set([first?.id]));
    const body = JSON.parse(receiver.taken[2]?.body ?? '{}');
    expect(body).toMatchObject({ event: 'failed', run: { job: 'told', number: 1, status: 'failed' } });
    expect(JSON.stringify(await all())).not.toContain('key=k');
  });

  test('a refusal and a redirect end it; who mends the channel sends it again', async () => {
    await using receiver = await httpReceiver((_taken, before) =>
      before === 0
        ? { status: 404 }
        : before === 1
          ? { status: 307, headers: { location: 'http://127.0.0.1:1/elsewhere' } }
          : { status: 204 },
    );
    await channel('hook', { type: 'webhook', url: receiver.url });
    await queue((await ended()).id, ['hook', 'nobody']);
    await notifyRound(deps);
    const found = await all();
    expect(found.map(({ status }) => status)).toEqual(['failed', 'failed']);
    expect(found.find((one) => one.channel === 'hook')?.failure).toMatchObject({ code: 'NOTIFICATION_REFUSED' });
    expect(found.find((one) => one.channel === 'nobody')?.failure).toMatchObject({ code: 'NOT_FOUND' });
    const { id } = found.find((one) => one.channel === 'hook')!;
    await sendAgain(godwit.db, id);
    await notifyRound(deps);
    expect((await all()).find((one) => one.id === id)?.failure?.message).toContain('307');
    await sendAgain(godwit.db, id);
    await notifyRound(deps);
    expect((await all()).find((one) => one.id === id)).toMatchObject({ status: 'sent' });
    await expect(sendAgain(godwit.db, id)).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  test('several workers at once: each notification is sent by one', async () => {
    await using receiver = await httpReceiver(() => ({ status: 200 }));
    await channel('hook', { type: 'webhook', url: receiver.url });
    const ids = await Promise.all(Array.from({ length: 25 }, () => ended()));
    for (const { id } of ids) await queue(id, ['hook']);
    await Promise.all([notifyRound(deps), notifyRound(deps), notifyRound(deps)]);
    expect(receiver.taken).toHaveLength(25);
    expect(new Set(receiver.taken.map(({ headers }) => headers['godwit-id'])).size).toBe(25);
    expect((await all()).every(({ status }) => status === 'sent')).toBe(true);
  });

  test('one that a dead worker had claimed is due again', async () => {
    await using receiver = await httpReceiver(() => ({ status: 200 }));
    await channel('hook', { type: 'webhook', url: receiver.url });
    await queue((await ended()).id, ['hook']);
    await godwit.db.update(notifications).set({ attempts: 1, nextAt: sql`now() - interval '1 second'` });
    await notifyRound(deps);
    expect(await all()).toMatchObject([{ status: 'sent', attempts: 2 }]);
  });

  test("Slack's bot: token, channel, and its errors told apart", async () => {
    const answers = [
      { status: 200, body: '{"ok":false,"error":"internal_error"}' },
      { status: 429, headers: { 'retry-after': '30' }, body: '{"ok":false,"error":"ratelimited"}' },
      { status: 200, body: '{"ok":true}' },
      { status: 200, body: '{"ok":false,"error":"channel_not_found"}' },
    ];
    await using receiver = await httpReceiver((_taken, before) => answers[before] ?? { status: 500 });
    const token = 'xoxb-very-secret';
    await channel('ops', { type: 'slack', slack_token: token, channel: '#data', api_url: `${receiver.url}/api` });
    const failure = {
      code: 'LOGIN_REFUSED',
      message: 'The login <of> "writer" & co was refused.',
      at: new Date().toISOString(),
    };
    await queue((await ended({ failure })).id, ['ops']);
    for (let n = 0; n < 3; n++) {
      await dueNow();
      await notifyRound(deps);
    }
    expect(await all()).toMatchObject([{ status: 'sent', attempts: 3 }]);
    for (const { path, headers } of receiver.taken) {
      expect(path).toBe('/api/chat.postMessage');
      expect(headers.authorization).toBe(`Bearer ${token}`);
    }
    const { channel: where, text } = JSON.parse(receiver.taken[2]?.body ?? '{}');
    expect(where).toBe('#data');
    expect(text).toContain('told/1 failed: LOGIN_REFUSED');
    expect(text).toContain('The login &lt;of&gt; "writer" &amp; co was refused.');
    expect(text).toContain('What to do: Correct the credentials of the connection');
    expect(text).toContain('godwit retry told/1');

    await queue((await ended()).id, ['ops']);
    await notifyRound(deps);
    const [last] = await all();
    expect(last).toMatchObject({ status: 'failed', failure: { message: 'Slack refused: channel_not_found.' } });
    expect(JSON.stringify(await godwit.db.execute(sql`SELECT * FROM godwit.settings`))).not.toContain(token);
  });

  test('what is mended in the mapping is run anew, for a retry goes by the old one', async () => {
    await using receiver = await httpReceiver(() => ({ status: 200 }));
    await channel('ops', { type: 'slack', webhook_url: receiver.url });
    const broken = mappingOf({ tables: [{ table_name: 'public.t', mode: 'replace', columns: ['id', 'nothing'] }] });
    await using _worker = await godwit.work();
    await expect((await godwit.begin(broken)).result()).rejects.toThrow();
    const [run] = await godwit.db.select().from(runs);
    await queue(run?.id ?? '', ['ops']);
    await notifyRound(deps);
    const end = Date.now() + 20_000;
    while (receiver.taken.length === 0 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 100));
    const { text } = JSON.parse(receiver.taken[0]?.body ?? '{}');
    expect(text).toContain('COLUMN_MISSING');
    expect(text).toContain('Then: godwit run with the corrected mapping');
    expect(text).not.toContain('godwit retry');
  });

  test("Slack's incoming webhook", async () => {
    await using receiver = await httpReceiver((_taken, before) => ({ status: before === 0 ? 503 : 200, body: 'ok' }));
    await channel('ops', { type: 'slack', webhook_url: `${receiver.url}/services/T/B/secret` });
    await queue((await ended({ status: 'succeeded' })).id, ['ops'], 'succeeded');
    await notifyRound(deps);
    const [waiting] = await all();
    expect(waiting?.status).toBe('queued');
    expect(waiting?.failure?.message).not.toContain('secret');
    await dueNow();
    await notifyRound(deps);
    expect(await all()).toMatchObject([{ status: 'sent' }]);
    expect(JSON.parse(receiver.taken[1]?.body ?? '{}').text).toContain('told/1 succeeded');
  });

  test('e-mail: handed over by SMTP with a login; 4xx is tried again, 5xx and a wrong password are not', async () => {
    await using receiver = await smtpReceiver({
      password: 'pw',
      refuse: (before) => (before === 0 ? 451 : before === 2 ? 550 : 0),
    });
    const given = { type: 'email', host: '127.0.0.1', port: receiver.port, tls: 'none', from: 'godwit@example.org' };
    await channel('mail', { ...given, username: 'godwit', password: 'pw', to: ['data@example.org'] });
    await queue((await ended()).id, ['mail']);
    await notifyRound(deps);
    const [first] = await all();
    expect(first).toMatchObject({ status: 'queued', failure: { code: 'CONNECTION_FAILED' } });
    expect(first?.failure?.message).toContain('451');
    expect(first?.failure?.message).not.toContain('secret words');
    await dueNow();
    await notifyRound(deps);
    expect(await all()).toMatchObject([{ status: 'sent', attempts: 2 }]);
    expect(receiver.mails).toMatchObject([{ from: 'godwit@example.org', to: ['data@example.org'] }]);
    const text = receiver.mails[0]?.text ?? '';
    expect(text).toContain(`Message-ID: <${first?.id}@godwit>`);
    expect(text).toContain('Tables: 0');

    await queue((await ended()).id, ['mail']);
    await notifyRound(deps);
    expect((await all())[0]).toMatchObject({ status: 'failed', failure: { code: 'NOTIFICATION_REFUSED' } });
    await channel('mail', { ...given, username: 'godwit', password: 'wrong', to: 'data@example.org' });
    await queue((await ended()).id, ['mail']);
    await notifyRound(deps);
    expect((await all())[0]?.failure?.message).toContain('refused the login');
  });

  test('a receiver that is not there is waited for', async () => {
    await channel('hook', { type: 'webhook', url: 'http://127.0.0.1:1/' });
    await queue((await ended()).id, ['hook']);
    await notifyRound(deps);
    expect(await all()).toMatchObject([
      { status: 'queued', failure: { message: expect.stringContaining('does not answer') } },
    ]);
    // A day later nobody is told any more.
    await godwit.db.update(notifications).set({ nextAt: sql`now()`, createdAt: sql`now() - interval '25 hours'` });
    await notifyRound(deps);
    expect(await all()).toMatchObject([{ status: 'failed', attempts: 2 }]);
  });

  test('a test of a channel says what it met', async () => {
    await using receiver = await httpReceiver(() => ({ status: 200, body: '{"ok":true}' }));
    await channel('ops', { type: 'slack', token: 't', channel: 'C1', api_url: receiver.url });
    expect(await testChannel(deps, 'ops')).toMatchObject([{ outcome: 'pass' }]);
    expect(receiver.taken[0]?.body).toContain('test of the channel ops');
    await channel('ops', { type: 'slack', token: 'env:NOT_ALLOWED', channel: 'C1', api_url: receiver.url });
    expect(await testChannel(deps, 'ops')).toMatchObject([
      { outcome: 'fail', detail: expect.stringContaining('env:NOT_ALLOWED') },
    ]);
    expect(await testChannel(deps, 'none')).toMatchObject([
      { outcome: 'fail', detail: expect.stringContaining('there are ops') },
    ]);
  });

  test('runs are told by a worker, each job as it says, and a receiver that refuses fails no run', async () => {
    await using good = await httpReceiver(() => ({ status: 200 }));
    await using bad = await httpReceiver(() => ({ status: 400 }));
    await channel('good', { type: 'webhook', url: good.url });
    await channel('bad', { type: 'webhook', url: bad.url });
    await changeSetting(godwit.db, { name: 'notify', value: { on: 'failure', channels: ['good'] }, actor: 'test' });
    await using _worker = await godwit.work();
    const settled = async (count: number) => {
      const end = Date.now() + 20_000;
      while ((await all()).filter(({ status }) => status !== 'queued').length < count && Date.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      return await all();
    };
    // The settings say failures only.
    await expect((await godwit.begin(mappingOf({}))).result()).resolves.toMatchObject({ status: 'succeeded' });
    expect(await all()).toEqual([]);
    // The job says all, to both.
    const told = mappingOf({ notify: { on: true, channels: ['good', 'bad'] } });
    await expect((await godwit.begin(told)).result()).resolves.toMatchObject({ status: 'succeeded' });
    const first = await settled(2);
    expect(Object.fromEntries(first.map((one) => [one.channel, one.status]))).toEqual({ good: 'sent', bad: 'failed' });
    const { text } = JSON.parse(good.taken[0]?.body ?? '{}');
    expect(text).toContain('told/2 succeeded');
    expect(text).toMatch(/Tables: 1 · rows: 2 read, 2 written/);
    // A table that is refused.
    const broken = mappingOf({ tables: [{ table_name: 'public.nothing', mode: 'replace' }] });
    await expect((await godwit.begin(broken)).result()).rejects.toThrow();
    const rows = await settled(3);
    expect(rows[0]).toMatchObject({ event: 'failed', channel: 'good', status: 'sent' });
    const failed = JSON.parse(good.taken[1]?.body ?? '{}');
    expect(failed.text).toContain('TABLE_MISSING');
    expect(failed.text).toContain('What to do:');
    expect(good.taken.every(({ body }) => !body.includes('value-of-a-row'))).toBe(true);
    // Another attempt that fails is told again.
    const [run] = await godwit.db.select().from(runs).where(eq(runs.status, 'failed'));
    await expect((await godwit.again(run?.id ?? '')).result()).rejects.toThrow();
    expect((await settled(4))[0]).toMatchObject({ event: 'failed/2', status: 'sent' });
    expect(JSON.parse(good.taken[2]?.body ?? '{}').title).toContain('attempt 2');
    expect(
      await godwit.db
        .select()
        .from(runTables)
        .where(eq(runTables.runId, run?.id ?? '')),
    ).toHaveLength(1);
  });
});
