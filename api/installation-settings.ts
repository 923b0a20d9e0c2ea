/** Settings of the installation: what holds, who says so, and what the API may set. */
import { createRoute, z } from '@hono/zod-openapi';
import { changeSetting, explainSettings, removeSetting } from '../db/settings.ts';
import { settingNames } from '../mapping/settings.ts';
import { actorOf, audited } from './actor.ts';
import type { ApiDeps } from './deps.ts';
import { router, strict } from './problem.ts';
import * as s from './schemas.ts';

const setting = z
  .object({
    name: z.string(),
    value: z.unknown(),
    from: z
      .enum(['environment', 'file', 'api', 'default', 'elsewhere'])
      .describe('The level that set it; `elsewhere`: a name of the mapping manual for what Godwit keeps otherwise'),
    stored: z.unknown().optional().describe('What the API stored, where the environment or the file comes first'),
    note: z.string().optional(),
  })
  .openapi('Setting');
const page = z.object({ items: z.array(setting) });
const tags = ['settings'];
const name = strict({ name: z.string().min(1).max(100).describe(settingNames.join(', ')) });

const list = createRoute({
  method: 'get',
  path: '/',
  tags,
  operationId: 'listSettings',
  summary: 'Each with the level that set it: environment, then settings.yaml, then the API, then the default',
  request: { query: s.empty },
  responses: { 200: s.json(page, 'All settings') },
});
const put = createRoute({
  method: 'put',
  path: '/{name}',
  tags,
  operationId: 'changeSetting',
  summary: 'Runs that begin from now on follow it',
  request: { params: name, query: s.empty, body: s.body(strict({ value: z.unknown() })) },
  responses: { 200: s.json(setting, 'As it holds now') },
});
const remove = createRoute({
  method: 'delete',
  path: '/{name}',
  tags,
  operationId: 'removeSetting',
  request: { params: name, query: s.empty },
  responses: { 204: { description: 'The next level holds' } },
});

export const nowhere = { home: '', given: { slack: {}, webhook: {}, email: {} } } as unknown as NonNullable<
  ApiDeps['settings']
>;

export const installationRoutes = (deps: ApiDeps) => {
  const { db } = deps.database;
  const all = async () =>
    (await explainSettings(db, deps.settings ?? nowhere)) as unknown as z.infer<typeof page>['items'];
  return router()
    .openapi(list, async (c) => c.json({ items: await all() }, 200))
    .openapi(put, async (c) => {
      const { name: wanted } = c.req.valid('param');
      await changeSetting(db, { name: wanted, value: c.req.valid('json').value, actor: actorOf(c) });
      await audited(deps, c, { action: 'update', object: `setting/${wanted}` });
      const now = (await all()).find((one) => one.name === wanted);
      return c.json(now as z.infer<typeof setting>, 200);
    })
    .openapi(remove, async (c) => {
      const { name: wanted } = c.req.valid('param');
      await removeSetting(db, wanted);
      await audited(deps, c, { action: 'remove', object: `setting/${wanted}` });
      return c.body(null, 204);
    });
};
