/** Which database this is, the same by whatever address it is reached (decision 4). */
import { sqlstate } from './errors.ts';
import type { Session } from './session.ts';

/**
 * System identifier and database oid. Where a provider does not let the login ask for the identifier, the moment the
 * server started stands in for it: it has microseconds and is the same through every address.
 */
export async function databaseIdentity(session: Session): Promise<string> {
  const [database] = await session.query<{ oid: number; started: string }>(
    `SELECT oid, (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8::text AS started
     FROM pg_database WHERE datname = current_database()`,
  );
  try {
    const [system] = await session.query<{ id: string }>(
      'SELECT system_identifier::text AS id FROM pg_control_system()',
    );
    return `postgres:${system?.id}/${database?.oid}`;
  } catch (error) {
    if (sqlstate(error) !== '42501' && sqlstate(error) !== '42883') throw error;
    return `postgres:started-${database?.started}/${database?.oid}`;
  }
}
