/** The keeper of one exported snapshot: a session that stays in its transaction until disposed. */
import { GodwitError } from '../../errors.ts';
import type { Snapshot } from '../contract.ts';
import { listAgain, listOpen, markReader } from './pending.ts';
import { openSession, type Session } from './session.ts';
import type { PostgresAddress } from './settings.ts';
import { literal } from './sql.ts';

const wakeEvery = 60_000; // below the idle limit of the firewalls and balancers in between

/**
 * What tells two snapshots of one name apart: a restarted server gives its first one the name it gave before, and a reader
 * with the old name would read another moment without an error. The same in every session under the snapshot.
 */
const marks = `pg_current_snapshot()::text || ' ' || extract(epoch FROM pg_postmaster_start_time())::text`;

/** Begins the transaction under the token: true when it is the very snapshot the token was made for. */
export async function beginUnder(session: Session, begin: string, token: string): Promise<boolean> {
  const [name = '', ...wanted] = token.split(' ');
  const [found] = await session.query<{ marks: string }>(
    `${begin}; SET TRANSACTION SNAPSHOT ${literal(name).trim()}; SELECT ${marks} AS marks, ${markReader}`,
  );
  return found?.marks === wanted.join(' ');
}

export async function openSnapshot(address: PostgresAddress): Promise<Snapshot> {
  const session = await openSession(address);
  try {
    // The position comes before the snapshot: a change stream from there repeats some changes, and misses none.
    const [where] = await session.query<{ position: string }>(
      `SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text AS position`,
    );
    const before = await listOpen(session);
    await session.query('BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const [snapshot] = await session.query<{ token: string }>(
      `SELECT pg_export_snapshot() || ' ' || ${marks} AS token, ${markReader}`,
    );
    const pending = await listAgain(session, before);
    if (!where || !snapshot) throw new GodwitError('INTERNAL', 'PostgreSQL exported no snapshot.');

    const { promise: lost, reject } = Promise.withResolvers<never>();
    lost.catch(() => {});
    let disposed = false;
    const lose = (error: unknown) => {
      if (disposed) return;
      clearInterval(timer);
      reject(new GodwitError('SNAPSHOT_LOST', "The session that held the run's snapshot ended.", { cause: error }));
    };
    const timer = setInterval(() => {
      session.query('SELECT 1').catch((error) => {
        session.destroy();
        lose(error);
      });
    }, wakeEvery);
    timer.unref();
    session.lost.catch(lose);
    return {
      token: snapshot.token,
      position: where.position,
      takenAt: before.clock,
      pending: JSON.stringify(pending),
      consistency: 'snapshot',
      lost,
      async [Symbol.asyncDispose]() {
        disposed = true;
        clearInterval(timer);
        await session[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    session.destroy();
    throw error;
  }
}
