/** One small table whose rows have a bookmark, on each system as a source; and what arrived of it on each as a target. */

import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { type Document, MongoClient } from 'mongodb';
import mysql from 'mysql2/promise';
import type { MysqlKind } from '../../servers/mysql.ts';
import {
  createDatabase,
  createMongoDatabase,
  createMysqlDatabase,
  type ServerName,
  type TestDatabase,
} from '../servers/shared.ts';
import { query } from '../workflow/installation.ts';

/** `at`: milliseconds since 1970, the bookmark. */
export type Item = { readonly id: number; readonly name: string | null; readonly at: number | null };
export type Items = ReadonlyMap<number, Item>;

export type Source = AsyncDisposable & {
  readonly settings: object;
  /** Without its mode. */
  readonly entry: object;
  /** Inserts, or changes what is there. */
  put(items: readonly Item[]): Promise<void>;
  remove(ids: readonly number[]): Promise<void>;
};
export type Target = AsyncDisposable & {
  readonly settings: object;
  /** As somebody reads it. */
  all(): Promise<Items>;
  /** Takes away what Godwit knows of the table: it is as another tool would have left it. */
  forget(): Promise<void>;
};

export type SourceWord = 'pgsql' | MysqlKind | 'mongo';
export type TargetWord = SourceWord | 'files';

export const servers: Readonly<Record<TargetWord, readonly ServerName[]>> = {
  pgsql: ['postgres'],
  mysql: ['mysql'],
  mariadb: ['mariadb'],
  mongo: ['mongodb'],
  files: [],
};

/** So many at once, and the source's statistics are made to know of them: a table is cut into chunks by these. */
const many = 1000;

const iso = (at: number): string => new Date(at).toISOString();
const byId = (items: readonly Item[]): Items => new Map(items.map((item) => [item.id, item]));

export const sources: Readonly<Record<SourceWord, () => Promise<Source>>> = {
  async pgsql() {
    const database = await createDatabase();
    await query(database.url, 'CREATE TABLE item (id bigint PRIMARY KEY, name text, at timestamptz)');
    await query(database.url, 'CREATE INDEX ON item (at)');
    return {
      settings: { source_type: 'pgsql', url: database.url },
      entry: { table_name: 'item', bookmark: 'at' },
      async put(items) {
        const json = JSON.stringify(items.map(({ at, ...item }) => ({ ...item, at: at === null ? null : iso(at) })));
        const rows = `json_to_recordset('${json.replaceAll("'", "''")}') AS x(id bigint, name text, at timestamptz)`;
        await query(
          database.url,
          `INSERT INTO item SELECT * FROM ${rows} ON CONFLICT (id) DO UPDATE SET name = excluded.name, at = excluded.at`,
        );
        if (items.length >= many) await query(database.url, 'ANALYZE item');
      },
      async remove(ids) {
        await query(database.url, `DELETE FROM item WHERE id IN (${ids.join(', ')})`);
      },
      [Symbol.asyncDispose]: database.drop,
    };
  },
  mysql: () => mysqlSource('mysql'),
  mariadb: () => mysqlSource('mariadb'),
  async mongo() {
    const database = await createMongoDatabase();
    const client = new MongoClient(database.url);
    const collection = client.db().collection<Document & { _id: number }>('item');
    return {
      settings: { source_type: 'mongo', url: database.url, db_name: database.name },
      entry: { table_name: 'item', bookmark: 'at', documents: 'flatten' },
      async put(items) {
        const changes = items.map(({ id, name, at }) => ({
          replaceOne: {
            filter: { _id: id },
            replacement: { name, at: at === null ? null : new Date(at) },
            upsert: true,
          },
        }));
        await collection.bulkWrite(changes);
      },
      async remove(ids) {
        await collection.deleteMany({ _id: { $in: [...ids] } });
      },
      async [Symbol.asyncDispose]() {
        await client.close();
        await database.drop();
      },
    };
  },
};

async function mysqlSource(kind: MysqlKind): Promise<Source> {
  const database = await createMysqlDatabase(kind);
  const connection = await mysql.createConnection({ uri: database.url, timezone: 'Z' });
  await connection.query("SET time_zone = '+00:00'");
  await connection.query('CREATE TABLE item (id bigint PRIMARY KEY, name varchar(1000), at datetime(3), KEY (at))');
  return {
    settings: { source_type: kind, url: database.url },
    entry: { table_name: `${database.name}.item`, bookmark: 'at' },
    async put(items) {
      const rows = items.map(({ id, name, at }) => [
        id,
        name,
        at === null ? null : iso(at).replace('T', ' ').slice(0, 23),
      ]);
      await connection.query('REPLACE INTO item (id, name, at) VALUES ?', [rows]);
      if (items.length >= many) await connection.query('ANALYZE TABLE item');
    },
    async remove(ids) {
      await connection.query('DELETE FROM item WHERE id IN (?)', [ids]);
    },
    async [Symbol.asyncDispose]() {
      await connection.end();
      await database.drop();
    },
  };
}

export const targets: Readonly<Record<TargetWord, (home: string) => Promise<Target>>> = {
  async pgsql() {
    const database = await createDatabase();
    return {
      settings: { destination_type: 'pgsql', url: database.url, schema: 'copy', table: 'item' },
      async all() {
        const rows = await query<Record<string, unknown>>(
          database.url,
          'SELECT *, (extract(epoch FROM at::timestamptz) * 1000)::float8 AS ms FROM copy.item',
        );
        return byId(rows.map(itemOf));
      },
      forget: async () => {
        await query(database.url, 'DROP SCHEMA _godwit CASCADE');
      },
      [Symbol.asyncDispose]: database.drop,
    };
  },
  mysql: () => mysqlTarget('mysql'),
  mariadb: () => mysqlTarget('mariadb'),
  async mongo() {
    const database = await createMongoDatabase(undefined, 4.4); // increments write with `$merge`
    const client = new MongoClient(database.url);
    return {
      settings: { destination_type: 'mongo', url: database.url, schema: database.name, table: 'item' },
      async all() {
        const documents = await client.db().collection('item').find().toArray();
        // Microseconds are an exact text there.
        const ms = (at: unknown) =>
          at instanceof Date ? at.getTime() : typeof at === 'string' ? Date.parse(at) : null;
        return byId(documents.map(({ at, ...rest }) => itemOf({ ...rest, ms: ms(at) })));
      },
      async forget() {
        for (const { collectionName, dbName } of await client.db().collections()) {
          if (collectionName.startsWith('_godwit.')) await client.db(dbName).dropCollection(collectionName);
        }
      },
      async [Symbol.asyncDispose]() {
        await client.close();
        await database.drop();
      },
    };
  },
  async files(home) {
    const path = join(home, 'lake', crypto.randomUUID());
    return {
      settings: { destination_type: 'files', path, format: 'parquet', schema: 'copy', table: 'item' },
      all: () => readCurrent(path),
      async forget() {
        for (const file of await readdir(path, { recursive: true })) {
          if (/(^|\/)_[^/]*$/.test(file)) await rm(join(path, file), { recursive: true, force: true });
        }
      },
      async [Symbol.asyncDispose]() {},
    };
  },
};

async function mysqlTarget(kind: MysqlKind): Promise<Target> {
  const database: TestDatabase = await createMysqlDatabase(kind);
  return {
    settings: { destination_type: kind, url: database.url, schema: database.name, table: 'item' },
    async all() {
      const connection = await mysql.createConnection({ uri: database.url, timezone: 'Z' });
      try {
        await connection.query("SET time_zone = '+00:00'");
        const [rows] = await connection.query('SELECT item.*, unix_timestamp(at) * 1000 AS ms FROM item');
        return byId((rows as Record<string, unknown>[]).map(itemOf));
      } finally {
        await connection.end();
      }
    },
    async forget() {
      const connection = await mysql.createConnection(database.url);
      try {
        for (const books of ['owner', 'state']) {
          await connection.query(`DELETE FROM _godwit.${books} WHERE schema_name = ?`, [database.name]);
        }
      } finally {
        await connection.end();
      }
    },
    [Symbol.asyncDispose]: database.drop,
  };
}

/** The key of documents is `_id`, whatever wrote them; times differ in their types and are told in milliseconds. */
function itemOf(row: Record<string, unknown>): Item {
  const { id, _id, name, ms } = row;
  return { id: Number(id ?? _id), name: name as string | null, at: ms === null ? null : Math.round(Number(ms)) };
}

/** By the view that Godwit leaves beside the parts. */
async function readCurrent(path: string): Promise<Items> {
  const files = await readdir(path, { recursive: true });
  const view = files.find((file) => file.endsWith('current.sql'));
  if (!view) throw new Error(`no current.sql among ${files.join(', ')}`);
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  const connection = await instance.connect();
  try {
    await connection.run("SET TimeZone = 'UTC'");
    await connection.run(await readFile(join(path, view), 'utf8'));
    const [name] = (
      await connection.runAndReadAll('SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal')
    ).getRows();
    const read = await connection.runAndReadAll(`SELECT *, epoch_ms("at") AS ms FROM "${name?.join('"."')}"`);
    return byId(read.getRowObjectsJson().map((row) => itemOf(row as Record<string, unknown>)));
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}
