import { createRoute, z } from '@hono/zod-openapi';
import { databaseError } from '../db/open.ts';
import { asGodwitError } from '../errors.ts';
import type { ApiDeps } from './deps.ts';
import { router } from './problem.ts';
import * as s from './schemas.ts';
import { countPollers } from './temporal.ts';

const checkSchema = z.object({ ok: z.boolean(), detail: z.string().optional() });
const ready = z
  .object({
    ready: z.boolean(),
    checks: z.object({ database: checkSchema, temporal: checkSchema, worker: checkSchema }),
  })
  .openapi('Ready');

const tags = ['health'];
const healthz = createRoute({
  method: 'get',
  path: '/healthz',
  tags,
  operationId: 'healthz',
  summary: 'The process answers',
  responses: { 200: s.json(z.object({ ok: z.literal(true) }), 'It does') },
});
const readyz = createRoute({
  method: 'get',
  path: '/readyz',
  tags,
  operationId: 'readyz',
  summary: 'Database, Temporal, and a worker that asks for work',
  responses: { 200: s.json(ready, 'All there'), 503: s.json(ready, 'Something is missing') },
});

/** Each part by itself: one that is away says so, and the others are still looked at. */
export const healthRoutes = (deps: ApiDeps) =>
  router()
    .openapi(healthz, (c) => c.json({ ok: true as const }, 200))
    .openapi(readyz, async (c) => {
      const [database, pollers] = await Promise.allSettled([
        deps.database.pool.query('SELECT 1'),
        countPollers(deps.client, deps.queues.control),
      ]);
      const away = (reason: unknown) => ({ ok: false, detail: asGodwitError(reason).message });
      const checks = {
        database: database.status === 'fulfilled' ? { ok: true } : away(databaseError(database.reason)),
        temporal: pollers.status === 'fulfilled' ? { ok: true } : away(pollers.reason),
        worker:
          pollers.status === 'fulfilled' && pollers.value > 0
            ? { ok: true }
            : { ok: false, detail: 'No worker asks for work: start one with `godwit worker`.' },
      };
      const all = Object.values(checks).every(({ ok }) => ok);
      return all ? c.json({ ready: true, checks }, 200) : c.json({ ready: false, checks }, 503);
    });
