/**
 * Whole documents, as they lie in bytes, into a collection. The driver's own `insertMany` takes objects and makes bytes of
 * them, four times the work; inside it speaks of a document sequence (the second kind of section in the wire protocol's
 * OP_MSG), which takes bytes as they are.
 */
import { createRequire } from 'node:module';
import type { Db, Document } from 'mongodb';
import { GodwitError } from '../../../errors.ts';

/** Data that a crash of the server or of its primary cannot take back. Commands are given it one by one. */
export const durably = { w: 'majority', j: true } as const;

/** What of the driver's inside is used, pinned by package-lock and held by a test. */
type Sequence = { push(document: unknown, bytes: Uint8Array): number };
type Commands = { readonly DocumentSequence?: new (field: string) => Sequence };

const { DocumentSequence } = createRequire(import.meta.url)('mongodb/lib/cmap/commands.js') as Commands;

export type Refused = { readonly index: number; readonly code: number };

/** Each document on its own: one that is refused keeps no other from being written. Gives those, by their place. */
export async function insertDocuments(
  db: Db,
  collection: string,
  documents: { readonly parts: readonly Uint8Array[]; readonly count: number },
): Promise<readonly Refused[]> {
  const reply = await db.command({
    insert: collection,
    ordered: false,
    documents: sequence('documents', documents.parts),
    writeConcern: durably,
  });
  confirmed(reply);
  const refused = ((reply.writeErrors as Document[] | undefined) ?? []).map(({ index, code }) => ({
    index: Number(index),
    code: Number(code),
  }));
  if (refused.length === 0 && Number(reply.n) !== documents.count) {
    const message = `${documents.count} documents were sent and ${reply.n} taken; nothing was kept.`;
    throw new GodwitError('BOOKS_UNBALANCED', message);
  }
  return refused;
}

/** One statement of a `delete` command, in its bytes. Gives how many documents went. */
export async function deleteDocuments(
  db: Db,
  collection: string,
  statement: Uint8Array,
  comment?: string,
): Promise<number> {
  const reply = await db.command({
    delete: collection,
    deletes: sequence('deletes', [statement]),
    writeConcern: durably,
    ...(comment === undefined ? {} : { comment }),
  });
  confirmed(reply);
  return Number(reply.n);
}

function sequence(field: string, parts: readonly Uint8Array[]): Sequence {
  if (!DocumentSequence) throw new GodwitError('INTERNAL', 'The MongoDB driver sends documents in another way.');
  const made = new DocumentSequence(field);
  for (const part of parts) made.push(undefined, part);
  return made;
}

/** Written, but not by enough members to survive the loss of one: the caller must not go on. */
export function confirmed(reply: Document): void {
  const error = reply.writeConcernError as Document | undefined;
  if (!error) return;
  const native = String(error.code);
  throw new GodwitError('SERVER_BUSY', `MongoDB: the members did not confirm the write [${native}]`, { native });
}
