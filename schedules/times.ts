import { type Cron, daysOf } from './cron.ts';
import { dayMs, midnight } from './dates.ts';
import type { Timing } from './timing.ts';
import { nextChange, offsetAt } from './zone.ts';

const lastYear = 9999;
const firstYear = 1970;
/** Years after which dates fall on the same weekdays and weeks. */
const cycle = 400;

/** The first `count` times from that instant on, one that falls on it included; fewer when there are no more. */
export function nextTimes(timing: Timing, from: number, count: number): Date[] {
  const found: Date[] = [];
  for (const instant of times(timing, from)) {
    if (found.length >= count) break;
    found.push(new Date(instant));
  }
  return found;
}

/**
 * All times from that instant on, ascending, in milliseconds. As Temporal has them: what stands in a gap of the zone's
 * clocks is left out, what stands in a repeated hour comes twice. Intervals are counted from 1970-01-01T00:00Z.
 */
export function* times(timing: Timing, from: number): Generator<number> {
  const start = Math.ceil(from / 1000) * 1000;
  if (timing.kind === 'interval') {
    const every = timing.seconds * 1000;
    for (let at = Math.ceil(start / every) * every; ; at += every) yield at;
  }
  const { cron, timezone } = timing;
  let at = start;
  for (;;) {
    const offset = offsetAt(timezone, at);
    let change: ReturnType<typeof nextChange>;
    let looked = at;
    for (const wall of wallTimes(cron, at + offset)) {
      const instant = wall - offset;
      // Looked for as far as needed: the next one may be years away.
      change = instant > looked ? nextChange(timezone, looked, instant) : undefined;
      if (change) break;
      looked = instant;
      yield instant;
    }
    // The last one of all may stand in an hour that is repeated.
    change ??= nextChange(timezone, looked, looked + dayMs);
    if (!change) return;
    at = change.at;
  }
}

/** What a clock without changes shows whenever the expression holds, from `from` on: as if it were UTC's. */
export function* wallTimes(cron: Cron, from: number): Generator<number> {
  const today = Math.floor(from / dayMs) * dayMs;
  for (const day of days(cron, today)) {
    for (const clock of clocks(cron, day === today ? from - today : 0)) yield day + clock;
  }
}

/** Midnights of its days. */
function* days(cron: Cron, from: number): Generator<number> {
  const start = new Date(from);
  const year0 = Math.max(firstYear, start.getUTCFullYear());
  let hit = year0;
  for (const year of cron.years ?? yearsFrom(year0)) {
    if (year < year0) continue;
    // The calendar repeats itself: what does not come in this time never comes.
    if (!cron.years && year > hit + cycle) return;
    for (const month of cron.months) {
      if (year === year0 && month < start.getUTCMonth() + 1) continue;
      for (const day of daysOf(cron, year, month)) {
        const at = midnight(year, month, day);
        if (at < from) continue;
        hit = year;
        yield at;
      }
    }
  }
}

function* yearsFrom(year: number): Generator<number> {
  for (let at = year; at <= lastYear; at++) yield at;
}

/** Milliseconds since midnight. */
function* clocks({ hours, minutes, seconds }: Cron, from: number): Generator<number> {
  for (const hour of hours) {
    if ((hour + 1) * 3_600_000 <= from) continue;
    for (const minute of minutes) {
      if (hour * 3_600_000 + (minute + 1) * 60_000 <= from) continue;
      for (const second of seconds) {
        const at = hour * 3_600_000 + minute * 60_000 + second * 1000;
        if (at >= from) yield at;
      }
    }
  }
}
