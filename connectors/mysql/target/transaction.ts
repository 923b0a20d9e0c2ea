/** Transactions of the target's sessions. DDL commits by itself in MySQL, so none is ever inside of one. */
import { GodwitError } from '../../../errors.ts';
import { numberOf } from '../errors.ts';
import type { Session } from '../session.ts';

/** READ COMMITTED: a lock is on the rows that are there, never on the gaps where another chunk wants to write. */
export async function begin(session: Session): Promise<void> {
  await session.run('SET TRANSACTION ISOLATION LEVEL READ COMMITTED');
  await session.run('START TRANSACTION');
}

/** All of it, or nothing; what throws leaves no transaction open. */
export async function inTransaction<T>(session: Session, work: () => Promise<T>): Promise<T> {
  await begin(session);
  try {
    const result = await work();
    await session.run('COMMIT');
    return result;
  } catch (error) {
    // A session that is gone took its transaction with it.
    await session.run('ROLLBACK').catch(() => {});
    throw error;
  }
}

const lockWait = 1205;
const deadlock = 1213;

/** Another session holds what this one needs, or the two would wait for each other: nothing was done. */
export const inTheWay = (error: unknown): boolean =>
  error instanceof GodwitError && (numberOf(error) === lockWait || numberOf(error) === deadlock);

/** Tries again, some times, what had to give way. */
export async function patiently<T>(tries: number, work: () => Promise<T>): Promise<T> {
  for (let n = 1; ; n++) {
    try {
      return await work();
    } catch (error) {
      if (!inTheWay(error) || n >= tries) throw error;
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 50 * n));
    }
  }
}
