/**
 * Godwit's own PostgreSQL. Rows, key values and secrets are never here in the clear: `sealed` columns hold envelopes of
 * `secrets/seal.ts` (AES-256-GCM). Everything else is names, types, counts, states.
 */
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  customType,
  foreignKey,
  index,
  integer,
  jsonb,
  pgSchema,
  primaryKey,
  text,
  timestamp,
  unique,
  uuid,
} from 'drizzle-orm/pg-core';
import type { Check, Chunk, DocumentShape, Predicate, Published, TableSummary, Work } from '../connectors/contract.ts';
import type { ScheduleOptions } from '../mapping/schedule.ts';

export const godwit = pgSchema('godwit');

const sealed = customType<{ data: Buffer; driverData: Buffer }>({ dataType: () => 'bytea' });
const instant = (name: string) => timestamp(name, { withTimezone: true, precision: 3 });
const int8 = (name: string) => bigint(name, { mode: 'number' });
const id = () => uuid('id').primaryKey().default(sql`gen_random_uuid()`);
const times = () => ({
  createdAt: instant('created_at').notNull().defaultNow(),
  updatedAt: instant('updated_at').notNull().defaultNow(),
});

/** Plain settings of a connection, source or target; secret ones are in the sealed column beside it. */
export type Settings = Readonly<Record<string, unknown>>;

/** One row: this installation's id, stamped into every target's `_godwit` tables. */
export const installation = godwit.table('installation', {
  id: text('id').primaryKey(),
  createdAt: instant('created_at').notNull().defaultNow(),
});

export const connections = godwit.table('connections', {
  id: id(),
  name: text('name').notNull().unique(),
  /** A key of connectors/registry.ts by the mapping's words: pgsql, files, s3. */
  type: text('type').notNull(),
  settings: jsonb('settings').$type<Settings>().notNull(),
  /** Sealed JSON: setting → value or `env:`/`file:` reference. Write-only in the API. */
  secrets: sealed('secrets'),
  /** Names of the settings in `secrets`, so that a reader sees which are set. */
  secretNames: text('secret_names').array().notNull().default(sql`'{}'`),
  ...times(),
});

/** Columns anew for each table: builders remember the table that took them. */
const endpoint = () => ({
  id: id(),
  name: text('name').notNull().unique(),
  type: text('type').notNull(),
  connectionId: uuid('connection_id').references(() => connections.id),
  settings: jsonb('settings').$type<Settings>().notNull(),
  secrets: sealed('secrets'),
  secretNames: text('secret_names').array().notNull().default(sql`'{}'`),
  ...times(),
});

export const sources = godwit.table('sources', {
  ...endpoint(),
  /** Set for one written inside a mapping: deleted with its job. */
  ownerJob: uuid('owner_job').references(() => jobs.id, { onDelete: 'cascade' }),
});
export const targets = godwit.table('targets', {
  ...endpoint(),
  ownerJob: uuid('owner_job').references(() => jobs.id, { onDelete: 'cascade' }),
});

export const jobs = godwit.table('jobs', {
  id: id(),
  /** Survives renames; stamped into targets. */
  uid: uuid('uid').notNull().unique().default(sql`gen_random_uuid()`),
  name: text('name').notNull().unique(),
  version: integer('version').notNull().default(1),
  /** Number of the latest run: `run/<job>/<n>`. */
  lastRun: integer('last_run').notNull().default(0),
  ...times(),
});

/** Every version of a job's document: the normalised mapping with sources and targets by name. No secret in it. */
export const jobDocuments = godwit.table(
  'job_documents',
  {
    jobId: uuid('job_id')
      .notNull()
      .references(() => jobs.id, { onDelete: 'cascade' }),
    version: integer('version').notNull(),
    document: jsonb('document').notNull(),
    createdAt: instant('created_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.jobId, t.version] })],
);

/** Which sources and targets a job uses (by name in its document), for "in use by". */
export const jobUses = godwit.table(
  'job_uses',
  {
    jobId: uuid('job_id')
      .notNull()
      .references(() => jobs.id, { onDelete: 'cascade' }),
    sourceId: uuid('source_id').references(() => sources.id),
    targetId: uuid('target_id').references(() => targets.id),
    /** The target's name inside the job. */
    alias: text('alias'),
  },
  (t) => [
    index('job_uses_job').on(t.jobId),
    index('job_uses_source').on(t.sourceId),
    index('job_uses_target').on(t.targetId),
  ],
);

/** One run per (job, schedule key) at a time (decision 6). Deleted when the run ends. */
export const leases = godwit.table(
  'leases',
  {
    jobId: uuid('job_id')
      .notNull()
      .references(() => jobs.id, { onDelete: 'cascade' }),
    scheduleKey: text('schedule_key').notNull().default(''),
    runId: uuid('run_id').notNull(),
    workflowId: text('workflow_id').notNull(),
    firstExecutionRunId: text('first_execution_run_id').notNull(),
    installation: text('installation').notNull(),
    takenAt: instant('taken_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.jobId, t.scheduleKey] })],
);

export type RunStatus =
  | 'queued'
  | 'planning'
  | 'running'
  | 'waiting'
  | 'paused'
  | 'succeeded'
  | 'partial'
  | 'failed'
  | 'canceled'
  | 'skipped';
export type TableStatus =
  | 'queued'
  | 'running'
  | 'waiting'
  | 'paused'
  /** Complete in staging, to be published with its foreign-key component. */
  | 'staged'
  | 'succeeded'
  | 'failed'
  | 'skipped'
  | 'cut off'
  | 'canceled';

/** A stored failure: code, sentence, where. Never a value. */
export type Failure = {
  readonly code: string;
  readonly message: string;
  readonly fix?: string;
  readonly where?: Readonly<Record<string, string | number>>;
  readonly at: string;
  readonly attempt?: number;
  /** Of a table that waits: it is complete, only its publication is left. */
  readonly publishing?: true;
};

/** What a run does other than its document says. */
export type RunRequest = {
  /** Only these: names as in the document, or of a table that one of its patterns matches. */
  readonly tables?: readonly string[];
  /** Incremental tables are loaded anew, and swapped in. */
  readonly full?: boolean;
  /** Reads what `RunBounds` says, and leaves the state as it is. */
  readonly backfill?: boolean;
  /** Instead of the job's: ISO instant, or null for none. */
  readonly cutOffAt?: string | null;
};
/** Of the bookmark, else of the key: canonical texts, both inclusive; or a predicate as `where` has it. */
export type RunBounds = { readonly from?: string; readonly upto?: string; readonly where?: readonly Predicate[] };

export const runs = godwit.table(
  'runs',
  {
    id: id(),
    jobId: uuid('job_id')
      .notNull()
      .references(() => jobs.id, { onDelete: 'cascade' }),
    number: integer('number').notNull(),
    scheduleKey: text('schedule_key').notNull().default(''),
    documentVersion: integer('document_version').notNull(),
    /** The frozen copy this run works on. */
    document: jsonb('document').notNull(),
    status: text('status').$type<RunStatus>().notNull().default('queued'),
    /** Why it waits, was skipped or failed. */
    failure: jsonb('failure').$type<Failure>(),
    /** Raised by `retry` of a closed run. */
    attempt: integer('attempt').notNull().default(1),
    /** Raised by a takeover of the lease; activities of an older one write nothing here. */
    epoch: integer('epoch').notNull().default(1),
    workflowId: text('workflow_id').notNull(),
    workflowRunId: text('workflow_run_id'),
    /** What was asked of this run beside the document: which tables, a full load, a backfill. */
    request: jsonb('request').$type<RunRequest>(),
    /** Sealed JSON of `RunBounds`: a backfill's ends are key values. */
    requestBounds: sealed('request_bounds'),
    /** What still runs then is cut off; null when nothing is. */
    cutOffAt: instant('cut_off_at'),
    trigger: text('trigger').notNull().default('api'),
    actor: text('actor'),
    idempotencyKey: text('idempotency_key'),
    /** One instant for the whole run (dumping). */
    snapshotDate: instant('snapshot_date'),
    consistency: text('consistency').$type<'snapshot' | 'chunk'>(),
    notes: jsonb('notes').$type<string[]>().notNull().default([]),
    createdAt: instant('created_at').notNull().defaultNow(),
    startedAt: instant('started_at'),
    endedAt: instant('ended_at'),
  },
  (t) => [
    unique('runs_job_number').on(t.jobId, t.number),
    unique('runs_idempotency').on(t.jobId, t.idempotencyKey),
    index('runs_created').on(t.createdAt.desc(), t.id),
    index('runs_job_created').on(t.jobId, t.createdAt.desc()),
    index('runs_status').on(t.status, t.createdAt.desc()),
    index('runs_workflow').on(t.workflowId),
  ],
);

/** The snapshot a run's keeper holds. The token is not a secret, but useless once lost. */
export const snapshots = godwit.table(
  'snapshots',
  {
    runId: uuid('run_id')
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    /** Raised when a new keeper opens a new one. */
    generation: integer('generation').notNull(),
    token: text('token').notNull(),
    position: text('position').notNull(),
    takenAt: instant('taken_at').notNull(),
    /** The source's clock to the microsecond, and `Snapshot.pending`. */
    clock: text('clock'),
    pending: text('pending'),
    lostAt: instant('lost_at'),
  },
  (t) => [primaryKey({ columns: [t.runId, t.generation] })],
);

export type TableOptions = {
  readonly why: string;
  readonly chunks: 'one' | 'many';
  readonly batchSize: number;
  /** The form of its documents. */
  readonly shape?: DocumentShape;
  /** Seconds to wait after each batch. */
  readonly timeDelay?: number;
  /** The generation that met a document which does not fit its description: the table is described again before it goes on. */
  readonly unfit?: number;
  /** How often it was. */
  readonly describedAgain?: number;
  readonly maxQuarantined: number;
  readonly where: readonly Predicate[];
  /** Of an incremental mode. */
  readonly step?: 'load' | 'increment' | 'backfill';
  /** Mirroring: no more rows, or no greater share of the target's, are deleted by one run. */
  readonly maxDeleted?: { readonly rows: number } | { readonly share: number };
};

/** The unit of work: (table, target) of a run. `ordinal` from 1 in the order of the plan. */
export const runTables = godwit.table(
  'run_tables',
  {
    runId: uuid('run_id')
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    ordinal: integer('ordinal').notNull(),
    target: text('target').notNull(),
    /** `schema.table` at the source and at the target, for people. */
    sourceName: text('source_name').notNull(),
    targetName: text('target_name').notNull(),
    mode: text('mode').notNull(),
    lane: text('lane').notNull(),
    /** The frozen plan of this table; its `generation` is the column below. */
    work: jsonb('work').$type<Work>(),
    /** The rest of the plan: how this table is read and chunked, and why it takes this lane. */
    options: jsonb('options').$type<TableOptions>(),
    /** Sealed JSON of `Work.increment` and `Work.state`. */
    increment: sealed('increment'),
    /** Of an incremental mode: `load` or `increment`; else null. */
    step: text('step').$type<'load' | 'increment' | 'backfill'>(),
    generation: integer('generation').notNull().default(1),
    /** Members of one foreign-key component on one target are published together. */
    component: integer('component').notNull(),
    consistency: text('consistency').$type<'snapshot' | 'chunk'>().notNull().default('snapshot'),
    /** Generation of the snapshot this table's chunks are read under; null until it begins. */
    snapshot: integer('snapshot'),
    status: text('status').$type<TableStatus>().notNull().default('queued'),
    failure: jsonb('failure').$type<Failure>(),
    notes: jsonb('notes').$type<string[]>().notNull().default([]),
    estimatedRows: int8('estimated_rows').notNull().default(-1),
    estimatedBytes: int8('estimated_bytes').notNull().default(-1),
    /** All chunks are known. */
    splitDone: boolean('split_done').notNull().default(false),
    chunksTotal: integer('chunks_total').notNull().default(0),
    chunksDone: integer('chunks_done').notNull().default(0),
    /** Totals of the durable chunks. */
    rowsRead: int8('rows_read').notNull().default(0),
    rowsWritten: int8('rows_written').notNull().default(0),
    rowsFiltered: int8('rows_filtered').notNull().default(0),
    rowsQuarantined: int8('rows_quarantined').notNull().default(0),
    rowsUnchanged: int8('rows_unchanged').notNull().default(0),
    rowsInserted: int8('rows_inserted').notNull().default(0),
    rowsUpdated: int8('rows_updated').notNull().default(0),
    rowsDeleted: int8('rows_deleted').notNull().default(0),
    bytes: int8('bytes').notNull().default(0),
    /** What the table takes on its target after this run, where that is cheap to know. */
    storageBytes: int8('storage_bytes'),
    /** Rows and bytes in flight beyond the durable ones: for the live line only. */
    rowsMoving: int8('rows_moving').notNull().default(0),
    startedAt: instant('started_at'),
    endedAt: instant('ended_at'),
    /** When chunks began and ended moving, for rows/s. */
    movingSince: instant('moving_since'),
    updatedAt: instant('updated_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.runId, t.ordinal] }), index('run_tables_updated').on(t.updatedAt)],
);

export type ChunkStatus = 'queued' | 'moving' | 'done';

/** A cache of the target's own checkpoints, plus the sealed bounds. */
export const chunks = godwit.table(
  'chunks',
  {
    runId: uuid('run_id').notNull(),
    ordinal: integer('ordinal').notNull(),
    generation: integer('generation').notNull(),
    chunk: integer('chunk').notNull(),
    kind: text('kind').$type<Chunk['kind']>().notNull(),
    /** Sealed JSON of Chunk.bounds: it holds key values. */
    bounds: sealed('bounds').notNull(),
    estimatedRows: int8('estimated_rows').notNull(),
    status: text('status').$type<ChunkStatus>().notNull().default('queued'),
    lane: text('lane'),
    rowsRead: int8('rows_read').notNull().default(0),
    rowsWritten: int8('rows_written').notNull().default(0),
    rowsFiltered: int8('rows_filtered').notNull().default(0),
    rowsQuarantined: int8('rows_quarantined').notNull().default(0),
    rowsUnchanged: int8('rows_unchanged').notNull().default(0),
    rowsInserted: int8('rows_inserted').notNull().default(0),
    rowsUpdated: int8('rows_updated').notNull().default(0),
    rowsDeleted: int8('rows_deleted').notNull().default(0),
    bytes: int8('bytes').notNull().default(0),
    rowsMoving: int8('rows_moving').notNull().default(0),
    attempts: integer('attempts').notNull().default(0),
    startedAt: instant('started_at'),
    endedAt: instant('ended_at'),
  },
  (t) => [
    primaryKey({ columns: [t.runId, t.ordinal, t.generation, t.chunk] }),
    foreignKey({ columns: [t.runId, t.ordinal], foreignColumns: [runTables.runId, runTables.ordinal] }).onDelete(
      'cascade',
    ),
  ],
);

/** What happened, in order; `godwit logs`, the API's events and /ws read it. */
export const events = godwit.table(
  'events',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    runId: uuid('run_id')
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    ordinal: integer('ordinal'),
    at: instant('at').notNull().defaultNow(),
    level: text('level').$type<'info' | 'warn' | 'error'>().notNull().default('info'),
    /** Stable kind: run.started, table.planned, chunk.retried, snapshot.lost … */
    kind: text('kind').notNull(),
    message: text('message').notNull(),
    data: jsonb('data').$type<Readonly<Record<string, unknown>>>(),
  },
  (t) => [index('events_run').on(t.runId, t.id)],
);

/** Rows set aside. `row` and the value's reason text are sealed; the rest is ordinal, column and code. */
export const quarantine = godwit.table(
  'quarantine',
  {
    runId: uuid('run_id').notNull(),
    ordinal: integer('ordinal').notNull(),
    generation: integer('generation').notNull(),
    chunk: integer('chunk').notNull(),
    row: int8('row').notNull(),
    column: text('column'),
    code: text('code').notNull(),
    native: text('native'),
    content: sealed('content').notNull(),
    /** Of `bad_rows`, and its digest then; null in rows of before there were such. */
    identity: text('identity'),
    digest: text('digest'),
    at: instant('at').notNull().defaultNow(),
    /** What became of it: open, written after all, or given up by somebody. */
    state: text('state').$type<'open' | 'replayed' | 'waived'>().notNull().default('open'),
    actor: text('actor'),
    note: text('note'),
    settledAt: instant('settled_at'),
  },
  (t) => [
    primaryKey({ columns: [t.runId, t.ordinal, t.generation, t.chunk, t.row] }),
    foreignKey({ columns: [t.runId, t.ordinal], foreignColumns: [runTables.runId, runTables.ordinal] }).onDelete(
      'cascade',
    ),
    index('quarantine_identity').on(t.identity),
  ],
);

/** What is known across runs of a row that was set aside: marks (secrets/seal.ts) in place of values. */
export const badRows = godwit.table(
  'bad_rows',
  {
    /** Of the table, the target and the row's key; without a key, of its values and the reason. */
    identity: text('identity').primaryKey(),
    jobId: uuid('job_id')
      .notNull()
      .references(() => jobs.id, { onDelete: 'cascade' }),
    /** Of its values when it was last set aside. Other values are another bad row. */
    digest: text('digest').notNull(),
    firstAt: instant('first_at').notNull().defaultNow(),
    lastAt: instant('last_at').notNull().defaultNow(),
    runs: integer('runs').notNull().default(1),
    /** The last of them; it may be forgotten by now. */
    runId: uuid('run_id').notNull(),
    state: text('state').$type<'open' | 'replayed' | 'waived'>().notNull().default('open'),
    actor: text('actor'),
    note: text('note'),
    settledAt: instant('settled_at'),
  },
  (t) => [index('bad_rows_job').on(t.jobId)],
);

/** Answers of probes (test, browse, describe, plan) that activities write and the API reads by id; old ones are swept. */
export type ProbeAnswer =
  | { readonly kind: 'checks'; readonly checks: readonly Check[] }
  | { readonly kind: 'tables'; readonly tables: readonly TableSummary[] }
  | { readonly kind: 'columns'; readonly table: unknown }
  | { readonly kind: 'plan'; readonly plan: unknown }
  /** Rows: written, there already, refused again. */
  | { readonly kind: 'replay'; readonly replayed: number; readonly present: number; readonly open: number }
  | { readonly kind: 'remember'; readonly tables: readonly TakenOver[] }
  | { readonly kind: 'failure'; readonly failure: Failure };
export type TakenOver = {
  readonly table: string;
  readonly target: string;
  readonly targetName: string;
  /** Absent: the next run goes on from there. */
  readonly failure?: Failure;
};
export const probes = godwit.table('probes', {
  id: uuid('id').primaryKey(),
  request: jsonb('request').notNull(),
  answer: jsonb('answer').$type<ProbeAnswer>(),
  createdAt: instant('created_at').notNull().defaultNow(),
});

/** What the user wrote about when a job runs: the truth. A reconciler keeps Temporal's Schedule `temporalId` equal. */
export const schedules = godwit.table(
  'schedules',
  {
    jobId: uuid('job_id')
      .notNull()
      .references(() => jobs.id, { onDelete: 'cascade' }),
    /** Of the tables with one `cron` (decision 1); lease and run have the same. */
    key: text('key').notNull(),
    kind: text('kind').$type<'cron' | 'interval'>().notNull(),
    /** As it was written. */
    expression: text('expression').notNull(),
    timezone: text('timezone').notNull(),
    options: jsonb('options').$type<ScheduleOptions>().notNull(),
    temporalId: text('temporal_id').notNull().unique(),
    /** Dated calendars (week numbers, `last`, `3rd mon`) reach to here and are extended. */
    until: instant('until'),
    paused: boolean('paused').notNull().default(false),
    /** Why, and who said so; also when it was said to Temporal itself. */
    note: text('note'),
    actor: text('actor'),
    /** A hash of what Temporal was told; another one than wanted: to be told again. */
    applied: text('applied'),
    appliedAt: instant('applied_at'),
    failure: jsonb('failure').$type<Failure>(),
    /** Next times as Temporal says, ISO. */
    next: jsonb('next').$type<readonly string[]>().notNull().default([]),
    ...times(),
  },
  (t) => [primaryKey({ columns: [t.jobId, t.key] })],
);

/** Settings of the installation that the API sets; the environment and the settings file come first. One row per name. */
export const settings = godwit.table('settings', {
  name: text('name').primaryKey(),
  value: jsonb('value').notNull(),
  /** Sealed JSON: tokens and passwords of this setting. Write-only in the API. */
  secrets: sealed('secrets'),
  secretNames: text('secret_names').array().notNull().default(sql`'{}'`),
  actor: text('actor'),
  updatedAt: instant('updated_at').notNull().defaultNow(),
});

/** What is to be told to people: written in the transaction that ends the run, sent and tried again by workers. */
export const notifications = godwit.table(
  'notifications',
  {
    id: id(),
    runId: uuid('run_id')
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    event: text('event').notNull(),
    /** Which of the configured channels: its name in the settings. */
    channel: text('channel').notNull(),
    status: text('status').$type<'queued' | 'sent' | 'failed'>().notNull().default('queued'),
    attempts: integer('attempts').notNull().default(0),
    nextAt: instant('next_at').notNull().defaultNow(),
    failure: jsonb('failure').$type<Failure>(),
    sentAt: instant('sent_at'),
    createdAt: instant('created_at').notNull().defaultNow(),
  },
  (t) => [
    unique('notifications_once').on(t.runId, t.event, t.channel),
    index('notifications_due').on(t.status, t.nextAt),
  ],
);

/** Who did what to which object. */
export const audit = godwit.table('audit', {
  id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
  at: instant('at').notNull().defaultNow(),
  actor: text('actor').notNull(),
  action: text('action').notNull(),
  object: text('object').notNull(),
  data: jsonb('data').$type<Readonly<Record<string, unknown>>>(),
});

export type PublishedNotes = Published['notes'];
