/**
 * Which transactions may still commit rows that are older than a snapshot (decision 22), and whether they have ended since.
 *
 * 1. On a primary: every transaction that is open in this database, by its virtual id, whether it has written yet or not:
 *    one that only begins to write after the snapshot may give its rows the time at which it began. The list is made before the
 *    snapshot, so that what is not on it either is visible or began later than the clock that was read before the list.
 * 2. A prepared transaction has lost its virtual id, and survives a restart: it is known by its transaction id.
 * 3. A standby knows of those at the primary that have written something, and of these the oldest and the newest id alone.
 * 4. Readers of Godwit itself never write: they hold a shared advisory lock that tells them from others.
 */
import type { Watermark } from '../contract.ts';
import type { Session } from './session.ts';

/** Plain JSON without values. */
export type Pending = {
  /** When the server started: virtual ids mean nothing after that. */
  readonly server: string;
  readonly standby: boolean;
  /** 64-bit transaction ids: all below the first have ended, none from the second on had been given out. */
  readonly xmin: string;
  readonly next: string;
  /** Each with the 32-bit transaction ids it has by now. */
  readonly open: readonly { readonly id: string; readonly xids: readonly string[] }[];
  readonly prepared: readonly string[];
  /** Prepared then too, without these tables in hand. */
  readonly others?: readonly string[];
  /** By the oid of a relation: who may have rows of it in hand (`-1/xid` when prepared). */
  readonly writing?: Readonly<Record<string, readonly string[]>>;
  readonly oldest?: string;
};

export type Listed = { readonly clock: string; readonly pending: Omit<Pending, 'next'> };

/** `GDWT`. In every transaction of Godwit that only reads. */
const mark = 0x47445754;
export const markReader = `pg_try_advisory_xact_lock_shared(${mark}, 1)`;

const iso = (instant: string): string => `to_char(${instant}, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

const writeLocks = `('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`;
const holders = (locks: string): string => `
  SELECT json_object_agg(relation, ids) FROM (
    SELECT relation, json_agg(DISTINCT virtualtransaction) AS ids FROM ${locks}
    WHERE locktype = 'relation' AND relation >= 16384 AND mode IN ${writeLocks} AND pid IS DISTINCT FROM pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY relation) w`;

/**
 * The clock, then who is open. A standby's clock is that of the last commit it has replayed: what was committed at the
 * primary since then is not here yet.
 */
export async function listOpen(session: Session): Promise<Listed> {
  const [time] = await session.query<{ clock: string; standby: boolean }>(
    `SELECT ${iso(`CASE WHEN pg_is_in_recovery()
       THEN least(clock_timestamp(), coalesce(pg_last_xact_replay_timestamp(), clock_timestamp())) ELSE clock_timestamp() END`)} AS clock,
     pg_is_in_recovery() AS standby`,
  );
  // Who has which lock is one moment of the server, who may be told of a session another: that only names what is left out.
  const [row] = await session.query<
    Omit<Pending, 'standby' | 'next' | 'writing' | 'oldest'> & {
      writing: Pending['writing'] | null;
      oldest: string | null;
    }
  >(`
WITH held AS MATERIALIZED (SELECT * FROM pg_locks WHERE granted),
xid AS (
  SELECT virtualtransaction AS id, json_agg(transactionid::text) AS xids FROM held
  WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' GROUP BY virtualtransaction
),
reader AS (SELECT pid FROM held WHERE locktype = 'advisory' AND classid = ${mark} AND objid = 1 AND objsubid = 2),
open AS (
  SELECT v.virtualtransaction AS id, coalesce(x.xids, '[]') AS xids, a.xact_start
  FROM held v LEFT JOIN xid x ON x.id = v.virtualtransaction LEFT JOIN pg_stat_activity a ON a.pid = v.pid
  WHERE v.locktype = 'virtualxid' AND v.mode = 'ExclusiveLock' AND v.pid <> pg_backend_pid()
    AND NOT EXISTS (SELECT FROM reader r WHERE r.pid = v.pid)
    AND (a.pid IS NULL OR a.usesysid IS NOT NULL
      AND (a.datid IS NULL OR a.datid = (SELECT oid FROM pg_database WHERE datname = current_database())))
)
SELECT extract(epoch FROM pg_postmaster_start_time())::text AS server,
  pg_snapshot_xmin(pg_current_snapshot())::text AS xmin,
  (SELECT coalesce(json_agg(json_build_object('id', id, 'xids', xids)), '[]') FROM open) AS open,
  (SELECT coalesce(json_agg(transaction::text), '[]') FROM pg_prepared_xacts WHERE database = current_database()) AS prepared,
  (${holders('held')}) AS writing, (SELECT ${iso('min(xact_start)')} FROM open) AS oldest`);
  if (!time || !row) throw new Error('PostgreSQL did not say who is open');
  const { writing, oldest, ...common } = row;
  const pending = {
    ...common,
    standby: time.standby,
    ...(writing ? { writing } : {}),
    ...(oldest === null ? {} : { oldest }),
  };
  return { clock: time.clock, pending };
}

/**
 * Within the transaction whose snapshot followed the list: who took a table to write between the two, and where the snapshot
 * ends. (Without the second look a key that was taken in that moment would rest on the `recheck` window alone.)
 */
export async function listAgain(session: Session, { pending }: Listed): Promise<Pending> {
  const [row] = await session.query<{ writing: Pending['writing'] | null; next: string }>(
    `${findNext}; SELECT (${holders('(SELECT * FROM pg_locks WHERE granted) held')}) AS writing, current_setting('godwit.next') AS next`,
  );
  const both = [pending.writing ?? {}, row?.writing ?? {}];
  const relations = new Set(both.flatMap(Object.keys));
  const writing = Object.fromEntries(
    [...relations].map((relation) => [relation, [...new Set(both.flatMap((one) => one[relation] ?? []))]]),
  );
  return { ...pending, next: row?.next ?? pending.xmin, ...(relations.size > 0 ? { writing } : {}) };
}

/**
 * The next transaction id that is given out, which no function tells on a standby: a snapshot ends behind the last one that has
 * ended, and those beyond may be under way. The first whose status is refused as one of the future.
 */
const findNext = `DO $$
DECLARE low int8 := pg_snapshot_xmax(pg_current_snapshot())::text; high int8; probe int8; step int8 := 0;
BEGIN
  WHILE high IS NULL OR low < high LOOP
    probe := CASE WHEN high IS NULL THEN low + step ELSE (low + high) / 2 END;
    BEGIN
      PERFORM pg_xact_status(probe::text::xid8);
      low := probe + 1;
      step := step * 2 + 1;
    EXCEPTION WHEN invalid_parameter_value THEN
      high := probe;
    END;
  END LOOP;
  PERFORM set_config('godwit.next', low::text, true);
END $$`;

/** All that may commit a row with an older bookmark; undefined when nobody can. */
export function openToBookmarks({ writing: _, oldest: _o, ...pending }: Pending): Pending | undefined {
  const some = pending.standby
    ? BigInt(pending.xmin) < BigInt(pending.next)
    : pending.open.length + pending.prepared.length > 0;
  return some ? pending : undefined;
}

/** Those that have these relations (the table, its partitions, its sequences) in hand; undefined when nobody has. */
export function openToKeys(pending: Pending, relations: readonly number[]): Pending | undefined {
  // A standby is not told who locks what at the primary.
  if (pending.standby) return openToBookmarks(pending);
  const ids = new Set(relations.flatMap((relation) => pending.writing?.[relation] ?? []));
  if (ids.size === 0) return undefined;
  const { writing: _, oldest: _o, ...common } = pending;
  const known = new Map(pending.open.map((one) => [one.id, one]));
  const live = [...ids].filter((id) => !id.startsWith('-1/'));
  const open = live.map((id) => known.get(id) ?? { id, xids: [] });
  const prepared = [...ids].filter((id) => id.startsWith('-1/')).map((id) => id.slice(3));
  return { ...common, open, prepared, others: common.prepared.filter((xid) => !prepared.includes(xid)) };
}

/** `Watermark.active`: who is open, for `ended` to look them up. Of before the snapshot too: who has ended by then is visible. */
export const activeOf = ({ writing: _, oldest: _o, ...pending }: Pending): Pending => pending;

/** Have all of `earlier.open` ended before the snapshot of `now`? What cannot be told has not. */
export function ended(earlier: Watermark, now: Watermark): boolean {
  const then = earlier.open as Pending | undefined;
  const present = now.active as Pending | undefined;
  if (!then) return true;
  if (!present) return false;
  if (then.standby || present.standby) return BigInt(present.xmin) >= BigInt(then.next);
  const open = new Set(present.open.map((one) => one.id));
  if (then.server === present.server && then.open.some((one) => open.has(one.id))) return false;
  const mine = new Set([...then.prepared, ...then.open.flatMap((one) => one.xids)]);
  if (present.prepared.some((xid) => mine.has(xid))) return false;
  // One that had written nothing then, and was prepared since, cannot be told from others prepared since.
  const unknown = then.open.some((one) => one.xids.length === 0);
  return !unknown || present.prepared.every((xid) => then.others?.includes(xid));
}
