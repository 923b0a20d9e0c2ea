/** Takes an unpublished work away, with everything made for it. What was published stays. */
import { GodwitError } from '../../../errors.ts';
import { tableText, type Work } from '../../contract.ts';
import type { Session } from '../session.ts';
import { ident, tableIdent } from '../sql.ts';
import { takeOver, workRow } from './ledger.ts';
import { type Books, book, idOf, oldOf, stagingOf } from './names.ts';
import { ownership, thereIs } from './ownership.ts';
import { alone, endMarked } from './session-mark.ts';
import { dateText } from './snapshot.ts';
import { forgetPending } from './state.ts';
import { markSwapped } from './swap.ts';
import { inTransaction, patiently } from './transaction.ts';

/** Idempotent. Writers that still try are ended first; those that come later find no chunk and no table: FENCED. */
export async function discardWork(session: Session, books: Books, work: Work): Promise<void> {
  const row = await workRow(session, books, work);
  if (!row || row.published) return;
  await takeOver(session, books, work);
  // Its swap came through and nobody was told: it is published.
  if (await markSwapped(session, books, work)) return;
  await alone(session, books.database, async () => {
    await removeRest(session, books, idOf(work));
    if (work.mode === 'dumping') await removeSnapshot(session, books, work);
    await disown(session, books, work);
    await unmake(session, books, work);
  });
}

/** Its chunks, its staging and its row in the ledger. */
async function removeRest(session: Session, books: Books, id: string): Promise<void> {
  await patiently(5, async () => {
    await endWriters(session, books, id);
    await session.query(`DELETE FROM ${book(books, 'chunk')} WHERE work = ?`, [id]);
    await session.run(`DROP TABLE IF EXISTS ${tableIdent(stagingOf(books, id))}`);
  });
  await patiently(5, () =>
    inTransaction(session, async () => {
      await session.query(`DELETE FROM ${book(books, 'work')} WHERE id = ?`, [id]);
      await forgetPending(session, books, id);
      await session.query(`DELETE FROM ${book(books, 'chunk')} WHERE work = ?`, [id]);
    }),
  );
}

async function endWriters(session: Session, books: Books, id: string): Promise<void> {
  const rows = await session.query<{ mark: string }>(
    `SELECT DISTINCT session AS mark FROM ${book(books, 'chunk')} WHERE work = ? AND NOT done AND session IS NOT NULL`,
    [id],
  );
  for (const { mark } of rows) await endMarked(session, mark);
}

/** The rows of a snapshot that is not complete; the table too when this work made it and nothing else is in it. */
async function removeSnapshot(session: Session, books: Books, work: Work): Promise<void> {
  const found = await ownership(session, work, books);
  if (!found.exists || !found.mine) return;
  const table = tableIdent(work.name);
  const column = work.columns.find((one) => one.constant !== undefined && one.constant === work.snapshotDate);
  const [complete] = await session.query(
    `SELECT 1 AS there FROM ${book(books, 'snapshot')} WHERE schema_name = ? AND table_name = ? AND migration_snapshot_date = ?`,
    [work.name.schema, work.name.name, work.snapshotDate ?? ''],
  );
  if (column && !complete) {
    await session.query(`DELETE FROM ${table} WHERE ${ident(column.name)} = ?`, [dateText(work.snapshotDate ?? '')]);
  }
  const [left] = await session.query(`SELECT 1 AS there FROM ${table} LIMIT 1`);
  const [made] = await session.query(
    `SELECT 1 AS there FROM ${book(books, 'made')} WHERE kind = 'table' AND schema_name = ? AND name = ? AND installation = ? AND job_uid = ?`,
    [work.name.schema, work.name.name, work.installation, work.jobUid],
  );
  if (left || !made) return;
  await session.run(`DROP TABLE ${table}`);
  await session.query(`DELETE FROM ${book(books, 'owner')} WHERE schema_name = ? AND table_name = ?`, [
    work.name.schema,
    work.name.name,
  ]);
  await session.query(`DELETE FROM ${book(books, 'made')} WHERE kind = 'table' AND schema_name = ? AND name = ?`, [
    work.name.schema,
    work.name.name,
  ]);
}

/** A name taken for a table that never came to be, and that nobody else is writing. */
async function disown(session: Session, books: Books, work: Work): Promise<void> {
  await session.query(
    `DELETE FROM ${book(books, 'owner')} WHERE schema_name = ? AND table_name = ? AND installation = ? AND job_uid = ? AND shape IS NULL
       AND NOT EXISTS (SELECT 1 FROM ${book(books, 'work')} w WHERE w.schema_name = ? AND w.table_name = ?)`,
    [work.name.schema, work.name.name, work.installation, work.jobUid, work.name.schema, work.name.name],
  );
}

/**
 * Databases Godwit made and that nothing is in: DROP DATABASE takes everything with it, so it is looked at first. One that
 * another work still goes to stays until the last of them is published or gone.
 */
async function unmake(session: Session, books: Books, work: Work): Promise<void> {
  const made = await session.query<{ name: string }>(
    `SELECT schema_name AS name FROM ${book(books, 'made')} m WHERE kind = 'database' AND installation = ?
       AND NOT EXISTS (SELECT 1 FROM ${book(books, 'work')} w WHERE w.schema_name = m.schema_name AND w.published_at IS NULL)`,
    [work.installation],
  );
  for (const { name } of made) {
    const [used] = await session.query(
      `SELECT 1 AS there FROM information_schema.TABLES WHERE TABLE_SCHEMA = ?
       UNION ALL SELECT 1 FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = ?
       UNION ALL SELECT 1 FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ? LIMIT 1`,
      [name, name, name],
    );
    if (!used) await session.run(`DROP DATABASE IF EXISTS ${ident(name)}`);
    await session.query(`DELETE FROM ${book(books, 'made')} WHERE kind = 'database' AND schema_name = ?`, [name]);
  }
}

/**
 * In `prepare`: what earlier runs and generations of this very table left behind. Published ones are forgotten, their
 * checkpoints have served; the staging of unpublished ones is dropped.
 */
export async function sweep(session: Session, books: Books, work: Work): Promise<void> {
  const older = await session.query<{ id: string; run: string; generation: number; published: number }>(
    `SELECT id, run, generation, published_at IS NOT NULL AS published FROM ${book(books, 'work')}
     WHERE installation = ? AND job_uid = ? AND target = ? AND schema_name = ? AND table_name = ? AND id <> ?
       AND (? <> 'dumping' OR published_at IS NOT NULL)`,
    [work.installation, work.jobUid, work.target, work.name.schema, work.name.name, idOf(work), work.mode],
  );
  for (const { id, run, generation, published } of older) {
    const old: Work = { ...work, run, generation };
    if (Number(published) === 0) {
      await takeOver(session, books, old);
      await markSwapped(session, books, old);
    }
    await removeRest(session, books, id);
    await dropOld(session, books, id);
  }
}

/** What a swap put aside. */
export async function dropOld(session: Session, books: Books, id: string): Promise<void> {
  const old = oldOf(books, id);
  if (!(await thereIs(session, old))) return;
  // Its own foreign keys go with it; those of others were turned to the new table before.
  await session.run('SET SESSION foreign_key_checks = 0');
  try {
    await session.run(`DROP TABLE IF EXISTS ${tableIdent(old)}`);
  } finally {
    await session.run('SET SESSION foreign_key_checks = 1').catch(() => {});
  }
}

/** Two works of one run whose names are one on this server (`lower_case_table_names`). */
export async function sameTable(session: Session, books: Books, work: Work): Promise<GodwitError | undefined> {
  const [other] = await session.query<{ source: string }>(
    `SELECT CONCAT(source_schema, '.', source_table) AS source FROM ${book(books, 'work')}
     WHERE installation = ? AND job_uid = ? AND target = ? AND run = ? AND schema_name = ? AND table_name = ?
       AND (source_schema <> ? OR source_table <> ?) LIMIT 1`,
    [
      work.installation,
      work.jobUid,
      work.target,
      work.run,
      work.name.schema,
      work.name.name,
      work.source.name.schema,
      work.source.name.name,
    ],
  );
  if (!other) return undefined;
  const table = tableText(work.name);
  return new GodwitError(
    'NAME_COLLISION',
    `${tableText(work.source.name)} and ${other.source} would both be ${table} on the target, which does not tell upper from lower case.`,
    { table, target: work.target },
  );
}
