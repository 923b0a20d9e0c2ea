import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Client,
  ScheduleAlreadyRunning,
  type ScheduleHandle,
  ScheduleNotFoundError,
  type ScheduleOptions,
} from '@temporalio/client';
import type { Logger } from 'pino';
import type { Deps } from '../activities/deps.ts';
import { ours, storedFailure } from '../activities/failures.ts';
import type { Database } from '../db/open.ts';
import {
  adoptPause,
  allSchedules,
  noteApplied,
  noteFailure,
  noteNext,
  type Schedule,
  schedulesChannel,
} from '../db/schedules.ts';
import { settingsOf } from '../db/settings.ts';
import { GodwitError } from '../errors.ts';
import { datedYears, type Spec, specOf } from '../schedules/spec.ts';
import { nextTimes } from '../schedules/times.ts';
import { readTiming, type Timing } from '../schedules/timing.ts';
import { changesOf } from '../schedules/zone.ts';
import { underPrefix, workflowIds } from '../workflows/messages.ts';
import type { Queues } from './run.ts';

type Reconciling = {
  readonly deps: Deps;
  readonly database: Database;
  readonly queues: Queues;
  readonly log?: Logger | undefined;
  /** Between two rounds that nobody asked for. */
  readonly everyMs?: number;
};

const hour = 3_600_000;
const everyMs = 4_000;
/** Of one round; what is left is for the next. */
const mostMs = 60_000;
/** Any number, the same for every worker: who reconciles holds it. */
const reconcilerLock = 7_013_280_118;
/** Raised when the same row is said to Temporal in another way. */
const translation = 2;

/** Rounds until it is disposed of: soon after a change, and now and then anyway, for what changed in Temporal. */
export function startReconciler(of: Reconciling): AsyncDisposable {
  const { client } = of.deps;
  const ending = new AbortController();
  let wake = new AbortController();
  let asked = false;
  const listening = of.database.listen(schedulesChannel, () => {
    asked = true;
    wake.abort();
  });
  const rounds = async () => {
    while (!ending.signal.aborted) {
      asked = false;
      wake = new AbortController();
      await client
        .withAbortSignal(ending.signal, () => client.withDeadline(Date.now() + mostMs, () => alone(of)))
        .catch((error) => {
          if (!ending.signal.aborted)
            of.log?.warn({ error: ours(error).message }, 'Schedules will be looked at again.');
        });
      if (asked) continue;
      const signal = AbortSignal.any([ending.signal, wake.signal]);
      await sleep(of.everyMs ?? everyMs, undefined, { signal }).catch(() => {});
    }
  };
  const running = rounds();
  return {
    async [Symbol.asyncDispose]() {
      ending.abort();
      await running;
      await listening[Symbol.asyncDispose]();
    },
  };
}

/** One round, unless another worker is at it. */
async function alone(of: Reconciling): Promise<void> {
  const client = await of.database.pool.connect();
  let broken: Error | undefined;
  try {
    const { rows } = await client.query('SELECT pg_try_advisory_lock($1) AS mine', [reconcilerLock]);
    if (rows[0]?.mine !== true) return;
    try {
      await reconcile(of);
    } finally {
      await client.query('SELECT pg_advisory_unlock($1)', [reconcilerLock]).catch((error) => {
        broken = error;
      });
    }
  } finally {
    // A session that may still hold the lock is ended.
    client.release(broken);
  }
}

/**
 * Makes Temporal's Schedules equal to our rows. Cases: 1 a row that Temporal was not told, or was told otherwise; 2 one
 * that Temporal does not have (an empty server, deleted there): made again; 3 paused or resumed in Temporal: the row
 * follows; 4 one whose times were changed in Temporal: told again; 5 a Schedule of ours without a row: the job or its cron is gone. Idempotent.
 */
export async function reconcile({ deps, queues, log }: Pick<Reconciling, 'deps' | 'queues' | 'log'>): Promise<void> {
  const { db, client } = deps;
  const { timezone } = await settingsOf(db, deps.config);
  const rows = await allSchedules(db);
  const listed = await listSchedules(client, underPrefix(queues, 'schedule/'));
  const ours = new Set(rows.map((row) => underPrefix(queues, row.temporalId)));
  for (const row of rows) {
    const id = underPrefix(queues, row.temporalId);
    try {
      await one({ deps, queues, row, handle: client.schedule.getHandle(id), seen: listed.get(id), timezone });
    } catch (error) {
      const known = refusal(error);
      if (!known) throw error;
      log?.error({ schedule: id, code: known.code }, known.message);
      if (row.failure?.message !== known.message) await noteFailure(db, row, storedFailure(known));
    }
  }
  for (const id of listed.keys()) if (!ours.has(id)) await remove(deps, id);
}

type Seen = { readonly paused: boolean; readonly note: string; readonly next: readonly string[] };

type One = {
  readonly deps: Deps;
  readonly queues: Queues;
  readonly row: Schedule;
  readonly handle: ScheduleHandle;
  /** As Temporal's list has it, which may be seconds old. */
  readonly seen: Seen | undefined;
  readonly timezone: string;
};

async function one({ deps, queues, row, handle, seen, timezone }: One): Promise<void> {
  const zone = row.timezone || timezone;
  const wanted = wantedOf(row, zone, queues);
  if (row.applied !== wanted.applied) {
    if (!(await pausedSince(deps, row, handle))) await told(deps, row, { handle, wanted });
    return;
  }
  const equal = (one: Seen) => one.paused === row.paused && one.note === (row.note ?? '') && fits(wanted, one.next);
  const now = seen && equal(seen) ? seen : await look(handle);
  if (!now || !fits(wanted, now.next)) return await told(deps, row, { handle, wanted });
  if (!equal(now)) {
    const said = { paused: now.paused, note: now.note };
    const { applied } = wantedOf({ ...row, ...said }, zone, queues);
    await adoptPause(deps.db, row, { ...said, applied });
  } else if (row.appliedAt === null || row.appliedAt < row.updatedAt) {
    // Stored once more with the same words.
    await noteApplied(deps.db, row, wanted);
  }
  if (now.next.join() !== row.next.join()) await noteNext(deps.db, row, now.next);
}

async function told(deps: Deps, row: Schedule, { handle, wanted }: { handle: ScheduleHandle; wanted: Wanted }) {
  await tell(deps, handle, wanted);
  await noteApplied(deps.db, row, wanted);
}

/** What somebody did in Temporal since it was told last is not undone by a change of the times: first the row follows. */
async function pausedSince({ db }: Deps, row: Schedule, handle: ScheduleHandle): Promise<boolean> {
  if (row.applied === null) return false;
  const before = row.applied.endsWith(pausedMark);
  const now = before === row.paused ? await look(handle) : undefined;
  if (!now || now.paused === before) return false;
  await adoptPause(db, row, { paused: now.paused, note: now.note, applied: row.applied });
  return true;
}

/**
 * Are these the times it shall come? Others are those of somebody who changed it in Temporal. Within a change of the clocks
 * the server has rules of its own, and a jitter is its own too.
 */
function fits({ timing, options }: Wanted, next: readonly string[]): boolean {
  const [first] = next;
  if (first === undefined || options.spec.jitter !== undefined) return true;
  const expected = nextTimes(timing, Date.parse(first), next.length).map((at) => at.toISOString());
  const { timezone } = timing;
  const nearChange = (at: number) =>
    changesOf(timezone, new Date(at).getUTCFullYear()).some((change) => Math.abs(change.at - at) < 3 * hour);
  return next.join() === expected.join() || [...next, ...expected].some((at) => nearChange(Date.parse(at)));
}

async function look(handle: ScheduleHandle): Promise<Seen | undefined> {
  try {
    const { state, info } = await handle.describe();
    return { paused: state.paused, note: state.note ?? '', next: info.nextActionTimes.map((at) => at.toISOString()) };
  } catch (error) {
    if (error instanceof ScheduleNotFoundError) return undefined;
    throw error;
  }
}

type Wanted = {
  readonly timing: Timing;
  readonly options: Omit<ScheduleOptions, 'scheduleId'> & { state: { paused: boolean; note: string } };
  readonly until: Date | null;
  /** Of all that Temporal is told, and whether it is paused. */
  readonly applied: string;
};
const pausedMark = ' paused';

const overlaps = {
  skip: 'SKIP',
  'buffer one': 'BUFFER_ONE',
  'cancel other': 'CANCEL_OTHER',
  'terminate other': 'TERMINATE_OTHER',
} as const;

/** Throws SCHEDULE_INVALID. */
function wantedOf(row: Schedule, timezone: string, queues: Queues): Wanted {
  const { kind, expression, options, paused, note, jobId, key, job } = row;
  const timing = readTiming({ kind, expression, timezone });
  const { spec, until } = currentSpec(row, timing);
  // Temporal keeps calendars only: what was written stands beside them.
  const calendars = spec.calendars?.map((one) => ({ ...one, comment: expression }));
  const workflowId = underPrefix(queues, workflowIds.scheduled(job, key));
  const said = { translation, kind, expression, timezone, options, paused, note: note ?? '', until, workflowId };
  const hash = createHash('sha256').update(JSON.stringify(said)).digest('hex').slice(0, 32);
  return {
    timing,
    options: {
      spec: {
        ...spec,
        ...(calendars ? { calendars } : {}),
        ...(options.jitter > 0 ? { jitter: options.jitter * 1000 } : {}),
      },
      action: {
        type: 'startWorkflow',
        workflowType: 'run',
        workflowId,
        taskQueue: queues.control,
        // No summary: a sealed one `temporal schedule describe` cannot read, and then says nothing at all.
        args: [{ jobId, scheduleKey: key }],
      },
      policies: { overlap: overlaps[options.overlap], catchupWindow: options.catchUp * 1000, pauseOnFailure: false },
      state: { paused, note: note ?? '' },
    },
    until: until === undefined ? null : new Date(until),
    applied: paused ? hash + pausedMark : hash,
  };
}

/** Dated calendars are made anew a year before they are needed, not every month. */
function currentSpec({ until }: Schedule, timing: Timing): { spec: Omit<Spec, 'until'>; until?: number } {
  const years = (at: Date, n: number) => Date.UTC(at.getUTCFullYear() + n, at.getUTCMonth(), 1);
  const now = new Date();
  const enough = until !== null && until.getTime() > years(now, datedYears - 1);
  const { until: reaches, ...spec } = specOf(timing, enough ? years(until, -datedYears) : now.getTime());
  return { spec, ...(reaches === undefined ? {} : { until: reaches }) };
}

async function tell(deps: Deps, handle: ScheduleHandle, { options }: Wanted): Promise<void> {
  const { scheduleId } = handle;
  try {
    return await handle.update(() => options);
  } catch (error) {
    if (!(error instanceof ScheduleNotFoundError)) throw error;
  }
  try {
    await deps.client.schedule.create({ ...options, scheduleId, memo: { installation: deps.installation } });
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error;
    await handle.update(() => options);
  }
}

/** Only what this installation made: another one may be on the same server. */
async function remove({ client, installation }: Deps, id: string): Promise<void> {
  const handle = client.schedule.getHandle(id);
  try {
    const { memo } = await handle.describe();
    if (memo?.installation !== installation) return;
    await handle.pause('Its job, or this part of it, is gone.');
    await handle.delete();
  } catch (error) {
    // Gone already; or sealed with a key that is not ours.
    if (error instanceof ScheduleNotFoundError) return;
    if (error instanceof GodwitError && error.code === 'SECRET_UNREADABLE') return;
    throw error;
  }
}

/** Not by the SDK's own list, which opens the memos of other installations too. */
async function listSchedules(client: Client, prefix: string): Promise<Map<string, Seen>> {
  const found = new Map<string, Seen>();
  let nextPageToken: Uint8Array | null | undefined;
  do {
    const { namespace } = client.options;
    const page = await client.workflowService.listSchedules({ namespace, maximumPageSize: 500, nextPageToken });
    for (const { scheduleId, info } of page.schedules ?? []) {
      if (!scheduleId?.startsWith(prefix)) continue;
      const next = (info?.futureActionTimes ?? []).map(({ seconds, nanos }) =>
        new Date(Number(seconds ?? 0) * 1000 + (nanos ?? 0) / 1e6).toISOString(),
      );
      found.set(scheduleId, { paused: info?.paused === true, note: info?.notes ?? '', next });
    }
    nextPageToken = page.nextPageToken;
  } while (nextPageToken && nextPageToken.length > 0);
  return found;
}

/** What trying again does not help. */
function refusal(error: unknown): GodwitError | undefined {
  if (error instanceof GodwitError && error.code === 'SCHEDULE_INVALID') return error;
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const { code, details } = cause as { code?: unknown; details?: string };
  if (code !== 3) return undefined;
  return new GodwitError('SCHEDULE_INVALID', `Temporal refuses the schedule: ${details ?? (cause as Error).message}`);
}
