import { isCancellation } from '@temporalio/workflow';
import type { RunRef } from '../activities/contract.ts';
import { keeper } from './activities.ts';

/**
 * Keeps the source's snapshot for one run: an attempt that lost it (or its worker) is followed by one that opens the next
 * generation, for tables that must start again. Ends when the run has ended.
 */
export async function hold(ref: RunRef): Promise<void> {
  try {
    await keeper().hold(ref);
  } catch (error) {
    if (!isCancellation(error)) throw error;
  }
}
