/**
 * `swap: delete-insert`: the old table stays and with it everything that hangs on it; its rows are exchanged in one
 * transaction. Its triggers do not fire, as they would not in a swap by names; foreign keys from and to it are
 * taken off and put back unchecked, because a delete would cascade through them; they are validated after the swap.
 */
import { tableText, type Work } from '../../contract.ts';
import type { Session } from '../session.ts';
import { columnList, ident, tableIdent } from '../sql.ts';
import { incomingKeys } from './dependents.ts';
import { adapt } from './drift.ts';
import { advance } from './finish.ts';
import { layout } from './layout.ts';
import type { PendingKey } from './ledger.ts';
import { stagingOf } from './names.ts';
import { addPartitions, monthsIn } from './partitions.ts';
import { factsOf } from './temporary.ts';

export async function refill(
  session: Session,
  work: Work,
  oid: string,
): Promise<{ notes: readonly string[]; pending: readonly PendingKey[] }> {
  const table = tableIdent(work.name);
  const staging = tableIdent(stagingOf(work));
  const columns = layout(work).filter((column) => column.special?.generated === undefined);
  const incoming = await incomingKeys(session, [oid], true);
  for (const key of incoming) await session.query(key.drop);
  const triggers = await session.query<{ name: string; enabled: string }>(
    `SELECT tgname AS name, tgenabled AS enabled FROM pg_trigger WHERE tgrelid = $1::oid AND NOT tgisinternal AND tgenabled <> 'D'`,
    [oid],
  );
  const alter = (what: string) => session.query(`ALTER TABLE ${table} ${what}`);
  for (const trigger of triggers) await alter(`DISABLE TRIGGER ${ident(trigger.name)}`);
  await session.query(`DELETE FROM ${table}`);
  await adapt(session, work, oid);
  await makeMonths(session, work);
  await session.query(
    `INSERT INTO ${table} (${columnList(columns.map((column) => column.final))}) OVERRIDING SYSTEM VALUE
     SELECT ${columnList(columns.map((column) => column.name))} FROM ${staging}`,
  );
  for (const { name, enabled } of triggers) {
    const state = enabled === 'R' ? 'ENABLE REPLICA' : enabled === 'A' ? 'ENABLE ALWAYS' : 'ENABLE';
    await alter(`${state} TRIGGER ${ident(name)}`);
  }
  for (const { final, special } of columns) {
    const [own] = await session.query<{ name: string | null }>('SELECT pg_get_serial_sequence($1, $2) AS name', [
      table,
      final,
    ]);
    if (own?.name && special?.sequence) await session.query(advance(table, final, own.name, special.sequence));
  }
  for (const key of incoming) await session.query(key.restore);
  await session.query(`DROP TABLE ${staging} CASCADE`);
  return {
    notes: [`${tableText(work.name)}: rows were exchanged in the old table; its own definition was kept`],
    pending: incoming.flatMap((key) => (key.pending ? [key.pending] : [])),
  };
}

/** The old table may be partitioned, by this work or by whoever made it. */
async function makeMonths(session: Session, work: Work): Promise<void> {
  const facts = await factsOf(session, work, work.name);
  const laid = layout(work).find((column) => column.final === facts?.month);
  if (!facts || facts.month === null || !laid) return;
  const cut = { table: work.name, oid: facts.oid, column: facts.month };
  await addPartitions(session, cut, await monthsIn(session, tableIdent(stagingOf(work)), laid.name));
}
