/** Takes an unpublished work away, with everything made for it. What was published stays. */

import { GodwitError } from '../../../errors.ts';
import { swapsIn, type Work } from '../../contract.ts';
import { sqlstate } from '../errors.ts';
import type { Session } from '../session.ts';
import { ident, literal, tableIdent } from '../sql.ts';
import { endBackend, lockLedger, ofWork, takeOver, workRow } from './ledger.ts';
import { hashOf, keyOf, ledgerSchema, stagingOf } from './names.ts';

/**
 * Idempotent. Writers that still try are ended first; those that come later find no chunk and no table: FENCED. What an
 * increment has committed stays.
 */
export async function discardWork(session: Session, work: Work): Promise<void> {
  const row = await workRow(session, work);
  if (!row || row.published) return;
  await takeOver(session, work);
  await endWriters(session, work);
  await session.query(`BEGIN; ${lockLedger}`);
  // First the chunks: an attempt that is committing holds its row, and is waited for.
  await session.query(`DELETE FROM _godwit.chunk WHERE ${ofWork}`, keyOf(work));
  if (swapsIn(work)) {
    await session.query(`DROP TABLE IF EXISTS ${tableIdent(stagingOf(work))}`);
    await dropSequences(session, [hashOf(work)]);
  }
  if (work.mode === 'dumping') await removeSnapshot(session, work);
  await session.query(`DELETE FROM _godwit.work WHERE ${ofWork}`, keyOf(work));
  await disown(session, work);
  await unmake(session, work);
  await session.query('COMMIT');
}

async function endWriters(session: Session, work: Work): Promise<void> {
  const rows = await session.query<{ pid: number; started: string }>(
    `SELECT pid, backend_start::text AS started FROM _godwit.chunk WHERE ${ofWork} AND NOT done AND pid IS NOT NULL`,
    keyOf(work),
  );
  for (const { pid, started } of rows) await endBackend(session, pid, started);
}

/** The rows of a snapshot that is not complete; the table too when this work made it and nothing else is in it. */
async function removeSnapshot(session: Session, work: Work): Promise<void> {
  const table = tableIdent(work.name);
  const [there] = await session.query(
    `SELECT 1 FROM _godwit.owner o WHERE (o.schema_name, o.table_name, o.installation, o.job_uid) = ($1, $2, $3, $4)
       AND o.relation = to_regclass($5)::oid`,
    [work.name.schema, work.name.name, work.installation, work.jobUid, table],
  );
  if (!there) return;
  const column = work.columns.find((one) => one.constant !== undefined && one.constant === work.snapshotDate);
  const [complete] = await session.query(
    `SELECT 1 FROM _godwit.snapshot WHERE (schema_name, table_name, migration_snapshot_date) = ($1, $2, $3::timestamptz)`,
    [work.name.schema, work.name.name, work.snapshotDate ?? null],
  );
  if (column && !complete) {
    await session.query(
      `DELETE FROM ${table} WHERE ${ident(column.name)} = ${literal(work.snapshotDate ?? '')}::timestamptz`,
    );
  }
  const [left] = await session.query(`SELECT 1 FROM ${table} LIMIT 1`);
  const [made] = await session.query(
    `SELECT 1 FROM _godwit.made WHERE kind = 'table' AND (schema_name, name, installation, job_uid) = ($1, $2, $3, $4)`,
    [work.name.schema, work.name.name, work.installation, work.jobUid],
  );
  if (!left && made) {
    await session.query(`DROP TABLE ${table}`);
    await session.query(`DELETE FROM _godwit.owner WHERE schema_name = $1 AND table_name = $2`, [
      work.name.schema,
      work.name.name,
    ]);
    await session.query(`DELETE FROM _godwit.made WHERE kind = 'table' AND schema_name = $1 AND name = $2`, [
      work.name.schema,
      work.name.name,
    ]);
  }
}

/** A name taken for a table that never came to be, and that nobody else is writing. */
const disown = (session: Session, work: Work) =>
  session.query(
    `DELETE FROM _godwit.owner o WHERE (o.schema_name, o.table_name, o.installation, o.job_uid) = ($1, $2, $3, $4)
       AND o.relation IS NULL AND NOT EXISTS (SELECT 1 FROM _godwit.work w WHERE w.schema_name = $1 AND w.table_name = $2)`,
    [work.name.schema, work.name.name, work.installation, work.jobUid],
  );

/**
 * Types and schemas Godwit made and that no published table needs: as far as nothing else uses them by now. A staging
 * holds its types, but nothing of it lies in the schema it will go to: that one stays until the last of its works is
 * published or gone. Newest first, so that what stands on another goes before it.
 */
async function unmake(session: Session, work: Work): Promise<void> {
  const made = await session.query<{ kind: string; schema_name: string; name: string }>(
    `SELECT kind, schema_name, name FROM _godwit.made m WHERE installation = $1 AND kind <> 'table'
       AND NOT (kind = 'schema' AND EXISTS (SELECT 1 FROM _godwit.work w WHERE w.schema_name = m.schema_name AND w.published_at IS NULL))
     ORDER BY kind = 'schema', made_at DESC, m.ctid DESC`,
    [work.installation],
  );
  for (const one of made) {
    const name = tableIdent({ schema: one.schema_name, name: one.name });
    const statement =
      one.kind === 'schema'
        ? `DROP SCHEMA IF EXISTS ${ident(one.schema_name)} RESTRICT`
        : `DROP ${one.kind === 'domain' ? 'DOMAIN' : 'TYPE'} IF EXISTS ${name} RESTRICT`;
    await session.query('SAVEPOINT one');
    try {
      await session.query(statement);
      await session.query(`DELETE FROM _godwit.made WHERE kind = $1 AND schema_name = $2 AND name = $3`, [
        one.kind,
        one.schema_name,
        one.name,
      ]);
    } catch (error) {
      // Used by another table, or not ours to drop any more: it stays.
      if (!(error instanceof GodwitError) || !/^(2B|42)/.test(sqlstate(error) ?? '')) throw error;
      await session.query('ROLLBACK TO SAVEPOINT one');
    }
    await session.query('RELEASE SAVEPOINT one');
  }
}

async function dropSequences(session: Session, hashes: readonly string[]): Promise<void> {
  const left = await session.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = '_godwit' AND c.relkind = 'S' AND substr(c.relname, 3, 20) = ANY($1::text[])`,
    [hashes],
  );
  for (const { name } of left)
    await session.query(`DROP SEQUENCE IF EXISTS ${tableIdent({ schema: ledgerSchema, name })}`);
}

/**
 * In the transaction of `prepare`: what earlier runs and generations of this very table left behind. Published ones are
 * forgotten, their checkpoints have served; the staging of unpublished ones is dropped.
 */
export async function sweep(session: Session, work: Work): Promise<void> {
  const older = await session.query<{ run: string; generation: number; published: boolean }>(
    `SELECT run, generation, published_at IS NOT NULL AS published FROM _godwit.work
     WHERE (installation, job_uid, target, schema_name, table_name) = ($1, $2, $3, $4, $5) AND (run, generation) <> ($6, $7::int4)
       AND ($8 <> 'dumping' OR published_at IS NOT NULL)`,
    [
      work.installation,
      work.jobUid,
      work.target,
      work.name.schema,
      work.name.name,
      work.run,
      work.generation,
      work.mode,
    ],
  );
  for (const { run, generation, published } of older) {
    const old: Work = { ...work, run, generation };
    if (!published) {
      await takeOver(session, old);
      await endWriters(session, old);
    }
    await session.query(`DELETE FROM _godwit.chunk WHERE ${ofWork}`, keyOf(old));
    await session.query(`DROP TABLE IF EXISTS ${tableIdent(stagingOf(old))}`);
    await dropSequences(session, [hashOf(old)]);
    await session.query(`DELETE FROM _godwit.work WHERE ${ofWork}`, keyOf(old));
  }
}
