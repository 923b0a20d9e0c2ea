/** Rows that are compared or routed before they are in the table: a temporary table of the very same column types. */

import { GodwitError } from '../../../errors.ts';
import { swapsIn, type TableName, tableText, type Work } from '../../contract.ts';
import { translate } from '../errors.ts';
import type { Session } from '../session.ts';
import { ident, tableIdent } from '../sql.ts';
import { loadedNames } from './layout.ts';
import { notPrepared } from './ledger.ts';
import { receiverOf } from './names.ts';

export const temporary: TableName = { schema: 'pg_temp', name: 'godwit_rows' };

/** What a merge must know of the table as it is now. */
export type Facts = {
  readonly oid: string;
  readonly partitioned: boolean;
  /** The column by whose ranges of dates it is partitioned. */
  readonly month: string | null;
  /** By statistics; 0 when there are none. */
  readonly rows: number;
  /** Is it the one Godwit's ledger knows as this job's? */
  readonly mine: boolean;
  readonly columns: readonly { readonly name: string; readonly generated: boolean; readonly always: boolean }[];
  /** Is there a unique index over exactly the key, and any that begins with it? */
  readonly unique: boolean;
  readonly leading: boolean;
  /** How columns of types from elsewhere are compared; all others by `=`. */
  readonly operators: Readonly<Record<string, string>>;
};

/**
 * Of the table rows go to when no other is named: the one people read, or its staging. No lock on its partitions is left
 * (`pg_partition_tree` takes one on each): the DEFAULT one is locked by who makes a month.
 */
export async function factsOf(session: Session, work: Work, table = receiverOf(work)): Promise<Facts | undefined> {
  const [row] = await session.query<Facts & { operators: Record<string, string> | null }>(
    `WITH keys AS (
       SELECT i.indisunique AND i.indimmediate AND i.indnkeyatts = cardinality($2::text[]) AS whole
       FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
         AND cardinality($2::text[]) BETWEEN 1 AND i.indnkeyatts
         AND (SELECT array_agg(a.attname::text) FROM pg_attribute a WHERE a.attrelid = i.indrelid
           AND a.attnum = ANY((i.indkey::int2[])[0:cardinality($2::text[]) - 1])) @> $2::text[]
     )
     SELECT c.oid::text, c.relkind = 'p' AS partitioned,
       (SELECT a.attname::text FROM pg_partitioned_table p
          JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] JOIN pg_type t ON t.oid = a.atttypid
        WHERE p.partrelid = c.oid AND p.partstrat = 'r' AND p.partnatts = 1
          AND coalesce(nullif(t.typbasetype, 0), t.oid) IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)) AS month,
       coalesce((SELECT sum(greatest(x.reltuples, 0)) FROM pg_inherits p JOIN pg_class x ON x.oid = p.inhrelid WHERE p.inhparent = c.oid),
         greatest(c.reltuples, 0))::float8 AS rows,
       EXISTS (SELECT FROM _godwit.owner o WHERE (o.schema_name, o.table_name, o.installation, o.job_uid) = ($3, $4, $5, $6)
         AND o.relation = c.oid) AS mine,
       (SELECT json_agg(json_build_object('name', attname, 'generated', attgenerated <> '', 'always', attidentity = 'a') ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns,
       EXISTS (SELECT FROM keys WHERE whole) AS unique, EXISTS (SELECT FROM keys) AS leading,
       (SELECT json_object_agg(a.attname, format('OPERATOR(%I.%s)', n.nspname, op.oprname))
        FROM pg_attribute a JOIN pg_opclass oc ON oc.opcintype = a.atttypid AND oc.opcdefault
          JOIN pg_am am ON am.oid = oc.opcmethod AND am.amname = 'btree'
          JOIN pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amoplefttype = a.atttypid AND ao.amoprighttype = a.atttypid AND ao.amopstrategy = 3
          JOIN pg_operator op ON op.oid = ao.amopopr JOIN pg_namespace n ON n.oid = op.oprnamespace
        WHERE a.attrelid = c.oid AND a.attname = ANY($2::text[]) AND n.nspname <> 'pg_catalog') AS operators
     FROM pg_class c WHERE c.oid = to_regclass($1)`,
    [tableIdent(table), work.key, work.name.schema, work.name.name, work.installation, work.jobUid],
  );
  return row && { ...row, operators: row.operators ?? {} };
}

/** As `factsOf`, of a table that must be there: FENCED where a staging is gone, STATE_CHANGED where the table is another by now. */
export async function tableFacts(session: Session, work: Work): Promise<Facts> {
  const facts = await factsOf(session, work);
  if (swapsIn(work)) {
    if (!facts) throw notPrepared(work);
    return facts;
  }
  if (!facts?.mine) throw stateChanged(work);
  return facts;
}

export const stateChanged = (work: Work): GodwitError => {
  const where = { table: tableText(work.name), target: work.target };
  return new GodwitError(
    'STATE_CHANGED',
    `${where.table} on the target is gone, or is not the table the last run of this job left; nothing was written.`,
    where,
  );
};

/**
 * Begins empty, ends with the transaction. `checked`: refuses what the table itself would refuse of a single row (checks,
 * generated columns), so that bad rows are found where they are set aside.
 */
export async function makeTemporary(session: Session, work: Work, { columns }: Facts, checked: boolean): Promise<void> {
  const loaded = new Set(loadedNames(work));
  const needless = columns.filter(({ name, generated }) => !loaded.has(name) && !(generated && checked));
  const table = tableIdent(temporary);
  const like = checked ? ' INCLUDING CONSTRAINTS INCLUDING GENERATED' : '';
  const drops = needless.map(({ name }) => `DROP COLUMN ${ident(name)} CASCADE`);
  const alter = drops.length > 0 ? `; ALTER TABLE ${table} ${drops.join(', ')}` : '';
  await session.query(
    `CREATE TEMPORARY TABLE ${ident(temporary.name)} (LIKE ${tableIdent(receiverOf(work))}${like}) ON COMMIT DROP${alter}`,
  );
}

/** How many rows the statement wrote. */
export async function affected(session: Session, sql: string): Promise<number> {
  try {
    return (await session.client.query(sql)).rowCount ?? 0;
  } catch (error) {
    throw translate(error);
  }
}
