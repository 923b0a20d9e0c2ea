/** Collections as tables: what they are, and which columns their documents make. */
import { createHash } from 'node:crypto';
import { distance } from 'fastest-levenshtein';
import { BSON } from 'mongodb';
import { GodwitError } from '../../errors.ts';
import {
  type DocumentShape,
  type Table,
  type TableKind,
  type TableName,
  type TableSummary,
  tableText,
} from '../contract.ts';
import { type Collection, collectionsOf, indexesOf, readable, sizeOfCollection } from './catalog.ts';
import { shapeColumns } from './columns.ts';
import { translate } from './errors.ts';
import type { MongoExtras } from './extras.ts';
import { newField, observe, observeKey } from './observe.ts';
import { visitSample } from './sample.ts';
import type { Session } from './session.ts';

const kinds: Readonly<Record<Collection['kind'], TableKind>> = {
  collection: 'collection',
  timeseries: 'collection',
  view: 'view',
};

/** Questions to the server at once. */
const atOnce = 4;

export async function listTables(session: Session): Promise<TableSummary[]> {
  const all = [...(await collectionsOf(session)).values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  return await eachOf(all, async (collection) => {
    const mayRead = await readable(session, collection.name);
    const size = mayRead ? await sizeOfCollection(session, collection) : { rows: -1, bytes: -1 };
    const name = { schema: session.db.databaseName, name: collection.name };
    return { name, kind: kinds[collection.kind], ...size, readable: mayRead };
  });
}

/** In the order asked for; what cannot be described is an error in its place. */
export async function describeTables(
  session: Session,
  wanted: readonly TableName[],
  shape: DocumentShape,
): Promise<(Table | Error)[]> {
  if (wanted.length === 0) return [];
  const all = await collectionsOf(session);
  return await eachOf(wanted, async (name) => {
    const collection = name.schema === session.db.databaseName ? all.get(name.name) : undefined;
    if (!collection) return missingTable(name, session.db.databaseName, [...all.keys()]);
    try {
      return await describeOne(session, collection, shape);
    } catch (error) {
      return translate(error, { table: tableText(name) });
    }
  });
}

async function describeOne(session: Session, collection: Collection, shape: DocumentShape): Promise<Table> {
  const name = { schema: session.db.databaseName, name: collection.name };
  const size = await sizeOfCollection(session, collection);
  const root = newField('');
  const keysOnly = shape.as === 'json' || shape.as === 'raw';
  const deep = shape.as === 'flatten';
  await visitSample(session, collection, {
    size,
    thorough: shape.thorough === true,
    keysOnly,
    visit: keysOnly ? (b, at) => observeKey(root, b, at) : (b, at) => observe(root, b, at, deep),
  });
  const unique = collection.kind === 'collection';
  const { columns, special } = shapeColumns(root, shape, name, unique);
  const raw = shape.as === 'raw';
  const extras: MongoExtras = {
    system: 'mongodb',
    as: shape.as,
    columns: special,
    storage: collection.storage,
    kind: collection.kind,
    collated: collection.collated,
    ...(raw && {
      options: BSON.EJSON.stringify(collection.options, { relaxed: false }),
      indexes: collection.kind === 'collection' ? await indexesOf(session, collection.name) : [],
    }),
  };
  const shaped = createHash('sha256')
    .update(JSON.stringify([columns, special]))
    .digest('hex')
    .slice(0, 20);
  return {
    system: 'mongodb',
    name,
    kind: kinds[collection.kind],
    columns,
    key: unique ? ['_id'] : [],
    rows: size.rows,
    bytes: size.bytes,
    references: [],
    fingerprint: `${shaped}.${collection.storage}`,
    extras,
  };
}

function missingTable(name: TableName, database: string, all: readonly string[]): GodwitError {
  const wanted = tableText(name);
  const near = all
    .map((other) => ({ text: tableText({ schema: database, name: other }), far: distance(other, name.name) }))
    .filter(({ text, far }) => Math.min(far, distance(text, wanted)) <= Math.max(2, wanted.length / 3))
    .sort((a, b) => a.far - b.far)
    .slice(0, 3)
    .map(({ text }) => text);
  const hint = near.length > 0 ? ` Nearest: ${near.join(', ')}.` : '';
  return new GodwitError('TABLE_MISSING', `The source has no collection ${wanted}.${hint}`, { table: wanted });
}

async function eachOf<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(items.length);
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i] as T);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  return results;
}
