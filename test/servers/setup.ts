import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { projectFolder } from '../../config.ts';
import { type MongodbKind, realMongodb, startMongodb } from '../../servers/mongodb.ts';
import { type MysqlKind, startMysql } from '../../servers/mysql.ts';
import { startPostgres } from '../../servers/postgres.ts';
import { startS3 } from '../../servers/s3.ts';
import { startTemporal } from '../../servers/temporal.ts';
import type { MongodbAddress, MysqlAddress, PostgresAddress, S3Address, TemporalAddress } from './shared.ts';

type Started = { readonly address: unknown; readonly stop: () => Promise<void> };
type Project = { provide(key: 'godwitServers', value: string): void };

declare module 'vitest' {
  interface ProvidedContext {
    /** Where a test file asks for a shared server: `GET /postgres/18`. */
    godwitServers: string;
  }
}

const none = async () => {};

async function mysql(kind: MysqlKind, version?: number): Promise<Started> {
  const url = process.env[`GODWIT_TEST_${kind.toUpperCase()}_URL`];
  if (url && version === undefined) return { address: { url } satisfies MysqlAddress, stop: none };
  // All tests that name no version, against this one: `GODWIT_TEST_MYSQL_VERSION=5`, `GODWIT_TEST_MARIADB_VERSION=10.6`.
  const named = version ?? Number(process.env[`GODWIT_TEST_${kind.toUpperCase()}_VERSION`] ?? 0);
  const server = await startMysql({ kind, ...(named ? { version: named } : {}) });
  return { address: { url: server.url } satisfies MysqlAddress, stop: () => server.stop('immediate') };
}

/** Real servers by the name a test asks for, or the ones the environment names. */
const servers: Readonly<Record<string, (version?: number) => Promise<Started>>> = {
  async postgres(version) {
    const url = process.env.GODWIT_TEST_POSTGRES_URL;
    if (url && version === undefined) return { address: { url } satisfies PostgresAddress, stop: none };
    const server = await startPostgres({ ...(version ? { version } : {}), settings: { max_connections: '300' } });
    return { address: { url: server.url } satisfies PostgresAddress, stop: () => server.stop('immediate') };
  },
  mysql: (version) => mysql('mysql', version),
  mariadb: (version) => mysql('mariadb', version),
  async mongodb(version) {
    const url = process.env.GODWIT_TEST_MONGODB_URL;
    if (url) return { address: { url, kind: 'mongod' } satisfies MongodbAddress, stop: none };
    const kind = (process.env.GODWIT_TEST_MONGODB_KIND as MongodbKind | undefined) ?? (await realMongodb());
    // Of what came after 3.6, mongo-java-server has all that the tests which ask for a version need.
    const server = await startMongodb({
      kind: version !== undefined && kind === 'mongod-3.6' ? 'mongo-java-server' : kind,
    });
    return { address: { url: server.url, kind: server.kind } satisfies MongodbAddress, stop: server.stop };
  },
  async temporal() {
    const address = process.env.GODWIT_TEST_TEMPORAL_ADDRESS;
    if (address) return { address: { address } satisfies TemporalAddress, stop: none };
    const server = await startTemporal();
    return { address: { address: server.address } satisfies TemporalAddress, stop: server.stop };
  },
  async s3() {
    const { GODWIT_TEST_S3_ENDPOINT: endpoint, AWS_REGION: region = 'us-east-1' } = process.env;
    const { AWS_ACCESS_KEY_ID: accessKeyId = '', AWS_SECRET_ACCESS_KEY: secretAccessKey = '' } = process.env;
    if (endpoint) {
      return { address: { endpoint, region, accessKeyId, secretAccessKey } satisfies S3Address, stop: none };
    }
    const server = await startS3();
    const { endpoint: own, region: place, accessKeyId: id, secretAccessKey: secret } = server;
    const address: S3Address = { endpoint: own, region: place, accessKeyId: id, secretAccessKey: secret };
    return { address, stop: server.stop };
  },
};

/**
 * One server of each kind for the whole test run, started when the first test asks for it: test files run in processes
 * of their own, so they ask over HTTP on loopback. Stops what it started.
 */
export default async function setup(project: Project): Promise<() => Promise<void>> {
  // Test files, and the programs they start and kill, load the same modules hundreds of times: compiled once.
  process.env.NODE_COMPILE_CACHE ??= join(projectFolder, 'node_modules', '.cache', 'compiled');
  const started = new Map<string, Promise<Started>>();
  const listener: Server = createServer(async (request, response) => {
    const [kind = '', version] = (request.url ?? '').slice(1).split('/');
    const key = `${kind}/${version ?? ''}`;
    const server = started.get(key) ?? servers[kind]?.(version ? Number(version) : undefined);
    if (server) started.set(key, server);
    try {
      response.end(JSON.stringify({ address: (await server)?.address }));
    } catch (error) {
      response.end(JSON.stringify({ missing: (error as Error).message }));
    }
  });
  listener.requestTimeout = 0; // the first to ask may wait for a download or a build
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address() as { port: number };
  project.provide('godwitServers', `http://127.0.0.1:${port}`);

  return async () => {
    listener.closeAllConnections();
    listener.close();
    const all = await Promise.allSettled(started.values());
    await Promise.all(all.map((one) => (one.status === 'fulfilled' ? one.value.stop() : undefined)));
  };
}
