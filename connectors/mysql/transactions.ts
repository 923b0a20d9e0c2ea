/** Who may still commit what nobody sees yet (decision 22), for a login that may see it: PROCESS. */
import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { GodwitError } from '../../errors.ts';
import type { TableName } from '../contract.ts';
import { numberOf } from './errors.ts';
import type { SessionPool } from './pool.ts';
import { atLeast, type Session } from './session.ts';

/** Plain JSON. */
export type Transactions = {
  /** All that are open, by their connection and when they began: what they keep, whether or not they write. */
  readonly active: readonly string[];
  /** Those that may write. */
  readonly open: readonly string[];
  /** When the oldest of `open` began; ISO 8601 in UTC. */
  readonly oldest?: string;
  /** Those that have written or locked something, by their number, which they keep from then on. */
  readonly writers: readonly string[];
};

/**
 * Asked again within a tenth of a second InnoDB gives what it gave before, and its clock starts again with each question
 * (CACHE_MIN_IDLE_TIME): so the answer must show this very statement, else it is an old one.
 */
const idleMs = 110;
const tries = 30;

type Flag = number | string;
type Row = { id: string; number: string; started: string; may: Flag; writes: Flag; fresh: Flag };

/** Undefined when the login may not see them. */
async function listed(session: Session): Promise<Transactions | undefined> {
  for (let n = 1; ; n++) {
    const mark = randomUUID();
    await session.run('START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY');
    let rows: Row[];
    try {
      rows = await session.query(
        `SELECT /* ${mark} */ CONCAT(trx_mysql_thread_id, ' ', trx_started, IF(trx_mysql_thread_id = 0, trx_id, '')) AS id,
           CAST(trx_id AS CHAR) AS number,
           DATE_FORMAT(trx_started, '%Y-%m-%dT%H:%i:%s.000000Z') AS started,
           trx_is_read_only = 0 AS may, trx_rows_modified > 0 OR trx_tables_locked > 0 AS writes,
           trx_mysql_thread_id = CONNECTION_ID() AND COALESCE(trx_query, '') LIKE '%${mark}%' AS fresh
         FROM information_schema.innodb_trx`,
      );
    } catch (error) {
      if (numberOf(error) === 1227 || numberOf(error) === 1142 || numberOf(error) === 1109) return undefined;
      throw error;
    } finally {
      await session.run('COMMIT').catch(() => {});
    }
    if (rows.some((row) => Number(row.fresh) === 1)) {
      const others = rows.filter((row) => Number(row.fresh) !== 1);
      const open = others.filter((row) => Number(row.may) === 1);
      const [oldest] = open.map((row) => row.started).sort();
      return {
        active: others.map((row) => row.id),
        open: open.map((row) => row.id),
        ...(oldest === undefined ? {} : { oldest }),
        writers: open.filter((row) => Number(row.writes) === 1).map((row) => row.number),
      };
    }
    if (n === tries) {
      throw new GodwitError(
        'SERVER_BUSY',
        'The server tells no news of its transactions: something asks for them all the time.',
      );
    }
    await setTimeout(idleMs);
  }
}

/** For all tables of a source: who asks while a list is being made gets the next one, which is made for all of them. */
export function transactionLog(pool: SessionPool): () => Promise<Transactions | undefined> {
  let running: Promise<unknown> = Promise.resolve();
  let next: Promise<Transactions | undefined> | undefined;
  return () => {
    if (next) return next;
    const mine = running
      .catch(() => {})
      .then(() => {
        next = undefined;
        return pool.use(listed);
      });
    next = mine;
    running = mine;
    return mine;
  };
}

/**
 * The numbers of those that hold a lock to write into this very table, as performance_schema tells it at once (MySQL 8); undefined where it
 * does not.
 */
export async function writersOf(session: Session, { schema, name }: TableName): Promise<readonly string[] | undefined> {
  if (!atLeast(session, { mysql: [8, 0, 1] })) return undefined;
  try {
    const rows = await session.query<{ id: string | number }>(
      `SELECT DISTINCT CAST(ENGINE_TRANSACTION_ID AS CHAR) AS id FROM performance_schema.data_locks
       WHERE OBJECT_SCHEMA = ? AND OBJECT_NAME = ? AND LOCK_TYPE = 'TABLE' AND LOCK_MODE NOT IN ('IS', 'S')`,
      [schema, name],
    );
    return rows.map((row) => String(row.id));
  } catch (error) {
    if (error instanceof GodwitError && error.code === 'PRIVILEGE_MISSING') return undefined;
    throw error;
  }
}
