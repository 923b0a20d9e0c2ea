/** Channels to people, and what was told, or could not be told, through them. */
import { createRoute, z } from '@hono/zod-openapi';
import { getJob } from '../db/jobs.ts';
import { listNotifications, type Notification, sendAgain } from '../db/notifications.ts';
import { type ChannelEntry, noChannel, removeChannel, saveChannel, settingsOf } from '../db/settings.ts';
import { channelName, channelTypes } from '../mapping/settings.ts';
import { actorOf, audited } from './actor.ts';
import type { ApiDeps } from './deps.ts';
import { nowhere } from './installation-settings.ts';
import { probe } from './probe.ts';
import { router, strict } from './problem.ts';
import * as s from './schemas.ts';

const types = Object.keys(channelTypes) as [keyof typeof channelTypes];
const channelSchema = z
  .object({
    name: z.string(),
    type: z.enum(types),
    from: z.enum(['environment', 'file', 'api', 'default']).describe('The level that has it'),
    settings: z.record(z.string(), z.unknown()),
    secretNames: z.array(z.string()).describe('Secrets that are set'),
  })
  .openapi('Channel');
const channelView = ({ name, type, from, settings, secretNames }: ChannelEntry) => ({
  name,
  type,
  from,
  settings: { ...settings },
  secretNames: [...secretNames],
});

const tags = ['channels'];
const name = strict({ name: z.string().min(1).max(100) });
const listChannels = createRoute({
  method: 'get',
  path: '/',
  tags,
  operationId: 'listChannels',
  request: { query: s.empty },
  responses: { 200: s.json(z.object({ items: z.array(channelSchema) }), 'By name, whoever set them') },
});
const putChannel = createRoute({
  method: 'put',
  path: '/{name}',
  tags,
  operationId: 'saveChannel',
  summary: 'Settings are replaced; secrets that are not given stay, and are never shown',
  request: {
    params: strict({ name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/) }),
    query: s.empty,
    body: s.body(
      strict({
        type: z.enum(types),
        settings: z
          .record(z.string(), z.unknown())
          .describe(
            'Of slack: token and channel, or webhook_url. Of webhook: url, secret. Of email: host, port, tls, username, password, from, to',
          ),
      }),
    ),
  },
  responses: { 200: s.json(channelSchema, 'The channel') },
});
const removeOne = createRoute({
  method: 'delete',
  path: '/{name}',
  tags,
  operationId: 'removeChannel',
  summary: 'CONFLICT for one of the environment or the settings file',
  request: { params: name, query: s.empty },
  responses: { 204: { description: 'Removed' } },
});
const testOne = createRoute({
  method: 'post',
  path: '/{name}/test',
  tags,
  operationId: 'testChannel',
  summary: 'Sends a message that says it is a test',
  request: { params: name, query: s.empty, body: s.body(s.empty, false) },
  responses: { 200: s.json(s.checksSchema, 'Whether it was taken') },
});

export const channelRoutes = (deps: ApiDeps) => {
  const { db } = deps.database;
  const place = deps.settings ?? nowhere;
  const all = async () => (await settingsOf(db, place)).channels;
  return router()
    .openapi(listChannels, async (c) => {
      const channels = [...(await all()).values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
      return c.json({ items: channels.map(channelView) }, 200);
    })
    .openapi(putChannel, async (c) => {
      const wanted = channelName.parse(c.req.valid('param').name);
      const { type, settings } = c.req.valid('json');
      await saveChannel(db, deps.sealer, { name: wanted, given: { ...settings, type }, actor: actorOf(c) });
      await audited(deps, c, { action: 'update', object: `channel/${wanted}` });
      return c.json(channelView((await all()).get(wanted) as ChannelEntry), 200);
    })
    .openapi(removeOne, async (c) => {
      const wanted = c.req.valid('param').name;
      await removeChannel(db, place, wanted);
      await audited(deps, c, { action: 'remove', object: `channel/${wanted}` });
      return c.body(null, 204);
    })
    .openapi(testOne, async (c) => {
      const wanted = c.req.valid('param').name;
      const channels = await all();
      if (!channels.has(wanted)) throw noChannel(wanted, [...channels.keys()]);
      const { checks } = await probe(deps, { kind: 'notify', channel: wanted }, 'checks');
      return c.json({ checks: [...checks] }, 200);
    });
};

const notificationSchema = z
  .object({
    id: z.uuid(),
    run: z.string().describe('job/number'),
    runId: z.uuid(),
    event: z.string().describe('The end of the run; `failed/2` is that of its second attempt'),
    channel: z.string(),
    status: z.enum(['queued', 'sent', 'failed']),
    attempts: z.number().int(),
    nextAt: s.maybeInstant.describe('Of one that waits'),
    failure: s.failureSchema.nullable().describe('Why it could not be sent, the last time'),
    sentAt: s.maybeInstant,
    createdAt: s.instant,
  })
  .openapi('Notification');
const view = (row: Notification) => ({
  id: row.id,
  run: `${row.job}/${row.number}`,
  runId: row.runId,
  event: row.event,
  channel: row.channel,
  status: row.status,
  attempts: row.attempts,
  nextAt: row.status === 'queued' ? row.nextAt.toISOString() : null,
  failure: row.failure as z.infer<typeof s.failureSchema> | null,
  sentAt: s.iso(row.sentAt),
  createdAt: row.createdAt.toISOString(),
});

const list = createRoute({
  method: 'get',
  path: '/',
  tags: ['notifications'],
  operationId: 'listNotifications',
  request: {
    query: strict({
      ...s.paging,
      run: z.uuid().optional(),
      job: z.string().optional().describe('By its name'),
      channel: z.string().optional(),
      status: s.listOf(['queued', 'sent', 'failed']).describe('queued, sent, failed, separated by commas'),
    }),
  },
  responses: { 200: s.json(s.pageSchema(notificationSchema), 'The latest first') },
});
const again = createRoute({
  method: 'post',
  path: '/{id}/retry',
  tags: ['notifications'],
  operationId: 'retryNotification',
  summary: 'Sent at once, also one that had failed for good; CONFLICT when it was sent',
  request: { params: strict({ id: z.uuid() }), query: s.empty, body: s.body(s.empty, false) },
  responses: { 204: { description: 'It is queued' } },
});

export const notificationRoutes = (deps: ApiDeps) => {
  const { db } = deps.database;
  return router()
    .openapi(list, async (c) => {
      const { run, job, status, ...wish } = c.req.valid('query');
      const jobId = job === undefined ? undefined : (await getJob(db, job)).id;
      const { items, next } = await listNotifications(db, {
        ...wish,
        ...(run ? { runId: run } : {}),
        ...(jobId ? { jobId } : {}),
        ...(status ? { statuses: status } : {}),
      });
      return c.json({ items: items.map(view), ...(next ? { next } : {}) }, 200);
    })
    .openapi(again, async (c) => {
      const { id } = c.req.valid('param');
      await sendAgain(db, id);
      await audited(deps, c, { action: 'retry', object: `notification/${id}` });
      return c.body(null, 204);
    });
};
