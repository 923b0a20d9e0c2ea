import { dayMs } from './dates.ts';
import { wallTimes } from './times.ts';
import type { Timing } from './timing.ts';
import { type Change, changesOf, wallText } from './zone.ts';

/**
 * A sentence for each change of the zone's clocks within the next year in which this schedule has times: they are left
 * out, or come twice. Not for what runs at every hour anyway.
 */
export function daylightWarnings(timing: Timing, from: number): string[] {
  if (timing.kind === 'interval' || timing.cron.hours.length === 24) return [];
  const { cron, timezone } = timing;
  const year = new Date(from).getUTCFullYear();
  const changes = [...changesOf(timezone, year), ...changesOf(timezone, year + 1)];
  return changes
    .filter(({ at }) => at > from && at <= from + 366 * dayMs)
    .flatMap((change) => {
      const [begin, end] = span(change);
      const affected: number[] = [];
      for (const wall of wallTimes(cron, begin)) {
        if (wall >= end || affected.length >= 2) break;
        affected.push(wall);
      }
      const [first] = affected;
      if (first === undefined) return [];
      const date = wallText(first).slice(0, 10);
      const time = `${wallText(first).slice(11)}${affected.length > 1 ? ' (and later ones)' : ''}`;
      const gap = change.after > change.before;
      return [
        gap
          ? `The clocks of ${timezone} are put forward on ${date}: ${time} does not come, and ${inGap(change)}.`
          : `The clocks of ${timezone} are put back on ${date}: ${time} comes twice, and ${inFold(change)}.`,
      ];
    });
}

// What the Temporal server does (test/workflow/schedules.test.ts holds it to that).
const inGap = ({ before, after }: Change): string =>
  (after - before) % 3_600_000 === 0 ? 'that run is left out' : 'that run comes later by the difference';
const inFold = ({ before }: Change): string =>
  before <= 0
    ? 'so does that run'
    : 'Temporal starts that run at the second (of several in that hour it leaves some out)';

/** What the clocks skip, or show twice: from … to, without the end. */
const span = ({ at, before, after }: Change): readonly [number, number] => [
  at + Math.min(before, after),
  at + Math.max(before, after),
];
