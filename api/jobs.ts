import { createRoute, z } from '@hono/zod-openapi';
import { trendOf } from '../db/history.ts';
import {
  applyJob,
  fillFromSaved,
  getJob,
  type JobWithDocument,
  listJobs,
  listJobVersions,
  removeJob,
} from '../db/jobs.ts';
import { sealProbeEndpoints, sealTakeover } from '../db/probes.ts';
import { getRunSummary, latestRuns, listRuns, type RunSummary, totalsOf } from '../db/runs.ts';
import { GodwitError } from '../errors.ts';
import { actorOf, audited } from './actor.ts';
import type { ApiDeps } from './deps.ts';
import { mappingContent, readMapping } from './mapping-body.ts';
import { probe } from './probe.ts';
import { router, strict } from './problem.ts';
import { runRequestSchema } from './run-request.ts';
import { runSchema, runStatuses, runsPage, runView } from './run-views.ts';
import * as s from './schemas.ts';
import { startRun } from './start.ts';

const document = z.record(z.string(), z.unknown()).describe('The mapping, defaults filled in; no secret is in it');
const jobSchema = z
  .object({
    name: z.string(),
    uid: z.uuid().describe('Survives renames; stamped into targets'),
    version: z.number().int().describe('Of the document; raised when it changes'),
    source: z.string(),
    targets: z.array(z.string()),
    document,
    lastRun: runSchema.nullable(),
    outcome: z.enum(['created', 'updated', 'unchanged']).optional().describe('Of an apply'),
    warnings: z.array(z.string()).optional().describe('Keys without effect in this version'),
    createdAt: s.instant,
    updatedAt: s.instant,
  })
  .openapi('Job');

const view = (job: JobWithDocument, last?: RunSummary) => ({
  name: job.name,
  uid: job.uid,
  version: job.version,
  source: job.document.source,
  targets: Object.keys(job.document.targets),
  document: job.document as unknown as Record<string, unknown>,
  lastRun: last ? runView(last) : null,
  createdAt: job.createdAt.toISOString(),
  updatedAt: job.updatedAt.toISOString(),
});

const planSchema = z
  .looseObject({ tables: z.array(z.record(z.string(), z.unknown())) })
  .openapi('Plan', { description: 'Per table and target: lane, names, chunks, notes, or why it is refused' });

const tags = ['jobs'];
const one = s.json(jobSchema, 'The job');
const params = s.nameParam;
const query = s.empty;
const at = { tags, method: 'get' } as const;

const list = createRoute({
  ...at,
  path: '/',
  operationId: 'listJobs',
  request: { query: strict(s.paging) },
  responses: { 200: s.json(s.pageSchema(jobSchema), 'By name') },
});
const apply = createRoute({
  ...at,
  method: 'post',
  path: '/',
  operationId: 'applyMapping',
  summary: 'Makes the job of the mapping, or a new version of it when it differs',
  request: { query, body: mappingContent },
  responses: { 200: one, 201: one },
});
const get = createRoute({
  ...at,
  path: '/{name}',
  operationId: 'getJob',
  request: { params, query },
  responses: { 200: one },
});
const put = createRoute({
  ...at,
  method: 'put',
  path: '/{name}',
  operationId: 'changeJob',
  summary: 'The same as applying; a mapping of another name renames the job, which keeps its uid',
  request: { params, query, body: mappingContent },
  responses: { 200: one, 201: one },
});
const remove = createRoute({
  ...at,
  method: 'delete',
  path: '/{name}',
  operationId: 'removeJob',
  summary: 'With its runs. IN_USE while it runs. What it wrote to targets stays',
  request: { params, query },
  responses: { 204: { description: 'Removed' } },
});
const versions = createRoute({
  ...at,
  path: '/{name}/versions',
  operationId: 'listJobVersions',
  request: { params, query },
  responses: {
    200: s.json(
      z.object({ items: z.array(z.object({ version: z.number().int(), createdAt: s.instant, document })) }),
      'The newest first',
    ),
  },
});
const planPost = createRoute({
  ...at,
  method: 'post',
  path: '/{name}/plan',
  operationId: 'planJob',
  summary: 'What a run would do now; moves nothing',
  request: { params, query, body: s.body(s.empty, false) },
  responses: { 200: s.json(planSchema, 'The plan') },
});
const planGet = createRoute({
  ...at,
  path: '/{name}/plan',
  operationId: 'getJobPlan',
  request: { params, query },
  responses: { 200: s.json(planSchema, 'The plan') },
});
const start = createRoute({
  ...at,
  method: 'post',
  path: '/{name}/runs',
  operationId: 'startRun',
  summary: 'ALREADY_RUNNING while one is not over. The same Idempotency-Key answers the same run',
  request: {
    params,
    query,
    headers: z.object({ 'idempotency-key': z.string().min(1).max(200).optional() }),
    body: s.body(runRequestSchema, false),
  },
  responses: { 200: s.json(runSchema, 'The run of that key'), 201: s.json(runSchema, 'The new run') },
});
const runs = createRoute({
  ...at,
  path: '/{name}/runs',
  operationId: 'listJobRuns',
  request: {
    params,
    query: strict({ ...s.paging, status: s.listOf(runStatuses), since: s.instantQuery, until: s.instantQuery }),
  },
  responses: { 200: s.json(runsPage, 'The newest first') },
});
const run = createRoute({
  ...at,
  path: '/{name}/runs/{number}',
  operationId: 'getJobRun',
  request: {
    params: strict({ name: z.string().min(1).max(200), number: z.coerce.number().int().min(1).max(2_147_483_647) }),
    query,
  },
  responses: { 200: s.json(runSchema, 'The run') },
});

const trend = createRoute({
  ...at,
  path: '/{name}/trend',
  operationId: 'getJobTrend',
  summary: 'How its last runs went',
  request: { params, query: strict({ runs: z.coerce.number().int().min(1).max(500).default(30) }) },
  responses: {
    200: s.json(
      z
        .object({
          runs: z.array(
            z.object({
              number: z.number().int(),
              status: z.enum(runStatuses),
              endedAt: s.instant,
              seconds: z.number().nullable(),
              rowsRead: z.number().int(),
              rowsWritten: z.number().int(),
            }),
          ),
          medianSeconds: z.number().nullable().describe('Of the succeeded ones among these'),
          p95Seconds: z.number().nullable(),
          successRate7: z
            .number()
            .nullable()
            .describe(
              'Of the runs that ended in the last 7 days: succeeded of succeeded, partial and failed. Null: none',
            ),
          successRate30: z.number().nullable(),
        })
        .openapi('JobTrend'),
      'The latest first',
    ),
  },
});
const takenSchema = z.object({
  table: z.string(),
  target: z.string(),
  targetName: z.string(),
  failure: s.failureSchema.optional(),
});
const takeOver = createRoute({
  ...at,
  method: 'post',
  path: '/{name}/takeover',
  operationId: 'takeOverTables',
  summary: 'Tables that another tool has kept so far: the next run goes on where that one stopped',
  request: {
    params,
    query,
    body: s.body(
      strict({
        tables: z
          .array(
            z.strictObject({
              table: z.string().min(1).max(300).describe('As at the source'),
              target: z.string().min(1).max(200).optional().describe('Of the job’s; absent: each of them'),
              lastRun: z
                .string()
                .min(1)
                .max(60)
                .describe('When its last run began, ISO 8601; without a zone in the job’s'),
              lastKey: z.string().min(1).max(2000).optional().describe('The greatest key it has moved (logging)'),
              lastBookmark: z.string().min(1).max(60).optional().describe('The greatest bookmark it has moved'),
            }),
          )
          .min(1)
          .max(1000),
      }),
    ),
  },
  responses: {
    200: s.json(
      z.object({
        tables: z.array(takenSchema),
      }),
      'Per table and target',
    ),
  },
});

export const jobRoutes = (deps: ApiDeps) => {
  const { db } = deps.database;
  const planOf = async (name: string) => {
    const { id } = await getJob(db, name);
    return (await probe(deps, { kind: 'plan', jobId: id }, 'plan')).plan as z.infer<typeof planSchema>;
  };
  return router()
    .openapi(list, async (c) => {
      const { items, next } = await listJobs(db, c.req.valid('query'));
      const last = await latestRuns(
        db,
        items.map(({ id }) => id),
      );
      return c.json({ items: items.map((job) => view(job, last.get(job.id))), ...(next ? { next } : {}) }, 200);
    })
    .openapi(apply, async (c) => {
      const parsed = await readMapping(c);
      const { job, outcome } = await applyJob(db, deps.sealer, { parsed });
      await audited(deps, c, { action: 'apply', object: `job/${job.name}`, data: { outcome, version: job.version } });
      const last = (await latestRuns(db, [job.id])).get(job.id);
      const answer = { ...view(job, last), outcome, warnings: [...parsed.warnings] };
      return outcome === 'created' ? c.json(answer, 201) : c.json(answer, 200);
    })
    .openapi(get, async (c) => {
      const job = await getJob(db, c.req.valid('param').name);
      return c.json(view(job, (await latestRuns(db, [job.id])).get(job.id)), 200);
    })
    .openapi(put, async (c) => {
      const { name } = c.req.valid('param');
      const parsed = await readMapping(c);
      const { job, outcome } = await applyJob(db, deps.sealer, { parsed, name, create: parsed.document.name === name });
      await audited(deps, c, { action: 'apply', object: `job/${job.name}`, data: { outcome, version: job.version } });
      const last = (await latestRuns(db, [job.id])).get(job.id);
      const answer = { ...view(job, last), outcome, warnings: [...parsed.warnings] };
      return outcome === 'created' ? c.json(answer, 201) : c.json(answer, 200);
    })
    .openapi(remove, async (c) => {
      const { name } = c.req.valid('param');
      await removeJob(db, name);
      await audited(deps, c, { action: 'remove', object: `job/${name}` });
      return c.body(null, 204);
    })
    .openapi(versions, async (c) => {
      const { id } = await getJob(db, c.req.valid('param').name);
      const items = (await listJobVersions(db, id)).map((row) => ({
        version: row.version,
        createdAt: row.createdAt.toISOString(),
        document: row.document as Record<string, unknown>,
      }));
      return c.json({ items }, 200);
    })
    .openapi(planPost, async (c) => c.json(await planOf(c.req.valid('param').name), 200))
    .openapi(planGet, async (c) => c.json(await planOf(c.req.valid('param').name), 200))
    .openapi(start, async (c) => {
      const job = await getJob(db, c.req.valid('param').name);
      const idempotencyKey = c.req.valid('header')['idempotency-key'];
      const wanted = c.req.valid('json');
      const wish = { actor: actorOf(c), wanted, ...(idempotencyKey ? { idempotencyKey } : {}) };
      const { run, again } = await startRun(deps, job, wish);
      if (again) return c.json(runView(run), 200);
      const data = run.request ? { request: { ...run.request } } : {};
      await audited(deps, c, { action: 'start', object: `run/${run.job}/${run.number}`, data });
      return c.json(runView(run), 201);
    })
    .openapi(runs, async (c) => {
      const { status: statuses, ...wish } = c.req.valid('query');
      const { id: jobId } = await getJob(db, c.req.valid('param').name);
      const { items, next } = await listRuns(db, { ...wish, jobId, ...(statuses ? { statuses } : {}) });
      return c.json({ items: items.map((one) => runView(one)), ...(next ? { next } : {}) }, 200);
    })
    .openapi(trend, async (c) => {
      const { id } = await getJob(db, c.req.valid('param').name);
      const { runs: last, ...rates } = await trendOf(db, id, c.req.valid('query').runs);
      return c.json({ ...rates, runs: last.map((one) => ({ ...one, endedAt: one.endedAt.toISOString() })) }, 200);
    })
    .openapi(takeOver, async (c) => {
      const job = await getJob(db, c.req.valid('param').name);
      const { tables: wanted } = c.req.valid('json');
      const request = { kind: 'remember' as const, jobId: job.id, tables: sealTakeover(deps.sealer, wanted) };
      const { tables } = await probe(deps, request, 'remember');
      const taken = tables.filter(({ failure }) => !failure).map(({ table, target }) => `${table}@${target}`);
      await audited(deps, c, { action: 'take over', object: `job/${job.name}`, data: { tables: taken } });
      return c.json({ tables: tables as z.infer<typeof takenSchema>[] }, 200);
    })
    .openapi(run, async (c) => {
      const { name: job, number } = c.req.valid('param');
      const found = await getRunSummary(db, { job, number });
      return c.json(runView(found, (await totalsOf(db, [found.id])).get(found.id)), 200);
    });
};

const planMapping = createRoute({
  ...at,
  method: 'post',
  path: '/',
  operationId: 'planMapping',
  summary: 'The plan of a mapping that is not applied; nothing is stored but for the time it takes',
  request: { query, body: mappingContent },
  responses: { 200: s.json(planSchema, 'The plan') },
});

/** `/api/plan` */
export const planRoutes = (deps: ApiDeps) =>
  router().openapi(planMapping, async (c) => {
    const { db } = deps.database;
    const parsed = await readMapping(c);
    if (parsed.open && (parsed.endpoints.source || Object.keys(parsed.endpoints.targets).length > 0)) {
      throw Object.assign(new GodwitError('USAGE', 'The mapping mixes saved endpoints and its own.'), {
        fix: 'Apply it, then plan the job.',
      });
    }
    const document = parsed.open ? await fillFromSaved(db, parsed.document) : parsed.document;
    const known = await getJob(db, document.name).catch(() => undefined);
    const request = {
      kind: 'plan' as const,
      document,
      endpoints: sealProbeEndpoints(deps.sealer, parsed.endpoints),
      ...(known ? { jobId: known.id } : {}),
    };
    return c.json((await probe(deps, request, 'plan')).plan as z.infer<typeof planSchema>, 200);
  });
