import { scheduleOf } from '../db/schedules.ts';
import type { runs } from '../db/schema.ts';
import { settingsOf } from '../db/settings.ts';
import { GodwitError } from '../errors.ts';
import { blackoutAt, blackoutText } from '../schedules/blackouts.ts';
import type { Deps } from './deps.ts';

/**
 * Why a run that a Schedule started must not begin: 1 the job has no such schedule any more, and Temporal did not know yet;
 * 2 the moment it was started falls into a blackout window. A run that somebody started in Godwit, and one that goes on, is
 * never held up.
 */
export async function heldUp({ db, config }: Deps, run: typeof runs.$inferSelect): Promise<GodwitError | undefined> {
  if (run.trigger !== 'schedule' || run.scheduleKey === '') return undefined;
  if (run.startedAt !== null || run.attempt > 1) return undefined;
  const schedule = await scheduleOf(db, run.jobId, run.scheduleKey);
  if (!schedule) return new GodwitError('NOT_FOUND', `The job has no schedule "${run.scheduleKey}" any more.`);
  const zone = schedule.timezone || (await settingsOf(db, config)).timezone;
  const found = blackoutAt(schedule.options.blackouts, zone, run.createdAt.getTime());
  if (!found) return undefined;
  return new GodwitError(
    'BLACKOUT',
    `It was to start in the blackout window from ${blackoutText(found.window)} (${zone}).`,
  );
}
