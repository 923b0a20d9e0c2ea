/**
 * What a connector is. One folder per system, the same file names in each (settings.ts, types.ts, errors.ts,
 * source.ts, target.ts, …). It knows drivers and this file; nothing of Temporal, HTTP or Godwit's metadata.
 * `test/conformance/` is the specification in executable form. An ability a system lacks is an absent method.
 *
 * The way one row travels: `Source.read` yields Batches of the plan's format → a transform (none, columnar or rows)
 * yields Batches in a format the target takes → `Target.write` makes them and their checkpoint durable together.
 */
import type { LogicalType, Row } from './types.ts';

export type SystemName = 'postgres' | 'mysql' | 'mongodb' | 'files';

/**
 * `pg-binary`: COPY BINARY. `pg-text`: COPY's text format, which is LOAD DATA's too (tab, `\n`, `\N`, backslash escapes; a
 * reader must know `\b \f \n \r \t \v \\` and bytes as they are), each value in the text form that PostgreSQL reads and writes with
 * Godwit's pinned settings, whatever system it comes from: bool `t` `f`, bytes `\x` and hexadecimal digits, dates and
 * times ISO with a blank (`2024-02-29 12:00:00.5`, a timestamptz in UTC with `+00`), floats in their shortest form that
 * reads back the same, `NaN`, `Infinity`. `csv`: see connectors/postgres/select.ts. `bson`: whole documents one after another,
 * each beginning with its length. `rows`: canonical values (types.ts). `parquet`, `csv` and `ndjson` towards a file
 * target are finished part files (`FileBatch`).
 */
export type Format = 'pg-binary' | 'pg-text' | 'bson' | 'csv' | 'ndjson' | 'parquet' | 'rows';
export type Lane = 'direct' | 'columnar' | 'rows';
/** The incremental modes (logging, syncing, mirroring) begin with a full load, as replace does; later runs move what is new. */
export type Mode = 'replace' | 'dumping' | 'logging' | 'syncing' | 'mirroring';

export type TableName = { readonly schema: string; readonly name: string };
export const tableText = (name: TableName): string => (name.schema ? `${name.schema}.${name.name}` : name.name);

/** A named pre-flight check. `fix` says what to do, in words a user can act on. */
export type Check = {
  readonly name: string;
  readonly outcome: 'pass' | 'warn' | 'fail';
  readonly detail: string;
  readonly fix?: string;
};

export type TableKind = 'table' | 'partitioned' | 'view' | 'materialized view' | 'foreign' | 'collection';

export type TableSummary = {
  readonly name: TableName;
  readonly kind: TableKind;
  /** Estimates, from statistics: never a count. -1 when unknown. */
  readonly rows: number;
  readonly bytes: number;
  /** May this login read it? */
  readonly readable: boolean;
};

export type Column = {
  readonly name: string;
  readonly type: LogicalType;
  /** The system's own spelling, complete: `numeric(12,2)`, `shop.mood`. */
  readonly native: string;
  readonly nullable: boolean;
  readonly generated?: boolean;
  readonly comment?: string;
};

/** What the values of a field become: the mapping manual's words, and those of Godwit. */
export type FieldCast = 'datetime' | 'bool' | 'int' | 'float' | 'str' | 'json' | 'decimal';

/**
 * How documents become rows. `fields`: each top-level field a column of text, those with a cast of that type. `flatten`:
 * nested documents to columns `a_b`, each of the type that holds all its values. `json`: the key and one column
 * `document`. `raw`: the document as it is, for a target of documents.
 */
export type DocumentShape = {
  readonly as: 'fields' | 'flatten' | 'json' | 'raw';
  readonly casts: Readonly<Record<string, FieldCast>>;
  /** Looks at every document instead of a sample: after a read met a field or a type no sample had shown (FIELDS_CHANGED). */
  readonly thorough?: boolean;
};

/** A table as its source describes it. Plain JSON. */
export type Table = {
  readonly system: SystemName;
  readonly name: TableName;
  readonly kind: TableKind;
  readonly columns: readonly Column[];
  /** Columns of the primary key, or of a unique key over not-null columns; empty when there is none. */
  readonly key: readonly string[];
  readonly rows: number;
  readonly bytes: number;
  /** Tables its foreign keys point to (within the source). */
  readonly references: readonly TableName[];
  /** Changes whenever columns, types or the storage generation change (decisions 7 and 16). */
  readonly fingerprint: string;
  /** What only a target of the same system understands: index and constraint definitions, sequences, user types … */
  readonly extras?: unknown;
};

// ── Source ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A resumable part of a table. `bounds` is the connector's own JSON; it may hold key values, so it is stored sealed. */
export type Chunk = {
  /** From 1, in the order found. */
  readonly id: number;
  /** `all`: the whole table. `blocks` needs the run's snapshot: when that is lost the table starts again. `range`: of the bookmark. */
  /** `sweep`: no rows move; what vanished from this `KeyRange` (the bounds) at the source is deleted at the target (mirroring). */
  readonly kind: 'all' | 'keys' | 'blocks' | 'range' | 'sweep';
  readonly bounds: unknown;
  /** Estimated rows. */
  readonly rows: number;
};

export type ChunkSize = { readonly rows: number; readonly bytes: number };

/** How a source shows a column's value in the bytes: as it is, in its text form, or as JSON text. */
export type Shape = 'native' | 'text' | 'json';

/** What happens to a value the target type cannot hold (`checked` columns). */
export type Misfit = 'stop' | 'null' | 'clamp' | 'text' | 'quarantine';

export type ReadColumn = {
  readonly name: string;
  readonly shape: Shape;
  /**
   * Set for `checked` columns: the source marks or mends values outside of what the target's type holds. `range` is
   * years 1–9999 and finite for dates and times, finite for decimals. `wide`: other years, and 24:00, are held too.
   */
  readonly guard?: { readonly misfit: Misfit; readonly wide?: boolean };
  /** Not a column of the table: this value in every row (its text form), named `name`. */
  readonly constant?: { readonly value: string; readonly type: LogicalType };
};

/** A filter the source evaluates itself (decision 20): nothing else may be pushed. */
export type Predicate = {
  readonly column: string;
  readonly op: '=' | 'in' | '<' | '<=' | '>' | '>=' | 'is null' | 'is not null';
  readonly values: readonly (string | number | boolean)[];
};

export type Selection = {
  readonly columns: readonly ReadColumn[];
  readonly where?: readonly Predicate[];
  /** Of an incremental read: only these rows. */
  readonly range?: Range;
};

// ── Incremental reading ─────────────────────────────────────────────────────────────────────────────────────────────

/**
 * By what the incremental modes find new rows. `bookmark`: a column that is set to now whenever a row changes. `key`: the
 * primary key, which only grows. `form` is how the column shows an instant: `native`, a type of the system (of a key: any); an
 * epoch in a number of the named unit; `text`, in any standard spelling, which only the worker can compare
 * (`improper_bookmarks`).
 */
export type Follow = {
  readonly by: 'bookmark' | 'key';
  readonly column: string;
  readonly form: 'native' | 'seconds' | 'milliseconds' | 'microseconds' | 'nanoseconds' | 'text';
};

/**
 * Rows whose `column` is between `from` and `upto`, both inclusive, absent = open; with `nulls` also those where it is
 * NULL. Values are the canonical form of the column's type as text (`types.ts`: `2024-02-29T12:00:00.5Z`, digits, the
 * text itself), whatever the form of the bookmark: an epoch is its number. Texts compare by their bytes. They may be key values:
 * never logged, stored sealed.
 */
export type Range = {
  readonly column: string;
  readonly from?: string;
  readonly upto?: string;
  readonly nulls?: boolean;
};

/**
 * How far a table of the source is, taken once per run, before its first row is read, at the moment of the run's snapshot or
 * earlier. Plain JSON.
 */
export type Watermark = {
  /** The greatest value of the column; absent when no row has one. */
  readonly upto?: string;
  /** Of keys: the one that lies `recheck` keys below `upto`; absent when there are not so many. */
  readonly floor?: string;
  /** The source's clock, ISO 8601 in UTC with microseconds. */
  readonly clock: string;
  /**
   * Of bookmarks: when the oldest transaction began that is open and may still write one, as far as the login may know.
   * ISO 8601 in UTC.
   */
  readonly oldest?: string;
  /**
   * What may still commit rows below `upto` (decision 22); opaque, only its source understands it. Of keys: those who have
   * rows of this very table in hand. Absent: nobody.
   */
  readonly open?: unknown;
  /** Who is active now, for `ended`; opaque. */
  readonly active?: unknown;
};

/**
 * What the target remembers of an incremental table between runs, written in one step with what makes it true. Everything
 * that was committed at the source below `settled` is here; `pending` is a later watermark below which transactions
 * could still commit when it was taken.
 */
export type TableState = {
  readonly follow: Follow;
  /** The work's key and filter then. Absent in what was remembered before there were such, or taken over from another tool. */
  readonly key?: readonly string[];
  readonly where?: readonly Predicate[];
  readonly settled: Watermark;
  readonly pending?: Watermark;
  /** The source's clock when the last complete run began, and Godwit's when it was made visible (ISO). */
  readonly startedAt: string;
  readonly succeededAt: string;
  readonly run: string;
};

/** What a run of an incremental table moves when it is not a full load. */
export type Increment = {
  /** Absent: all rows that the work's `where` lets pass (a backfill by predicate). */
  readonly range?: Range;
  /** Of a backfill by predicate, beside the work's own `where`; whoever reads and splits applies it. */
  readonly where?: readonly Predicate[];
  /** The source cannot compare the column (form `text`): it gives all rows, and the worker leaves out those outside. */
  readonly compare?: 'worker';
  /** Logging: rows that are there already stay as they are. Else they become what the source has. */
  readonly existing: 'keep' | 'update';
};

/** Keys between `after` (exclusive) and `upto` (inclusive), absent = open, each the canonical texts of the key's columns. */
export type KeyRange = {
  readonly after?: readonly string[];
  readonly upto?: readonly string[];
  /** Only the keys of these parts (`KeyDigest.parts`, of the numbers 0 to 1023). */
  readonly only?: readonly number[];
};

/**
 * Keys in ascending order: numbers by value, texts and enums by the bytes of their UTF-8, all others by the order of their
 * canonical text; several columns one after another. Each is the canonical texts of its columns joined by NUL; times with six
 * digits of fraction.
 */
export type KeyBatch = readonly string[];

/**
 * Of all keys in a range; two of one kind are equal when the keys are. `parts`: the same of each part of them that has any, where a
 * key's part is known from its value alone, never by a hash that another server may compute in another way: a key is looked
 * for only in its part. `by` names that rule; parts of one rule can be compared.
 */
export type KeyDigest = {
  readonly count: number;
  readonly hash: string;
  readonly parts?: { readonly by: string; readonly of: ReadonlyMap<number, string> };
};

/** A point in time to read from. `chunk` = every chunk reads its own moment. */
export type SnapshotRef =
  | { readonly consistency: 'snapshot'; readonly token: string }
  | { readonly consistency: 'chunk' };

/** Held by one process for a whole run; readers anywhere use its token. Dispose ends it. */
export interface Snapshot extends AsyncDisposable {
  readonly token: string;
  /** Where the source was (an LSN …): a change stream can start here. */
  readonly position: string;
  /** The source's clock, not after the snapshot: ISO 8601 in UTC with microseconds. */
  readonly takenAt: string;
  /** What may still commit with an older time than the snapshot's (decision 22); becomes `Watermark.open`. Opaque text, no values. */
  readonly pending?: string;
  readonly consistency: 'snapshot' | 'chunk';
  /** Settles (rejects with SNAPSHOT_LOST) when the snapshot is gone before it was disposed. */
  readonly lost: Promise<never>;
}

export type Read = Selection & {
  readonly snapshot: SnapshotRef;
  readonly format: Format;
  /** See BytesBatch.framed. Only for a target that says `takesFrames`. */
  readonly framed?: boolean;
  /** Upper bounds of one Batch. Memory is bounded by bytes. */
  readonly batch: { readonly rows: number; readonly bytes: number };
  readonly signal: AbortSignal;
};

/**
 * Bytes of the stream's format. Not aligned to rows; `rows` only on the last one, for the whole stream. `framed`: the
 * bytes are PostgreSQL CopyData messages as they came from the source's socket (message type, length, payload), cut
 * anywhere, to be passed on untouched: the direct lane's fast path.
 */
export type BytesBatch = {
  readonly kind: 'bytes';
  readonly bytes: readonly Uint8Array[];
  readonly framed?: boolean;
  readonly rows?: number;
  /**
   * Called by the taker, once, when it will never look at these bytes again (they have left the process): their memory is
   * then read into again. Not calling it only costs garbage.
   */
  readonly release?: () => void;
};
export type RowsBatch = { readonly kind: 'rows'; readonly rows: readonly Row[] };
/** A finished part file in the worker's spool, to be moved or uploaded; the taker removes it. */
export type FileBatch = {
  readonly kind: 'file';
  readonly path: string;
  /** Hive folders below the table, `''` without partitions: `year=2024/month=05`. */
  readonly partition: string;
  readonly rows: number;
  readonly bytes: number;
  /** Rows lane: rows left out on the way, to be counted and quarantined by the target before its commit. */
  readonly bad?: readonly BadRow[];
};
export type Batch = BytesBatch | RowsBatch | FileBatch;

export interface Source extends AsyncDisposable {
  readonly system: SystemName;
  readonly formats: readonly Format[];
  /** The same for two addresses of one database (decision 4). */
  identity(): Promise<string>;
  check(): Promise<Check[]>;
  tables(): Promise<TableSummary[]>;
  /** Its rows are documents: `describe` needs their shape, and `Table.extras` remembers it for `read`. */
  readonly documents?: boolean;
  /** Throws TABLE_MISSING, PRIVILEGE_MISSING. */
  describe(name: TableName, shape?: DocumentShape): Promise<Table>;
  /** Describes many at once, in as few queries as possible; a table that fails is an error in its place. */
  describeAll(names: readonly TableName[], shape?: DocumentShape): Promise<(Table | Error)[]>;
  open(): Promise<Snapshot>;
  /**
   * Chunks in order, found as they are asked for; together they cover every row exactly once under one snapshot.
   * `after`: goes on behind that chunk. Never scans the table twice; a table below one chunk's size costs no query.
   */
  split(table: Table, options: SplitOptions): AsyncIterable<Chunk>;
  /**
   * The chunk's rows. Before and after it compares the table's fingerprint (SOURCE_CHANGED). Throws SNAPSHOT_LOST when
   * the token is gone, FIELDS_CHANGED for a document the description does not cover. Iteration is the back-pressure; leaving the loop or the signal ends the server's work.
   */
  read(table: Table, chunk: Chunk, want: Read): AsyncIterable<Batch>;
  /** The formats this table's columns can be read in byte-for-byte for a target of the same system and version. */
  exactFormats(table: Table, columns: readonly string[], target: Target): readonly Format[];
  /**
   * How far the table is under the snapshot. Absent: this source has no incremental modes. Throws TYPE_REFUSED for a column whose type
   * has no order that reading could follow.
   */
  watermark?(table: Table, follow: Follow, options: WatermarkOptions): Promise<Watermark>;
  /** Pure: has everything ended that could commit below `earlier` when that was taken? Absent: nothing is known, and time tells. */
  ended?(earlier: Watermark, now: Watermark): boolean;
  /** Ranges of the whole table's keys, together without a gap, for chunks of kind `sweep`. `keys` of them come in one order on every system. */
  keyRanges?(table: Table, key: readonly string[], options: SplitOptions): AsyncIterable<KeyRange>;
  /**
   * All keys of the range, complete: it throws when the server said anything but a regular end, or when the table is not
   * the one described any more (SOURCE_CHANGED). `where` as in `read`.
   */
  keys?(table: Table, key: readonly string[], range: KeyRange, want: ReadKeys): AsyncIterable<KeyBatch>;
  /** A name; a target of the same name computes the same hash of the same keys. */
  readonly digestKind?: string;
  digest?(table: Table, key: readonly string[], range: KeyRange, want: ReadKeys): Promise<KeyDigest>;
}

export type WatermarkOptions = {
  readonly snapshot: SnapshotRef;
  /** Of the snapshot, when there is one. */
  readonly clock?: string;
  readonly pending?: string;
  /** Keys to be read again below the greatest; a source raises it to what its sequences hand out in advance. */
  readonly recheck: number;
  readonly signal: AbortSignal;
};

export type ReadKeys = {
  readonly snapshot: SnapshotRef;
  readonly where?: readonly Predicate[];
  readonly signal: AbortSignal;
};

export type SplitOptions = {
  /** Of an incremental read: chunks cover these rows at least; a few rows with an index on the column are one chunk. */
  readonly range?: Range;
  readonly size: ChunkSize;
  readonly snapshot: SnapshotRef;
  readonly after?: Chunk;
  readonly where?: readonly Predicate[];
  readonly signal: AbortSignal;
};

// ── Target ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How a target takes one source column. `refused` carries the reason for the plan's error. */
export type Fit =
  | {
      readonly fit: 'exact' | 'checked';
      readonly shape: Shape;
      /** The type as it arrives after shaping. */
      readonly type: LogicalType;
      /** The target's own spelling of the column type. */
      readonly native: string;
      /** Something a reader of the plan should know: "numeric without precision is written as text". */
      readonly note?: string;
    }
  | { readonly fit: 'refused'; readonly reason: string };

export type PlanColumn = {
  /** Column at the source; absent for a constant. */
  readonly from?: string;
  /** Column at the target. */
  readonly name: string;
  readonly shape: Shape;
  readonly type: LogicalType;
  readonly native: string;
  readonly nullable: boolean;
  readonly fit: 'exact' | 'checked';
  readonly misfit: Misfit;
  /** Text form of the same value in every row (`migration_snapshot_date`). */
  readonly constant?: string;
};

export type Partition = {
  readonly column: string;
  readonly format: 'datetime' | 'int' | 'str';
  /** Monthly partitions of these years, both inclusive, are made at once (PostgreSQL); absent: each when its first row comes. */
  readonly years?: readonly [number, number];
};

/**
 * The unit of work: one table going to one target (decision 2), everything a target must know. Plain JSON, frozen in
 * the run; the same for every attempt.
 */
export type Work = {
  readonly installation: string;
  readonly jobUid: string;
  /** Godwit's run id, unique in the installation. */
  readonly run: string;
  /** The target's name in the job. */
  readonly target: string;
  readonly mode: Mode;
  readonly source: Table;
  readonly name: TableName;
  readonly columns: readonly PlanColumn[];
  /** Target columns of the primary key; empty when there is none. */
  readonly key: readonly string[];
  /** Raised when the table starts again from nothing (decision 7); names the staging. */
  readonly generation: number;
  readonly existing: 'refuse' | 'adopt' | 'overwrite';
  readonly swap: 'rename' | 'delete-insert';
  /** Columns that changed at the source since the last run, in a table that stays (decision 16). */
  readonly onSchemaChange?: 'add' | 'refuse' | 'ignore';
  /** The one instant of a dumping run, and of what an incremental run writes into files (`godwit_updated_at`). */
  readonly snapshotDate?: string;
  /**
   * Of the incremental modes. Absent: a full load into a staging, swapped in as replace does. Present: rows go into the
   * table that is there, chunk by chunk. Not in the stored plan: it may hold key values (see activities/state.ts).
   */
  readonly increment?: Increment;
  /** What `publish` remembers with the data. Absent: what is remembered stays (a backfill). Not in the stored plan either. */
  readonly state?: TableState;
  readonly partition?: Partition;
  readonly lane: Lane;
  readonly readFormat: Format;
  readonly writeFormat: Format;
};

/** read = written + unchanged + filtered + quarantined. */
export type Counts = {
  readonly read: number;
  readonly written: number;
  readonly filtered: number;
  readonly quarantined: number;
  readonly bytes: number;
  /** Of an increment: rows that are there with the same values; nothing was written for them. */
  readonly unchanged?: number;
  /** Of the written ones: new rows, and rows that were there with other values. */
  readonly inserted?: number;
  readonly updated?: number;
  /** Rows taken away because they vanished at the source (sweep chunks). */
  readonly deleted?: number;
};

/** Makes a new table that is swapped in: replace, and the full load of an incremental mode. */
export const swapsIn = (work: Pick<Work, 'mode' | 'increment'>): boolean =>
  work.mode !== 'dumping' && work.increment === undefined;

/** What `claim` found and took. A claim outlived by a newer one writes nothing (FENCED). */
export type Claim = {
  readonly chunk: Chunk;
  readonly epoch: number;
  /** Set when an earlier attempt made the chunk durable: there is nothing left to do. */
  readonly done?: Counts;
};

/** A row that cannot be written: sealed by the caller before it is stored. */
export type BadRow = {
  /** Within the chunk, from 0. */
  readonly ordinal: number;
  readonly row: Row;
  readonly column?: string;
  /** The target's own code (SQLSTATE …). */
  readonly native?: string;
  readonly reason: string;
};

export type WriteOptions = {
  readonly signal: AbortSignal;
  /** Called before the commit that leaves these rows out; throws to refuse (threshold passed). Rows lane only. */
  readonly quarantine: (rows: readonly BadRow[]) => Promise<void>;
  /** Called now and then with totals so far, for progress. */
  readonly progress?: (so: { readonly rows: number; readonly bytes: number }) => void;
};

export type Checkpoint = {
  readonly chunk: Chunk;
  readonly epoch: number;
  readonly done: boolean;
  readonly counts: Counts;
};

export type Published = {
  /** Things that could not be carried and that a reader of the run must see (a missing foreign key, a NOT VALID one). */
  readonly notes: readonly string[];
  /** Notes that tables of this run got when they were published before, and that are not true any more. */
  readonly outdated?: readonly string[];
};

export interface Target extends AsyncDisposable {
  readonly system: SystemName;
  /** Formats `write` takes. */
  readonly formats: readonly Format[];
  /** Takes `framed` bytes of the pg formats. */
  readonly takesFrames?: boolean;
  /** Its tables hold documents: what comes from a source of documents keeps its form (`raw`) unless the mapping says otherwise. */
  readonly documents?: boolean;
  /** What `Work.partition` may be here. Absent: it is not partitioned. */
  readonly partitions?: readonly Partition['format'][];
  /**
   * Increments are new parts beside the old ones: each row carries when it came (`godwit_updated_at`), and who reads picks the
   * latest of each key.
   */
  readonly appends?: boolean;
  /** In bytes of UTF-8; the planner refuses longer names. */
  readonly nameLimit: number;
  readonly holds: Holds;
  /** `strict: false` means here what the manual says: json as text, instants as UTC without a zone (decision 21). */
  readonly lenient?: boolean;
  identity(): Promise<string>;
  check(): Promise<Check[]>;
  /**
   * Pure: how each column of a source table would be held here. Same order as `table.columns`. `format`: of a file target,
   * parquet when absent (CSV and NDJSON hold as exact text what Parquet must check).
   */
  fit(table: Table, format?: Format): readonly Fit[];
  /** The table of that name as it is now, or undefined. `owner` = job_uid when Godwit made it; `empty` when it has no row. */
  describe(name: TableName): Promise<ExistingTable | undefined>;
  /** Plan-time refusals that need the target's own state: ownership, other columns, what a swap cannot carry. */
  refusals(work: Work): Promise<readonly GodwitErrorLike[]>;
  /** What this work changes in a table that stays because the source's columns changed, in words for the plan. */
  drift?(work: Work): Promise<readonly string[]>;
  /** Idempotent: takes ownership, makes schema, user types and the staging of this generation. */
  prepare(work: Work): Promise<void>;
  /** Raises the chunk's epoch, ending an older attempt that still sits on it; says what is durable already. */
  claim(work: Work, chunk: Chunk): Promise<Claim>;
  /**
   * Data and checkpoint durable together, or neither. Never trusts an unknown COMMIT: reads the checkpoint instead.
   * Throws FENCED when the epoch has moved on, VALUE_REFUSED on data errors (the caller may go to the rows lane).
   */
  write(work: Work, claim: Claim, batches: AsyncIterable<Batch>, options: WriteOptions): Promise<Counts>;
  /** Idempotent: keys and indexes on the staging, statistics; the table is complete but not yet visible. */
  finish(work: Work): Promise<void>;
  /**
   * Idempotent: makes complete tables visible, those given together in one step (a foreign-key component). `missing` are
   * members of the component that failed: constraints to them are left out and reported. They are added when such a one
   * is published after all, by a retry of the run. Throws SERVER_BUSY in some seconds when somebody's lock is in the way.
   */
  publish(works: readonly Work[], missing: readonly TableName[]): Promise<Published>;
  /** Idempotent: a cancel leaves nothing of this work behind; what was published stays. */
  discard(work: Work): Promise<void>;
  checkpoints(work: Work): AsyncIterable<Checkpoint>;
  /** Why it cannot keep a table in that mode; undefined when it can. Absent: it has replace and dumping only. */
  refusesMode?(mode: Mode): string | undefined;
  /** What it remembers of the table of this job and name; undefined when there was no load, or the table is not that one any more. */
  state?(work: Work): Promise<TableState | undefined>;
  /** Remembers a state for a table whose rows another tool has brought. The table is taken over (`existing` is looked at). */
  remember?(work: Work, state: TableState): Promise<void>;
  /** The keys of the table people read (`work.name`, `work.key`), as `Source.keys`; read at one moment. */
  keys?(work: Work, range: KeyRange, signal: AbortSignal): AsyncIterable<KeyBatch>;
  readonly digestKind?: string;
  digest?(work: Work, range: KeyRange, signal: AbortSignal): Promise<KeyDigest>;
  /**
   * Deletes the rows of these keys, and makes the sweep chunk's checkpoint durable with it, or neither. Throws FENCED as
   * `write` does. Counts: `deleted`.
   */
  deleteKeys?(work: Work, claim: Claim, keys: AsyncIterable<KeyBatch>, signal: AbortSignal): Promise<Counts>;
  /**
   * Bytes that published tables take here, all they have included, where that is cheap to know: undefined elsewhere, and of a table that is
   * not there. For the history.
   */
  sizes?(names: readonly TableName[]): Promise<readonly (number | undefined)[]>;
  /** After a published increment: what may be put in order (small parts joined), bounded in time. In words for the run's notes. */
  tidy?(work: Work, signal: AbortSignal): Promise<readonly string[]>;
}

/** What a target's columns hold of the values that not all systems have. */
export type Holds = {
  /** 24:00:00 is a time of day. */
  readonly endOfDay: boolean;
  /** Other years than 1 to 9999: those of PostgreSQL's types and its infinities, or all that are finite. */
  readonly years?: 'postgres' | 'finite';
};

export type ExistingTable = {
  readonly name: TableName;
  readonly columns: readonly { readonly name: string; readonly native: string; readonly nullable: boolean }[];
  readonly owner?: string;
  readonly empty: boolean;
};

/** A refusal found at plan time; the planner throws or collects it as a GodwitError. */
export type GodwitErrorLike = { readonly code: string; readonly message: string };
