/** One whole run between two systems, through the installation that the tests of workflows use. */
import { asc, eq } from 'drizzle-orm';
import { runTables } from '../../db/schema.ts';
import type { install } from '../workflow/installation.ts';

type Godwit = Awaited<ReturnType<typeof install>>;

/** Everything arrived and nothing was left out; else an Error that says of each table why. */
export async function move(godwit: Godwit, mapping: object): Promise<void> {
  const { run, result } = await godwit.begin(mapping);
  const ended = await result().catch((error: Error) => ({
    status: error.cause instanceof Error ? error.cause.message : error.message,
  }));
  const tables = await godwit.db
    .select()
    .from(runTables)
    .where(eq(runTables.runId, run.id))
    .orderBy(asc(runTables.ordinal));
  const failures = tables
    .filter((table) => table.status !== 'succeeded' || table.rowsRead !== table.rowsWritten)
    .map(
      (table) =>
        `${table.sourceName}: ${table.status} ${table.failure?.code ?? ''} ${table.failure?.message ?? ''} ${table.rowsRead} read ${table.rowsWritten} written`,
    );
  if (ended.status !== 'succeeded' || failures.length > 0)
    throw new Error(`the run ${ended.status}\n${failures.join('\n')}`);
}
