import {
  ActivityFailure,
  ApplicationFailure,
  ChildWorkflowFailure,
  isCancellation,
  patched,
  TimeoutFailure,
} from '@temporalio/workflow';

export type NamedFailure = { readonly code: string; readonly message: string };

/** The code and sentence of what an activity or a child threw. */
export function nameFailure(error: unknown): NamedFailure {
  let at: unknown = error;
  while ((at instanceof ActivityFailure || at instanceof ChildWorkflowFailure) && at.cause) at = at.cause;
  if (at instanceof ApplicationFailure) return { code: at.type ?? 'INTERNAL', message: at.message };
  if (at instanceof TimeoutFailure) return { code: 'INTERNAL', message: `Timed out: ${at.message}` };
  return { code: 'INTERNAL', message: at instanceof Error ? at.message : String(at) };
}

/**
 * Ended by a cancel or by the cut-off. Work that is asked to end at its cut-off may have ended by the clock of its worker: its
 * CUT_OFF is tried again unless the request came first, so it says the same. Histories from before took it for a failure.
 */
export const wasEnded = (error: unknown): boolean =>
  isCancellation(error) || (nameFailure(error).code === 'CUT_OFF' && patched('cut-off-is-no-failure'));
