/**
 * Recorded histories replayed by today's workflows: a change that would break runs which are under way fails here
 * (decision 25). New ones: `RECORD_HISTORIES=1 vitest run test/workflow/run.test.ts`, names by what they show.
 */
import { readdir } from 'node:fs/promises';
import { Worker } from '@temporalio/worker';
import { describe, expect, test } from 'vitest';
import { historiesFolder, readHistory } from './history-files.ts';
import { quietRuntime, testBundle } from './stubbed-worker.ts';

describe('recorded histories', async () => {
  const names = (await readdir(historiesFolder)).filter((name) => name.endsWith('.history')).sort();

  test('there are some of every path', () => {
    const wanted = ['canceled', 'continued', 'paused', 'restarted', 'retried', 'skipped', 'succeeded'];
    expect(wanted.filter((path) => !names.some((name) => name.startsWith(path)))).toEqual([]);
  });

  test.each(names)('%s replays', async (name) => {
    quietRuntime();
    const history = await readHistory(name);
    const workflowBundle = await testBundle();
    const results = Worker.runReplayHistories({ workflowBundle }, [{ workflowId: name, history }]);
    for await (const { error } of results) expect(error).toBeUndefined();
  });
});
