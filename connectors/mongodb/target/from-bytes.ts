/** The direct lane: whole documents as the source's bytes have them. */
import { GodwitError } from '../../../errors.ts';
import { type Batch, type Counts, tableText } from '../../contract.ts';
import type { Writing } from './attempt.ts';
import { DocumentCutter, type Group } from './documents.ts';
import type { Sender, Sent } from './inserter.ts';
import { madeId } from './rows.ts';
import { snapshotRewriter } from './snapshot-document.ts';

export async function bytesInto(
  { work, claim, options }: Writing,
  inserter: Sender<Group>,
  batches: AsyncIterator<Batch>,
): Promise<Counts> {
  const made = madeId(work, claim.chunk.id);
  const rewrite = snapshotRewriter(work, made);
  const cutter = new DocumentCutter({
    withIds: inserter.withIds,
    most: inserter.most,
    madeId: made,
    ...(rewrite ? { rewrite } : {}),
  });
  let bytes = 0;
  let written = 0;
  let said: number | undefined;
  const tell = (sent: Sent | undefined) => {
    if (!sent) return;
    const [first] = sent.refused;
    if (first) throw refusal(first.code);
    written += sent.group.count;
    bytes += sent.group.bytes;
    options.progress?.({ rows: written, bytes });
  };
  for (let next = await batches.next(); !next.done; next = await batches.next()) {
    options.signal.throwIfAborted();
    const batch = next.value;
    if (batch.kind !== 'bytes') throw new GodwitError('INTERNAL', `A ${batch.kind} batch in a stream of bytes.`);
    said = batch.rows ?? said;
    for (const group of cutter.take(batch)) tell(await inserter.send(group));
  }
  for (const group of cutter.end()) tell(await inserter.send(group));
  for await (const sent of inserter.end()) tell(sent);
  if (said !== cutter.read) {
    const where = { table: tableText(work.name), chunk: claim.chunk.id, target: work.target };
    const message =
      said === undefined
        ? `${where.table}, chunk ${where.chunk}: the source's stream ended without saying how many documents it had; nothing was kept.`
        : `${where.table}, chunk ${where.chunk}: the source sent ${said} documents and ${cutter.read} arrived; nothing was kept.`;
    throw new GodwitError('BOOKS_UNBALANCED', message, where);
  }
  return { read: cutter.read, written, filtered: 0, quarantined: 0, bytes };
}

/** What the server says to one document, without the text, which quotes it. */
export function refusal(code: number): GodwitError {
  const native = String(code);
  if (code === 11000 || code === 11001) {
    return new GodwitError('CONSTRAINT_BROKEN', `MongoDB: two documents have the same key [${native}]`, { native });
  }
  if (code === 121) {
    return new GodwitError('CONSTRAINT_BROKEN', `MongoDB: a document breaks the validator [${native}]`, { native });
  }
  return new GodwitError('VALUE_REFUSED', `MongoDB: a document was refused [${native}]`, { native });
}
