/** What the login may do in a database, as far as the server tells. */
import type { Session } from '../session.ts';

/**
 * Undefined when roles are in play, whose privileges information_schema does not show: then the first statement tells.
 * A privilege of a database may be given by a pattern (`shop\_%`).
 */
export async function privilegesIn(session: Session, database: string): Promise<ReadonlySet<string> | undefined> {
  const [who] = await session.query<{ user: string; role: string | null }>(
    `SELECT CURRENT_USER() AS user${hasRoles(session) ? ', CURRENT_ROLE() AS role' : ', NULL AS role'}`,
  );
  if (!who || (who.role !== null && who.role !== '' && who.role !== 'NONE')) return undefined;
  const at = who.user.lastIndexOf('@');
  const grantee = `'${who.user.slice(0, at)}'@'${who.user.slice(at + 1)}'`;
  const rows = await session.query<{ privilege: string }>(
    `SELECT PRIVILEGE_TYPE AS privilege FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = ?
     UNION SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES WHERE GRANTEE = ? AND ? LIKE TABLE_SCHEMA`,
    [grantee, grantee, database],
  );
  return new Set(rows.map((row) => row.privilege.toUpperCase()));
}

const hasRoles = ({ flavor, version: [major] }: Session): boolean => flavor === 'mariadb' || major >= 8;

export const forTables = ['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'CREATE', 'DROP', 'ALTER', 'INDEX'] as const;

/** What is lacking of these, in a database. */
export async function lackingIn(
  session: Session,
  database: string,
  needed: readonly string[] = forTables,
): Promise<string[]> {
  const has = await privilegesIn(session, database);
  return has ? needed.filter((one) => !has.has(one)) : [];
}
