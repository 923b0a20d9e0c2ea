/** The server's rules for names (MongoDB manual, "MongoDB Limits and Thresholds"). */
import type { TableName } from '../../contract.ts';
import type { ServerFacts } from '../session.ts';

/** What is wrong with it, in words. */
export function wrongName({ schema: database, name }: TableName, { version, wire }: ServerFacts): string | undefined {
  if (database === '') return 'a database has no empty name';
  if (/[/\\. "$*<>:|?\0]/.test(database))
    return `the database "${database}" has a character that is not allowed: /\\. "$*<>:|?`;
  if (Buffer.byteLength(database) > 63) return `the database "${database}" has more than 63 bytes`;
  if (['admin', 'local', 'config'].includes(database)) return `the database ${database} is the server's own`;
  if (name === '') return 'a collection has no empty name';
  if (/[$\0]/.test(name)) return `the collection "${name}" has a character that is not allowed: $`;
  if (name.startsWith('system.')) return `collections "system.…" are the server's own`;
  if (name.startsWith('_godwit.')) return `collections "_godwit.…" are Godwit's own`;
  if (name.startsWith('.') || name.endsWith('.') || name.includes('..'))
    return `the collection "${name}" has a dot that stands for nothing`;
  const most = wire >= 9 ? 255 : 120;
  const length = Buffer.byteLength(`${database}.${name}`);
  if (length > most)
    return `"${database}.${name}" has ${length} bytes; ${most} is the limit of MongoDB ${version.join('.')}`;
  return undefined;
}
