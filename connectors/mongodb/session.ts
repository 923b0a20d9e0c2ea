/**
 * One MongoClient: a pool of connections to every member, with everything pinned that a URL or a default could change.
 * Documents are read raw (raw.ts); the few answers that are looked into as objects are small ones of the catalog.
 */
import { type Db, type Document, MongoClient, type MongoClientOptions } from 'mongodb';
import { GodwitError, type Where } from '../../errors.ts';
import { atServer, numberOf, translate } from './errors.ts';
import type { MongoAddress } from './settings.ts';

/**
 * For reads whose values matter: nothing becomes a JavaScript number, string or Date that was not one in BSON, so what is
 * read is what would be written. Give it to `find`, `aggregate`, `command`.
 */
export const exact = { promoteValues: false, promoteBuffers: false, bsonRegExp: true } as const;

export type ServerFacts = {
  readonly version: readonly [major: number, minor: number, patch: number];
  readonly wire: number;
  /** Of a replica set. */
  readonly set?: { readonly name: string; readonly members: readonly string[] };
  /** Of the server's process, new at each start; since 4.4. */
  readonly process?: string;
  /** A router in front of a sharded cluster. */
  readonly mongos: boolean;
  readonly writable: boolean;
  /** The server's clock, milliseconds. */
  readonly now: number;
  /** `seconds:increment` of the last operation, where the server keeps an oplog. */
  readonly operationTime?: string;
};

export interface Session extends AsyncDisposable {
  readonly client: MongoClient;
  /** The database of the settings. */
  readonly db: Db;
  /** The server is a member of a replica set, or a router in front of some. */
  readonly replicated: boolean;
  /** Asked anew each time. */
  facts(): Promise<ServerFacts>;
  /** Runs the work; what the driver throws is translated. */
  run<T>(work: (db: Db) => Promise<T>, where?: Where): Promise<T>;
  /** The same for what only reads: again when the connection failed, which may have died in the pool long ago. */
  read<T>(work: (db: Db) => Promise<T>, where?: Where): Promise<T>;
}

/** Throws CONNECTION_FAILED, UNKNOWN_HOST, LOGIN_REFUSED, TLS_FAILED, SERVER_UNSUITABLE. The caller disposes. */
export async function openSession(address: MongoAddress): Promise<Session> {
  let client: MongoClient | undefined;
  let hello: Document;
  try {
    client = new MongoClient(urlOf(address), optionsOf(address));
    await client.connect();
    // Connecting authenticates; a database the login may not see is found out by what it is asked for.
    hello = await helloOf(client.db('admin'));
  } catch (error) {
    await client?.close().catch(() => {});
    throw atServer(translate(error), address.hosts, address.database);
  }
  const opened = client;
  const db = opened.db(address.database);
  const run: Session['run'] = async (work, where) => {
    try {
      return await work(db);
    } catch (error) {
      throw translate(error, where);
    }
  };
  return {
    client: opened,
    db,
    replicated: typeof hello.setName === 'string' || hello.msg === 'isdbgrid',
    facts: () => factsOf(db),
    run,
    async read(work, where) {
      for (let tries = 1; ; tries++) {
        try {
          return await run(work, where);
        } catch (error) {
          if (!worthAnother(error, tries)) throw error;
        }
      }
    },
    async [Symbol.asyncDispose]() {
      await opened.close().catch(() => {});
    },
  };
}

const poolSize = 16;

/**
 * Is a read worth trying again? Once, when the connection failed; and as often as there may be dead connections in the
 * pool when nothing could even be written: the driver takes such a failure for one of that connection alone.
 */
export function worthAnother(error: unknown, tries: number): boolean {
  if (!(error instanceof GodwitError) || error.code !== 'CONNECTION_FAILED') return false;
  const { native } = error.where;
  return tries < (native === 'ECONNRESET' || native === 'EPIPE' ? poolSize + 2 : 2);
}

/** Opens when first used, once for all; what failed to open is tried again by the next use. */
export class LazySession implements AsyncDisposable {
  readonly #address: MongoAddress;
  #opening: Promise<Session> | undefined;
  #closed = false;

  constructor(address: MongoAddress) {
    this.#address = address;
  }

  async get(): Promise<Session> {
    if (this.#closed) throw new GodwitError('CONNECTION_FAILED', 'The connection to MongoDB was closed.');
    this.#opening ??= openSession(this.#address);
    const opening = this.#opening;
    try {
      return await opening;
    } catch (error) {
      if (this.#opening === opening) this.#opening = undefined;
      throw error;
    }
  }

  async use<T>(work: (session: Session) => Promise<T>, where?: Where): Promise<T> {
    const session = await this.get();
    return await session.run(() => work(session), where);
  }

  /** For what only reads: see `Session.read`. */
  async read<T>(work: (session: Session) => Promise<T>, where?: Where): Promise<T> {
    const session = await this.get();
    return await session.read(() => work(session), where);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    const session = await this.#opening?.catch(() => undefined);
    await session?.[Symbol.asyncDispose]();
  }
}

/** Without the credentials: they go in the options, so that no error of the driver can show them. */
function urlOf({ srv, hosts, database, loadBalanced }: MongoAddress): string {
  const list = hosts.map((host) => (host.startsWith('/') ? encodeURIComponent(host) : host)).join(',');
  return `${srv ? 'mongodb+srv' : 'mongodb'}://${list}/${encodeURIComponent(database)}${loadBalanced ? '?loadBalanced=true' : ''}`;
}

function optionsOf(address: MongoAddress): MongoClientOptions {
  const milliseconds = address.connectSeconds * 1000;
  const { user, password, authMechanism } = address;
  const external = authMechanism === 'PLAIN' || authMechanism === 'MONGODB-X509';
  const source = address.authSource ?? (external ? '$external' : address.srv ? undefined : 'admin');
  const key = address.key?.();
  return {
    appName: 'godwit',
    ...(user === undefined ? {} : { auth: { username: user, password: password?.() ?? '' } }),
    ...(authMechanism && { authMechanism }),
    ...(user !== undefined && source !== undefined && { authSource: source }),
    ...(address.replicaSet && { replicaSet: address.replicaSet }),
    ...(!address.srv && { directConnection: address.direct }),
    readPreference: address.readPreference,
    tls: address.tls,
    ...(address.tls && address.ca !== undefined && { ca: address.ca }),
    ...(address.tls && address.cert !== undefined && { cert: address.cert }),
    ...(address.tls && key !== undefined && { key }),
    ...(address.tls && address.insecure && { tlsInsecure: true }),
    connectTimeoutMS: milliseconds,
    serverSelectionTimeoutMS: milliseconds,
    // A statement may take long; a server that went away is noticed by the heartbeat, which ends its connections.
    socketTimeoutMS: 0,
    heartbeatFrequencyMS: 10_000,
    maxPoolSize: poolSize,
    maxIdleTimeMS: 60_000,
    retryReads: true,
    retryWrites: true,
    writeConcern: { w: 'majority', journal: true },
    ignoreUndefined: false,
  };
}

async function factsOf(db: Db): Promise<ServerFacts> {
  const admin = db.client.db('admin');
  const hello = await helloOf(admin);
  const build = await admin.command({ buildInfo: 1 });
  const [major = 0, minor = 0, patch = 0] = (build.versionArray as number[] | undefined) ?? [];
  const time = hello.operationTime as { getHighBits(): number; getLowBits(): number } | undefined;
  return {
    version: [major, minor, patch],
    wire: Number(hello.maxWireVersion ?? 0),
    ...(typeof hello.setName === 'string' && { set: { name: hello.setName, members: membersOf(hello) } }),
    ...(hello.topologyVersion && { process: String(hello.topologyVersion.processId) }),
    mongos: hello.msg === 'isdbgrid',
    writable: Boolean(hello.isWritablePrimary ?? hello.ismaster),
    now: hello.localTime instanceof Date ? hello.localTime.getTime() : Date.now(),
    ...(time && { operationTime: `${time.getHighBits() >>> 0}:${time.getLowBits() >>> 0}` }),
  };
}

/** Older servers, and what speaks their protocol, know the command by its former name. */
async function helloOf(admin: Db): Promise<Document> {
  try {
    return await admin.command({ hello: 1 });
  } catch (error) {
    if (numberOf(error) !== 59) throw error;
    return await admin.command({ isMaster: 1 });
  }
}

const membersOf = ({ hosts = [], passives = [] }: Document): string[] => [...hosts, ...passives].sort();
