import { dayMs, weekdayOf } from './dates.ts';
import { times } from './times.ts';
import type { Timing } from './timing.ts';
import { instantOf, wallClock } from './zone.ts';

/** Times of day in the schedule's zone, the end not included; over midnight when `to` is not after `from`. */
export type Blackout = {
  readonly from: string;
  readonly to: string;
  /** On which it begins, 0 = Monday; absent: every day. */
  readonly days?: readonly number[];
};

/** The window that instant falls into, and the instant of its end. */
export function blackoutAt(
  blackouts: readonly Blackout[],
  timezone: string,
  instant: number,
): { readonly window: Blackout; readonly until: number } | undefined {
  if (blackouts.length === 0) return undefined;
  const wall = wallClock(timezone, instant);
  const today = Math.floor(wall / dayMs) * dayMs;
  for (const window of blackouts) {
    for (const day of [today, today - dayMs]) {
      const end = endOf(window, day, wall);
      if (end !== undefined) return { window, until: Math.max(instantOf(timezone, end), instant + 1000) };
    }
  }
  return undefined;
}

/** Of the window that begins on that day, when the clocks stand in it. */
function endOf({ from, to, days }: Blackout, day: number, wall: number): number | undefined {
  const date = new Date(day);
  const weekday = weekdayOf(date.getUTCFullYear(), date.getUTCMonth() + 1, date.getUTCDate());
  if (days && !days.includes(weekday)) return undefined;
  const begin = clock(from);
  const end = day + clock(to) + (clock(to) <= begin ? dayMs : 0);
  return wall >= day + begin && wall < end ? end : undefined;
}

/** Windows that cover every time leave none: they are not followed for longer. */
const mostWindows = 2_000;

/** The next times outside of all windows. */
export function openTimes(timing: Timing, blackouts: readonly Blackout[], from: number, count: number): Date[] {
  const found: Date[] = [];
  let at = from;
  for (let met = 0; met < mostWindows && found.length < count; met++) {
    let closed: number | undefined;
    for (const instant of times(timing, at)) {
      closed = blackoutAt(blackouts, timing.timezone, instant)?.until;
      if (closed !== undefined) break;
      if (found.push(new Date(instant)) >= count) break;
    }
    if (closed === undefined) break;
    at = closed;
  }
  return found;
}

const clock = (text: string): number => {
  const [hours = 0, minutes = 0, seconds = 0] = text.split(':').map(Number);
  return ((hours * 60 + minutes) * 60 + seconds) * 1000;
};

/** `22:00 to 06:00` */
export const blackoutText = ({ from, to }: Blackout): string => `${from} to ${to}`;
