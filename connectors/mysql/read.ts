/** The rows of one chunk, in any of the formats. What is asked of the server is told in select.ts. */
import { GodwitError } from '../../errors.ts';
import { type Batch, type Chunk, type Format, type Read, type Table, tableText } from '../contract.ts';
import { bell } from './bell.ts';
import { canonicalRows } from './canonical-rows.ts';
import { numberOf } from './errors.ts';
import { mysqlExtras } from './extras.ts';
import { boundsCondition } from './keys.ts';
import type { SessionPool } from './pool.ts';
import { predicateCondition } from './predicates.ts';
import { indexOn, type RangeBounds, rangeBoundsCondition, rangeCondition } from './range.ts';
import { readResult } from './result.ts';
import { type Selected, select } from './select.ts';
import type { Session } from './session.ts';
import { giveBack } from './slabs.ts';
import { ident, tableIdent } from './sql.ts';
import { textRows } from './text-rows.ts';
import { assertUnchanged, beginRead } from './transaction.ts';

export const readFormats: readonly Format[] = ['pg-text', 'csv', 'rows'];

/** Slabs that wait to be taken before the socket is told to wait. */
const mostFilled = 2;
const slabBytes = 1024 * 1024;

export async function* readChunk(pool: SessionPool, table: Table, chunk: Chunk, want: Read): AsyncGenerator<Batch> {
  want.signal.throwIfAborted();
  const session = await pool.take();
  let clean = false;
  const stop = () => session.destroy();
  want.signal.addEventListener('abort', stop, { once: true });
  try {
    want.signal.throwIfAborted();
    await begin(session, table, want);
    const columns = select(table, want.columns, want.format);
    const sql = chunkSelect(table, chunk, want, columns);
    yield* want.format === 'rows' ? rows(session, sql, columns, want) : bytes(session, sql, columns, want);
    want.signal.throwIfAborted();
    await session.run('COMMIT');
    clean = true;
  } catch (error) {
    throw want.signal.aborted ? want.signal.reason : placed(error, table, chunk);
  } finally {
    want.signal.removeEventListener('abort', stop);
    if (clean) await pool.give(session);
    else session.destroy();
  }
}

async function begin(session: Session, table: Table, want: Read): Promise<void> {
  await beginRead(session, want.snapshot);
  await assertUnchanged(session, table, [
    ...new Set([
      ...want.columns.filter((column) => !column.constant).map((column) => column.name),
      ...(want.where ?? []).map((predicate) => predicate.column),
      ...(want.range ? [want.range.column] : []),
    ]),
  ]);
}

/** The query of a chunk. */
export function chunkSelect(table: Table, chunk: Chunk, want: Read, columns: readonly Selected[]): string {
  const ranged = chunk.kind === 'range' ? (chunk.bounds as RangeBounds) : undefined;
  const bounds = ranged ? rangeBoundsCondition(table, ranged) : boundsCondition(table, chunk);
  const within = want.range && rangeCondition(table, want.range);
  const where = [bounds, within, predicateCondition(table, want.where)].filter(Boolean).join(' AND ');
  const list = columns.map(({ sql }) => sql).join(', ');
  // One plan only is right for a range: the one that reads the range and nothing else.
  const index = ranged
    ? indexOn(table, ranged.column)
    : chunk.kind === 'keys'
      ? mysqlExtras(table)?.keyIndex?.name
      : undefined;
  const force = index === undefined ? '' : ` FORCE INDEX (${ident(index)})`;
  return `SELECT ${list} FROM ${tableIdent(table.name)}${force}${where ? ` WHERE ${where}` : ''}`;
}

async function* bytes(session: Session, sql: string, columns: readonly Selected[], want: Read): AsyncGenerator<Batch> {
  if (want.format !== 'pg-text' && want.format !== 'csv') {
    throw new GodwitError('INTERNAL', `MySQL does not read out ${want.format}.`);
  }
  const spellings = columns.map(({ spelling }) => spelling);
  const text = textRows(want.format, spellings, Math.min(want.batch.bytes, slabBytes));
  const arrivals = bell();
  const result = readResult(session, sql, {
    columns: columns.length,
    row: text.row,
    full: () => text.filled.length >= mostFilled,
    arrived: arrivals.ring,
  });
  const ended = result.ended.finally(arrivals.close);
  ended.catch(() => {});
  for (;;) {
    const next = text.filled.shift();
    if (next) {
      if (text.filled.length === mostFilled - 1) result.resume();
      const { slab, length } = next;
      yield { kind: 'bytes', bytes: [slab.subarray(0, length)], release: () => giveBack(slab) };
      want.signal.throwIfAborted();
      continue;
    }
    if (arrivals.closed()) break;
    await arrivals.next();
  }
  await refuseTruncated(session, await ended);
  text.end();
  const last = text.filled.shift();
  const slab = last?.slab;
  yield {
    kind: 'bytes',
    bytes: last ? [last.slab.subarray(0, last.length)] : [],
    rows: text.rows(),
    ...(slab && { release: () => giveBack(slab) }),
  };
}

async function* rows(session: Session, sql: string, columns: readonly Selected[], want: Read): AsyncGenerator<Batch> {
  const most = want.batch.rows;
  const collected = canonicalRows(
    columns,
    want.columns.map(({ name }) => name),
  );
  const full = () => collected.count() >= most || collected.bytes() >= want.batch.bytes;
  const arrivals = bell();
  const result = readResult(session, sql, {
    columns: columns.length,
    row: collected.row,
    full,
    arrived: arrivals.ring,
  });
  const ended = result.ended.finally(arrivals.close);
  ended.catch(() => {});
  for (;;) {
    if (full() || arrivals.closed()) {
      const batch = collected.take();
      // One arrival may hold more rows than a batch.
      for (let at = 0; at < batch.length; at += most) {
        yield { kind: 'rows', rows: batch.slice(at, at + most) };
        want.signal.throwIfAborted();
      }
      if (arrivals.closed()) break;
      result.resume();
    } else {
      await arrivals.next();
    }
  }
  await refuseTruncated(session, await ended);
}

/** A function whose result would be larger than max_allowed_packet gives NULL and a warning: that is a value lost. */
async function refuseTruncated(session: Session, warnings: number): Promise<void> {
  if (warnings === 0) return;
  const shown = await session.query<{ Code: number }>('SHOW WARNINGS');
  if (shown.some((warning) => warning.Code === 1301)) {
    const message = "A value's text form is larger than the server's max_allowed_packet.";
    throw new GodwitError('ROW_TOO_LARGE', message, { native: '1301' });
  }
}

/** Where it happened; and a table that lost its shape between the check and the rows has changed. */
function placed(error: unknown, table: Table, chunk: Chunk): unknown {
  if (!(error instanceof GodwitError)) return error;
  const number = numberOf(error);
  const code = number === 1146 || number === 1054 || number === 1412 || number === 1176 ? 'SOURCE_CHANGED' : error.code;
  return new GodwitError(code, error.message, {
    ...error.where,
    table: tableText(table.name),
    chunk: chunk.id,
    cause: error.cause,
  });
}
