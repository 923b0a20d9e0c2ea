import { GodwitError } from '../../errors.ts';
import { daylightWarnings } from '../../schedules/daylight.ts';
import { nextTimes } from '../../schedules/times.ts';
import { kindOf, readTiming } from '../../schedules/timing.ts';
import { isoIn, isZone, readInstant } from '../../schedules/zone.ts';
import type { Context } from '../context.ts';
import { usage } from '../output.ts';

/** The next times of an expression, worked out here: no Godwit need run. */
export async function next({ config, out, options }: Context, expression = ''): Promise<undefined> {
  const timezone = typeof options.timezone === 'string' ? options.timezone : config.timezone;
  if (!isZone(timezone)) throw usage(`--timezone: "${timezone}" is no IANA time zone (Asia/Kolkata).`);
  const count = Number(options.count);
  if (!Number.isInteger(count) || count < 1 || count > 10_000) throw usage('--count: expected 1 to 10000.');
  const from = typeof options.after === 'string' ? readInstant(options.after, timezone) : Date.now();
  if (expression.trim() === 'self-managed') {
    throw new GodwitError('SCHEDULE_INVALID', 'A self-managed job has no times: it runs when somebody starts it.');
  }
  const timing = readTiming({ kind: kindOf(expression), expression, timezone });
  const found = nextTimes(timing, from, count).map((at) => isoIn(timezone, at.getTime()));
  for (const line of found) out.text(line);
  if (found.length === 0) out.text(`It has no time after ${isoIn(timezone, from)}.`);
  if (out.format === 'text') for (const warning of daylightWarnings(timing, from)) out.say(`note: ${warning}`);
  out.json({ next: found });
}
