import { createRoute, z } from '@hono/zod-openapi';
import { getJob } from '../db/jobs.ts';
import { getSchedule, listSchedules, pauseSchedule, type Schedule } from '../db/schedules.ts';
import { openTimes } from '../schedules/blackouts.ts';
import { daylightWarnings } from '../schedules/daylight.ts';
import { readTiming } from '../schedules/timing.ts';
import { underPrefix } from '../workflows/messages.ts';
import { actorOf, audited } from './actor.ts';
import type { ApiDeps } from './deps.ts';
import { router, strict } from './problem.ts';
import { runSchema, runView } from './run-views.ts';
import * as s from './schemas.ts';
import { startRun, zoneOf } from './start.ts';

const seconds = z.number().int();
const scheduleSchema = z
  .object({
    job: z.string(),
    key: z.string().describe('`main`, or `cron-…` where tables of one job have different times'),
    tables: z.number().int().describe('Entries of the mapping that it moves'),
    kind: z.enum(['cron', 'interval']),
    expression: z.string().describe('As it was written'),
    timezone: z.string(),
    overlap: z.enum(['skip', 'buffer one', 'cancel other', 'terminate other']),
    catchUpSeconds: seconds,
    jitterSeconds: seconds,
    blackouts: z.array(z.object({ from: z.string(), to: z.string(), days: z.array(z.number().int()).optional() })),
    paused: z.boolean(),
    note: z.string().nullable().describe('Why it was paused or resumed'),
    actor: z.string().nullable().describe('Who did; `temporal`: somebody in Temporal'),
    next: z.array(s.instant).describe('The next times, without those in a blackout; none while paused'),
    warnings: z.array(z.string()).describe("Times inside a change of the zone's clocks within a year"),
    temporalId: z.string().describe('For `temporal schedule describe`'),
    inTemporal: z.boolean().describe('Temporal was told the latest change'),
    appliedAt: s.maybeInstant,
    until: s.maybeInstant.describe('Dated calendars reach to here, and are extended by themselves'),
    failure: s.failureSchema.nullable(),
    createdAt: s.instant,
    updatedAt: s.instant,
  })
  .openapi('Schedule');

type Viewing = { readonly deps: ApiDeps; readonly timezone: string; readonly count?: number };

function view(row: Schedule, { deps, timezone: fallback, count = 5 }: Viewing): z.infer<typeof scheduleSchema> {
  const { kind, expression, options, appliedAt } = row;
  const timezone = row.timezone || fallback;
  const timing = readTiming({ kind, expression, timezone });
  return {
    job: row.job,
    key: row.key,
    tables: row.tables,
    kind,
    expression,
    timezone,
    overlap: options.overlap,
    catchUpSeconds: options.catchUp,
    jitterSeconds: options.jitter,
    blackouts: options.blackouts.map(({ from, to, days }) => ({ from, to, ...(days ? { days: [...days] } : {}) })),
    paused: row.paused,
    note: row.note,
    actor: row.actor,
    next: row.paused ? [] : openTimes(timing, options.blackouts, Date.now(), count).map((at) => at.toISOString()),
    warnings: daylightWarnings(timing, Date.now()),
    temporalId: underPrefix(deps.queues, row.temporalId),
    inTemporal: appliedAt !== null && appliedAt >= row.updatedAt,
    appliedAt: s.iso(appliedAt),
    until: s.iso(row.until),
    failure: row.failure as z.infer<typeof s.failureSchema> | null,
    createdAt: row.createdAt.toISOString(),
    updatedAt: row.updatedAt.toISOString(),
  };
}

const tags = ['schedules'];
const at = { tags, method: 'get' } as const;
const one = s.json(scheduleSchema, 'The schedule');
const query = s.empty;
const params = strict({ name: z.string().min(1).max(200), key: z.string().min(1).max(100) });
const note = s.body(
  strict({ note: z.string().max(500).optional().describe('Why; shown with it, and in Temporal') }),
  false,
);
const count = z.coerce.number().int().min(1).max(100).default(5).describe('Next times of each');

const list = createRoute({
  ...at,
  path: '/',
  operationId: 'listSchedules',
  request: { query: strict({ ...s.paging, job: z.string().min(1).max(200).optional(), count }) },
  responses: { 200: s.json(s.pageSchema(scheduleSchema), 'By job and key') },
});
const listOfJob = createRoute({
  ...at,
  path: '/{name}/schedules',
  operationId: 'listJobSchedules',
  request: { params: s.nameParam, query: strict({ ...s.paging, count }) },
  responses: { 200: s.json(s.pageSchema(scheduleSchema), 'By key') },
});
const get = createRoute({
  ...at,
  path: '/{name}/schedules/{key}',
  operationId: 'getJobSchedule',
  request: { params, query: strict({ count }) },
  responses: { 200: one },
});
const act = (action: 'pause' | 'resume', summary: string) =>
  createRoute({
    tags,
    method: 'post',
    path: `/{name}/schedules/{key}/${action}`,
    operationId: `${action}Schedule`,
    summary,
    request: { params, query, body: note },
    responses: { 200: one },
  });
const trigger = createRoute({
  tags,
  method: 'post',
  path: '/{name}/schedules/{key}/trigger',
  operationId: 'triggerSchedule',
  summary: 'Starts a run of its tables now. ALREADY_RUNNING while one is not over',
  request: {
    params,
    query,
    headers: z.object({ 'idempotency-key': z.string().min(1).max(200).optional() }),
    body: note,
  },
  responses: { 200: s.json(runSchema, 'The run of that key'), 201: s.json(runSchema, 'The new run') },
});

const page = async (
  deps: ApiDeps,
  { count: many, ...wish }: { limit: number; cursor?: string | undefined; count: number; jobId?: string },
) => {
  const { cursor, ...rest } = wish;
  const { items, next } = await listSchedules(deps.database.db, { ...rest, ...(cursor ? { cursor } : {}) });
  const viewing = { deps, timezone: await zoneOf(deps), count: many };
  return { items: items.map((row) => view(row, viewing)), ...(next ? { next } : {}) };
};

/** `/api/schedules` */
export const scheduleRoutes = (deps: ApiDeps) =>
  router().openapi(list, async (c) => {
    const { job, ...wish } = c.req.valid('query');
    const jobId = job === undefined ? undefined : (await getJob(deps.database.db, job)).id;
    return c.json(await page(deps, { ...wish, ...(jobId ? { jobId } : {}) }), 200);
  });

/** `/api/jobs/{name}/schedules` */
export const jobScheduleRoutes = (deps: ApiDeps) => {
  const { db } = deps.database;
  type Caller = Parameters<typeof audited>[1];
  const shown = async (name: string, key: string, many?: number) =>
    view(await getSchedule(db, name, key), { deps, timezone: await zoneOf(deps), ...(many ? { count: many } : {}) });
  const pause = async (
    c: Caller,
    paused: boolean,
    { name, key, note: why }: { name: string; key: string; note?: string | undefined },
  ) => {
    const said = why === undefined ? {} : { note: why };
    await pauseSchedule(db, await getSchedule(db, name, key), { paused, actor: actorOf(c), ...said });
    const action = paused ? 'pause schedule' : 'resume schedule';
    await audited(deps, c, { action, object: `schedule/${name}/${key}`, data: said });
    return await shown(name, key);
  };
  return router()
    .openapi(listOfJob, async (c) => {
      const { id: jobId } = await getJob(db, c.req.valid('param').name);
      return c.json(await page(deps, { ...c.req.valid('query'), jobId }), 200);
    })
    .openapi(get, async (c) => {
      const { name, key } = c.req.valid('param');
      return c.json(await shown(name, key, c.req.valid('query').count), 200);
    })
    .openapi(act('pause', 'No more runs start by it; one that goes on is not touched'), async (c) =>
      c.json(await pause(c, true, { ...c.req.valid('param'), ...c.req.valid('json') }), 200),
    )
    .openapi(act('resume', 'Runs start again at its next time; what was missed while paused stays so'), async (c) =>
      c.json(await pause(c, false, { ...c.req.valid('param'), ...c.req.valid('json') }), 200),
    )
    .openapi(trigger, async (c) => {
      const { name, key: scheduleKey } = c.req.valid('param');
      await getSchedule(db, name, scheduleKey);
      const job = await getJob(db, name);
      const idempotencyKey = c.req.valid('header')['idempotency-key'];
      const wish = { actor: actorOf(c), scheduleKey, ...(idempotencyKey ? { idempotencyKey } : {}) };
      const { run, again } = await startRun(deps, job, wish);
      if (again) return c.json(runView(run), 200);
      const { note: why } = c.req.valid('json');
      const data = { schedule: scheduleKey, ...(why === undefined ? {} : { note: why }) };
      await audited(deps, c, { action: 'start', object: `run/${run.job}/${run.number}`, data });
      return c.json(runView(run), 201);
    });
};
