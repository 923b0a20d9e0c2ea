/** Who made the table of that name (decision 4). */
import { GodwitError } from '../../../errors.ts';
import { type TableName, tableText, type Work } from '../../contract.ts';
import type { Session } from '../session.ts';
import { tableIdent } from '../sql.ts';
import { sameSpelling } from './drift.ts';
import { type Books, book, stagingOf } from './names.ts';

export type There = { readonly kind: string; readonly engine: string };

/** The table or view of that name, or undefined. */
export async function thereIs(session: Session, { schema, name }: TableName): Promise<There | undefined> {
  const [row] = await session.query<There>(
    `SELECT TABLE_TYPE AS kind, COALESCE(ENGINE, '') AS engine
     FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?`,
    [schema, name],
  );
  return row;
}

type Shape = readonly (readonly [name: string, type: string])[];

/** Its columns: MySQL gives a table no number that lasts. */
async function shapeOf(session: Session, { schema, name }: TableName): Promise<Shape> {
  const rows = await session.query<{ name: string; type: string }>(
    `SELECT COLUMN_NAME AS name, COLUMN_TYPE AS type FROM information_schema.COLUMNS
     WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION`,
    [schema, name],
  );
  return rows.map((row) => [row.name, sameSpelling(row.type)]);
}

/** Is the table of that name the one that was published? It may have got more since; another one has not all of ours. */
async function published(session: Session, name: TableName, shape: string | null): Promise<boolean> {
  if (shape === null) return false;
  const now = new Map(await shapeOf(session, name));
  return (JSON.parse(shape) as Shape).every(([column, type]) => now.get(column) === type);
}

export type Ownership = {
  readonly exists: boolean;
  readonly there?: There;
  readonly empty: boolean;
  /** Does the ledger name an owner at all? */
  readonly owned: boolean;
  readonly mine: boolean;
  /** Another job is writing a table of that name just now. */
  readonly rival: boolean;
};

/** `books`: undefined while there is no ledger. */
export async function ownership(session: Session, work: Work, books: Books | undefined): Promise<Ownership> {
  const there = await thereIs(session, work.name);
  const exists = there !== undefined;
  const owner = books ? await ownerOf(session, books, work.name) : undefined;
  const same = owner?.job === work.jobUid && owner.installation === work.installation;
  const mine =
    same &&
    (!exists ||
      (await published(session, work.name, owner.shape)) ||
      (books !== undefined && (await swappedUnmarked(session, books, work))));
  return {
    exists,
    ...(there ? { there } : {}),
    owned: owner !== undefined,
    mine,
    rival: books !== undefined && (await hasRival(session, books, work)),
    empty: !there || (!mine && (await isEmpty(session, work.name, there))),
  };
}

type Owner = { readonly job: string; readonly installation: string; readonly shape: string | null };

const ownerOf = async (session: Session, books: Books, { schema, name }: TableName): Promise<Owner | undefined> =>
  (
    await session.query<Owner>(
      `SELECT job_uid AS job, installation, shape FROM ${book(books, 'owner')} WHERE schema_name = ? AND table_name = ?`,
      [schema, name],
    )
  )[0];

/** The job that made the table as it is there. */
export async function jobOf(session: Session, books: Books, name: TableName): Promise<string | undefined> {
  const owner = await ownerOf(session, books, name);
  return owner && (await published(session, name, owner.shape)) ? owner.job : undefined;
}

async function hasRival(session: Session, books: Books, work: Work): Promise<boolean> {
  const rows = await session.query(
    `SELECT 1 AS there FROM ${book(books, 'work')} WHERE schema_name = ? AND table_name = ? AND published_at IS NULL
       AND (installation <> ? OR job_uid <> ?) LIMIT 1`,
    [work.name.schema, work.name.name, work.installation, work.jobUid],
  );
  return rows.length > 0;
}

/** A swap of this job came through, and who did it was stopped before it could say so. */
async function swappedUnmarked(session: Session, books: Books, work: Work): Promise<boolean> {
  const rows = await session.query<{ id: string }>(
    `SELECT id FROM ${book(books, 'work')} WHERE schema_name = ? AND table_name = ? AND installation = ? AND job_uid = ?
       AND swapping_at IS NOT NULL AND published_at IS NULL`,
    [work.name.schema, work.name.name, work.installation, work.jobUid],
  );
  for (const { id } of rows) if (!(await thereIs(session, stagingOf(books, id)))) return true;
  return false;
}

export async function isEmpty(session: Session, name: TableName, there: There): Promise<boolean> {
  if (there.kind !== 'BASE TABLE') return false;
  const rows = await session.query(`SELECT 1 AS there FROM ${tableIdent(name)} LIMIT 1`);
  return rows.length === 0;
}

/** Within a transaction or alone: the name is this work's, and with `asThere` the table as it is now. */
export async function setOwner(session: Session, books: Books, work: Work, asThere: boolean): Promise<void> {
  const shape = asThere ? JSON.stringify(await shapeOf(session, work.name)) : null;
  const { schema, name } = work.name;
  // The same owner keeps what is known of the table.
  await session.query(
    `INSERT INTO ${book(books, 'owner')} (schema_name, table_name, installation, job_uid, shape, taken_at)
     VALUES (?, ?, ?, ?, ?, UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE
       shape = IF(installation = VALUES(installation) AND job_uid = VALUES(job_uid), COALESCE(VALUES(shape), shape), VALUES(shape)),
       installation = VALUES(installation), job_uid = VALUES(job_uid), taken_at = VALUES(taken_at)`,
    [schema, name, work.installation, work.jobUid, shape],
  );
}

/** The refusal, or undefined when the work may go on. */
export function notOwned(work: Work, found: Ownership): GodwitError | undefined {
  const where = { table: tableText(work.name), target: work.target };
  if (found.rival) {
    return new GodwitError('NOT_OWNED', `Another job is writing ${where.table} on the target just now.`, where);
  }
  if (found.mine || found.empty || work.existing !== 'refuse') return undefined;
  const message = `${where.table} exists on the target, has rows, and was not made by this job; nothing was touched.`;
  return new GodwitError('NOT_OWNED', message, where);
}
