import { ActivityCancellationType, type ActivityOptions, proxyActivities, workflowInfo } from '@temporalio/workflow';
import type { Activities } from '../activities/contract.ts';
import { queuesOf } from './messages.ts';

// Transient failures are retried without a maximum: activities count the time themselves (`give_up_after`), and while
// they wait the table shows why. A permanent failure is non-retryable from the start.
const retry = { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '60s' } as const;
const common = {
  retry,
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
} satisfies ActivityOptions;

/** Reads and writes of Godwit's own PostgreSQL. */
export const control = proxyActivities<Activities>({ ...common, startToCloseTimeout: '60s', heartbeatTimeout: '15s' });

/** Work on sources and targets that can take long (an index on a big table). */
export const long = proxyActivities<Activities>({
  ...common,
  startToCloseTimeout: '30 days',
  heartbeatTimeout: '15s',
});

const queuesHere = () => queuesOf(workflowInfo().taskQueue.replace(/-control$/, ''));

const heavy = {
  ...common,
  startToCloseTimeout: '30 days',
  heartbeatTimeout: '15s',
  allowEagerDispatch: false,
} as const;
export const data = (summary: string) =>
  proxyActivities<Activities>({ ...heavy, taskQueue: queuesHere().data, summary });
export const keeper = () => proxyActivities<Activities>({ ...heavy, taskQueue: queuesHere().hold });
