/** `/api/history`: what was moved, one line per run and table (the dashboard of the manual). */
import { createRoute, z } from '@hono/zod-openapi';
import { listHistory } from '../db/history.ts';
import { getJob } from '../db/jobs.ts';
import type { ApiDeps } from './deps.ts';
import { router, strict } from './problem.ts';
import { modes, tableSchema, tableStatuses, tableView } from './run-views.ts';
import * as s from './schemas.ts';

const lineSchema = tableSchema
  .extend({
    job: z.string(),
    run: z.number().int().describe('Its number'),
    runId: z.uuid(),
    createdAt: s.instant.describe('Of the run'),
    seconds: z.number().nullable().describe('From the table’s start to its end'),
  })
  .openapi('HistoryLine');

const list = createRoute({
  tags: ['runs'],
  method: 'get',
  path: '/',
  operationId: 'listHistory',
  summary: 'Runs by table: rows, bytes, time, mode, step, lane, retries, failure',
  request: {
    query: strict({
      ...s.paging,
      job: z.string().min(1).max(200).optional(),
      table: z.string().min(1).max(300).optional().describe('`schema.table` or `table`, at the source or the target'),
      target: z.string().min(1).max(200).optional(),
      mode: z.enum(modes).optional(),
      status: s.listOf(tableStatuses).describe('One or more, separated by commas'),
      since: s.instantQuery,
      until: s.instantQuery,
      minSeconds: z.coerce.number().min(0).max(1e9).optional(),
    }),
  },
  responses: { 200: s.json(s.pageSchema(lineSchema), 'The latest runs first') },
});

export const historyRoutes = (deps: ApiDeps) => {
  const { db } = deps.database;
  return router().openapi(list, async (c) => {
    const { job, status: statuses, ...wish } = c.req.valid('query');
    const jobId = job === undefined ? undefined : (await getJob(db, job)).id;
    const { items, next } = await listHistory(db, {
      ...wish,
      ...(jobId ? { jobId } : {}),
      ...(statuses ? { statuses } : {}),
    });
    const shown = items.map(({ job: name, number, createdAt, table }) => ({
      ...tableView(table),
      job: name,
      run: number,
      runId: table.runId,
      createdAt: createdAt.toISOString(),
      seconds: table.startedAt && table.endedAt ? (table.endedAt.getTime() - table.startedAt.getTime()) / 1000 : null,
    }));
    return c.json({ items: shown, ...(next ? { next } : {}) }, 200);
  });
};
