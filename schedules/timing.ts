import { type Cron, parseCron } from './cron.ts';
import { parseInterval } from './interval.ts';
import { checkZone } from './zone.ts';

/** When it runs, understood. */
export type Timing =
  | { readonly kind: 'cron'; readonly cron: Cron; readonly timezone: string }
  | { readonly kind: 'interval'; readonly seconds: number; readonly timezone: string };

/** As it was written. */
export type Written = { readonly kind: 'cron' | 'interval'; readonly expression: string; readonly timezone: string };

/** Throws SCHEDULE_INVALID. */
export function readTiming({ kind, expression, timezone }: Written): Timing {
  checkZone(timezone);
  return kind === 'cron'
    ? { kind, cron: parseCron(expression), timezone }
    : { kind, seconds: parseInterval(expression), timezone };
}

/** `15m` is an interval, all else a cron expression. */
export const kindOf = (expression: string): Written['kind'] =>
  /^\s*\d+(\.\d+)?\s*[a-z]+(\s+\d+(\.\d+)?\s*[a-z]+)*\s*$/i.test(expression) ? 'interval' : 'cron';
