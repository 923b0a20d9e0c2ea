/** What the server says about the collections of the database. */
import { createHash } from 'node:crypto';
import { BSON, type CollectionInfo, type Document } from 'mongodb';
import { numberOf } from './errors.ts';
import type { MongoExtras } from './extras.ts';
import type { Session } from './session.ts';

export type Collection = {
  readonly name: string;
  readonly kind: MongoExtras['kind'];
  readonly storage: string;
  readonly collated: boolean;
  readonly options: Document;
};

/** By name. `system.*` and Godwit's own are not among them. Some servers do not filter by name, so nobody asks for one. */
export async function collectionsOf(session: Session): Promise<Map<string, Collection>> {
  const list = await listed(session);
  const own = list.filter(({ name }) => !name.startsWith('system.') && !name.startsWith('_godwit'));
  return new Map(own.map((info) => [info.name, collectionOf(info)]));
}

async function listed(session: Session): Promise<CollectionInfo[]> {
  try {
    return await session.db.listCollections().toArray();
  } catch (error) {
    if (numberOf(error) !== 13) throw error;
    // Without the privilege to list all, a login may see the names of its own.
    return (await session.db
      .listCollections({}, { nameOnly: true, authorizedCollections: true })
      .toArray()) as CollectionInfo[];
  }
}

/** Filtering by name keeps the answer small where the server knows how; undefined when there is none. */
export async function collectionNamed(session: Session, name: string): Promise<Collection | undefined> {
  try {
    const found = (await session.db.listCollections({ name }).toArray()) as CollectionInfo[];
    const info = found.find((one) => one.name === name);
    return info && collectionOf(info);
  } catch (error) {
    if (numberOf(error) !== 13) throw error;
    return (await collectionsOf(session)).get(name);
  }
}

function collectionOf(info: CollectionInfo): Collection {
  const options = info.options ?? {};
  const kind = info.type === 'view' ? 'view' : info.type === 'timeseries' ? 'timeseries' : 'collection';
  const uuid = info.info?.uuid;
  const identity = BSON.EJSON.stringify([uuid ?? null, options], { relaxed: false });
  const locale = (options.collation as { locale?: string } | undefined)?.locale;
  return {
    name: info.name,
    kind,
    storage: createHash('sha256').update(identity).digest('hex').slice(0, 20),
    collated: locale !== undefined && locale !== 'simple',
    options,
  };
}

export type Size = { readonly rows: number; readonly bytes: number };

/** Estimates; -1 where the server gives none (a view, or a login that may not ask). */
export async function sizeOfCollection(session: Session, { name, kind }: Collection): Promise<Size> {
  if (kind !== 'collection') return { rows: -1, bytes: -1 };
  try {
    const stats = await session.db.command({ collStats: name });
    return { rows: Number(stats.count ?? -1), bytes: Number(stats.size ?? -1) };
  } catch (error) {
    const number = numberOf(error);
    if (number === undefined) throw error;
    const rows = await session.db
      .collection(name)
      .estimatedDocumentCount()
      .catch(() => -1);
    return { rows, bytes: -1 };
  }
}

/** May this login read it? Asked by reading one key. */
export async function readable(session: Session, name: string): Promise<boolean> {
  try {
    await session.db.command({ find: name, limit: 1, singleBatch: true, projection: { _id: 1 } });
    return true;
  } catch (error) {
    if (numberOf(error) === 13) return false;
    throw error;
  }
}

/** Index definitions as canonical extended JSON, for a target of documents; none where the login may not ask. */
export async function indexesOf(session: Session, name: string): Promise<string[]> {
  try {
    const indexes = await session.db.collection(name).listIndexes({ promoteValues: false }).toArray();
    return indexes.map((index) => BSON.EJSON.stringify(index, { relaxed: false }));
  } catch (error) {
    if (numberOf(error) === undefined) throw error;
    return [];
  }
}
