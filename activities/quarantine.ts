import { and, eq, ne, sql } from 'drizzle-orm';
import type { BadRow } from '../connectors/contract.ts';
import { quarantinePurpose } from '../db/quarantine.ts';
import { quarantine } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import type { MoveArgs } from './contract.ts';
import type { Deps } from './deps.ts';
import type { OpenTable } from './state.ts';

/** Of one chunk beyond the threshold: enough for a report. */
const kept = 100;

/**
 * Takes bad rows before the commit that leaves them out: sealed with their reason. Throws VALUE_REFUSED when the table
 * has more than its mapping allows; the sealed rows stay for the report.
 */
export function quarantiner(deps: Deps, { work, options, row }: OpenTable, ref: MoveArgs) {
  const { runId, ordinal, generation, chunk } = ref;
  const mine = and(eq(quarantine.runId, runId), eq(quarantine.ordinal, ordinal), eq(quarantine.generation, generation));
  let seen = 0;
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
      const columns = work.columns.map((column) => column.name);
      const room = Math.max(0, Math.max(allowed, kept) - (seen - rows.length));
      const values = rows.slice(0, room).map((bad) => ({
        runId,
        ordinal,
        generation,
        chunk,
        row: bad.ordinal,
        column: bad.column ?? null,
        code: 'VALUE_REFUSED',
        native: bad.native ?? null,
        content: deps.sealer.sealJson({ columns, row: bad.row, reason: bad.reason }, quarantinePurpose),
      }));
      if (values.length > 0) await deps.db.insert(quarantine).values(values).onConflictDoNothing();
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
