/** Temporal's share of a run, read from the run's own histories. */
import { Connection } from '@temporalio/client';
import type { temporal } from '@temporalio/proto';

type Event = temporal.api.history.v1.IHistoryEvent;
type Span = readonly [from: number, to: number];

/**
 * The part of a run's time (0–1) in which none of its activities was at work: the time of workflow tasks, queues and
 * answers alone. The histories of the run's workflow and of all its child workflows count together.
 */
export async function orchestrationShare(address: string, workflowId: string): Promise<number> {
  const connection = await Connection.connect({ address });
  try {
    const spans: Span[] = [];
    const whole = await collect(connection, { workflowId }, spans);
    return 1 - covered(spans, whole) / (whole[1] - whole[0]);
  } finally {
    await connection.close();
  }
}

async function collect(
  connection: Connection,
  execution: { readonly workflowId: string; readonly runId?: string },
  spans: Span[],
): Promise<Span> {
  const events = await historyOf(connection, execution);
  const [first, last] = [at(events[0]), at(events.at(-1))];
  for (const event of events) {
    const ended =
      event.activityTaskCompletedEventAttributes ??
      event.activityTaskFailedEventAttributes ??
      event.activityTaskTimedOutEventAttributes ??
      event.activityTaskCanceledEventAttributes;
    if (ended) spans.push([at(events[Number(ended.startedEventId) - 1]), at(event)]);
    const child = event.childWorkflowExecutionStartedEventAttributes?.workflowExecution;
    if (child?.workflowId) await collect(connection, child as { workflowId: string }, spans);
  }
  const next = events.at(-1)?.workflowExecutionContinuedAsNewEventAttributes?.newExecutionRunId;
  if (!next) return [first, last];
  return [first, (await collect(connection, { workflowId: execution.workflowId, runId: next }, spans))[1]];
}

async function historyOf(
  connection: Connection,
  { workflowId, runId }: { readonly workflowId: string; readonly runId?: string },
): Promise<Event[]> {
  const events: Event[] = [];
  let nextPageToken: Uint8Array | undefined;
  do {
    const page = await connection.workflowService.getWorkflowExecutionHistory({
      namespace: process.env.TEMPORAL_NAMESPACE ?? 'default',
      execution: { workflowId, runId: runId ?? '' },
      ...(nextPageToken ? { nextPageToken } : {}),
    });
    events.push(...(page.history?.events ?? []));
    nextPageToken = page.nextPageToken?.length ? page.nextPageToken : undefined;
  } while (nextPageToken);
  return events;
}

/** Milliseconds. */
const at = (event: Event | undefined): number =>
  Number(event?.eventTime?.seconds ?? 0) * 1000 + Number(event?.eventTime?.nanos ?? 0) / 1e6;

/** Length of the union of the spans within the whole. */
function covered(spans: readonly Span[], [from, to]: Span): number {
  let sum = 0;
  let reached = from;
  for (const [start, end] of [...spans].sort((a, b) => a[0] - b[0])) {
    const begin = Math.max(start, reached);
    const stop = Math.min(end, to);
    if (stop > begin) sum += stop - begin;
    reached = Math.max(reached, stop);
  }
  return sum;
}
