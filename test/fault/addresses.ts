import type { PostgresServer } from '../../servers/postgres.ts';
import { query } from './oracle.ts';

/** The address workers are given: the same server through its fault proxy. */
export const through = (proxy: { readonly port: number }, url: string): string => {
  const changed = new URL(url);
  changed.hostname = '127.0.0.1';
  changed.port = String(proxy.port);
  return changed.href;
};

export async function createDatabase(server: PostgresServer, name: string, more = ''): Promise<string> {
  await query(server.url, `CREATE DATABASE "${name}" TEMPLATE template0 ENCODING 'UTF8' ${more}`);
  return databaseUrl(server.url, name);
}

export const databaseUrl = (server: string, database: string): string => {
  const url = new URL(server);
  url.pathname = `/${database}`;
  return url.href;
};
