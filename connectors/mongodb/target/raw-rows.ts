/**
 * Whole documents on the rows lane: where the direct lane met one that is refused, they come one by one, as canonical
 * extended JSON, and become the same bytes again.
 */
import { BSON } from 'mongodb';
import { GodwitError } from '../../../errors.ts';
import type { Work } from '../../contract.ts';
import { sizeOf } from '../bson.ts';
import { mongoExtras } from '../extras.ts';
import { idAt } from './documents.ts';
import { type Id, largestDocument, madeId, type RowEncoder } from './rows.ts';
import { snapshotRewriter } from './snapshot-document.ts';

export function documentEncoder(work: Work, chunk: number): RowEncoder {
  const special = mongoExtras(work.source)?.columns ?? {};
  const index = work.columns.findIndex(({ from }) => from !== undefined && special[from]?.path.length === 0);
  if (index < 0) throw new GodwitError('INTERNAL', 'Whole documents without a column of the document.');
  const column = work.columns[index]?.name;
  const rewrite = snapshotRewriter(work, madeId(work, chunk));
  const id: Id = { type: 0, start: 0, end: 0 };
  return {
    id,
    encode(out, row, ordinal) {
      const start = out.at;
      const bytes = bytesOf(row[index]);
      if (!bytes) return { column, reason: 'The document holds a date that cannot be moved one by one.' };
      try {
        if (rewrite) rewrite(bytes, 0, bytes.length, out, ordinal);
        else out.bytes(bytes);
      } catch (error) {
        if (!(error instanceof GodwitError)) throw error;
        out.at = start;
        return { column, reason: error.message };
      }
      if (out.at - start > largestDocument) {
        const reason = `The document has ${out.at - start} bytes; ${largestDocument} is the limit.`;
        out.at = start;
        return { column, reason };
      }
      const element = idAt(out.b, start, out.at - start);
      if (element < 0) {
        out.at = start;
        return { column, reason: 'The document has no _id.' };
      }
      id.type = element;
      id.start = element + 5;
      id.end = id.start + sizeOf(out.b, out.b[element] as number, id.start);
      return undefined;
    },
  };
}

/** Undefined for what the driver's own reader does not keep: a date past those of JavaScript. */
function bytesOf(text: unknown): Buffer | undefined {
  if (typeof text !== 'string') throw new GodwitError('INTERNAL', 'A whole document that is no text.');
  for (const [, ms] of text.matchAll(/"\$date":\{"\$numberLong":"(-?\d+)"\}/g)) {
    if (Math.abs(Number(ms)) > 8.64e15) return undefined;
  }
  return Buffer.from(BSON.serialize(BSON.EJSON.parse(text, { relaxed: false })));
}
