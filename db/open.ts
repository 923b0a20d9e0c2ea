import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { sql } from 'drizzle-orm';
import { drizzle, type NodePgDatabase, type NodePgQueryResultHKT } from 'drizzle-orm/node-postgres';
import { migrate } from 'drizzle-orm/node-postgres/migrator';
import type { PgDatabase } from 'drizzle-orm/pg-core';
import pg from 'pg';
import { GodwitError } from '../errors.ts';
import * as schema from './schema.ts';

export type Db = NodePgDatabase<typeof schema>;
/** What queries take: the database, or a transaction in it. */
export type Executor = PgDatabase<NodePgQueryResultHKT, typeof schema>;

export type OpenOptions = {
  /** Connections at most. */
  readonly max?: number;
  /** Shown in pg_stat_activity. */
  readonly name?: string;
};

const migrationsFolder = fileURLToPath(new URL('./migrations', import.meta.url));
/** Any number, the same for every Godwit: who migrates holds it. */
const migrationLock = 7_013_280_117;

/**
 * Godwit's own PostgreSQL. Nothing connects until the first query; dispose ends the pool. Statements end after a
 * minute, waiting for a lock after fifteen seconds: nothing here takes longer.
 */
export class Database implements AsyncDisposable {
  readonly db: Db;
  readonly pool: pg.Pool;
  readonly url: string;
  #installation: Promise<string> | undefined;

  constructor(url: string, { max = 10, name = 'godwit' }: OpenOptions = {}) {
    this.url = url;
    this.pool = new pg.Pool({
      connectionString: url,
      max,
      application_name: name,
      connectionTimeoutMillis: 10_000,
      idleTimeoutMillis: 30_000,
      keepAlive: true,
      options:
        '-c statement_timeout=60s -c lock_timeout=15s -c idle_in_transaction_session_timeout=60s -c timezone=UTC',
    });
    // A connection that ends while idle is replaced by the next query; without a listener it would end the process.
    this.pool.on('error', () => {});
    this.db = drizzle({ client: this.pool, schema });
  }

  /** Applies what is missing, one process at a time; idempotent. */
  async migrate(): Promise<void> {
    const client = new pg.Client({ connectionString: this.url, application_name: 'godwit migrate' });
    client.on('error', () => {});
    try {
      await client.connect();
      await client.query('SELECT pg_advisory_lock($1)', [migrationLock]);
      await migrate(drizzle({ client }), {
        migrationsFolder,
        migrationsSchema: 'godwit',
        migrationsTable: 'migrations',
      });
    } catch (error) {
      throw databaseError(error);
    } finally {
      await client.end().catch(() => {});
    }
  }

  /**
   * Calls back for each NOTIFY on the channel, on a connection of its own, which is made again when it is lost (what was
   * said meanwhile is not repeated: listeners look for themselves now and then).
   */
  listen(channel: string, heard: (payload: string) => void): AsyncDisposable {
    let client: pg.Client | undefined;
    let ended = false;
    const begin = async () => {
      while (!ended) {
        const mine = new pg.Client({ connectionString: this.url, application_name: 'godwit listen', keepAlive: true });
        const gone = new Promise<void>((resolve) => mine.once('end', resolve).once('error', () => resolve()));
        client = mine;
        try {
          await mine.connect();
          mine.on('notification', ({ payload }) => heard(payload ?? ''));
          await mine.query(`LISTEN ${mine.escapeIdentifier(channel)}`);
          await gone;
        } catch {
          // The next one may.
        }
        await mine.end().catch(() => {});
        if (!ended) await sleep(1000, undefined, { ref: false });
      }
    };
    void begin();
    return {
      [Symbol.asyncDispose]: async () => {
        ended = true;
        await client?.end().catch(() => {});
      },
    };
  }

  /** The id stamped into every target's `_godwit` tables; made once. */
  installation(): Promise<string> {
    this.#installation ??= this.#readInstallation().catch((error) => {
      this.#installation = undefined;
      throw error;
    });
    return this.#installation;
  }

  async #readInstallation(): Promise<string> {
    // One row for ever: a second insert finds the lock taken, then the row.
    return await this.db.transaction(async (tx) => {
      await tx.execute(sql`SELECT pg_advisory_xact_lock(${migrationLock})`);
      const [found] = await tx.select().from(schema.installation).limit(1);
      if (found) return found.id;
      const id = crypto.randomUUID();
      await tx.insert(schema.installation).values({ id });
      return id;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pool.end();
  }
}

export const openDatabase = (url: string, options?: OpenOptions): Database => new Database(url, options);

const unreachable = new Set(['ECONNREFUSED', 'ECONNRESET', 'ENOTFOUND', 'EAI_AGAIN', 'ETIMEDOUT', 'EPIPE', 'ENOENT']);

/**
 * A failure of Godwit's own PostgreSQL as a GodwitError. drizzle's messages quote query and parameters: neither is kept.
 */
export function databaseError(error: unknown): GodwitError {
  if (error instanceof GodwitError) return error;
  const root = rootOf(error);
  const code = (root as { code?: unknown }).code;
  const native = typeof code === 'string' ? code : undefined;
  const message = root instanceof Error ? root.message : String(root);
  const lost =
    (native !== undefined && (unreachable.has(native) || /^(08|57P|53)/.test(native))) ||
    // What pg says by itself, without a code.
    /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error)/.test(
      message,
    );
  if (lost) return new GodwitError('DATABASE_UNREACHABLE', `Godwit's PostgreSQL: ${message}`, { native });
  if (native !== undefined && /^28|^3D000/.test(native)) {
    return new GodwitError('DATABASE_UNREACHABLE', `Godwit's PostgreSQL refused the login: ${message}`, { native });
  }
  return new GodwitError('INTERNAL', native ? `Godwit's PostgreSQL: ${message}` : message, { native, cause: root });
}

function rootOf(error: unknown): unknown {
  let at = error;
  for (let depth = 0; depth < 5; depth++) {
    if (at instanceof AggregateError && at.errors.length > 0) at = at.errors[0];
    else if (at instanceof Error && at.cause !== undefined) at = at.cause;
    else break;
  }
  return at;
}

/** SQLSTATE of a violated unique constraint, with the constraint's name. */
export function violated(
  error: unknown,
): { readonly kind: 'unique' | 'foreign'; readonly constraint: string } | undefined {
  const { code, constraint } = rootOf(error) as { code?: string; constraint?: string };
  if (code === '23505') return { kind: 'unique', constraint: constraint ?? '' };
  if (code === '23503') return { kind: 'foreign', constraint: constraint ?? '' };
  return undefined;
}
