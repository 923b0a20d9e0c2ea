import { isDeepStrictEqual } from 'node:util';
import { and, desc, eq, gt, inArray, isNotNull, lt, lte, ne, sql } from 'drizzle-orm';
import type { Checkpoint, DocumentShape, Work } from '../connectors/contract.ts';
import type { Executor } from '../db/open.ts';
import { chunks, quarantine, runs, runTables, type TableStatus } from '../db/schema.ts';
import { type ChunkRow, ofGeneration } from './chunks.ts';
import { noCounts, rowCounts, sumOf } from './counts.ts';
import type { Deps } from './deps.ts';
import { ours } from './failures.ts';
import type { PlanInput, PlannedTable } from './plan/index.ts';
import { borrowTarget, note, optionsOf, planOf, type RunRow, type TableRow, withoutValues, workOf } from './state.ts';

/** What a table takes over from an earlier run that did not end it: its work, its generation, its chunks. */
export type Adopted = {
  readonly work: Work;
  readonly from: TableRow;
  /** The earlier run's number. */
  readonly number: number;
  readonly chunks: readonly ChunkRow[];
};

/** Runs of each schedule looked back: a table that was in none of them starts anew. */
const lookBack = 20;
const settled: readonly TableStatus[] = ['succeeded', 'canceled', 'skipped'];
const tableOf = (one: { readonly target: string; readonly sourceName: string }) =>
  JSON.stringify([one.target, one.sourceName]);

/**
 * Decision 8, by ordinal: tables whose latest run left them unfinished go on in its staging, when the plan is the same and
 * the target still has some of its chunks. Cases in which a table starts again: 1 its mapping says `continue: restart`;
 * 2 the plan or the source's table is another; 3 what is left needs the snapshot that is gone; 4 all rows are there and
 * break a key: going on would only find that again. A dumping snapshot that cannot be completed is taken away.
 */
export async function adoptable(
  deps: Deps,
  run: RunRow,
  planned: readonly PlannedTable[],
  decide: Decide,
): Promise<ReadonlyMap<number, Adopted>> {
  const adopted = new Map<number, Adopted>();
  for (const { one, row, number } of await unfinished(deps.db, run, planned)) {
    const pieces = await deps.db.select().from(chunks).where(ofGeneration(row)).orderBy(chunks.chunk);
    const work =
      one.continue === 'restart' ? undefined : (sameWork(one, row) ?? (await asDescribedThen(one, row, decide)));
    try {
      await using target = await borrowTarget(deps, run, one.target);
      const durable = work ? await doneIn(target.it.checkpoints(workOf(deps, row))) : undefined;
      const found = durable && pieces.map((piece) => reconciled(piece, durable.get(piece.chunk)));
      if (work && found && goesOn(row, found)) adopted.set(one.ordinal, { work, from: row, number, chunks: found });
      else if (one.mode === 'dumping') await target.it.discard(workOf(deps, row));
    } catch (error) {
      if (ours(error).retryable) throw error;
    }
  }
  return adopted;
}

type Unfinished = { readonly one: PlannedTable; readonly row: TableRow; readonly number: number };

/** The planned tables whose latest earlier row with a plan is not settled. One question per run looked at, mostly one. */
async function unfinished(db: Executor, run: RunRow, planned: readonly PlannedTable[]): Promise<Unfinished[]> {
  const open = new Map(planned.flatMap((one) => (one.work ? [[tableOf(one), one] as const] : [])));
  // One that runs every minute is not to hide what another left the night before.
  const nth = sql<number>`row_number() OVER (PARTITION BY ${runs.scheduleKey} ORDER BY ${runs.number} DESC)`;
  const numbered = db
    .select({ id: runs.id, number: runs.number, nth: nth.as('nth') })
    .from(runs)
    .where(and(eq(runs.jobId, run.jobId), lt(runs.number, run.number), ne(runs.status, 'skipped')))
    .as('numbered');
  const earlier = await db
    .select({ id: numbered.id, number: numbered.number })
    .from(numbered)
    .where(lte(numbered.nth, lookBack))
    .orderBy(desc(numbered.number));
  const found: Unfinished[] = [];
  for (const { id, number } of earlier) {
    if (open.size === 0) break;
    const { ordinal, target, sourceName, status } = runTables;
    const rows = await db
      .select({ ordinal, target, sourceName, status })
      .from(runTables)
      .where(and(eq(runTables.runId, id), isNotNull(runTables.work)));
    const wanted = new Map<number, PlannedTable>();
    for (const row of rows) {
      const one = open.get(tableOf(row));
      open.delete(tableOf(row));
      if (one && !settled.includes(row.status)) wanted.set(row.ordinal, one);
    }
    if (wanted.size === 0) continue;
    const whole = await db
      .select()
      .from(runTables)
      .where(and(eq(runTables.runId, id), inArray(runTables.ordinal, [...wanted.keys()])));
    for (const row of whole) found.push({ one: wanted.get(row.ordinal) as PlannedTable, row, number });
  }
  return found;
}

/** The new plan as a continuation of the old work; undefined when they differ in more than statistics. */
function sameWork(one: PlannedTable, row: TableRow): Work | undefined {
  const now = one.work && withoutValues(one.work);
  if (!now || !row.work || (one.step ?? null) !== row.step) return undefined;
  const old = planOf(row);
  const { snapshotDate } = old;
  const work: Work = {
    ...now,
    run: old.run,
    generation: old.generation,
    columns: now.columns.map((column) =>
      column.constant !== undefined && column.constant === now.snapshotDate
        ? { ...column, constant: snapshotDate ?? column.constant }
        : column,
    ),
    ...(snapshotDate === undefined ? {} : { snapshotDate }),
  };
  const same = isDeepStrictEqual(compared(work), compared(old));
  return same && isDeepStrictEqual(plain(one.where), plain(optionsOf(row).where)) ? work : undefined;
}

type Decide = (again: NonNullable<PlanInput['again']>) => Promise<readonly PlannedTable[]>;

/**
 * Two samples of the same documents differ. Documents in the same form as before go on as they were described then: one that
 * this does not cover is noticed when it is read, as ever. What is another collection of that name is noticed there too
 * (SOURCE_CHANGED), and such a table begins anew.
 */
async function asDescribedThen(one: PlannedTable, row: TableRow, decide: Decide): Promise<Work | undefined> {
  const { shape } = optionsOf(row);
  if (!one.work || !one.shape || !shape || !row.work || row.failure?.code === 'SOURCE_CHANGED') return undefined;
  const form = ({ thorough: _thorough, ...lasting }: DocumentShape) => plain(lasting);
  if (!isDeepStrictEqual(form(one.shape), form(shape))) return undefined;
  const { sourceName, target } = one;
  const [then] = await decide({ sourceName, target, described: row.work.source });
  return then && sameWork(then, row);
}

/** Statistics, and how far a sequence is: they change while a table is the same. */
const passing = new Set(['last', 'correlation', 'pages']);
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null));
const compared = ({ source, ...work }: Work): unknown => {
  const { rows: _rows, bytes: _bytes, extras, ...table } = source;
  const lasting = JSON.stringify(extras ?? null, (key, value) => (passing.has(key) ? undefined : value));
  return plain({ ...work, source: { ...table, extras: JSON.parse(lasting) } });
};

async function doneIn(checkpoints: AsyncIterable<Checkpoint>): Promise<Map<number, Checkpoint>> {
  const done = new Map<number, Checkpoint>();
  for await (const one of checkpoints) if (one.done) done.set(one.chunk.id, one);
  return done;
}

/** The target says what is durable; what this database says is a cache of it. */
function reconciled(row: ChunkRow, durable: Checkpoint | undefined): ChunkRow {
  return {
    ...row,
    status: durable ? 'done' : 'queued',
    ...rowCounts(durable?.counts ?? noCounts),
    rowsMoving: 0,
    // Of this run.
    attempts: 0,
    ...(durable ? {} : { startedAt: null, endedAt: null }),
  };
}

const broken = new Set(['CONSTRAINT_BROKEN', 'VALUE_REFUSED', 'BOOKS_UNBALANCED', 'INTERNAL']);

/**
 * An increment goes on when there is much of it left to move. All of it there, or only deletes left that were refused: then what is
 * newer is of more use than what is looked at once more.
 */
function goesOn(row: TableRow, found: readonly ChunkRow[]): boolean {
  const done = found.filter((piece) => piece.status === 'done');
  if (done.length === 0) return false;
  const complete = row.splitDone && done.length === found.length;
  const increment = row.step === 'increment';
  if (increment && (complete || row.failure?.code === 'DELETES_REFUSED')) return false;
  if (complete) return !broken.has(row.failure?.code ?? '');
  return found.every((piece) => (increment ? piece.kind !== 'blocks' : piece.kind === 'keys'));
}

/** Columns of the new row, instead of those of a table that begins. */
export function adoptedRow({ work, from, number, chunks: pieces }: Adopted, one: PlannedTable) {
  const done = pieces.filter((piece) => piece.status === 'done');
  return {
    work,
    generation: work.generation,
    // Its chunks were cut, and some moved, at other moments.
    consistency: 'chunk' as const,
    splitDone: from.splitDone,
    chunksTotal: pieces.length,
    chunksDone: done.length,
    ...sumOf(done),
    // The watermark under which its chunks were cut.
    increment: from.increment,
    notes: [...one.notes, sentence(work, number, done.length, pieces.length)],
  };
}

const sentence = (work: Work, number: number, done: number, of: number): string =>
  `goes on where run ${number} stopped: ${done} of ${of} chunks are there${
    work.snapshotDate === undefined ? '' : `; the snapshot keeps its date ${work.snapshotDate}`
  }${work.mode === 'replace' || work.mode === 'dumping' ? '' : '; what is newer comes with the next run'}. Chunks read at different moments`;

/** In the transaction that stores the plan: the chunks and the rows set aside, and a line in the log. */
export async function storeAdopted(db: Executor, run: RunRow, ordinal: number, adopted: Adopted): Promise<void> {
  const { from, work, chunks: pieces, number } = adopted;
  for (let at = 0; at < pieces.length; at += 500) {
    const rows = pieces.slice(at, at + 500).map((piece) => ({ ...piece, runId: run.id, ordinal }));
    await db.insert(chunks).values(rows).onConflictDoNothing();
  }
  const aside = await db
    .select()
    .from(quarantine)
    .where(
      and(
        eq(quarantine.runId, from.runId),
        eq(quarantine.ordinal, from.ordinal),
        eq(quarantine.generation, from.generation),
      ),
    );
  const done = new Set(pieces.flatMap((piece) => (piece.status === 'done' ? [piece.chunk] : [])));
  const kept = aside.filter((one) => done.has(one.chunk)).map((one) => ({ ...one, runId: run.id, ordinal }));
  for (let at = 0; at < kept.length; at += 500) {
    await db
      .insert(quarantine)
      .values(kept.slice(at, at + 500))
      .onConflictDoNothing();
  }
  await note(db, {
    runId: run.id,
    ordinal,
    kind: 'table.continued',
    message: `${from.sourceName} ${sentence(work, number, done.size, pieces.length)}.`,
    data: { chunks: pieces.length, done: done.size },
  });
}

/**
 * Tables of this run in whose staging a later run went on: theirs no more. By ordinal.
 */
export async function takenByLater(db: Executor, run: RunRow, rows: readonly TableRow[]): Promise<Set<number>> {
  if (rows.length === 0) return new Set();
  const later = await db
    .select({
      target: runTables.target,
      sourceName: runTables.sourceName,
      generation: runTables.generation,
      work: sql<string>`${runTables.work}->>'run'`,
    })
    .from(runTables)
    .innerJoin(runs, eq(runs.id, runTables.runId))
    .where(
      and(
        eq(runs.jobId, run.jobId),
        sql`${runs.number} > ${run.number}`,
        sql`${runTables.work}->>'run' <> ${runTables.runId}::text`,
      ),
    );
  const taken = (row: TableRow) =>
    later.some(
      (one) => tableOf(one) === tableOf(row) && one.work === row.work?.run && one.generation === row.generation,
    );
  return new Set(rows.filter(taken).map((row) => row.ordinal));
}

/**
 * Incremental tables that a later run has completed. Their old load would take away the rows that the target has kept since, their old
 * increment would put the bookmark back. By ordinal.
 */
export async function passedByLater(db: Executor, run: RunRow, rows: readonly TableRow[]): Promise<Set<number>> {
  if (rows.length === 0) return new Set();
  const later = await db
    .selectDistinct({ target: runTables.target, sourceName: runTables.sourceName })
    .from(runTables)
    .innerJoin(runs, eq(runs.id, runTables.runId))
    .where(
      and(
        eq(runs.jobId, run.jobId),
        gt(runs.number, run.number),
        eq(runTables.status, 'succeeded'),
        isNotNull(runTables.work),
      ),
    );
  const passed = new Set(later.map(tableOf));
  return new Set(rows.filter((row) => passed.has(tableOf(row))).map((row) => row.ordinal));
}

/** Is every chunk this database calls done durable in the target? Another run may have swept the staging since. */
export async function stagingThere(deps: Deps, run: RunRow, row: TableRow): Promise<boolean> {
  if (row.chunksDone === 0) return true;
  const done = await deps.db
    .select({ chunk: chunks.chunk })
    .from(chunks)
    .where(and(ofGeneration(row), eq(chunks.status, 'done')));
  await using target = await borrowTarget(deps, run, row.target);
  const durable = await doneIn(target.it.checkpoints(workOf(deps, row)));
  return done.every(({ chunk }) => durable.has(chunk));
}

/** A table that starts from nothing stages under its own run, whoever's staging it had gone on in. */
export const ownWork = sql<Work>`jsonb_set(${runTables.work}, '{run}', to_jsonb(${runTables.runId}::text))`;
