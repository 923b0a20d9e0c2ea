/**
 * What workflows may ask for. Arguments and results are ids and counts only (promise 7); every activity is idempotent and
 * loads what it needs from PostgreSQL. One that belongs to an older epoch of its run writes nothing and throws FENCED.
 */
import type { ProbeArgs, TableCarry } from '../workflows/messages.ts';

export type BeginArgs = {
  readonly jobId: string;
  readonly scheduleKey: string;
  readonly runId?: string;
  readonly workflowId: string;
  readonly firstExecutionRunId: string;
};

/** A run, as seen by one workflow execution chain: a takeover raises the epoch. */
export type RunRef = { readonly runId: string; readonly epoch: number };
export type TableRef = RunRef & { readonly ordinal: number };
export type GenerationRef = TableRef & { readonly generation: number };

export type Begun = RunRef & {
  readonly verdict: 'go' | 'skipped';
  /** `<job> 12`, for people who look at Temporal's own UI. */
  readonly label: string;
  /** Only when the server has Godwit's search attributes. */
  readonly attributes?: { readonly job: string; readonly run: string; readonly modes: readonly string[] };
  /** Milliseconds since 1970: what still moves then is cut off. */
  readonly cutOffAt?: number;
};

/** One big table, or small ones in a row of ordinals. */
export type Unit =
  | { readonly kind: 'table'; readonly ordinal: number; readonly label: string }
  | { readonly kind: 'group'; readonly from: number; readonly to: number };
export type Units = { readonly tables: number; readonly units: readonly Unit[]; readonly next?: number };

export type GroupArgs = RunRef & { readonly from: number; readonly to: number };
/** `left`: what was not begun because it, or the run, is paused. */
export type GroupResult = { readonly failed: readonly number[]; readonly left: readonly Unit[] };

export type SplitArgs = GenerationRef & { readonly upTo: number; readonly count: number };
export type SplitResult = { readonly upTo: number; readonly done: boolean; readonly pool: number };

export type MoveArgs = GenerationRef & { readonly chunk: number };
export type MoveResult = { readonly outcome: 'done' | 'paused' };

export type EndArgs = RunRef & {
  readonly canceled: boolean;
  readonly cutOff?: true;
  /** Of the run itself (planning, the source), not of a table. */
  readonly failure?: { readonly code: string; readonly message: string };
};
export type Ended = {
  readonly status: 'succeeded' | 'partial' | 'failed' | 'canceled';
  readonly code: string;
  readonly message: string;
};

export type Activities = {
  /** Makes the run's row when a Schedule started it, takes the lease, sets the status. Throws NOT_FOUND. */
  begin(args: BeginArgs): Promise<Begun>;
  /** Waits for the snapshot, decides every table, stores them, gives the first page of units. */
  plan(run: RunRef): Promise<Units>;
  units(args: RunRef & { readonly from: number }): Promise<Units>;
  prepareTable(table: TableRef): Promise<TableCarry>;
  /** Finds and stores up to `count` more chunks behind `upTo`. */
  split(args: SplitArgs): Promise<SplitResult>;
  /** Keys and indexes; the table is `staged`, or published when it stands alone. */
  finishTable(table: GenerationRef): Promise<void>;
  /**
   * After its snapshot was lost, or a document did not fit its description (it is then planned anew): staging discarded,
   * generation + 1, under a new snapshot.
   */
  restartTable(table: GenerationRef): Promise<TableCarry>;
  failTable(args: TableRef & { readonly code: string; readonly message: string }): Promise<void>;
  /**
   * Publishes every component all of whose members have ended. `details`: a Markdown table of tables for the UI;
   * `failed`: complete tables that could not be published. `last`: each is tried once, none is waited for.
   */
  publishReady(
    run: RunRef & { readonly last?: true },
  ): Promise<{ readonly details: string; readonly failed?: readonly number[] }>;
  /** Tables still to be moved end as `cut off`, with their staging. */
  cutOff(run: RunRef): Promise<void>;
  /** Writes the wish down, so that chunks which are only scheduled do not start. Without ordinal: the whole run. */
  setPaused(
    args: RunRef & { readonly ordinal?: number; readonly paused: boolean; readonly actor: string },
  ): Promise<void>;
  skipTable(args: TableRef & { readonly actor: string }): Promise<void>;
  /** A failed table is queued again, its staging kept. Throws CONFLICT when it did not fail. */
  requeueTable(args: TableRef & { readonly actor: string }): Promise<Unit>;
  /** Cancels the run's own workflow, as `temporal workflow cancel` does. */
  requestCancel(args: RunRef & { readonly workflowId: string; readonly actor: string }): Promise<void>;
  /** A cancel leaves nothing unpublished behind. */
  discardRun(run: RunRef): Promise<void>;
  /** Balances the books, decides the outcome (decision 5), gives the lease back. */
  end(args: EndArgs): Promise<Ended>;
  probe(args: ProbeArgs): Promise<void>;
  /** read → transform → write → checkpoint of one chunk. Throws SNAPSHOT_LOST when the table must start again. */
  move(args: MoveArgs): Promise<MoveResult>;
  /** The same for small tables, from prepare to published. */
  moveMany(args: GroupArgs): Promise<GroupResult>;
  /** Keeps the source's snapshot until the run ends. */
  hold(run: RunRef): Promise<void>;
};
