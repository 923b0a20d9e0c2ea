/** The rows lane towards a database: what the mapping says of values that the target's type cannot hold. */
import type { Holds, PlanColumn, RowsBatch } from '../connectors/contract.ts';
import type { Row, Value } from '../connectors/types.ts';
import { holds, nearest, type Test } from './holds.ts';

/**
 * `null` and `clamp` mend a value here that the target cannot hold, whatever the source could do about it itself. What stays as
 * it is (`stop`, `quarantine`, a clamp that has no nearest value) the target refuses, row by row.
 */
export async function* mended(
  batches: AsyncIterable<RowsBatch>,
  columns: readonly PlanColumn[],
  holder: Holds,
): AsyncGenerator<RowsBatch> {
  const menders = columns.flatMap((column, at): Mender[] => {
    const test = mends(column) ? holds(column.type, holder) : undefined;
    return test ? [{ at, column, test, holder }] : [];
  });
  for await (const batch of batches) {
    yield menders.length === 0 ? batch : { kind: 'rows', rows: batch.rows.map((row) => mend(row, menders)) };
  }
}

/** Is there anything to mend in rows of these columns? */
export const mends = ({ fit, misfit, shape }: PlanColumn): boolean =>
  fit === 'checked' && shape === 'native' && (misfit === 'null' || misfit === 'clamp');

type Mender = { readonly at: number; readonly column: PlanColumn; readonly test: Test; readonly holder: Holds };

function mend(row: Row, menders: readonly Mender[]): Row {
  let copy: Value[] | undefined;
  for (const { at, column, test, holder } of menders) {
    const value = row[at] ?? null;
    if (value === null || test(value)) continue;
    copy ??= [...row];
    copy[at] = column.misfit === 'null' ? null : (nearest(value, column.type, holder.years) ?? value);
  }
  return copy ?? row;
}
