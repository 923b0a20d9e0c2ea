/**
 * What Godwit remembers on a target: who owns which table, the units of work, their chunks, and the snapshots of dumping
 * tables that are complete. It is the truth; Godwit's own database is a cache of it (decision 9). It lies in a database
 * `_godwit`; where the login may not have one, beside the target's tables as `_godwit_…`. Bounds of chunks may hold key
 * values: they lie here beside the rows they come from.
 */
import { GodwitError } from '../../../errors.ts';
import { tableText, type Work } from '../../contract.ts';
import { numberOf } from '../errors.ts';
import type { SessionPool } from '../pool.ts';
import { atLeast, type Session } from '../session.ts';
import type { MysqlAddress } from '../settings.ts';
import { ident } from '../sql.ts';
import { type Books, book, idOf, inBooks } from './names.ts';
import { alone, endMarked, markOf } from './session-mark.ts';

const current = 2;

const text = 'VARCHAR(255) NOT NULL';
const name = 'VARCHAR(64) NOT NULL';
const instant = 'DATETIME(6)';
const id = 'CHAR(32) CHARACTER SET ascii COLLATE ascii_bin';
/** One session's named lock (session-mark.ts). */
const mark = 'VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL';

/** Of version 2. */
const countsOfIncrements = ['rows_unchanged', 'rows_inserted', 'rows_updated', 'rows_deleted'];

const definitions = (books: Books): string[] =>
  [
    `${book(books, 'owner')} (schema_name ${name}, table_name ${name}, installation ${text}, job_uid ${text},
       shape LONGTEXT NULL COMMENT 'its columns as Godwit published it; null while none was published',
       taken_at ${instant} NOT NULL, PRIMARY KEY (schema_name, table_name))`,
    `${book(books, 'work')} (id ${id} NOT NULL, installation ${text}, job_uid ${text}, target ${text}, run ${text},
       schema_name ${name}, table_name ${name}, generation INT NOT NULL, mode VARCHAR(16) NOT NULL,
       source_schema ${text}, source_table ${text}, notes LONGTEXT NOT NULL,
       pending LONGTEXT NOT NULL COMMENT 'foreign keys still to be made behind the swap',
       session ${mark}, prepared_at ${instant} NOT NULL, finished_at ${instant} NULL,
       swapping_at ${instant} NULL COMMENT 'without its staging: the swap came through', published_at ${instant} NULL,
       PRIMARY KEY (id), KEY by_name (schema_name, table_name))`,
    `${book(books, 'chunk')} (work ${id} NOT NULL, chunk INT NOT NULL, epoch BIGINT NOT NULL,
       session ${mark}, kind VARCHAR(16) NOT NULL, bounds LONGTEXT NOT NULL, estimated_rows DOUBLE NOT NULL,
       done BOOLEAN NOT NULL DEFAULT FALSE, done_at ${instant} NULL,
       rows_read BIGINT NOT NULL DEFAULT 0, rows_written BIGINT NOT NULL DEFAULT 0, rows_filtered BIGINT NOT NULL DEFAULT 0,
       rows_quarantined BIGINT NOT NULL DEFAULT 0, bytes BIGINT NOT NULL DEFAULT 0,
       ${countsOfIncrements.map((column) => `${column} BIGINT NOT NULL DEFAULT 0`).join(', ')}, PRIMARY KEY (work, chunk))`,
    `${book(books, 'snapshot')} (schema_name ${name}, table_name ${name}, migration_snapshot_date VARCHAR(40) NOT NULL,
       work ${id} NOT NULL, installation ${text}, job_uid ${text}, run ${text}, rows_written BIGINT NOT NULL,
       completed_at ${instant} NOT NULL, PRIMARY KEY (schema_name, table_name, migration_snapshot_date, work))
       COMMENT 'The complete snapshots of dumping tables; rows of other dates are still arriving'`,
    `${book(books, 'made')} (kind VARCHAR(16) NOT NULL, schema_name ${name}, name ${name}, installation ${text}, job_uid ${text},
       made_at ${instant} NOT NULL, PRIMARY KEY (kind, schema_name, name))
       COMMENT 'Databases and tables made for works that are not published yet: a cancel removes them'`,
    `${book(books, 'state')} (id ${id} NOT NULL, installation ${text}, job_uid ${text}, target ${text}, schema_name ${name},
       table_name ${name}, state LONGTEXT NULL, identity TEXT NULL COMMENT 'of the table that it is true of',
       pending LONGTEXT NULL COMMENT 'true when the staging of pending_work has become the table', pending_work ${id} NULL,
       changed_at ${instant} NOT NULL, PRIMARY KEY (id), KEY by_name (schema_name, table_name), KEY by_work (pending_work))
       COMMENT 'How far the tables of incremental modes are'`,
    // Last: while it is missing the others may be too.
    `${book(books, 'version')} (one BOOLEAN NOT NULL PRIMARY KEY, version INT NOT NULL)`,
  ].map((table) => {
    const comment = /\n\s+COMMENT '[^']+'$/.exec(table)?.[0] ?? '';
    const options = 'ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin';
    return `CREATE TABLE IF NOT EXISTS ${table.slice(0, table.length - comment.length)} ${options}${comment}`;
  });

const own = '_godwit';
const beside = '_godwit_';
const denied = [1044, 1142, 1227, 1370];

/** Finds it once per target object, or makes it; idempotent and safe from several workers at once. */
export class Ledger {
  readonly #pool: SessionPool;
  readonly #address: MysqlAddress;
  #ready: Promise<Books> | undefined;
  #seen: Books | undefined;
  #folds: Promise<boolean> | undefined;

  constructor(pool: SessionPool, address: MysqlAddress) {
    this.#pool = pool;
    this.#address = address;
  }

  /** The one there is, if this login may read it. Never makes one: planning writes nothing. */
  async find(session: Session): Promise<Books | undefined> {
    this.#seen ??= await findBooks(session, this.#address.database);
    return this.#seen;
  }

  /** Does the server keep names of tables in lower case, or compare them so? */
  folds(session: Session): Promise<boolean> {
    this.#folds ??= session
      .query<{ folding: number }>('SELECT @@lower_case_table_names AS folding')
      .then(([row]) => Number(row?.folding) !== 0)
      .catch((error: unknown) => {
        this.#folds = undefined;
        throw error;
      });
    return this.#folds;
  }

  ensure(): Promise<Books> {
    this.#ready ??= this.#pool
      .use((session) => make(session, this.#address.database))
      .catch((error: unknown) => {
        this.#ready = undefined;
        throw error;
      });
    return this.#ready;
  }
}

/** One beside the target's tables comes first: a privilege given later must not make a second ledger. */
export async function findBooks(session: Session, database: string): Promise<Books | undefined> {
  const rows = await session.query<{ place: string }>(
    `SELECT IF(TABLE_NAME = 'version', 'own', 'beside') AS place FROM information_schema.TABLES
     WHERE (TABLE_SCHEMA = ? AND TABLE_NAME = 'version') OR (TABLE_SCHEMA = ? AND TABLE_NAME = ?) ORDER BY place`,
    [own, database, `${beside}version`],
  );
  if (rows.length === 0) return undefined;
  return rows[0]?.place === 'beside' ? { database, prefix: beside } : { database: own, prefix: '' };
}

async function make(session: Session, database: string): Promise<Books> {
  let books = await findBooks(session, database);
  if (!books) {
    books = await makeIn(session, { database: own, prefix: '' }).catch(async (error: unknown) => {
      if (!denied.includes(numberOf(error) ?? 0)) throw error;
      return await makeIn(session, { database, prefix: beside }).catch((second: unknown) => {
        throw denied.includes(numberOf(second) ?? 0) ? closed(database, second) : second;
      });
    });
  }
  const [row] = await session.query<{ version: number }>(`SELECT version FROM ${book(books, 'version')}`);
  if (row?.version === current) return books;
  if (row?.version === 1) return await upgrade(session, books);
  if (row === undefined) return await makeIn(session, books);
  throw new GodwitError(
    'SERVER_UNSUITABLE',
    `The ledger ${tableText({ schema: books.database, name: books.prefix })} of the target has version ${row.version}; this Godwit knows ${current}. Update every worker.`,
  );
}

async function makeIn(session: Session, books: Books): Promise<Books> {
  if (!atLeast(session, { mysql: [5, 7], mariadb: [10, 3] })) {
    throw new GodwitError('SERVER_UNSUITABLE', 'MySQL before 5.7 and MariaDB before 10.3 cannot be a target.');
  }
  if (!(await databaseExists(session, books.database))) {
    await session.run(`CREATE DATABASE IF NOT EXISTS ${ident(books.database)} CHARACTER SET utf8mb4`);
  }
  for (const statement of definitions(books)) await session.run(statement);
  await session.run(`INSERT IGNORE INTO ${book(books, 'version')} VALUES (TRUE, ${current})`);
  return books;
}

/** From version 1, by whoever comes first; workers of that version go on with it, since nothing they know is another. */
async function upgrade(session: Session, books: Books): Promise<Books> {
  await alone(session, `ledger ${books.database}`, async () => {
    for (const statement of definitions(books)) await session.run(statement);
    const { schema, name: table } = inBooks(books, 'chunk');
    const there = await session.query<{ name: string }>(
      'SELECT COLUMN_NAME AS name FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?',
      [schema, table],
    );
    const missing = countsOfIncrements.filter((column) => !there.some((row) => row.name === column));
    const add = missing.map((column) => `ADD COLUMN ${column} BIGINT NOT NULL DEFAULT 0`);
    if (add.length > 0) await session.run(`ALTER TABLE ${book(books, 'chunk')} ${add.join(', ')}`);
    await session.run(`UPDATE ${book(books, 'version')} SET version = ${current} WHERE version < ${current}`);
  });
  return books;
}

export async function databaseExists(session: Session, database: string): Promise<boolean> {
  const rows = await session.query('SELECT 1 AS there FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?', [
    database,
  ]);
  return rows.length > 0;
}

const closed = (database: string, cause: unknown): GodwitError =>
  new GodwitError(
    'PRIVILEGE_MISSING',
    `The login may not make tables for Godwit's checkpoints on the target: GRANT ALL ON ${own}.* to it, or CREATE in ${database}.`,
    { native: String(numberOf(cause) ?? ''), cause },
  );

export type WorkRow = {
  readonly notes: readonly string[];
  readonly pending: readonly PendingKey[];
  readonly finished: boolean;
  readonly published: boolean;
};
/** A foreign key to be made behind the swap, or one that was left out until the table it refers to is published. */
export type PendingKey = {
  readonly schema: string;
  readonly table: string;
  readonly constraint: string;
  readonly columns: readonly string[];
  readonly references: { readonly schema: string; readonly name: string };
  readonly referencedColumns: readonly string[];
  /** ` ON DELETE CASCADE …`, as text. */
  readonly rest: string;
  /** The source's name of a table that was not published with this one. */
  readonly missing?: { readonly schema: string; readonly name: string };
};

export async function workRow(session: Session, books: Books, work: Work): Promise<WorkRow | undefined> {
  const [row] = await session.query<{ notes: string; pending: string; finished: number; published: number }>(
    `SELECT notes, pending, finished_at IS NOT NULL AS finished, published_at IS NOT NULL AS published
     FROM ${book(books, 'work')} WHERE id = ?`,
    [idOf(work)],
  );
  if (!row) return undefined;
  return {
    notes: JSON.parse(row.notes),
    pending: JSON.parse(row.pending),
    finished: Number(row.finished) === 1,
    published: Number(row.published) === 1,
  };
}

/**
 * Makes this session the one that finishes, publishes or discards the work, and ends an older one that still tries: it
 * may sit in the swap with its locks. `release` when done; a session that failed is destroyed instead.
 */
export async function takeOver(session: Session, books: Books, work: Work): Promise<void> {
  const own = await markOf(session);
  const [before] = await session.query<{ session: string | null }>(
    `SELECT session FROM ${book(books, 'work')} WHERE id = ?`,
    [idOf(work)],
  );
  if (before?.session != null && before.session !== own) await endMarked(session, before.session);
  await session.query(`UPDATE ${book(books, 'work')} SET session = ? WHERE id = ?`, [own, idOf(work)]);
}

export const release = async (session: Session, books: Books, work: Work) =>
  session.query(`UPDATE ${book(books, 'work')} SET session = NULL WHERE id = ? AND session = ?`, [
    idOf(work),
    await markOf(session),
  ]);

/** Each one once, in order. */
export async function addNotes(
  session: Session,
  books: Books,
  work: Work,
  notes: readonly string[],
  outdated: readonly string[] = [],
): Promise<void> {
  if (notes.length === 0 && outdated.length === 0) return;
  const before = (await workRow(session, books, work))?.notes ?? [];
  const all = [...new Set([...before, ...notes])].filter((note) => !outdated.includes(note));
  await session.query(`UPDATE ${book(books, 'work')} SET notes = ? WHERE id = ?`, [JSON.stringify(all), idOf(work)]);
}

export const setPending = (session: Session, books: Books, work: string, pending: readonly PendingKey[]) =>
  session.query(`UPDATE ${book(books, 'work')} SET pending = ? WHERE id = ?`, [JSON.stringify(pending), work]);

export const notPrepared = (work: Work): GodwitError =>
  new GodwitError('FENCED', `${tableText(work.name)}: this work was discarded or replaced by a newer one.`, {
    table: tableText(work.name),
    target: work.target,
  });
