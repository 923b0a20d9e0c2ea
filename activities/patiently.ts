import { ApplicationFailure } from '@temporalio/common';
import type { Deps } from './deps.ts';
import { ours } from './failures.ts';
import { declareUnfit } from './replan.ts';
import { declareLost } from './snapshot-loss.ts';
import { inTable, type RunRow, remember, type TableRow, wait } from './state.ts';

/**
 * What a failure in moving a table means. Cases: 1 canceled, stopping, or settled deeper down: nothing is noted; 2 FENCED
 * by another attempt at the same chunk; this one is the latest, so it looks again shortly; 3 the snapshot is gone: written
 * down, the next attempt settles what follows, as it does when a document does not fit its description; 4 transient: the table shows why it waits, until its job gives up;
 * 5 permanent: where it happened is written down, only code and sentence travel through Temporal.
 */
export async function patiently<R>(
  deps: Deps,
  run: RunRow,
  row: TableRow,
  signal: AbortSignal,
  work: () => Promise<R>,
): Promise<R> {
  try {
    return await work();
  } catch (thrown) {
    if (signal.aborted || thrown instanceof ApplicationFailure) throw thrown;
    const error = ours(thrown);
    if (error.code === 'FENCED' && error.where.chunk !== undefined) {
      throw ApplicationFailure.create({ type: 'FENCED', message: error.message, nextRetryDelay: '1s' });
    }
    if (error.code === 'SNAPSHOT_LOST') {
      await declareLost(deps, row);
      throw ApplicationFailure.create({ type: 'SNAPSHOT_LOST', message: error.message, nextRetryDelay: '100ms' });
    }
    if (error.code === 'FIELDS_CHANGED' && (await declareUnfit(deps, row))) {
      throw ApplicationFailure.create({ type: 'FIELDS_CHANGED', message: error.message, nextRetryDelay: '100ms' });
    }
    const end = error.retryable ? await wait(deps, run, row, error) : error;
    if (!end) throw error;
    const located = inTable(end, row);
    await remember(deps.db, row, located);
    throw located;
  }
}
