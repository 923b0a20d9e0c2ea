import { type Client, WorkflowNotFoundError } from '@temporalio/client';

/** Keyword attributes by which runs are found in Temporal's own UI. Ids and modes only: they are not encrypted. */
export const searchAttributeNames = ['GodwitJob', 'GodwitRun', 'GodwitMode'] as const;

type Chain = { readonly workflowId: string; readonly firstExecutionRunId: string };

/** Is the chain of executions that began so still running? Another one under the same id means it is closed. */
export async function workflowState(
  client: Client,
  chain: Chain,
  self?: Chain,
): Promise<'running' | 'closed' | 'gone'> {
  try {
    const found = await client.workflow.getHandle(chain.workflowId).describe();
    const first = found.raw.workflowExecutionInfo?.firstRunId;
    if (self?.workflowId === chain.workflowId && self.firstExecutionRunId !== chain.firstExecutionRunId)
      return 'closed';
    if (first && first !== chain.firstExecutionRunId) return 'closed';
    return found.status.name === 'RUNNING' || found.status.name === 'PAUSED' ? 'running' : 'closed';
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return 'gone';
    throw error;
  }
}

/** Does the server know all of Godwit's search attributes? Asked each time: a server may be replaced by an empty one. */
export async function searchAttributes(client: Client): Promise<boolean> {
  try {
    const { namespace } = client.options;
    const { customAttributes } = await client.connection.operatorService.listSearchAttributes({ namespace });
    return searchAttributeNames.every((name) => name in (customAttributes ?? {}));
  } catch {
    return false;
  }
}
