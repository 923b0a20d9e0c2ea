import type { DocumentShape, Misfit, Mode, Partition, Predicate } from '../connectors/contract.ts';
import type { ScheduleOptions } from './schedule.ts';

/**
 * A mapping after parsing: defaults filled in, short forms spelled out, sources and targets by the name of their row
 * (inline ones became `<job>/source`, `<job>/<target>`). This is what a job stores and a run freezes. No secret in it.
 */
export type JobDocument = {
  readonly name: string;
  /** Name of a saved source. */
  readonly source: string;
  /** By the target's name in the job; insertion order is the plan's order. */
  readonly targets: Readonly<Record<string, TargetUse>>;
  readonly tables: readonly TableEntry[];
  /** Seconds a transient failure may last before its table fails. */
  readonly giveUpAfter: number;
  /** IANA name. Absent: the installation's. */
  readonly timezone?: string;
  /** Time of day in the job's zone, `HH:MM:SS`. Absent: the installation's; null: none. */
  readonly cutOffTime?: string | null;
  /** By key; tables name theirs. */
  readonly schedules?: Readonly<Record<string, JobSchedule>>;
  /** Absent: the installation's. */
  readonly notify?: NotifyRules;
};

/** When a part of a job runs. Tables with the same `cron` share one (decision 1). */
export type JobSchedule = {
  readonly kind: 'cron' | 'interval';
  /** As it was written: five or eight fields, or a duration. */
  readonly expression: string;
  readonly options: ScheduleOptions;
};

/** Who is told what: names of channels in the settings, and the ends of a run they hear of. */
export type NotifyRules = {
  readonly on: readonly ('succeeded' | 'partial' | 'failed' | 'canceled' | 'skipped')[];
  readonly channels?: readonly string[];
};

export type TargetUse = {
  /** Name of a saved target. */
  readonly target: string;
  /** Schema (or folder) on the target; may hold `{schema}` and `{table}`. Default `{source}_{db_name}_dms`, filled in. */
  readonly schema: string;
  /** Table name on the target; default `{table}`. */
  readonly table: string;
  /** File targets. */
  readonly format?: 'parquet' | 'csv' | 'ndjson';
  readonly suffix?: string;
};

export type TableEntry = {
  /** `schema.table`, `table` (in the default schema), or with `*` and `?`. */
  readonly name: string;
  readonly exclude: readonly string[];
  readonly mode: Mode;
  readonly primaryKey?: readonly string[];
  readonly batchSize: number;
  /** Only these columns, or all but those. */
  readonly columns?: readonly string[];
  readonly excludeColumns: readonly string[];
  readonly rename: Readonly<Record<string, string>>;
  readonly where: readonly Predicate[];
  readonly partition?: Partition;
  /** Of syncing and mirroring. */
  readonly bookmark?: string;
  readonly improperBookmarks?: boolean;
  /** Seconds. */
  readonly bufferLag?: number;
  readonly graceLag?: number;
  /** Read again of the last run: seconds of bookmarks, number of keys. Absent: 3600 and 10,000. */
  readonly recheck?: { readonly seconds?: number; readonly keys?: number };
  /** Mirroring: more than so many rows, or than this share of the target's (0 to 1), are not deleted. */
  readonly maxDeleted?: { readonly rows: number } | { readonly share: number };
  readonly strict?: boolean;
  /** Key of the job's schedule that moves this table; absent: self-managed. */
  readonly schedule?: string;
  readonly existing: 'refuse' | 'adopt' | 'overwrite';
  readonly swap: 'rename' | 'delete-insert';
  readonly continue: 'resume' | 'restart';
  /** Absent in documents stored before there was this key: add. */
  readonly onSchemaChange?: 'add' | 'refuse' | 'ignore';
  /** For `checked` columns: per column, `*` for all others. */
  readonly onMisfit: Readonly<Record<string, Misfit>>;
  readonly maxQuarantined: number;
  /** Seconds to wait after each batch. */
  readonly timeDelay?: number;
  /** Absent: as the target holds them (raw), else fields. */
  readonly documents?: DocumentShape['as'];
  readonly fields?: DocumentShape['casts'];
  /** A wildcard takes views too. A view named in full is always taken. */
  readonly views: boolean;
  /** Only to these targets of the job; absent = all. */
  readonly targets?: readonly string[];
};
