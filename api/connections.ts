import { createRoute, z } from '@hono/zod-openapi';
import {
  type Connection,
  createConnection,
  getConnection,
  listConnections,
  removeConnection,
  updateConnection,
} from '../db/connections.ts';
import { GodwitError } from '../errors.ts';
import { typeNamed } from '../mapping/endpoints.ts';
import { audited } from './actor.ts';
import type { ApiDeps } from './deps.ts';
import { probe } from './probe.ts';
import { router, strict } from './problem.ts';
import * as s from './schemas.ts';
import { readSettings, systemType } from './settings.ts';

export const settingsBody = z
  .record(z.string(), z.unknown())
  .describe('Settings by their names in a mapping. Secret ones are sealed and never shown again; null forgets one');

const connectionSchema = z
  .object({
    name: z.string(),
    type: z.string(),
    settings: z.record(z.string(), z.unknown()),
    secretNames: z.array(z.string()).describe('Secrets that are set'),
    createdAt: s.instant,
    updatedAt: s.instant,
  })
  .openapi('Connection');

const view = (row: Connection) => ({
  name: row.name,
  type: row.type,
  settings: { ...row.settings },
  secretNames: row.secretNames,
  createdAt: row.createdAt.toISOString(),
  updatedAt: row.updatedAt.toISOString(),
});

const tags = ['connections'];
const one = s.json(connectionSchema, 'The connection');

const list = createRoute({
  method: 'get',
  path: '/',
  tags,
  operationId: 'listConnections',
  request: { query: strict(s.paging) },
  responses: { 200: s.json(s.pageSchema(connectionSchema), 'By name') },
});
const create = createRoute({
  method: 'post',
  path: '/',
  tags,
  operationId: 'createConnection',
  request: { query: s.empty, body: s.body(strict({ name: s.nameBody, type: systemType, settings: settingsBody })) },
  responses: { 201: one },
});
const get = createRoute({
  method: 'get',
  path: '/{name}',
  tags,
  operationId: 'getConnection',
  request: { params: s.nameParam, query: s.empty },
  responses: { 200: one },
});
const put = createRoute({
  method: 'put',
  path: '/{name}',
  tags,
  operationId: 'changeConnection',
  summary: 'Settings are replaced; secrets that are not given stay, as nobody can read them to give them again',
  request: {
    params: s.nameParam,
    query: s.empty,
    body: s.body(
      strict({ name: s.nameBody.optional(), type: z.string().optional(), settings: settingsBody.optional() }),
    ),
  },
  responses: { 200: one },
});
const remove = createRoute({
  method: 'delete',
  path: '/{name}',
  tags,
  operationId: 'removeConnection',
  summary: 'IN_USE while sources or targets inherit from it',
  request: { params: s.nameParam, query: s.empty },
  responses: { 204: { description: 'Removed' } },
});
const test = createRoute({
  method: 'post',
  path: '/{name}/test',
  tags,
  operationId: 'testConnection',
  request: { params: s.nameParam, query: s.empty, body: s.body(s.empty, false) },
  responses: { 200: s.json(s.checksSchema, 'Named checks') },
});

export const connectionRoutes = (deps: ApiDeps) => {
  const { db } = deps.database;
  return router()
    .openapi(list, async (c) => {
      const { items, next } = await listConnections(db, c.req.valid('query'));
      return c.json({ items: items.map(view), ...(next ? { next } : {}) }, 200);
    })
    .openapi(create, async (c) => {
      const { name, type: word, settings: given } = c.req.valid('json');
      const { type, settings, secrets } = readSettings(given, { type: word, kind: 'connection', partial: true });
      const made = await createConnection(db, deps.sealer, { name, type, settings, secrets });
      await audited(deps, c, { action: 'create', object: `connection/${name}` });
      return c.json(view(made), 201);
    })
    .openapi(get, async (c) => c.json(view(await getConnection(db, c.req.valid('param').name)), 200))
    .openapi(put, async (c) => {
      const { name } = c.req.valid('param');
      const wanted = c.req.valid('json');
      const before = await getConnection(db, name);
      const change = readChange(wanted, before.type, 'connection');
      const after = await updateConnection(db, deps.sealer, { name, change });
      await audited(deps, c, { action: 'update', object: `connection/${after.name}` });
      return c.json(view(after), 200);
    })
    .openapi(remove, async (c) => {
      const { name } = c.req.valid('param');
      await removeConnection(db, name);
      await audited(deps, c, { action: 'remove', object: `connection/${name}` });
      return c.body(null, 204);
    })
    .openapi(test, async (c) => {
      const { id } = await getConnection(db, c.req.valid('param').name);
      const { checks } = await probe(deps, { kind: 'test', endpoint: 'connection', id }, 'checks');
      return c.json({ checks: [...checks] }, 200);
    });
};

type Wanted = { readonly name?: string; readonly type?: string; readonly settings?: Record<string, unknown> };

/** A PUT as a change of the row. The type stays: another system is another thing. */
export function readChange(wanted: Wanted, type: string, kind: 'connection' | 'source' | 'target') {
  const { name, settings: given } = wanted;
  if (wanted.type !== undefined && typeNamed(wanted.type) !== type) {
    throw new GodwitError('CONFLICT', `It is of type ${type}, which cannot change; make another ${kind}.`);
  }
  const split = given && readSettings(given, { type, kind, partial: true });
  const forgotten = Object.fromEntries((split?.removed ?? []).map((key) => [key, null]));
  return {
    ...(name === undefined ? {} : { name }),
    ...(split ? { settings: split.settings, secrets: { ...split.secrets, ...forgotten } } : {}),
  };
}
