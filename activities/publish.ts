import { activityInfo } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { and, asc, eq, sql } from 'drizzle-orm';
import type { Published, Target, Work } from '../connectors/contract.ts';
import { runTables } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import type { RunRef } from './contract.ts';
import { balances, booksText } from './counts.ts';
import type { Deps } from './deps.ts';
import { ours } from './failures.ts';
import {
  borrowTarget,
  complete,
  isComplete,
  loadRun,
  markFailed,
  moves,
  note,
  planOf,
  type RunRow,
  stillOpen,
  type TableRow,
  wait,
  workOf,
} from './state.ts';

const atOnce = 4;
/** What waits is tried again this soon at the latest: others may have become complete meanwhile. */
const againMs = 5_000;

/**
 * Publishes each foreign-key component whose members have all ended; the members that failed are `missing` in it. One that
 * has to wait (somebody uses its old tables) holds no other back: it is tried again, as waiting, until its job gives up.
 */
export async function publishReady(
  deps: Deps,
  ref: RunRef & { readonly last?: true },
  signal: AbortSignal,
): Promise<{ details: string; failed: number[] }> {
  const run = await loadRun(deps.db, ref);
  const ready = await readyComponents(deps, ref);
  let waiting: GodwitError | undefined;
  const lane = async () => {
    const done: Publishing[] = [];
    for (let one = ready.shift(); one; one = ready.shift()) {
      signal.throwIfAborted();
      // It may take its time again: what is published is written down before.
      if (done.length >= 25 || waits(one)) await writeDown(deps, run, done.splice(0));
      const outcome = await publishComponent(deps, run, one, signal);
      if (outcome instanceof GodwitError) waiting ??= outcome;
      else if (outcome) done.push(outcome);
    }
    await writeDown(deps, run, done);
  };
  const ended = await Promise.allSettled(Array.from({ length: Math.min(atOnce, ready.length) }, lane));
  for (const result of ended) if (result.status === 'rejected') throw result.reason;
  if (waiting && !ref.last) {
    const nextRetryDelay = Math.min(againMs, 500 * 2 ** (activityInfo().attempt - 1));
    throw ApplicationFailure.create({ type: waiting.code, message: waiting.message, nextRetryDelay });
  }
  return { details: await detailsOf(deps, run), failed: await completeButFailed(deps, run) };
}

const waits = (members: readonly TableRow[]) => members.some((row) => row.status === 'waiting');

/** Members of each component that has something complete and nothing open; those that wait already come last. */
async function readyComponents(deps: Deps, { runId }: RunRef): Promise<TableRow[][]> {
  const rows = await deps.db
    .select()
    .from(runTables)
    .where(
      and(
        eq(runTables.runId, runId),
        sql`(component, target) IN (SELECT component, target FROM ${runTables} WHERE run_id = ${runId}
          GROUP BY component, target HAVING bool_or(${complete}) AND NOT bool_or(${stillOpen}))`,
      ),
    )
    .orderBy(asc(runTables.ordinal));
  const components = [...Map.groupBy(rows, (row) => `${row.component} ${row.target}`).values()];
  return components.sort((a, b) => Number(waits(a)) - Number(waits(b)));
}

/** Of a failure in publishing the tables know; the run's workflow must, to let somebody retry one. */
async function completeButFailed(deps: Deps, run: RunRow): Promise<number[]> {
  const rows = await deps.db
    .select({ ordinal: runTables.ordinal })
    .from(runTables)
    .where(
      and(
        eq(runTables.runId, run.id),
        eq(runTables.status, 'failed'),
        sql`work IS NOT NULL AND split_done AND chunks_done = chunks_total`,
      ),
    );
  return rows.map((row) => row.ordinal);
}

type Publishing = Published & {
  readonly rows: readonly TableRow[];
  /** Of each row's table, where it is known. */
  readonly sizes: readonly (number | undefined)[];
};

/** What was published, or what it waits for. Permanent failures are told; the books of one table fail that one alone. */
async function publishComponent(
  deps: Deps,
  run: RunRow,
  members: readonly TableRow[],
  signal: AbortSignal,
): Promise<Publishing | GodwitError | undefined> {
  const fail = (row: TableRow, error: GodwitError) =>
    markFailed(deps.db, { runId: run.id, epoch: run.epoch, ordinal: row.ordinal }, error);
  const rows: TableRow[] = [];
  for (const row of members.filter(isComplete)) {
    const error = unbalanced(row);
    if (error) await fail(row, error);
    else rows.push(row);
  }
  const [first] = rows;
  if (!first) return undefined;
  const missing = members.filter((row) => row.work && row.status !== 'succeeded' && !rows.includes(row));
  try {
    await using target = await borrowTarget(deps, run, first.target);
    const works = rows.map((row) => ending(workOf(deps, row)));
    const published = await target.it.publish(
      works,
      missing.map((row) => planOf(row).name),
    );
    const tidied = await tidy(target.it, works, signal);
    return { ...published, notes: [...published.notes, ...tidied], rows, sizes: await sizesOf(target.it, works) };
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    const error = ours(thrown);
    const ends = await Promise.all(rows.map((row) => (error.retryable ? wait(deps, run, row, error) : error)));
    const end = ends.find((one) => one !== undefined);
    if (!end) return error;
    // They become visible together, so they fail together.
    for (const [i, row] of rows.entries()) await fail(row, ends[i] ?? end);
    return undefined;
  }
}

/** For the history alone: a target that cannot tell now does not hold the run up. */
const sizesOf = async (target: Target, works: readonly Work[]): Promise<readonly (number | undefined)[]> =>
  (await target.sizes?.(works.map((work) => work.name)).catch(() => [])) ?? [];

/** The end of a run that an incremental mode remembers. */
const ending = (work: Work): Work =>
  work.state ? { ...work, state: { ...work.state, succeededAt: new Date().toISOString() } } : work;

/** What is published stays so: a target that cannot put its parts in order now does it after a later run. */
async function tidy(target: Target, works: readonly Work[], signal: AbortSignal): Promise<string[]> {
  const notes: string[] = [];
  for (const work of works.filter((one) => one.increment)) {
    try {
      notes.push(...((await target.tidy?.(work, signal)) ?? []));
    } catch (error) {
      if (signal.aborted) throw error;
      notes.push(`${work.source.name.name}: not put in order: ${ours(error).message}`);
    }
  }
  return notes;
}

/** What was published, several components at once; publishing again after a lost answer changes nothing. */
async function writeDown(deps: Deps, run: RunRow, done: readonly Publishing[]): Promise<void> {
  const rows = done.flatMap(({ rows, notes, sizes }) =>
    rows.map((row, i) => ({ ordinal: row.ordinal, notes: i === 0 ? notes : [], size: sizes[i] ?? null })),
  );
  if (rows.length === 0) return;
  await deps.db.execute(sql`
    UPDATE ${runTables} t SET status = 'succeeded', failure = NULL, ended_at = now(), updated_at = now(), notes = t.notes || x.notes,
      storage_bytes = x.size
    FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) AS x(ordinal int, notes jsonb, size bigint)
    WHERE t.run_id = ${run.id} AND t.ordinal = x.ordinal AND ${complete}`);
  await forgetNotes(deps, run, done);
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

/** What tables published before lacked, and have now. */
async function forgetNotes(deps: Deps, run: RunRow, done: readonly Publishing[]): Promise<void> {
  for (const { rows, outdated = [] } of done) {
    const [first] = rows;
    if (!first || outdated.length === 0) continue;
    const texts = JSON.stringify(outdated);
    await deps.db
      .update(runTables)
      .set({ notes: sql`notes - ARRAY(SELECT jsonb_array_elements_text(${texts}::jsonb))`, updatedAt: new Date() })
      .where(
        and(
          eq(runTables.runId, run.id),
          eq(runTables.target, first.target),
          sql`notes @> ANY(ARRAY(SELECT jsonb_array_elements(${texts}::jsonb)))`,
        ),
      );
  }
}

/** Promise 3: what was read is written, filtered or set aside; and all chunks are there. */
function unbalanced(row: TableRow): GodwitError | undefined {
  const balanced = balances(row);
  if (balanced && row.chunksDone === row.chunksTotal) return undefined;
  const message = balanced
    ? `${row.sourceName}: ${row.chunksDone} of ${row.chunksTotal} chunks are done.`
    : `${row.sourceName}: ${booksText(row)}.`;
  return new GodwitError('BOOKS_UNBALANCED', message, { table: row.sourceName, target: row.target });
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
