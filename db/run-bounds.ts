/** What a run was asked for and what its tables followed, as far as it may hold key values: sealed at rest (decision 28). */
import { and, asc, eq, gt, isNotNull, or, sql } from 'drizzle-orm';
import type { Increment, TableState } from '../connectors/contract.ts';
import type { Sealer } from '../secrets/seal.ts';
import type { Executor } from './open.ts';
import { type Page, type PageWish, pageOf, readCursor } from './paging.ts';
import { type RunBounds, type RunRequest, runs, runTables } from './schema.ts';

const boundsPurpose = 'run bounds';
/** Of `run_tables.increment`. */
export const incrementPurpose = 'increment';

export const sealBounds = (sealer: Sealer, bounds: RunBounds): Buffer => sealer.sealJson(bounds, boundsPurpose);
export const openBounds = (sealer: Sealer, sealed: Buffer): RunBounds => sealer.openJson(sealed, boundsPurpose);

/** From where to where a table was read; values as texts. */
export type OpenedBounds = {
  readonly ordinal: number;
  readonly sourceName: string;
  readonly target: string;
  readonly step: string | null;
  readonly column: string | null;
  readonly by: 'bookmark' | 'key' | null;
  readonly from: string | null;
  readonly upto: string | null;
  readonly where: RunBounds['where'] | null;
};

/** Of tables of the incremental modes. Whoever calls this writes an audit line first. */
export async function openTableBounds(
  db: Executor,
  sealer: Sealer,
  { runId, ordinal, limit, cursor }: PageWish & { readonly runId: string; readonly ordinal?: number },
): Promise<Page<OpenedBounds>> {
  const { ordinal: number, sourceName, target, step, increment } = runTables;
  const rows = await db
    .select({ ordinal: number, sourceName, target, step, increment })
    .from(runTables)
    .where(
      and(
        eq(runTables.runId, runId),
        or(isNotNull(increment), isNotNull(step)),
        ordinal === undefined ? undefined : eq(number, ordinal),
        cursor === undefined ? undefined : gt(number, readCursor(cursor, ['number'])[0]),
      ),
    )
    .orderBy(asc(number))
    .limit(limit + 1);
  const { items, ...rest } = pageOf(rows, limit, (row) => [row.ordinal]);
  return { items: items.map(({ increment: sealed, ...row }) => ({ ...row, ...opened(sealer, sealed) })), ...rest };
}

type Sealed = { readonly increment?: Increment; readonly state?: TableState };

/** A load has no range: it reads all there is, up to what is remembered after it. */
function opened(
  sealer: Sealer,
  sealed: Buffer | null,
): Pick<OpenedBounds, 'column' | 'by' | 'from' | 'upto' | 'where'> {
  const { increment, state } = sealed ? sealer.openJson<Sealed>(sealed, incrementPurpose) : {};
  const { range } = increment ?? {};
  const latest = state?.pending ?? state?.settled;
  return {
    column: range?.column ?? state?.follow.column ?? null,
    by: state?.follow.by ?? null,
    from: range?.from ?? null,
    upto: range?.upto ?? latest?.upto ?? null,
    where: increment?.where ?? null,
  };
}

/** What was asked of the run beside its document. */
export async function openRunBounds(
  db: Executor,
  sealer: Sealer,
  runId: string,
): Promise<{ readonly request: RunRequest | null; readonly bounds: RunBounds | null }> {
  const [found] = await db
    .select({ request: runs.request, sealed: runs.requestBounds })
    .from(runs)
    .where(sql`${runs.id} = ${runId}::uuid`);
  return { request: found?.request ?? null, bounds: found?.sealed ? openBounds(sealer, found.sealed) : null };
}
