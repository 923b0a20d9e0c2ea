import type { Context } from 'hono';
import { writeAudit } from '../db/audit.ts';
import type { ApiDeps } from './deps.ts';

/** Who calls, as far as it says so: `cli`, `web`; else `api`. */
export const actorOf = (c: Context): string => {
  const said = c.req.header('x-godwit-client');
  return said !== undefined && /^[a-z0-9-]{1,32}$/.test(said) ? said : 'api';
};

export const audited = (
  { database }: ApiDeps,
  c: Context,
  line: { readonly action: string; readonly object: string; readonly data?: Readonly<Record<string, unknown>> },
): Promise<void> => writeAudit(database.db, { actor: actorOf(c), ...line });
