/**
 * What crosses the line between workflows and everybody else: ids, queues, arguments, signals, updates. Only ids and
 * counts ever go through Temporal (promise 7). No Node, no drivers here: workflow code imports it.
 */
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';

/** Workflows and short activities; chunks (few slots, sized by memory); keepers of snapshots (long, idle). */
export const queuesOf = (prefix: string) => ({
  control: `${prefix}-control`,
  data: `${prefix}-data`,
  hold: `${prefix}-hold`,
});
export const queues = queuesOf('godwit');

/** An id on a Temporal server that others share: an installation with queues of its own has its prefix before it. */
export const underPrefix = (at: typeof queues, id: string): string =>
  at.control === queues.control ? id : `${at.control.slice(0, -'-control'.length)}/${id}`;

export const workflowIds = {
  run: (job: string, number: number) => `run/${job}/${number}`,
  /** Temporal adds the time: `run/shop/main-2026-11-21T03:00:00Z`. */
  scheduled: (job: string, key: string) => `run/${job}/${key}`,
  table: (runId: string, ordinal: number, label: string) => `table/${runId}/${ordinal}-${label}`,
  hold: (runId: string, epoch: number) => `hold/${runId}/${epoch}`,
  probe: (id: string) => `probe/${id}`,
  janitor: 'janitor',
} as const;

/**
 * Argument of the `run` workflow. The API makes the run's row first and names it; a Schedule gives only the job and
 * the key, and `begin` makes the row.
 */
export type RunArgs = {
  readonly jobId: string;
  readonly scheduleKey?: string;
  readonly runId?: string;
  readonly resume?: RunCarry;
  /** Events after which it, or a table, continues as new; lower in tests. */
  readonly eventLimit?: number;
};

/** What continue-as-new carries: ids and counters. */
export type RunCarry = {
  readonly paused: boolean;
  readonly executions: number;
  readonly runId: string;
  readonly epoch: number;
  readonly label: string;
  readonly tables: number;
  /** Tables that failed, or are paused by themselves. */
  readonly failed: readonly number[];
  readonly pausedTables: readonly number[];
  /** Stays as it was worked out when the run began. */
  readonly cutOffAt?: number;
};

/** Result of the `run` workflow. `failed` is thrown as an ApplicationFailure, `canceled` ends as Canceled. */
export type RunResult = { readonly runId: string; readonly status: 'succeeded' | 'partial' | 'skipped' };

export type TableArgs = {
  readonly runId: string;
  readonly epoch: number;
  readonly ordinal: number;
  readonly label: string;
  readonly paused: boolean;
  readonly resume?: TableCarry;
  /** Events after which it continues as new; lower in tests. */
  readonly eventLimit?: number;
};

/** Where a table is: chunks below `next` are done or never needed again, those up to `upTo` are known. */
export type TableCarry = {
  readonly generation: number;
  readonly next: number;
  readonly upTo: number;
  readonly splitDone: boolean;
  /** Chunks to have in flight at once. */
  readonly pool: number;
};
export type ProbeArgs = { readonly probeId: string };

/** A table by its ordinal in the run; absent = the whole run. */
export type Aim = { readonly ordinal?: number };
export type Actor = { readonly actor: string; readonly note?: string };

// Updates of `run`: synchronous validators refuse what makes no sense, leaving no history.
export const pauseUpdate = defineUpdate<void, [Aim & Actor]>('pause');
export const resumeUpdate = defineUpdate<void, [Aim & Actor]>('resume');
export const skipTableUpdate = defineUpdate<void, [{ readonly ordinal: number } & Actor]>('skipTable');
export const retryTableUpdate = defineUpdate<void, [{ readonly ordinal: number } & Actor]>('retryTable');
/** A clean end: staging discarded, run `canceled`. The same as `temporal workflow cancel`. */
export const cancelUpdate = defineUpdate<void, [Actor]>('cancelRun');

// From `run` to its table children.
export const pauseSignal = defineSignal<[{ readonly paused: boolean }]>('setPaused');

export type RunState = { readonly phase: string; readonly paused: boolean; readonly open: number };
export const stateQuery = defineQuery<RunState>('state');
