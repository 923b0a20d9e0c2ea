/**
 * Real data: Sakila for PostgreSQL and MySQL, MongoDB's sample data. They lie beside the project (`../shared/datasets`) or
 * where GODWIT_TEST_DATASETS says, and are no part of it.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BSON, MongoClient } from 'mongodb';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import type { MysqlKind } from '../../servers/mysql.ts';
import { createDatabase, createMongoDatabase, createMysqlDatabase, type TestDatabase } from '../servers/shared.ts';
import { mongodbSource, mysqlSource, postgresSource, type Source, type SourceWord } from './sides.ts';

const folder = process.env.GODWIT_TEST_DATASETS ?? join(import.meta.dirname, '..', '..', '..', 'shared', 'datasets');

/** With CI=true nothing is skipped: reading them fails. */
export function noDatasets(): boolean {
  if (existsSync(folder) || process.env.CI === 'true') return false;
  console.warn('skipped: no data sets: there is no ../shared/datasets beside the project, and no GODWIT_TEST_DATASETS');
  return true;
}

const read = (...path: string[]) => readFile(join(folder, ...path), 'utf8');

async function sakilaPostgres(): Promise<TestDatabase> {
  const database = await createDatabase();
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    // Written by an old pg_dump for a user of its own.
    const schema = (await read('sakila-postgres', 'schema.sql'))
      .replace(/^(ALTER .* OWNER TO|GRANT|REVOKE|CREATE PROCEDURAL LANGUAGE) .*;$/gm, '')
      .replace(/^(CREATE SCHEMA public|COMMENT ON SCHEMA public).*;$/gm, '');
    await client.query(schema);
    await client.query('SET search_path = public');
    const data = await read('sakila-postgres', 'data.sql');
    for (const part of data.split(/^(?=COPY )/m)) {
      const copy = /^(COPY .*);\n([\s\S]*?)^\\\.$([\s\S]*)/m.exec(part);
      if (!copy) {
        await client.query(part);
        continue;
      }
      const [, statement = '', rows = '', rest = ''] = copy;
      await pipeline(Readable.from([Buffer.from(rows)]), client.query(copyFrom(statement)));
      await client.query(rest);
    }
    await client.query('ANALYZE');
  } finally {
    await client.end();
  }
  return database;
}

async function sakilaMysql(kind: MysqlKind): Promise<TestDatabase> {
  const database = await createMysqlDatabase(kind);
  const connection = await mysql.createConnection({ uri: database.url, multipleStatements: true, charset: 'utf8mb4' });
  try {
    for (const file of ['schema.sql', 'data.sql']) {
      const script = (await read('sakila-mysql', file))
        .replace(/^(DROP|CREATE) SCHEMA .*sakila;\s*$|^USE sakila;\s*$/gm, '')
        .replace(/\bsakila\./g, `${mysql.escapeId(database.name)}.`);
      let delimiter = ';';
      for (const part of script.split(/^(?=DELIMITER )/m)) {
        delimiter = /^DELIMITER (\S+)/.exec(part)?.[1] ?? delimiter;
        const body = part.replace(/^DELIMITER .*\n/, '');
        const statements = delimiter === ';' ? [body] : body.split(delimiter);
        for (const statement of statements) if (/[^\s-]/.test(statement)) await connection.query(statement);
      }
    }
    await connection.query('COMMIT');
  } finally {
    await connection.end();
  }
  return database;
}

/** One collection per file, one document of extended JSON a line. */
async function mongoSamples(): Promise<TestDatabase> {
  const database = await createMongoDatabase();
  await using client = new MongoClient(database.url);
  for (const name of samples) {
    const lines = (await read('mongo', `${name}.json`)).split('\n').filter(Boolean);
    const documents = lines.map((line) => BSON.EJSON.parse(line, { relaxed: false }) as object);
    await client.db().collection(name).insertMany(documents);
  }
  return database;
}

const samples = ['accounts', 'customers', 'theaters'];
const sakila =
  'actor address category city country customer film film_actor film_category inventory language rental staff store payment';
const keyOf = (table: string, columns: readonly string[]) =>
  columns.slice(0, /^film_(actor|category)$/.test(table) ? 2 : 1);

export const dataSets: Readonly<Record<SourceWord, () => Promise<Source>>> = {
  async pgsql() {
    const database = await sakilaPostgres();
    return { ...postgresSource(database, 'public'), tables: () => sakila.split(' '), keyOf };
  },
  mysql: () => sakilaOf('mysql'),
  mariadb: () => sakilaOf('mariadb'),
  mongo: async () => ({ ...mongodbSource(await mongoSamples()), tables: () => samples, keyOf }),
};

async function sakilaOf(kind: MysqlKind): Promise<Source> {
  const database = await sakilaMysql(kind);
  return { ...mysqlSource(kind, database), tables: () => [...sakila.split(' '), 'film_text'], keyOf };
}
