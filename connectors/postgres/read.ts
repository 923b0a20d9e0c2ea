/** The rows of one chunk, in any of the formats. The dialects are told in select.ts. */
import { GodwitError } from '../../errors.ts';
import { type Batch, type Chunk, type Format, type Read, type RowsBatch, type Table, tableText } from '../contract.ts';
import { boundsCondition } from './bounds.ts';
import { copyOut } from './copy-out.ts';
import { CopyTextReader, rowParsers } from './copy-text.ts';
import { sqlstate } from './errors.ts';
import type { SessionPool } from './pool.ts';
import { predicateCondition } from './predicates.ts';
import { rangeCondition } from './ranges.ts';
import { selectList } from './select.ts';
import type { Session } from './session.ts';
import { assertUnchanged, beginRead, from } from './transaction.ts';

export const readFormats: readonly Format[] = ['pg-binary', 'pg-text', 'csv', 'rows'];

export async function* readChunk(pool: SessionPool, table: Table, chunk: Chunk, want: Read): AsyncGenerator<Batch> {
  want.signal.throwIfAborted();
  if (chunk.kind === 'blocks' && want.snapshot.consistency !== 'snapshot') {
    const name = tableText(table.name);
    throw new GodwitError('SNAPSHOT_LOST', `Block ranges of ${name} mean nothing without their snapshot.`, {
      table: name,
    });
  }
  const session = await pool.take();
  let clean = false;
  const stop = () => session.destroy();
  want.signal.addEventListener('abort', stop, { once: true });
  try {
    want.signal.throwIfAborted();
    await begin(session, table, chunk, want);
    yield* want.format === 'rows' ? rows(session, table, chunk, want) : bytes(session, table, chunk, want);
    await session.query('COMMIT');
    clean = true;
  } catch (error) {
    throw want.signal.aborted ? want.signal.reason : placed(error, table, chunk);
  } finally {
    want.signal.removeEventListener('abort', stop);
    if (clean) await pool.give(session);
    else session.destroy();
  }
}

async function begin(session: Session, table: Table, chunk: Chunk, want: Read): Promise<void> {
  await beginRead(session, want.snapshot);
  await assertUnchanged(session, table, [
    ...new Set([
      ...want.columns.filter((column) => !column.constant).map((column) => column.name),
      ...(want.where ?? []).map((predicate) => predicate.column),
      ...(want.range ? [want.range.column] : []),
    ]),
  ]);
  await session.query(planSettings(chunk));
}

/** One plan only is right for a range: the one that reads the range and nothing else. */
export function planSettings(chunk: Chunk): string {
  const scans = chunk.kind === 'all' ? 'on' : 'off';
  // Rows of one range of bookmarks may lie anywhere: a bitmap reads them in the order of the disk.
  const bitmaps = chunk.kind === 'range' ? 'on' : scans;
  return `SELECT set_config('max_parallel_workers_per_gather', '0', true), set_config('enable_seqscan', '${scans}', true),
    set_config('enable_bitmapscan', '${bitmaps}', true)`;
}

const copyStatement = (table: Table, chunk: Chunk, want: Read, version: number): string =>
  `COPY (${chunkSelect(table, chunk, want, version)}) TO STDOUT WITH (FORMAT ${copyFormat(want.format)})`;

/** The query of a chunk. */
export function chunkSelect(table: Table, chunk: Chunk, want: Read, version: number): string {
  // A chunk of a range is a part of it.
  const range = want.range && chunk.kind !== 'range' ? rangeCondition(table, want.range) : undefined;
  const conditions = [boundsCondition(table, chunk), range, predicateCondition(table, want.where)];
  const where = conditions.filter(Boolean).join(' AND ');
  const list = selectList(table, want.columns, want.format, version);
  return `SELECT ${list} FROM ${from(table)}${where ? ` WHERE ${where}` : ''}`;
}

function copyFormat(format: Format): string {
  switch (format) {
    case 'pg-binary':
      return 'binary';
    case 'csv':
      return 'csv';
    case 'pg-text':
    case 'rows':
      return 'text';
    default:
      throw new GodwitError('INTERNAL', `PostgreSQL does not read out ${format}.`);
  }
}

async function* bytes(session: Session, table: Table, chunk: Chunk, want: Read): AsyncGenerator<Batch> {
  const framed = want.framed === true;
  const copy = copyOut(session, copyStatement(table, chunk, want, session.version), {
    framed,
    bytes: Math.min(want.batch.bytes, 4 * 1024 * 1024),
    signal: want.signal,
  });
  for await (const batch of copy) yield { kind: 'bytes', framed, ...batch };
}

async function* rows(session: Session, table: Table, chunk: Chunk, want: Read): AsyncGenerator<RowsBatch> {
  const reader = new CopyTextReader(rowParsers(table, want.columns));
  const copy = copyOut(session, copyStatement(table, chunk, want, session.version), {
    framed: false,
    bytes: Math.min(want.batch.bytes, 1024 * 1024),
    signal: want.signal,
  });
  let held: RowsBatch['rows'][number][] = [];
  let heldBytes = 0;
  for await (const batch of copy) {
    for (const part of batch.bytes) {
      const complete = reader.push(part);
      heldBytes += part.length;
      for (const row of complete) {
        held.push(row);
        if (held.length >= want.batch.rows) {
          yield { kind: 'rows', rows: held };
          held = [];
          heldBytes = 0;
        }
      }
      if (heldBytes >= want.batch.bytes && held.length > 0) {
        yield { kind: 'rows', rows: held };
        held = [];
        heldBytes = 0;
      }
    }
  }
  if (held.length > 0) yield { kind: 'rows', rows: held };
}

/** Where it happened; and a table that lost its shape between the check and the copy has changed. */
function placed(error: unknown, table: Table, chunk: Chunk): unknown {
  if (!(error instanceof GodwitError)) return error;
  const state = sqlstate(error);
  const code = state === '42P01' || state === '42703' || state === '3F000' ? 'SOURCE_CHANGED' : error.code;
  return new GodwitError(code, error.message, {
    ...error.where,
    table: tableText(table.name),
    chunk: chunk.id,
    cause: error.cause,
  });
}
