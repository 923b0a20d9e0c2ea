import { readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';

/** The named points at which fault tests stop a process. */
export type FaultPoint =
  | 'after-read'
  | 'before-commit'
  | 'between-checkpoint-and-commit'
  | 'after-commit'
  /** The chunk is durable and recorded; Temporal does not know yet. */
  | 'before-answer'
  | 'in-swap'
  | 'after-swap'
  | 'before-manifest'
  | 'in-publish';

const folder = process.env.GODWIT_FAULT_FOLDER;

/**
 * Does nothing unless GODWIT_FAULT_FOLDER is set (tests only). A file named after the point there holds a signal
 * (`SIGKILL`, `SIGSTOP`, `SIGTERM`); whoever takes the file first sends it to itself. Synchronous: nothing runs between
 * the point and the signal.
 */
export function reach(point: FaultPoint): void {
  if (folder === undefined) return;
  const armed = join(folder, point);
  const taken = `${armed}.taken.${process.pid}.${process.hrtime.bigint()}`;
  try {
    renameSync(armed, taken);
  } catch {
    return;
  }
  process.kill(process.pid, readFileSync(taken, 'utf8').trim() as NodeJS.Signals);
}
