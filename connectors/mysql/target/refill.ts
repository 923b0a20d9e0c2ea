/**
 * `swap: delete-insert`: the old table stays and with it everything that hangs on it; its rows are exchanged in one
 * transaction. Foreign keys are not looked at meanwhile, because a delete would cascade through them; afterwards those that
 * do not hold are reported.
 */
import { reach } from '../../../faults.ts';
import { tableText, type Work } from '../../contract.ts';
import type { Session } from '../session.ts';
import { columnList, tableIdent } from '../sql.ts';
import { adapt } from './drift.ts';
import { keysTo, orphans } from './foreign-keys.ts';
import { addNotes } from './ledger.ts';
import { objection } from './load-data.ts';
import { type Books, idOf, stagingOf } from './names.ts';
import { modeFor } from './sql-mode.ts';
import { pend } from './state.ts';
import { markPublished } from './swap.ts';
import { inTransaction } from './transaction.ts';

export async function refill(session: Session, books: Books, works: readonly Work[]): Promise<void> {
  if (works.length === 0) return;
  for (const work of works) await adapt(session, work);
  await session.run('SET SESSION foreign_key_checks = 0');
  try {
    await inTransaction(session, async () => {
      for (const work of works) {
        await exchange(session, books, work);
        await pend(session, books, work, idOf(work));
        await markPublished(session, books, work);
      }
      reach('in-swap');
    });
  } finally {
    await session.run('SET SESSION foreign_key_checks = 1').catch(() => {});
  }
  for (const work of works) {
    const broken: string[] = [];
    for (const key of await keysTo(session, work.name)) {
      if (await orphans(session, key))
        broken.push(
          `${tableText(work.name)}: foreign key ${key.constraint} of ${key.schema}.${key.table} does not hold for all rows`,
        );
    }
    await addNotes(session, books, work, broken);
  }
}

async function exchange(session: Session, books: Books, work: Work): Promise<void> {
  await modeFor(session, work);
  const table = tableIdent(work.name);
  const staging = tableIdent(stagingOf(books, idOf(work)));
  const columns = columnList(work.columns.map((column) => column.name));
  await session.run(`DELETE FROM ${table}`);
  const [{ rows } = { rows: 0 }] = await session.query<{ rows: number }>(`SELECT COUNT(*) AS \`rows\` FROM ${staging}`);
  const outcome = await session.run(`INSERT INTO ${table} (${columns}) SELECT ${columns} FROM ${staging}`);
  const refused = await objection(session, outcome, Number(rows));
  if (refused) throw refused;
  await addNotes(session, books, work, [
    `${tableText(work.name)}: rows were exchanged in the old table; its own definition was kept`,
  ]);
}
