/** Makes complete tables visible: those given together in one step. */
import { reach } from '../../../faults.ts';
import { type Published, swapsIn, type TableName, type Work } from '../../contract.ts';
import type { Session } from '../session.ts';
import { ident, tableIdent } from '../sql.ts';
import { dropOld } from './discard.ts';
import { finishWork } from './finish.ts';
import { planKeys, settleKeys } from './foreign-keys.ts';
import { databaseExists, notPrepared, takeOver, workRow } from './ledger.ts';
import { type Books, book, idOf, stagingOf } from './names.ts';
import { thereIs } from './ownership.ts';
import { refill } from './refill.ts';
import { completeSnapshot } from './snapshot.ts';
import { assertStands, write } from './state.ts';
import { markSwapped, swap } from './swap.ts';
import { inTransaction } from './transaction.ts';

/**
 * Called again after a lost answer it finds what the swap left, does what was still to do behind it, and gives the same
 * notes. `missing` needs no more than its absence from `works`: a key to a table that is not there is left out, and kept
 * in the ledger until that table is published.
 */
export async function publishWorks(
  session: Session,
  books: Books,
  works: readonly Work[],
  _missing: readonly TableName[],
): Promise<Published> {
  const open: Work[] = [];
  for (const work of works) {
    const row = await workRow(session, books, work);
    if (!row) throw notPrepared(work);
    if (!row.published) open.push(work);
  }
  for (const work of open) await finishWork(session, books, work);
  for (const work of open.filter((one) => one.mode === 'dumping')) {
    await completeSnapshot(session, books, work);
    reach('after-swap');
  }
  for (const work of open.filter((one) => one.increment)) {
    await completeIncrement(session, books, work);
    reach('after-swap');
  }
  await swapAll(session, books, open.filter(swapsIn));
  const outdated: string[] = [];
  const notes: string[] = [];
  for (const work of works) {
    if (swapsIn(work)) outdated.push(...(await settle(session, books, work)));
    notes.push(...((await workRow(session, books, work))?.notes ?? []));
  }
  return { notes: [...new Set(notes)], ...(outdated.length > 0 ? { outdated } : {}) };
}

/** Its rows are there since their chunks were committed; now it is known up to where they go. */
async function completeIncrement(session: Session, books: Books, work: Work): Promise<void> {
  await inTransaction(session, async () => {
    await assertStands(session, books, work);
    await session.query(
      `UPDATE ${book(books, 'work')} SET published_at = UTC_TIMESTAMP(6), session = NULL WHERE id = ?`,
      [idOf(work)],
    );
    if (work.state) await write(session, books, work, work.state);
  });
}

async function swapAll(session: Session, books: Books, works: readonly Work[]): Promise<void> {
  if (works.length === 0) return;
  for (const work of works) await takeOver(session, books, work);
  const open: Work[] = [];
  for (const work of works) if (!(await markSwapped(session, books, work))) open.push(work);
  const kept = new Set<Work>();
  for (const work of open) {
    if (!(await databaseExists(session, work.name.schema)))
      await session.run(`CREATE DATABASE IF NOT EXISTS ${ident(work.name.schema)} CHARACTER SET utf8mb4`);
    if (work.swap === 'delete-insert' && (await thereIs(session, work.name))) kept.add(work);
  }
  await planKeys(session, books, open, kept);
  await swap(
    session,
    books,
    open.filter((work) => !kept.has(work)),
  );
  await refill(session, books, [...kept]);
  reach('after-swap');
}

/** Foreign keys, and what is not needed any more. Only tables that are published. */
async function settle(session: Session, books: Books, work: Work): Promise<string[]> {
  const outdated = await settleKeys(session, books, work);
  await dropOld(session, books, idOf(work));
  // After an exchange of rows.
  const staging = stagingOf(books, idOf(work));
  if (await thereIs(session, staging)) await session.run(`DROP TABLE IF EXISTS ${tableIdent(staging)}`);
  return outdated;
}
