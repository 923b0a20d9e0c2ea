import type { DocumentShape, Misfit, Mode, Partition, Predicate } from '../connectors/contract.ts';

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
