import { heartbeat } from '@temporalio/activity';
import { and, eq, sql } from 'drizzle-orm';
import type { Counts } from '../connectors/contract.ts';
import { chunks, runTables } from '../db/schema.ts';
import { ofGeneration } from './chunks.ts';
import type { MoveArgs } from './contract.ts';
import { rowCounts } from './counts.ts';
import type { Deps } from './deps.ts';
import { moves, recount, type TableRow, theTable } from './state.ts';

/** Stage 4 of a move: what the target made durable, written down here too. A cache: claiming again gives the same. */
export async function checkpoint(deps: Deps, ref: MoveArgs, counts: Counts, lane: string): Promise<void> {
  await deps.db
    .update(chunks)
    .set({
      status: 'done',
      lane,
      ...rowCounts(counts),
      rowsMoving: 0,
      endedAt: new Date(),
    })
    .where(and(ofGeneration(ref), eq(chunks.chunk, ref.chunk)));
  await recount(deps.db, ref);
  await moves(deps.db, ref.runId);
}

export async function startChunk(deps: Deps, ref: MoveArgs, lane: string): Promise<void> {
  await deps.db
    .update(chunks)
    .set({ status: 'moving', lane, rowsMoving: 0, attempts: sql`${chunks.attempts} + 1`, startedAt: new Date() })
    .where(and(ofGeneration(ref), eq(chunks.chunk, ref.chunk), sql`${chunks.status} <> 'done'`));
  await deps.db
    .update(runTables)
    .set({ movingSince: sql`coalesce(moving_since, now())`, updatedAt: new Date() })
    .where(theTable(ref));
}

export type Progress = {
  moved(rows: number, bytes: number): void;
  stop(): void;
};

const everyMs = 500;

/**
 * Rows in flight, for the live line: written at most twice a second, never waited for, never twice at a time. Where only
 * bytes are known (frames pass unread) rows follow from the table's estimate.
 */
export function progressOf(deps: Deps, ref: MoveArgs, row: TableRow, estimate: number): Progress {
  let last = Date.now();
  let writing = false;
  let stopped = false;
  const write = async (rowsMoving: number) => {
    await deps.db
      .update(chunks)
      .set({ rowsMoving })
      .where(and(ofGeneration(ref), eq(chunks.chunk, ref.chunk), eq(chunks.status, 'moving')));
    await deps.db
      .update(runTables)
      .set({
        rowsMoving: sql`(SELECT coalesce(sum(c.rows_moving), 0) FROM ${chunks} c WHERE c.run_id = ${ref.runId} AND c.ordinal = ${ref.ordinal} AND c.generation = ${ref.generation} AND c.status = 'moving')`,
        updatedAt: new Date(),
      })
      .where(theTable(ref));
  };
  return {
    moved(rows, bytes) {
      if (stopped || writing || Date.now() - last < everyMs) return;
      last = Date.now();
      heartbeat({ rows, bytes });
      const perByte = row.estimatedBytes > 0 ? row.estimatedRows / row.estimatedBytes : 0;
      const guess = rows > 0 ? rows : Math.min(estimate, Math.round(bytes * Math.max(0, perByte)));
      writing = true;
      write(guess)
        .catch(() => {})
        .finally(() => {
          writing = false;
        });
    },
    stop() {
      stopped = true;
    },
  };
}
