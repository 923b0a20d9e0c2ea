import { proxyActivities } from '@temporalio/workflow';
import type { Activities } from '../activities/contract.ts';
import type { ProbeArgs } from './messages.ts';

const { probe: answer } = proxyActivities<Activities>({
  startToCloseTimeout: '120s',
  // Somebody waits for the answer: a worker that died is to be noticed while they do.
  heartbeatTimeout: '10s',
  retry: { maximumAttempts: 5 },
});

/** Tests a connection, browses a source or plans a document; the answer is in the probe's row. */
export async function probe(args: ProbeArgs): Promise<void> {
  await answer(args);
}
