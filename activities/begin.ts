import { and, desc, eq, inArray, sql } from 'drizzle-orm';
import { jobDocuments, jobs, leases, runs } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import type { JobDocument } from '../mapping/document.ts';
import type { BeginArgs, Begun } from './contract.ts';
import { cutOffOf } from './cut-off.ts';
import type { Deps } from './deps.ts';
import { storedFailure } from './failures.ts';
import { heldUp } from './held-up.ts';
import { note } from './state.ts';
import { tellEnd } from './tell.ts';
import { searchAttributes, workflowState } from './workflow-state.ts';

type Run = typeof runs.$inferSelect;
type Lease = typeof leases.$inferSelect;

/**
 * Takes the job's lease for this workflow (decision 6). Cases: 1 it is ours (this activity was tried before); 2 nobody
 * has it; 3 its workflow runs: skipped; 4 its workflow is closed or gone: taken over, and if it was this very run's, its
 * epoch is raised, so that what still runs of it writes nothing here.
 */
export async function begin(deps: Deps, args: BeginArgs): Promise<Begun> {
  const { db } = deps;
  const run = await ownRun(deps, args);
  const [job] = await db.select().from(jobs).where(eq(jobs.id, args.jobId));
  if (!job) throw new GodwitError('NOT_FOUND', `There is no job ${args.jobId}.`);
  const label = `${job.name} ${run.number}`;
  const mine = (lease: Lease) =>
    lease.workflowId === args.workflowId && lease.firstExecutionRunId === args.firstExecutionRunId;

  const why = await heldUp(deps, run);
  if (why) {
    await skip(deps, run, why);
    return { runId: run.id, epoch: run.epoch, verdict: 'skipped', label };
  }
  // A takeover keeps the deadline; a retry has the next one.
  const cutOffAt = run.status === 'queued' ? await cutOffOf(deps, run) : run.cutOffAt;

  for (;;) {
    const held = (await db.select().from(leases).where(eq(leases.jobId, args.jobId))).filter((lease) =>
      rivals(lease, run),
    );
    const own = held.find(mine);
    if (own) return { ...(await go(deps, run.id)), label, ...(await searchable(deps, job.name, run)) };
    for (const lease of held) {
      const state = await workflowState(deps.client, lease, args);
      if (state === 'running') {
        // A second workflow for a run that already moves: nothing to write, it is fine.
        if (lease.runId !== run.id) await skip(deps, run, busy(lease));
        return { runId: run.id, epoch: run.epoch, verdict: 'skipped', label };
      }
    }
    const taken = await db.transaction(async (tx) => {
      await tx.execute(sql`SELECT 1 FROM ${jobs} WHERE id = ${args.jobId} FOR UPDATE`);
      const now = (await tx.select().from(leases).where(eq(leases.jobId, args.jobId))).filter((one) =>
        rivals(one, run),
      );
      const same = (a: Lease, b: Lease) => a.firstExecutionRunId === b.firstExecutionRunId && a.runId === b.runId;
      if (now.some((lease) => !held.some((seen) => same(seen, lease)))) return false;
      for (const lease of now) {
        await tx.delete(leases).where(and(eq(leases.jobId, lease.jobId), eq(leases.scheduleKey, lease.scheduleKey)));
        if (lease.runId !== run.id) await abandon(tx as typeof db, deps, lease.runId, label);
      }
      await tx.insert(leases).values({
        jobId: args.jobId,
        scheduleKey: run.scheduleKey,
        runId: run.id,
        workflowId: args.workflowId,
        firstExecutionRunId: args.firstExecutionRunId,
        installation: deps.installation,
      });
      const again = run.startedAt !== null;
      await tx
        .update(runs)
        .set({
          status: 'planning',
          failure: null,
          epoch: again ? sql`${runs.epoch} + 1` : runs.epoch,
          workflowId: args.workflowId,
          workflowRunId: args.firstExecutionRunId,
          startedAt: sql`coalesce(${runs.startedAt}, now())`,
          cutOffAt,
          snapshotDate: sql`coalesce(${runs.snapshotDate}, now())`,
          endedAt: null,
        })
        .where(eq(runs.id, run.id));
      const message = again ? `Run ${label} goes on from its checkpoints.` : `Run ${label} begins.`;
      await note(tx as typeof db, { runId: run.id, kind: again ? 'run.resumed' : 'run.started', message });
      return true;
    });
    if (taken) return { ...(await go(deps, run.id)), label, ...(await searchable(deps, job.name, run)) };
  }
}

/** Schedules of one job exclude each other only when they share a key; a run of the whole job excludes all. */
const rivals = (lease: Lease, run: Run) =>
  lease.scheduleKey === run.scheduleKey || lease.scheduleKey === '' || run.scheduleKey === '';

async function go(deps: Deps, runId: string) {
  const [row] = await deps.db
    .select({ epoch: runs.epoch, cutOffAt: runs.cutOffAt })
    .from(runs)
    .where(eq(runs.id, runId));
  const cutOffAt = row?.cutOffAt ? { cutOffAt: row.cutOffAt.getTime() } : {};
  return { runId, epoch: row?.epoch ?? 1, verdict: 'go' as const, ...cutOffAt };
}

/** The run's row: the one named, or the one this workflow made before, or a new one with the latest document. */
async function ownRun(deps: Deps, args: BeginArgs): Promise<Run> {
  const { db } = deps;
  if (args.runId) {
    const [run] = await db.select().from(runs).where(eq(runs.id, args.runId));
    if (!run) throw new GodwitError('NOT_FOUND', `There is no run ${args.runId}.`);
    return run;
  }
  return await db.transaction(async (tx) => {
    const [found] = await tx
      .select()
      .from(runs)
      .where(and(eq(runs.workflowId, args.workflowId), eq(runs.workflowRunId, args.firstExecutionRunId)));
    if (found) return found;
    const [job] = await tx
      .update(jobs)
      .set({ lastRun: sql`${jobs.lastRun} + 1` })
      .where(eq(jobs.id, args.jobId))
      .returning();
    const [document] = await tx
      .select()
      .from(jobDocuments)
      .where(eq(jobDocuments.jobId, args.jobId))
      .orderBy(desc(jobDocuments.version))
      .limit(1);
    if (!job || !document) throw new GodwitError('NOT_FOUND', `There is no job ${args.jobId}.`);
    const [run] = await tx
      .insert(runs)
      .values({
        jobId: args.jobId,
        number: job.lastRun,
        scheduleKey: args.scheduleKey,
        documentVersion: document.version,
        document: document.document,
        workflowId: args.workflowId,
        workflowRunId: args.firstExecutionRunId,
        trigger: 'schedule',
      })
      .returning();
    return run as Run;
  });
}

const busy = ({ runId }: Lease) => new GodwitError('ALREADY_RUNNING', 'The job was running already.', { run: runId });

async function skip(deps: Deps, run: Run, error: GodwitError): Promise<void> {
  await deps.db.transaction(async (tx) => {
    const skipped = await tx
      .update(runs)
      .set({ status: 'skipped', failure: storedFailure(error), endedAt: new Date() })
      .where(and(eq(runs.id, run.id), inArray(runs.status, ['queued', 'planning'])))
      .returning({ id: runs.id });
    if (skipped.length > 0) await tellEnd(tx as typeof deps.db, deps, { ...run, status: 'skipped' });
  });
  await note(deps.db, { runId: run.id, level: 'warn', kind: 'run.skipped', message: error.message });
}

/** Another run's workflow is gone and its job is wanted: that run ends here; `retry` continues it. */
async function abandon(db: Deps['db'], deps: Deps, runId: string, by: string): Promise<void> {
  const error = new GodwitError('RUN_FAILED', `Its workflow is gone; ${by} took over the job.`);
  const ended = await db
    .update(runs)
    .set({ status: 'failed', failure: storedFailure(error), endedAt: new Date() })
    .where(and(eq(runs.id, runId), inArray(runs.status, ['queued', 'planning', 'running', 'waiting', 'paused'])))
    .returning();
  const [run] = ended;
  if (!run) return;
  await tellEnd(db, deps, { ...run, status: 'failed' });
  await note(db, { runId, level: 'error', kind: 'run.failed', message: error.message });
}

/** Only where the server has the attributes: an unknown one would stop the workflow (decision 26). */
async function searchable(deps: Deps, job: string, run: Run): Promise<Pick<Begun, 'attributes'>> {
  if (!(await searchAttributes(deps.client))) return {};
  const document = run.document as JobDocument;
  const modes = [...new Set(document.tables.map((entry) => entry.mode))];
  return { attributes: { job, run: run.id, modes } };
}
