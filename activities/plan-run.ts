import { activityInfo, sleep } from '@temporalio/activity';
import { and, asc, eq, gte, inArray, sql } from 'drizzle-orm';
import type { Target } from '../connectors/contract.ts';
import { openBounds } from '../db/run-bounds.ts';
import { runs, runTables, type TableStatus } from '../db/schema.ts';
import { settingsOf } from '../db/settings.ts';
import { GodwitError } from '../errors.ts';
import type { TargetUse } from '../mapping/document.ts';
import { type Adopted, adoptable, adoptedRow, ownWork, passedByLater, storeAdopted, takenByLater } from './adopt.ts';
import type { RunRef, Unit, Units } from './contract.ts';
import type { Deps } from './deps.ts';
import { ours } from './failures.ts';
import { type Asked, isIncremental, type Moment } from './plan/increment.ts';
import { type PlanInput, type PlannedTable, planRun, toFailure } from './plan/index.ts';
import {
  borrowSource,
  borrowTarget,
  isComplete,
  loadRun,
  newestSnapshot,
  noChunks,
  note,
  optionsOf,
  type RunRow,
  refOf,
  type SnapshotRow,
  sealIncrement,
  stillOpen,
  type TableRow,
  withoutValues,
  workOf,
} from './state.ts';

/**
 * Decides every table of the run and stores it, once. A run that goes on (retry, takeover) keeps what was decided: what
 * succeeded is left alone, what failed in moving goes on, what failed in planning or met a changed source is planned anew; and
 * so is what a later run has brought further.
 */
export async function plan(deps: Deps, ref: RunRef, signal: AbortSignal): Promise<Units> {
  const run = await loadRun(deps.db, ref);
  const known = await deps.db
    .select()
    .from(runTables)
    .where(eq(runTables.runId, ref.runId))
    .orderBy(asc(runTables.ordinal));
  const snapshot = waitForSnapshot(deps, ref, signal);
  let mixed = false;
  if (known.length === 0) {
    // What increments read is what the snapshot shows; a plan of whole tables need not wait for it.
    if (run.doc.tables.some((entry) => isIncremental(entry.mode))) await snapshot;
    const [planned] = await Promise.all([decide(deps, run, signal), snapshot]);
    const adopted = await adoptable(deps, run, planned, (again) => decide(deps, run, signal, again));
    await store(deps, run, planned, adopted);
    mixed = adopted.size > 0;
  } else {
    await snapshot;
    await goOn(deps, run, known, signal);
  }
  const consistency = !mixed && (await newestSnapshot(deps.db, ref.runId))?.token ? 'snapshot' : 'chunk';
  await deps.db
    .update(runs)
    .set({
      status: sql`CASE WHEN status = 'planning' THEN 'running' ELSE status END`,
      consistency: sql`coalesce(consistency, ${consistency})`,
    })
    .where(and(eq(runs.id, ref.runId), eq(runs.epoch, ref.epoch)));
  return await units(deps, ref, 1);
}

async function waitForSnapshot(deps: Deps, { runId }: RunRef, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && !(await newestSnapshot(deps.db, runId))) await sleep(25);
  signal.throwIfAborted();
}

/** A target that does not answer is waited for about a minute; then its tables fail, and the others go on. */
const patientAttempts = 8;

export async function decide(
  deps: Deps,
  run: RunRow,
  signal: AbortSignal,
  again?: PlanInput['again'],
): Promise<PlannedTable[]> {
  const impatient = activityInfo().attempt >= patientAttempts;
  await using source = await borrowSource(deps, run);
  await using stack = new AsyncDisposableStack();
  const opened = await Promise.all(
    Object.entries(run.doc.targets)
      .filter(([alias]) => !again || alias === again.target)
      .map(async ([alias, use]): Promise<[string, { target: Target; use: TargetUse } | Error]> => {
        try {
          const target = stack.use(await borrowTarget(deps, run, alias));
          return [alias, { target: target.it, use }];
        } catch (error) {
          if (ours(error).retryable && !impatient) throw error;
          return [alias, ours(error)];
        }
      }),
  );
  const planned = await planRun({
    document: run.doc,
    source: source.it,
    defaultSchema: await deps.openers.defaultSchema(run.doc.source),
    targets: new Map(opened),
    installation: deps.installation,
    jobUid: run.jobUid,
    run: run.id,
    snapshotDate: (run.snapshotDate ?? new Date()).toISOString(),
    chunkBytes: deps.config.chunkBytes,
    impatient,
    timezone: run.doc.timezone ?? (await settingsOf(deps.db, deps.config)).timezone,
    moment: momentOf(await newestSnapshot(deps.db, run.id)),
    ...(run.request ? { asked: askedOf(deps, run) } : {}),
    ...(run.scheduleKey ? { schedule: run.scheduleKey } : {}),
    signal,
    ...(again ? { again } : {}),
  });
  // Told to end, what could not be asked any more stands there as a table's own failure.
  signal.throwIfAborted();
  return planned;
}

/** What this run was asked for; the ends of a backfill are sealed. */
const askedOf = (deps: Deps, { request, requestBounds }: RunRow): Asked => ({
  ...request,
  ...(requestBounds ? { bounds: openBounds(deps.sealer, requestBounds) } : {}),
});

const momentOf = (row: SnapshotRow | undefined): Moment => ({
  snapshot: refOf(row),
  ...(row?.clock ? { clock: row.clock } : {}),
  ...(row?.pending ? { pending: row.pending } : {}),
});

const rowOf = (deps: Deps, run: RunRow, one: PlannedTable) => ({
  runId: run.id,
  ordinal: one.ordinal,
  target: one.target,
  sourceName: one.sourceName,
  targetName: one.targetName,
  mode: one.mode,
  lane: one.lane,
  work: one.work ? withoutValues(one.work) : null,
  options: {
    why: one.why,
    chunks: one.chunks,
    batchSize: one.batchSize,
    ...(one.shape ? { shape: one.shape } : {}),
    ...(one.timeDelay > 0 ? { timeDelay: one.timeDelay } : {}),
    maxQuarantined: one.maxQuarantined,
    where: one.where,
    ...(one.step ? { step: one.step } : {}),
    ...(one.maxDeleted ? { maxDeleted: one.maxDeleted } : {}),
  },
  step: one.step ?? null,
  increment: one.work ? sealIncrement(deps, one.work) : null,
  component: one.component,
  // Without work and without failure there is no target: checked and planned is all that was asked.
  status: (one.failure ? 'failed' : one.work ? 'queued' : 'succeeded') as TableStatus,
  failure: one.failure ?? null,
  notes: [...one.notes],
  estimatedRows: Math.round(one.estimatedRows),
  estimatedBytes: Math.round(one.estimatedBytes),
  ...(one.failure || !one.work ? { endedAt: new Date() } : {}),
});

async function store(
  deps: Deps,
  run: RunRow,
  planned: readonly PlannedTable[],
  adopted: ReadonlyMap<number, Adopted>,
): Promise<void> {
  await deps.db.transaction(async (tx) => {
    for (let from = 0; from < planned.length; from += 500) {
      const rows = planned.slice(from, from + 500).map((one) => {
        const row = rowOf(deps, run, one);
        const old = adopted.get(one.ordinal);
        if (!old) return row;
        // One chunk or many: as it was begun.
        const options = { ...row.options, chunks: optionsOf(old.from).chunks };
        return { ...row, options, ...adoptedRow(old, one) };
      });
      await tx.insert(runTables).values(rows).onConflictDoNothing();
    }
    const refused = planned.filter((one) => one.failure);
    const message = `${planned.length} tables planned, ${refused.length} refused.`;
    await note(tx as typeof deps.db, { runId: run.id, kind: 'run.planned', message });
    for (const [ordinal, old] of adopted) await storeAdopted(tx as typeof deps.db, run, ordinal, old);
    for (const one of refused.slice(0, 1000)) {
      await note(tx as typeof deps.db, {
        runId: run.id,
        ordinal: one.ordinal,
        level: 'error',
        kind: 'table.refused',
        message: one.failure?.message ?? '',
        data: { code: one.failure?.code },
      });
    }
  });
}

/** Failures of moving that say nothing against the plan: the table goes on from its checkpoints. */
const movingCodes = new Set([
  'VALUE_REFUSED',
  'CONSTRAINT_BROKEN',
  'ROW_TOO_LARGE',
  'GAVE_UP',
  'CANCELED',
  'INTERNAL',
  'CONNECTION_FAILED',
  'SERVER_BUSY',
  'TARGET_FULL',
  'SNAPSHOT_LOST',
  'FENCED',
  'LOCAL_DISK_FULL',
  'RUN_FAILED',
]);

async function goOn(deps: Deps, run: RunRow, known: readonly TableRow[], signal: AbortSignal): Promise<void> {
  const { db } = deps;
  const mine = (ordinals: number[]) => and(eq(runTables.runId, run.id), inArray(runTables.ordinal, ordinals));
  const passed = await passedByLater(
    db,
    run,
    known.filter((row) => isIncremental(row.mode) && !['succeeded', 'skipped'].includes(row.status)),
  );
  const anew = known.filter(
    (row) =>
      passed.has(row.ordinal) || (row.status === 'failed' && (!row.work || !movingCodes.has(row.failure?.code ?? ''))),
  );
  const kept = known.filter(
    (row) =>
      !passed.has(row.ordinal) &&
      !isComplete(row) &&
      ((row.status === 'failed' && !anew.includes(row)) ||
        ['running', 'waiting', 'paused', 'cut off'].includes(row.status)),
  );
  const complete = known.filter((row) => row.status === 'waiting' && isComplete(row) && !passed.has(row.ordinal));
  const taken = await takenByLater(db, run, kept);
  const going = kept.filter((row) => !taken.has(row.ordinal));
  const emptyNow = known.filter(
    (row) => (row.status === 'canceled' && row.work && !passed.has(row.ordinal)) || taken.has(row.ordinal),
  );
  const fresh = { status: 'queued' as const, failure: null, endedAt: null, updatedAt: new Date() };
  const emptied = { ...noChunks, snapshot: null, consistency: 'snapshot' as const };
  if (going.length > 0)
    await db
      .update(runTables)
      .set(fresh)
      .where(mine(going.map((row) => row.ordinal)));
  // The time they waited for their publication begins anew.
  if (complete.length > 0)
    await db
      .update(runTables)
      .set({ ...fresh, status: 'staged' })
      .where(mine(complete.map((row) => row.ordinal)));
  // Their staging was discarded, or a later run went on in it: a new generation starts from nothing.
  if (emptyNow.length > 0) {
    await db
      .update(runTables)
      .set({ ...fresh, ...emptied, work: ownWork, generation: sql`${runTables.generation} + 1` })
      .where(mine(emptyNow.map((row) => row.ordinal)));
  }
  if (anew.length === 0) return;
  const planned = await decide(deps, run, signal);
  const most = Math.max(0, ...known.map((row) => row.component));
  for (const row of anew) {
    const found = planned.find((other) => other.target === row.target && other.sourceName === row.sourceName);
    if (!found) continue;
    const one = passed.has(row.ordinal) && !run.request?.full ? notLoadedAgain(found) : found;
    if (row.work) await discardOld(deps, run, row);
    const { ordinal: _ordinal, runId: _run, ...decided } = rowOf(deps, run, one);
    await db
      .update(runTables)
      .set({ ...fresh, ...emptied, ...decided, component: most + one.component, generation: row.generation + 1 })
      .where(mine([row.ordinal]));
  }
}

/** By this run's mapping, which is not the newest: it would take the place of what later runs have kept. */
function notLoadedAgain({ work, ...one }: PlannedTable): PlannedTable {
  if (!work || one.step !== 'load') return { ...one, ...(work ? { work } : {}) };
  const message = `${one.sourceName}: a later run has completed it in another way than this one would go on; start a new run.`;
  const where = { table: one.sourceName, target: one.target };
  return { ...one, failure: toFailure(new GodwitError('CONFLICT', message, where)) };
}

async function discardOld(deps: Deps, run: RunRow, row: TableRow): Promise<void> {
  if (!row.work) return;
  await using target = await borrowTarget(deps, run, row.target);
  await target.it.discard(workOf(deps, row));
}

const groupBytes = 64 * 1024 * 1024;

/** The next page of open tables from that ordinal on: big ones alone, small ones in groups. */
export async function units(deps: Deps, ref: RunRef, from: number): Promise<Units> {
  const { db, config } = deps;
  const page = 2000;
  const [counted] = await db
    .select({ tables: sql<number>`count(*)::int` })
    .from(runTables)
    .where(eq(runTables.runId, ref.runId));
  const open = await db
    .select()
    .from(runTables)
    .where(and(eq(runTables.runId, ref.runId), gte(runTables.ordinal, from), stillOpen))
    .orderBy(asc(runTables.ordinal))
    .limit(page);
  const found: Unit[] = [];
  const small = open.filter((row) => optionsOf(row).chunks === 'one').length;
  const perGroup = Math.min(100, Math.max(4, Math.ceil(small / (config.slots * 2))));
  let group: { from: number; to: number; tables: number; bytes: number } | undefined;
  const close = () => {
    if (group) found.push({ kind: 'group', from: group.from, to: group.to });
    group = undefined;
  };
  let next: number | undefined;
  for (const row of open) {
    if (found.length >= 100) {
      next = group?.from ?? row.ordinal;
      group = undefined;
      break;
    }
    if (optionsOf(row).chunks === 'many') {
      close();
      found.push({ kind: 'table', ordinal: row.ordinal, label: labelOf(row) });
      continue;
    }
    const bytes = Math.max(0, row.estimatedBytes);
    if (group && (group.tables >= perGroup || group.bytes + bytes > groupBytes)) close();
    group ??= { from: row.ordinal, to: row.ordinal, tables: 0, bytes: 0 };
    group.to = row.ordinal;
    group.tables++;
    group.bytes += bytes;
  }
  close();
  const last = open.at(-1);
  if (next === undefined && open.length === page && last) next = last.ordinal + 1;
  return { tables: counted?.tables ?? 0, units: found, ...(next === undefined ? {} : { next }) };
}

export const labelOf = (row: { readonly sourceName: string; readonly target: string }) =>
  `${row.sourceName}@${row.target}`;
