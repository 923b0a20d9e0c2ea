import { isDeepStrictEqual } from 'node:util';
import { and, eq, sql } from 'drizzle-orm';
import type { Work } from '../connectors/contract.ts';
import { runTables, type TableOptions } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import type { Deps } from './deps.ts';
import { decide } from './plan-run.ts';
import { knownCode, loadRun, optionsOf, sealIncrement, type TableRow, theTable, withoutValues } from './state.ts';

/** Descriptions of one table in one run. Only a source whose documents change their fields all the while needs so many. */
const most = 8;

/** A document did not fit what this generation knows of its table (FIELDS_CHANGED): it must start again, described anew. */
export const isUnfit = (row: TableRow): boolean => optionsOf(row).unfit === row.generation;

/**
 * Written down for the next attempt, which starts the table again. False when this generation's own new plan is what failed:
 * that ends the table. A reader of an older generation says nothing about the newer one.
 */
export async function declareUnfit(deps: Deps, row: TableRow): Promise<boolean> {
  const [now] = await deps.db.select().from(runTables).where(theTable(row));
  if (now && now.generation === row.generation && isUnfit(now)) return false;
  await deps.db
    .update(runTables)
    .set({ options: sql`jsonb_set(${runTables.options}, '{unfit}', to_jsonb(${runTables.generation}))` })
    .where(and(theTable(row), eq(runTables.generation, row.generation)));
  return true;
}

/**
 * The table planned anew from a look at all of its documents. Throws FIELDS_CHANGED when that says what was known already
 * (going on would meet the same document again), or what now speaks against the plan.
 */
export async function replanned(
  deps: Deps,
  row: TableRow,
  epoch: number,
  signal: AbortSignal,
): Promise<Pick<TableRow, 'work' | 'increment' | 'options' | 'lane' | 'notes' | 'estimatedRows' | 'estimatedBytes'>> {
  const run = await loadRun(deps.db, { runId: row.runId, epoch });
  const { sourceName, target } = row;
  const [one] = await decide(deps, run, signal, { sourceName, target });
  if (one?.failure) throw knownCode(one.failure.code, one.failure.message);
  const before = optionsOf(row);
  const times = (before.describedAgain ?? 0) + 1;
  if (!one?.work || times > most || (times > 1 && sameDescription(one.work, row.work))) {
    const why =
      times > most ? `it was described ${most} times and still changes` : 'all documents were looked at before';
    throw new GodwitError(
      'FIELDS_CHANGED',
      `${sourceName} has a document that its description does not cover; ${why}.`,
      {
        table: sourceName,
        target,
      },
    );
  }
  const { unfit: _unfit, ...kept } = before;
  const options: TableOptions = {
    ...kept,
    why: one.why,
    ...(one.shape ? { shape: one.shape } : {}),
    describedAgain: times,
  };
  return {
    work: withoutValues(one.work),
    increment: sealIncrement(deps, one.work),
    options,
    lane: one.lane,
    notes: [...one.notes, 'described by all of its documents, after one did not fit what a sample had shown'],
    estimatedRows: Math.round(one.estimatedRows),
    estimatedBytes: Math.round(one.estimatedBytes),
  };
}

const told = (work: Work) => {
  const { columns, key, fingerprint } = work.source;
  return JSON.parse(JSON.stringify([columns, key, fingerprint, work.columns]));
};
const sameDescription = (now: Work, old: Work | null): boolean =>
  old !== null && isDeepStrictEqual(told(now), told(old));
