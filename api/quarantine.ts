/** Rows set aside: counted for all, opened with a line in the audit, replayed, waived. */
import { createRoute, z } from '@hono/zod-openapi';
import { getJob } from '../db/jobs.ts';
import {
  countQuarantined,
  listQuarantined,
  type OpenedRow,
  openQuarantined,
  openTables,
  quarantineStates,
  settleQuarantined,
} from '../db/quarantine.ts';
import { getRunTable } from '../db/run-tables.ts';
import { findActive, getRunSummary, type RunSummary } from '../db/runs.ts';
import { GodwitError } from '../errors.ts';
import { actorOf, audited } from './actor.ts';
import { csvLines, jsonValue } from './cells.ts';
import type { ApiDeps } from './deps.ts';
import { probe } from './probe.ts';
import { router, strict } from './problem.ts';
import * as s from './schemas.ts';

const tags = ['quarantine'];
const at = { tags, method: 'get' } as const;
const params = strict({ id: s.uuidParam });
const ordinal = z.coerce.number().int().min(1).max(2_147_483_647);
const state = s.listOf(quarantineStates).describe('One or more, separated by commas');

const tableLine = z
  .object({
    job: z.string(),
    run: z.number().int(),
    runId: z.uuid(),
    createdAt: s.instant,
    ordinal: z.number().int(),
    sourceName: z.string(),
    target: z.string(),
    targetName: z.string(),
    status: z.string(),
    columns: z.array(z.string()),
    codes: z.array(z.string()).describe('The target’s own, where it gave one'),
    open: z.number().int(),
    replayed: z.number().int(),
    waived: z.number().int(),
    firstAt: s.instant.describe('When the first of them was set aside with these values, by whichever run'),
    lastAt: s.instant,
  })
  .openapi('QuarantinedTable');
const list = createRoute({
  ...at,
  path: '/',
  operationId: 'listQuarantined',
  summary: 'Per run and table, without values; a row that is set aside again is counted in the latest run alone',
  request: { query: strict({ ...s.paging, job: z.string().min(1).max(200).optional(), state }) },
  responses: { 200: s.json(s.pageSchema(tableLine), 'The latest runs first') },
});

/** `/api/quarantine` */
export const quarantineRoutes = (deps: ApiDeps) => {
  const { db } = deps.database;
  return router().openapi(list, async (c) => {
    const { job, state: states, ...wish } = c.req.valid('query');
    const jobId = job === undefined ? undefined : (await getJob(db, job)).id;
    const { items, next } = await listQuarantined(db, {
      ...wish,
      ...(jobId ? { jobId } : {}),
      ...(states ? { states } : {}),
    });
    const shown = items.map((one) => ({
      ...one,
      createdAt: one.createdAt.toISOString(),
      firstAt: one.firstAt.toISOString(),
      lastAt: one.lastAt.toISOString(),
    }));
    return c.json({ items: shown, ...(next ? { next } : {}) }, 200);
  });
};

const counts = createRoute({
  ...at,
  path: '/{id}/quarantine/counts',
  operationId: 'countQuarantined',
  request: { params, query: s.empty },
  responses: {
    200: s.json(
      z.object({
        items: z.array(
          z.object({
            ordinal: z.number().int(),
            column: z.string().nullable(),
            code: z.string(),
            state: z.enum(quarantineStates),
            rows: z.number().int(),
          }),
        ),
      }),
      'Per table, column, code and state',
    ),
  },
});
const rowSchema = z
  .object({
    ordinal: z.number().int(),
    chunk: z.number().int(),
    row: z.number().int(),
    column: z.string().nullable(),
    code: z.string(),
    native: z.string().nullable(),
    at: s.instant,
    state: z.enum(quarantineStates),
    actor: z.string().nullable(),
    note: z.string().nullable(),
    settledAt: s.maybeInstant,
    firstAt: s.instant.describe('When a run first set this row aside with these values'),
    lastAt: s.instant,
    runs: z.number().int().describe('How many did'),
    values: z.record(z.string(), z.unknown()).describe('By target column'),
    reason: z.string(),
  })
  .openapi('QuarantinedRow');
const open = createRoute({
  ...at,
  path: '/{id}/quarantine',
  operationId: 'openQuarantined',
  summary: 'The rows themselves, which is audited',
  request: { params, query: strict({ ...s.paging, ordinal: ordinal.optional(), state }) },
  responses: { 200: s.json(s.pageSchema(rowSchema), 'In the order of the source') },
});
const exported = createRoute({
  ...at,
  path: '/{id}/quarantine/export',
  operationId: 'exportQuarantined',
  summary: 'All rows of one table, or of the run, as a file; audited',
  request: {
    params,
    query: strict({ format: z.enum(['ndjson', 'csv']).default('ndjson'), ordinal: ordinal.optional(), state }),
  },
  responses: {
    200: {
      description: 'NDJSON: one row per line as in the list. CSV: of one table, its columns and the reason',
      content: { 'application/x-ndjson': { schema: z.string() }, 'text/csv': { schema: z.string() } },
    },
  },
});
const chosen = {
  ordinal: z.number().int().min(1).optional().describe('Only of this table'),
  rows: z
    .array(
      z.strictObject({
        ordinal: z.number().int().min(1),
        chunk: z.number().int().min(1),
        row: z.number().int().min(0),
      }),
    )
    .min(1)
    .max(10_000)
    .optional()
    .describe('Only these'),
};
const replay = createRoute({
  ...at,
  method: 'post',
  path: '/{id}/quarantine/replay',
  operationId: 'replayQuarantined',
  summary:
    'Writes open rows into their tables, after the target or the mapping was mended; ALREADY_RUNNING beside a run',
  request: { params, query: s.empty, body: s.body(strict(chosen), false) },
  responses: {
    200: s.json(
      z.object({
        tables: z.array(
          z.object({
            ordinal: z.number().int(),
            sourceName: z.string(),
            target: z.string(),
            replayed: z.number().int(),
            present: z.number().int().describe('Of the replayed ones: a row of that key was there and stays as it is'),
            open: z.number().int().describe('Refused again, with the new reason'),
          }),
        ),
      }),
      'Per table',
    ),
  },
});
const waive = createRoute({
  ...at,
  method: 'post',
  path: '/{id}/quarantine/waive',
  operationId: 'waiveQuarantined',
  summary: 'Gives open rows up, with a reason',
  request: { params, query: s.empty, body: s.body(strict({ ...chosen, note: z.string().min(1).max(500) })) },
  responses: { 200: s.json(z.object({ waived: z.number().int() }), 'How many') },
});

/** `/api/runs/{id}/quarantine…` */
export const runQuarantineRoutes = (deps: ApiDeps) => {
  const { db } = deps.database;
  const label = (run: RunSummary) => `run/${run.job}/${run.number}`;
  return router()
    .openapi(counts, async (c) => {
      const { id } = c.req.valid('param');
      await getRunSummary(db, { id });
      return c.json({ items: await countQuarantined(db, id) }, 200);
    })
    .openapi(open, async (c) => {
      const { id: runId } = c.req.valid('param');
      const { state: states, ...wish } = c.req.valid('query');
      const run = await getRunSummary(db, { id: runId });
      // Written first: nobody sees a row without a line about it.
      const data = wish.ordinal === undefined ? {} : { ordinal: wish.ordinal };
      await audited(deps, c, { action: 'open quarantined rows', object: label(run), data });
      const { items, next } = await openQuarantined(db, deps.sealer, { ...wish, ...(states ? { states } : {}), runId });
      return c.json({ items: items.map(rowView), ...(next ? { next } : {}) }, 200);
    })
    .openapi(exported, async (c) => {
      const { id: runId } = c.req.valid('param');
      const { format, state: states, ordinal: which } = c.req.valid('query');
      const run = await getRunSummary(db, { id: runId });
      const wish = { runId, ...(states ? { states } : {}), ...(which === undefined ? {} : { ordinal: which }) };
      const data = { format, ...(which === undefined ? {} : { ordinal: which }) };
      await audited(deps, c, { action: 'export quarantined rows', object: label(run), data });
      const rows = allRows(deps, wish);
      const lines = format === 'csv' ? csvLines(rows) : ndjsonLines(rows);
      const type = format === 'csv' ? 'text/csv; charset=utf-8' : 'application/x-ndjson';
      return c.body(streamOf(lines), 200, { 'content-type': type }) as never;
    })
    .openapi(replay, async (c) => {
      const { id: runId } = c.req.valid('param');
      const wanted = c.req.valid('json');
      const run = await getRunSummary(db, { id: runId });
      const active = await findActive(db, { jobId: run.jobId });
      if (active) {
        const message = `Run ${active.number} of the job "${run.job}" is ${active.status}: rows are replayed when it is over.`;
        throw new GodwitError('ALREADY_RUNNING', message, { job: run.job, run: `${run.job}/${active.number}` });
      }
      const named = new Set(wanted.rows?.map((one) => one.ordinal));
      const found = await openTables(db, {
        runId,
        ...(wanted.ordinal === undefined ? {} : { ordinal: wanted.ordinal }),
      });
      const ordinals = found.filter((one) => !wanted.rows || named.has(one));
      await audited(deps, c, { action: 'replay quarantined rows', object: label(run), data: { ordinals } });
      const tables = [];
      for (const one of ordinals) {
        const rows = wanted.rows?.filter((place) => place.ordinal === one);
        const request = { kind: 'replay' as const, runId, ordinal: one, actor: actorOf(c), ...(rows ? { rows } : {}) };
        const { replayed, present, open: left } = await probe(deps, request, 'replay');
        const table = await getRunTable(db, runId, one);
        tables.push({
          ordinal: one,
          sourceName: table.sourceName,
          target: table.target,
          replayed,
          present,
          open: left,
        });
      }
      return c.json({ tables }, 200);
    })
    .openapi(waive, async (c) => {
      const { id: runId } = c.req.valid('param');
      const { note, ordinal: which, rows } = c.req.valid('json');
      const run = await getRunSummary(db, { id: runId });
      const wish = { runId, ...(which === undefined ? {} : { ordinal: which }), ...(rows ? { rows } : {}) };
      const waived = await settleQuarantined(db, wish, { state: 'waived', actor: actorOf(c), note });
      await audited(deps, c, { action: 'waive quarantined rows', object: label(run), data: { note, waived } });
      return c.json({ waived }, 200);
    });
};

const rowView = ({ content, runId: _run, generation: _generation, ...row }: OpenedRow) => ({
  ...row,
  at: row.at.toISOString(),
  settledAt: s.iso(row.settledAt),
  firstAt: row.firstAt.toISOString(),
  lastAt: row.lastAt.toISOString(),
  values: Object.fromEntries(content.columns.map((column, i) => [column, jsonValue(content.row[i])])),
  reason: content.reason,
});

/** A page at a time: an export is as long as it is. */
async function* allRows(
  { database, sealer }: ApiDeps,
  wish: Omit<Parameters<typeof openQuarantined>[2], 'limit' | 'cursor'>,
): AsyncGenerator<OpenedRow> {
  let cursor: string | undefined;
  do {
    const page = await openQuarantined(database.db, sealer, { ...wish, limit: 500, ...(cursor ? { cursor } : {}) });
    yield* page.items;
    cursor = page.next;
  } while (cursor);
}

async function* ndjsonLines(rows: AsyncIterable<OpenedRow>): AsyncGenerator<string> {
  for await (const row of rows) yield `${JSON.stringify(rowView(row))}\n`;
}

const streamOf = (lines: AsyncIterable<string>): ReadableStream<Uint8Array> => {
  const encoder = new TextEncoder();
  return ReadableStream.from(lines).pipeThrough(
    new TransformStream<string, Uint8Array>({ transform: (line, to) => to.enqueue(encoder.encode(line)) }),
  );
};
