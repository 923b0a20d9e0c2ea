import { and, asc, count, eq, gt, inArray, or, type SQL, sql } from 'drizzle-orm';
import { GodwitError } from '../errors.ts';
import type { Sealer } from '../secrets/seal.ts';
import type { Executor } from './open.ts';
import { type Page, type PageWish, pageOf, readCursor } from './paging.ts';
import { badRows, jobs, quarantine, runs, runTables } from './schema.ts';

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

/** What is known of it across runs, as long as it is the same row with the same values. */
const known = and(eq(badRows.identity, quarantine.identity), eq(badRows.digest, quarantine.digest));
const firstAt = sql`coalesce(${badRows.firstAt}, ${quarantine.at})`;
const lastAt = sql`coalesce(${badRows.lastAt}, ${quarantine.at})`;

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
      firstAt: sql`min(${firstAt})`.mapWith(quarantine.at),
      lastAt: sql`max(${lastAt})`.mapWith(quarantine.at),
    })
    .from(quarantine)
    .innerJoin(runTables, latest)
    .leftJoin(badRows, known)
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
export type OpenedRow = Omit<Row, 'content' | 'identity' | 'digest'> & {
  readonly content: Quarantined;
  /** When it was set aside with these values, by how many runs. */
  readonly firstAt: Date;
  readonly lastAt: Date;
  readonly runs: number;
};

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
    .select({
      row: quarantine,
      firstAt: firstAt.mapWith(quarantine.at),
      lastAt: lastAt.mapWith(quarantine.at),
      runs: sql<number>`coalesce(${badRows.runs}, 1)`,
    })
    .from(quarantine)
    .innerJoin(runTables, latest)
    .leftJoin(badRows, known)
    .where(and(rowsLike(wish), cursor === undefined ? undefined : behind(cursor)))
    .orderBy(asc(quarantine.ordinal), asc(quarantine.generation), asc(quarantine.chunk), asc(quarantine.row))
    .limit(limit + 1);
  const { items, ...rest } = pageOf(
    rows.map(({ row, ...seen }) => ({ ...row, ...seen })),
    limit,
    (row) => [row.ordinal, row.generation, row.chunk, row.row],
  );
  const opened = items.map(({ content, identity: _identity, digest: _digest, ...row }) => ({
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
  const said = { state, actor, note: note ?? null, settledAt: new Date() };
  return await db.transaction(async (tx) => {
    const settled = await tx
      .update(quarantine)
      .set(said)
      .where(
        and(
          wanted,
          sql`EXISTS (SELECT 1 FROM ${runTables} t WHERE t.run_id = ${quarantine.runId} AND t.ordinal = ${quarantine.ordinal} AND t.generation = ${quarantine.generation})`,
        ),
      )
      .returning({ identity: quarantine.identity, digest: quarantine.digest });
    await tx
      .update(badRows)
      .set(said)
      .where(
        sql`(${badRows.identity}, ${badRows.digest}) IN (SELECT identity, digest
          FROM jsonb_to_recordset(${JSON.stringify(settled)}::jsonb) AS s(identity text, digest text))`,
      );
    return settled.length;
  });
}

/** A row by its marks. */
export type Mark = { readonly identity: string; readonly digest: string };

/**
 * Rows that a run sets aside, by identity, and what is to become of them: one that was given up stays so while its values are the
 * same; one with other values, or that was written meanwhile, is a new one. Idempotent within a run.
 */
export async function seeBadRows(
  db: Executor,
  marks: readonly Mark[],
  { jobId, runId }: { readonly jobId: string; readonly runId: string },
) {
  if (marks.length === 0) return new Map<string, never>();
  // A statement may touch a row once; in one order, or two chunks would wait for each other.
  const once = new Map(marks.map(({ identity, digest }) => [identity, { identity, digest }]));
  const given = [...once.values()].sort((a, b) => (a.identity < b.identity ? -1 : 1));
  const same = sql`${badRows.digest} = excluded.digest AND ${badRows.state} <> 'replayed'`;
  const kept = (column: string) => sql`CASE WHEN ${same} THEN ${badRows}.${sql.identifier(column)} END`;
  const seen = await db
    .insert(badRows)
    .values(given.map((one) => ({ ...one, jobId, runId })))
    .onConflictDoUpdate({
      target: badRows.identity,
      set: {
        digest: sql`excluded.digest`,
        firstAt: sql`CASE WHEN ${same} THEN ${badRows.firstAt} ELSE now() END`,
        lastAt: sql`now()`,
        runs: sql`CASE WHEN ${same} THEN ${badRows.runs} + (${badRows.runId} <> excluded.run_id)::int ELSE 1 END`,
        runId: sql`excluded.run_id`,
        state: sql`CASE WHEN ${same} THEN ${badRows.state} ELSE 'open' END`,
        actor: kept('actor'),
        note: kept('note'),
        settledAt: kept('settled_at'),
      },
    })
    .returning({
      identity: badRows.identity,
      state: badRows.state,
      actor: badRows.actor,
      note: badRows.note,
      settledAt: badRows.settledAt,
    });
  return new Map(seen.map(({ identity, ...what }) => [identity, what]));
}

/**
 * A run is over: a row that it has set aside again is in its list alone, and no more in those of the runs before. What was written
 * after all stays there, and what was given up with other values.
 */
export async function forgetEarlier(db: Executor, runId: string): Promise<void> {
  await db.execute(sql`
    DELETE FROM ${quarantine} old USING ${quarantine} new, ${runTables} t, ${runs} r, ${runs} before
    WHERE new.run_id = ${runId} AND t.run_id = new.run_id AND t.ordinal = new.ordinal AND t.generation = new.generation
      AND r.id = new.run_id AND old.identity = new.identity AND before.id = old.run_id
      AND before.job_id = r.job_id AND before.number < r.number
      AND (old.state = 'open' OR (old.state = 'waived' AND old.digest = new.digest))`);
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
