import { scheduleOf } from '../db/schedules.ts';
import type { runs } from '../db/schema.ts';
import { settingsOf } from '../db/settings.ts';
import { GodwitError } from '../errors.ts';
import { blackoutAt, blackoutText } from '../schedules/blackouts.ts';
import type { Deps } from './deps.ts';

/**
 * Why a run that a Schedule started must not begin: the moment it was started falls into a blackout window. A run that
 * somebody started in Godwit, and one that goes on, is never held up.
 */
export async function blackoutOf(
  { db, config }: Deps,
  run: typeof runs.$inferSelect,
): Promise<GodwitError | undefined> {
  if (run.trigger !== 'schedule' || run.startedAt !== null || run.attempt > 1) return undefined;
  const schedule = await scheduleOf(db, run.jobId, run.scheduleKey);
  if (!schedule || schedule.options.blackouts.length === 0) return undefined;
  const zone = schedule.timezone || (await settingsOf(db, config)).timezone;
  const window = blackoutAt(schedule.options.blackouts, zone, run.createdAt.getTime());
  if (!window) return undefined;
  return new GodwitError('BLACKOUT', `It was to start in the blackout window from ${blackoutText(window)} (${zone}).`);
}
