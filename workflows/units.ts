import {
  CancellationScope,
  ChildWorkflowCancellationType,
  type ChildWorkflowHandle,
  getExternalWorkflowHandle,
  isCancellation,
  ParentClosePolicy,
  patched,
  startChild,
} from '@temporalio/workflow';
import type { RunRef, Unit } from '../activities/contract.ts';
import { control, data } from './activities.ts';
import { nameFailure } from './failure.ts';
import { pauseSignal, workflowIds } from './messages.ts';
import { table } from './table.ts';

/** What a run knows of its tables: numbers only, so that it stays small however many there are. */
export type RunMemory = {
  paused: boolean;
  readonly pausedTables: Set<number>;
  readonly failed: Set<number>;
  readonly skipped: Set<number>;
  /** Children by ordinal, and the scope that ends one table alone. */
  readonly children: Map<
    number,
    { readonly handle: ChildWorkflowHandle<typeof table>; readonly scope: CancellationScope }
  >;
};

export const newMemory = (): RunMemory => ({
  paused: false,
  pausedTables: new Set(),
  failed: new Set(),
  skipped: new Set(),
  children: new Map(),
});

/** The one table of a unit, if it is one. */
export const onlyTable = (unit: Unit) =>
  unit.kind === 'table' ? unit.ordinal : unit.from === unit.to ? unit.from : undefined;

export const keyOf = (unit: Unit) => (unit.kind === 'table' ? `${unit.ordinal}` : `${unit.from}-${unit.to}`);

/** A big table as a child workflow. Its failure is its own: recorded there, remembered here. */
export async function moveTable(
  run: RunRef,
  unit: Extract<Unit, { kind: 'table' }>,
  memory: RunMemory,
  eventLimit: number | undefined,
): Promise<readonly Unit[]> {
  const { ordinal, label } = unit;
  const scope = new CancellationScope();
  const workflowId = workflowIds.table(run.runId, ordinal, label);
  try {
    await scope.run(async () => {
      const paused = memory.paused || memory.pausedTables.has(ordinal);
      const handle = await startChild(table, {
        workflowId,
        args: [{ ...run, ordinal, label, paused, ...(eventLimit === undefined ? {} : { eventLimit }) }],
        staticSummary: label,
        cancellationType: ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
        parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
      });
      memory.children.set(ordinal, { handle, scope });
      void scope.cancelRequested.catch(() => cancelNow(workflowId));
      // The wish may have changed while the child was starting.
      const now = memory.paused || memory.pausedTables.has(ordinal);
      if (now !== paused) await handle.signal(pauseSignal, { paused: now });
      await handle.result();
    });
  } catch (error) {
    if (memory.skipped.has(ordinal)) return [];
    // Ended by the run's own cancel: whoever cancels discards. Canceled from outside: this table failed.
    if (isCancellation(error) && CancellationScope.current().consideredCancelled) throw error;
    memory.failed.add(ordinal);
    const { code, message } = isCancellation(error)
      ? { code: 'CANCELED', message: 'Its workflow was canceled by somebody.' }
      : nameFailure(error);
    await control.failTable({ ...run, ordinal, code, message });
  } finally {
    memory.children.delete(ordinal);
  }
  return [];
}

/**
 * A canceled scope asks the child's first execution only. One that has continued as new would never hear of it: this asks
 * whichever runs now. Histories from before know one request.
 */
async function cancelNow(workflowId: string): Promise<void> {
  if (!patched('cancel-continued-table')) return;
  // One that ended meanwhile needs no asking.
  await CancellationScope.nonCancellable(() => getExternalWorkflowHandle(workflowId).cancel()).catch(() => {});
}

/** Small tables in one activity; gives back what was left because of a pause. */
export async function moveGroup(
  run: RunRef,
  unit: Extract<Unit, { kind: 'group' }>,
  memory: RunMemory,
): Promise<readonly Unit[]> {
  const summary = unit.from === unit.to ? `table ${unit.from}` : `tables ${unit.from} to ${unit.to}`;
  try {
    const { failed, left } = await data(summary).moveMany({ ...run, from: unit.from, to: unit.to });
    for (const ordinal of failed) memory.failed.add(ordinal);
    return left;
  } catch (error) {
    if (isCancellation(error)) throw error;
    const { code, message } = nameFailure(error);
    for (let ordinal = unit.from; ordinal <= unit.to; ordinal++) {
      await control.failTable({ ...run, ordinal, code, message });
      memory.failed.add(ordinal);
    }
    return [];
  }
}
