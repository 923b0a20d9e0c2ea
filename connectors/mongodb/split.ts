/**
 * Chunks, found as they are asked for. Three kinds:
 * 1. `all`: the collection is smaller than a chunk, or its `_id` is no key (views, time series). No query.
 * 2. `keys`: ranges of `_id`. Of a large collection the bounds come from a sample of its keys, sorted by the server, whose
 *    order is the one that counts (types, collation); twenty keys for each chunk, so that skewed keys still make even
 *    chunks. Of one that is not large, every n-th key of the index: one pass over it, exact and the same every time.
 * 3. `range`: of an incremental read whose bookmark has an index: the instants every n-th one, and before them, in a chunk of
 *    its own, whatever is no instant. Without an index the chunks are those of the key, read with the bookmark's filter.
 */
import type { Document } from 'mongodb';
import { type Chunk, type SplitOptions, type Table, tableText } from '../contract.ts';
import { boundsFilter, classOf, type KeyBounds, keyBounds, knowsOldTypes, parsedKey } from './bounds.ts';
import { translate } from './errors.ts';
import { mongoExtras } from './extras.ts';
import { cannotSample } from './sample.ts';
import { exact, type LazySession, type Session } from './session.ts';
import { cutByIndex, splitRange } from './split-range.ts';

const perChunk = 20;
const large = 200_000;

export async function* splitTable(lazy: LazySession, table: Table, options: SplitOptions): AsyncGenerator<Chunk> {
  options.signal.throwIfAborted();
  const { size, after } = options;
  const small = table.rows <= size.rows && table.bytes <= size.bytes;
  const whole = after ? after.kind === 'all' : small || mongoExtras(table)?.kind !== 'collection';
  if (whole) {
    if (!after) yield { id: 1, kind: 'all', bounds: {}, rows: Math.max(0, table.rows) };
    return;
  }
  if (after ? after.kind === 'range' : await cutByIndex(lazy, table, options)) {
    yield* splitRange(lazy, table, options);
    return;
  }
  let last: unknown;
  if (after) {
    const { upto } = after.bounds as KeyBounds;
    if (upto === undefined) return; // that was the last one
    last = parsedKey(upto);
  }
  const session = await lazy.get();
  const old = await knowsOldTypes(session, table.name.name);
  const rows = rowsPerChunk(table, size);
  let id = after?.id ?? 0;
  for await (const upto of boundsAfter(session, table, { last, rows, old, signal: options.signal })) {
    yield { id: ++id, kind: 'keys', bounds: keyBounds(last, upto, old), rows };
    last = upto;
  }
  yield { id: ++id, kind: 'keys', bounds: keyBounds(last, undefined, old), rows };
}

/** Documents of a chunk: as many as asked for, or as many as fit into the bytes. */
export function rowsPerChunk(table: Table, { rows, bytes }: SplitOptions['size']): number {
  const width = table.rows > 0 && table.bytes > 0 ? table.bytes / table.rows : 100;
  return Math.max(1, Math.floor(Math.min(rows, bytes / width)));
}

type Walk = { readonly last: unknown; readonly rows: number; readonly old: boolean; readonly signal: AbortSignal };

export async function* boundsAfter(session: Session, table: Table, walk: Walk): AsyncGenerator<unknown> {
  if (table.rows < 0 || table.rows > large) {
    const sample = await sampledBounds(session, table, walk);
    if (sample) {
      yield* sample;
      return;
    }
  }
  yield* everyNth(session, table, walk);
}

/** Undefined where the server cannot sample. */
async function sampledBounds(
  session: Session,
  table: Table,
  { last, rows, old }: Walk,
): Promise<unknown[] | undefined> {
  const chunks = Math.ceil(Math.max(table.rows, 0) / rows);
  const size = Math.min(50_000, Math.max(100, chunks * perChunk));
  const behind = last === undefined ? [] : [{ $match: boundsFilter(range(last, old)) }];
  const pipeline: Document[] = [{ $sample: { size } }, { $project: { _id: 1 } }, ...behind, { $sort: { _id: 1 } }];
  let keys: unknown[];
  try {
    const cursor = session.db.collection(table.name.name).aggregate(pipeline, { ...exact, allowDiskUse: true });
    keys = (await cursor.toArray()).map((document) => document._id);
  } catch (error) {
    if (!cannotSample(error)) throw translate(error, { table: tableText(table.name) });
    return undefined;
  }
  const step = Math.max(1, Math.floor((size * rows) / Math.max(table.rows, 1)));
  const bounds: unknown[] = [];
  const before = new Set<string>();
  for (let i = step - 1; i < keys.length - 1; i += step) {
    const key = keys[i];
    if (classOf(key) < 0) continue;
    // A sample may hold a key twice.
    const text = keyBounds(undefined, key, false).upto as string;
    if (!before.has(text)) bounds.push(key);
    before.add(text);
  }
  return bounds;
}

const range = (last: unknown, old: boolean): Chunk => ({
  id: 0,
  kind: 'keys',
  bounds: keyBounds(last, undefined, old),
  rows: 0,
});

/** Never the last key: the last chunk, open above, is not empty then. */
async function* everyNth(session: Session, table: Table, { last, rows, old, signal }: Walk): AsyncGenerator<unknown> {
  const filter = last === undefined ? {} : (boundsFilter(range(last, old)) ?? {});
  const options = { ...exact, projection: { _id: 1 }, sort: { _id: 1 } as const, hint: { _id: 1 }, batchSize: 10_000 };
  const cursor = session.db.collection(table.name.name).find(filter, options);
  let candidate: { readonly key: unknown } | undefined;
  let since = 0;
  try {
    for await (const { _id: key } of cursor) {
      signal.throwIfAborted();
      since++;
      if (candidate) {
        yield candidate.key;
        candidate = undefined;
        since = 1;
      }
      if (since >= rows && classOf(key) >= 0) candidate = { key };
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : translate(error, { table: tableText(table.name) });
  } finally {
    await cursor.close().catch(() => {});
  }
}
