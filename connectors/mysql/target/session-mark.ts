/**
 * How a session is known to others, and ended by them. A connection's number may be another's after a restart of the
 * server; a named lock that the session holds as long as it lives is its own alone, and is gone only when its
 * transaction has been committed or rolled back.
 */
import { randomUUID } from 'node:crypto';
import { GodwitError } from '../../../errors.ts';
import { numberOf } from '../errors.ts';
import type { Session } from '../session.ts';

const marks = new WeakMap<Session, string>();

/** Taken with the first call; at most 64 characters. */
export async function markOf(session: Session): Promise<string> {
  const known = marks.get(session);
  if (known !== undefined) return known;
  const mark = `godwit ${randomUUID()}`;
  const [row] = await session.query<{ got: number | null }>('SELECT GET_LOCK(?, 0) AS got', [mark]);
  if (Number(row?.got) !== 1) throw new GodwitError('SERVER_BUSY', 'The server gives no named lock just now.');
  marks.set(session, mark);
  return mark;
}

const patienceMs = 15_000;
const unknownThread = 1094;

/** Ends the session of that mark and waits until it is gone. Throws SERVER_BUSY when it does not go. */
export async function endMarked(session: Session, mark: string): Promise<void> {
  if (marks.get(session) === mark) return;
  const until = Date.now() + patienceMs;
  for (let wait = 5; ; wait = Math.min(wait * 2, 250)) {
    const [row] = await session.query<{ id: number | null }>('SELECT IS_USED_LOCK(?) AS id', [mark]);
    if (row?.id == null) return;
    try {
      await session.run(`KILL CONNECTION ${Number(row.id)}`);
    } catch (error) {
      if (numberOf(error) !== unknownThread) throw error;
    }
    if (Date.now() > until) {
      throw new GodwitError('SERVER_BUSY', 'An older attempt of Godwit still works on the target and does not end.');
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/**
 * Runs alone among all workers, by a named lock of this server. Only for what is done in a moment: a worker that keeps it
 * longer stands still, and is ended.
 */
export async function alone<T>(session: Session, name: string, work: () => Promise<T>): Promise<T> {
  const lock = `godwit ${name}`.slice(0, 64);
  if (!(await got(session, lock))) {
    await endMarked(session, lock);
    if (!(await got(session, lock))) {
      throw new GodwitError('SERVER_BUSY', 'Another worker of Godwit is preparing tables on the target.');
    }
  }
  try {
    return await work();
  } finally {
    // A session that is gone has given it back.
    await session.query('SELECT RELEASE_LOCK(?)', [lock]).catch(() => {});
  }
}

async function got(session: Session, lock: string): Promise<boolean> {
  const [row] = await session.query<{ got: number | null }>('SELECT GET_LOCK(?, 30) AS got', [lock]);
  return Number(row?.got) === 1;
}
