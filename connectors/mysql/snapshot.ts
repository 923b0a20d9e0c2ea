/** What a run of MySQL has for a snapshot: a position from which changes can be followed. Every chunk reads its own moment. */
import type { Snapshot } from '../contract.ts';
import { numberOf } from './errors.ts';
import { atLeast, type Session } from './session.ts';
import type { Transactions } from './transactions.ts';
import { clockOf } from './watermark.ts';

/** Nothing is held, so nothing is lost: a consistent snapshot of one session cannot be read by another. */
export async function openSnapshot(
  session: Session,
  transactions: () => Promise<Transactions | undefined>,
): Promise<Snapshot> {
  const position = await positionOf(session);
  const takenAt = await clockOf(session);
  // After the clock: who is not in it began later.
  // Modes that follow nothing need none; those that do ask again.
  const pending = await transactions().catch(() => undefined);
  return {
    token: '',
    position: position ?? '',
    takenAt,
    ...(pending ? { pending: JSON.stringify(pending) } : {}),
    consistency: 'chunk',
    lost: new Promise<never>(() => {}),
    async [Symbol.asyncDispose]() {},
  };
}

/**
 * The set of GTIDs, else `file:position` of the binary log; undefined when neither is kept or may be seen. Taken before
 * any row is read: a change stream from there repeats some changes, and misses none.
 */
export async function positionOf(session: Session): Promise<string | undefined> {
  const [row] = await session.query<{ gtids: string | null }>(
    `SELECT ${session.flavor === 'mariadb' ? '@@GLOBAL.gtid_current_pos' : '@@GLOBAL.gtid_executed'} AS gtids`,
  );
  const gtids = row?.gtids?.replaceAll(/\s/g, '');
  if (gtids) return gtids;
  const newer = atLeast(session, { mysql: [8, 2], mariadb: [10, 5, 2] });
  const statement = !newer
    ? 'SHOW MASTER STATUS'
    : session.flavor === 'mysql'
      ? 'SHOW BINARY LOG STATUS'
      : 'SHOW BINLOG STATUS';
  try {
    const [log] = await session.query<{ File: string; Position: number | string }>(statement);
    return log ? `${log.File}:${log.Position}` : undefined;
  } catch (error) {
    if (numberOf(error) !== 1227 && numberOf(error) !== 1381) throw error;
    return undefined;
  }
}
