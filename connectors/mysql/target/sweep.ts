/** The table people read, for a sweep: its keys in order, their digest, and the deletion of those that vanished at the source. */
import type { Claim, Counts, KeyBatch, KeyDigest, KeyRange, Work } from '../../contract.ts';
import type { LogicalType } from '../../types.ts';
import { type Ordered, ordered } from '../ordered.ts';
import type { SessionPool } from '../pool.ts';
import type { Session } from '../session.ts';
import { ident, tableIdent } from '../sql.ts';
import { digestIn, type FromKeys, keyRangeCondition, keysIn, sortWhole } from '../sweep.ts';
import { columnsOf } from './drift.ts';
import { Inserter } from './insert.ts';
import { type Into, Load, objection } from './load-data.ts';
import { Mender } from './mend.ts';
import { equal, joined, keyIndexOf, makeBeside } from './merge.ts';
import type { Books } from './names.ts';
import { assertStands } from './state.ts';
import { lineOf } from './texts.ts';
import { begin } from './transaction.ts';
import { durably } from './write.ts';

/** At one moment; complete, or thrown. */
export async function* targetKeys(
  pool: SessionPool,
  work: Work,
  range: KeyRange,
  signal: AbortSignal,
): AsyncGenerator<KeyBatch> {
  signal.throwIfAborted();
  const session = await pool.take();
  let clean = false;
  const stop = () => session.destroy();
  signal.addEventListener('abort', stop, { once: true });
  try {
    const keys = await beginReading(session, work, range);
    const index = keys.key.every(({ natural }) => natural) ? (await keyIndexOf(session, work))?.name : undefined;
    yield* keysIn(session, index ? { ...keys, from: `${keys.from} FORCE INDEX (${ident(index)})` } : keys);
    signal.throwIfAborted();
    await session.run('COMMIT');
    clean = true;
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener('abort', stop);
    if (clean) await pool.give(session);
    else session.destroy();
  }
}

export const targetDigest = (pool: SessionPool, work: Work, range: KeyRange, signal: AbortSignal): Promise<KeyDigest> =>
  pool.use(async (session) => {
    const digest = await digestIn(session, await beginReading(session, work, range));
    await session.run('COMMIT');
    return digest;
  }, signal);

async function beginReading(session: Session, work: Work, range: KeyRange): Promise<FromKeys> {
  const there = await columnsOf(session, work.name);
  const key = work.key.map((name): Ordered => {
    const found = there.find((column) => column.name.toLowerCase() === name.toLowerCase());
    const type = work.columns.find((column) => column.name === name)?.type ?? { kind: 'native' as const };
    return ordered({
      name,
      type,
      spelled: found?.native ?? '',
      charset: found?.charset ?? undefined,
      collation: found?.collation ?? undefined,
    });
  });
  await sortWhole(session, key);
  await session.run('START TRANSACTION READ ONLY');
  return { key, from: tableIdent(work.name), where: keyRangeCondition(key, range) };
}

export type Deleting = {
  readonly pool: SessionPool;
  readonly books: Books;
  readonly work: Work;
  readonly claim: Claim;
  readonly signal: AbortSignal;
};

/** All of them in one transaction with the checkpoint; when the keys break off nothing is deleted. */
export const deleteKeys = (deleting: Deleting, keys: AsyncIterable<KeyBatch>): Promise<Counts> =>
  durably(deleting, async (session) => {
    const { work, books } = deleting;
    const table = tableIdent(work.name);
    let into: Into | undefined;
    let found: string | undefined;
    for await (const batch of keys) {
      if (batch.length === 0) continue;
      if (!into) {
        await assertStands(session, books, work);
        const beside = await makeBeside(session, books, work, work.key);
        into = beside.into;
        const exact = beside.columns.map((column) => equal(column, table)).join(' AND ');
        found = `${joined(beside, table)} WHERE ${exact}`;
        await begin(session);
      }
      await put(session, work, into, batch);
    }
    const counts = { read: 0, written: 0, filtered: 0, quarantined: 0, bytes: 0, deleted: 0 };
    if (!into || !found) {
      await begin(session);
      return counts;
    }
    // Of what has another name here a session without a database of its own deletes nothing.
    const { affected } = await session.run(
      `DELETE ${table} FROM ${tableIdent(into.table)} s STRAIGHT_JOIN ${table} ON ${found}`,
    );
    await assertStands(session, books, work);
    return { ...counts, deleted: affected };
  });

async function put(session: Session, work: Work, into: Into, batch: KeyBatch): Promise<void> {
  const at = into.columns.map(({ name }) => work.key.indexOf(name));
  const fields = batch.map((key) => {
    const texts = key.split('\0');
    return into.columns.map(({ type }, c) => fieldOf(type, texts[at[c] as number] ?? ''));
  });
  const load = new Load(session, into);
  if (await load.started()) {
    const mender = new Mender(into.columns);
    await load.bytes([...mender.take(Buffer.from(fields.map(lineOf).join(''))), ...mender.end()]);
    const refused = await objection(session, await load.end(), batch.length, true);
    if (refused) throw refused;
    return;
  }
  const { refused } = await new Inserter(session, into).put(fields);
  if (refused) throw refused;
}

/** A canonical text as pg-text has it. */
function fieldOf({ kind }: LogicalType, text: string): string {
  switch (kind) {
    case 'bool':
      return text === 'true' ? 't' : 'f';
    case 'timestamp':
      return text.replace('T', ' ');
    case 'timestamptz':
      return text.replace('T', ' ').replace(/Z$/, '+00');
    default:
      return text;
  }
}
