/** Sources and targets: the routes both have. */
import { createRoute, z } from '@hono/zod-openapi';
import { getConnection } from '../db/connections.ts';
import {
  createEndpoint,
  type EndpointKind,
  type EndpointRow,
  explainEndpoint,
  getEndpoint,
  listEndpoints,
  removeEndpoint,
  updateEndpoint,
} from '../db/endpoints.ts';
import { GodwitError } from '../errors.ts';
import { audited } from './actor.ts';
import { readChange, settingsBody } from './connections.ts';
import type { ApiDeps } from './deps.ts';
import { probe } from './probe.ts';
import { router, strict } from './problem.ts';
import * as s from './schemas.ts';
import { defaultsOf, readSettings, systemType, typeWords } from './settings.ts';

const view = (row: EndpointRow) => ({
  name: row.name,
  type: row.type,
  connection: row.connection,
  job: row.job,
  settings: { ...row.settings },
  secretNames: row.secretNames,
  createdAt: row.createdAt.toISOString(),
  updatedAt: row.updatedAt.toISOString(),
});

const explained = z.object({
  settings: z.array(
    z
      .object({
        setting: z.string(),
        value: z.unknown().describe('`***` for secrets'),
        from: z.enum(['source', 'target', 'connection', 'default']),
        secret: z.boolean(),
        overrides: z.unknown().optional().describe('What the level below says'),
      })
      .openapi('ExplainedSetting'),
  ),
});

function routesOf(kind: EndpointKind) {
  const Word = kind === 'source' ? 'Source' : 'Target';
  const schema = z
    .object({
      name: z.string(),
      type: z.string(),
      connection: z.string().nullable().describe('The connection it inherits from'),
      job: z.string().nullable().describe('The job in whose mapping it is written'),
      settings: z.record(z.string(), z.unknown()).describe('Its own; `explain` shows the effective ones'),
      secretNames: z.array(z.string()),
      createdAt: s.instant,
      updatedAt: s.instant,
    })
    .openapi(Word);
  const tags = [`${kind}s`];
  const connection = z.string().min(1).max(200).describe('Name of a connection');
  const one = s.json(schema, `The ${kind}`);
  return {
    list: createRoute({
      method: 'get',
      path: '/',
      tags,
      operationId: `list${Word}s`,
      request: {
        query: strict({
          ...s.paging,
          inline: z.enum(['true', 'false']).default('false').describe('Those written in mappings too'),
        }),
      },
      responses: { 200: s.json(s.pageSchema(schema), 'By name') },
    }),
    create: createRoute({
      method: 'post',
      path: '/',
      tags,
      operationId: `create${Word}`,
      request: {
        query: s.empty,
        body: s.body(
          strict({
            name: s.nameBody,
            type: systemType.optional().describe(`${typeWords}. Default: the connection's`),
            connection: connection.optional(),
            settings: settingsBody.default({}),
          }),
        ),
      },
      responses: { 201: one },
    }),
    get: createRoute({
      method: 'get',
      path: '/{name}',
      tags,
      operationId: `get${Word}`,
      request: { params: s.nameParam, query: s.empty },
      responses: { 200: one },
    }),
    put: createRoute({
      method: 'put',
      path: '/{name}',
      tags,
      operationId: `change${Word}`,
      summary: 'Settings are replaced; secrets that are not given stay',
      request: {
        params: s.nameParam,
        query: s.empty,
        body: s.body(
          strict({
            name: s.nameBody.optional(),
            type: z.string().optional(),
            connection: connection.nullable().optional(),
            settings: settingsBody.optional(),
          }),
        ),
      },
      responses: { 200: one },
    }),
    remove: createRoute({
      method: 'delete',
      path: '/{name}',
      tags,
      operationId: `remove${Word}`,
      summary: 'IN_USE while jobs use it',
      request: { params: s.nameParam, query: s.empty },
      responses: { 204: { description: 'Removed' } },
    }),
    test: createRoute({
      method: 'post',
      path: '/{name}/test',
      tags,
      operationId: `test${Word}`,
      request: { params: s.nameParam, query: s.empty, body: s.body(s.empty, false) },
      responses: { 200: s.json(s.checksSchema, 'Named checks') },
    }),
    explain: createRoute({
      method: 'get',
      path: '/{name}/explain',
      tags,
      operationId: `explain${Word}`,
      request: { params: s.nameParam, query: s.empty },
      responses: { 200: s.json(explained, 'Each effective setting and the level that set it') },
    }),
  };
}

export const endpointRoutes = (kind: EndpointKind, deps: ApiDeps) => {
  const { db } = deps.database;
  const { list, create, get, put, remove, test, explain } = routesOf(kind);
  return router()
    .openapi(list, async (c) => {
      const { inline, ...wish } = c.req.valid('query');
      const { items, next } = await listEndpoints(db, { ...wish, kind, inline: inline === 'true' });
      return c.json({ items: items.map(view), ...(next ? { next } : {}) }, 200);
    })
    .openapi(create, async (c) => {
      const { name, connection, settings: given, ...wanted } = c.req.valid('json');
      const word = wanted.type ?? (connection && (await getConnection(db, connection)).type);
      if (!word) throw new GodwitError('SETTINGS_INVALID', `type: is required, or a connection that has one.`);
      const { type, settings, secrets } = readSettings(given, {
        type: word,
        kind,
        partial: connection !== undefined,
      });
      const draft = { name, type, settings, secrets, ...(connection ? { connection } : {}) };
      await createEndpoint(db, deps.sealer, { kind, draft });
      await audited(deps, c, { action: 'create', object: `${kind}/${name}` });
      return c.json(view(await getEndpoint(db, kind, name)), 201);
    })
    .openapi(get, async (c) => c.json(view(await getEndpoint(db, kind, c.req.valid('param').name)), 200))
    .openapi(put, async (c) => {
      const { name } = c.req.valid('param');
      const { connection, ...wanted } = c.req.valid('json');
      const before = await getEndpoint(db, kind, name);
      const change = { ...readChange(wanted, before.type, kind), ...(connection === undefined ? {} : { connection }) };
      await updateEndpoint(db, deps.sealer, { kind, name, change });
      const after = await getEndpoint(db, kind, change.name ?? name);
      await audited(deps, c, { action: 'update', object: `${kind}/${after.name}` });
      return c.json(view(after), 200);
    })
    .openapi(remove, async (c) => {
      const { name } = c.req.valid('param');
      await removeEndpoint(db, kind, name);
      await audited(deps, c, { action: 'remove', object: `${kind}/${name}` });
      return c.body(null, 204);
    })
    .openapi(test, async (c) => {
      const { id } = await getEndpoint(db, kind, c.req.valid('param').name);
      const { checks } = await probe(deps, { kind: 'test', endpoint: kind, id }, 'checks');
      return c.json({ checks: [...checks] }, 200);
    })
    .openapi(explain, async (c) => {
      const { name } = c.req.valid('param');
      const settings = await explainEndpoint(db, { kind, name, defaults: defaultsOf });
      return c.json({ settings: [...settings] as z.infer<typeof explained>['settings'] }, 200);
    });
};
