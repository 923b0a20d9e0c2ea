/** Takes over a table that another tool has brought, with what is known of how far it is. */
import { GodwitError } from '../../../errors.ts';
import { type TableState, tableText, type Work } from '../../contract.ts';
import type { Session } from '../session.ts';
import type { Books } from './names.ts';
import { setOwner, thereIs } from './ownership.ts';
import { refusalsOf } from './refusals.ts';
import { identify, write } from './state.ts';
import { inTransaction } from './transaction.ts';

/** Throws what an increment into it would meet: TABLE_MISSING, NOT_OWNED, TARGET_DIFFERS. */
export async function rememberState(session: Session, books: Books, work: Work, state: TableState): Promise<void> {
  const table = tableText(work.name);
  if (!(await thereIs(session, work.name))) {
    throw new GodwitError('TABLE_MISSING', `${table} is not there on the target.`, { table, target: work.target });
  }
  const [refused] = await refusalsOf(session, { ...work, increment: { existing: 'update' } }, books);
  if (refused) throw refused;
  await inTransaction(session, async () => {
    await setOwner(session, books, work, true);
    await write(session, books, work, state);
    await identify(session, books, work, 'changed');
  });
}
