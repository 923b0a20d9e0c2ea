import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { Client, Connection, ScheduleNotFoundError } from '@temporalio/client';
import { eq } from 'drizzle-orm';
import { describe, expect, test } from 'vitest';
import { begin } from '../../activities/begin.ts';
import type { Deps } from '../../activities/deps.ts';
import { startApi } from '../../api/server.ts';
import { applyJob } from '../../db/jobs.ts';
import { pauseSchedule } from '../../db/schedules.ts';
import { runs, schedules } from '../../db/schema.ts';
import { parseMapping } from '../../mapping/parse.ts';
import { specOf } from '../../schedules/spec.ts';
import { nextTimes } from '../../schedules/times.ts';
import { kindOf, readTiming } from '../../schedules/timing.ts';
import { changesOf } from '../../schedules/zone.ts';
import { findTemporalCli, startTemporal } from '../../servers/temporal.ts';
import { reconcile } from '../../worker/reconciler.ts';
import { underPrefix } from '../../workflows/messages.ts';
import { install as installApi, mappingOf } from '../api/installation.ts';
import { environment, newHome, godwit as run } from '../cli/godwit.ts';
import { createDatabase, missing, sharedTemporal } from '../servers/shared.ts';
import { install, query } from './installation.ts';

const noServers = (await missing('postgres')) || (await missing('temporal'));

async function until<T>(look: () => Promise<T | undefined | false>, ms = 10_000): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error('It did not come to that.');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Within an hour of a change of the zone's clocks, where the server has rules of its own. */
const inChange = (zone: string, at: number): boolean =>
  changesOf(zone, new Date(at).getUTCFullYear()).some((change) => Math.abs(change.at - at) <= 2 * 3_600_000);

type View = {
  key: string;
  paused: boolean;
  note: string | null;
  actor: string | null;
  next: string[];
  inTemporal: boolean;
  temporalId: string;
};
type RunView = {
  id: string;
  number: number;
  status: string;
  trigger: string;
  scheduleKey: string;
  workflowId: string;
  failure: { code: string } | null;
};
type Items<T> = { items: T[] };

describe.skipIf(noServers)('schedules', () => {
  test("Temporal's own next times are ours, also through changes of the clocks", { timeout: 120_000 }, async () => {
    const { address } = await sharedTemporal();
    await using stack = new AsyncDisposableStack();
    const connection = await Connection.connect({ address });
    stack.defer(() => connection.close());
    const client = new Client({ connection });
    const sample: [string, string][] = [
      ['* * * * * 7-19 */1 0', 'Asia/Kolkata'],
      ['* * last fri * * 22 0 0', 'Asia/Kolkata'],
      ['* * 1st mon,3rd tue * * 3 15 30', 'Europe/Berlin'],
      ['* * last * * 0 0 0', 'America/New_York'],
      ['* * * */2 mon,thu 5 0 0', 'Europe/Berlin'],
      ['* * * 1-52/3 * 2 30 0', 'America/New_York'],
      ['? 1-6 13 ? fri 3 ? ?', 'UTC'],
      ['2027-2029 2 29 * * * 0 0', 'UTC'],
      ['* * 31 * * 12 */20 0', 'Australia/Lord_Howe'],
      ['30 2 * * *', 'America/New_York'],
      ['30 1 * * *', 'America/New_York'],
      ['*/15 * * * *', 'America/New_York'],
      ['30 2 * * *', 'Europe/Berlin'],
      ['*/15 1-2 * * *', 'Europe/Berlin'],
      ['*/15 1-2 * * *', 'Australia/Lord_Howe'],
      ['0 6 1,15 * fri', 'Asia/Kolkata'],
      ['0 0 */3 * sun', 'Europe/Berlin'],
      ['@monthly', 'America/New_York'],
      ['15m', 'Asia/Kolkata'],
      ['7h', 'UTC'],
    ];
    for (const [expression, timezone] of sample) {
      const timing = readTiming({ kind: kindOf(expression), expression, timezone });
      const { until: _until, ...spec } = specOf(timing, Date.now());
      const scheduleId = `sample/${crypto.randomUUID()}`;
      const action = { type: 'startWorkflow' as const, workflowType: 'none', taskQueue: scheduleId, args: [] };
      const handle = await client.schedule.create({ scheduleId, spec, action, state: { paused: true } });
      stack.defer(() => handle.delete());
      const { info } = await handle.describe();
      const [first] = info.nextActionTimes;
      expect(info.nextActionTimes, expression).toEqual(
        nextTimes(timing, (first as Date).getTime(), info.nextActionTimes.length),
      );
      expect(nextTimes(timing, Date.now(), 1)[0]?.getTime(), expression).toBeGreaterThanOrEqual(
        (first as Date).getTime(),
      );
      // A year of it, in the days around both changes of the clocks.
      for (const [from, to] of [
        ['2027-03-10', '2027-03-31'],
        ['2027-10-01', '2027-11-09'],
      ] as const) {
        if (timing.kind === 'interval') continue;
        const at = (text: string) => ({ seconds: Date.parse(`${text}T00:00:00Z`) / 1000 });
        const { startTime } = await client.workflowService.listScheduleMatchingTimes({
          namespace: 'default',
          scheduleId,
          // A time that is the range's begin is not in it.
          startTime: at(from) as never,
          endTime: at(to) as never,
        });
        const theirs = startTime.map(({ seconds }) => new Date(Number(seconds) * 1000).toISOString());
        const begin = at(from).seconds * 1000 + 1000;
        const ours = nextTimes(timing, begin, theirs.length + 20)
          .map((one) => one.toISOString())
          .filter((one) => one <= `${to}T00:00:00.000Z`)
          // It answers a thousand at most.
          .slice(0, theirs.length < 1000 ? undefined : 1000);
        const far = (list: readonly string[]) => list.filter((one) => !inChange(timezone, Date.parse(one)));
        expect(far(ours), `${expression} ${timezone}`).toEqual(far(theirs));
        if (timezone === 'America/New_York') expect(ours, expression).toEqual(theirs);
        // What docs/schedules.md says of repeated hours in the east.
        if (expression === '30 2 * * *' && timezone === 'Europe/Berlin' && from === '2027-10-01') {
          expect(ours.filter((one) => !theirs.includes(one))).toEqual(['2027-10-31T00:30:00.000Z']);
        }
      }
    }
  });

  test('stand in Temporal as the mapping has them, and go with it', async () => {
    await using godwit = await install();
    const { deps } = await godwit.activities();
    const round = () => reconcile({ deps, queues: godwit.queues });
    const apply = (extra: object, table: object = {}) =>
      applyJob(godwit.db, deps.sealer, {
        parsed: parseMapping({
          ...mappingOf('nightly', extra),
          tables: [
            { table_name: 'public.orders', mode: 'replace' },
            { table_name: 'public.items', mode: 'replace', ...table },
          ],
        }),
      });
    const { job } = await apply(
      { cron: '* * * * * 3 30 0', timezone: 'Asia/Kolkata' },
      { cron: '* * last fri * * 22 0 0' },
    );
    await round();
    const rows = await godwit.db.select().from(schedules);
    const other = rows.find(({ key }) => key !== 'main');
    const handle = (key: string) =>
      godwit.client.schedule.getHandle(underPrefix(godwit.queues, `schedule/nightly/${key}`));
    const main = await handle('main').describe();
    expect(main).toMatchObject({
      spec: {
        timezone: 'Asia/Kolkata',
        calendars: [{ hour: [{ start: 3, end: 3 }], minute: [{ start: 30, end: 30 }] }],
      },
      policies: { overlap: 'SKIP', catchupWindow: 3_600_000, pauseOnFailure: false },
      state: { paused: false },
      action: {
        workflowType: 'run',
        workflowId: underPrefix(godwit.queues, 'run/nightly/main'),
        taskQueue: godwit.queues.control,
        args: [{ jobId: job.id, scheduleKey: 'main' }],
      },
      memo: { installation: deps.installation },
    });
    const dated = await handle(other?.key ?? '').describe();
    expect(dated.spec.calendars?.length).toBeGreaterThan(36);
    expect(other?.until?.getTime()).toBeGreaterThan(Date.now() + 2.9 * 365 * 86_400_000);

    // One that Temporal started before it knew that the schedule is gone is written down, and moves nothing.
    const begun = await begin(deps, {
      jobId: job.id,
      scheduleKey: 'cron-00000000',
      workflowId: 'run/nightly/cron-00000000-2027',
      firstExecutionRunId: crypto.randomUUID(),
    });
    expect(begun.verdict).toBe('skipped');
    const [late] = await godwit.db.select().from(runs).where(eq(runs.id, begun.runId));
    expect(late).toMatchObject({ status: 'skipped', failure: { code: 'NOT_FOUND' } });

    // Nothing to say: Temporal is not told again.
    await round();
    expect((await handle('main').describe()).info.lastUpdatedAt).toEqual(main.info.lastUpdatedAt);

    // Who changes its times in Temporal changes nothing.
    await handle('main').update((before) => ({ ...before, spec: { intervals: [{ every: '7m' }] } }));
    await until(async () => {
      await round();
      const { spec } = await handle('main').describe();
      return spec.intervals?.length === 0 && spec.calendars?.[0]?.comment === '* * * * * 3 30 0';
    });

    // Dated calendars that come to their end are extended.
    const soon = new Date(Date.now() + 200 * 86_400_000);
    await godwit.db
      .update(schedules)
      .set({ until: soon, applied: 'as it was said then' })
      .where(eq(schedules.key, other?.key ?? ''));
    await round();
    const [extended] = await godwit.db
      .select()
      .from(schedules)
      .where(eq(schedules.key, other?.key ?? ''));
    expect(extended?.until).toEqual(other?.until);

    // Paused in Godwit, renewed by another mapping: still paused; a schedule that is not in it any more is deleted.
    await pauseSchedule(
      godwit.db,
      { jobId: job.id, key: 'main' },
      { paused: true, note: 'stocktaking', actor: 'test' },
    );
    await apply({ cron: '* * * * * 4 0 0', schedule: { overlap: 'buffer one', jitter: 30 } });
    await round();
    expect(await handle('main').describe()).toMatchObject({
      spec: { timezone: 'UTC', jitter: 30_000, calendars: [{ hour: [{ start: 4, end: 4 }] }] },
      policies: { overlap: 'BUFFER_ONE' },
      state: { paused: true, note: 'stocktaking' },
    });
    // Resumed in Temporal a moment before its times change: it stays resumed.
    await handle('main').unpause('counted');
    await apply({ cron: '* * * * * 5 0 0' });
    await until(async () => {
      await round();
      const { spec } = await handle('main').describe();
      return spec.calendars?.[0]?.hour[0]?.start === 5;
    });
    expect((await handle('main').describe()).state).toMatchObject({ paused: false, note: 'counted' });
    await until(async () => {
      await round();
      return handle(other?.key ?? '')
        .describe()
        .then(
          () => false,
          (error) => error instanceof ScheduleNotFoundError,
        );
    });
    expect(await godwit.db.select().from(schedules)).toHaveLength(1);

    // Of a job of another name: another id, and the old one is gone.
    const parsed = parseMapping(mappingOf('renamed', { cron: '* * * * * 5 0 0' }));
    await applyJob(godwit.db, deps.sealer, { parsed, name: 'nightly' });
    await until(async () => {
      await round();
      return handle('main')
        .describe()
        .then(
          () => false,
          (error) => error instanceof ScheduleNotFoundError,
        );
    });
    const renamed = godwit.client.schedule.getHandle(underPrefix(godwit.queues, 'schedule/renamed/main'));
    expect((await renamed.describe()).action.workflowId).toBe(underPrefix(godwit.queues, 'run/renamed/main'));
  });

  test('come back after Temporal was replaced by an empty server, paused ones paused', {
    timeout: 120_000,
  }, async () => {
    await using temporal = await startTemporal();
    await using godwit = await install({}, temporal);
    const { deps } = await godwit.activities();
    const round = () => reconcile({ deps, queues: godwit.queues });
    const { job } = await applyJob(godwit.db, deps.sealer, {
      parsed: parseMapping(mappingOf('lost', { interval: '15m' })),
    });
    await pauseSchedule(godwit.db, { jobId: job.id, key: 'main' }, { paused: true, note: 'wait', actor: 'test' });
    await round();
    await temporal.kill();
    await temporal.restart();
    const handle = godwit.client.schedule.getHandle(underPrefix(godwit.queues, 'schedule/lost/main'));
    await until(
      () =>
        handle.describe().then(
          () => true,
          (error) => error instanceof ScheduleNotFoundError,
        ),
      30_000,
    );
    await round();
    expect(await handle.describe()).toMatchObject({
      spec: { intervals: [{ every: 900_000 }] },
      state: { paused: true, note: 'wait' },
    });
  });

  test('of another installation on the same server are left alone', async () => {
    await using godwit = await install();
    const { deps } = await godwit.activities();
    await applyJob(godwit.db, deps.sealer, { parsed: parseMapping(mappingOf('mine', { interval: '1h' })) });
    await reconcile({ deps, queues: godwit.queues });
    const handle = godwit.client.schedule.getHandle(underPrefix(godwit.queues, 'schedule/mine/main'));
    await until(async () => {
      for await (const one of godwit.client.schedule.list()) if (one.scheduleId === handle.scheduleId) return true;
      return false;
    });
    await using theirs = await install();
    const other: Deps = (await theirs.activities()).deps;
    // Another key: its memo cannot even be read. Then the same key, but another installation.
    await reconcile({ deps: other, queues: godwit.queues });
    await reconcile({ deps: { ...deps, db: other.db, installation: other.installation }, queues: godwit.queues });
    expect((await handle.describe()).state.paused).toBe(false);
    await handle.delete();
  });

  test('start runs, are paused and resumed in Godwit and in Temporal, and triggered', {
    timeout: 120_000,
  }, async () => {
    await using source = await createDatabase();
    await using target = await createDatabase();
    await query(
      source.url,
      'CREATE TABLE one (id int PRIMARY KEY); INSERT INTO one VALUES (1); CREATE TABLE two (id int PRIMARY KEY);',
    );
    await using godwit = await installApi();
    await using worker = await godwit.work();
    const mapping = (interval: string) => ({
      name: 'often',
      source: { source_type: 'pgsql', url: source.url },
      destination: { copy: { destination_type: 'pgsql', url: target.url, schema: 'copy' } },
      tables: [
        { table_name: 'public.one', mode: 'replace', interval },
        { table_name: 'public.two', mode: 'replace' },
      ],
    });
    const view = async () => (await godwit.request<View>('GET', '/api/jobs/often/schedules/main')).body;
    const runs = async () => (await godwit.request<Items<RunView>>('GET', '/api/runs?job=often&limit=100')).body.items;
    const temporal = async (...args: string[]) => {
      const { stdout } = await promisify(execFile)(await findTemporalCli(), [
        ...args,
        '--address',
        godwit.config.temporal.address ?? '',
      ]);
      return stdout;
    };

    expect((await godwit.request('PUT', '/api/jobs/often', mapping('2s'))).status).toBe(201);
    const first = await until(async () => (await runs()).find(({ status }) => status === 'succeeded'), 30_000);
    expect(first).toMatchObject({ trigger: 'schedule', scheduleKey: 'main' });
    expect(first.workflowId).toMatch(/^api-[0-9a-f]{8}\/run\/often\/main-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    // Only the tables of that key.
    const tables = await godwit.request<Items<{ sourceName: string }>>('GET', `/api/runs/${first.id}/tables`);
    expect(tables.body.items.map(({ sourceName }) => sourceName)).toEqual(['public.one']);
    expect((await godwit.request('GET', `/api/jobs/often/runs/${first.number}`)).body.id).toBe(first.id);

    // The same mapping stored again changes nothing, and Temporal has been told it.
    expect((await godwit.request('PUT', '/api/jobs/often', mapping('2s'))).status).toBe(200);
    await until(async () => ((await view()).inTemporal ? true : undefined));

    const paused = await godwit.request<View>('POST', '/api/jobs/often/schedules/main/pause', { note: 'stocktaking' });
    expect(paused.body).toMatchObject({ paused: true, note: 'stocktaking', actor: 'api', next: [] });
    const handle = godwit.client.schedule.getHandle(paused.body.temporalId);
    const inTemporal = await until(async () => {
      const found = await handle.describe();
      return found.state.paused ? found : undefined;
    });
    expect(inTemporal.state.note).toBe('stocktaking');
    const isOver = ({ status }: RunView) => ['succeeded', 'skipped', 'partial', 'failed'].includes(status);
    const quiet = () => until(async () => ((await runs()).every(isOver) ? runs() : undefined));
    await quiet();
    const before = (await runs()).length;
    await new Promise((resolve) => setTimeout(resolve, 3000));
    expect((await runs()).length).toBe(before);

    // What people do in Temporal itself shows here.
    await temporal('schedule', 'toggle', '--unpause', '--schedule-id', handle.scheduleId, '--reason', 'counted');
    const resumed = await until(async () => {
      const found = await view();
      return found.paused ? undefined : found;
    });
    expect(resumed).toMatchObject({ note: 'counted', actor: 'temporal' });
    expect(resumed.next[0]).toBeDefined();
    await until(async () => (await runs()).length > before);
    await temporal('schedule', 'toggle', '--pause', '--schedule-id', handle.scheduleId, '--reason', 'again');
    expect(await until(async () => ((await view()).paused ? view() : undefined))).toMatchObject({
      note: 'again',
      actor: 'temporal',
    });
    await quiet();
    const still = (await runs()).length;
    // The overlap policy leaves a trigger out while Temporal has not yet heard of the last one's end.
    await until(async () => (await handle.describe()).info.runningActions.length === 0 || undefined, 60_000);
    await temporal('schedule', 'trigger', '--schedule-id', handle.scheduleId);
    const triggered = await until(async () => {
      const [latest, ...others] = await runs();
      return others.length + 1 > still && latest?.status === 'succeeded' ? latest : undefined;
      // It shows within seconds; that it is over may take longer on a busy machine.
    }, 60_000);
    expect(triggered.trigger).toBe('schedule');
    expect(await temporal('schedule', 'list')).toContain(handle.scheduleId);
    expect(await temporal('schedule', 'describe', '--schedule-id', handle.scheduleId)).toContain(handle.scheduleId);

    // Run now: the tables of that key; never beside another one.
    const now = await godwit.request<RunView>('POST', '/api/jobs/often/schedules/main/trigger', { note: 'asked for' });
    expect([now.status, now.body.scheduleKey, now.body.trigger]).toEqual([201, 'main', 'api']);
    const beside = await godwit.request('POST', '/api/jobs/often/schedules/main/trigger', {});
    expect([beside.status, beside.body.code]).toEqual([409, 'ALREADY_RUNNING']);
    await quiet();

    expect((await godwit.request('DELETE', '/api/jobs/often')).status).toBe(204);
    await until(
      () =>
        handle.describe().then(
          () => undefined,
          (error) => error instanceof ScheduleNotFoundError || undefined,
        ),
      15_000,
    );
    await worker.stop();
  });

  test('are listed, paused, resumed and triggered on the command line', { timeout: 60_000 }, async () => {
    await using godwit = await installApi();
    const { database, client, keyring, deps } = godwit;
    const config = { ...godwit.config, port: 0 };
    await using api = await startApi({ config, database, client, keyring, queues: deps.queues, log: deps.log });
    const home = newHome();
    const env = environment(home.path, { GODWIT_URL: api.url });
    const cli = async (...args: string[]) => {
      const { code, out, err } = await run([...args, '--output', 'json'], env);
      const lines = out.trim() === '' ? [] : out.trim().split('\n');
      return { code, err, said: lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
    };
    await godwit.request(
      'PUT',
      '/api/jobs/shop',
      mappingOf('shop', { cron: '* * * * * 3 0 0', timezone: 'Asia/Kolkata' }),
    );
    const { said } = await cli('schedules', 'shop');
    const [next] = nextTimes(
      readTiming({ kind: 'cron', expression: '* * * * * 3 0 0', timezone: 'Asia/Kolkata' }),
      Date.now(),
      1,
    );
    expect(said).toMatchObject([
      { job: 'shop', key: 'main', timezone: 'Asia/Kolkata', paused: false, inTemporal: false },
    ]);
    expect((said[0] as { next: string[] }).next[0]).toBe(next?.toISOString());
    expect((await cli('schedule', 'pause', 'shop', '--note', 'stocktaking')).said).toMatchObject([
      { paused: true, note: 'stocktaking', actor: 'cli', next: [] },
    ]);
    expect((await run(['schedules'], env)).out).toMatch(/shop +main +1 +\* .* paused by cli: stocktaking/);
    expect((await cli('schedule', 'resume', 'shop', '--key', 'main')).said).toMatchObject([{ paused: false }]);
    expect((await cli('schedule', 'pause', 'shop', '--key', 'other')).said).toMatchObject([{ code: 'NOT_FOUND' }]);
    // Nobody works here: it stays queued, and is no reason to start another.
    expect((await cli('schedule', 'trigger', 'shop')).said).toMatchObject([
      { job: 'shop', scheduleKey: 'main', trigger: 'cli' },
    ]);
    const second = await cli('schedule', 'trigger', 'shop');
    expect([second.code, second.said[0]?.code]).toEqual([4, 'ALREADY_RUNNING']);
    const whole = await godwit.request('POST', '/api/jobs/shop/runs', {});
    expect([whole.status, whole.body.code]).toEqual([409, 'ALREADY_RUNNING']);
    const audit = await query<{ action: string }>(
      database.url,
      "SELECT action FROM godwit.audit WHERE object = 'schedule/shop/main'",
    );
    expect(audit.map(({ action }) => action)).toEqual(['pause schedule', 'resume schedule']);
    home.remove();
  });

  test('do not start in a blackout window: the run is written down as skipped, with the reason', {
    timeout: 60_000,
  }, async () => {
    await using godwit = await installApi();
    await using _worker = await godwit.work();
    const blackouts = [
      { from: '00:00', to: '12:00' },
      { from: '12:00', to: '00:00' },
    ];
    const mapping = mappingOf('dark', { interval: '1s', schedule: { blackouts } });
    expect((await godwit.request('PUT', '/api/jobs/dark', mapping)).status).toBe(201);
    const { body } = await godwit.request<View>('GET', '/api/jobs/dark/schedules/main');
    expect(body.next).toEqual([]);
    const runs = async () =>
      (await godwit.request<Items<RunView>>('GET', '/api/runs?job=dark&status=skipped')).body.items;
    const skipped = await until(async () => (await runs())[0], 20_000);
    expect(skipped).toMatchObject({ status: 'skipped', trigger: 'schedule', failure: { code: 'BLACKOUT' } });
    await godwit.request('POST', '/api/jobs/dark/schedules/main/pause', {});
    const all = (await godwit.request<Items<RunView>>('GET', '/api/runs?job=dark')).body.items;
    expect(all.every(({ status }) => status === 'skipped' || status === 'queued')).toBe(true);
    await until(async () => (await godwit.request('DELETE', '/api/jobs/dark')).status === 204);
  });
});
