import { createRoute, z } from '@hono/zod-openapi';
import { getEndpoint } from '../db/endpoints.ts';
import { readCursor, writeCursor } from '../db/paging.ts';
import { GodwitError } from '../errors.ts';
import type { ApiDeps } from './deps.ts';
import { endpointRoutes } from './endpoints.ts';
import { probe, readProbe } from './probe.ts';
import { strict } from './problem.ts';
import * as s from './schemas.ts';

const tableName = z.object({ schema: z.string(), name: z.string() });
const tableSummary = z
  .object({
    name: tableName,
    kind: z.string().describe('`table`, `view`, `collection` …'),
    rows: z.number().describe('An estimate; -1 when unknown'),
    bytes: z.number(),
    readable: z.boolean(),
  })
  .openapi('TableSummary');
const describedTable = z
  .looseObject({
    name: tableName,
    kind: z.string(),
    columns: z.array(z.looseObject({ name: z.string(), type: z.unknown(), native: z.string(), nullable: z.boolean() })),
    key: z.array(z.string()),
    rows: z.number(),
    bytes: z.number(),
  })
  .openapi('Table');

const tags = ['sources'];
const tables = createRoute({
  method: 'get',
  path: '/{name}/tables',
  tags,
  operationId: 'listSourceTables',
  summary: 'What a worker finds there now; further pages are of the same look',
  request: { params: s.nameParam, query: strict({ ...s.paging, limit: s.limit.default(500) }) },
  responses: { 200: s.json(s.pageSchema(tableSummary), 'By schema and name') },
});
const columns = createRoute({
  method: 'get',
  path: '/{name}/tables/{table}',
  tags,
  operationId: 'getSourceTable',
  summary:
    '`schema.table`, URL-encoded; without a schema, the one of that name in the default schema. Of a collection: the fields and types that a sample of its documents has',
  request: { params: strict({ name: z.string().min(1).max(200), table: z.string().min(1).max(200) }), query: s.empty },
  responses: { 200: s.json(describedTable, 'The table with its columns') },
});

export const sourceRoutes = (deps: ApiDeps) =>
  endpointRoutes('source', deps)
    .openapi(tables, async (c) => {
      const { limit, cursor } = c.req.valid('query');
      const { id } = await getEndpoint(deps.database.db, 'source', c.req.valid('param').name);
      const [probeId, from] = cursor === undefined ? [undefined, 0] : readCursor(cursor, ['string', 'number']);
      if (probeId !== undefined && !z.uuid().safeParse(probeId).success) {
        throw new GodwitError('USAGE', 'cursor: give back `next` of the page before, unchanged.');
      }
      const found =
        probeId === undefined
          ? await probe(deps, { kind: 'tables', sourceId: id }, 'tables')
          : { ...(await readProbe(deps, probeId, 'tables')), probeId };
      const items = found.tables.slice(from, from + limit);
      const next = from + limit < found.tables.length ? { next: writeCursor([found.probeId, from + limit]) } : {};
      return c.json({ items: [...items], ...next }, 200);
    })
    .openapi(columns, async (c) => {
      const { name, table } = c.req.valid('param');
      const { id } = await getEndpoint(deps.database.db, 'source', name);
      const dot = table.indexOf('.');
      const wanted = { schema: dot < 0 ? '' : table.slice(0, dot), table: table.slice(dot + 1) };
      const found = await probe(deps, { kind: 'columns', sourceId: id, ...wanted }, 'columns');
      return c.json(found.table as z.infer<typeof describedTable>, 200);
    });
