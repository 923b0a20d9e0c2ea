import { ApplicationFailure } from '@temporalio/common';
import { and, asc, eq, gte, inArray, lte, sql } from 'drizzle-orm';
import type { Chunk, Counts, SnapshotRef } from '../connectors/contract.ts';
import { chunks, runTables } from '../db/schema.ts';
import { reach } from '../faults.ts';
import { stagingThere } from './adopt.ts';
import { chunkOf, ofGeneration, openChunks, storeChunks } from './chunks.ts';
import type { GenerationRef, GroupArgs, GroupResult, Unit } from './contract.ts';
import type { Deps } from './deps.ts';
import { ours } from './failures.ts';
import { moveChunk } from './move.ts';
import { patiently } from './patiently.ts';
import { piecesOf } from './pieces.ts';
import { isUnfit } from './replan.ts';
import { beginFresh, type Fresh, ledgerOf } from './small.ts';
import { declareLost, settleSnapshot, startAgain } from './snapshot-loss.ts';
import {
  isOpen,
  knownCode,
  loadRun,
  loadTable,
  markFailed,
  optionsOf,
  type RunRow,
  stillOpen,
  type TableRow,
  theTable,
  withTable,
} from './state.ts';
import { sizeOf, stage, stagingGone } from './tables.ts';

/** Tables of one group moved at once. Small ones wait for answers more than they work. */
const atOnce = 4;

/**
 * Small tables from prepare to staged, several at once, each with its own outcome. Permanent failures are told;
 * transient ones make the whole activity be tried again, for the tables that are not complete.
 */
export async function moveMany(deps: Deps, args: GroupArgs, signal: AbortSignal): Promise<GroupResult> {
  const rows = await deps.db
    .select()
    .from(runTables)
    .where(
      and(
        eq(runTables.runId, args.runId),
        gte(runTables.ordinal, args.from),
        lte(runTables.ordinal, args.to),
        stillOpen,
      ),
    )
    .orderBy(asc(runTables.ordinal));
  const todo = rows.filter((row) => args.from === args.to || optionsOf(row).chunks === 'one');
  const failed: number[] = [];
  const left: Unit[] = [];
  let transient: unknown;

  const first = await loadRun(deps.db, args);
  const fresh = first.status === 'paused' ? undefined : await beginFresh(deps, first, todo, signal);
  const ledger = ledgerOf(deps, args);
  const now = glimpses(deps, args, first);

  const one = async (row: TableRow): Promise<void> => {
    const ref = { ...args, ordinal: row.ordinal, generation: row.generation };
    const run = await now();
    const latest = await stageNow(deps, row);
    if (!latest || !isOpen(latest)) return;
    if (run.status === 'paused' || latest.status === 'paused') {
      left.push({ kind: 'group', from: row.ordinal, to: row.ordinal });
      return;
    }
    try {
      const begun = fresh?.tables.get(row.ordinal);
      await patiently(deps, run, row, signal, () =>
        begun && fresh
          ? moveFresh(deps, run, begun, { args, snapshot: fresh.snapshot, ledger, signal })
          : moveSmall(deps, run, ref, signal),
      );
    } catch (error) {
      signal.throwIfAborted();
      const stop = error instanceof ApplicationFailure ? error.nonRetryable === true : !ours(error).retryable;
      if (!stop) {
        transient ??= error;
        return;
      }
      const known = ours(error);
      const named = error instanceof ApplicationFailure ? knownFailure(error) : known;
      // Skipped or canceled meanwhile: its failing is no news.
      if (await markFailed(deps.db, ref, named)) failed.push(row.ordinal);
    }
  };
  const queue = [...todo];
  const lane = async () => {
    for (let row = queue.shift(); row; row = queue.shift()) {
      signal.throwIfAborted();
      await one(row);
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: Math.min(atOnce, todo.length) }, lane));
  await ledger.flush();
  await discardSkipped(deps, first, todo);
  for (const result of ended) if (result.status === 'rejected') throw result.reason;
  if (transient !== undefined) throw transient;
  reach('before-answer');
  return { failed: [...(await failedBefore(deps, args)), ...failed].filter((n, i, all) => all.indexOf(n) === i), left };
}

/** Those that failed in an earlier attempt of this activity: its answer never came. */
async function failedBefore(deps: Deps, { runId, from, to }: GroupArgs): Promise<number[]> {
  const rows = await deps.db
    .select({ ordinal: runTables.ordinal })
    .from(runTables)
    .where(
      and(
        eq(runTables.runId, runId),
        gte(runTables.ordinal, from),
        lte(runTables.ordinal, to),
        eq(runTables.status, 'failed'),
        sql`${runTables.work} IS NOT NULL`,
      ),
    );
  return rows.map((row) => row.ordinal);
}

const stageNow = async (deps: Deps, row: TableRow) => {
  const { status, failure } = runTables;
  const [now] = await deps.db.select({ status, failure }).from(runTables).where(theTable(row));
  return now;
};

/** Skipped while it moved: what was written after the skip's own clean-up goes too. */
async function discardSkipped(deps: Deps, run: RunRow, tried: readonly TableRow[]): Promise<void> {
  if (tried.length === 0) return;
  const ordinals = tried.map((row) => row.ordinal);
  const skipped = await deps.db
    .select()
    .from(runTables)
    .where(and(eq(runTables.runId, run.id), inArray(runTables.ordinal, ordinals), eq(runTables.status, 'skipped')));
  for (const row of skipped) await withTable(deps, run, row, ({ target, work }) => target.discard(work));
}

/** The run as it is, asked at most twice a second: a pause or a takeover is seen between tables. */
function glimpses(deps: Deps, args: GroupArgs, first: RunRow): () => Promise<RunRow> {
  let last = { at: Date.now(), run: Promise.resolve(first) };
  return () => {
    if (Date.now() - last.at > 500) last = { at: Date.now(), run: loadRun(deps.db, args) };
    return last.run;
  };
}

type FreshMove = {
  readonly args: GroupArgs;
  readonly snapshot: SnapshotRef;
  readonly ledger: ReturnType<typeof ledgerOf>;
  readonly signal: AbortSignal;
};

async function moveFresh(deps: Deps, run: RunRow, { row, chunks: pieces }: Fresh, how: FreshMove): Promise<void> {
  const { args, snapshot, ledger, signal } = how;
  const { ordinal, generation } = row;
  await withTable(deps, run, row, async (table) => {
    await table.target.prepare(table.work);
    const counted: { chunk: number; counts: Counts }[] = [];
    for (const chunk of pieces) {
      signal.throwIfAborted();
      const moving = { args: { ...args, ordinal, generation, chunk: chunk.id }, snapshot, signal, unrecorded: true };
      counted.push({ chunk: chunk.id, counts: await moveChunk(deps, table, chunk, moving) });
    }
    await table.target.finish(table.work);
    await ledger.staged({ ordinal, generation }, counted);
  });
}

async function moveSmall(deps: Deps, run: RunRow, given: GenerationRef, signal: AbortSignal): Promise<void> {
  let ref = given;
  await deps.db
    .update(runTables)
    .set({ status: 'running', startedAt: sql`coalesce(started_at, now())`, updatedAt: new Date() })
    .where(and(theTable(ref), eq(runTables.status, 'queued')));
  let row = await loadTable(deps.db, ref);
  if (!isOpen(row)) return;
  let snapshot = await settleSnapshot(deps, row);
  const there = snapshot === 'restart' || (await stagingThere(deps, run, row));
  if (snapshot === 'restart' || !there) {
    if (there && !isUnfit(row)) await declareLost(deps, row);
    await withTable(deps, run, row, ({ target, work }) => target.discard(work));
    row = await startAgain(deps, ref, signal, there ? undefined : stagingGone);
    ref = { ...ref, generation: row.generation };
    snapshot = await settleSnapshot(deps, row);
    if (snapshot === 'restart') throw new Error('A table without chunks cannot need a restart.');
  }
  const under = snapshot;
  await withTable(deps, run, await loadTable(deps.db, ref), async (table) => {
    await table.target.prepare(table.work);
    if (!table.row.splitDone) {
      const size = sizeOf(deps, table.row);
      const found: Chunk[] = [];
      for await (const chunk of piecesOf(table, { size, snapshot: under, signal })) found.push(chunk);
      await deps.db
        .delete(chunks)
        .where(
          and(
            ofGeneration(ref),
            sql`NOT EXISTS (SELECT 1 FROM ${runTables} t WHERE t.run_id = ${ref.runId} AND t.ordinal = ${ref.ordinal} AND t.split_done)`,
          ),
        );
      await storeChunks(deps, ref, { after: 0, found, done: true });
    }
    for (const chunk of await openChunks(deps, ref)) {
      signal.throwIfAborted();
      await moveChunk(deps, table, chunkOf(deps, chunk), {
        args: { ...ref, chunk: chunk.chunk },
        snapshot: under,
        signal,
      });
    }
    await table.target.finish(table.work);
  });
  await stage(deps, ref);
}

const knownFailure = (error: ApplicationFailure) => knownCode(error.type ?? 'INTERNAL', error.message);
