/** What `_godwit.state` remembers of tables of the incremental modes: how far their rows are, written with these in one step. */
import { GodwitError } from '../../../errors.ts';
import { type TableState, tableText, type Work } from '../../contract.ts';
import { sqlstate } from '../errors.ts';
import type { Session } from '../session.ts';
import { columnList, tableIdent } from '../sql.ts';
import { columnsOf, driftOf } from './drift.ts';
import { lockLedger } from './ledger.ts';
import { notOwned, ownership } from './ownership.ts';
import { affected, factsOf } from './temporary.ts';

const columns = 'installation, job_uid, target, schema_name, table_name';
const placeOf = ({ installation, jobUid, target, name }: Work) => [
  installation,
  jobUid,
  target,
  name.schema,
  name.name,
];

/** Undefined where the table is gone, or is another one, or another job's by now. Writes nothing, and makes no ledger. */
export async function rememberedState(session: Session, work: Work): Promise<TableState | undefined> {
  try {
    const [row] = await session.query<{ state: string }>(
      `SELECT s.state::text AS state FROM _godwit.state s
         JOIN _godwit.owner o USING (schema_name, table_name, installation, job_uid)
         JOIN pg_class c ON c.oid = o.relation JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE (${columns.replace(/(\w+)/g, 's.$1')}) = ($1, $2, $3, $4, $5) AND s.relation = o.relation
         AND n.nspname = $4 AND c.relname = $5`,
      placeOf(work),
    );
    return row && (JSON.parse(row.state) as TableState);
  } catch (error) {
    // A ledger of an older Godwit: nothing was remembered then.
    if (sqlstate(error) === '42P01' || sqlstate(error) === '3F000') return undefined;
    throw error;
  }
}

/** Within the transaction that makes it true. `oid` is the table's. */
export async function saveState(session: Session, work: Work, oid: string): Promise<void> {
  await session.query(
    `INSERT INTO _godwit.state (${columns}, relation, state) VALUES ($1, $2, $3, $4, $5, $6::oid, $7::json)
     ON CONFLICT (${columns}) DO UPDATE SET relation = $6::oid, state = $7::json, remembered_at = now()`,
    [...placeOf(work), oid, JSON.stringify(work.state)],
  );
}

/** A swap: what was remembered of the table before it is not true of the new one. */
export async function replaceState(session: Session, work: Work): Promise<void> {
  await session.query(`DELETE FROM _godwit.state WHERE (${columns}) = ($1, $2, $3, $4, $5)`, placeOf(work));
  if (!work.state) return;
  const [row] = await session.query<{ oid: string }>('SELECT $1::regclass::oid::text AS oid', [tableIdent(work.name)]);
  await saveState(session, work, row?.oid ?? '0');
}

/**
 * Takes over a table whose rows another tool has brought. It gets a unique index on the key when it has none. Throws NOT_OWNED,
 * TARGET_DIFFERS, CONSTRAINT_BROKEN where its rows break the key, and STATE_CHANGED where it is not there.
 */
export async function rememberState(session: Session, work: Work): Promise<void> {
  await session.query(`BEGIN; ${lockLedger}`);
  const found = await ownership(session, work);
  const where = { table: tableText(work.name), target: work.target };
  if (!found.exists || found.oid === undefined) {
    throw new GodwitError(
      'STATE_CHANGED',
      `${where.table} is not on the target: there are no rows to go on from.`,
      where,
    );
  }
  const refused = notOwned(work, found);
  if (refused) throw refused;
  // As an increment would find it.
  const { differences } = driftOf(
    { ...work, increment: { existing: 'update' } },
    await columnsOf(session, found.oid),
    session.version,
  );
  if (differences.length > 0) {
    const message = `${where.table} exists on the target with other columns: ${differences.join('; ')}.`;
    throw new GodwitError('TARGET_DIFFERS', message, where);
  }
  await giveKey(session, work);
  await session.query(
    `INSERT INTO _godwit.owner (schema_name, table_name, installation, job_uid, relation) VALUES ($1, $2, $3, $4, $5::oid)
     ON CONFLICT (schema_name, table_name) DO UPDATE SET installation = $3, job_uid = $4, relation = $5::oid, taken_at = now()`,
    [work.name.schema, work.name.name, work.installation, work.jobUid, found.oid],
  );
  await saveState(session, work, found.oid);
  await session.query('COMMIT');
}

async function giveKey(session: Session, work: Work): Promise<void> {
  const facts = await factsOf(session, work, work.name);
  if (!facts || facts.unique || (facts.partitioned && facts.leading)) return;
  const key = columnList(work.key);
  await affected(session, `CREATE ${facts.partitioned ? '' : 'UNIQUE '}INDEX ON ${tableIdent(work.name)} (${key})`);
}
