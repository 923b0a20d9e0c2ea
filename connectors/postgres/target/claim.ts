/** One chunk's epoch and checkpoint in the ledger (decision 10). */
import { GodwitError } from '../../../errors.ts';
import { type Checkpoint, type Chunk, type Claim, type Counts, tableText, type Work } from '../../contract.ts';
import { sqlstate } from '../errors.ts';
import type { SessionPool } from '../pool.ts';
import type { Session } from '../session.ts';
import { endBackend, notPrepared, ofWork } from './ledger.ts';
import { keyOf } from './names.ts';

const countColumns =
  'rows_read, rows_written, rows_filtered, rows_quarantined, bytes, rows_unchanged, rows_inserted, rows_updated, rows_deleted';
type CountRow = {
  rows_read: string;
  rows_written: string;
  rows_filtered: string;
  rows_quarantined: string;
  bytes: string;
  rows_unchanged: string | null;
  rows_inserted: string | null;
  rows_updated: string | null;
  rows_deleted: string | null;
};
const maybe = (name: 'unchanged' | 'inserted' | 'updated' | 'deleted', value: string | null) =>
  value === null ? {} : { [name]: Number(value) };
const countsOf = (row: CountRow): Counts => ({
  read: Number(row.rows_read),
  written: Number(row.rows_written),
  filtered: Number(row.rows_filtered),
  quarantined: Number(row.rows_quarantined),
  bytes: Number(row.bytes),
  ...maybe('unchanged', row.rows_unchanged),
  ...maybe('inserted', row.rows_inserted),
  ...maybe('updated', row.rows_updated),
  ...maybe('deleted', row.rows_deleted),
});

type Claimed = CountRow & {
  epoch: string;
  done: boolean;
  bounds: string | null;
  pid: number | null;
  started: string | null;
};

const tries = 5;

/**
 * Ends an older attempt's backend by the number it left: it may hold locks, this very row too (its checkpoint written but
 * not committed), and it may still win that race; then the chunk is done. Then raises the epoch, so that the older attempt
 * can commit nothing any more, by whatever connection.
 */
export async function claimChunk(pool: SessionPool, work: Work, chunk: Chunk): Promise<Claim> {
  return await pool.use(async (session) => {
    for (let n = 1; ; n++) {
      await endHolder(session, work, chunk);
      try {
        return await claimOnce(session, work, chunk);
      } catch (error) {
        // Somebody registered between the two: once more.
        if (sqlstate(error) !== '55P03' || n === tries) throw error;
      }
    }
  });
}

async function claimOnce(session: Session, work: Work, chunk: Chunk): Promise<Claim> {
  // The old attempt's backend is read before the update clears it. Nothing is inserted for a work that was discarded.
  const [row] = await session.query<Claimed>(
    `WITH live AS (SELECT 1 FROM _godwit.work WHERE ${ofWork}),
       before AS (SELECT pid, backend_start FROM _godwit.chunk WHERE ${ofWork} AND chunk = $8 FOR UPDATE)
     INSERT INTO _godwit.chunk AS c (installation, job_uid, target, run, schema_name, table_name, generation, chunk, epoch, kind, bounds, estimated_rows)
     SELECT $1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10::jsonb, $11::float8 FROM live
     ON CONFLICT (installation, job_uid, target, run, schema_name, table_name, generation, chunk) DO UPDATE
       SET epoch = c.epoch + CASE WHEN c.done THEN 0 ELSE 1 END, pid = NULL, backend_start = NULL
     RETURNING c.epoch::text, c.done, (c.bounds IS NOT DISTINCT FROM $10::jsonb)::text AS bounds, ${countColumns
       .split(', ')
       .map((name) => `c.${name}::text`)
       .join(', ')}, (SELECT pid FROM before) AS pid, (SELECT backend_start::text FROM before) AS started`,
    [...keyOf(work), chunk.id, chunk.kind, JSON.stringify(chunk.bounds ?? null), chunk.rows],
  );
  if (!row) throw notPrepared(work);
  if (row.bounds !== 'true') {
    // Never silently the rows of another range: the caller's chunks are not those this work was begun with.
    const where = { table: tableText(work.name), chunk: chunk.id, target: work.target };
    throw new GodwitError('INTERNAL', `Chunk ${chunk.id} of ${where.table} was begun with other bounds.`, where);
  }
  // Who made it durable goes on with other chunks by the same backend.
  if (!row.done && row.pid && row.started) await endBackend(session, row.pid, row.started);
  const claim = { chunk, epoch: Number(row.epoch) };
  return row.done ? { ...claim, done: countsOf(row) } : claim;
}

async function endHolder(session: Session, work: Work, chunk: Chunk): Promise<void> {
  const [row] = await session.query<{ pid: number | null; started: string | null }>(
    `SELECT pid, backend_start::text AS started FROM _godwit.chunk WHERE ${ofWork} AND chunk = $8 AND NOT done`,
    [...keyOf(work), chunk.id],
  );
  if (row?.pid && row.started) await endBackend(session, row.pid, row.started);
}

/** Leaves the writer's backend on the chunk, for whoever claims it next. Throws FENCED when that happened already. */
export async function register(session: Session, work: Work, claim: Claim): Promise<{ started: string }> {
  const [row] = await session.query<{ started: string }>(
    `UPDATE _godwit.chunk SET pid = pg_backend_pid(),
       backend_start = (SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid()))
     WHERE ${ofWork} AND chunk = $8 AND epoch = $9 AND NOT done RETURNING backend_start::text AS started`,
    [...keyOf(work), claim.chunk.id, claim.epoch],
  );
  if (!row) throw fenced(work, claim);
  return row;
}

/** The last statement before COMMIT. Throws FENCED when the epoch has moved on: the transaction must not commit. */
export async function writeCheckpoint(session: Session, work: Work, claim: Claim, counts: Counts): Promise<void> {
  const updated = await session.query(
    `UPDATE _godwit.chunk SET done = true, done_at = now(),
       (${countColumns}) = ($10::int8, $11::int8, $12::int8, $13::int8, $14::int8, $15::int8, $16::int8, $17::int8, $18::int8)
     WHERE ${ofWork} AND chunk = $8 AND epoch = $9 AND NOT done RETURNING 1`,
    [
      ...keyOf(work),
      claim.chunk.id,
      claim.epoch,
      counts.read,
      counts.written,
      counts.filtered,
      counts.quarantined,
      counts.bytes,
      counts.unchanged ?? null,
      counts.inserted ?? null,
      counts.updated ?? null,
      counts.deleted ?? null,
    ],
  );
  if (updated.length === 0) throw fenced(work, claim);
}

/** What is durable for this claim: its counts, or undefined when its transaction was rolled back. */
export async function durable(session: Session, work: Work, claim: Claim): Promise<Counts | undefined> {
  const [row] = await session.query<CountRow & { epoch: string; done: boolean }>(
    `SELECT epoch::text, done, ${countColumns} FROM _godwit.chunk WHERE ${ofWork} AND chunk = $8`,
    [...keyOf(work), claim.chunk.id],
  );
  return row?.done && Number(row.epoch) === claim.epoch ? countsOf(row) : undefined;
}

export const fenced = (work: Work, claim: Claim): GodwitError => {
  const table = tableText(work.name);
  const message = `${table}, chunk ${claim.chunk.id}: a newer attempt took over; this one wrote nothing.`;
  return new GodwitError('FENCED', message, { table, chunk: claim.chunk.id, target: work.target });
};

const page = 1000;

export async function* checkpointsOf(pool: SessionPool, work: Work): AsyncGenerator<Checkpoint> {
  for (let after = 0; ; ) {
    const rows = await pool.use((session) =>
      session.query<
        CountRow & { chunk: number; kind: Chunk['kind']; bounds: string; rows: number; epoch: string; done: boolean }
      >(
        `SELECT chunk, kind, bounds::text AS bounds, estimated_rows AS rows, epoch::text, done, ${countColumns}
         FROM _godwit.chunk WHERE ${ofWork} AND chunk > $8 ORDER BY chunk LIMIT ${page}`,
        [...keyOf(work), after],
      ),
    );
    for (const row of rows) {
      const chunk = { id: row.chunk, kind: row.kind, bounds: JSON.parse(row.bounds), rows: row.rows };
      yield { chunk, epoch: Number(row.epoch), done: row.done, counts: countsOf(row) };
      after = row.chunk;
    }
    if (rows.length < page) return;
  }
}
