import type { RunStatus } from './schema.ts';

/** A run in one of these holds (or is about to take) its job's lease. */
export const activeStatuses = ['queued', 'planning', 'running', 'waiting', 'paused'] as const satisfies RunStatus[];

export const isActive = (status: RunStatus): boolean => (activeStatuses as readonly RunStatus[]).includes(status);
