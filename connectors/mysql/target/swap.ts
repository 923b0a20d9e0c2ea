/**
 * One RENAME TABLE puts complete stagings in the place of the old tables: it is atomic for all that it names. It commits by
 * itself, so the ledger says before it that it is about to come; who finds that, and no staging, knows that it came through.
 */
import { GodwitError } from '../../../errors.ts';
import { reach } from '../../../faults.ts';
import { type TableName, tableText, type Work } from '../../contract.ts';
import type { Session } from '../session.ts';
import { ident, tableIdent } from '../sql.ts';
import { dropOld } from './discard.ts';
import { presentChecks, presentIndexes } from './finish.ts';
import { addNotes } from './ledger.ts';
import { type Books, book, idOf, oldOf, stagingOf } from './names.ts';
import { setOwner, thereIs } from './ownership.ts';
import { keepMade } from './snapshot.ts';
import { pend, settle } from './state.ts';
import { inTheWay, inTransaction } from './transaction.ts';

/** Some seconds in all: who asked for the publication shows that it waits, and asks again. */
const attempts = 3;
const lockSeconds = 2;

/** Throws SERVER_BUSY while somebody uses the old tables, SWAP_IMPOSSIBLE naming the object. */
export async function swap(session: Session, books: Books, works: readonly Work[]): Promise<void> {
  if (works.length === 0) return;
  await session.run(`SET SESSION lock_wait_timeout = ${lockSeconds}`);
  for (let attempt = 1; ; attempt++) {
    try {
      await swapOnce(session, books, works);
      break;
    } catch (error) {
      if (!inTheWay(error)) throw impossible(error, works);
      if (attempt === attempts) {
        const message = `${works.map((work) => tableText(work.name)).join(', ')}: the old tables are in use; the swap waits for them.`;
        throw new GodwitError('SERVER_BUSY', message, { target: works[0]?.target, native: '1205', cause: error });
      }
      // Others who queued behind our lock request get their turn.
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 200 * attempt));
    }
  }
  await session.run('SET SESSION lock_wait_timeout = 5');
}

async function swapOnce(session: Session, books: Books, works: readonly Work[]): Promise<void> {
  // In the order of names, so that two swaps cannot wait for each other.
  const byName = [...works].sort((a, b) => (tableText(a.name) < tableText(b.name) ? -1 : 1));
  const renames: string[] = [];
  for (const work of byName) {
    const id = idOf(work);
    if (await thereIs(session, work.name)) {
      await dropOld(session, books, id);
      await addNotes(session, books, work, await lostIndexes(session, books, work));
      await dropChecks(session, books, work);
      renames.push(`${tableIdent(work.name)} TO ${tableIdent(oldOf(books, id))}`);
    }
    renames.push(`${tableIdent(stagingOf(books, id))} TO ${tableIdent(work.name)}`);
  }
  const ids = byName.map((work) => `'${idOf(work)}'`).join(', ');
  await inTransaction(session, async () => {
    for (const work of byName) await pend(session, books, work, idOf(work));
    await session.run(`UPDATE ${book(books, 'work')} SET swapping_at = UTC_TIMESTAMP(6) WHERE id IN (${ids})`);
  });
  await session.run(`RENAME TABLE ${renames.join(', ')}`);
  reach('in-swap');
  await mark(session, books, byName);
}

/** The marker, the owner, and what is not to be unmade any more. */
const mark = (session: Session, books: Books, works: readonly Work[]): Promise<void> =>
  inTransaction(session, async () => {
    for (const work of works) await markPublished(session, books, work);
  });

/** Within the caller's transaction. */
export async function markPublished(session: Session, books: Books, work: Work): Promise<void> {
  await session.query(
    `UPDATE ${book(books, 'work')} SET published_at = UTC_TIMESTAMP(6), session = NULL WHERE id = ?`,
    [idOf(work)],
  );
  await setOwner(session, books, work, true);
  await settle(session, books, work, idOf(work));
  await keepMade(session, books, work);
}

/** Was this work's table swapped in by somebody who could not say so any more? Then it is said now. */
export async function markSwapped(session: Session, books: Books, work: Work): Promise<boolean> {
  const [row] = await session.query(
    `SELECT 1 AS there FROM ${book(books, 'work')} WHERE id = ? AND swapping_at IS NOT NULL AND published_at IS NULL`,
    [idOf(work)],
  );
  if (!row || (await thereIs(session, stagingOf(books, idOf(work)))) || !(await thereIs(session, work.name)))
    return false;
  await mark(session, books, [work]);
  return true;
}

/** In MySQL the name of a check is its database's: the old table, put aside where the new one comes from, must not have it too. */
async function dropChecks(session: Session, books: Books, work: Work): Promise<void> {
  if (session.flavor === 'mariadb') return;
  const old = await presentChecks(session, work.name, session);
  const next = await presentChecks(session, stagingOf(books, idOf(work)), session);
  const both = [...old].filter((name) => next.has(name));
  if (both.length === 0) return;
  await session.run(
    `ALTER TABLE ${tableIdent(work.name)} ${both.map((name) => `DROP CHECK ${ident(name)}`).join(', ')}`,
  );
}

async function lostIndexes(session: Session, books: Books, work: Work): Promise<string[]> {
  const next = await presentIndexes(session, stagingOf(books, idOf(work)));
  const old = await presentIndexes(session, work.name as TableName);
  return [...old]
    .filter((name) => !next.has(name) && name !== 'primary')
    .map((name) => `${tableText(work.name)}: index ${name} of the old table is not at the source and was not carried`);
}

/** Whatever the server refused in the swap was something on the old table that does not fit the new one. */
function impossible(error: unknown, works: readonly Work[]): unknown {
  if (!(error instanceof GodwitError) || error.retryable || error.code === 'PRIVILEGE_MISSING') return error;
  const message = `The old table stays as it was, its objects cannot be carried to the new one: ${error.message}`;
  return new GodwitError('SWAP_IMPOSSIBLE', message, { ...error.where, target: works[0]?.target, cause: error.cause });
}
