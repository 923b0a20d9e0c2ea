import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { query } from '../fault/oracle.ts';

/**
 * The ways a secret may stand in bytes: as it is, as hex (bytea as text), and as base64 at each of the three alignments
 * (without the ends, which depend on the neighbours).
 */
export function formsOf(secret: string): readonly Buffer[] {
  const bytes = Buffer.from(secret, 'utf8');
  const hex = bytes.toString('hex');
  const shifted = [0, 1, 2].map((by) =>
    Buffer.concat([Buffer.alloc(by), bytes])
      .toString('base64')
      .slice(by === 0 ? 0 : 4, -4),
  );
  return [secret, hex, hex.toUpperCase(), ...shifted].map((form) => Buffer.from(form));
}

export type Needles = Readonly<Record<string, string>>;
export type Hit = string;

/** Names of the secrets found in the text or bytes. */
export function foundIn(place: string, content: string | Uint8Array, needles: Needles): Hit[] {
  const bytes =
    typeof content === 'string'
      ? Buffer.from(content)
      : Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  return Object.entries(needles)
    .filter(([, secret]) => formsOf(secret).some((form) => bytes.includes(form)))
    .map(([name]) => `${name} in ${place}`);
}

/** Every file below the folder, byte for byte. `but`: paths left out. */
export function searchFiles(folder: string, needles: Needles, but: (path: string) => boolean = () => false): Hit[] {
  const hits: Hit[] = [];
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const path = join(folder, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (!stat?.isFile() || but(path)) continue;
    hits.push(...foundIn(name, readFileSync(path), needles));
  }
  return hits;
}

/** Every column of every table of a database as text, and every bytea as its bytes. */
export async function searchDatabase(url: string, needles: Needles): Promise<Hit[]> {
  const tables = await query<{ schema: string; name: string }>(
    url,
    `SELECT table_schema AS schema, table_name AS name FROM information_schema.tables
     WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE'`,
  );
  const hits: Hit[] = [];
  for (const { schema, name } of tables) {
    const place = `${pg.escapeIdentifier(schema)}.${pg.escapeIdentifier(name)}`;
    for (const { row } of await query<{ row: string }>(url, `SELECT t::text AS row FROM ${place} t`)) {
      hits.push(...foundIn(`${schema}.${name}`, row, needles));
    }
  }
  return [...new Set(hits)];
}
