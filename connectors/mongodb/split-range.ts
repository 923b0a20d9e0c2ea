/**
 * Chunks of an incremental read whose column has an index: one for what has no place in its order (rows without a bookmark,
 * bookmarks of other types), then every n-th value in between. Without an index the chunks are those of `_id`.
 */
import type { Document } from 'mongodb';
import { GodwitError } from '../../errors.ts';
import { type Chunk, type Range, type SplitOptions, type Table, tableText } from '../contract.ts';
import { anyOf, isOpen, type Parts, partsOf, rangeFilter } from './bookmarks.ts';
import { classOf, keyBounds, knowsOldTypes, parsedKey } from './bounds.ts';
import { translate } from './errors.ts';
import { fieldOf, indexLeads } from './follow.ts';
import { exact, type LazySession, type Session } from './session.ts';
import { rowsPerChunk } from './split.ts';

/** Of a chunk of kind `range`: values behind `after` (exclusive) up to `upto` (inclusive), as in KeyBounds; or what is in no order. */
type RangeBounds = { readonly after?: string; readonly upto?: string; readonly rest?: true };

export async function cutByIndex(lazy: LazySession, table: Table, { range }: SplitOptions): Promise<boolean> {
  if (!range || isOpen(range)) return false;
  return await indexLeads(await lazy.get(), table, fieldOf(table, range.column));
}

export async function* splitRange(lazy: LazySession, table: Table, options: SplitOptions): AsyncGenerator<Chunk> {
  const { range, size, after, signal } = options;
  if (!range) throw new GodwitError('INTERNAL', 'A chunk of a range without one.');
  const session = await lazy.get();
  const field = fieldOf(table, range.column);
  const rows = rowsPerChunk(table, size);
  const old = await knowsOldTypes(session, table.name.name);
  if (!after && (await few(session, table, rangeFilter(field, range, old) ?? {}, rows))) {
    yield { id: 1, kind: 'all', bounds: {}, rows };
    return;
  }
  let id = after?.id ?? 0;
  const parts = partsOf(field, range, old);
  const rest: RangeBounds = { rest: true };
  if (!after && parts.rest.length > 0) yield { id: ++id, kind: 'range', bounds: rest, rows };
  const begun = after?.bounds as RangeBounds | undefined;
  if (begun && begun.upto === undefined && !begun.rest) return; // that was the last one
  let last = begun?.upto;
  for await (const upto of everyNthValue(session, table, { field, parts, last, rows, signal })) {
    yield { id: ++id, kind: 'range', bounds: { ...(last === undefined ? {} : { after: last }), upto }, rows };
    last = upto;
  }
  yield { id: ++id, kind: 'range', bounds: last === undefined ? {} : { after: last }, rows };
}

/** The filter of a chunk of kind `range`; undefined for nothing at all. */
export function rangeChunkFilter(field: string, range: Range, chunk: Chunk, old: boolean): Document {
  const { after, upto, rest } = chunk.bounds as RangeBounds;
  const parts = partsOf(field, range, old);
  if (rest) return anyOf(parts.rest);
  return { $and: inOrder(field, parts, after, upto) };
}

/** Arrays are with the rest: the server would compare their elements. */
function inOrder(field: string, { compared }: Parts, after?: string, upto?: string): Document[] {
  return [
    anyOf(compared),
    ...(after === undefined ? [] : [{ [field]: { $gt: parsedKey(after) } }]),
    ...(upto === undefined ? [] : [{ [field]: { $lte: parsedKey(upto) } }]),
    ...(field === '_id' ? [] : [{ [field]: { $not: { $type: [4] } } }]),
  ];
}

/** As the rows are read. */
const concern = ({ replicated }: Session) => (replicated ? { readConcern: { level: 'majority' as const } } : {});

async function few(session: Session, table: Table, filter: Document, rows: number): Promise<boolean> {
  try {
    return (
      (await session.db.collection(table.name.name).countDocuments(filter, { limit: rows + 1, ...concern(session) })) <=
      rows
    );
  } catch (error) {
    throw translate(error, { table: tableText(table.name) });
  }
}

type Values = {
  readonly field: string;
  readonly parts: Parts;
  readonly last: string | undefined;
  readonly rows: number;
  readonly signal: AbortSignal;
};

/** All documents of one value are in one chunk. */
async function* everyNthValue(
  session: Session,
  table: Table,
  { field, parts, last, rows, signal }: Values,
): AsyncGenerator<string> {
  const projection = field === '_id' ? { _id: 1 } : { _id: 0, [field]: 1 };
  const options = { ...exact, projection, sort: { [field]: 1 } as const, batchSize: 10_000, ...concern(session) };
  const filter = { $and: inOrder(field, parts, last) };
  const cursor = session.db.collection(table.name.name).find(filter, options);
  let since = 0;
  let bound: string | undefined;
  try {
    for await (const document of cursor) {
      signal.throwIfAborted();
      const value = field.split('.').reduce<unknown>((at, name) => (at as Document | undefined)?.[name], document);
      since++;
      if (since < rows || classOf(value) < 0) continue;
      const text = keyBounds(undefined, value, false).upto as string;
      if (bound === undefined) bound = text;
      if (text === bound) continue;
      yield bound;
      bound = undefined;
      since = 1;
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : translate(error, { table: tableText(table.name) });
  } finally {
    await cursor.close().catch(() => {});
  }
}
