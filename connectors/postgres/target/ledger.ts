/**
 * Schema `_godwit` on a target: who owns which table, the units of work, their chunks, and the snapshots of dumping
 * tables that are complete. It is the truth; Godwit's own database is a cache of it (decision 9). Bounds of chunks may
 * hold key values: they lie here beside the rows they come from, closed to everybody but Godwit's login.
 */
import { GodwitError } from '../../../errors.ts';
import { tableText, type Work } from '../../contract.ts';
import { sqlstate } from '../errors.ts';
import type { PostgresForeignKey } from '../extras.ts';
import type { SessionPool } from '../pool.ts';
import type { Session } from '../session.ts';
import { keyOf } from './names.ts';

const current = 2;

/** Any number nobody else uses: the lock under which the ledger and shared objects (schemas, types) are made. */
const lockNumber = '7160131943126';
export const lockLedger = `SELECT pg_advisory_xact_lock(${lockNumber})`;

const key = `installation text NOT NULL, job_uid text NOT NULL, target text NOT NULL, run text NOT NULL,
  schema_name text NOT NULL, table_name text NOT NULL, generation integer NOT NULL`;
const keyColumns = 'installation, job_uid, target, run, schema_name, table_name, generation';

const definitions = `
CREATE TABLE _godwit.version (version integer NOT NULL);
CREATE TABLE _godwit.owner (
  schema_name text NOT NULL, table_name text NOT NULL, installation text NOT NULL, job_uid text NOT NULL,
  relation oid, taken_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (schema_name, table_name));
COMMENT ON COLUMN _godwit.owner.relation IS 'The table as Godwit made it; null while none was published. Another table of that name is not ours.';
CREATE TABLE _godwit.work (
  ${key}, mode text NOT NULL, source_schema text NOT NULL, source_table text NOT NULL,
  notes jsonb NOT NULL DEFAULT '[]', pending jsonb NOT NULL DEFAULT '[]',
  pid integer, backend_start timestamptz,
  prepared_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz, published_at timestamptz,
  PRIMARY KEY (${keyColumns}));
COMMENT ON COLUMN _godwit.work.published_at IS 'Set in the transaction of the swap: how a lost answer is recognised.';
COMMENT ON COLUMN _godwit.work.pending IS 'Foreign keys still to be validated after the swap, or left out until the table they refer to is published.';
CREATE TABLE _godwit.chunk (
  ${key}, chunk integer NOT NULL,
  epoch bigint NOT NULL, pid integer, backend_start timestamptz,
  kind text NOT NULL, bounds jsonb, estimated_rows float8 NOT NULL,
  done boolean NOT NULL DEFAULT false, done_at timestamptz,
  rows_read bigint NOT NULL DEFAULT 0, rows_written bigint NOT NULL DEFAULT 0, rows_filtered bigint NOT NULL DEFAULT 0,
  rows_quarantined bigint NOT NULL DEFAULT 0, bytes bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (${keyColumns}, chunk));
CREATE TABLE _godwit.snapshot (
  installation text NOT NULL, job_uid text NOT NULL, schema_name text NOT NULL, table_name text NOT NULL,
  migration_snapshot_date timestamptz NOT NULL, run text NOT NULL, rows_written bigint NOT NULL,
  completed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (schema_name, table_name, migration_snapshot_date, installation, job_uid));
COMMENT ON TABLE _godwit.snapshot IS 'The complete snapshots of dumping tables; rows of other dates are still arriving.';
CREATE TABLE _godwit.made (
  kind text NOT NULL, schema_name text NOT NULL, name text NOT NULL, installation text NOT NULL, job_uid text NOT NULL,
  made_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (kind, schema_name, name));
COMMENT ON TABLE _godwit.made IS 'Schemas and types made for tables that are not published yet: a cancel removes them.';
INSERT INTO _godwit.version VALUES (1);`;

/** From each version to the next, each statement harmless when repeated. */
const upgrades: Readonly<Record<number, string>> = {
  1: `
ALTER TABLE _godwit.chunk ADD COLUMN IF NOT EXISTS rows_unchanged bigint, ADD COLUMN IF NOT EXISTS rows_inserted bigint,
  ADD COLUMN IF NOT EXISTS rows_updated bigint, ADD COLUMN IF NOT EXISTS rows_deleted bigint;
COMMENT ON COLUMN _godwit.chunk.rows_unchanged IS 'This one and the next two: of increments; null for chunks of a load.';
CREATE TABLE IF NOT EXISTS _godwit.state (
  installation text NOT NULL, job_uid text NOT NULL, target text NOT NULL, schema_name text NOT NULL, table_name text NOT NULL,
  relation oid NOT NULL, state json NOT NULL, remembered_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (installation, job_uid, target, schema_name, table_name));
COMMENT ON TABLE _godwit.state IS 'How far tables of incremental modes are. It holds for the table with this oid alone.';
UPDATE _godwit.version SET version = 2 WHERE version = 1;`,
};

/** Condition on one unit of work; its values are `keyOf(work)`, $1 to $7. */
export const ofWork = `(${keyColumns}) = ($1, $2, $3, $4, $5, $6, $7)`;

/** Makes the schema once per target object; idempotent and safe from several workers at once. */
export class Ledger {
  readonly #pool: SessionPool;
  #ready: Promise<void> | undefined;
  #seen = false;

  constructor(pool: SessionPool) {
    this.#pool = pool;
  }

  /** Is there one this login may read? Never makes it: planning writes nothing. */
  async exists(session: Session): Promise<boolean> {
    if (this.#seen) return true;
    const [row] = await session.query<{ there: boolean }>(
      `SELECT coalesce((SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '_godwit' AND c.relname = 'version'), false) AS there`,
    );
    this.#seen = row?.there ?? false;
    return this.#seen;
  }

  ensure(): Promise<void> {
    this.#ready ??= this.#pool.use(make).catch((error: unknown) => {
      this.#ready = undefined;
      throw error;
    });
    return this.#ready;
  }
}

async function make(session: Session): Promise<void> {
  const version = async (): Promise<number | undefined> => {
    try {
      const [row] = await session.query<{ version: number }>('SELECT version FROM _godwit.version');
      return row?.version;
    } catch (error) {
      if (sqlstate(error) === '42P01' || sqlstate(error) === '3F000') return undefined;
      throw closed(error);
    }
  };
  let found = await version();
  if (found === undefined || found < current) {
    try {
      await session.query(`BEGIN; ${lockLedger}`);
      const [there] = await session.query<{ schema: boolean; version: boolean }>(
        `SELECT to_regnamespace('_godwit') IS NOT NULL AS schema, to_regclass('_godwit.version') IS NOT NULL AS version`,
      );
      if (!there?.schema) await session.query('CREATE SCHEMA _godwit');
      if (!there?.version) await session.query(definitions);
      // Another worker may have been first.
      for (let at = (await version()) ?? current; at < current; at++) await session.query(upgrades[at] ?? '');
      await session.query('COMMIT');
    } catch (error) {
      throw closed(error);
    }
    found = await version();
  }
  if (found !== current) {
    throw new GodwitError(
      'SERVER_UNSUITABLE',
      `Schema _godwit of the target has version ${found ?? 0}; this Godwit knows ${current}. Update every worker.`,
    );
  }
}

const closed = (error: unknown): unknown =>
  sqlstate(error) === '42501'
    ? new GodwitError(
        'PRIVILEGE_MISSING',
        'The login may not make or use schema _godwit on the target: GRANT CREATE ON DATABASE to it, or ALTER SCHEMA _godwit (and its tables) OWNER TO it.',
        { native: '42501' },
      )
    : error;

export type WorkRow = {
  readonly notes: readonly string[];
  readonly pending: readonly PendingKey[];
  readonly finished: boolean;
  readonly published: boolean;
};
/** A foreign key added NOT VALID in a swap, or one that was left out. */
export type PendingKey = {
  readonly schema: string;
  readonly table: string;
  readonly constraint: string;
  /** Left out because the table it refers to (by its name at the source) was not published with this one. Own columns by their final names. */
  readonly missing?: PostgresForeignKey;
};

export async function workRow(session: Session, work: Work): Promise<WorkRow | undefined> {
  const [row] = await session.query<{ notes: string; pending: string; finished: boolean; published: boolean }>(
    `SELECT notes::text AS notes, pending::text AS pending, finished_at IS NOT NULL AS finished, published_at IS NOT NULL AS published
     FROM _godwit.work WHERE ${ofWork}`,
    keyOf(work),
  );
  return row && { ...row, notes: JSON.parse(row.notes), pending: JSON.parse(row.pending) };
}

/**
 * Makes this session the one that finishes, publishes or discards the work, and ends an older one that still tries: it
 * may sit in the swap with its locks. `release` when done; a session that failed is destroyed instead.
 */
export async function takeOver(session: Session, work: Work): Promise<void> {
  const [before] = await session.query<{ pid: number; started: string }>(
    `SELECT pid, backend_start::text AS started FROM _godwit.work
     WHERE ${ofWork} AND pid IS NOT NULL AND pid <> pg_backend_pid()`,
    keyOf(work),
  );
  if (before) await endBackend(session, before.pid, before.started);
  await session.query(
    `UPDATE _godwit.work SET pid = pg_backend_pid(),
       backend_start = (SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid()))
     WHERE ${ofWork}`,
    keyOf(work),
  );
}

export const release = (session: Session, work: Work) =>
  session.query(
    `UPDATE _godwit.work SET pid = NULL, backend_start = NULL WHERE ${ofWork} AND pid = pg_backend_pid()`,
    keyOf(work),
  );

export const addNotes = (session: Session, work: Work, notes: readonly string[]) =>
  session.query(
    `UPDATE _godwit.work SET notes = (SELECT coalesce(jsonb_agg(DISTINCT n), '[]') FROM jsonb_array_elements(notes || $8::jsonb) n)
     WHERE ${ofWork}`,
    [...keyOf(work), JSON.stringify(notes)],
  );

const endSeconds = 15;

/**
 * Ends a backend and waits until it is gone. By number and start: the number alone may be another's by now. Throws
 * SERVER_BUSY when it does not go.
 */
export async function endBackend(session: Session, pid: number, started: string): Promise<void> {
  const until = Date.now() + endSeconds * 1000;
  for (let wait = 5; ; wait = Math.min(wait * 2, 250)) {
    // Within a transaction the server would show the same list again and again.
    await session.query('SELECT pg_stat_clear_snapshot()');
    const found = await session.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE pid = $1 AND backend_start = $2::timestamptz AND pid <> pg_backend_pid()`,
      [pid, started],
    );
    if (found.length === 0) return;
    if (Date.now() > until) {
      throw new GodwitError('SERVER_BUSY', 'An older attempt of Godwit still works on the target and does not end.');
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

export const notPrepared = (work: Work): GodwitError =>
  new GodwitError('FENCED', `${tableText(work.name)}: this work was discarded or replaced by a newer one.`, {
    table: tableText(work.name),
    target: work.target,
  });
