/** `cron`, `interval`, `timezone` and `schedule` of a mapping: when the tables of a job run. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { GodwitError } from '../errors.ts';
import { daylightWarnings } from '../schedules/daylight.ts';
import { intervalText, intervalUnits } from '../schedules/interval.ts';
import { fieldNames, fieldsText, manualCron, tokensOf } from '../schedules/manual-cron.ts';
import { specOf } from '../schedules/spec.ts';
import { nextTimes } from '../schedules/times.ts';
import { readTiming } from '../schedules/timing.ts';
import { isZone } from '../schedules/zone.ts';
import type { JobDocument, JobSchedule, TableEntry } from './document.ts';
import type { Path, Report } from './problems.ts';

/** What a schedule says beside its times. */
export type ScheduleOptions = {
  readonly overlap: 'skip' | 'buffer one' | 'cancel other' | 'terminate other';
  /** Seconds: a run missed for longer than this is not made up for. */
  readonly catchUp: number;
  /** Seconds: each run starts up to so much later. */
  readonly jitter: number;
  /** No run starts in these: times of day in the schedule's zone, on those days (0 = Monday; absent: all). */
  readonly blackouts: readonly { readonly from: string; readonly to: string; readonly days?: readonly number[] }[];
};

/** What an unknown key of a small map is told. */
const known = (list: readonly string[]) => ({
  error: (issue: { code?: string }) =>
    issue.code === 'unrecognized_keys' ? `known here: ${list.join(', ')}` : undefined,
});
const field = z.union([z.string().min(1), z.number().int()]).optional();
const amount = z.number().min(0).optional();

export const cronInput = z.union(
  [
    z.string().min(1),
    z.strictObject(
      Object.fromEntries(fieldNames.map((name) => [name, field])) as Record<(typeof fieldNames)[number], typeof field>,
      known(fieldNames),
    ),
  ],
  { error: `expected "self-managed", a cron expression, or a map with some of ${fieldNames.join(', ')}` },
);
export const intervalInput = z.union(
  [
    z.string().min(1),
    z.strictObject(
      Object.fromEntries(intervalUnits.map((unit) => [unit, amount])) as Record<
        (typeof intervalUnits)[number],
        typeof amount
      >,
      known(intervalUnits),
    ),
  ],
  { error: `expected a duration (15m, 2h, 1d), or a map with some of ${intervalUnits.join(', ')}` },
);
export const timezoneInput = z.string().refine(isZone, 'expected an IANA time zone such as Asia/Kolkata');

const duration = z.union([z.number().min(0), z.string().regex(/^\d+(\.\d+)?\s*[smhd]$/)], {
  error: 'expected seconds, or a number with s, m, h or d (24h)',
});
const timeOfDay = z
  .string()
  .regex(/^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$/, 'expected a time of day, HH:MM or HH:MM:SS (in quotes)');
const blackoutKeys = ['from', 'to', 'days'] as const;
const blackout = z.strictObject(
  {
    from: timeOfDay,
    to: timeOfDay,
    days: z
      .union([z.string().min(1), z.array(z.union([z.string().min(1), z.number().int().min(0).max(6)])).min(1)])
      .optional(),
  },
  known(blackoutKeys),
);
const overlaps = [
  'skip',
  'buffer one',
  'cancel other',
  'terminate other',
] as const satisfies ScheduleOptions['overlap'][];
const optionKeys = ['overlap', 'catch_up', 'jitter', 'blackouts'] as const;
export const scheduleInput = z.strictObject(
  {
    overlap: z
      .enum(overlaps)
      .default('skip')
      .describe(
        'When the run before still goes on: leave this one out, start it right after (one at most), or end the other',
      ),
    catch_up: duration
      .default('1h')
      .describe('A start that was missed (Temporal was down) is made up for within this time'),
    jitter: duration.default(0).describe('Each start is delayed by up to this, always the same for one time'),
    blackouts: z
      .array(blackout)
      .default([])
      .describe("No run starts then: `{from: '08:00', to: '18:00', days: mon-fri}` in the job's zone"),
  },
  known(optionKeys),
);

/** What one place of the mapping says: its own times, none (self-managed), or nothing. */
export type Said = Pick<JobSchedule, 'kind' | 'expression'> | 'self-managed' | undefined;
type Keys = {
  readonly cron?: z.infer<typeof cronInput> | undefined;
  readonly interval?: z.infer<typeof intervalInput> | undefined;
};
type Place = { readonly at: Path; readonly found: Report; readonly timezone: string | undefined };

/** Adds what is wrong with it, or what a Schedule cannot say. */
export function saidAt({ cron, interval }: Keys, { at, found, timezone }: Place): Said {
  if (cron !== undefined && interval !== undefined)
    found.add([...at, 'interval'], 'not beside `cron`: give the one or the other', 'key');
  if (cron === 'self-managed') return cron;
  const key = cron !== undefined ? 'cron' : 'interval';
  try {
    const said = cron !== undefined ? cronOf(cron) : interval !== undefined ? intervalOf(interval) : undefined;
    if (said) specOf(readTiming({ ...said, timezone: timezone ?? 'UTC' }), Date.now());
    return said;
  } catch (error) {
    if (!(error instanceof GodwitError)) throw error;
    return void found.add([...at, key], error.message);
  }
}

const cronOf = (given: z.infer<typeof cronInput>) => ({
  kind: 'cron' as const,
  expression:
    typeof given === 'string'
      ? given.trim().replaceAll(/\s+/g, ' ')
      : fieldsText(
          Object.fromEntries(Object.entries(given).map(([name, value]) => [name, tokensOf(String(value)).join('')])),
        ),
});
const intervalOf = (given: z.infer<typeof intervalInput>) => ({
  kind: 'interval' as const,
  expression: typeof given === 'string' ? given.trim() : intervalText(given),
});

type Top = {
  readonly said: Said;
  readonly timezone: string | undefined;
  readonly options: z.infer<typeof scheduleInput> | undefined;
  readonly found: Report;
  readonly warnings: string[];
};

/**
 * Tables of one expression share a schedule: `main` for those that take the top's, or where there is only one; else `cron-`
 * and eight digits of a hash (decision 1). A table that says nothing takes the top's.
 */
export function assignSchedules(
  tables: readonly TableEntry[],
  saidOf: (table: TableEntry) => Said,
  top: Top,
): Pick<JobDocument, 'tables' | 'schedules'> {
  const options = optionsOf(top);
  const said = tables.map((table) => saidOf(table) ?? top.said);
  const timed = said.filter((one) => one !== undefined && one !== 'self-managed');
  const same = (a: Said, b: Said) => textOf(a) === textOf(b);
  const only = new Set(timed.map(textOf)).size === 1;
  const keyOf = (one: (typeof timed)[number]) => (only || same(one, top.said) ? 'main' : `cron-${hash(textOf(one))}`);
  const schedules = Object.fromEntries(timed.map((one) => [keyOf(one), { ...one, options }]));
  for (const [key, one] of Object.entries(schedules)) warn(key, one, top);
  const named = tables.map((table, i) => {
    const one = said[i];
    return one === undefined || one === 'self-managed' ? table : { ...table, schedule: keyOf(one) };
  });
  if (timed.length === 0 && top.options) top.found.add(['schedule'], 'is for jobs with `cron` or `interval`', 'key');
  return { tables: named, ...(timed.length > 0 ? { schedules } : {}) };
}

const textOf = (said: Said): string =>
  said === undefined || typeof said === 'string' ? '' : `${said.kind} ${said.expression}`;
const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 8);

function warn(key: string, { kind, expression }: JobSchedule, { timezone, warnings }: Top): void {
  const timing = readTiming({ kind, expression, timezone: timezone ?? 'UTC' });
  const of = `Schedule ${key} (${expression})`;
  if (nextTimes(timing, Date.now(), 1).length === 0) warnings.push(`${of} has no time to come.`);
  if (timezone !== undefined) for (const one of daylightWarnings(timing, Date.now())) warnings.push(`${of}: ${one}`);
}

function optionsOf({ options, found }: Top): ScheduleOptions {
  const { overlap, catch_up, jitter, blackouts } = options ?? scheduleInput.parse({});
  const catchUp = seconds(catch_up);
  if (catchUp < 10) found.add(['schedule', 'catch_up'], 'at least 10 seconds');
  return {
    overlap,
    catchUp,
    jitter: seconds(jitter),
    blackouts: blackouts.map(({ from, to, days }, i) => {
      if (from === to) found.add(['schedule', 'blackouts', i], '`from` and `to` are the same');
      return {
        from,
        to,
        ...(days === undefined ? {} : { days: weekdays(days, ['schedule', 'blackouts', i, 'days'], found) }),
      };
    }),
  };
}

/** `mon-fri`, `[sat, sun]`, `[5, 6]`: 0 = Monday. */
function weekdays(given: string | readonly (string | number)[], at: Path, found: Report): readonly number[] {
  try {
    return (
      manualCron({ day_of_week: tokensOf([given].flat().join(',')).join('') }).days[0]?.weekdays ?? [
        0, 1, 2, 3, 4, 5, 6,
      ]
    );
  } catch (error) {
    if (!(error instanceof GodwitError)) throw error;
    found.add(at, error.message);
    return [];
  }
}

const unit = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
function seconds(input: number | string): number {
  if (typeof input === 'number') return input;
  const [, count = '0', letter = 's'] = /^([\d.]+)\s*([smhd])$/.exec(input) ?? [];
  return Number(count) * unit[letter as keyof typeof unit];
}
