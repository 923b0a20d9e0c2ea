import { activityInfo, Context, cancellationSignal, heartbeat } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure, TemporalFailure } from '@temporalio/common';
import { databaseError } from '../db/open.ts';
import type { Failure } from '../db/schema.ts';
import { asGodwitError, codes, type GodwitError } from '../errors.ts';
import type { Deps } from './deps.ts';

/** Anything unforeseen is tried again this often, then it is a failure like others. */
export const unforeseenAttempts = 6;

/** Anything thrown, as one of ours: what comes from Godwit's own PostgreSQL loses the query and its parameters. */
export const ours = (error: unknown): GodwitError =>
  error instanceof Error && error.name === 'DrizzleQueryError' ? databaseError(error) : asGodwitError(error);

/** For a row of Godwit's PostgreSQL: code, sentence, where. */
export const storedFailure = (error: GodwitError): Failure => ({
  code: error.code,
  message: error.message,
  fix: codes[error.code].fix,
  where: Object.fromEntries(Object.entries(error.where).filter(([, value]) => value !== undefined)) as Record<
    string,
    string | number
  >,
  at: new Date().toISOString(),
});

/** The one place where an error becomes Temporal's: permanent ones end at once, the others are tried again. */
export function toFailure(error: unknown): TemporalFailure {
  if (error instanceof TemporalFailure) return error;
  const { code, message } = ours(error);
  const kind = codes[code].kind;
  const givenUp = code === 'INTERNAL' && activityInfo().attempt >= unforeseenAttempts;
  return kind === 'stop' || givenUp
    ? ApplicationFailure.nonRetryable(message, code)
    : ApplicationFailure.retryable(message, code);
}

/** The worker stops: the chunk's transaction is given up and done again by whoever takes the activity next. */
const stopped = () =>
  ApplicationFailure.create({ type: 'WORKER_STOPPING', message: 'The worker stops.', nextRetryDelay: '100ms' });

/**
 * An activity with everything around it: heartbeats while it works (cancellation arrives by them), one signal for cancel
 * and stop, errors classified once.
 */
export async function performing<R>(deps: Deps, work: (signal: AbortSignal) => Promise<R>): Promise<R> {
  const signal = AbortSignal.any([cancellationSignal(), deps.stopping]);
  const beat = setInterval(() => heartbeat(), 1000);
  try {
    heartbeat();
    return await work(signal);
  } catch (error) {
    if (error instanceof CancelledFailure) throw error;
    if (cancellationSignal().aborted) {
      const reason = Context.current().cancelled;
      await reason;
    }
    if (deps.stopping.aborted) throw stopped();
    throw toFailure(error);
  } finally {
    clearInterval(beat);
  }
}
