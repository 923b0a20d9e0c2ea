/** Which database this is, the same by whatever address it is reached (decision 4). */
import { createHash } from 'node:crypto';
import type { Session } from './session.ts';

/**
 * The server's own id, with what tells a copied server from its original (the id is a file of the data folder), and the
 * database. MariaDB has an id only in newer versions; there the rest must do.
 */
export async function databaseIdentity(session: Session): Promise<string> {
  const [server] = await session.query<Record<string, unknown>>(
    `SELECT @@hostname AS h, @@port AS p, @@datadir AS d, @@server_id AS s, DATABASE() AS name,
       @@lower_case_table_names AS fold`,
  );
  const ids = await session.query<{ Variable_name: string; Value: string }>(
    `SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_uid')`,
  );
  const { h, p, d, s, name, fold } = server ?? {};
  const of = createHash('sha256').update(JSON.stringify([h, p, d, s, ids.map((id) => id.Value)]));
  const database = fold === 0 ? String(name) : String(name).toLowerCase();
  return `mysql:${of.digest('hex').slice(0, 24)}/${database}`;
}
