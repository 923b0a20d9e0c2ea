/**
 * The rows lane: canonical values become documents, those that cannot are set aside one by one, and so are those the
 * server refuses (two rows with one key).
 */
import { GodwitError } from '../../../errors.ts';
import type { BadRow, Batch, Counts } from '../../contract.ts';
import type { Row } from '../../types.ts';
import { mongoExtras } from '../extras.ts';
import type { Writing } from './attempt.ts';
import { type Group, groupBytes } from './documents.ts';
import { refusal } from './from-bytes.ts';
import type { Sender, Sent } from './inserter.ts';
import { Out } from './out.ts';
import { documentEncoder } from './raw-rows.ts';
import { appendId, rowEncoder } from './rows.ts';

/** Knows its rows, in case the server refuses one. */
type RowGroup = Group & { readonly rows: readonly Row[]; readonly ordinals: Uint32Array };

export async function rowsInto(
  { work, claim, options }: Writing,
  inserter: Sender<Group>,
  batches: AsyncIterator<Batch>,
): Promise<Counts> {
  const raw = mongoExtras(work.source)?.as === 'raw';
  const encoder = raw ? documentEncoder(work, claim.chunk.id) : rowEncoder(work, claim.chunk.id);
  const out = new Out();
  const ids = new Out(inserter.withIds ? undefined : 1);
  let rows: Row[] = [];
  let ordinals: number[] = [];
  let read = 0;
  let written = 0;
  let quarantined = 0;
  let bytes = 0;
  const setAside = async (bad: readonly BadRow[]) => {
    if (bad.length === 0) return;
    quarantined += bad.length;
    await options.quarantine(bad);
  };
  const tell = async (sent: Sent | undefined) => {
    if (!sent) return;
    const group = sent.group as RowGroup;
    written += group.count - sent.refused.length;
    bytes += group.bytes;
    await setAside(
      sent.refused.map(({ index, code }) => ({
        ordinal: group.ordinals[index] as number,
        row: group.rows[index] as Row,
        native: String(code),
        reason: refusal(code).message,
      })),
    );
    options.progress?.({ rows: read, bytes });
  };
  const close = (): RowGroup => {
    const buffer = out.take();
    const group = {
      parts: [buffer],
      count: rows.length,
      bytes: buffer.length,
      rows,
      ordinals: Uint32Array.from(ordinals),
      ...(inserter.withIds ? { ids: ids.take() } : {}),
    };
    rows = [];
    ordinals = [];
    return group;
  };
  for (let next = await batches.next(); !next.done; next = await batches.next()) {
    options.signal.throwIfAborted();
    const batch = next.value;
    if (batch.kind !== 'rows') throw new GodwitError('INTERNAL', `A ${batch.kind} batch among rows.`);
    const bad: BadRow[] = [];
    for (const row of batch.rows) {
      const ordinal = read++;
      const refused = encoder.encode(out, row, ordinal);
      if (refused) {
        bad.push({ ordinal, row, ...refused });
        // The first one at once: most tables allow none, and then the rest need not be looked at.
        if (quarantined === 0) await setAside(bad.splice(0));
        continue;
      }
      if (inserter.withIds) appendId(ids, out.b, encoder.id);
      rows.push(row);
      ordinals.push(ordinal);
      if (out.at >= groupBytes || rows.length >= inserter.most) await tell(await inserter.send(close()));
    }
    await setAside(bad);
  }
  if (rows.length > 0) await tell(await inserter.send(close()));
  for await (const sent of inserter.end()) await tell(sent);
  return { read, written, filtered: 0, quarantined, bytes };
}
