/** The two ends of a pair: a source filled with every type of its system, and an empty target, each read by its driver. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GetObjectCommand, paginateListObjectsV2, S3Client } from '@aws-sdk/client-s3';
import { MongoClient } from 'mongodb';
import mysql from 'mysql2/promise';
import type { MysqlKind } from '../../servers/mysql.ts';
import { everyType, everyTypeTables } from '../conformance/every-type.ts';
import { fillEveryType, mongodbEveryType } from '../conformance/mongodb-every-type.ts';
import { mysqlEveryType, mysqlEveryTypeTables, mysqlLongName, mysqlOddDates } from '../conformance/mysql-every-type.ts';
import {
  createDatabase,
  createMongoDatabase,
  createMysqlDatabase,
  type ServerName,
  sharedS3,
  type TestDatabase,
} from '../servers/shared.ts';
import { query } from '../workflow/installation.ts';
import type { Comparison, Contents } from './contents.ts';
import { readParquet } from './files.ts';
import { mongodbCannot, mysqlCannot, parquetCannot, postgresCannot } from './holds.ts';
import type { Meaning } from './meaning.ts';
import { flattened, readMongodb } from './mongodb.ts';
import { readMysql } from './mysql.ts';
import { readPostgres } from './postgres.ts';

export type SourceWord = 'pgsql' | MysqlKind | 'mongo';
export type TargetWord = SourceWord | 'files' | 's3';

export type Source = AsyncDisposable & {
  /** With `source_type`. */
  readonly settings: object;
  /** The entry of `tables` that takes everything. */
  readonly entry: (to: TargetWord) => object;
  readonly tables: (to: TargetWord) => readonly string[];
  readonly keyOf: (table: string, columns: readonly string[]) => readonly string[];
  readonly read: (table: string) => Promise<Contents>;
  /** The contents as the columns of the target would have them. */
  readonly shaped?: (contents: Contents, to: TargetWord, there: Contents) => Contents;
};

export type Target = AsyncDisposable & {
  /** With `destination_type`. */
  readonly settings: object;
  readonly read: (table: string) => Promise<Contents>;
  readonly cannotHold: Comparison['cannotHold'];
  /** What the system makes of every value of some kind, whoever writes it. */
  readonly makes?: (value: Meaning) => Meaning;
  readonly find?: (key: readonly string[]) => NonNullable<Comparison['find']>;
};

const familyOf = (word: TargetWord): TargetWord => (word === 'mariadb' ? 'mysql' : word);

/** Between two servers of one system there is nothing that the other cannot hold. */
export const sameSystem = (from: TargetWord, to: TargetWord): boolean => familyOf(from) === familyOf(to);
const taken = (from: SourceWord, to: TargetWord): object => ({
  mode: 'replace',
  ...(sameSystem(from, to) ? {} : { on_misfit: 'null' }),
});

export const servers: Readonly<Record<TargetWord, readonly ServerName[]>> = {
  pgsql: ['postgres'],
  mysql: ['mysql'],
  mariadb: ['mariadb'],
  mongo: ['mongodb'],
  files: [],
  s3: ['s3'],
};

/** What is read and how; which tables and what their keys are is said by whoever filled it. */
type Filled = Omit<Source, 'tables' | 'keyOf'>;

export const postgresSource = (database: TestDatabase, schema: string): Filled => ({
  settings: { source_type: 'pgsql', url: database.url },
  entry: (to) => ({ table_name: `${schema}.*`, ...taken('pgsql', to) }),
  read: (table) => readPostgres(database.url, schema, table),
  [Symbol.asyncDispose]: database.drop,
});

export const mysqlSource = (kind: MysqlKind, database: TestDatabase): Filled => ({
  settings: { source_type: kind, url: database.url },
  // The name of one table is longer than PostgreSQL's may be.
  entry: (to) => ({
    table_name: `${database.name}.*`,
    ...taken(kind, to),
    ...(to === 'pgsql' ? { exclude: [`${database.name}.${mysqlLongName}`] } : {}),
  }),
  read: (table) => readMysql(database.url, database.name, table),
  [Symbol.asyncDispose]: database.drop,
});

export const mongodbSource = (database: TestDatabase): Filled => ({
  settings: { source_type: 'mongo', url: database.url, db_name: database.name },
  entry: (to) => ({ table_name: '*', ...taken('mongo', to), ...(to === 'mongo' ? {} : { documents: 'flatten' }) }),
  read: (table) => readMongodb(database.url, database.name, table),
  shaped: (contents, to, there) =>
    to === 'mongo'
      ? contents
      : flattened(contents, there.columns.keys(), (path) => {
          throw new Error(`no column holds ${path}`);
        }),
  [Symbol.asyncDispose]: database.drop,
});

const keys: Readonly<Record<string, readonly string[]>> = {
  no_key: [],
  composite_key: ['region', 'day', 'n'],
  events: ['id', 'at'],
};
const keyOf = (table: string, columns: readonly string[]): readonly string[] => keys[table] ?? columns.slice(0, 1);

/** Every type of the system, at its edges. */
export const everyTypes: Readonly<Record<SourceWord, () => Promise<Source>>> = {
  async pgsql() {
    const database = await createDatabase();
    const [row] = await query<{ v: string }>(database.url, "SELECT current_setting('server_version_num') AS v");
    await query(database.url, everyType(Math.floor(Number(row?.v) / 10_000)));
    return { ...postgresSource(database, 'nasty'), tables: () => everyTypeTables, keyOf };
  },
  mysql: () => everyTypeOf('mysql'),
  mariadb: () => everyTypeOf('mariadb'),
  async mongo() {
    const database = await createMongoDatabase();
    await using client = new MongoClient(database.url);
    await fillEveryType(client.db());
    return {
      ...mongodbSource(database),
      tables: () => [...Object.keys(mongodbEveryType), 'empty'],
      keyOf: (table) => (table === 'ids' ? ['v'] : ['_id']),
    };
  },
};

async function everyTypeOf(kind: MysqlKind): Promise<Source> {
  const database = await createMysqlDatabase(kind);
  const connection = await mysql.createConnection(database.url);
  for (const statement of mysqlEveryType(kind)) await connection.query(statement);
  await connection.end();
  return {
    ...mysqlSource(kind, database),
    tables: (to) => [...mysqlEveryTypeTables, mysqlOddDates].filter((name) => to !== 'pgsql' || name !== mysqlLongName),
    keyOf,
  };
}

export const targets: Readonly<Record<TargetWord, (home: string) => Promise<Target>>> = {
  async pgsql() {
    const database = await createDatabase();
    return {
      settings: { destination_type: 'pgsql', url: database.url, schema: 'copy' },
      read: (table) => readPostgres(database.url, 'copy', table),
      cannotHold: postgresCannot,
      [Symbol.asyncDispose]: database.drop,
    };
  },
  mysql: () => mysqlTarget('mysql'),
  mariadb: () => mysqlTarget('mariadb'),
  async mongo() {
    const database = await createMongoDatabase();
    return {
      settings: { destination_type: 'mongo', url: database.url, schema: database.name },
      read: (table) => readMongodb(database.url, database.name, table),
      cannotHold: mongodbCannot,
      // The key is the document's: one column is `_id` itself, several are its fields.
      find: (key) => (row, column) => row.get(column) ?? (key.includes(column) ? partOf(row.get('_id'), column) : null),
      [Symbol.asyncDispose]: database.drop,
    };
  },
  async files(home) {
    const path = join(home, 'lake', crypto.randomUUID());
    const settings = { destination_type: 'files', path, format: 'parquet', schema: 'copy' };
    return { settings, ...parquetIn(path, async () => {}) };
  },
  async s3(home) {
    const s3 = await sharedS3();
    const path = join(home, 'lake', s3.bucket);
    const settings = {
      destination_type: 's3',
      s3_bucket_name: s3.bucket,
      endpoint: s3.endpoint,
      region: s3.region,
      access_key_id: s3.accessKeyId,
      secret_access_key: s3.secretAccessKey,
      force_path_style: true,
      format: 'parquet',
      schema: 'copy',
    };
    return { settings, ...parquetIn(path, () => download(s3, path)) };
  },
};

/** Read once, when the run is over. */
function parquetIn(path: string, fetch: () => Promise<void>): Omit<Target, 'settings'> {
  let read: Promise<Map<string, Contents>> | undefined;
  return {
    async read(table) {
      read ??= fetch().then(() => readParquet(join(path, 'copy')));
      const contents = (await read).get(table);
      if (!contents) throw new Error(`no folder for ${table}`);
      return contents;
    },
    cannotHold: parquetCannot,
    [Symbol.asyncDispose]: async () => {},
  };
}

/** The objects of a bucket as files of a folder, as they would come from a download. */
async function download(s3: Awaited<ReturnType<typeof sharedS3>>, folder: string): Promise<void> {
  const { endpoint, region, accessKeyId, secretAccessKey, bucket: Bucket } = s3;
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  for await (const page of paginateListObjectsV2({ client }, { Bucket })) {
    for (const { Key = '' } of page.Contents ?? []) {
      const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }));
      await mkdir(dirname(join(folder, Key)), { recursive: true });
      await writeFile(join(folder, Key), (await Body?.transformToByteArray()) ?? '');
    }
  }
  client.destroy();
}

async function mysqlTarget(kind: MysqlKind): Promise<Target> {
  const database = await createMysqlDatabase(kind);
  return {
    settings: { destination_type: kind, url: database.url, schema: database.name },
    read: (table) => readMysql(database.url, database.name, table),
    cannotHold: mysqlCannot,
    // MariaDB has no negative zero.
    ...(kind === 'mariadb'
      ? { makes: (value) => (value?.is === 'float' && value.value === 0 ? { ...value, value: 0 } : value) }
      : {}),
    [Symbol.asyncDispose]: database.drop,
  };
}

const partOf = (id: Meaning | undefined, column: string): Meaning =>
  id?.is === 'document' ? (id.value.get(column) ?? null) : (id ?? null);
