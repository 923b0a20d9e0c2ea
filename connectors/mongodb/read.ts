/** The documents of one chunk: whole (`bson`), as canonical values (`rows`), or as text (`pg-text`, `csv`). */
import type { Document } from 'mongodb';
import { GodwitError } from '../../errors.ts';
import { type Batch, type Chunk, type Format, type Range, type Read, type Table, tableText } from '../contract.ts';
import type { Row, Value } from '../types.ts';
import { rangeFilter } from './bookmarks.ts';
import { boundsFilter, knowsOldTypes } from './bounds.ts';
import { behindName, int32 } from './bson.ts';
import { collectionNamed } from './catalog.ts';
import { canonical, cellOf, constantValue, shown } from './cells.ts';
import { numberOf, translate } from './errors.ts';
import { columnNamed, type MongoColumn, type MongoExtras, mongoExtras } from './extras.ts';
import { fieldOf } from './follow.ts';
import { type Known, Locator } from './locate.ts';
import { coarseFilter, testsOf } from './predicates.ts';
import { type RawBatch, rawBatches } from './raw.ts';
import type { LazySession, Session } from './session.ts';
import { CsvSink, PgTextSink, type Sink } from './sink.ts';
import { rangeChunkFilter } from './split-range.ts';
import { type Writer, writerOf } from './writers.ts';

export const readFormats: readonly Format[] = ['bson', 'pg-text', 'csv', 'rows'];

export async function* readChunk(lazy: LazySession, table: Table, chunk: Chunk, want: Read): AsyncGenerator<Batch> {
  want.signal.throwIfAborted();
  const extras = mongoExtras(table);
  const name = tableText(table.name);
  if (!extras) throw new GodwitError('INTERNAL', `${name} was not described by a MongoDB source.`, { table: name });
  if (want.snapshot.consistency === 'snapshot' && want.snapshot.token !== '') {
    throw new GodwitError('SNAPSHOT_LOST', 'MongoDB gives no snapshot that outlives its session.', { table: name });
  }
  try {
    const session = await lazy.get();
    const scan = new Scan(table, extras, want);
    await assertUnchanged(session, table, extras);
    const batches = rawBatches(session, await findCommand(session, table, extras, chunk, want), {
      signal: want.signal,
      bytes: Math.min(want.batch.bytes, 1024 * 1024),
      averageBytes: table.rows > 0 && table.bytes > 0 ? table.bytes / table.rows : 1000,
      where: { table: name },
    });
    yield* inFormat(batches, scan, want);
    want.signal.throwIfAborted();
    await assertUnchanged(session, table, extras);
  } catch (error) {
    throw want.signal.aborted ? want.signal.reason : placed(error, name, chunk);
  }
}

function inFormat(batches: AsyncIterable<RawBatch>, scan: Scan, want: Read): AsyncGenerator<Batch> {
  switch (want.format) {
    case 'bson':
      return whole(batches, scan);
    case 'rows':
      return rows(batches, scan, want.batch.rows);
    case 'pg-text':
      return lines(batches, scan, new PgTextSink(want.batch.bytes + 65_536), want.batch.bytes);
    case 'csv':
      return lines(batches, scan, new CsvSink(want.batch.bytes + 65_536), want.batch.bytes);
    default:
      throw new GodwitError('INTERNAL', `MongoDB does not read out ${want.format}.`);
  }
}

/** The whole is read in the order of the disk, ranges in the order of the key: each document is met once in either. */
async function findCommand(
  session: Session,
  table: Table,
  extras: MongoExtras,
  chunk: Chunk,
  want: Read,
): Promise<Document> {
  const ranged = want.range && (await ofRange(session, table, chunk, want.range));
  const filters = [boundsFilter(chunk), ranged, coarseFilter(table, want.where)].filter((one) => one !== undefined);
  const filter = filters.length > 1 ? { $and: filters } : (filters[0] ?? {});
  // Of a bookmark the server knows best which index finds it.
  const hint = chunk.kind === 'keys' ? { _id: 1 } : want.range ? undefined : { $natural: 1 };
  return {
    find: table.name.name,
    filter,
    ...(extras.kind === 'collection' && hint ? { hint } : {}),
    // What a majority has cannot be rolled back after it was moved.
    ...(session.replicated ? { readConcern: { level: 'majority' } } : {}),
  };
}

async function ofRange(session: Session, table: Table, chunk: Chunk, range: Range): Promise<Document | undefined> {
  const field = fieldOf(table, range.column);
  const old = await session.read(() => knowsOldTypes(session, table.name.name));
  return chunk.kind === 'range' ? rangeChunkFilter(field, range, chunk, old) : rangeFilter(field, range, old);
}

export async function assertUnchanged(session: Session, table: Table, extras: MongoExtras): Promise<void> {
  const name = tableText(table.name);
  const now = await session.read(() => collectionNamed(session, table.name.name), { table: name });
  if (now?.storage === extras.storage) return;
  const what = now ? 'was dropped and made again, or its options changed' : 'is not there any more';
  throw new GodwitError('SOURCE_CHANGED', `The collection ${name} ${what} since it was planned.`, { table: name });
}

/** What is wanted of each document, compiled once. */
export class Scan {
  readonly locator: Locator;
  /** Per column asked for; below 0: a constant, or the whole document. */
  readonly slots: readonly number[];
  readonly columns: readonly (MongoColumn | undefined)[];
  readonly want: Read;
  readonly #tests: readonly {
    readonly slot: number;
    readonly passes: (b: Buffer, type: number, at: number) => boolean;
  }[];

  constructor(table: Table, extras: MongoExtras, want: Read) {
    this.want = want;
    const columnOf = (name: string): MongoColumn => {
      const column = columnNamed(extras, name);
      if (column) return column;
      const text = tableText(table.name);
      throw new GodwitError('COLUMN_MISSING', `${text} has no column "${name}".`, { table: text, column: name });
    };
    const slotOf = new Map<string, number>();
    const slot = (name: string): number => {
      if (columnOf(name).path.length === 0) return theDocument;
      const known = slotOf.get(name) ?? slotOf.size;
      slotOf.set(name, known);
      return known;
    };
    const asked = want.format === 'bson' ? [] : want.columns;
    this.columns = asked.map((column) => (column.constant ? undefined : columnOf(column.name)));
    this.slots = asked.map((column) => (column.constant ? -1 : slot(column.name)));
    this.#tests = testsOf(table, want.where).map(({ column, passes }) => {
      const value = canonical(columnOf(column));
      return { slot: slot(column), passes: (b, type, at) => passes(value(b, type, at)) };
    });
    const known: Known[] = Object.entries(extras.columns).map(([name, { path }]) => ({
      path,
      slot: slotOf.get(name) ?? -1,
    }));
    this.locator = new Locator(known, slotOf.size, extras.as === 'json' || extras.as === 'raw');
  }

  /** False: the document is not wanted. Throws FIELDS_CHANGED. */
  take(b: Buffer, at: number): boolean {
    const { locator } = this;
    const { types, ats } = locator.places;
    if (types.length > 0 || !locator.open) locator.locate(b, at);
    for (const { slot, passes } of this.#tests) {
      if (slot < 0 ? !passes(b, 3, at) : !passes(b, types[slot] as number, ats[slot] as number)) return false;
    }
    return true;
  }

  get filters(): boolean {
    return this.#tests.length > 0;
  }
}

const theDocument = -2;
const object = 3;

async function* rows(batches: AsyncIterable<RawBatch>, scan: Scan, most: number): AsyncGenerator<Batch> {
  const { slots, want } = scan;
  const { types, ats } = scan.locator.places;
  const constants = want.columns.map(({ constant }) =>
    constant ? constantValue(constant.value, constant.type) : null,
  );
  const cells = want.columns.map((asked, i) => {
    const column = scan.columns[i];
    return column ? cellOf(column, asked) : undefined;
  });
  const width = cells.length;
  let held: Row[] = [];
  for await (const { b, start, end } of batches) {
    for (let p = start; p < end; ) {
      const at = behindName(b, p + 1);
      p = at + int32(b, at);
      if (!scan.take(b, at)) continue;
      const row: Value[] = new Array(width);
      for (let i = 0; i < width; i++) {
        const slot = slots[i] as number;
        const cell = cells[i];
        if (!cell) row[i] = constants[i] as Value;
        else if (slot === theDocument) row[i] = cell(b, object, at);
        else row[i] = cell(b, types[slot] as number, ats[slot] as number);
      }
      held.push(row);
      if (held.length >= most) {
        yield { kind: 'rows', rows: held };
        held = [];
      }
    }
    // A reply is about a batch in bytes.
    if (held.length > 0) yield { kind: 'rows', rows: held };
    held = [];
  }
}

async function* lines(batches: AsyncIterable<RawBatch>, scan: Scan, sink: Sink, bytes: number): AsyncGenerator<Batch> {
  const { slots, want } = scan;
  const { types, ats } = scan.locator.places;
  const writers: Writer[] = want.columns.map((asked, i) => {
    const column = scan.columns[i];
    return column ? writerOf(column, asked) : constantWriter(asked.constant as NonNullable<typeof asked.constant>);
  });
  const width = writers.length;
  let count = 0;
  for await (const { b, start, end } of batches) {
    for (let p = start; p < end; ) {
      const at = behindName(b, p + 1);
      p = at + int32(b, at);
      if (!scan.take(b, at)) continue;
      for (let i = 0; i < width; i++) {
        if (i > 0) sink.separate();
        const slot = slots[i] as number;
        const write = writers[i] as Writer;
        if (slot >= 0) write(sink, b, types[slot] as number, ats[slot] as number);
        else write(sink, b, object, at);
      }
      sink.endLine();
      count++;
      if (sink.length >= bytes) yield { kind: 'bytes', bytes: [sink.take()] };
    }
  }
  yield { kind: 'bytes', bytes: sink.length > 0 ? [sink.take()] : [], rows: count };
}

function constantWriter({ value, type }: NonNullable<Read['columns'][number]['constant']>): Writer {
  const written = shown(constantValue(value, type), type.kind === 'timestamptz');
  return (sink) => sink.string(written);
}

/**
 * Documents lie in a reply with their place in the array before each. They are moved together within its memory, which is
 * nobody else's; so a batch is one piece.
 */
async function* whole(batches: AsyncIterable<RawBatch>, scan: Scan): AsyncGenerator<Batch> {
  let count = 0;
  for await (const { b, start, end } of batches) {
    let to = start;
    for (let p = start; p < end; ) {
      const at = behindName(b, p + 1);
      const size = int32(b, at);
      p = at + size;
      if (scan.filters && !scan.take(b, at)) continue;
      b.copyWithin(to, at, p);
      to += size;
      count++;
    }
    if (to > start) yield { kind: 'bytes', bytes: [b.subarray(start, to)] };
  }
  yield { kind: 'bytes', bytes: [], rows: count };
}

/** Where it happened; a collection that is gone or renamed under the read has changed. */
export function placed(error: unknown, name: string, chunk?: Chunk): GodwitError {
  const failed = translate(error);
  const number = numberOf(failed);
  const code = number === 26 || number === 175 ? 'SOURCE_CHANGED' : failed.code;
  const where = { ...failed.where, table: name, ...(chunk ? { chunk: chunk.id } : {}) };
  return new GodwitError(code, failed.message, { ...where, cause: failed.cause });
}
