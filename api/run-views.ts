import { z } from '@hono/zod-openapi';
import type { Mode } from '../connectors/contract.ts';
import type { Event } from '../db/events.ts';
import type { RunTable } from '../db/run-tables.ts';
import type { RunSummary, RunTotals } from '../db/runs.ts';
import type { RunStatus, TableStatus } from '../db/schema.ts';
import * as s from './schemas.ts';

export const runStatuses = [
  'queued',
  'planning',
  'running',
  'waiting',
  'paused',
  'succeeded',
  'partial',
  'failed',
  'canceled',
  'skipped',
] as const satisfies RunStatus[];

export const tableStatuses = [
  'queued',
  'running',
  'waiting',
  'paused',
  'staged',
  'succeeded',
  'failed',
  'skipped',
  'cut off',
  'canceled',
] as const satisfies TableStatus[];

export const modes = ['replace', 'dumping', 'logging', 'syncing', 'mirroring'] as const satisfies Mode[];

const count = z.number().int();

export const totalsSchema = z
  .object({
    tables: count,
    succeeded: count,
    failed: count,
    open: count,
    rowsRead: count,
    rowsWritten: count,
    rowsFiltered: count,
    rowsQuarantined: count,
    rowsUnchanged: count,
    rowsInserted: count,
    rowsUpdated: count,
    rowsDeleted: count,
    rowsMoving: count.describe('In flight, beyond the durable ones'),
    bytes: count,
  })
  .openapi('RunTotals');

export const runSchema = z
  .object({
    id: z.uuid(),
    job: z.string(),
    number: count,
    scheduleKey: z.string(),
    documentVersion: count,
    status: z.enum(runStatuses),
    failure: s.failureSchema.nullable(),
    attempt: count,
    workflowId: z.string(),
    workflowRunId: z.string().nullable(),
    trigger: z.string(),
    actor: z.string().nullable(),
    snapshotDate: s.maybeInstant,
    request: z
      .object({
        tables: z.array(z.string()).optional(),
        full: z.boolean().optional(),
        backfill: z.boolean().optional().describe('Its ends are at `/bounds`'),
        cutOffAt: s.maybeInstant.optional(),
      })
      .nullable()
      .describe('What was asked of this run beside its document'),
    cutOffAt: s.maybeInstant,
    consistency: z.enum(['snapshot', 'chunk']).nullable(),
    notes: z.array(z.string()),
    createdAt: s.instant,
    startedAt: s.maybeInstant,
    endedAt: s.maybeInstant,
    totals: totalsSchema.optional(),
  })
  .openapi('Run');

export const runsPage = s.pageSchema(runSchema);

export const runView = (run: RunSummary, totals?: RunTotals) => ({
  id: run.id,
  job: run.job,
  number: run.number,
  scheduleKey: run.scheduleKey,
  documentVersion: run.documentVersion,
  status: run.status,
  failure: run.failure as z.infer<typeof s.failureSchema> | null,
  attempt: run.attempt,
  workflowId: run.workflowId,
  workflowRunId: run.workflowRunId,
  trigger: run.trigger,
  actor: run.actor,
  snapshotDate: s.iso(run.snapshotDate),
  request: run.request as z.infer<typeof runSchema>['request'],
  cutOffAt: s.iso(run.cutOffAt),
  consistency: run.consistency,
  notes: run.notes,
  createdAt: run.createdAt.toISOString(),
  startedAt: s.iso(run.startedAt),
  endedAt: s.iso(run.endedAt),
  ...(totals ? { totals } : {}),
});

export const tableSchema = z
  .object({
    ordinal: count,
    target: z.string(),
    sourceName: z.string(),
    targetName: z.string(),
    mode: z.string(),
    lane: z.string(),
    step: z.enum(['load', 'increment', 'backfill']).nullable().describe('Of an incremental mode'),
    why: z.string().nullable().describe('Why this lane'),
    component: count.describe('Tables of one component are published together'),
    consistency: z.enum(['snapshot', 'chunk']),
    status: z.string(),
    failure: s.failureSchema.nullable(),
    notes: z.array(z.string()),
    estimatedRows: count.describe('-1 when unknown'),
    estimatedBytes: count,
    splitDone: z.boolean().describe('All chunks are known'),
    chunksTotal: count,
    chunksDone: count,
    rowsRead: count,
    rowsWritten: count,
    rowsFiltered: count,
    rowsQuarantined: count,
    rowsUnchanged: count.describe(
      'Of an increment: there already with the same values. read = written + unchanged + filtered + quarantined',
    ),
    rowsInserted: count.describe('Of the written ones of an increment'),
    rowsUpdated: count.describe('Of the written ones of an increment'),
    rowsDeleted: count.describe('Mirroring: vanished at the source'),
    rowsMoving: count,
    bytes: count,
    storageBytes: count.nullable().describe('Of the table on its target after this run, where it is cheap to know'),
    retries: count.describe('Attempts at chunks beyond the first'),
    startedAt: s.maybeInstant,
    endedAt: s.maybeInstant,
    movingSince: s.maybeInstant,
    updatedAt: s.instant,
  })
  .openapi('RunTable');

export const tableView = ({ runId: _run, generation: _generation, ...table }: RunTable) => ({
  ...table,
  failure: table.failure as z.infer<typeof s.failureSchema> | null,
  startedAt: s.iso(table.startedAt),
  endedAt: s.iso(table.endedAt),
  movingSince: s.iso(table.movingSince),
  updatedAt: table.updatedAt.toISOString(),
});

export const eventSchema = z
  .object({
    id: count,
    ordinal: count.nullable().describe('The table; null = the run itself'),
    at: s.instant,
    level: z.enum(['info', 'warn', 'error']),
    kind: z.string(),
    message: z.string(),
    data: z.record(z.string(), z.unknown()).nullable(),
  })
  .openapi('Event');

export const eventView = ({ runId: _run, at, data, ...event }: Event) => ({
  ...event,
  at: at.toISOString(),
  data: data as Record<string, unknown> | null,
});
