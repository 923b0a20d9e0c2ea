/** Who made the table of that name (decision 4). */
import { createHash } from 'node:crypto';
import { GodwitError } from '../../../errors.ts';
import { type TableName, tableText, type Work } from '../../contract.ts';
import type { Session } from '../session.ts';
import { tableIdent } from '../sql.ts';
import { type Books, book, stagingOf } from './names.ts';

export type There = { readonly kind: string; readonly engine: string; readonly madeAt: string };

/** The table or view of that name, or undefined. */
export async function thereIs(session: Session, { schema, name }: TableName): Promise<There | undefined> {
  const [row] = await session.query<There>(
    `SELECT TABLE_TYPE AS kind, COALESCE(ENGINE, '') AS engine, COALESCE(CAST(CREATE_TIME AS CHAR), '') AS madeAt
     FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?`,
    [schema, name],
  );
  return row;
}

/** A hash of its columns: MySQL gives a table no number that lasts. */
export async function shapeOf(session: Session, { schema, name }: TableName): Promise<string> {
  const rows = await session.query<{ name: string; type: string; nullable: string }>(
    `SELECT COLUMN_NAME AS name, COLUMN_TYPE AS type, IS_NULLABLE AS nullable FROM information_schema.COLUMNS
     WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION`,
    [schema, name],
  );
  const text = JSON.stringify(rows.map((row) => [row.name, row.type, row.nullable]));
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
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

/**
 * `books`: undefined while there is no ledger. A table is the one that Godwit published when it was made at the same time,
 * or has the same columns still (an index added since makes it another one to some servers).
 */
export async function ownership(session: Session, work: Work, books: Books | undefined): Promise<Ownership> {
  const there = await thereIs(session, work.name);
  const exists = there !== undefined;
  const owner = books ? await ownerOf(session, books, work.name) : undefined;
  const same = owner?.job === work.jobUid && owner.installation === work.installation;
  const mine =
    same &&
    (!exists ||
      owner.madeAt === there.madeAt ||
      owner.shape === (await shapeOf(session, work.name)) ||
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

type Owner = {
  readonly job: string;
  readonly installation: string;
  readonly madeAt: string | null;
  readonly shape: string | null;
};

export const ownerOf = async (
  session: Session,
  books: Books,
  { schema, name }: TableName,
): Promise<Owner | undefined> =>
  (
    await session.query<Owner>(
      `SELECT job_uid AS job, installation, made_at AS madeAt, shape FROM ${book(books, 'owner')} WHERE schema_name = ? AND table_name = ?`,
      [schema, name],
    )
  )[0];

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

/** Within a transaction or alone: the table of that name, as it is now, is this work's. */
export async function setOwner(session: Session, books: Books, work: Work, published: boolean): Promise<void> {
  const madeAt = published ? ((await thereIs(session, work.name))?.madeAt ?? null) : null;
  const shape = published ? await shapeOf(session, work.name) : null;
  const { schema, name } = work.name;
  // Still one's own, but not published anew: what is known of the table stays.
  const keep = `installation = VALUES(installation) AND job_uid = VALUES(job_uid)`;
  await session.query(
    `INSERT INTO ${book(books, 'owner')} (schema_name, table_name, installation, job_uid, made_at, shape, taken_at)
     VALUES (?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE
       made_at = IF(${keep}, COALESCE(VALUES(made_at), made_at), VALUES(made_at)),
       shape = IF(${keep}, COALESCE(VALUES(shape), shape), VALUES(shape)),
       installation = VALUES(installation), job_uid = VALUES(job_uid), taken_at = VALUES(taken_at)`,
    [schema, name, work.installation, work.jobUid, madeAt, shape],
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
