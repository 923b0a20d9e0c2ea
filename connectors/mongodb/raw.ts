/**
 * Documents as the server sent them. The driver's cursor hands out one object or one slice per document; here its reply is
 * taken whole, and the next one is asked for while the caller works on this one.
 */
import { type Document, ReadPreference, type RunCommandCursor } from 'mongodb';
import { GodwitError, type Where } from '../../errors.ts';
import { behindName, int32 } from './bson.ts';
import { translate } from './errors.ts';
import { type Session, worthAnother } from './session.ts';

/** The elements of a BSON array of documents: `start` is the first element's type, `end` the NUL behind the last one. */
export type RawBatch = { readonly b: Buffer; readonly start: number; readonly end: number };

export type RawOptions = {
  readonly signal: AbortSignal;
  /** About so many bytes per reply; a document may be larger. */
  readonly bytes: number;
  /** A first guess of a document's size. */
  readonly averageBytes: number;
  /** Of the primary, whatever the settings prefer. */
  readonly fromPrimary?: boolean;
  readonly where?: Where;
};

type Connected = Pick<Session, 'db' | 'client'>;

/** Replies of a `find` or `aggregate` command, in order. Leaving the loop, an error or the signal ends the cursor. */
export async function* rawBatches(
  session: Connected,
  command: Document,
  options: RawOptions,
): AsyncGenerator<RawBatch> {
  const { signal, bytes } = options;
  signal.throwIfAborted();
  const batchSize = perReply(bytes, options.averageBytes);
  const { promise: aborted, reject: abort } = Promise.withResolvers<never>();
  aborted.catch(() => {});
  const stop = () => abort(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  let cursor: RunCommandCursor | undefined;
  try {
    let next: Promise<boolean>;
    ({ cursor, more: next } = await first(session, withBatchSize(command, batchSize), aborted, {
      batchSize,
      fromPrimary: options.fromPrimary === true,
    }));
    while (await Promise.race([next, aborted])) {
      const batch = takeReply(cursor);
      if (batch.documents > 0) cursor.setBatchSize(perReply(bytes, batch.size / batch.documents));
      next = cursor.hasNext();
      next.catch(() => {}); // told when it is awaited, or not at all
      yield batch.raw;
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : translate(error, options.where);
  } finally {
    signal.removeEventListener('abort', stop);
    await closeSoon(cursor);
  }
}

type How = { readonly batchSize: number; readonly fromPrimary: boolean };

/** A pooled connection may have died since it was used last; nothing was read yet, so it is tried again. */
async function first(session: Connected, command: Document, aborted: Promise<never>, how: How) {
  const { batchSize, fromPrimary } = how;
  const readPreference = fromPrimary ? ReadPreference.primary : session.client.options.readPreference;
  for (let tries = 1; ; tries++) {
    const cursor = session.db.runCursorCommand(command, { readPreference });
    cursor.setBatchSize(batchSize);
    try {
      const more = await Promise.race([cursor.hasNext(), aborted]);
      return { cursor, more: Promise.resolve(more) };
    } catch (error) {
      await closeSoon(cursor);
      if (!worthAnother(translate(error), tries)) throw error;
    }
  }
}

const perReply = (bytes: number, average: number): number =>
  Math.min(100_000, Math.max(1, Math.floor(bytes / Math.max(average, 5))));

const withBatchSize = (command: Document, batchSize: number): Document =>
  'aggregate' in command ? { ...command, cursor: { batchSize } } : { ...command, batchSize };

/** What of the driver's undocumented cursor is used: the reply it holds. Pinned by package-lock. */
type Held = {
  readonly documents: {
    readonly batch: { readonly bson: Uint8Array; readonly offset: number };
    readonly batchSize: number;
    clear(): void;
  } | null;
};

function takeReply(cursor: RunCommandCursor): { raw: RawBatch; documents: number; size: number } {
  const reply = (cursor as unknown as Held).documents;
  if (!reply?.batch) throw new GodwitError('INTERNAL', 'The MongoDB driver holds its replies in another way.');
  const { bson, offset } = reply.batch;
  const b = Buffer.from(bson.buffer, bson.byteOffset, bson.byteLength);
  const size = int32(b, offset);
  const documents = reply.batchSize;
  reply.clear();
  return { raw: { b, start: offset + 4, end: offset + size - 1 }, documents, size };
}

/** Ends the cursor on the server; a connection that hangs is not waited for. */
async function closeSoon(cursor: RunCommandCursor | undefined): Promise<void> {
  if (!cursor) return;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, 2000);
  });
  await Promise.race([cursor.close().catch(() => {}), late]);
  clearTimeout(timer);
}

/** The offsets of the documents of a batch, in order. */
export function* documentsOf({ b, start, end }: RawBatch): Generator<number> {
  let p = start;
  while (p < end) {
    const at = behindName(b, p + 1);
    yield at;
    p = at + int32(b, at);
  }
}
