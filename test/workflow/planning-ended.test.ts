/** Planning that is told to end has decided nothing: what failed because of that is no failure of a table. */
import { MockActivityEnvironment } from '@temporalio/testing';
import { eq } from 'drizzle-orm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Endpoints } from '../../activities/endpoints.ts';
import { createActivities } from '../../activities/index.ts';
import { runs, runTables } from '../../db/schema.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { install, query } from './installation.ts';
import { quiet } from './stubbed-worker.ts';

const stack = new AsyncDisposableStack();
let godwit: Awaited<ReturnType<typeof install>>;
let source: TestDatabase;
let target: TestDatabase;
const skip = (await missing('postgres')) || (await missing('temporal'));
beforeAll(async () => {
  if (skip) return;
  godwit = stack.use(await install());
  source = stack.use(await createDatabase());
  target = stack.use(await createDatabase());
  await query(source.url, 'CREATE TABLE item (id int PRIMARY KEY, at timestamptz NOT NULL)');
});
afterAll(() => stack.disposeAsync());

test.skipIf(skip).each([
  ['cut off', 'CUT_OFF'],
  ['of a worker that stops', 'WORKER_STOPPING'],
] as const)('%s', async (what, type) => {
  const { deps, stopping } = await godwit.activities();
  const run = await godwit.row({
    name: `job-${type.toLowerCase()}`.replace('_', '-'),
    source: { source_type: 'pgsql', url: source.url },
    destination: { there: { destination_type: 'pgsql', url: target.url, schema: 'copy' } },
    tables: [{ table_name: 'item', mode: 'syncing', bookmark: 'at' }],
  });
  const openers = {
    ...deps.openers,
    // In the midst of the plan: when it is asked how far the table is.
    source: async (name: string) => {
      const it = await deps.openers.source(name);
      const watermark: NonNullable<typeof it.watermark> = async (table, follow, options) => {
        const ended = new Promise((resolve) => options.signal.addEventListener('abort', resolve, { once: true }));
        if (what !== 'cut off') stopping.abort();
        if (!options.signal.aborted) await ended;
        if (!it.watermark) throw new Error('no watermark');
        return await it.watermark(table, follow, options);
      };
      return { ...it, watermark };
    },
  };
  await using endpoints = new Endpoints(openers, 50);
  const activities = createActivities({ ...deps, openers, endpoints });
  const call = <R>(work: (args: never) => Promise<R>, args: object) =>
    new MockActivityEnvironment({}, { logger: quiet }).run(work as never, args) as Promise<R>;
  const chain = { jobId: run.jobId, scheduleKey: '', workflowId: run.workflowId, firstExecutionRunId: 'first' };
  const { runId, epoch } = await call(activities.begin, { ...chain, runId: run.id });
  const keeper = new MockActivityEnvironment({}, { logger: quiet });
  const holding = (keeper.run(activities.hold as never, { runId, epoch }) as Promise<void>).catch(() => {});
  try {
    if (what === 'cut off') {
      await godwit.db
        .update(runs)
        .set({ cutOffAt: new Date(Date.now() + 2000) })
        .where(eq(runs.id, runId));
    }
    await expect(call(activities.plan, { runId, epoch })).rejects.toMatchObject({ type, nonRetryable: false });
    expect(await godwit.db.select().from(runTables).where(eq(runTables.runId, runId))).toEqual([]);
  } finally {
    keeper.cancel();
    await holding;
  }
});
