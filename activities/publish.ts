import { and, eq, inArray, sql } from 'drizzle-orm';
import { runTables } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import type { RunRef } from './contract.ts';
import type { Deps } from './deps.ts';
import { ours } from './failures.ts';
import { borrowTarget, loadRun, markFailed, note, type RunRow, type TableRow, wait, workOf } from './state.ts';

const atOnce = 4;
const open = sql`status IN ('queued', 'running', 'waiting', 'paused')`;

/** Publishes each foreign-key component whose members have all ended; the members that failed are `missing` in it. */
export async function publishReady(deps: Deps, ref: RunRef, signal: AbortSignal): Promise<{ details: string }> {
  const run = await loadRun(deps.db, ref);
  const ready = await deps.db
    .select({ component: runTables.component, target: runTables.target })
    .from(runTables)
    .where(eq(runTables.runId, ref.runId))
    .groupBy(runTables.component, runTables.target)
    .having(sql`bool_or(status = 'staged') AND NOT bool_or(${open})`);
  let transient: unknown;
  const lane = async () => {
    for (let one = ready.shift(); one; one = ready.shift()) {
      signal.throwIfAborted();
      try {
        await publishComponent(deps, run, one);
      } catch (error) {
        transient ??= error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, ready.length) }, lane));
  if (transient !== undefined) throw transient;
  return { details: await detailsOf(deps, run) };
}

async function publishComponent(
  deps: Deps,
  run: RunRow,
  { component, target: alias }: { component: number; target: string },
): Promise<void> {
  const members = await deps.db
    .select()
    .from(runTables)
    .where(and(eq(runTables.runId, run.id), eq(runTables.component, component), eq(runTables.target, alias)));
  const staged = members.filter((row) => row.status === 'staged');
  const missing = members.filter((row) => row.work && !['staged', 'succeeded'].includes(row.status));
  for (const row of staged) refuseUnbalanced(row);
  try {
    await using target = await borrowTarget(deps, run, alias);
    const { notes } = await target.it.publish(
      staged.map(workOf),
      missing.map((row) => workOf(row).name),
    );
    await deps.db
      .update(runTables)
      .set({
        status: 'succeeded',
        failure: null,
        endedAt: new Date(),
        updatedAt: new Date(),
        notes: sql`${runTables.notes} || ${JSON.stringify(notes)}::jsonb`,
      })
      .where(
        and(
          eq(runTables.runId, run.id),
          inArray(
            runTables.ordinal,
            staged.map((row) => row.ordinal),
          ),
          eq(runTables.status, 'staged'),
        ),
      );
    const names = staged.length === 1 ? staged[0]?.targetName : `${staged.length} tables of one component`;
    await note(deps.db, {
      runId: run.id,
      kind: 'tables.published',
      message: `Published ${names} on ${alias}.`,
      ...(staged.length === 1 && staged[0] ? { ordinal: staged[0].ordinal } : {}),
    });
    for (const text of notes) await note(deps.db, { runId: run.id, level: 'warn', kind: 'table.note', message: text });
  } catch (thrown) {
    const error = ours(thrown);
    const [first] = staged;
    if (error.retryable && first) {
      await wait(deps, run, first, error);
      throw error;
    }
    for (const row of staged) {
      await markFailed(deps.db, { runId: run.id, epoch: run.epoch, ordinal: row.ordinal }, error);
    }
  }
}

/** Promise 3: what was read is written, filtered or set aside; and all chunks are there. */
function refuseUnbalanced(row: TableRow): void {
  const balanced = row.rowsRead === row.rowsWritten + row.rowsFiltered + row.rowsQuarantined;
  if (balanced && row.chunksDone === row.chunksTotal) return;
  const message = balanced
    ? `${row.sourceName}: ${row.chunksDone} of ${row.chunksTotal} chunks are done.`
    : `${row.sourceName}: ${row.rowsRead} read, ${row.rowsWritten} written, ${row.rowsFiltered} filtered, ${row.rowsQuarantined} set aside.`;
  throw new GodwitError('BOOKS_UNBALANCED', message, { table: row.sourceName });
}

const shown = 20;

/** A table of tables in Markdown for Temporal's UI: names and counts, those in motion first. */
async function detailsOf(deps: Deps, run: RunRow): Promise<string> {
  const rows = await deps.db
    .select({
      name: runTables.sourceName,
      target: runTables.target,
      status: runTables.status,
      done: runTables.chunksDone,
      total: runTables.chunksTotal,
      rows: runTables.rowsWritten,
    })
    .from(runTables)
    .where(eq(runTables.runId, run.id))
    .orderBy(
      sql`CASE status WHEN 'failed' THEN 0 WHEN 'waiting' THEN 1 WHEN 'running' THEN 2 WHEN 'staged' THEN 3 WHEN 'queued' THEN 4 ELSE 5 END, ordinal`,
    )
    .limit(shown + 1);
  const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
  const lines = rows
    .slice(0, shown)
    .map(
      (row) => `| ${cell(row.name)} | ${cell(row.target)} | ${row.status} | ${row.done}/${row.total} | ${row.rows} |`,
    );
  const more = rows.length > shown ? ['', 'and more'] : [];
  return ['| table | target | state | chunks | rows |', '| --- | --- | --- | --- | --- |', ...lines, ...more].join(
    '\n',
  );
}
