import type { RunStatus, TableStatus } from './schema.ts';

/** A run in one of these holds (or is about to take) its job's lease. */
export const activeStatuses = ['queued', 'planning', 'running', 'waiting', 'paused'] as const satisfies RunStatus[];
export const closedStatuses = ['succeeded', 'partial', 'failed', 'canceled', 'skipped'] as const satisfies RunStatus[];

export const isActive = (status: RunStatus): boolean => (activeStatuses as readonly RunStatus[]).includes(status);

export const closedTableStatuses = [
  'succeeded',
  'failed',
  'skipped',
  'cut off',
  'canceled',
] as const satisfies TableStatus[];
