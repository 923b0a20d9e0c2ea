/**
 * What crosses the line between workflows and everybody else: ids, queues, arguments, signals, updates. Only ids and
 * counts ever go through Temporal (promise 7). No Node, no drivers here: workflow code imports it.
 */
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';

/** Workflows and short activities; chunks (few slots, sized by memory). */
export const queues = { control: 'godwit-control', data: 'godwit-data' } as const;

export const workflowIds = {
  run: (job: string, number: number) => `run/${job}/${number}`,
  table: (runId: string, ordinal: number, label: string) => `table/${runId}/${ordinal}-${label}`,
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
};

/** What continue-as-new carries: ids and counters. */
export type RunCarry = { readonly paused: boolean; readonly executions: number };

/** Result of the `run` workflow. `failed` is thrown as an ApplicationFailure, `canceled` ends as Canceled. */
export type RunResult = { readonly runId: string; readonly status: 'succeeded' | 'partial' | 'skipped' };

export type TableArgs = { readonly runId: string; readonly ordinal: number; readonly paused: boolean };
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
