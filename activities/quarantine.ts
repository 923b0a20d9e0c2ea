import { and, eq, ne, sql } from 'drizzle-orm';
import type { BadRow, Work } from '../connectors/contract.ts';
import { type Mark, quarantinePurpose, seeBadRows } from '../db/quarantine.ts';
import { quarantine } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import type { Sealer } from '../secrets/seal.ts';
import type { MoveArgs } from './contract.ts';
import type { Deps } from './deps.ts';
import type { OpenTable } from './state.ts';

/** Of one chunk beyond the threshold: enough for a report. */
const kept = 100;
/** A statement takes 65,535 values. */
const atOnce = 2000;

/**
 * Takes bad rows before the commit that leaves them out: sealed with their reason. Throws VALUE_REFUSED when the table
 * has more than its mapping allows; the sealed rows stay for the report.
 */
export function quarantiner(deps: Deps, { work, options, row, run }: OpenTable, ref: MoveArgs) {
  const { runId, ordinal, generation, chunk } = ref;
  const mine = and(eq(quarantine.runId, runId), eq(quarantine.ordinal, ordinal), eq(quarantine.generation, generation));
  const marked = marker(deps.sealer, run.jobId, work);
  let seen = 0;
  const store = async (rows: readonly BadRow[]): Promise<void> => {
    const columns = work.columns.map((column) => column.name);
    const marks = rows.map(marked);
    await deps.db.transaction(async (tx) => {
      const known = await seeBadRows(tx, marks, { jobId: run.jobId, runId });
      const values = rows.map((bad, i) => ({
        runId,
        ordinal,
        generation,
        chunk,
        row: bad.ordinal,
        column: bad.column ?? null,
        code: 'VALUE_REFUSED',
        native: bad.native ?? null,
        content: deps.sealer.sealJson({ columns, row: bad.row, reason: bad.reason }, quarantinePurpose),
        ...marks[i],
        ...known.get(marks[i]?.identity ?? ''),
      }));
      await tx.insert(quarantine).values(values).onConflictDoNothing();
    });
  };
  return {
    /** What an earlier attempt of this chunk set aside. */
    forget: async () => {
      seen = 0;
      await deps.db.delete(quarantine).where(and(mine, eq(quarantine.chunk, chunk)));
    },
    take: async (rows: readonly BadRow[]): Promise<void> => {
      const [others] = await deps.db
        .select({ rows: sql<number>`count(*)::int` })
        .from(quarantine)
        .where(and(mine, ne(quarantine.chunk, chunk)));
      const allowed = options.maxQuarantined - (others?.rows ?? 0);
      seen += rows.length;
      const room = Math.max(0, Math.max(allowed, kept) - (seen - rows.length));
      for (let from = 0; from < Math.min(room, rows.length); from += atOnce)
        await store(rows.slice(from, Math.min(room, from + atOnce)));
      if (seen <= allowed) return;
      const first = rows[0];
      const where = first?.column ? `, column ${first.column}` : '';
      const limit = options.maxQuarantined === 0 ? '' : ` More than ${options.maxQuarantined} such rows.`;
      throw new GodwitError(
        'VALUE_REFUSED',
        `${row.sourceName}: chunk ${chunk}, row ${first?.ordinal ?? 0}${where}: the target refused a value${first?.native ? ` (${first.native})` : ''}.${limit} The row is kept sealed with the run.`,
        {
          table: row.sourceName,
          target: row.target,
          chunk,
          ...(first?.column ? { column: first.column } : {}),
          ...(first?.native ? { native: first.native } : {}),
        },
      );
    },
  };
}

/**
 * By what a bad row is known again in a later run: its key; without one its values, and why it was refused. A constant that is
 * another in each run is no value of the row, but a snapshot has rows of its own.
 */
export function marker(
  sealer: Pick<Sealer, 'mark'>,
  jobId: string,
  { target, source, name, columns, key, mode }: Work,
): (bad: BadRow) => Mark {
  const table = [jobId, target, source.name, name];
  const own = columns.flatMap(({ constant }, i) => (constant === undefined || mode === 'dumping' ? [i] : []));
  const keys = own.filter((i) => key.includes(columns[i]?.name ?? ''));
  const at = (row: BadRow['row'], places: readonly number[]) => places.map((i) => [columns[i]?.name, row[i] ?? null]);
  return ({ row, column, native, reason }) => {
    const all = at(row, own);
    const who = keys.length > 0 ? { key: at(row, keys) } : { row: all, why: [column ?? '', native ?? reason] };
    return {
      identity: sealer.mark([...table, who], 'bad row'),
      digest: sealer.mark(all, 'values of a bad row'),
    };
  };
}
