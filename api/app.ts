import { OpenAPIHono } from '@hono/zod-openapi';
import { bodyLimit } from 'hono/body-limit';
import { secureHeaders } from 'hono/secure-headers';
import { GodwitError } from '../errors.ts';
import { connectionRoutes } from './connections.ts';
import type { ApiDeps } from './deps.ts';
import { docsPage, openApi } from './docs.ts';
import { guard, onlyDocuments } from './guard.ts';
import { healthRoutes } from './health.ts';
import { historyRoutes } from './history.ts';
import { installationRoutes } from './installation-settings.ts';
import { jobRoutes, planRoutes } from './jobs.ts';
import { createMetrics } from './metrics.ts';
import { channelRoutes, notificationRoutes } from './notifications.ts';
import { answerProblem, onError } from './problem.ts';
import { quarantineRoutes, runQuarantineRoutes } from './quarantine.ts';
import { runRoutes } from './runs.ts';
import { jobScheduleRoutes, scheduleRoutes } from './schedules.ts';
import { sourceRoutes } from './sources.ts';
import { targetRoutes } from './targets.ts';

const mostBytes = 1024 * 1024;

/** Every resource of the API, one sub-app each; its type is the client's (`hc<App>`). */
const resources = (deps: ApiDeps) =>
  new OpenAPIHono()
    .route('/connections', connectionRoutes(deps))
    .route('/sources', sourceRoutes(deps))
    .route('/targets', targetRoutes(deps))
    .route('/jobs', jobRoutes(deps))
    .route('/jobs', jobScheduleRoutes(deps))
    .route('/schedules', scheduleRoutes(deps))
    .route('/plan', planRoutes(deps))
    .route('/runs', runRoutes(deps))
    .route('/settings', installationRoutes(deps))
    .route('/channels', channelRoutes(deps))
    .route('/notifications', notificationRoutes(deps))
    .route('/runs', runQuarantineRoutes(deps))
    .route('/quarantine', quarantineRoutes(deps))
    .route('/history', historyRoutes(deps));

export function createApp(deps: ApiDeps) {
  const app = new OpenAPIHono();
  const metrics = createMetrics(deps);
  const { codec } = deps;
  // Before everything: Temporal's UI is another origin, and its path is its password.
  if (codec) app.all(`${codec.path}/*`, (c) => codec.handle(c.req.raw));
  app.use(metrics.measure);
  app.use(
    secureHeaders({
      contentSecurityPolicy: { defaultSrc: ["'none'"], styleSrc: ["'unsafe-inline'"], frameAncestors: ["'none'"] },
    }),
  );
  app.use(
    bodyLimit({
      maxSize: mostBytes,
      onError: (c) => answerProblem(c, new GodwitError('BODY_TOO_LARGE', `The body is over ${mostBytes} bytes.`)),
    }),
  );
  app.use('/api/*', guard(deps.token), onlyDocuments);
  app.use('/metrics', guard(deps.token));
  app.onError(onError(deps.log));
  app.notFound((c) =>
    answerProblem(c, new GodwitError('NOT_FOUND', `There is nothing at ${c.req.method} ${c.req.path.slice(0, 200)}.`)),
  );
  app.route('/', healthRoutes(deps));
  app.route('/', metrics.routes);
  const typed = app.route('/api', resources(deps));
  typed.get('/api/openapi.json', (c) => c.json(openApi(typed) as object));
  typed.get('/api/docs', (c) => c.html(docsPage(openApi(typed))));
  return typed;
}

export type App = ReturnType<typeof createApp>;
