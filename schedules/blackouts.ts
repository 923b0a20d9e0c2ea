import { dayMs, weekdayOf } from './dates.ts';
import { wallClock } from './zone.ts';

/** Times of day in the schedule's zone, the end not included; over midnight when `to` is not after `from`. */
export type Blackout = {
  readonly from: string;
  readonly to: string;
  /** On which it begins, 0 = Monday; absent: every day. */
  readonly days?: readonly number[];
};

/** The window that instant falls into. */
export function blackoutAt(blackouts: readonly Blackout[], timezone: string, instant: number): Blackout | undefined {
  if (blackouts.length === 0) return undefined;
  const wall = wallClock(timezone, instant);
  const today = Math.floor(wall / dayMs) * dayMs;
  return blackouts.find((window) => [today, today - dayMs].some((day) => isIn(window, day, wall)));
}

function isIn({ from, to, days }: Blackout, day: number, wall: number): boolean {
  const date = new Date(day);
  const weekday = weekdayOf(date.getUTCFullYear(), date.getUTCMonth() + 1, date.getUTCDate());
  if (days && !days.includes(weekday)) return false;
  const begin = clock(from);
  const end = clock(to);
  return wall >= day + begin && wall < day + end + (end <= begin ? dayMs : 0);
}

const clock = (text: string): number => {
  const [hours = 0, minutes = 0, seconds = 0] = text.split(':').map(Number);
  return ((hours * 60 + minutes) * 60 + seconds) * 1000;
};

/** `22:00 to 06:00` */
export const blackoutText = ({ from, to }: Blackout): string => `${from} to ${to}`;
