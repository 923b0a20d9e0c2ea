/** Makes complete tables visible: those given together in one step. */

import { reach } from '../../../faults.ts';
import { type Published, swapsIn, type TableName, tableText, type Work } from '../../contract.ts';
import type { Session } from '../session.ts';
import { ident, tableIdent } from '../sql.ts';
import { finishWork, keepUp } from './finish.ts';
import { addForeignKeys, tried } from './foreign-keys.ts';
import { addNotes, notPrepared, ofWork, type PendingKey, takeOver, workRow } from './ledger.ts';
import { keyOf } from './names.ts';
import { saveState } from './state.ts';
import { keepMade, swap } from './swap.ts';
import { tableFacts } from './temporary.ts';

/**
 * Called again after a lost answer it finds the marker of the swap, does what was left to do behind it, and gives the same
 * notes. `missing` needs no more than its absence from `works`: a key to a table that is not there is left out, and kept
 * in the ledger until that table is published.
 */
export async function publishWorks(
  session: Session,
  works: readonly Work[],
  _missing: readonly TableName[],
): Promise<Published> {
  const open: Work[] = [];
  for (const work of works) {
    const row = await workRow(session, work);
    if (!row) throw notPrepared(work);
    if (!row.published) open.push(work);
  }
  for (const work of open) await finishWork(session, work);
  for (const work of open.filter((one) => one.mode === 'dumping')) await completeSnapshot(session, work);
  const outdated: string[] = [];
  for (const work of open.filter((one) => one.increment)) await completeIncrement(session, work);
  const swapping = open.filter(swapsIn);
  if (swapping.length > 0) {
    for (const work of swapping) await takeOver(session, work);
    const keys = await addForeignKeys(session, swapping, await keptTables(session, swapping));
    await swap(session, swapping, keys);
    outdated.push(...keys.late.flatMap((key) => key.outdated ?? []));
    reach('after-swap');
  }
  const notes: string[] = [];
  for (const work of works) {
    await settle(session, work);
    notes.push(...((await workRow(session, work))?.notes ?? []));
  }
  return { notes: [...new Set(notes)], ...(outdated.length > 0 ? { outdated } : {}) };
}

/** Those whose old table stays and only changes its rows. */
async function keptTables(session: Session, works: readonly Work[]): Promise<Set<Work>> {
  const kept = new Set<Work>();
  for (const work of works) {
    if (work.swap !== 'delete-insert') continue;
    const [there] = await session.query('SELECT 1 WHERE to_regclass($1) IS NOT NULL', [tableIdent(work.name)]);
    if (there) kept.add(work);
  }
  return kept;
}

/** Keys that were put back unchecked in the swap are checked now, without keeping anybody from reading or writing. */
async function settle(session: Session, work: Work): Promise<void> {
  const row = await workRow(session, work);
  const unchecked = row?.pending.filter((key) => !key.missing) ?? [];
  if (unchecked.length === 0) return;
  const notes: string[] = [];
  for (const key of unchecked) {
    const failure = await tried(session, validate(key));
    if (failure?.startsWith('23')) {
      notes.push(
        `${tableText(work.name)}: foreign key ${key.constraint} of ${key.schema}.${key.table} is NOT VALID: some rows break it [${failure}]`,
      );
    } else if (failure) {
      notes.push(
        `${tableText(work.name)}: foreign key ${key.constraint} of ${key.schema}.${key.table} could not be checked [${failure}]`,
      );
    }
  }
  if (notes.length > 0) await addNotes(session, work, notes);
  await session.query(
    `UPDATE _godwit.work SET pending = (SELECT coalesce(jsonb_agg(k), '[]') FROM jsonb_array_elements(pending) k WHERE k->'missing' IS NOT NULL)
     WHERE ${ofWork}`,
    keyOf(work),
  );
}

const validate = ({ schema, table, constraint }: PendingKey): string =>
  `ALTER TABLE ${tableIdent({ schema, name: table })} VALIDATE CONSTRAINT ${ident(constraint)}`;

/** Rows of a dumping run are visible as they arrive; from here on their date is known to be complete. */
async function completeSnapshot(session: Session, work: Work): Promise<void> {
  await session.query('BEGIN');
  await session.query(
    `INSERT INTO _godwit.snapshot (installation, job_uid, schema_name, table_name, migration_snapshot_date, run, rows_written)
     SELECT $1, $2, $5, $6, $8::timestamptz, $4, coalesce(sum(rows_written), 0) FROM _godwit.chunk
     WHERE ${ofWork} ON CONFLICT DO NOTHING`,
    [...keyOf(work), work.snapshotDate ?? null],
  );
  await session.query(`UPDATE _godwit.work SET published_at = now() WHERE ${ofWork}`, keyOf(work));
  await keepMade(session, work);
  await session.query('COMMIT');
  reach('after-swap');
}

/** Its rows are there already; from here on it is remembered how far they are. A backfill remembers nothing. */
async function completeIncrement(session: Session, work: Work): Promise<void> {
  await session.query('BEGIN');
  const [row] = await session.query<{ open: boolean }>(
    `SELECT published_at IS NULL AS open FROM _godwit.work WHERE ${ofWork} FOR UPDATE`,
    keyOf(work),
  );
  if (!row) throw notPrepared(work);
  if (row.open) {
    const { oid } = await tableFacts(session, work);
    if (work.state) await saveState(session, work, oid);
    await keepUp(session, work);
    await session.query(`UPDATE _godwit.work SET published_at = now() WHERE ${ofWork}`, keyOf(work));
    await keepMade(session, work);
  }
  reach('in-swap');
  await session.query('COMMIT');
  reach('after-swap');
}
