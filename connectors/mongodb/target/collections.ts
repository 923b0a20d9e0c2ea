/** Collections of a database, as the server lists them. */
import type { Binary, Db, Document } from 'mongodb';
import { numberOf } from '../errors.ts';

export type Listed = {
  readonly name: string;
  readonly type: string;
  readonly options: Document;
  /** Servers that only speak the protocol may give none. */
  readonly uuid?: string;
};

/** The filter is applied again here: not every server does it. */
export async function listed(db: Db, filter: { name: string } | { prefix: string }): Promise<Listed[]> {
  const wanted =
    'name' in filter ? { name: filter.name } : { name: { $gte: filter.prefix, $lt: `${filter.prefix}\u{10ffff}` } };
  const all = await db.listCollections(wanted).toArray();
  return all
    .filter(({ name }) => ('name' in filter ? name === filter.name : name.startsWith(filter.prefix)))
    .map((one) => {
      const { name, type = 'collection', options = {}, info } = one as Document;
      const uuid = info?.uuid as Binary | undefined;
      return { name, type, options, ...(uuid ? { uuid: Buffer.from(uuid.value()).toString('hex') } : {}) };
    });
}

export const collectionNamed = async (db: Db, name: string): Promise<Listed | undefined> =>
  (await listed(db, { name }))[0];

/** Made explicitly, for its options. True when it was there. */
export async function makeCollection(db: Db, name: string, options: Document): Promise<boolean> {
  try {
    await db.createCollection(name, options);
    return false;
  } catch (error) {
    if (numberOf(error) !== 48) throw error;
    return true;
  }
}

/** One that is not there is no error. */
export async function dropCollection(db: Db, name: string): Promise<void> {
  try {
    await db.dropCollection(name);
  } catch (error) {
    if (numberOf(error) !== 26 && (await collectionNamed(db, name))) throw error;
  }
}

/**
 * In one step, with all rows and indexes. False when there is nothing of the old name. `over` = a collection of the new
 * name is replaced; without it throws ALREADY_EXISTS (48).
 */
export async function renameCollection(db: Db, from: string, to: string, over: boolean): Promise<boolean> {
  try {
    await db.renameCollection(from, to, { dropTarget: over });
    return true;
  } catch (error) {
    if (numberOf(error) === 48) throw error;
    if (numberOf(error) === 26 || !(await collectionNamed(db, from))) return false;
    throw error;
  }
}
