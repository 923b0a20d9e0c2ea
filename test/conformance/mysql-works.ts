/** A MySQL or MariaDB as a target: works to write to it, and somebody else's eyes on it. */
import { randomBytes } from 'node:crypto';
import mysql from 'mysql2/promise';
import { describe } from 'vitest';
import type { Batch, BytesBatch, Format, PlanColumn, Table, Target, Work } from '../../connectors/contract.ts';
import { idOf } from '../../connectors/mysql/target/names.ts';
import type { Row } from '../../connectors/types.ts';
import type { MysqlKind } from '../../servers/mysql.ts';
import { missing, sharedMariadb, sharedMysql } from '../servers/shared.ts';

const kinds = ['mariadb', 'mysql'] as const;

/** A suite for each kind whose server can be had. */
export async function describeKinds(what: string, suite: (kind: MysqlKind) => void): Promise<void> {
  for (const kind of kinds) {
    if (await missing(kind)) continue;
    describe(`${kind} as a target${what}`, () => suite(kind));
  }
}

export const serverUrl = async (kind: MysqlKind): Promise<string> =>
  (kind === 'mysql' ? await sharedMysql() : await sharedMariadb()).url;

/** In the database named, which need not be there. */
export function within(url: string, database: string): string {
  const found = new URL(url);
  found.pathname = `/${encodeURIComponent(database)}`;
  return found.href;
}

export const connect = (url: string): Promise<mysql.Connection> =>
  mysql.createConnection({
    uri: url,
    charset: 'UTF8MB4_BIN',
    dateStrings: true,
    supportBigNumbers: true,
    jsonStrings: true,
    flags: ['-LOCAL_FILES'],
  });

export const quoted = (name: { schema: string; name: string }): string =>
  `${mysql.escapeId(name.schema, true)}.${mysql.escapeId(name.name, true)}`;

export async function rowsOf(client: mysql.Connection, sql: string, values: unknown[] = []): Promise<Row[]> {
  const [rows] = await client.query({ sql, values, rowsAsArray: true });
  return rows as unknown as Row[];
}

export const column = (
  name: string,
  native: string,
  type: PlanColumn['type'],
  nullable = true,
  over: Partial<PlanColumn> = {},
): PlanColumn => ({ from: name, name, shape: 'native', type, native, nullable, fit: 'exact', misfit: 'stop', ...over });

let numbers = 0;

/** Works of one test file: in databases of a name of their own, because all files share the server's ledger. */
export function plainWorks(): { work(over?: Partial<Work>): Work; prefix: string; made: Work[] } {
  const prefix = `g${randomBytes(4).toString('hex')}`;
  const made: Work[] = [];
  const work = (over: Partial<Work> = {}): Work => {
    const name = `plain ${++numbers}`;
    const source: Table = {
      system: 'files',
      name: { schema: 'src', name },
      kind: 'table',
      columns: [],
      key: ['id'],
      rows: 4,
      bytes: 100,
      references: [],
      fingerprint: 'f',
    };
    const one: Work = {
      installation: prefix,
      jobUid: 'job',
      run: `run ${numbers}`,
      target: 'warehouse',
      mode: 'replace',
      source,
      name: { schema: `${prefix} schema ${numbers}`, name },
      columns: [column('id', 'int', { kind: 'int32' }, false), column('v', 'longtext', { kind: 'text' })],
      key: ['id'],
      generation: 1,
      existing: 'refuse',
      swap: 'rename',
      lane: 'rows',
      readFormat: 'rows',
      writeFormat: 'rows',
      ...over,
    };
    made.push(one);
    return one;
  };
  return { work, prefix, made };
}

export async function* give(batches: readonly Batch[]): AsyncGenerator<Batch> {
  yield* batches;
}

/** pg-text, without frames and in two pieces cut within a row. */
export function textBatches(text: string | Buffer, rows: number): Batch[] {
  const bytes = Buffer.from(text);
  const cut = bytes.length >> 1;
  const piece = (part: Uint8Array, last?: number): BytesBatch => ({
    kind: 'bytes',
    bytes: [part],
    ...(last === undefined ? {} : { rows: last }),
  });
  return [piece(bytes.subarray(0, cut)), piece(bytes.subarray(cut), rows)];
}

export const batchesOf = (format: 'rows' | 'pg-text', rows: readonly Row[]): AsyncGenerator<Batch> => {
  if (format === 'rows') return give(rows.length === 0 ? [] : [{ kind: 'rows', rows }]);
  return give(textBatches(rows.map(([id, v]) => `${id}\t${v ?? '\\N'}\n`).join(''), rows.length));
};

export async function isThere(client: mysql.Connection, name: { schema: string; name: string }): Promise<boolean> {
  const sql = 'SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?';
  return (await rowsOf(client, sql, [name.schema, name.name])).length > 0;
}

export async function visible(client: mysql.Connection, work: Work): Promise<Row[] | undefined> {
  if (!(await isThere(client, work.name))) return undefined;
  return await rowsOf(client, `SELECT id, v FROM ${quoted(work.name)} ORDER BY id, v`);
}

/** Of the works of one test file. */
export async function leftovers(client: mysql.Connection, prefix: string, made: readonly Work[]): Promise<string[]> {
  const ids = new Set(made.flatMap((work) => [1, 2].map((generation) => idOf({ ...work, generation }))));
  const runs = made.map((work) => idOf({ ...work, run: `${work.run}-2` }));
  const all = [...ids, ...runs];
  const found = await rowsOf(
    client,
    `SELECT CONCAT('table ', TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '_godwit' AND SUBSTR(TABLE_NAME, 3) IN (?)
     UNION ALL SELECT CONCAT('database ', SCHEMA_NAME) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE CONCAT(?, '%')
     UNION ALL SELECT CONCAT('work ', id) FROM _godwit.work WHERE installation = ? AND published_at IS NULL
     UNION ALL SELECT CONCAT('chunk ', work) FROM _godwit.chunk WHERE work IN (?) AND work NOT IN (SELECT id FROM _godwit.work WHERE published_at IS NOT NULL)
     UNION ALL SELECT CONCAT('made ', kind, schema_name) FROM _godwit.made WHERE installation = ?
     UNION ALL SELECT CONCAT('owner ', table_name) FROM _godwit.owner WHERE installation = ? AND shape IS NULL`,
    [all, prefix, prefix, all, prefix, prefix],
  );
  return found.map(([said]) => String(said)).sort();
}

export async function dropAll(client: mysql.Connection, prefix: string): Promise<void> {
  const sql = `SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE CONCAT(?, '%')`;
  for (const [name] of await rowsOf(client, sql, [prefix])) {
    await client.query('SET foreign_key_checks = 0');
    await client.query(`DROP DATABASE ${mysql.escapeId(String(name), true)}`);
  }
}

/** A work as the planner makes it for a table of whatever source. */
export function workOf(base: Work, table: Table, target: Target, format: Format, over: Partial<Work> = {}): Work {
  const fits = target.fit(table);
  const columns = table.columns.flatMap((one, i): PlanColumn[] => {
    const fit = fits[i];
    if (!fit || fit.fit === 'refused' || (one.generated && table.system === 'mysql')) return [];
    return [column(one.name, fit.native, fit.type, one.nullable, { shape: fit.shape, fit: fit.fit })];
  });
  return { ...base, source: table, columns, key: table.key, readFormat: format, writeFormat: format, ...over };
}
