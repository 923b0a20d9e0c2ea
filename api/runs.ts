import { createRoute, z } from '@hono/zod-openapi';
import type { Predicate } from '../connectors/contract.ts';
import { listEvents } from '../db/events.ts';
import { getJob } from '../db/jobs.ts';
import { openRunBounds, openTableBounds } from '../db/run-bounds.ts';
import { getRunTable, listChunks, listRunTables } from '../db/run-tables.ts';
import { getRun, getRunSummary, listRuns, totalsOf } from '../db/runs.ts';
import { actorOf, audited } from './actor.ts';
import { controlRun, controlTable, type RunAction, type TableAction } from './control.ts';
import type { ApiDeps } from './deps.ts';
import { router, strict } from './problem.ts';
import { predicateSchema } from './run-request.ts';
import {
  eventSchema,
  eventView,
  modes,
  runSchema,
  runStatuses,
  runsPage,
  runView,
  tableSchema,
  tableStatuses,
  tableView,
} from './run-views.ts';
import * as s from './schemas.ts';
import { retryRun } from './start.ts';

const tags = ['runs'];
const at = { tags, method: 'get' } as const;
const params = strict({ id: s.uuidParam });
const ordinal = z.coerce.number().int().min(1).max(2_147_483_647);
const tableParams = strict({ id: s.uuidParam, ordinal });
const query = s.empty;
const note = s.body(strict({ note: z.string().max(500).optional().describe('Why; stands in the audit') }), false);
const one = s.json(runSchema, 'The run');

const list = createRoute({
  ...at,
  path: '/',
  operationId: 'listRuns',
  request: {
    query: strict({
      ...s.paging,
      job: z.string().min(1).max(200).optional(),
      status: s.listOf(runStatuses).describe('One or more, separated by commas'),
      trigger: z.string().min(1).max(50).optional(),
      table: z.string().min(1).max(300).optional().describe('Runs with this table; `schema.table` or `table`'),
      target: z.string().min(1).max(200).optional(),
      mode: z.enum(modes).optional(),
      minSeconds: z.coerce.number().min(0).max(1e9).optional().describe('Runs that took so long at least'),
      since: s.instantQuery,
      until: s.instantQuery,
    }),
  },
  responses: { 200: s.json(runsPage, 'The newest first') },
});
const get = createRoute({
  ...at,
  path: '/{id}',
  operationId: 'getRun',
  request: { params, query },
  responses: { 200: one },
});
const document = createRoute({
  ...at,
  path: '/{id}/document',
  operationId: 'getRunDocument',
  summary: 'The frozen document this run works on',
  request: { params, query },
  responses: { 200: s.json(z.record(z.string(), z.unknown()), 'The document') },
});
const tables = createRoute({
  ...at,
  path: '/{id}/tables',
  operationId: 'listRunTables',
  request: { params, query: strict({ ...s.paging, status: s.listOf(tableStatuses) }) },
  responses: { 200: s.json(s.pageSchema(tableSchema), 'In the order of the plan') },
});
const table = createRoute({
  ...at,
  path: '/{id}/tables/{ordinal}',
  operationId: 'getRunTable',
  request: { params: tableParams, query },
  responses: { 200: s.json(tableSchema, 'The table') },
});
const chunkSchema = z
  .object({
    generation: z.number().int(),
    chunk: z.number().int(),
    kind: z.string(),
    status: z.string(),
    lane: z.string().nullable(),
    estimatedRows: z.number().int(),
    rowsRead: z.number().int(),
    rowsWritten: z.number().int(),
    rowsFiltered: z.number().int(),
    rowsQuarantined: z.number().int(),
    rowsMoving: z.number().int(),
    bytes: z.number().int(),
    attempts: z.number().int(),
    startedAt: s.maybeInstant,
    endedAt: s.maybeInstant,
  })
  .openapi('Chunk');
const chunks = createRoute({
  ...at,
  path: '/{id}/tables/{ordinal}/chunks',
  operationId: 'listChunks',
  summary: 'Without their bounds, which hold key values',
  request: { params: tableParams, query: strict(s.paging) },
  responses: { 200: s.json(s.pageSchema(chunkSchema), 'In order') },
});
const events = createRoute({
  ...at,
  path: '/{id}/events',
  operationId: 'listEvents',
  request: {
    params,
    query: strict({
      ...s.paging,
      after: z.coerce.number().int().min(0).optional().describe('Only those behind this id'),
      ordinal: ordinal.optional(),
      level: s.listOf(['info', 'warn', 'error']),
      kind: z.string().min(1).max(100).optional(),
      order: z.enum(['oldest', 'newest']).default('oldest'),
    }),
  },
  responses: { 200: s.json(s.pageSchema(eventSchema), 'What happened') },
});
const boundsRoute = createRoute({
  ...at,
  path: '/{id}/bounds',
  operationId: 'openBounds',
  summary:
    'From which bookmark or key to which each table was read, and what a backfill asked for. Audited: key values',
  request: { params, query: strict({ ...s.paging, ordinal: ordinal.optional() }) },
  responses: {
    200: s.json(
      z.object({
        asked: z
          .object({
            from: z.string().optional(),
            upto: z.string().optional(),
            where: z.array(predicateSchema).optional(),
          })
          .nullable(),
        items: z.array(
          z
            .object({
              ordinal: z.number().int(),
              sourceName: z.string(),
              target: z.string(),
              step: z.string().nullable(),
              by: z.enum(['bookmark', 'key']).nullable(),
              column: z.string().nullable(),
              from: z.string().nullable().describe('Inclusive; null: from the first'),
              upto: z.string().nullable().describe('Inclusive'),
              where: z.array(predicateSchema).nullable(),
            })
            .openapi('TableBounds'),
        ),
        next: z.string().optional(),
      }),
      'Tables of incremental modes, in the order of the plan',
    ),
  },
});
const act = <A extends string>(action: A, summary: string) =>
  createRoute({
    ...at,
    method: 'post',
    path: `/{id}/${action}` as const,
    operationId: `${action}Run`,
    summary,
    request: { params, query, body: note },
    responses: { 200: one },
  });
const actOnTable = <A extends string>(action: A, summary: string) =>
  createRoute({
    ...at,
    method: 'post',
    path: `/{id}/tables/{ordinal}/${action}` as const,
    operationId: `${action}Table`,
    summary,
    request: { params: tableParams, query, body: note },
    responses: { 200: s.json(tableSchema, 'The table') },
  });

export const runRoutes = (deps: ApiDeps) => {
  const { db } = deps.database;
  type Caller = Parameters<typeof audited>[1];
  const steer = async (c: Caller, action: RunAction, id: string, note?: string) => {
    const said = note === undefined ? {} : { note };
    const run = await controlRun(deps, action, { runId: id, actor: actorOf(c), ...said });
    await audited(deps, c, { action, object: `run/${run.job}/${run.number}`, data: said });
    return runView(run);
  };
  const steerTable = async (
    c: Caller,
    action: TableAction,
    { id, ordinal: which, note }: { id: string; ordinal: number; note?: string },
  ) => {
    const said = note === undefined ? {} : { note };
    const found = await controlTable(deps, action, { runId: id, ordinal: which, actor: actorOf(c), ...said });
    await audited(deps, c, { action: `${action} table`, object: `run/${id}`, data: { ordinal: which, ...said } });
    return tableView(found);
  };
  return router()
    .openapi(list, async (c) => {
      const { job, status: statuses, ...wish } = c.req.valid('query');
      const jobId = job === undefined ? undefined : (await getJob(db, job)).id;
      const { items, next } = await listRuns(db, {
        ...wish,
        ...(jobId ? { jobId } : {}),
        ...(statuses ? { statuses } : {}),
      });
      return c.json({ items: items.map((run) => runView(run)), ...(next ? { next } : {}) }, 200);
    })
    .openapi(get, async (c) => {
      const { id } = c.req.valid('param');
      const [run, totals] = await Promise.all([getRunSummary(db, { id }), totalsOf(db, [id])]);
      return c.json(runView(run, totals.get(id)), 200);
    })
    .openapi(document, async (c) => {
      const run = await getRun(db, c.req.valid('param').id);
      return c.json(run.document as Record<string, unknown>, 200);
    })
    .openapi(tables, async (c) => {
      const { id: runId } = c.req.valid('param');
      const { status: statuses, ...wish } = c.req.valid('query');
      const { items, next } = await listRunTables(db, { ...wish, runId, ...(statuses ? { statuses } : {}) });
      if (items.length === 0) await getRunSummary(db, { id: runId });
      return c.json({ items: items.map(tableView), ...(next ? { next } : {}) }, 200);
    })
    .openapi(table, async (c) => {
      const { id, ordinal: which } = c.req.valid('param');
      return c.json(tableView(await getRunTable(db, id, which)), 200);
    })
    .openapi(chunks, async (c) => {
      const { id: runId, ordinal: which } = c.req.valid('param');
      const { items, next } = await listChunks(db, { ...c.req.valid('query'), runId, ordinal: which });
      if (items.length === 0) await getRunTable(db, runId, which);
      const shown = items.map((chunk) => ({
        ...chunk,
        startedAt: s.iso(chunk.startedAt),
        endedAt: s.iso(chunk.endedAt),
      }));
      return c.json({ items: shown, ...(next ? { next } : {}) }, 200);
    })
    .openapi(events, async (c) => {
      const { id: runId } = c.req.valid('param');
      const { level: levels, order, ...wish } = c.req.valid('query');
      const newest = order === 'newest';
      const { items, next } = await listEvents(db, { ...wish, runId, newest, ...(levels ? { levels } : {}) });
      if (items.length === 0) await getRunSummary(db, { id: runId });
      return c.json({ items: items.map(eventView), ...(next ? { next } : {}) }, 200);
    })
    .openapi(boundsRoute, async (c) => {
      const { id: runId } = c.req.valid('param');
      const wish = c.req.valid('query');
      const run = await getRunSummary(db, { id: runId });
      // Written first, as with quarantined rows.
      const data = wish.ordinal === undefined ? {} : { ordinal: wish.ordinal };
      await audited(deps, c, { action: 'open bounds', object: `run/${run.job}/${run.number}`, data });
      const { items, next } = await openTableBounds(db, deps.sealer, { ...wish, runId });
      const { bounds } = await openRunBounds(db, deps.sealer, runId);
      const tests = (where: readonly Predicate[]) => where.map((one) => ({ ...one, values: [...one.values] }));
      const { where, ...ends } = bounds ?? {};
      const asked = bounds && { ...ends, ...(where ? { where: tests(where) } : {}) };
      const shown = items.map((one) => ({ ...one, where: one.where ? tests(one.where) : null }));
      return c.json({ asked, items: shown, ...(next ? { next } : {}) }, 200);
    })
    .openapi(act('pause', 'No new chunks start; those that move finish'), async (c) =>
      c.json(await steer(c, 'pause', c.req.valid('param').id, c.req.valid('json').note), 200),
    )
    .openapi(act('resume', 'Goes on where it was'), async (c) =>
      c.json(await steer(c, 'resume', c.req.valid('param').id, c.req.valid('json').note), 200),
    )
    .openapi(act('cancel', 'Ends it cleanly: staging is discarded, what was published stays'), async (c) =>
      c.json(await steer(c, 'cancel', c.req.valid('param').id, c.req.valid('json').note), 200),
    )
    .openapi(
      act('retry', 'Another try of a run that is over: from its checkpoints, with the same document'),
      async (c) => {
        const run = await retryRun(deps, c.req.valid('param').id);
        const { note } = c.req.valid('json');
        const data = { attempt: run.attempt, ...(note === undefined ? {} : { note }) };
        await audited(deps, c, { action: 'retry', object: `run/${run.job}/${run.number}`, data });
        return c.json(runView(run), 200);
      },
    )
    .openapi(actOnTable('pause', 'This table alone'), async (c) =>
      c.json(await steerTable(c, 'pause', { ...c.req.valid('param'), ...c.req.valid('json') }), 200),
    )
    .openapi(actOnTable('resume', 'This table alone'), async (c) =>
      c.json(await steerTable(c, 'resume', { ...c.req.valid('param'), ...c.req.valid('json') }), 200),
    )
    .openapi(actOnTable('skip', 'Leaves it out: its staging is discarded, the run ends as partial'), async (c) =>
      c.json(await steerTable(c, 'skip', { ...c.req.valid('param'), ...c.req.valid('json') }), 200),
    )
    .openapi(actOnTable('retry', 'A failed table of a run that goes on, from its checkpoints'), async (c) =>
      c.json(await steerTable(c, 'retry', { ...c.req.valid('param'), ...c.req.valid('json') }), 200),
    );
};
