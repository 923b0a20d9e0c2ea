import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readConfig } from '../../config.ts';
import { checkSettings, openChannel, settingsOf } from '../../db/settings.ts';
import { parseMapping } from '../../mapping/parse.ts';
import { missing } from '../servers/shared.ts';
import { type Installation, install, mappingOf } from './installation.ts';

type Setting = { name: string; value: unknown; from: string; note?: string; stored?: unknown };
type Channel = { name: string; type: string; from: string; settings: Record<string, unknown>; secretNames: string[] };
type Problem = { code: string; detail: string; fix: string };

describe.skipIf((await missing('postgres')) || (await missing('temporal')))('settings of the installation', () => {
  let godwit: Installation;
  beforeEach(async () => {
    godwit = await install();
  });
  afterEach(() => godwit[Symbol.asyncDispose]());
  const ask = <T>(method: string, path: string, body?: unknown) => godwit.request<T>(method, path, body);
  const list = async () => (await ask<{ items: Setting[] }>('GET', '/api/settings')).body.items;
  const named = async (name: string) => (await list()).find((one) => one.name === name);
  const file = (text: string) => writeFileSync(join(godwit.home, 'settings.yaml'), text);
  const place = (env: Record<string, string> = {}) => readConfig({ GODWIT_HOME: godwit.home, ...env });

  test('defaults, then the API, then the file, then the environment', async () => {
    expect(await named('timezone')).toMatchObject({ value: 'UTC', from: 'default' });
    expect(await settingsOf(godwit.db, place())).toMatchObject({
      timezone: 'UTC',
      cutOffTime: null,
      notify: { on: [] },
    });
    const put = await ask<Setting>('PUT', '/api/settings/timezone', { value: 'Asia/Kolkata' });
    expect(put.body).toMatchObject({ value: 'Asia/Kolkata', from: 'api' });
    await ask('PUT', '/api/settings/cut_off_time', { value: '6:00' });
    expect(await settingsOf(godwit.db, place())).toMatchObject({ timezone: 'Asia/Kolkata', cutOffTime: '06:00:00' });
    file('timezone: Europe/Berlin\ncut_off_time: null\nnotify: [failure]\n');
    expect(await named('timezone')).toMatchObject({ value: 'Europe/Berlin', from: 'file', stored: 'Asia/Kolkata' });
    expect(await settingsOf(godwit.db, place())).toMatchObject({
      timezone: 'Europe/Berlin',
      cutOffTime: null,
      notify: { on: ['partial', 'failed'] },
    });
    const env = {
      GODWIT_TIMEZONE: 'America/New_York',
      GODWIT_CUT_OFF_TIME: '22:30',
      GODWIT_NOTIFY: 'succeeded, failed',
    };
    expect(await settingsOf(godwit.db, place(env))).toMatchObject({
      timezone: 'America/New_York',
      cutOffTime: '22:30:00',
      notify: { on: ['succeeded', 'failed'] },
    });
    file('');
    expect((await ask('DELETE', '/api/settings/timezone')).status).toBe(204);
    expect(await named('timezone')).toMatchObject({ value: 'UTC', from: 'default' });
    // None, said by the API, is a value.
    expect((await ask<Setting>('PUT', '/api/settings/cut_off_time', { value: null })).body).toMatchObject({
      value: null,
      from: 'api',
    });
  });

  test("who looks for the manual's stores finds where they are", async () => {
    for (const name of ['encryption_store', 'dashboard_store']) {
      expect(await named(name)).toMatchObject({ from: 'elsewhere', note: expect.stringContaining('PostgreSQL') });
      const put = await ask<Problem>('PUT', `/api/settings/${name}`, { value: { url: 'mongodb://u:pw-of-store@h/' } });
      expect([put.status, put.body.code]).toEqual([422, 'SETTINGS_INVALID']);
      expect(put.body.fix).toContain('PostgreSQL');
      expect(put.text).not.toContain('pw-of-store');
    }
    file(`fastapi_server: true
timezone: Asia/Kolkata
notify: true
encryption_store: { url: "mongodb://x", db_name: a, collection_name: b }
dashboard_store: { url: "mongodb://x", db_name: a, collection_name: b }
slack_notif: { slack_token: xoxb-1, channel: "#data" }
cut_off_time: "06:00:00"
`);
    const settings = await settingsOf(godwit.db, place());
    expect(settings).toMatchObject({
      timezone: 'Asia/Kolkata',
      cutOffTime: '06:00:00',
      notify: { on: ['succeeded', 'partial', 'failed'] },
    });
    expect(settings.channels.get('slack')).toMatchObject({
      type: 'slack',
      from: 'file',
      settings: { channel: '#data' },
    });
    expect((await ask<Problem>('PUT', '/api/settings/nothing', { value: 1 })).body.code).toBe('NOT_FOUND');
  });

  test('what is wrong is named, told at the start, and holds nobody up afterwards', async () => {
    for (const [name, value] of [
      ['timezone', 'Mars/Olympus'],
      ['cut_off_time', '25:00'],
      ['notify', 'sometimes'],
    ]) {
      const put = await ask<Problem>('PUT', `/api/settings/${name}`, { value });
      expect([name, put.status, put.body.code]).toEqual([name, 422, 'SETTINGS_INVALID']);
    }
    file('timezone: Asia/Kolkata\n');
    expect((await settingsOf(godwit.db, place())).timezone).toBe('Asia/Kolkata');
    file('timezone: [\nnonsense: 1\n');
    expect((await settingsOf(godwit.db, place())).timezone).toBe('Asia/Kolkata');
    expect(() => checkSettings(place())).toThrow(/settings\.yaml/);
    expect((await list()).find(({ name }) => name === 'settings.yaml')?.note).toContain('settings.yaml');
    file('timezome: UTC\n');
    expect(() => checkSettings(place())).toThrow(/timezome/);
    file('');
    expect(() => checkSettings(place())).not.toThrow();
    expect(() => checkSettings(place({ GODWIT_SLACK_TOKEN: 'x' }))).toThrow(/channel/);
    expect(() => checkSettings(place({ GODWIT_NOTIFY: 'often' }))).toThrow(/GODWIT_NOTIFY/);
    expect(() => place({ GODWIT_CUT_OFF_TIME: '7' })).toThrow(/GODWIT_CUT_OFF_TIME/);
  });

  test('channels: secrets go in and never come out', async () => {
    const settings = { token: 'xoxb-secret-1', channel: '#data' };
    const made = await ask<Channel>('PUT', '/api/channels/ops', { type: 'slack', settings });
    expect(made.body).toEqual({
      name: 'ops',
      type: 'slack',
      from: 'api',
      settings: { channel: '#data' },
      secretNames: ['token'],
    });
    const changed = await ask<Channel>('PUT', '/api/channels/ops', { type: 'slack', settings: { channel: '#other' } });
    expect(changed.body).toMatchObject({ settings: { channel: '#other' }, secretNames: ['token'] });
    const opened = () => openChannel(godwit.db, godwit.deps.sealer, { place: place(), name: 'ops' });
    expect(await opened()).toMatchObject({ secrets: { token: 'xoxb-secret-1' } });
    const hook = { webhook_url: 'https://hooks.example.org/services/secret-2' };
    const other = await ask<Channel>('PUT', '/api/channels/ops', { type: 'slack', settings: hook });
    expect(other.body).toMatchObject({ settings: { host: 'hooks.example.org' }, secretNames: ['webhook_url'] });
    expect((await opened()).secrets).toEqual({ webhook_url: hook.webhook_url });
    const web = { url: 'https://u.example.org/secret-3', secret: 'secret-4' };
    await ask('PUT', '/api/channels/hook', { type: 'webhook', settings: web });
    const mail = {
      host: 'smtp.example.org',
      username: 'u',
      password: 'secret-5',
      from: 'a@example.org',
      to: 'b@example.org',
    };
    await ask('PUT', '/api/channels/mail', { type: 'email', settings: mail });
    const all = await ask<{ items: Channel[] }>('GET', '/api/channels');
    expect(all.body.items.map(({ name }) => name)).toEqual(['hook', 'mail', 'ops']);
    expect(godwit.answers.join()).not.toMatch(/secret-\d/);
    const rows = await godwit.database.pool.query(
      'SELECT s::text, a::text FROM godwit.settings s FULL JOIN godwit.audit a ON false',
    );
    expect(JSON.stringify(rows.rows)).not.toMatch(/secret-\d/);
    for (const secret of Object.values(web))
      expect(JSON.stringify(rows.rows)).not.toContain(Buffer.from(secret).toString('hex'));

    for (const [type, wrong, says] of [
      ['slack', { token: 'secret-6' }, 'channel'],
      ['slack', {}, 'either'],
      ['webhook', { url: 'ftp://secret-7' }, 'http'],
      ['webhook', { ulr: 'x' }, 'did you mean "url"'],
      ['email', { host: 'h' }, 'from'],
    ] as const) {
      const put = await ask<Problem>('PUT', '/api/channels/new', { type, settings: wrong });
      expect([put.status, put.body.code]).toEqual([422, 'SETTINGS_INVALID']);
      expect(put.body.detail).toContain(says);
      expect(put.text).not.toContain('secret-');
    }
    expect((await ask('DELETE', '/api/channels/ops')).status).toBe(204);
    expect((await ask<Problem>('DELETE', '/api/channels/ops')).body.code).toBe('NOT_FOUND');
    file('channels: { ops: { type: webhook, url: "https://x.example.org" } }\n');
    expect((await ask<Problem>('DELETE', '/api/channels/ops')).body.code).toBe('CONFLICT');
    expect((await ask<Problem>('POST', '/api/channels/none/test', {})).body.code).toBe('NOT_FOUND');
  });

  test('the environment makes channels too', async () => {
    const env = {
      GODWIT_SLACK_TOKEN: 't',
      GODWIT_SLACK_CHANNEL: 'C1',
      GODWIT_WEBHOOK_URL: 'https://hook.example.org/x',
      GODWIT_SMTP_URL: 'smtp://u%40x:p%20w@smtp.example.org:2525',
      GODWIT_EMAIL_FROM: 'a@example.org',
      GODWIT_EMAIL_TO: 'b@example.org, c@example.org',
    };
    const { channels } = await settingsOf(godwit.db, place(env));
    expect([...channels.keys()].sort()).toEqual(['email', 'slack', 'webhook']);
    const mail = await openChannel(godwit.db, godwit.deps.sealer, { place: place(env), name: 'email' });
    expect(mail).toEqual({
      type: 'email',
      settings: {
        host: 'smtp.example.org',
        port: 2525,
        username: 'u@x',
        from: 'a@example.org',
        to: ['b@example.org', 'c@example.org'],
      },
      secrets: { password: 'p w' },
    });
  });

  test('a test message goes out from a worker; what was told is listed', async () => {
    await using _worker = await godwit.work();
    await ask('PUT', '/api/channels/hook', { type: 'webhook', settings: { url: 'http://127.0.0.1:1/' } });
    const tested = await ask<{ checks: { outcome: string; detail: string }[] }>('POST', '/api/channels/hook/test', {});
    expect(tested.body.checks).toMatchObject([{ outcome: 'fail', detail: expect.stringContaining('does not answer') }]);
    const told = await ask<{ items: unknown[] }>('GET', '/api/notifications?status=failed,queued&channel=hook');
    expect([told.status, told.body.items]).toEqual([200, []]);
    expect((await ask('POST', `/api/notifications/${crypto.randomUUID()}/retry`, {})).status).toBe(404);
  });

  test('a mapping says its own cut-off and whom it tells', () => {
    const { document } = parseMapping(
      mappingOf('a', { cut_off_time: '6:30', notify: { on: ['completion'], channels: ['ops'] } }),
    );
    expect(document).toMatchObject({
      cutOffTime: '06:30:00',
      notify: { on: ['succeeded', 'partial'], channels: ['ops'] },
    });
    expect(parseMapping(mappingOf('a', { cut_off_time: null, notify: false })).document).toMatchObject({
      cutOffTime: null,
      notify: { on: [] },
    });
    const plain = parseMapping(mappingOf('a')).document;
    expect('cutOffTime' in plain || 'notify' in plain).toBe(false);
    for (const wrong of [{ cut_off_time: '24:00' }, { notify: 'never' }, { notify: { on: true, chanels: [] } }]) {
      expect(() => parseMapping(mappingOf('a', wrong))).toThrow(/cut_off_time|notify/);
    }
  });
});
