/** What the API answers, as far as the CLI shows it. */
import type { Check } from '../connectors/contract.ts';
import type { Failure, RunStatus, TableStatus } from '../db/schema.ts';

export type RunView = {
  readonly id: string;
  readonly job: string;
  readonly number: number;
  readonly status: RunStatus;
  readonly failure?: Failure | null;
  readonly attempt: number;
  readonly trigger: string;
  readonly consistency?: 'snapshot' | 'chunk' | null;
  readonly notes: readonly string[];
  readonly createdAt: string;
  readonly startedAt?: string | null;
  readonly endedAt?: string | null;
};

export type RunTableView = {
  readonly ordinal: number;
  readonly target: string;
  readonly sourceName: string;
  readonly targetName: string;
  readonly mode: string;
  readonly lane: string;
  /** Of an incremental mode. */
  readonly step?: 'load' | 'increment' | 'backfill' | null;
  readonly status: TableStatus;
  readonly failure?: Failure | null;
  readonly notes: readonly string[];
  readonly consistency: 'snapshot' | 'chunk';
  readonly estimatedRows: number;
  readonly estimatedBytes: number;
  readonly chunksTotal: number;
  readonly chunksDone: number;
  readonly rowsRead: number;
  readonly rowsWritten: number;
  readonly rowsFiltered: number;
  readonly rowsUnchanged: number;
  readonly rowsInserted: number;
  readonly rowsUpdated: number;
  readonly rowsDeleted: number;
  readonly rowsQuarantined: number;
  readonly bytes: number;
  readonly rowsMoving: number;
  readonly startedAt?: string | null;
  readonly endedAt?: string | null;
  readonly movingSince?: string | null;
};

export type EventView = {
  readonly id: number;
  readonly at: string;
  readonly level: 'info' | 'warn' | 'error';
  readonly kind: string;
  readonly message: string;
  readonly ordinal?: number | null;
};

export type CheckView = Check;

export const isClosed = (status: string): boolean =>
  ['succeeded', 'partial', 'failed', 'canceled', 'skipped'].includes(status);
export const isTableClosed = (status: string): boolean =>
  ['succeeded', 'failed', 'skipped', 'cut off', 'canceled'].includes(status);
