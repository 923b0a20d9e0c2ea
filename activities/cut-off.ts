/** The cut-off of a run: an instant that is known from its beginning, which every activity of it looks at by itself. */
import { ApplicationFailure } from '@temporalio/common';
import { and, eq } from 'drizzle-orm';
import { type RunRequest, runs, runTables } from '../db/schema.ts';
import { settingsOf } from '../db/settings.ts';
import { GodwitError } from '../errors.ts';
import type { JobDocument } from '../mapping/document.ts';
import { nextTimeOfDay } from '../schedules/zone.ts';
import type { RunRef } from './contract.ts';
import type { Deps } from './deps.ts';
import { storedFailure } from './failures.ts';
import { loadRun, note, stillOpen } from './state.ts';

type Asking = { readonly attempt: number; readonly request: RunRequest | null; readonly document: unknown };

/**
 * When a run that begins now is cut off: what was asked of the run, else its job's time of day, else the installation's.
 * A retry is not held to an instant that is over.
 */
export async function cutOffOf(
  deps: Deps,
  { attempt, request, document }: Asking,
  now = new Date(),
): Promise<Date | null> {
  const asked = request?.cutOffAt;
  if (asked === null) return null;
  if (asked !== undefined && (attempt === 1 || Date.parse(asked) > now.getTime())) return new Date(asked);
  const job = document as JobDocument;
  const settings = await settingsOf(deps.db, deps.config);
  const time = job.cutOffTime === undefined ? settings.cutOffTime : job.cutOffTime;
  return time === null ? null : new Date(nextTimeOfDay(time, job.timezone ?? settings.timezone, now.getTime()));
}

/** An aborted piece of work has this long to end by itself; what is left of it is fenced like an attempt that timed out. */
const graceMs = 8_000;
/** The workflow's own timer, on the server's clock, ends the retries. */
const againMs = '5s';

/**
 * Work of a run that stops at its cut-off by the clock of this worker, whether or not Temporal can be reached: through the
 * same signal as a cancel. Ends then as CUT_OFF, to be tried again: only the workflow says what a cut-off means.
 */
export async function untilCutOff<R>(
  deps: Deps,
  { runId }: Pick<RunRef, 'runId'>,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<R>,
): Promise<R> {
  const [run] = await deps.db.select({ at: runs.cutOffAt }).from(runs).where(eq(runs.id, runId));
  if (!run?.at) return await work(signal);
  const over = new AbortController();
  let grace: NodeJS.Timeout | undefined;
  const stopped = new Promise<never>((_, reject) => {
    over.signal.addEventListener('abort', () => {
      grace = setTimeout(() => reject(over.signal.reason), graceMs);
    });
  });
  stopped.catch(() => {});
  const disarm = alarm(run.at.getTime(), () => over.abort(reached()));
  try {
    over.signal.throwIfAborted();
    return await Promise.race([work(AbortSignal.any([signal, over.signal])), stopped]);
  } catch (error) {
    if (!over.signal.aborted || signal.aborted) throw error;
    throw ApplicationFailure.create({ type: 'CUT_OFF', message: reached().message, nextRetryDelay: againMs });
  } finally {
    disarm();
    clearTimeout(grace);
  }
}

const reached = () => new GodwitError('CUT_OFF', 'The cut-off time was reached.');

/** Looks at the clock every minute: a timer alone knows nothing of a machine that slept, nor of more than 24 days. */
function alarm(at: number, ring: () => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  const look = () => {
    const left = at - Date.now();
    if (left <= 0) return ring();
    timer = setTimeout(look, Math.min(left, 60_000));
  };
  look();
  return () => clearTimeout(timer);
}

/** What is not complete ends as `cut off`, with its staging: the next run goes on from there. Idempotent. */
export async function cutOff(deps: Deps, ref: RunRef): Promise<void> {
  const run = await loadRun(deps.db, ref);
  const at = run.cutOffAt ?? new Date();
  const failure = { ...storedFailure(reached()), at: at.toISOString() };
  const ended = await deps.db
    .update(runTables)
    .set({ status: 'cut off', failure, rowsMoving: 0, endedAt: new Date(), updatedAt: new Date() })
    .where(and(eq(runTables.runId, ref.runId), stillOpen))
    .returning({ ordinal: runTables.ordinal });
  if (ended.length === 0) return;
  const message = `The cut-off time was reached: ${ended.length === 1 ? 'one table stops' : `${ended.length} tables stop`}; the next run goes on from there.`;
  await note(deps.db, {
    runId: ref.runId,
    level: 'warn',
    kind: 'run.cut-off',
    message,
    data: { tables: ended.length },
  });
}
