/** What must be true before a run, asked of the server: each answer with what to do about it. */
import { GodwitError } from '../../errors.ts';
import { type Check, tableText } from '../contract.ts';
import { allTables, storageOf } from './catalog.ts';
import { listTables } from './describe.ts';
import { numberOf } from './errors.ts';
import { atLeast, openSession, type Session } from './session.ts';
import type { MysqlAddress } from './settings.ts';
import { positionOf } from './snapshot.ts';

const pass = (name: string, detail: string): Check => ({ name, outcome: 'pass', detail });
const warn = (name: string, detail: string, fix: string): Check => ({ name, outcome: 'warn', detail, fix });
const fail = (name: string, detail: string, fix: string): Check => ({ name, outcome: 'fail', detail, fix });

/** Never throws for what it finds: a server that cannot be reached is a failed check. */
export async function checkSource(address: MysqlAddress): Promise<Check[]> {
  const reached = await reach(address);
  if (!('session' in reached)) return reached.checks;
  await using session = reached.session;
  const schema = address.schema ?? address.database;
  return [
    ...reached.checks,
    checkVersion(session),
    await checkClock(session),
    await checkReadable(session, schema),
    await checkEngines(session, schema),
    await checkStorage(session, schema),
    await checkPosition(session),
  ];
}

/** `server` and `login`, which a target asks as well. */
export async function reach(
  address: MysqlAddress,
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
    const fix = fixes[error.code] ?? `See ${error.code} in the list of errors.`;
    if (!reachable) return { checks: [fail('server', error.message, fix)] };
    return { checks: [pass('server', `${place} answers.`), fail('login', error.message, fix)] };
  }
}

const fixes: Readonly<Partial<Record<string, string>>> = {
  CONNECTION_FAILED: 'Check that the server runs, listens on this address, and lets the worker through its firewall.',
  UNKNOWN_HOST: 'Correct the host.',
  TLS_FAILED: 'Give the right ssl_ca, or set sslmode to what the server offers.',
  LOGIN_REFUSED: 'Correct username and password, or let this login in from the worker (`user@host`).',
  DATABASE_MISSING: 'Correct db_name, or create the database.',
  PRIVILEGE_MISSING: 'GRANT SELECT ON the database TO the login.',
};

const nameOf = ({ flavor, version }: Session): string =>
  `${flavor === 'mariadb' ? 'MariaDB' : 'MySQL'} ${version.join('.')}`;

export function checkVersion(session: Session): Check {
  const name = nameOf(session);
  if (!atLeast(session, { mysql: [5, 7], mariadb: [10, 6] })) {
    return fail(
      'version',
      `${name}; Godwit needs MySQL 5.7 or MariaDB 10.6, or later.`,
      'Upgrade, or copy from a newer replica.',
    );
  }
  if (atLeast(session, { mysql: [10], mariadb: [13] })) {
    return warn('version', `${name} is newer than what Godwit was tested with.`, 'Compare the first copy.');
  }
  return pass('version', `${name}.`);
}

export async function checkClock(session: Session): Promise<Check> {
  const before = Date.now();
  const [row] = await session.query<{ now: string }>('SELECT UNIX_TIMESTAMP(NOW(6)) * 1000 AS now');
  const skew = Math.round((Number(row?.now) - (before + Date.now()) / 2) / 1000);
  if (Math.abs(skew) <= 60) return pass('clock', 'The clocks of server and worker agree.');
  const where = `${Math.abs(skew)} s ${skew > 0 ? 'ahead' : 'behind'}`;
  return warn('clock', `The server's clock is ${where}.`, 'Let both keep time by NTP.');
}

async function checkReadable(session: Session, schema: string): Promise<Check> {
  const tables = await listTables(session, schema);
  const closed = tables.filter((table) => !table.readable);
  if (tables.length === 0) {
    return warn(
      'privileges',
      `No table of ${schema} is visible to this login.`,
      'Check db_name and the grants of the login.',
    );
  }
  if (closed.length === 0) return pass('privileges', `All ${tables.length} tables may be read.`);
  const some = closed.slice(0, 5).map((table) => tableText(table.name));
  const detail = `${closed.length} of ${tables.length} tables may not be read: ${some.join(', ')}${closed.length > 5 ? ', …' : ''}`;
  const fix = `GRANT SELECT ON \`${schema}\`.* TO the login.`;
  return closed.length === tables.length ? fail('privileges', detail, fix) : warn('privileges', detail, fix);
}

/** A chunk is consistent in itself where the engine has transactions; elsewhere a table is locked while it is read. */
async function checkEngines(session: Session, schema: string): Promise<Check> {
  const tables = await allTables(session, schema);
  const others = tables.filter((table) => table.engine !== null && table.engine !== 'InnoDB');
  if (others.length === 0) return pass('engines', 'All tables are InnoDB: each chunk is read at one moment.');
  const some = others.slice(0, 5).map((table) => `${table.name} (${table.engine})`);
  const detail = `${others.length} tables are not InnoDB: ${some.join(', ')}${others.length > 5 ? ', …' : ''}. Writers wait while a chunk of one is read.`;
  return warn('engines', detail, 'ALTER TABLE … ENGINE = InnoDB, or copy them while nobody writes.');
}

async function checkStorage(session: Session, schema: string): Promise<Check> {
  const tables = (await allTables(session, schema)).filter((table) => table.engine === 'InnoDB');
  const some = tables.slice(0, 20).map((table) => table.name);
  const seen = some.length === 0 || (await storageOf(session, schema, some)).size > 0;
  if (seen) return pass('changes', 'A table that is truncated or rebuilt while it is read is noticed.');
  const detail = 'A TRUNCATE in the middle of a run would not be noticed: the login may not see tablespaces.';
  return warn('changes', detail, 'GRANT PROCESS ON *.* TO the login.');
}

async function checkPosition(session: Session): Promise<Check> {
  try {
    const position = await positionOf(session);
    if (position) return pass('position', 'The position in the binary log is recorded with each run.');
  } catch (error) {
    if (!(error instanceof GodwitError) || numberOf(error) === undefined) throw error;
  }
  const detail = 'No position in the binary log can be recorded: it is off, or the login may not see it.';
  return warn(
    'position',
    detail,
    'Turn log_bin on and GRANT REPLICATION CLIENT (MariaDB: BINLOG MONITOR); full copies need neither.',
  );
}
