import { ApplicationFailure, type Client, WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import { beforeAll, describe, expect, test } from 'vitest';

import {
  cancelUpdate,
  pauseUpdate,
  resumeUpdate,
  retryTableUpdate,
  skipTableUpdate,
  stateQuery,
} from '../../workflows/messages.ts';
import { run } from '../../workflows/run.ts';
import { missing, sharedTemporal } from '../servers/shared.ts';
import { type History, writeHistory } from './history-files.ts';
import { startStubbed } from './stubbed-worker.ts';
import { type StubTable, stubActivities } from './stubs.ts';

const noServer = await missing('temporal');
let temporal: { readonly address: string };
beforeAll(async () => {
  if (!noServer) temporal = await sharedTemporal();
});

const actor = 'test';
const refusedOnce = (code: string) => (_chunk: number, attempt: number) => {
  if (attempt === 1) throw ApplicationFailure.nonRetryable('no', code);
};

type Options = Parameters<typeof stubActivities>[1] & { eventLimit?: number };
async function started(tables: readonly StubTable[], { eventLimit, ...options }: Options = {}) {
  const { state, activities } = stubActivities(tables, options);
  const worker = await startStubbed(temporal.address, activities);
  const runId = crypto.randomUUID();
  const handle = await worker.client.workflow.start(run, {
    workflowId: `run/${runId}`,
    taskQueue: worker.queues.control,
    args: [{ jobId: 'job', runId, ...(eventLimit ? { eventLimit } : {}) }],
  });
  const statuses = () => [...state.tables.values()].map((t) => t.status);
  return { state, handle, statuses, worker, [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose]() };
}
const until = async (check: () => boolean | Promise<boolean>, ms = 15_000) => {
  const end = Date.now() + ms;
  while (!(await check())) {
    if (Date.now() > end) throw new Error('It did not come to that.');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
const failureOf = (handle: WorkflowHandle) =>
  handle.result().then(
    () => undefined,
    (error: unknown) => (error instanceof WorkflowFailedError ? error.cause : error),
  );
/** Kept for replay when RECORD_HISTORIES is set: the run's own history, or that of its first table. */
async function record(
  name: string,
  handle: WorkflowHandle & { firstExecutionRunId?: string },
  client: Client,
): Promise<void> {
  if (!process.env.RECORD_HISTORIES) return;
  const first = client.workflow.getHandle(handle.workflowId, handle.firstExecutionRunId);
  const children = client.workflow.list({ query: `ParentWorkflowId = "${handle.workflowId}"` });
  const save = (path: string, history: unknown) => writeHistory(path, history as History);
  await save(`${name}-run`, await first.fetchHistory());
  for await (const { workflowId, runId, type } of children) {
    await save(`${name}-${type}`, await client.workflow.getHandle(workflowId, runId).fetchHistory());
  }
}
const phase = (handle: WorkflowHandle) => handle.query(stateQuery);

describe.skipIf(noServer)('a run', () => {
  test('moves big tables by children and small ones in a group, and succeeds', async () => {
    await using it = await started([{ chunks: 12 }, { chunks: 3 }, { chunks: 1 }, { chunks: 1 }], { small: 3 });
    expect(await it.handle.result()).toMatchObject({ status: 'succeeded' });
    expect(it.statuses()).toEqual(['succeeded', 'succeeded', 'succeeded', 'succeeded']);
    expect(it.state.log).toHaveLength(17);
    expect(new Set(it.state.log).size).toBe(17);
    await record('succeeded', it.handle, it.worker.client);
  });

  test('ends as partial when one table fails, and the others are there', async () => {
    await using it = await started([
      { chunks: 6, move: (chunk) => chunk === 2 && refusedOnce('VALUE_REFUSED')(chunk, 1) },
      { chunks: 6 },
    ]);
    expect(await it.handle.result()).toMatchObject({ status: 'partial' });
    expect(it.statuses()).toEqual(['failed', 'succeeded']);
    expect(it.state.tables.get(1)?.code).toBe('VALUE_REFUSED');
  });

  test('fails with its code when every table failed', async () => {
    await using it = await started([{ chunks: 1, move: refusedOnce('VALUE_REFUSED') }], { small: 1 });
    expect(await failureOf(it.handle)).toMatchObject({ type: 'RUN_FAILED', nonRetryable: true });
  });

  test('fails with the reason of the keeper when no snapshot can be had', async () => {
    await using it = await started([{ chunks: 1 }], { holdFails: true });
    expect(await failureOf(it.handle)).toMatchObject({ type: 'SERVER_UNSUITABLE', message: 'No snapshot here.' });
    expect(it.state.ended).toBe('failed');
  });

  test('retries what is transient and starts a table again whose snapshot is lost', async () => {
    await using it = await started([
      {
        chunks: 5,
        move: (chunk, attempt, generation) => {
          if (chunk === 1 && attempt === 1) throw ApplicationFailure.retryable('busy', 'SERVER_BUSY');
          if (chunk === 4 && generation === 1) throw ApplicationFailure.nonRetryable('gone', 'SNAPSHOT_LOST');
        },
      },
    ]);
    expect(await it.handle.result()).toMatchObject({ status: 'succeeded' });
    expect(it.state.log.filter((line) => line.startsWith('restart'))).toEqual(['restart 1']);
    expect(it.state.log.filter((line) => line.startsWith('moved 1/2/'))).toHaveLength(5);
    await record('restarted', it.handle, it.worker.client);
  });

  test('continues as new, table and run, without moving anything twice', async () => {
    await using it = await started(
      [{ chunks: 30 }, { chunks: 30 }, ...Array.from({ length: 6 }, () => ({ chunks: 2 }))],
      {
        eventLimit: 50,
      },
    );
    expect(await it.handle.result()).toMatchObject({ status: 'succeeded' });
    expect(it.state.log).toHaveLength(72);
    expect(new Set(it.state.log).size).toBe(72);
    const first = await it.worker.client.workflow
      .getHandle(it.handle.workflowId, it.handle.firstExecutionRunId)
      .describe();
    expect(first.status.name).toBe('CONTINUED_AS_NEW');
    expect(it.state.most).toBeLessThanOrEqual(8);
    await record('continued', it.handle, it.worker.client);
  }, 30_000);
});

describe.skipIf(noServer)('a user', () => {
  test('pauses and resumes a run: nothing starts in between', async () => {
    await using it = await started([{ chunks: 40, takes: 50 }, { chunks: 1 }], { small: 2 });
    await until(() => it.state.log.length > 4);
    await it.handle.executeUpdate(pauseUpdate, { args: [{ actor }] });
    await expect(it.handle.executeUpdate(pauseUpdate, { args: [{ actor }] })).rejects.toThrow();
    await new Promise((resolve) => setTimeout(resolve, 400));
    const before = it.state.log.length;
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(it.state.log.length).toBe(before);
    expect(await phase(it.handle)).toMatchObject({ phase: 'paused', paused: true });
    await it.handle.executeUpdate(resumeUpdate, { args: [{ actor }] });
    expect(await it.handle.result()).toMatchObject({ status: 'succeeded' });
    expect(it.state.log).toHaveLength(41);
    await record('paused', it.handle, it.worker.client);
  });

  test('pauses one table while the others end', async () => {
    await using it = await started([{ chunks: 20, takes: 60 }, { chunks: 3 }]);
    await until(() => it.state.log.some((line) => line.startsWith('moved 1/')));
    await it.handle.executeUpdate(pauseUpdate, { args: [{ actor, ordinal: 1 }] });
    await until(() => it.statuses()[1] === 'succeeded');
    expect(it.statuses()[0]).toBe('running');
    await it.handle.executeUpdate(resumeUpdate, { args: [{ actor, ordinal: 1 }] });
    expect(await it.handle.result()).toMatchObject({ status: 'succeeded' });
  });

  test.each(['update', 'temporal workflow cancel'])(
    'cancels by %s: everything unpublished is discarded',
    async (how) => {
      await using it = await started([{ chunks: 100, takes: 200 }, { chunks: 2 }]);
      await until(() => it.statuses()[1] === 'succeeded');
      if (how === 'update') await it.handle.executeUpdate(cancelUpdate, { args: [{ actor }] });
      else await it.handle.cancel();
      expect(await failureOf(it.handle)).toMatchObject({ name: 'CancelledFailure' });
      expect((await it.handle.describe()).status.name).toBe('CANCELLED');
      expect(it.statuses()).toEqual(['canceled', 'succeeded']);
      expect(it.state.discarded).toBe(true);
    },
  );

  test('cancels while the run is paused', async () => {
    await using it = await started([{ chunks: 100, takes: 50 }]);
    await until(() => it.state.log.length > 0);
    await it.handle.executeUpdate(pauseUpdate, { args: [{ actor }] });
    await it.handle.executeUpdate(cancelUpdate, { args: [{ actor }] });
    await failureOf(it.handle);
    expect((await it.handle.describe()).status.name).toBe('CANCELLED');
    await record('canceled', it.handle, it.worker.client);
  });

  test('skips a table that runs; the run is partial', async () => {
    await using it = await started([{ chunks: 200, takes: 100 }, { chunks: 2 }]);
    await until(() => it.state.log.length > 2);
    await it.handle.executeUpdate(skipTableUpdate, { args: [{ actor, ordinal: 1 }] });
    expect(await it.handle.result()).toMatchObject({ status: 'partial' });
    expect(it.statuses()).toEqual(['skipped', 'succeeded']);
    await record('skipped', it.handle, it.worker.client);
  });

  test('retries a failed table while others still move', async () => {
    await using it = await started([
      { chunks: 3, move: (chunk, attempt) => chunk === 2 && refusedOnce('VALUE_REFUSED')(chunk, attempt) },
      { chunks: 30, takes: 100 },
    ]);
    await until(() => it.statuses()[0] === 'failed');
    await expect(it.handle.executeUpdate(retryTableUpdate, { args: [{ actor, ordinal: 2 }] })).rejects.toThrow();
    await expect(it.handle.executeUpdate(retryTableUpdate, { args: [{ actor, ordinal: 9 }] })).rejects.toThrow();
    await until(async () => {
      try {
        await it.handle.executeUpdate(retryTableUpdate, { args: [{ actor, ordinal: 1 }] });
        return true;
      } catch {
        return false;
      }
    });
    expect(await it.handle.result()).toMatchObject({ status: 'succeeded' });
    await record('retried', it.handle, it.worker.client);
  });

  test('so can a table that was complete and could not be published', async () => {
    await using it = await started([
      { chunks: 1, unpublished: true },
      { chunks: 30, takes: 100 },
    ]);
    await until(() => it.statuses()[0] === 'failed');
    const retry = () => it.handle.executeUpdate(retryTableUpdate, { args: [{ actor, ordinal: 1 }] });
    await until(() =>
      retry().then(
        () => true,
        () => false,
      ),
    );
    expect(await it.handle.result()).toMatchObject({ status: 'succeeded' });
    expect(it.statuses()).toEqual(['succeeded', 'succeeded']);
  });
});
