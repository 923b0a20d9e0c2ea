/**
 * Documents that stand for their collection: all of a small one; of a larger one the first and the last by key, and some
 * in between that the server picks. `thorough`: all.
 */
import type { Document } from 'mongodb';
import type { Collection, Size } from './catalog.ts';
import { numberOf, translate } from './errors.ts';
import { documentsOf, rawBatches } from './raw.ts';
import type { Session } from './session.ts';

const sampled = 1000;
const ends = 100;
const places = 10;
/** Below this, reading all costs no more than picking. */
const small = { rows: 2000, bytes: 4 * 1024 * 1024 };

export type Visit = (b: Buffer, at: number) => void;

export async function visitSample(
  session: Session,
  collection: Collection,
  options: { readonly size: Size; readonly thorough: boolean; readonly keysOnly: boolean; readonly visit: Visit },
): Promise<void> {
  const { size, thorough, visit } = options;
  const { name, kind } = collection;
  // Keys alone are read from their index.
  const hint = kind === 'collection' ? { hint: { _id: 1 } } : {};
  const project = options.keysOnly ? { projection: { _id: 1 }, ...hint } : {};
  const find = (more: Document): Document => ({ find: name, ...project, ...more });
  const run = (command: Document) => visitAll(session, command, size, visit);
  const few = size.rows >= 0 && size.rows <= small.rows && size.bytes <= small.bytes;
  if (thorough || few) return await run(find({}));
  if (kind !== 'collection') return await run(find({ limit: sampled + ends }));
  await run(find({ sort: { _id: 1 }, limit: ends }));
  try {
    const pipeline: Document[] = [{ $sample: { size: sampled } }];
    if (options.keysOnly) pipeline.push({ $project: { _id: 1 } });
    await run({ aggregate: name, pipeline });
  } catch (error) {
    if (!cannotSample(error)) throw error;
    // Runs of documents at some places of the key's index.
    for (let i = 1; i < places; i++) {
      const skip = Math.floor((Math.max(size.rows, 0) * i) / places);
      await run(find({ sort: { _id: 1 }, skip, limit: sampled / places }));
    }
  }
  await run(find({ sort: { _id: -1 }, limit: ends }));
}

/** The server does not know `$sample`, or has not the memory to sort large documents by chance. */
export const cannotSample = (error: unknown): boolean => {
  const said = translate(error);
  // An answer of the server has its number, if only 0.
  return said.code !== 'CONNECTION_FAILED' && said.code !== 'PRIVILEGE_MISSING' && numberOf(said) !== undefined;
};

async function visitAll(session: Session, command: Document, size: Size, visit: Visit): Promise<void> {
  const averageBytes = size.rows > 0 && size.bytes > 0 ? size.bytes / size.rows : 1000;
  const signal = new AbortController().signal;
  try {
    for await (const batch of rawBatches(session, command, { signal, bytes: 1024 * 1024, averageBytes })) {
      for (const at of documentsOf(batch)) visit(batch.b, at);
    }
  } catch (error) {
    throw translate(error);
  }
}
