import { and, eq, isNull, sql } from 'drizzle-orm';
import { runs, snapshots } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import type { RunRef } from './contract.ts';
import type { Deps } from './deps.ts';
import { borrowSource, loadRun, note } from './state.ts';

const lookEveryMs = 1000;
const ended = ['succeeded', 'partial', 'failed', 'canceled', 'skipped'];

/**
 * Opens a snapshot and keeps it until the run ends, is taken over, or this is canceled. Each attempt is a new generation
 * and declares the earlier ones lost: their keeper is gone, or about to be.
 */
export async function hold(deps: Deps, ref: RunRef, signal: AbortSignal): Promise<void> {
  const { db, keepers } = deps;
  const run = await loadRun(db, ref);
  if (ended.includes(run.status)) return;
  await using source = await borrowSource(deps, run);
  await using snapshot = await source.it.open();
  const generation = await db.transaction(async (tx) => {
    await tx.execute(sql`SELECT 1 FROM ${runs} WHERE id = ${ref.runId} FOR UPDATE`);
    await tx
      .update(snapshots)
      .set({ lostAt: new Date() })
      .where(and(eq(snapshots.runId, ref.runId), isNull(snapshots.lostAt)));
    const [last] = await tx
      .select({ generation: sql<number>`coalesce(max(${snapshots.generation}), 0)::int` })
      .from(snapshots)
      .where(eq(snapshots.runId, ref.runId));
    const next = (last?.generation ?? 0) + 1;
    await tx.insert(snapshots).values({
      runId: ref.runId,
      generation: next,
      token: snapshot.consistency === 'snapshot' ? snapshot.token : '',
      position: snapshot.position,
      takenAt: new Date(snapshot.takenAt),
      clock: snapshot.takenAt,
      pending: snapshot.pending ?? null,
    });
    // Instants differ from here on: the run says so.
    if (next > 1) await tx.update(runs).set({ consistency: 'chunk' }).where(eq(runs.id, ref.runId));
    return next;
  });
  if (generation > 1) {
    const message = 'The snapshot was lost and a new one opened: tables with a key go on chunk by chunk.';
    await note(db, { runId: ref.runId, level: 'warn', kind: 'snapshot.opened', message, data: { generation } });
  }

  const { promise: over, resolve: end } = Promise.withResolvers<'ended'>();
  keepers.set(ref.runId, () => end('ended'));
  const stop = () => end('ended');
  signal.addEventListener('abort', stop, { once: true });
  const look = setInterval(() => {
    loadRun(db, ref).then(
      (now) => ended.includes(now.status) && end('ended'),
      (error) => error instanceof GodwitError && error.code === 'FENCED' && end('ended'),
    );
  }, lookEveryMs);
  try {
    await Promise.race([over, snapshot.lost]);
  } finally {
    clearInterval(look);
    signal.removeEventListener('abort', stop);
    keepers.delete(ref.runId);
    await db
      .update(snapshots)
      .set({ lostAt: new Date() })
      .where(and(eq(snapshots.runId, ref.runId), eq(snapshots.generation, generation), isNull(snapshots.lostAt)))
      .catch(() => {});
  }
  signal.throwIfAborted();
}
