/**
 * One connection to PostgreSQL with everything pinned that changes how values are read or written (decision 19), so that
 * the same row has the same bytes whatever the server, the database or the role have set.
 */
import pg from 'pg';
import { GodwitError, type Where } from '../../errors.ts';
import { atServer, sqlstate, translate } from './errors.ts';
import type { PostgresAddress } from './settings.ts';
import { slabSocket } from './slabs.ts';
import { literal } from './sql.ts';

export type SessionOptions = {
  /** Ends the session: its statement is canceled on the server and the socket is destroyed. */
  readonly signal?: AbortSignal;
  /** Milliseconds; 0 = none. Defaults: statement 0, lock 30 s, idle in transaction 0. */
  readonly statementTimeout?: number;
  readonly lockTimeout?: number;
  readonly idleInTransactionTimeout?: number;
  /** More settings, pinned like the others. */
  readonly set?: Readonly<Record<string, string>>;
  /** Added to every error of this session. */
  readonly where?: Where;
};

export interface Session extends AsyncDisposable {
  readonly client: pg.Client;
  /** Major version: 13 … 18. */
  readonly version: number;
  /** The backend's process id. */
  readonly pid: number;
  /** Rejects when the connection ends in any way but by dispose. Never resolves; needs no catch. */
  readonly lost: Promise<never>;
  /** Rows as objects. Dates, numerics and int8 are texts as the server wrote them. Errors are translated. */
  query<R extends object = Record<string, unknown>>(text: string, values?: readonly unknown[]): Promise<R[]>;
  /** The columns of a statement's result, as the server describes them. Runs the statement. */
  describe(text: string): Promise<pg.FieldDef[]>;
  /** Asks the server to cancel what this session is doing; resolves when asked, at the latest after two seconds. */
  cancel(): Promise<void>;
  /** Ends now: cancels on the server, destroys the socket. Idempotent, never throws. */
  destroy(): void;
}

/**
 * Throws CONNECTION_FAILED, UNKNOWN_HOST, LOGIN_REFUSED, DATABASE_MISSING, TLS_FAILED, SERVER_BUSY; the signal's reason
 * when it fired. The caller disposes.
 */
export async function openSession(address: PostgresAddress, options: SessionOptions = {}): Promise<Session> {
  options.signal?.throwIfAborted();
  const attempts = tlsAttempts(address);
  for (const [index, ssl] of attempts.entries()) {
    try {
      return await connect(address, ssl, options);
    } catch (error) {
      const last = index === attempts.length - 1;
      if (last || !worthOtherTls(error)) throw error;
    }
  }
  throw new GodwitError('INTERNAL', 'No way to connect was tried.');
}

async function connect(address: PostgresAddress, ssl: Tls, options: SessionOptions): Promise<Session> {
  const { signal, where = {} } = options;
  const client = new pg.Client({
    host: address.host,
    port: address.port,
    database: address.database,
    user: address.user,
    // Never fall back to PGPASSWORD or ~/.pgpass of whoever runs the worker.
    password: address.password ?? (() => ''),
    ssl,
    ...(ssl === false ? { stream: slabSocket } : {}),
    keepAlive: true,
    keepAliveInitialDelayMillis: 30_000,
    connectionTimeoutMillis: address.connectSeconds * 1000,
    application_name: 'godwit',
    client_encoding: 'UTF8',
    types: { getTypeParser: textParsers } as pg.CustomTypesConfig,
  });
  let version = 0;
  const wire = wireOf(client);
  wire.on('parameterStatus', (status) => {
    if (status.parameterName === 'server_version') version = Number.parseInt(status.parameterValue, 10);
  });

  let disposed = false;
  const { promise: lost, reject: lose } = Promise.withResolvers<never>();
  lost.catch(() => {});
  client.on('error', (error) => lose(translate(error, where)));
  client.on('end', () => {
    if (!disposed) lose(new GodwitError('CONNECTION_FAILED', 'The connection to PostgreSQL ended.', where));
  });

  const fail = (error: unknown): unknown => (signal?.aborted ? signal.reason : translate(error, where));
  const cancel = () => requestCancel(address, ssl, wire);
  const destroy = () => {
    if (disposed) return;
    disposed = true;
    void cancel().catch(() => {});
    wire.stream.destroy();
    lose(fail(new Error('Connection terminated')) as Error);
  };
  signal?.addEventListener('abort', destroy, { once: true });

  const describe = async (text: string): Promise<pg.FieldDef[]> => {
    try {
      return (await client.query(text)).fields;
    } catch (error) {
      throw fail(error);
    }
  };
  const query = async <R extends object>(text: string, values?: readonly unknown[]): Promise<R[]> => {
    try {
      const result = await client.query<R>(text, values as unknown[] | undefined);
      // Several statements in one text give several results: the rows of the last one.
      return Array.isArray(result) ? (result.at(-1)?.rows ?? []) : result.rows;
    } catch (error) {
      throw fail(error);
    }
  };

  try {
    await client.connect();
    await query(pins(version, options));
  } catch (error) {
    signal?.removeEventListener('abort', destroy);
    destroy();
    throw signal?.aborted ? signal.reason : atServer(translate(error, where), address);
  }
  return {
    client,
    version,
    pid: wire.processID,
    lost,
    query,
    describe,
    cancel,
    destroy,
    async [Symbol.asyncDispose]() {
      signal?.removeEventListener('abort', destroy);
      if (disposed) return;
      disposed = true;
      // A connection in the middle of something does not answer `end`: give it a moment, then cut.
      const ended = client.end().catch(() => {});
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, 2000);
      });
      await Promise.race([ended, late]);
      clearTimeout(timer);
      wire.stream.destroy();
    },
  };
}

/** Every setting that changes the text or the meaning of values, and every timeout a role could have set. */
function pins(version: number, options: SessionOptions): string {
  const settings: Record<string, string> = {
    TimeZone: 'UTC',
    DateStyle: 'ISO, YMD',
    IntervalStyle: 'postgres',
    bytea_output: 'hex',
    extra_float_digits: '1', // 1 and more: the shortest text that reads back as the same float
    client_encoding: 'UTF8',
    search_path: '', // pg_catalog alone: every name is written with its schema
    lc_monetary: 'C',
    xmloption: 'content',
    quote_all_identifiers: 'off',
    standard_conforming_strings: 'on',
    array_nulls: 'on',
    row_security: 'off', // a policy that would hide rows is an error, never a smaller copy
    default_transaction_isolation: 'read committed',
    jit: 'off', // compiling costs more than the catalog queries it would speed up
    statement_timeout: String(options.statementTimeout ?? 0),
    lock_timeout: String(options.lockTimeout ?? 30_000),
    idle_in_transaction_session_timeout: String(options.idleInTransactionTimeout ?? 0),
    tcp_keepalives_idle: '30',
    tcp_keepalives_interval: '10',
    tcp_keepalives_count: '3',
    ...(version >= 14 ? { idle_session_timeout: '0' } : {}),
    ...(version >= 17 ? { transaction_timeout: '0' } : {}),
    ...options.set,
  };
  const calls = Object.entries(settings).map(
    ([name, value]) => `pg_catalog.set_config(${literal(name)}, ${literal(value)}, false)`,
  );
  return `SELECT ${calls.join(', ')}`;
}

// ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

type Tls =
  | false
  | { rejectUnauthorized: boolean; ca?: string; cert?: string; key?: string; checkServerIdentity?: () => undefined };

/** As libpq: `prefer` tries TLS and takes a plain connection where there is none, `allow` the other way round. */
function tlsAttempts(address: PostgresAddress): Tls[] {
  if (address.host.startsWith('/')) return [false];
  const { ca, cert, sslmode } = address;
  const base = { ca, cert, key: address.key?.() };
  const unverified = { ...base, rejectUnauthorized: false };
  switch (sslmode) {
    case 'disable':
      return [false];
    case 'allow':
      return [false, unverified];
    case 'prefer':
      return [unverified, false];
    case 'require':
      // As libpq: with a certificate authority given, `require` verifies it.
      return [ca ? { ...base, rejectUnauthorized: true, checkServerIdentity: () => undefined } : unverified];
    case 'verify-ca':
      return [{ ...base, rejectUnauthorized: true, checkServerIdentity: () => undefined }];
    case 'verify-full':
      return [{ ...base, rejectUnauthorized: true }];
  }
}

const worthOtherTls = (error: unknown): boolean =>
  error instanceof GodwitError && (error.code === 'TLS_FAILED' || sqlstate(error) === '28000');

// ── The wire ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What of pg's undocumented connection is used: its socket, and the key to cancel by. Pinned by package-lock. */
type Wire = {
  readonly stream: import('node:net').Socket;
  readonly processID: number;
  readonly secretKey: number;
  on(event: 'parameterStatus', listener: (status: { parameterName: string; parameterValue: string }) => void): void;
};

export const wireOf = (client: pg.Client): Wire => {
  const held = client as unknown as { connection: Wire; processID: number; secretKey: number };
  return {
    get stream() {
      return held.connection.stream;
    },
    get processID() {
      return held.processID;
    },
    get secretKey() {
      return held.secretKey;
    },
    on: (event, listener) => held.connection.on(event, listener),
  };
};

/** A cancel request goes over a connection of its own, without logging in (protocol: CancelRequest). */
async function requestCancel(address: PostgresAddress, ssl: Tls, wire: Wire): Promise<void> {
  const { processID, secretKey } = wire;
  if (!processID) return;
  // `connection` is an option of the driver its types leave out.
  const connection = new (pg as unknown as { Connection: new (options: object) => CancelConnection }).Connection({
    ssl,
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, 2000);
  timer.unref();
  connection.on('error', () => resolve());
  connection.on('end', () => resolve());
  connection.on(ssl ? 'sslconnect' : 'connect', () => connection.cancel(processID, secretKey));
  if (ssl) connection.on('connect', () => connection.requestSsl());
  if (address.host.startsWith('/')) connection.connect(`${address.host}/.s.PGSQL.${address.port}`);
  else connection.connect(address.port, address.host);
  await promise;
  clearTimeout(timer);
  connection.stream.destroy();
}

type CancelConnection = {
  readonly stream: import('node:net').Socket;
  on(event: string, listener: () => void): void;
  connect(port: number | string, host?: string): void;
  requestSsl(): void;
  cancel(processID: number, secretKey: number): void;
};

// ── Values of catalog queries ───────────────────────────────────────────────────────────────────────────────────────

/** bool, int2, int4, oid, float and json are parsed; everything else stays the server's text. Arrays of text are parsed. */
const parsed = new Set([16, 21, 23, 26, 700, 701, 114, 3802, 1009, 1005, 1007, 1000, 1002, 1003, 1028]);
const textParsers = (oid: number, format?: 'text' | 'binary') =>
  parsed.has(oid) ? pg.types.getTypeParser(oid, format as 'text') : (value: string) => value;
