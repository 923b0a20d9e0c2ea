/**
 * What collections take on disk, indexes included, as of the server's last checkpoint (a minute ago at most). Undefined: there is no
 * such collection, or the server does not say.
 */
import { type Db, MongoServerError } from 'mongodb';
import type { TableName } from '../../contract.ts';

export async function sizesOf(
  databaseOf: (schema: string) => Db,
  names: readonly TableName[],
): Promise<(number | undefined)[]> {
  const sizes: (number | undefined)[] = [];
  for (const { schema, name } of names) sizes.push(await sizeOf(databaseOf(schema), name));
  return sizes;
}

/** Older servers have an error for a collection that is not there, which may have no number; later ones zeros. */
async function sizeOf(db: Db, name: string): Promise<number | undefined> {
  try {
    const { storageSize, totalIndexSize } = await db.command({ collStats: name });
    return Number(storageSize ?? 0) + Number(totalIndexSize ?? 0) || undefined;
  } catch (error) {
    if (!(error instanceof MongoServerError)) throw error;
    return undefined;
  }
}
