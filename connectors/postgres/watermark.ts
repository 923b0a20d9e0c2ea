/** How far a table is, for the incremental modes (`Source.watermark`). */
import { GodwitError } from '../../errors.ts';
import { type Follow, type Table, tableText, type Watermark, type WatermarkOptions } from '../contract.ts';
import type { LogicalKind } from '../types.ts';
import { postgresExtras } from './extras.ts';
import { comparable, type KeyColumn, keyColumns, keysSelect } from './keys.ts';
import { activeOf, listAgain, listOpen, openToBookmarks, openToKeys, type Pending } from './pending.ts';
import type { SessionPool } from './pool.ts';
import type { Session } from './session.ts';
import { assertUnchanged, beginRead, from } from './transaction.ts';

/** Throws TYPE_REFUSED, SNAPSHOT_LOST, SOURCE_CHANGED. */
export async function takeWatermark(
  pool: SessionPool,
  table: Table,
  follow: Follow,
  options: WatermarkOptions,
): Promise<Watermark> {
  const [column] = keyColumns(table, [follow.column]);
  if (!column || !followed(follow).includes(column.type.kind)) throw refused(table, follow);
  const session = await pool.take();
  const stop = () => session.destroy();
  options.signal.addEventListener('abort', stop, { once: true });
  try {
    options.signal.throwIfAborted();
    const given = givenOf(options);
    const before = given ?? (await listOpen(session));
    await beginRead(session, options.snapshot);
    const pending = given?.pending ?? (await listAgain(session, before));
    await assertUnchanged(session, table, [column.name]);
    const taken = await takenOf(session, table, { follow, column, pending, recheck: options.recheck });
    await session.query('COMMIT');
    await pool.give(session);
    return { ...taken, clock: before.clock, active: activeOf(pending) };
  } catch (error) {
    session.destroy();
    throw options.signal.aborted ? options.signal.reason : error;
  } finally {
    options.signal.removeEventListener('abort', stop);
  }
}

/** Under the run's snapshot the list that was made before it; any later one would lack who committed in between. */
function givenOf({ snapshot, clock, pending }: WatermarkOptions) {
  if (snapshot.consistency === 'chunk') return undefined;
  if (clock === undefined || pending === undefined) {
    throw new GodwitError('INTERNAL', 'A snapshot of PostgreSQL was given without who was open at it.');
  }
  return { clock, pending: JSON.parse(pending) as Pending };
}

const instants: readonly LogicalKind[] = ['date', 'timestamp', 'timestamptz'];
const numbers: readonly LogicalKind[] = ['int16', 'int32', 'int64', 'decimal', 'float32', 'float64'];
const keys: readonly LogicalKind[] = ['int16', 'int32', 'int64', 'decimal', 'uuid', 'text', 'bytes', ...instants];

function followed({ by, form }: Follow): readonly LogicalKind[] {
  if (by === 'key') return keys;
  if (form === 'native') return instants;
  return form === 'text' ? ['text'] : numbers;
}

function refused(table: Table, { by, column }: Follow): GodwitError {
  const name = tableText(table.name);
  const native = table.columns.find((one) => one.name === column)?.native;
  const message = `${name} cannot be followed by its ${by} ${column}: ${native} has no order that new rows come in.`;
  return new GodwitError('TYPE_REFUSED', message, { table: name, column });
}

type Taking = {
  readonly follow: Follow;
  readonly column: KeyColumn;
  readonly pending: Pending;
  readonly recheck: number;
};

async function takenOf(session: Session, table: Table, taking: Taking): Promise<Omit<Watermark, 'clock'>> {
  const { follow, column, pending } = taking;
  if (follow.by === 'bookmark') {
    // Only the worker can compare texts that stand for instants.
    const upto = follow.form === 'text' ? undefined : await fromTop(session, table, column, 0);
    const open = openToBookmarks(pending);
    const { oldest } = pending;
    return { ...(upto === undefined ? {} : { upto }), ...(oldest ? { oldest } : {}), ...(open ? { open } : {}) };
  }
  const upto = await fromTop(session, table, column, 0);
  const recheck = Math.max(taking.recheck, await handedOut(session, table, column.name));
  const floor = upto === undefined ? undefined : await fromTop(session, table, column, recheck);
  const open =
    pending.writing || pending.standby ? openToKeys(pending, await inHand(session, table, column.name)) : undefined;
  return {
    ...(upto === undefined ? {} : { upto }),
    ...(floor === undefined ? {} : { floor }),
    ...(open ? { open } : {}),
  };
}

/** The value that lies so many rows below the greatest; undefined when there are not so many. NULLs do not count. */
async function fromTop(session: Session, table: Table, column: KeyColumn, offset: number): Promise<string | undefined> {
  const by = comparable(column);
  const [row] = await session.query<Record<string, string>>(
    `SELECT ${keysSelect([column]).list} FROM ${from(table)} WHERE ${by} IS NOT NULL ORDER BY ${by} DESC OFFSET ${offset} LIMIT 1`,
  );
  return Object.values(row ?? {})[0];
}

/** How many keys sessions may hold that are not in the table yet: each as many as its sequence caches. */
async function handedOut(session: Session, table: Table, column: string): Promise<number> {
  const cache = Number(postgresExtras(table)?.columns[column]?.sequence?.cache ?? 1);
  if (!(cache > 1)) return 0;
  const [row] = await session.query<{ sessions: number }>(
    `SELECT current_setting('max_connections')::int4 AS sessions`,
  );
  return Math.min(cache * (row?.sessions ?? 100), 10_000_000);
}

/**
 * Whose locks say that somebody has rows of this table in hand: the table, its partitions at every level, and the sequence, from
 * which a key may be taken long before its row is written.
 */
async function inHand(session: Session, table: Table, column: string): Promise<readonly number[]> {
  const extras = postgresExtras(table);
  if (!extras) return [];
  const sequence = extras.columns[column]?.sequence?.name;
  const [row] = await session.query<{ oids: number[] | null }>(
    `SELECT json_agg(oid) AS oids FROM (
       SELECT relid::oid::int8 AS oid FROM pg_partition_tree($1::oid)
       UNION SELECT c.oid::int8 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $2 AND c.relname = $3 AND c.relkind = 'S') x`,
    [extras.oid, sequence?.schema ?? null, sequence?.name ?? null],
  );
  return [...new Set([extras.oid, ...extras.relations, ...(row?.oids ?? [])])];
}
