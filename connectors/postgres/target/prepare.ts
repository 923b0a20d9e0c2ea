/** Makes everything a table needs before its first row: ownership, schemas, user types, the receiving table. */
import { GodwitError } from '../../../errors.ts';
import { swapsIn, type Work } from '../../contract.ts';
import { sqlstate } from '../errors.ts';
import { type PostgresUserType, postgresExtras } from '../extras.ts';
import type { Session } from '../session.ts';
import { columnList, ident, literal, tableIdent } from '../sql.ts';
import { sweep } from './discard.ts';
import { adapt } from './drift.ts';
import { columnSql, isWhole, type LaidColumn, layout, renames } from './layout.ts';
import { addNotes, lockLedger, notPrepared, workRow } from './ledger.ts';
import { keyOf, receiverOf } from './names.ts';
import { notOwned, ownership } from './ownership.ts';
import { addPartitions, everyMonth, partitionClause, partitionColumn, tableKey } from './partitions.ts';
import { tableFacts } from './temporary.ts';
import { createType, planTypes } from './user-types.ts';

/** One transaction under the ledger's lock, so that two tables that need one type do not make it twice. */
export async function prepareWork(session: Session, work: Work): Promise<void> {
  await session.query(`BEGIN; ${lockLedger}`);
  const known = await workRow(session, work);
  if (known?.published) {
    await session.query('COMMIT');
    return;
  }
  const [there] = await session.query<{ oid: string | null }>('SELECT to_regclass($1)::oid::text AS oid', [
    tableIdent(receiverOf(work)),
  ]);
  const begun = known && there?.oid;
  if (work.increment) await tableFacts(session, work);
  if (begun) {
    await session.query('COMMIT');
    return;
  }
  // What older runs and generations left; the receiving table of a known work that is gone begins anew.
  await sweep(session, work);
  await own(session, work);
  await session.query(
    `INSERT INTO _godwit.work (installation, job_uid, target, run, schema_name, table_name, generation, mode, source_schema, source_table)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
    [...keyOf(work), work.mode, work.source.name.schema, work.source.name.name],
  );
  await makeSchema(session, work, work.name.schema);
  const late = await makeTypes(session, work);
  const notes = await makeReceiver(session, work, there?.oid ?? undefined);
  if (notes.length > 0) await addNotes(session, work, notes);
  await session.query('COMMIT');
  // A new label may not be used in the transaction that adds it.
  for (const statement of late) await session.query(statement);
}

async function own(session: Session, work: Work): Promise<void> {
  const found = await ownership(session, work);
  const refused = notOwned(work, found);
  if (refused) throw refused;
  // An increment's table is its own already.
  if (work.increment) return;
  // A replaced table changes its owner when it is published; a dumping table now, with its first row.
  const takes = work.mode === 'dumping' || !found.owned;
  if (!takes) return;
  if (work.mode === 'dumping' && found.exists && !found.mine && work.existing === 'overwrite') {
    await session.query(`DROP TABLE ${tableIdent(work.name)}`);
  }
  const relation = work.mode === 'dumping' && found.exists && work.existing !== 'overwrite' ? found.oid : null;
  await session.query(
    `INSERT INTO _godwit.owner AS o (schema_name, table_name, installation, job_uid, relation) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (schema_name, table_name) DO UPDATE SET installation = $3, job_uid = $4,
       relation = CASE WHEN (o.installation, o.job_uid) = ($3, $4) THEN coalesce($5, o.relation) ELSE $5 END, taken_at = now()
     `,
    [work.name.schema, work.name.name, work.installation, work.jobUid, relation ?? null],
  );
}

async function makeSchema(session: Session, work: Work, schema: string): Promise<void> {
  const [there] = await session.query('SELECT 1 FROM pg_namespace WHERE nspname = $1', [schema]);
  if (there) return;
  await session.query(`CREATE SCHEMA ${ident(schema)}`);
  await remember(session, work, 'schema', schema, '');
}

const remember = (
  session: Session,
  work: Work,
  kind: 'schema' | 'table' | PostgresUserType['kind'],
  schema: string,
  name: string,
) =>
  session.query(
    `INSERT INTO _godwit.made (kind, schema_name, name, installation, job_uid) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (kind, schema_name, name) DO UPDATE SET installation = $4, job_uid = $5, made_at = now()`,
    [kind, schema, name, work.installation, work.jobUid],
  );

/** Statements that must wait for the commit. */
async function makeTypes(session: Session, work: Work): Promise<readonly string[]> {
  const plan = await planTypes(session, work);
  if (plan.refusals[0]) throw plan.refusals[0];
  for (const type of plan.missing) {
    await makeSchema(session, work, type.name.schema);
    await session.query(createType(type));
    await remember(session, work, type.kind, type.name.schema, type.name.name);
  }
  return plan.widen;
}

async function makeReceiver(session: Session, work: Work, oid: string | undefined): Promise<string[]> {
  const table = tableIdent(receiverOf(work));
  // Into a table that is there: refusals have compared its columns.
  const [there] = swapsIn(work)
    ? []
    : await session.query('SELECT to_regclass($1) AS r WHERE to_regclass($1) IS NOT NULL', [table]);
  if (there) {
    if (oid !== undefined) await adapt(session, work, oid);
    if (work.increment) await takeValues(session, work);
    return [];
  }
  if (oid !== undefined && swapsIn(work)) throw notPrepared(work);
  const { columns, notes } = await possible(session, work);
  await createTable(session, work, columns);
  if (work.mode === 'dumping') {
    for (const statement of renames(table, columns)) await session.query(statement);
    if (work.key.length > 0) {
      const key = tableKey(work);
      await session.query(
        `ALTER TABLE ${table} ADD ${key.primary ? 'PRIMARY KEY' : 'UNIQUE'} (${columnList(key.columns)})`,
      );
    }
    for (const column of columns) {
      if (column.comment !== undefined) {
        await session.query(`COMMENT ON COLUMN ${table}.${ident(column.final)} IS ${literal(column.comment)}`);
      }
    }
    await session.query(
      `UPDATE _godwit.owner SET relation = $3::regclass::oid WHERE schema_name = $1 AND table_name = $2`,
      [work.name.schema, work.name.name, table],
    );
    await remember(session, work, 'table', work.name.schema, work.name.name);
  }
  await makeMonths(session, work, columns);
  return notes;
}

/** The DEFAULT partition, and those asked for at once. */
async function makeMonths(session: Session, work: Work, columns: readonly LaidColumn[]): Promise<void> {
  const column = columns.find((one) => one.plan && one.plan === partitionColumn(work));
  if (!column) return;
  const table = receiverOf(work);
  const [made] = await session.query<{ oid: string }>('SELECT $1::regclass::oid::text AS oid', [tableIdent(table)]);
  const cut = { table, oid: made?.oid ?? '0', column: work.mode === 'dumping' ? column.final : column.name };
  const years = work.partition?.years;
  await addPartitions(session, cut, new Set(['default', ...(years ? everyMonth(years) : [])]));
}

/** An identity that is ALWAYS the table's own refuses the values of the source in an update. */
async function takeValues(session: Session, work: Work): Promise<void> {
  const { columns } = await tableFacts(session, work);
  const moved = new Set(work.columns.map((column) => column.name));
  const own = columns.filter(({ name, always }) => always && moved.has(name));
  if (own.length === 0) return;
  const changes = own.map(({ name }) => `ALTER COLUMN ${ident(name)} SET GENERATED BY DEFAULT`);
  await session.query(`ALTER TABLE ${tableIdent(work.name)} ${changes.join(', ')}`);
}

const createTable = (session: Session, work: Work, columns: readonly LaidColumn[]) => {
  const list = columns.map((column) => columnSql(column, session.version)).join(',\n  ');
  // Nobody reads a staging before it is complete: vacuum and analyze would only disturb.
  const clause = partitionClause(work);
  const options = clause !== '' ? clause : swapsIn(work) ? ' WITH (autovacuum_enabled = off)' : '';
  return session.query(`CREATE TABLE ${tableIdent(receiverOf(work))} (\n  ${list})${options}`);
};

/** Without the generated columns whose expressions need a column or a function that is not here. */
async function possible(session: Session, work: Work): Promise<{ columns: LaidColumn[]; notes: string[] }> {
  const columns = layout(work);
  const extras = postgresExtras(work.source);
  const notes: string[] = [];
  const generated = columns.filter((column) => column.special?.generated && column.plan === undefined);
  if (!extras || generated.length === 0) return { columns, notes };
  const virtual = generated.filter((column) => column.special?.generated?.kind === 'virtual' && session.version < 18);
  for (const column of virtual) notes.push(`${column.final}: virtual at the source, stored here`);
  if (isWhole(work, extras) && (await works(session, work, columns))) return { columns, notes };
  const others = columns.filter((column) => !generated.includes(column));
  const kept = new Set<LaidColumn>(others);
  for (const column of generated) {
    if (await works(session, work, [...others, column])) kept.add(column);
    else notes.push(`${column.final}: a generated column whose expression cannot be evaluated here is left out`);
  }
  return { columns: columns.filter((column) => kept.has(column)), notes };
}

async function works(session: Session, work: Work, columns: readonly LaidColumn[]): Promise<boolean> {
  await session.query('SAVEPOINT trial');
  try {
    await createTable(session, work, columns);
    return true;
  } catch (error) {
    if (!(error instanceof GodwitError) || !/^(42|0A)/.test(sqlstate(error) ?? '') || sqlstate(error) === '42501')
      throw error;
    return false;
  } finally {
    await session.query('ROLLBACK TO SAVEPOINT trial');
  }
}
