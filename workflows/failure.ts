import { ActivityFailure, ApplicationFailure, ChildWorkflowFailure, TimeoutFailure } from '@temporalio/workflow';

export type NamedFailure = { readonly code: string; readonly message: string };

/** The code and sentence of what an activity or a child threw. */
export function nameFailure(error: unknown): NamedFailure {
  let at: unknown = error;
  while ((at instanceof ActivityFailure || at instanceof ChildWorkflowFailure) && at.cause) at = at.cause;
  if (at instanceof ApplicationFailure) return { code: at.type ?? 'INTERNAL', message: at.message };
  if (at instanceof TimeoutFailure) return { code: 'INTERNAL', message: `Timed out: ${at.message}` };
  return { code: 'INTERNAL', message: at instanceof Error ? at.message : String(at) };
}
