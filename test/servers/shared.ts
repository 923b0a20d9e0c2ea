import { randomBytes } from 'node:crypto';
import { get } from 'node:http';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { MongoClient } from 'mongodb';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { inject } from 'vitest';
import type { MongodbKind } from '../../servers/mongodb.ts';
import type { MysqlKind } from '../../servers/mysql.ts';

/** The whole test run shares one server of each kind; each test file makes its own databases and buckets in it. */

export type PostgresAddress = { readonly url: string };
/** Of a user who may do everything, without a database. */
export type MysqlAddress = { readonly url: string };
/** A real one where it can be had. mongo-java-server has no sessions: no transactions, no snapshots. */
export type MongodbAddress = { readonly url: string; readonly kind: MongodbKind };
export type TemporalAddress = { readonly address: string };
export type S3Address = {
  readonly endpoint: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
};

/** The oldest MongoDB that Godwit works with; what tests need of it that 3.6 has not is in mongo-java-server. */
const oldestMongodb = 4.4;

/** `postgres` is the npm package's version, `postgres/15` a certain one; so with the others. */
export type ServerName =
  | 'postgres'
  | `postgres/${number}`
  | MysqlKind
  | `${MysqlKind}/${number}`
  | 'mongodb'
  | `mongodb/${typeof oldestMongodb}`
  | 'temporal'
  | 's3';

/**
 * For `describe.skipIf(await missing('s3'))`: true when the server cannot be had. The reason is printed then, and again
 * at the end of `npm test`. With CI=true nothing is skipped: the suite runs and fails.
 */
export async function missing(name: ServerName): Promise<boolean> {
  const { missing: reason } = await ask(name);
  if (reason === undefined || process.env.CI === 'true') return false;
  console.warn(`skipped: no ${name}: ${reason}`);
  return true;
}

/** The shared PostgreSQL: a superuser's URL of its database `postgres`. */
export const sharedPostgres = (version?: number): Promise<PostgresAddress> =>
  have<PostgresAddress>(version === undefined ? 'postgres' : `postgres/${version}`);

export const sharedMysql = (version?: number): Promise<MysqlAddress> => sharedOf('mysql', version);

export const sharedMariadb = (version?: number): Promise<MysqlAddress> => sharedOf('mariadb', version);

const sharedOf = (kind: MysqlKind, version?: number): Promise<MysqlAddress> =>
  have<MysqlAddress>(version === undefined ? kind : `${kind}/${version}`);

/** Any, or one that has what came after 3.6: `$merge`, pipelines in updates. */
export const sharedMongodb = (version?: typeof oldestMongodb): Promise<MongodbAddress> =>
  have<MongodbAddress>(version === undefined ? 'mongodb' : `mongodb/${version}`);

export const sharedTemporal = (): Promise<TemporalAddress> => have<TemporalAddress>('temporal');

/** The shared S3 server and a new bucket in it. */
export async function sharedS3(
  bucket = `b-${randomBytes(6).toString('hex')}`,
): Promise<S3Address & { bucket: string }> {
  const address = await have<S3Address>('s3');
  const { endpoint, region, accessKeyId, secretAccessKey } = address;
  const client = new S3Client({
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
  });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  client.destroy();
  return { ...address, bucket };
}

export type TestDatabase = AsyncDisposable & {
  readonly url: string;
  readonly name: string;
  drop(): Promise<void>;
};

/** A new empty database in the shared PostgreSQL. */
export async function createDatabase(
  name = `t_${randomBytes(6).toString('hex')}`,
  options: { readonly version?: number; readonly template?: string } = {},
): Promise<TestDatabase> {
  const { url: server } = await sharedPostgres(options.version);
  const template = options.template ?? 'template0';
  const quoted = pg.escapeIdentifier(name);
  await query(server, `CREATE DATABASE ${quoted} TEMPLATE ${pg.escapeIdentifier(template)} ENCODING 'UTF8'`);
  const url = new URL(server);
  url.pathname = `/${encodeURIComponent(name)}`;
  const drop = () => query(server, `DROP DATABASE IF EXISTS ${quoted} WITH (FORCE)`);
  return { url: url.href, name, drop, [Symbol.asyncDispose]: drop };
}

/** A new empty database in the shared MySQL or MariaDB, with the server's own character set unless one is named. */
export async function createMysqlDatabase(
  kind: MysqlKind,
  name = `t_${randomBytes(6).toString('hex')}`,
  options: { readonly version?: number; readonly charset?: string } = {},
): Promise<TestDatabase> {
  const server = await sharedOf(kind, options.version);
  const charset = options.charset ? ` CHARACTER SET ${options.charset}` : '';
  await mysqlQuery(server.url, `CREATE DATABASE ${mysql.escapeId(name)}${charset}`);
  const url = new URL(server.url);
  url.pathname = `/${encodeURIComponent(name)}`;
  const drop = () => mysqlQuery(server.url, `DROP DATABASE IF EXISTS ${mysql.escapeId(name)}`);
  return { url: url.href, name, drop, [Symbol.asyncDispose]: drop };
}

/** A name of a database in the shared MongoDB that nobody uses: there a database begins with its first document. */
export async function createMongoDatabase(
  name = `t_${randomBytes(6).toString('hex')}`,
  version?: typeof oldestMongodb,
): Promise<TestDatabase> {
  const server = await sharedMongodb(version);
  const url = new URL(server.url);
  url.pathname = `/${encodeURIComponent(name)}`;
  // Of the server's URL, not of the database's: a user's own is looked for in the database of the path.
  const drop = async () => {
    await using client = new MongoClient(server.url);
    await client.db(name).dropDatabase();
  };
  return { url: url.href, name, drop, [Symbol.asyncDispose]: drop };
}

async function mysqlQuery(url: string, sql: string): Promise<void> {
  const connection = await mysql.createConnection(url);
  try {
    await connection.query(sql);
  } finally {
    await connection.end();
  }
}

async function query(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

async function have<Address>(name: ServerName): Promise<Address> {
  const answer = await ask(name);
  if (answer.missing !== undefined) throw new Error(`no ${name}: ${answer.missing}`);
  return answer.address as Address;
}

type Answer = { readonly address?: unknown; readonly missing?: string };

/** Not by fetch, which gives up after five minutes: building a server may take longer. */
function ask(name: ServerName): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = get(`${inject('godwitServers')}/${name}`, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (piece: string) => {
        text += piece;
      });
      response.on('end', () => resolve(JSON.parse(text) as Answer));
    });
    request.on('error', reject);
  });
}
