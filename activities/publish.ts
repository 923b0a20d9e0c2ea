import { and, asc, eq, sql } from 'drizzle-orm';
import { runTables } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import type { RunRef } from './contract.ts';
import type { Deps } from './deps.ts';
import { ours } from './failures.ts';
import { borrowTarget, loadRun, markFailed, moves, note, type RunRow, type TableRow, wait, workOf } from './state.ts';

const atOnce = 4;
const open = sql`status IN ('queued', 'running', 'waiting', 'paused')`;

/** Publishes each foreign-key component whose members have all ended; the members that failed are `missing` in it. */
export async function publishReady(deps: Deps, ref: RunRef, signal: AbortSignal): Promise<{ details: string }> {
  const run = await loadRun(deps.db, ref);
  const ready = await readyComponents(deps, ref);
  let transient: unknown;
  const lane = async () => {
    const done: Publishing[] = [];
    for (let one = ready.shift(); one; one = ready.shift()) {
      signal.throwIfAborted();
      try {
        const published = await publishComponent(deps, run, one);
        if (published) done.push(published);
      } catch (error) {
        transient ??= error;
      }
      if (done.length >= 25) await writeDown(deps, run, done.splice(0));
    }
    await writeDown(deps, run, done);
  };
  const ended = await Promise.allSettled(Array.from({ length: Math.min(atOnce, ready.length) }, lane));
  for (const result of ended) if (result.status === 'rejected') throw result.reason;
  if (transient !== undefined) throw transient;
  return { details: await detailsOf(deps, run) };
}

/** Members of each component that has something staged and nothing open. */
async function readyComponents(deps: Deps, { runId }: RunRef): Promise<TableRow[][]> {
  const rows = await deps.db
    .select()
    .from(runTables)
    .where(
      and(
        eq(runTables.runId, runId),
        sql`(component, target) IN (SELECT component, target FROM ${runTables} WHERE run_id = ${runId}
          GROUP BY component, target HAVING bool_or(status = 'staged') AND NOT bool_or(${open}))`,
      ),
    )
    .orderBy(asc(runTables.ordinal));
  return [...Map.groupBy(rows, (row) => `${row.component} ${row.target}`).values()];
}

type Publishing = { readonly rows: readonly TableRow[]; readonly notes: readonly string[] };

async function publishComponent(
  deps: Deps,
  run: RunRow,
  members: readonly TableRow[],
): Promise<Publishing | undefined> {
  const staged = members.filter((row) => row.status === 'staged');
  const missing = members.filter((row) => row.work && !['staged', 'succeeded'].includes(row.status));
  const [first] = staged;
  if (!first) return undefined;
  try {
    for (const row of staged) refuseUnbalanced(row);
    await using target = await borrowTarget(deps, run, first.target);
    const { notes } = await target.it.publish(
      staged.map(workOf),
      missing.map((row) => workOf(row).name),
    );
    return { rows: staged, notes };
  } catch (thrown) {
    const error = ours(thrown);
    if (error.retryable) {
      await wait(deps, run, first, error);
      throw error;
    }
    for (const row of staged) {
      await markFailed(deps.db, { runId: run.id, epoch: run.epoch, ordinal: row.ordinal }, error);
    }
    return undefined;
  }
}

/** What was published, several components at once; publishing again after a lost answer changes nothing. */
async function writeDown(deps: Deps, run: RunRow, done: readonly Publishing[]): Promise<void> {
  const rows = done.flatMap(({ rows, notes }) =>
    rows.map((row, i) => ({ ordinal: row.ordinal, notes: i === 0 ? notes : [] })),
  );
  if (rows.length === 0) return;
  await deps.db.execute(sql`
    UPDATE ${runTables} t SET status = 'succeeded', failure = NULL, ended_at = now(), updated_at = now(), notes = t.notes || x.notes
    FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) AS x(ordinal int, notes jsonb)
    WHERE t.run_id = ${run.id} AND t.ordinal = x.ordinal AND t.status IN ('staged', 'waiting')`);
  await moves(deps.db, run.id);
  for (const { rows: published, notes } of done) {
    const [first] = published;
    if (!first) continue;
    for (const text of notes) {
      await note(deps.db, { runId: run.id, ordinal: first.ordinal, level: 'warn', kind: 'table.note', message: text });
    }
  }
  const names = done.flatMap(({ rows: published }) => published.map((row) => row.targetName));
  const shownNames = names.slice(0, 5).join(', ');
  const message =
    names.length > 5 ? `Published ${shownNames} and ${names.length - 5} more.` : `Published ${shownNames}.`;
  await note(deps.db, {
    runId: run.id,
    kind: 'tables.published',
    message,
    data: { ordinals: rows.map((row) => row.ordinal) },
  });
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
