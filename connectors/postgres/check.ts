/** What must be true before a run, asked of the server: each answer with what to do about it. */
import { GodwitError } from '../../errors.ts';
import { type Check, tableText } from '../contract.ts';
import { allRelations } from './catalog.ts';
import { listTables } from './describe.ts';
import { openSession, type Session } from './session.ts';
import type { PostgresAddress } from './settings.ts';

const pass = (name: string, detail: string): Check => ({ name, outcome: 'pass', detail });
const warn = (name: string, detail: string, fix: string): Check => ({ name, outcome: 'warn', detail, fix });
const fail = (name: string, detail: string, fix: string): Check => ({ name, outcome: 'fail', detail, fix });

export const oldest = 13;
export const newest = 18;

/** Never throws for what it finds: a server that cannot be reached is a failed check. */
export async function checkSource(address: PostgresAddress): Promise<Check[]> {
  const reached = await reach(address);
  if (!('session' in reached)) return reached.checks;
  await using session = reached.session;
  const checks = [...reached.checks, checkVersion(session)];
  checks.push(await checkProxy(address, session));
  checks.push(await checkEncoding(session));
  checks.push(await checkClock(session));
  if (session.version >= oldest) {
    checks.push(await checkReadable(session));
    checks.push(await checkRowSecurity(session));
    checks.push(await checkTransactions(session));
    checks.push(await checkSnapshot(session));
  }
  return checks;
}

/** `server` and `login`, which a target asks as well. */
export async function reach(
  address: PostgresAddress,
): Promise<{ checks: Check[]; session: Session } | { checks: Check[] }> {
  const place = address.host.startsWith('/') ? address.host : `${address.host}:${address.port}`;
  try {
    const session = await openSession(address);
    const checks = [
      pass('server', `${place} answers.`),
      pass('login', `${address.user} may log in to ${address.database}.`),
    ];
    return { checks, session };
  } catch (error) {
    if (!(error instanceof GodwitError)) throw error;
    const reachable =
      error.code === 'LOGIN_REFUSED' || error.code === 'DATABASE_MISSING' || error.code === 'PRIVILEGE_MISSING';
    if (!reachable) return { checks: [fail('server', error.message, fixes[error.code] ?? fixOf(error))] };
    return {
      checks: [pass('server', `${place} answers.`), fail('login', error.message, fixes[error.code] ?? fixOf(error))],
    };
  }
}

const fixes: Readonly<Partial<Record<string, string>>> = {
  CONNECTION_FAILED: 'Check that the server runs, listens on this address, and lets the worker through its firewall.',
  UNKNOWN_HOST: 'Correct the host.',
  TLS_FAILED: 'Give the right ssl_ca, or set sslmode to what the server offers.',
  LOGIN_REFUSED: 'Correct username and password, or let this login in (pg_hba.conf).',
  DATABASE_MISSING: 'Correct db_name, or create the database.',
  PRIVILEGE_MISSING: 'GRANT CONNECT ON DATABASE … TO the login.',
};
const fixOf = (error: GodwitError): string => `See ${error.code} in the list of errors.`;

export const checkVersion = (session: Session): Check =>
  session.version < oldest
    ? fail(
        'version',
        `PostgreSQL ${session.version}; Godwit needs ${oldest} or later.`,
        'Upgrade, or copy from a newer standby.',
      )
    : session.version > newest
      ? warn(
          'version',
          `PostgreSQL ${session.version} is newer than what Godwit was tested with.`,
          'Compare the first copy.',
        )
      : pass('version', `PostgreSQL ${session.version}.`);

/**
 * A proxy that pools by transaction gives every transaction another backend: settings, snapshots and temporary state of a
 * session mean nothing there. Told by what it does: while a second session keeps a backend busy, is the first one still
 * where it was, and does it still have its setting?
 */
export async function checkProxy(address: PostgresAddress, session: Session): Promise<Check> {
  const mark = `mark-${process.pid}-${Date.now()}`;
  const [first] = await session.query<{ pid: number }>(
    `SELECT pg_backend_pid() AS pid, set_config('godwit.mark', '${mark}', false)`,
  );
  const proxied = first?.pid !== session.pid;
  if (!proxied) return pass('proxy', 'Nothing pools between Godwit and the server.');
  const sure = 'Give the address of the server itself, or of a pool in session mode.';
  try {
    const other = await openSession(address, { statementTimeout: 5000, signal: AbortSignal.timeout(10_000) });
    try {
      await other.query('BEGIN');
      await other.query('SELECT 1');
      const [second] = await session.query<{ pid: number; mark: string | null }>(
        `SELECT pg_backend_pid() AS pid, current_setting('godwit.mark', true) AS mark`,
      );
      if (second?.pid !== first?.pid || second?.mark !== mark) {
        return fail('proxy', 'A proxy between Godwit and the server changes the backend under a session.', sure);
      }
    } finally {
      other.destroy();
    }
  } catch {
    return fail('proxy', 'A proxy between Godwit and the server gives one session at a time.', sure);
  }
  return warn('proxy', 'A proxy stands between Godwit and the server; it keeps sessions together.', sure);
}

async function checkEncoding(session: Session): Promise<Check> {
  const [row] = await session.query<{ encoding: string }>(`SELECT current_setting('server_encoding') AS encoding`);
  const encoding = row?.encoding ?? '';
  if (encoding === 'SQL_ASCII') {
    const detail = 'The database has no encoding (SQL_ASCII): its texts may be no valid UTF-8.';
    return warn('encoding', detail, 'Texts that are not UTF-8 will stop their table; convert them at the source.');
  }
  return pass('encoding', encoding === 'UTF8' ? 'UTF8.' : `${encoding}, converted to UTF-8 by the server.`);
}

async function checkClock(session: Session): Promise<Check> {
  const before = Date.now();
  const [row] = await session.query<{ now: number }>(
    'SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS now',
  );
  const skew = Math.round(((row?.now ?? 0) - (before + Date.now()) / 2) / 1000);
  if (Math.abs(skew) <= 60) return pass('clock', 'The clocks of server and worker agree.');
  return warn(
    'clock',
    `The server's clock is ${Math.abs(skew)} s ${skew > 0 ? 'ahead' : 'behind'}.`,
    'Let both keep time by NTP.',
  );
}

async function checkReadable(session: Session): Promise<Check> {
  const tables = await listTables(session);
  const closed = tables.filter((table) => !table.readable);
  if (tables.length === 0) {
    return warn('privileges', 'No table is visible to this login.', 'Check db_name and the grants of the login.');
  }
  if (closed.length === 0) return pass('privileges', `All ${tables.length} tables may be read.`);
  const some = closed.slice(0, 5).map((table) => tableText(table.name));
  const detail = `${closed.length} of ${tables.length} tables may not be read: ${some.join(', ')}${closed.length > 5 ? ', …' : ''}`;
  const fix = 'GRANT USAGE ON SCHEMA … and SELECT ON TABLE …; or (14 and later) GRANT pg_read_all_data.';
  return closed.length === tables.length ? fail('privileges', detail, fix) : warn('privileges', detail, fix);
}

async function checkRowSecurity(session: Session): Promise<Check> {
  const hidden = (await allRelations(session)).filter((relation) => relation.hidden).map(tableText);
  const name = 'row security';
  if (hidden.length === 0) return pass(name, 'No policy hides rows from this login.');
  const detail = `Policies would hide rows of ${hidden.slice(0, 5).join(', ')}${hidden.length > 5 ? ', …' : ''}: these are refused.`;
  return warn(name, detail, 'ALTER ROLE … BYPASSRLS, or leave these tables out.');
}

/** Whether transactions are open is seen by every login; since when, by these alone (the incremental modes' first load). */
async function checkTransactions(session: Session): Promise<Check> {
  const name = 'transactions';
  const [row] = await session.query<{ sees: boolean }>(
    `SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees`,
  );
  if (row?.sees) return pass(name, 'It is seen since when the transactions of others are open.');
  const detail =
    'It is not seen since when the transactions of others are open: of one open at the first load for longer than an hour, later increments may lack rows.';
  return warn(name, detail, 'GRANT pg_read_all_stats TO the login; it gives no access to rows.');
}

async function checkSnapshot(session: Session): Promise<Check> {
  try {
    await session.query('BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const [row] = await session.query<{ standby: boolean }>(
      'SELECT pg_is_in_recovery() AS standby, pg_export_snapshot()',
    );
    await session.query('ROLLBACK');
    if (!row?.standby) return pass('snapshot', 'One snapshot for a whole run can be exported.');
    return warn(
      'snapshot',
      'The server is a standby: a conflict with replay can end the snapshot of a long run.',
      'Set hot_standby_feedback = on, or max_standby_streaming_delay above the length of a run.',
    );
  } catch (error) {
    const detail = error instanceof GodwitError ? error.message : String(error);
    return fail('snapshot', `No snapshot can be exported: ${detail}`, 'Use the address of a primary or a hot standby.');
  }
}
