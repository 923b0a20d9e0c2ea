/** The keys of the table people read, for the sweep of a mirrored one; and the rows taken away because they vanished. */
import type { Counts, KeyBatch, KeyDigest, KeyRange, PlanColumn, Work } from '../../contract.ts';
import { copyKeys, digestIn, type KeyColumn, keyRangeCondition } from '../keys.ts';
import type { SessionPool } from '../pool.ts';
import type { Session } from '../session.ts';
import { columnList, ident, tableIdent } from '../sql.ts';
import { CopyIn } from './copy-in.ts';
import { copyText } from './copy-rows.ts';
import { tune } from './merge.ts';
import { affected, tableFacts } from './temporary.ts';
import { durably, type Writing } from './write.ts';

/** Types as the table has them now, without domains. */
async function keyColumns(session: Session, work: Work): Promise<KeyColumn[]> {
  const rows = await session.query<{ name: string; native: string }>(
    `SELECT a.attname::text AS name, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), CASE t.typbasetype WHEN 0 THEN a.atttypmod ELSE t.typtypmod END) AS native
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = $1::regclass AND a.attname = ANY($2::text[])`,
    [tableIdent(work.name), work.key],
  );
  const natives = new Map(rows.map(({ name, native }) => [name, native]));
  return keyPlan(work).map(({ name, type, native }) => ({ name, type, native: natives.get(name) ?? native }));
}

const keyPlan = (work: Work): PlanColumn[] =>
  work.key.flatMap((name) => work.columns.filter((column) => column.name === name));

/** Read at one moment; complete, or it throws. */
export async function* keysIn(
  pool: SessionPool,
  work: Work,
  { range, signal }: { readonly range: KeyRange; readonly signal: AbortSignal },
): AsyncGenerator<KeyBatch> {
  signal.throwIfAborted();
  const session = await pool.take();
  let clean = false;
  try {
    await session.query('BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
    await tableFacts(session, work);
    const columns = await keyColumns(session, work);
    const where = keyRangeCondition(columns, range);
    yield* copyKeys(session, { columns, from: tableIdent(work.name), where, signal });
    await session.query('COMMIT');
    clean = true;
  } finally {
    if (clean) await pool.give(session);
    else session.destroy();
  }
}

export async function digestOf(
  pool: SessionPool,
  work: Work,
  { range, signal }: { readonly range: KeyRange; readonly signal: AbortSignal },
): Promise<KeyDigest> {
  signal.throwIfAborted();
  return await pool.use(async (session) => {
    const stop = () => session.destroy();
    signal.addEventListener('abort', stop, { once: true });
    try {
      await tableFacts(session, work);
      const columns = await keyColumns(session, work);
      const where = keyRangeCondition(columns, range);
      return await digestIn(session, columns, tableIdent(work.name), where);
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      signal.removeEventListener('abort', stop);
    }
  });
}

/** All of them with the checkpoint, or none: when the keys end with an error, too. */
export const deleteChunk = (writing: Writing, keys: AsyncIterable<KeyBatch>): Promise<Counts> =>
  durably(writing, (session) => deleteRows(session, writing, keys));

const gone = 'pg_temp.godwit_keys';

async function deleteRows(session: Session, { work }: Writing, keys: AsyncIterable<KeyBatch>): Promise<Counts> {
  const text = copyText(keyPlan(work));
  let rows = 0;
  // Both sides may read for long before a key is known to be gone; nothing of the table is locked meanwhile.
  await session.query(`SET LOCAL idle_in_transaction_session_timeout = '1h'`);
  for await (const batch of keys) {
    if (batch.length === 0) continue;
    if (rows === 0) await makeKeys(session, work);
    const copy = new CopyIn(session);
    await copy.start(session, `COPY ${gone} (${columnList(work.key)}) FROM STDIN`);
    await copy.bytes([
      text(
        batch.map((key) => key.split('\0')),
        0,
        batch.length,
      ),
    ]);
    rows += await copy.end();
  }
  const none = { read: 0, written: 0, filtered: 0, quarantined: 0, bytes: 0 };
  if (rows === 0) return { ...none, deleted: 0 };
  const facts = await tableFacts(session, work);
  await tune(session, facts, { rows, table: gone, key: work.key });
  const match = work.key
    .map((name) => `t.${ident(name)} ${facts.operators[name] ?? '='} k.${ident(name)}`)
    .join(' AND ');
  const deleted = await affected(
    session,
    `DELETE FROM ${tableIdent(work.name)} AS t USING ${gone} AS k WHERE ${match}`,
  );
  return { ...none, deleted };
}

const makeKeys = (session: Session, work: Work) =>
  session.query(
    `CREATE TEMPORARY TABLE godwit_keys ON COMMIT DROP AS SELECT ${columnList(work.key)} FROM ${tableIdent(work.name)} WITH NO DATA`,
  );
