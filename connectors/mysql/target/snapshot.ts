/** The snapshots of dumping tables. */
import type { Work } from '../../contract.ts';
import type { Session } from '../session.ts';
import { type Books, book, idOf } from './names.ts';
import { inTransaction } from './transaction.ts';

/** ISO 8601 to a DATETIME in UTC. */
export const dateText = (iso: string): string => iso.replace('T', ' ').replace(/(Z|\+00(:00)?)$/, '');

/** Rows of a dumping run are visible as they arrive; from here on their date is known to be complete. */
export async function completeSnapshot(session: Session, books: Books, work: Work): Promise<void> {
  const id = idOf(work);
  const { schema, name } = work.name;
  await inTransaction(session, async () => {
    await session.query(
      `INSERT IGNORE INTO ${book(books, 'snapshot')} (schema_name, table_name, migration_snapshot_date, work, installation, job_uid, run, rows_written, completed_at)
       SELECT ?, ?, ?, ?, ?, ?, ?, COALESCE(SUM(rows_written), 0), UTC_TIMESTAMP(6) FROM ${book(books, 'chunk')} WHERE work = ?`,
      [schema, name, work.snapshotDate ?? '', id, work.installation, work.jobUid, work.run, id],
    );
    await session.query(
      `UPDATE ${book(books, 'work')} SET published_at = UTC_TIMESTAMP(6), session = NULL WHERE id = ?`,
      [id],
    );
    await keepMade(session, books, work);
  });
}

/** The database a published table lies in, and the table, are there to stay. */
export const keepMade = (session: Session, books: Books, work: Work) =>
  session.query(
    `DELETE FROM ${book(books, 'made')} WHERE (kind = 'database' AND schema_name = ?) OR (kind = 'table' AND schema_name = ? AND name = ?)`,
    [work.name.schema, work.name.schema, work.name.name],
  );
