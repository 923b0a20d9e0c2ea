/** The keys of the collection people read, as the source gives its own (../keys.ts). */
import type { Db, Document } from 'mongodb';
import { GodwitError } from '../../../errors.ts';
import { type KeyBatch, type KeyRange, tableText, type Work } from '../../contract.ts';
import { behindName, int32 } from '../bson.ts';
import { idText, idValue } from '../key-texts.ts';
import { rawBatches } from '../raw.ts';
import { collectionNamed } from './collections.ts';
import { keyShapeOf } from './key-shape.ts';

/**
 * In the order of the index of `_id`. A document whose key has another form was not brought by this work, and is not among
 * them. Only Godwit writes the collection, so a pass over the index is as good as a moment.
 */
export async function* keysOfTable(
  db: Db,
  work: Work,
  { after, upto }: KeyRange,
  signal: AbortSignal,
): AsyncGenerator<KeyBatch> {
  const found = keyShapeOf(work);
  const where = { table: tableText(work.name), target: work.target };
  if ('refused' in found) throw keyRefused(work, found.refused);
  const { shape } = found;
  const there = await collectionNamed(db, work.name.name);
  const bytewise = there?.options.collation !== undefined && shape.kinds.includes('string');
  const bounds: Document = {
    ...(after ? { $gt: idValue(shape, after) } : {}),
    ...(upto ? { $lte: idValue(shape, upto) } : {}),
  };
  const command = {
    find: work.name.name,
    filter: after || upto ? { _id: bounds } : {},
    projection: { _id: 1 },
    sort: { _id: 1 },
    ...(bytewise ? { collation: { locale: 'simple' }, allowDiskUse: true } : { hint: { _id: 1 } }),
  };
  const options = { signal, bytes: 1024 * 1024, averageBytes: 40, where };
  for await (const { b, start, end } of rawBatches({ db, client: db.client }, command, options)) {
    const keys: string[] = [];
    for (let p = start; p < end; ) {
      const document = behindName(b, p + 1);
      p = document + int32(b, document);
      const text = idText(shape, b, b[document + 4] as number, behindName(b, document + 5));
      if (text !== undefined) keys.push(text);
    }
    if (keys.length > 0) yield keys;
  }
}

export function keyRefused(work: Work, column: string): GodwitError {
  const where = { table: tableText(work.name), target: work.target, column };
  const message = `${where.table}: mirroring compares keys, and ${column} is held here in a type whose order is another than that of its values elsewhere (several types, bytes, exact text of a time or a number).`;
  return new GodwitError('MODE_REFUSED', message, where);
}
