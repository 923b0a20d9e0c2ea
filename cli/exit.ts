/** Stable exit codes; docs/cli.md and scripts rely on them. */
export const exits = { succeeded: 0, failed: 1, usage: 2, partial: 3, skipped: 4, canceled: 130 } as const;

/** The exit code of a run that ended so; of one that has not (detached, paused) it is 0. */
export const exitOfRun = (status: string): number =>
  status in exits && status !== 'usage' ? exits[status as keyof typeof exits] : 0;
