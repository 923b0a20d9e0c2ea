/**
 * One connection to MySQL or MariaDB with everything pinned that changes how values are read or written (decision 19), so
 * that the same row has the same bytes whatever the server or the login have set.
 */
import { Socket } from 'node:net';
import { Readable } from 'node:stream';
import mysql from 'mysql2';
import { GodwitError, type Where } from '../../errors.ts';
import { atServer, numberOf, translate } from './errors.ts';
import type { MysqlAddress } from './settings.ts';
import { divertible } from './socket.ts';

export type Flavor = 'mysql' | 'mariadb';

export type SessionOptions = {
  /** Ends the session: its statement is killed on the server and the socket is destroyed. */
  readonly signal?: AbortSignal;
  /** Milliseconds; 0 = none, the default. Of SELECT alone in MySQL. */
  readonly statementTimeout?: number;
  /** Milliseconds; default 30 s. Both metadata and row locks; the servers count in seconds. */
  readonly lockTimeout?: number;
  /** More session variables, pinned like the others: SQL text of the value by name (`{ foreign_key_checks: '0' }`). */
  readonly set?: Readonly<Record<string, string>>;
  /**
   * Target connections only: the server may ask for a stream by LOAD DATA LOCAL. It is given the one that the very
   * statement brings (`infileStreamFactory`), never a file. Absent: the server is told that this client cannot.
   */
  readonly localInfile?: boolean;
  /** Added to every error of this session. */
  readonly where?: Where;
};

export type Outcome = { readonly affected: number; readonly warnings: number; readonly info: string };

export interface Session extends AsyncDisposable {
  readonly client: mysql.Connection;
  readonly flavor: Flavor;
  /** `[10, 11, 8]`. */
  readonly version: readonly [major: number, minor: number, patch: number];
  /** The server's connection id, to be killed by. */
  readonly id: number;
  /** Rejects when the connection ends in any way but by dispose. Never resolves; needs no catch. */
  readonly lost: Promise<never>;
  /**
   * Rows as objects. Integers are numbers where those are exact, else texts; decimals, dates and times are texts. `?` in
   * the text stand for the values. Errors are translated.
   */
  query<R extends object = Record<string, unknown>>(text: string, values?: readonly unknown[]): Promise<R[]>;
  /** A statement without rows. `options` are the driver's (`infileStreamFactory`). */
  run(text: string, options?: Omit<mysql.QueryOptions, 'sql'>): Promise<Outcome>;
  /** Asks the server to end the statement this session is running; resolves when asked, at the latest after two seconds. */
  cancel(): Promise<void>;
  /** Ends now: kills the connection on the server, destroys the socket. Idempotent, never throws. */
  destroy(): void;
}

/**
 * Throws CONNECTION_FAILED, UNKNOWN_HOST, LOGIN_REFUSED, DATABASE_MISSING, TLS_FAILED, SERVER_BUSY; the signal's reason
 * when it fired. The caller disposes.
 */
export async function openSession(address: MysqlAddress, options: SessionOptions = {}): Promise<Session> {
  options.signal?.throwIfAborted();
  const attempts = tlsAttempts(address);
  for (const [index, ssl] of attempts.entries()) {
    try {
      return await connect(address, ssl, options);
    } catch (error) {
      const last = index === attempts.length - 1;
      if (last || !worthOtherTls(error, address)) throw error;
    }
  }
  throw new GodwitError('INTERNAL', 'No way to connect was tried.');
}

async function connect(address: MysqlAddress, ssl: Tls, options: SessionOptions): Promise<Session> {
  const { signal, where = {} } = options;
  const { promise: lost, reject: lose } = Promise.withResolvers<never>();
  lost.catch(() => {});
  // In answer to any statement the protocol lets a server ask for a file of the client.
  const infileStreamFactory = (): Readable => {
    lose(askedForFile(where));
    destroy();
    return new Readable({ read() {} });
  };
  const localInfile = options.localInfile === true;
  const client = mysql.createConnection({ ...driverOptions(address, ssl, localInfile), infileStreamFactory });
  const wire = wireOf(client);
  let disposed = false;
  let id = 0;
  const fail = (error: unknown): unknown => (signal?.aborted ? signal.reason : translate(error, where));
  const ended = () => {
    if (!disposed) lose(new GodwitError('CONNECTION_FAILED', 'The connection to MySQL ended.', where));
  };
  client.on('error', (error) => lose(translate(error, where)));
  client.on('end', ended);

  const cancel = () => kill(address, ssl, 'QUERY', id);
  const destroy = () => {
    if (disposed) return;
    disposed = true;
    void kill(address, ssl, 'CONNECTION', id).catch(() => {});
    wire.stream.destroy();
    lose(fail(new Error('Connection terminated')) as Error);
  };

  // A connection that ended says so to the connection, not always to the statement.
  const waiting = new Set<(reason: unknown) => void>();
  let over = false;
  lost.catch((reason: unknown) => {
    over = true;
    for (const reject of waiting) reject(reason);
  });
  const ask = (query: mysql.QueryOptions): Promise<unknown> => {
    if (over) return lost;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    waiting.add(reject);
    client.query(query, (error, result) => {
      waiting.delete(reject);
      if (error) reject(fail(error));
      else resolve(result);
    });
    return promise;
  };
  const query = async <R extends object>(text: string, values?: readonly unknown[]): Promise<R[]> =>
    (await ask({ sql: text, values: values as unknown[] })) as R[];
  const run = async (text: string, more: Omit<mysql.QueryOptions, 'sql'> = {}): Promise<Outcome> => {
    const result = (await ask({ ...more, sql: text })) as Partial<mysql.ResultSetHeader>;
    return { affected: result.affectedRows ?? 0, warnings: result.warningStatus ?? 0, info: result.info ?? '' };
  };

  signal?.addEventListener('abort', destroy, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      client.once('connect', () => resolve());
      lost.catch(reject);
    });
    wire.stream.on('close', ended);
    const [server] = await query<{ version: string; id: number }>('SELECT @@version AS version, CONNECTION_ID() AS id');
    const { flavor, version } = serverOf(server?.version ?? '');
    id = Number(server?.id);
    for (const statement of pins(flavor, version, options)) await run(statement);
    return {
      client,
      flavor,
      version,
      id,
      lost,
      query,
      run,
      cancel,
      destroy,
      async [Symbol.asyncDispose]() {
        signal?.removeEventListener('abort', destroy);
        if (disposed) return;
        disposed = true;
        // A connection in the middle of something does not answer: give it a moment, then cut.
        const { promise, resolve } = Promise.withResolvers<void>();
        const timer = setTimeout(resolve, 2000);
        client.end(() => resolve());
        await promise;
        clearTimeout(timer);
        wire.stream.destroy();
      },
    };
  } catch (error) {
    signal?.removeEventListener('abort', destroy);
    if (id === 0) disposed = true; // nothing to kill yet
    wire.stream.destroy();
    destroy();
    throw signal?.aborted ? signal.reason : atServer(translate(error, where), address);
  }
}

/** A server that does this is none, or another one stands in between. */
export const askedForFile = (where: Where = {}): GodwitError =>
  new GodwitError(
    'SERVER_UNSUITABLE',
    'The server asked for a file that nobody offered. It got nothing, and the connection was ended: this is no ordinary MySQL.',
    where,
  );

/** `10.11.8-MariaDB-log`, `5.5.5-10.6.1-MariaDB` (the replication prefix of old), `8.4.3`, `8.0.mysql_aurora.3.04`. */
function serverOf(text: string): { flavor: Flavor; version: Session['version'] } {
  const flavor = /mariadb/i.test(text) ? 'mariadb' : 'mysql';
  const [, major, minor, patch] = /^(?:5\.5\.5-(?=\d+\.\d+\.\d+-MariaDB))?(\d+)\.(\d+)(?:\.(\d+))?/i.exec(text) ?? [];
  return { flavor, version: [Number(major ?? 0), Number(minor ?? 0), Number(patch ?? 0)] };
}

/** At least this version of the flavor: `atLeast(session, { mysql: [8, 0, 13], mariadb: [10, 7] })`; a flavor left out is no. */
export function atLeast(
  { flavor, version }: { flavor: Flavor; version: readonly number[] },
  wanted: Partial<Record<Flavor, readonly number[]>>,
): boolean {
  const least = wanted[flavor];
  if (!least) return false;
  for (const [i, number] of least.entries()) {
    const have = version[i] ?? 0;
    if (have !== number) return have > number;
  }
  return true;
}

/** Every variable that changes the text or the meaning of values, or how many rows come, and every timeout. */
function pins(flavor: Flavor, version: Session['version'], options: SessionOptions): string[] {
  const server = { flavor, version };
  const lockSeconds = String(Math.max(1, Math.ceil((options.lockTimeout ?? 30_000) / 1000)));
  const statement = options.statementTimeout ?? 0;
  const variables: Record<string, string> = {
    // Not PAD_CHAR_TO_FULL_LENGTH, ANSI_QUOTES, PIPES_AS_CONCAT, NO_BACKSLASH_ESCAPES, EMPTY_STRING_IS_NULL, NO_ZERO_DATE.
    // A bound of a range may be one of its invalid dates.
    sql_mode:
      "'ALLOW_INVALID_DATES,STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'",
    time_zone: "'+00:00'",
    lc_messages: "'en_US'",
    autocommit: '1',
    completion_type: '0',
    sql_auto_is_null: '0',
    sql_select_limit: '18446744073709551615', // a smaller one would silently leave rows out
    sql_big_selects: '1',
    sql_safe_updates: '0',
    sql_quote_show_create: '1',
    group_concat_max_len: '4194304',
    lock_wait_timeout: lockSeconds,
    innodb_lock_wait_timeout: lockSeconds,
    wait_timeout: '28800',
    // The server waits for us while the other side is busy: its default of a minute would end a healthy read.
    net_write_timeout: '3600',
    net_read_timeout: '3600',
    ...(atLeast(server, { mysql: [5, 7, 8] }) ? { max_execution_time: String(statement) } : {}),
    ...(atLeast(server, { mysql: [8, 0, 0] }) ? { information_schema_stats_expiry: '0' } : {}),
    ...(flavor === 'mariadb' ? { max_statement_time: String(statement / 1000) } : {}),
    ...(atLeast(server, { mariadb: [10, 3] })
      ? { idle_transaction_timeout: '0', idle_readonly_transaction_timeout: '0', idle_write_transaction_timeout: '0' }
      : {}),
    ...(atLeast(server, { mariadb: [10, 3] }) ? { system_versioning_asof: 'DEFAULT' } : {}),
    ...options.set,
  };
  const list = Object.entries(variables).map(([name, value]) => `${name} = ${value}`);
  return [
    'SET NAMES utf8mb4 COLLATE utf8mb4_bin',
    `SET SESSION ${list.join(', ')}`,
    'SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE',
  ];
}

// ── The driver ──────────────────────────────────────────────────────────────────────────────────────────────────────

function driverOptions(address: MysqlAddress, ssl: Tls, localInfile: boolean): mysql.ConnectionOptions {
  return {
    host: address.host,
    user: address.user,
    password: address.password?.() ?? '',
    database: address.database,
    // The driver sends no password in the clear but through TLS or a Unix socket.
    ...(address.host.startsWith('/') ? { socketPath: address.host } : {}),
    ...(ssl === false ? {} : { ssl, enableCleartextPlugin: true }),
    stream: () => socketTo(address, ssl),
    connectTimeout: address.connectSeconds * 1000,
    charset: 'UTF8MB4_BIN',
    // Without query attributes and the ANSI way to call functions, a statement's packet is its text.
    flags: ['-IGNORE_SPACE', '-CLIENT_QUERY_ATTRIBUTES', '-FOUND_ROWS', ...(localInfile ? [] : ['-LOCAL_FILES'])],
    supportBigNumbers: true,
    bigNumberStrings: false,
    dateStrings: true,
    jsonStrings: true,
    connectAttributes: { program_name: 'godwit' },
  };
}

function socketTo({ host, port }: MysqlAddress, ssl: Tls): Socket {
  const socket = ssl === false ? divertible() : new Socket();
  if (host.startsWith('/')) return socket.connect(host);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, 30_000);
  socket.connect(port, host);
  // TLS over a socket compares the certificate with this name; for an address Node leaves it out.
  (socket as unknown as { _host: string })._host = host;
  return socket;
}

/** What of mysql2's undocumented connection is used: its socket, the reader of packets. Pinned by package-lock. */
export type Wire = {
  readonly stream: Socket;
  packetParser: { execute(data: Buffer): void };
};

export const wireOf = (client: mysql.Connection): Wire => {
  const held = client as unknown as Wire;
  return {
    get stream() {
      return held.stream;
    },
    get packetParser() {
      return held.packetParser;
    },
    set packetParser(parser) {
      held.packetParser = parser;
    },
  };
};

/** Over a connection of its own, as the same login: one may always kill one's own. */
async function kill(address: MysqlAddress, ssl: Tls, what: 'QUERY' | 'CONNECTION', id: number): Promise<void> {
  if (id === 0) return;
  const client = mysql.createConnection(driverOptions(address, ssl, false));
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, 2000);
  timer.unref();
  client.on('error', () => resolve());
  client.query(`KILL ${what} ${id}`, () => resolve());
  await promise;
  clearTimeout(timer);
  client.destroy();
}

// ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

type Tls = false | mysql.SslOptions;

/** As libpq: `prefer` tries TLS and takes a plain connection where there is none, `allow` the other way round. */
function tlsAttempts(address: MysqlAddress): Tls[] {
  if (address.host.startsWith('/')) return [false];
  const { sslmode, ca, cert, key } = address;
  const base = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key: key() }) };
  const unverified: Tls = { ...base, rejectUnauthorized: false };
  switch (sslmode) {
    case 'disable':
      return [false];
    case 'allow':
      return [false, unverified];
    case 'prefer':
      return [unverified, false];
    case 'require':
      // As libpq: with a certificate authority given, `require` verifies it.
      return [ca ? { ...base, rejectUnauthorized: true, verifyIdentity: false } : unverified];
    case 'verify-ca':
      return [{ ...base, rejectUnauthorized: true, verifyIdentity: false }];
    case 'verify-full':
      return [{ ...base, rejectUnauthorized: true, verifyIdentity: true }];
  }
}

/** A login that must use TLS is told, without it, that its password is wrong. */
const worthOtherTls = (error: unknown, { sslmode }: MysqlAddress): boolean =>
  error instanceof GodwitError &&
  (error.code === 'TLS_FAILED' || (sslmode === 'allow' && error.code === 'LOGIN_REFUSED' && numberOf(error) === 1045));
