import { and, asc, count, eq, gt, inArray, or, type SQL, sql } from 'drizzle-orm';
import { GodwitError } from '../errors.ts';
import type { Sealer } from '../secrets/seal.ts';
import type { Executor } from './open.ts';
import { type Page, type PageWish, pageOf, readCursor } from './paging.ts';
import { jobs, quarantine, runs, runTables } from './schema.ts';

/** What is sealed (activities/quarantine.ts): the row by its target columns, and why it was refused (reasons quote values). */
export type Quarantined = {
  readonly columns: readonly string[];
  readonly row: readonly unknown[];
  readonly reason: string;
  /** The replay that last refused it. */
  readonly replay?: string;
};
export const quarantinePurpose = 'quarantined row';

export const quarantineStates = ['open', 'replayed', 'waived'] as const;
export type QuarantineState = (typeof quarantineStates)[number];

/** A row's place in its run: of the table's latest generation. */
export type RowPlace = { readonly ordinal: number; readonly chunk: number; readonly row: number };

/** A table that began again set other rows aside: those of its earlier generations count no more. */
const latest = and(
  eq(runTables.runId, quarantine.runId),
  eq(runTables.ordinal, quarantine.ordinal),
  eq(runTables.generation, quarantine.generation),
);

export async function countQuarantined(db: Executor, runId: string) {
  return await db
    .select({
      ordinal: quarantine.ordinal,
      column: quarantine.column,
      code: quarantine.code,
      state: quarantine.state,
      rows: count(),
    })
    .from(quarantine)
    .innerJoin(runTables, latest)
    .where(eq(quarantine.runId, runId))
    .groupBy(quarantine.ordinal, quarantine.column, quarantine.code, quarantine.state)
    .orderBy(asc(quarantine.ordinal), asc(quarantine.column), asc(quarantine.code), asc(quarantine.state))
    .limit(1000);
}

export type QuarantineWish = PageWish & {
  readonly jobId?: string;
  readonly runId?: string;
  /** Tables that have such rows. */
  readonly states?: readonly QuarantineState[];
};

/** One line per run and table: how many rows, which columns and codes. No values. The latest runs first. */
export async function listQuarantined(db: Executor, { jobId, runId, states, limit, cursor }: QuarantineWish) {
  const rows = await db
    .select({
      job: jobs.name,
      run: runs.number,
      runId: runs.id,
      createdAt: runs.createdAt,
      ordinal: runTables.ordinal,
      sourceName: runTables.sourceName,
      target: runTables.target,
      targetName: runTables.targetName,
      status: runTables.status,
      columns: sql<
        string[]
      >`coalesce(array_agg(DISTINCT ${quarantine.column}) FILTER (WHERE ${quarantine.column} IS NOT NULL), '{}')`,
      codes: sql<string[]>`array_agg(DISTINCT coalesce(${quarantine.native}, ${quarantine.code}))`,
      open: stateCount('open'),
      replayed: stateCount('replayed'),
      waived: stateCount('waived'),
    })
    .from(quarantine)
    .innerJoin(runTables, latest)
    .innerJoin(runs, eq(runs.id, quarantine.runId))
    .innerJoin(jobs, eq(jobs.id, runs.jobId))
    .where(
      and(
        jobId === undefined ? undefined : eq(runs.jobId, jobId),
        runId === undefined ? undefined : eq(runs.id, runId),
        states && states.length > 0 ? inArray(quarantine.state, [...states]) : undefined,
        cursor === undefined ? undefined : olderThan(cursor),
      ),
    )
    .groupBy(jobs.name, runs.id, runTables.runId, runTables.ordinal)
    .orderBy(sql`${runs.createdAt} DESC`, runs.id, runTables.ordinal)
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [row.createdAt.toISOString(), row.runId, row.ordinal]);
}

const stateCount = (state: QuarantineState) =>
  sql<number>`(count(*) FILTER (WHERE ${quarantine.state} = ${state}))::int`;

function olderThan(cursor: string): SQL {
  const [at, id, ordinal] = readCursor(cursor, ['string', 'string', 'number']);
  if (Number.isNaN(Date.parse(at)) || !/^[0-9a-f-]{36}$/.test(id)) {
    throw new GodwitError('USAGE', 'cursor: give back `next` of the page before, unchanged.');
  }
  const instant = sql`${new Date(at).toISOString()}::timestamptz`;
  return sql`(${runs.createdAt} < ${instant} OR (${runs.createdAt} = ${instant}
    AND (${runs.id}, ${runTables.ordinal}) > (${id}::uuid, ${ordinal}::int)))`;
}

type Row = typeof quarantine.$inferSelect;
export type OpenedRow = Omit<Row, 'content'> & { readonly content: Quarantined };

export type RowsWish = {
  readonly runId: string;
  readonly ordinal?: number;
  readonly states?: readonly QuarantineState[];
  /** Only these. */
  readonly rows?: readonly RowPlace[];
};

/** Opens the envelopes: whoever calls this writes an audit line first. */
export async function openQuarantined(
  db: Executor,
  sealer: Sealer,
  { limit, cursor, ...wish }: PageWish & RowsWish,
): Promise<Page<OpenedRow>> {
  const rows = await db
    .select({ row: quarantine })
    .from(quarantine)
    .innerJoin(runTables, latest)
    .where(and(rowsLike(wish), cursor === undefined ? undefined : behind(cursor)))
    .orderBy(asc(quarantine.ordinal), asc(quarantine.generation), asc(quarantine.chunk), asc(quarantine.row))
    .limit(limit + 1);
  const { items, ...rest } = pageOf(
    rows.map(({ row }) => row),
    limit,
    (row) => [row.ordinal, row.generation, row.chunk, row.row],
  );
  const opened = items.map(({ content, ...row }) => ({
    ...row,
    content: sealer.openJson<Quarantined>(content, quarantinePurpose),
  }));
  return { items: opened, ...rest };
}

const rowsLike = ({ runId, ordinal, states, rows }: RowsWish): SQL | undefined =>
  and(
    eq(quarantine.runId, runId),
    ordinal === undefined ? undefined : eq(quarantine.ordinal, ordinal),
    states && states.length > 0 ? inArray(quarantine.state, [...states]) : undefined,
    rows === undefined ? undefined : or(sql`false`, ...rows.map(isAt)),
  );

const isAt = ({ ordinal, chunk, row }: RowPlace): SQL | undefined =>
  and(eq(quarantine.ordinal, ordinal), eq(quarantine.chunk, chunk), eq(quarantine.row, row));

function behind(cursor: string): SQL | undefined {
  const values = readCursor(cursor, ['number', 'number', 'number', 'number']);
  const columns = [quarantine.ordinal, quarantine.generation, quarantine.chunk, quarantine.row];
  return or(
    ...columns.map((column, at) =>
      and(
        ...columns.slice(0, at).map((before, i) => eq(before, values[i] as number)),
        gt(column, values[at] as number),
      ),
    ),
  );
}

/** Tables of the run that have open rows, in order. */
export async function openTables(db: Executor, { runId, ordinal }: RowsWish): Promise<number[]> {
  const rows = await db
    .selectDistinct({ ordinal: quarantine.ordinal })
    .from(quarantine)
    .innerJoin(runTables, latest)
    .where(rowsLike({ runId, states: ['open'], ...(ordinal === undefined ? {} : { ordinal }) }))
    .orderBy(asc(quarantine.ordinal));
  return rows.map((row) => row.ordinal);
}

export type Settling = {
  readonly state: Exclude<QuarantineState, 'open'>;
  readonly actor: string;
  readonly note?: string;
};

/** What became of open rows: nobody settles a row twice. The rows that were. */
export async function settleQuarantined(
  db: Executor,
  { runId, ordinal, rows }: RowsWish,
  { state, actor, note }: Settling,
): Promise<number> {
  const wanted = rowsLike({
    runId,
    states: ['open'],
    ...(ordinal === undefined ? {} : { ordinal }),
    ...(rows === undefined ? {} : { rows }),
  });
  const settled = await db
    .update(quarantine)
    .set({ state, actor, note: note ?? null, settledAt: new Date() })
    .where(
      and(
        wanted,
        sql`EXISTS (SELECT 1 FROM ${runTables} t WHERE t.run_id = ${quarantine.runId} AND t.ordinal = ${quarantine.ordinal} AND t.generation = ${quarantine.generation})`,
      ),
    )
    .returning({ row: quarantine.row });
  return settled.length;
}

/** A replay was refused again: the row stays open, with the new reason. */
export async function refuseAgain(
  db: Executor,
  sealer: Sealer,
  { ordinal, chunk, row, runId, generation, content }: OpenedRow,
  now: { readonly column?: string; readonly native?: string; readonly reason: string; readonly replay: string },
): Promise<void> {
  const { column, native, reason, replay } = now;
  await db
    .update(quarantine)
    .set({
      column: column ?? null,
      native: native ?? null,
      content: sealer.sealJson({ ...content, reason, replay }, quarantinePurpose),
      at: new Date(),
    })
    .where(
      and(
        eq(quarantine.runId, runId),
        eq(quarantine.generation, generation),
        isAt({ ordinal, chunk, row }),
        eq(quarantine.state, 'open'),
      ),
    );
}
