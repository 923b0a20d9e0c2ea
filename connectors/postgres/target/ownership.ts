/** Who made the table of that name (decision 4). */
import { GodwitError } from '../../../errors.ts';
import { type TableName, tableText, type Work } from '../../contract.ts';
import type { Session } from '../session.ts';
import { tableIdent } from '../sql.ts';

export type Ownership = {
  readonly exists: boolean;
  readonly oid?: string;
  readonly empty: boolean;
  /** Does the ledger name an owner at all? */
  readonly owned: boolean;
  readonly mine: boolean;
  /** Another job is writing a table of that name just now. */
  readonly rival: boolean;
};

/** `ledger`: false while no `_godwit` is there. */
export async function ownership(session: Session, work: Work, ledger = true): Promise<Ownership> {
  const [row] = await session.query<{
    oid: string | null;
    kind: string | null;
    job: string | null;
    installation: string | null;
    relation: string | null;
    rival: boolean;
  }>(
    ledger
      ? `SELECT c.oid::text AS oid, c.relkind AS kind, o.job_uid AS job, o.installation, o.relation::text AS relation,
           EXISTS (SELECT 1 FROM _godwit.work w WHERE w.schema_name = $1 AND w.table_name = $2
             AND (w.installation, w.job_uid) <> ($3, $4) AND w.published_at IS NULL) AS rival
         FROM (VALUES ($1::text, $2::text)) AS want(schema, name)
           LEFT JOIN pg_namespace n ON n.nspname = want.schema
           LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.name
           LEFT JOIN _godwit.owner o ON o.schema_name = $1 AND o.table_name = $2`
      : `SELECT c.oid::text AS oid, c.relkind AS kind, NULL AS job, NULL AS installation, NULL AS relation, $3 = $4 AND false AS rival
         FROM (VALUES ($1::text, $2::text)) AS want(schema, name)
           LEFT JOIN pg_namespace n ON n.nspname = want.schema
           LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.name`,
    [work.name.schema, work.name.name, work.installation, work.jobUid],
  );
  const exists = row?.oid != null;
  const same = row?.job === work.jobUid && row.installation === work.installation;
  const mine = same && (!exists || row.relation === row.oid);
  return {
    exists,
    oid: row?.oid ?? undefined,
    owned: row?.job != null,
    mine,
    rival: row?.rival ?? false,
    empty: !exists || (!mine && (await isEmpty(session, work.name, row?.kind ?? ''))),
  };
}

export async function isEmpty(session: Session, name: TableName, kind: string): Promise<boolean> {
  if (kind !== 'r' && kind !== 'p') return false;
  const [row] = await session.query(`SELECT 1 FROM ${tableIdent(name)} LIMIT 1`);
  return row === undefined;
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
