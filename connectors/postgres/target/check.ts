/** What must be true of a target before a run. */
import type { Check } from '../../contract.ts';
import { checkProxy, checkVersion, oldest, reach } from '../check.ts';
import type { Session } from '../session.ts';
import type { PostgresAddress } from '../settings.ts';
import { ident } from '../sql.ts';

export async function checkTarget(address: PostgresAddress): Promise<Check[]> {
  const reached = await reach(address);
  if (!('session' in reached)) return reached.checks;
  await using session = reached.session;
  const checks = [...reached.checks, checkVersion(session), await checkProxy(address, session)];
  if (session.version < oldest) return checks;
  return [...checks, await checkWritable(session), await checkCreate(session), await checkEncoding(session)];
}

async function checkWritable(session: Session): Promise<Check> {
  const name = 'writable';
  const [row] = await session.query<{ standby: boolean; readonly: string }>(
    `SELECT pg_is_in_recovery() AS standby, current_setting('default_transaction_read_only') AS readonly`,
  );
  if (row?.standby)
    return { name, outcome: 'fail', detail: 'The server is a standby.', fix: 'Give the address of the primary.' };
  if (row?.readonly === 'on') {
    const fix = 'ALTER ROLE … SET default_transaction_read_only = off for the login of Godwit.';
    return { name, outcome: 'fail', detail: 'Transactions of this login are read-only.', fix };
  }
  return { name, outcome: 'pass', detail: 'The server takes writes.' };
}

async function checkCreate(session: Session): Promise<Check> {
  const name = 'privileges';
  const [row] = await session.query<{ database: string; login: string; create: boolean; ledger: boolean | null }>(
    `SELECT current_database() AS database, current_user AS login, has_database_privilege(current_database(), 'CREATE') AS create,
       (SELECT has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = '_godwit') AS ledger`,
  );
  if (!row) return { name, outcome: 'warn', detail: 'The privileges of the login are not known.' };
  const { database, login } = row;
  const grant = `GRANT CREATE ON DATABASE ${ident(database)} TO ${ident(login)}`;
  if (row.ledger === false) {
    const fix = `ALTER SCHEMA _godwit OWNER TO ${ident(login)}, its tables too; or log in as its owner.`;
    return { name, outcome: 'fail', detail: 'Schema _godwit belongs to another login.', fix };
  }
  if (row.create) return { name, outcome: 'pass', detail: 'The login may make schemas.' };
  if (row.ledger) {
    return {
      name,
      outcome: 'warn',
      detail: 'The login may not make schemas: those written to must be there.',
      fix: `${grant}.`,
    };
  }
  const fix = `${grant}, or CREATE SCHEMA _godwit AUTHORIZATION ${ident(login)}.`;
  return { name, outcome: 'fail', detail: 'Schema _godwit is not there and may not be made.', fix };
}

async function checkEncoding(session: Session): Promise<Check> {
  const [row] = await session.query<{ encoding: string }>(`SELECT current_setting('server_encoding') AS encoding`);
  const encoding = row?.encoding ?? '';
  if (encoding === 'UTF8') return { name: 'encoding', outcome: 'pass', detail: 'UTF8.' };
  const detail = `The database is ${encoding}: a character it does not have stops its table.`;
  return { name: 'encoding', outcome: 'warn', detail, fix: 'Use a database in UTF8.' };
}
