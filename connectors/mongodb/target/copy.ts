/** Documents of one collection into another of the same database, as they are; those that are there already stay. */
import type { Db } from 'mongodb';
import { DocumentCutter } from './documents.ts';
import { refusal } from './from-bytes.ts';
import { insertDocuments } from './insert.ts';

export type Copying = {
  readonly from: string;
  readonly to: string;
  /** Throws FENCED when somebody took over. Asked before each insert. */
  readonly fence: () => Promise<void>;
};

/** Idempotent: after a crash it is done again from the beginning. */
export async function copyInto(db: Db, { from, to, fence }: Copying): Promise<void> {
  const cursor = db.collection(from).find({}, { raw: true, batchSize: 1000 });
  const cutter = new DocumentCutter({
    withIds: false,
    madeId: () => {
      throw new Error('A stored document without a key.');
    },
  });
  const insert = async (groups: ReturnType<DocumentCutter['end']>) => {
    for (const group of groups) {
      if (group.count === 0) continue;
      await fence();
      const refused = await insertDocuments(db, to, group);
      const bad = refused.find(({ code }) => code !== 11000 && code !== 11001);
      if (bad) throw refusal(bad.code);
    }
  };
  try {
    for await (const document of cursor)
      await insert(cutter.take({ kind: 'bytes', bytes: [document as unknown as Uint8Array] }));
    await insert(cutter.end());
  } finally {
    await cursor.close().catch(() => {});
  }
}
