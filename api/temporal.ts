import {
  Client,
  Connection,
  isGrpcServiceError,
  WorkflowExecutionAlreadyStartedError,
  WorkflowFailedError,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
} from '@temporalio/client';
import { ActivityFailure, ApplicationFailure, ChildWorkflowFailure } from '@temporalio/common';
import { loadClientConnectConfig } from '@temporalio/envconfig';
import { codes, type ErrorCode, GodwitError } from '../errors.ts';
import { createDataConverter } from '../secrets/converter.ts';
import type { Keyring } from '../secrets/keyring.ts';

export type ClientOptions = {
  readonly keyring: Keyring;
  /** Of an embedded server; absent = by Temporal's own environment variables and configuration file. */
  readonly address?: string;
  readonly namespace?: string;
};

/** Payloads and failures encrypted. Connects at the first call, so that the API starts before Temporal does. */
export function createClient({ keyring, address, namespace }: ClientOptions): Client {
  const { connectionOptions, namespace: configured } = loadClientConnectConfig();
  const connection = Connection.lazy({
    ...connectionOptions,
    ...(address === undefined ? {} : { address }),
    connectTimeout: '5s',
  });
  return new Client({
    connection,
    namespace: namespace ?? configured ?? 'default',
    dataConverter: createDataConverter(keyring),
  });
}

/** An error of the Temporal client as a GodwitError; what is none of Temporal's comes back as it is. */
export function temporalError(error: unknown): unknown {
  if (error instanceof GodwitError) return error;
  if (error instanceof WorkflowNotFoundError) return new GodwitError('CONFLICT', 'Its workflow is gone or over.');
  if (error instanceof WorkflowExecutionAlreadyStartedError) {
    return new GodwitError('ALREADY_RUNNING', 'Its workflow runs already.');
  }
  if (error instanceof WorkflowUpdateRPCTimeoutOrCancelledError) return silent();
  if (error instanceof WorkflowUpdateFailedError || error instanceof WorkflowFailedError) return named(error.cause);
  if (isGrpcServiceError(error)) {
    const status = (error as { code?: number }).code;
    if (status === 5) return new GodwitError('CONFLICT', 'Its workflow is gone or over.');
    if (status === 4) return silent();
    return new GodwitError(
      'TEMPORAL_UNREACHABLE',
      `Temporal: ${(error as { details?: string }).details || error.message}`,
    );
  }
  if (error instanceof Error && error.message.startsWith('Failed to connect before the deadline')) {
    return new GodwitError('TEMPORAL_UNREACHABLE', 'The Temporal server does not answer.');
  }
  return error;
}

const silent = () =>
  Object.assign(new GodwitError('TEMPORAL_UNREACHABLE', 'No worker answered in time.'), {
    fix: 'See that a worker runs (`godwit worker`) and has a slot free, then try again.',
  });

/** The code and sentence a workflow, an activity or an update's validator gave. */
function named(error: unknown): GodwitError {
  let at = error;
  while ((at instanceof ActivityFailure || at instanceof ChildWorkflowFailure) && at.cause) at = at.cause;
  if (at instanceof ApplicationFailure && at.type && at.type in codes) {
    return new GodwitError(at.type as ErrorCode, at.message);
  }
  return new GodwitError('INTERNAL', at instanceof Error ? at.message : String(at));
}

/** Runs a call of the client with a deadline, its errors in our words. */
export async function calling<T>(client: Client, milliseconds: number, call: () => Promise<T>): Promise<T> {
  try {
    return await client.withDeadline(Date.now() + milliseconds, call);
  } catch (error) {
    throw temporalError(error);
  }
}

/** Is the workflow of that id running? `gone`: the server does not know it (an empty one is survivable, decision 6). */
export async function workflowState(client: Client, workflowId: string): Promise<'running' | 'closed' | 'gone'> {
  try {
    const found = await client.withDeadline(Date.now() + 5_000, () => client.workflow.getHandle(workflowId).describe());
    return found.status.name === 'RUNNING' || found.status.name === 'PAUSED' ? 'running' : 'closed';
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return 'gone';
    throw temporalError(error);
  }
}

/** Workers that asked for work of that queue within the last minute. */
export async function countPollers(client: Client, taskQueue: string): Promise<number> {
  const { namespace } = client.options;
  const found = await calling(client, 3_000, () =>
    client.workflowService.describeTaskQueue({ namespace, taskQueue: { name: taskQueue }, taskQueueType: 1 }),
  );
  const minuteAgo = Date.now() / 1000 - 60;
  return (found.pollers ?? []).filter((poller) => Number(poller.lastAccessTime?.seconds ?? 0) > minuteAgo).length;
}
