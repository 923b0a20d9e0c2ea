/** The keys of a table at the source, in ranges that a sweep takes one by one. */
import type { Chunk, KeyBatch, KeyDigest, KeyRange, ReadKeys, SplitOptions, Table } from '../contract.ts';
import { mysqlExtras } from './extras.ts';
import type { KeyBounds } from './keys.ts';
import { canonicalText, type Ordered, orderedOf } from './ordered.ts';
import type { SessionPool } from './pool.ts';
import { predicateCondition } from './predicates.ts';
import type { Session } from './session.ts';
import { splitTable } from './split.ts';
import { ident, tableIdent } from './sql.ts';
import { digestIn, type FromKeys, keyRangeCondition, keysIn, sortWhole } from './sweep.ts';
import { assertUnchanged, beginRead } from './transaction.ts';

/** The index whose order is that of the keys: only with it a range of them is a piece of the table. */
function walkable(table: Table, key: readonly string[], columns: readonly Ordered[]): string | undefined {
  const index = mysqlExtras(table)?.keyIndex;
  const same = index?.columns.length === key.length && key.every((name, i) => name === index.columns[i]);
  return same && columns.every(({ natural }) => natural) ? index?.name : undefined;
}

/** Ranges as the rows are cut into, but larger: keys are small. Where no index has their order there is one for all of them. */
export async function* keyRanges(
  pool: SessionPool,
  table: Table,
  key: readonly string[],
  options: SplitOptions,
): AsyncGenerator<KeyRange> {
  const columns = key.map((name) => orderedOf(table, name));
  const { after, range: _range, ...rest } = options;
  const done = (after?.bounds as KeyRange | undefined)?.upto;
  if (!walkable(table, key, columns)) {
    if (!after) yield {};
    return;
  }
  const spelled = columns.map((column) => kindOf(table, column.name));
  const begun: Chunk | undefined = done && {
    id: 1,
    kind: 'keys',
    bounds: { upto: columns.map((_, i) => toHeld(spelled[i] as Held, done[i] as string)) } satisfies KeyBounds,
    rows: 0,
  };
  const size = { rows: options.size.rows, bytes: Number.POSITIVE_INFINITY };
  const canonical = (held: readonly string[]) =>
    columns.map((column, i) => canonicalText(column, fromHeld(spelled[i] as Held, held[i] as string)));
  for await (const chunk of splitTable(pool, table, { ...rest, size, ...(begun ? { after: begun } : {}) })) {
    const bounds = chunk.bounds as KeyBounds;
    yield {
      ...(bounds.after ? { after: canonical(bounds.after) } : {}),
      ...(bounds.upto ? { upto: canonical(bounds.upto) } : {}),
    };
  }
}

type Held = 'text' | 'bytes' | 'printed';

/** How keys.ts holds it. */
function kindOf(table: Table, name: string): Held {
  const kind = table.columns.find((column) => column.name === name)?.type.kind;
  return kind === 'text' ? 'text' : kind === 'bytes' ? 'bytes' : 'printed';
}

const fromHeld = (kind: Held, held: string): string =>
  kind === 'text' ? Buffer.from(held, 'hex').toString() : kind === 'bytes' ? `\\x${held.toLowerCase()}` : held;

function toHeld(kind: Held, text: string): string {
  if (kind === 'text') return Buffer.from(text).toString('hex').toUpperCase();
  if (kind === 'bytes') return text.slice(2).toUpperCase();
  return text.replace('T', ' ').replace(/Z$/, '');
}

/** Within one transaction, and complete: the server said its regular end, and the table stayed the one described. */
export async function* sourceKeys(
  pool: SessionPool,
  table: Table,
  key: readonly string[],
  range: KeyRange,
  want: ReadKeys,
): AsyncGenerator<KeyBatch> {
  want.signal.throwIfAborted();
  const session = await pool.take();
  let clean = false;
  const stop = () => session.destroy();
  want.signal.addEventListener('abort', stop, { once: true });
  try {
    const keys = await begin(session, table, key, range, want);
    const columns = keys.key;
    const index = walkable(table, key, columns);
    yield* keysIn(session, index ? { ...keys, from: `${keys.from} FORCE INDEX (${ident(index)})` } : keys);
    want.signal.throwIfAborted();
    await session.run('COMMIT');
    clean = true;
  } catch (error) {
    throw want.signal.aborted ? want.signal.reason : error;
  } finally {
    want.signal.removeEventListener('abort', stop);
    if (clean) await pool.give(session);
    else session.destroy();
  }
}

export const sourceDigest = (
  pool: SessionPool,
  table: Table,
  key: readonly string[],
  range: KeyRange,
  want: ReadKeys,
): Promise<KeyDigest> =>
  pool.use(async (session) => {
    const digest = await digestIn(session, await begin(session, table, key, range, want));
    await session.run('COMMIT');
    return digest;
  }, want.signal);

async function begin(
  session: Session,
  table: Table,
  names: readonly string[],
  range: KeyRange,
  { snapshot, where }: ReadKeys,
): Promise<FromKeys> {
  const key = names.map((name) => orderedOf(table, name));
  await sortWhole(session, key);
  await beginRead(session, snapshot);
  await assertUnchanged(session, table, [...new Set([...names, ...(where ?? []).map(({ column }) => column)])]);
  const conditions = [keyRangeCondition(key, range), predicateCondition(table, where)];
  return { key, from: tableIdent(table.name), where: conditions.filter(Boolean).join(' AND ') || undefined };
}
