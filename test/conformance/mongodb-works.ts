/** Works, and somebody else's eyes, for the tests of MongoDB as a target. */
import { randomUUID } from 'node:crypto';
import { BSON, type Db, type Document, MongoClient } from 'mongodb';
import type { Batch, BytesBatch, PlanColumn, Table, Work } from '../../connectors/contract.ts';
import type { MongoExtras } from '../../connectors/mongodb/extras.ts';
import { fitTable } from '../../connectors/mongodb/target/fit.ts';
import type { LogicalType, Row } from '../../connectors/types.ts';

/** A column as the plan has it, by the target's own table of types. */
export function column(name: string, type: LogicalType, over: Partial<PlanColumn> = {}): PlanColumn {
  const table = { ...sourceTable('t', []), columns: [{ name, type, native: type.kind, nullable: true }] };
  const [fit] = fitTable(table);
  if (!fit || fit.fit === 'refused') throw new Error(`${type.kind} is refused`);
  return {
    from: name,
    name,
    shape: fit.shape,
    type: fit.type,
    native: fit.native,
    nullable: true,
    fit: fit.fit,
    misfit: 'stop',
    ...over,
  };
}

const sourceTable = (name: string, columns: readonly PlanColumn[]): Table => ({
  system: 'postgres',
  name: { schema: 'shop', name },
  kind: 'table',
  columns: columns.map(({ name: own, type, native, nullable }) => ({ name: own, type, native, nullable })),
  key: [],
  rows: 10,
  bytes: 1000,
  references: [],
  fingerprint: 'f',
});

/** Rows `id` (the key) and `v`, of another system. */
export function plainWork(database: string, over: Partial<Work> = {}): Work {
  const name = `t_${randomUUID().slice(0, 8)}`;
  const columns = over.columns ?? [column('id', { kind: 'int32' }), column('v', { kind: 'text' })];
  return {
    installation: 'here',
    jobUid: 'job-1',
    run: `run-${randomUUID().slice(0, 8)}`,
    target: 'mongo',
    mode: 'replace',
    source: sourceTable(name, columns),
    name: { schema: database, name },
    columns,
    key: ['id'],
    generation: 1,
    existing: 'refuse',
    swap: 'rename',
    lane: 'rows',
    readFormat: 'rows',
    writeFormat: 'rows',
    ...over,
  };
}

/** Whole documents of another MongoDB. */
export function rawWork(database: string, over: Partial<Work> & { readonly extras?: Partial<MongoExtras> } = {}): Work {
  const { extras, ...rest } = over;
  const work = plainWork(database, { lane: 'direct', readFormat: 'bson', writeFormat: 'bson', key: ['_id'], ...rest });
  const special: MongoExtras = {
    system: 'mongodb',
    as: 'raw',
    columns: { _id: { path: ['_id'], form: 'int' }, document: { path: [], form: 'exact json' } },
    storage: 's',
    kind: 'collection',
    collated: false,
    options: '{}',
    indexes: [],
    ...extras,
  };
  const columns = [column('_id', { kind: 'int32' }), { ...column('document', { kind: 'json' }), native: 'document' }];
  return {
    ...work,
    source: { ...work.source, system: 'mongodb', extras: special },
    columns: rest.columns ?? columns,
  };
}

/** The stream of a source: documents one after another, in pieces cut anywhere, the last one empty and with the count. */
export function bytesOf(documents: readonly Uint8Array[], cuts = 2): Batch[] {
  const all = Buffer.concat(documents);
  const size = Math.max(1, Math.ceil(all.length / cuts));
  const batches: BytesBatch[] = [];
  for (let at = 0; at < all.length; at += size) {
    batches.push({ kind: 'bytes', bytes: [all.subarray(at, Math.min(at + size, all.length))] });
  }
  return [...batches, { kind: 'bytes', bytes: [], rows: documents.length }];
}

export const bytesOfAll = (documents: readonly Document[], cuts?: number): Batch[] =>
  bytesOf(
    documents.map((document) => BSON.serialize(document)),
    cuts,
  );

export async function* give(batches: readonly Batch[]): AsyncGenerator<Batch> {
  yield* batches;
}

export const rowsOfAll = (rows: readonly Row[]): Batch[] => (rows.length === 0 ? [] : [{ kind: 'rows', rows }]);

export const connect = (url: string): Promise<MongoClient> => new MongoClient(url).connect();

/** Documents, nothing promoted, by key. */
export const contents = (db: Db, name: string): Promise<Document[]> =>
  db.collection(name).find({}, { promoteValues: false, promoteBuffers: false }).sort({ _id: 1 }).toArray();

export async function visible(db: Db, work: Work): Promise<Row[] | undefined> {
  if (!(await names(db)).includes(work.name.name)) return undefined;
  const found = await db.collection(work.name.name).find({}).sort({ _id: 1 }).toArray();
  return found.map((document) => [document.id ?? document._id, document.v ?? null]);
}

export const names = async (db: Db): Promise<string[]> =>
  (await db.listCollections({}, { nameOnly: true }).toArray()).map(({ name }) => name).sort();

/** What is there for works that are not published. */
export async function leftovers(db: Db): Promise<string[]> {
  const staging = (await names(db)).filter((name) => name.startsWith('_godwit.t_'));
  const works = await db
    .collection<Document>('_godwit.work')
    .find({ state: { $ne: 'published' } })
    .toArray();
  const open = works.map(({ _id }) => String(_id));
  const published = await db.collection<Document>('_godwit.work').find({ state: 'published' }).toArray();
  const known = published.map(({ _id }) => String(_id));
  const rest = async (collection: string) =>
    (await db.collection<Document>(collection).find({}).toArray())
      .map(({ _id }) => String(_id))
      .filter((id) => !known.some((hash) => id.startsWith(hash)));
  const owners = await db.collection<Document>('_godwit.owner').find({ made: false }).toArray();
  return [
    ...staging,
    ...open,
    ...(await rest('_godwit.chunk')),
    ...(await rest('_godwit.intent')),
    ...owners.map(({ _id }) => `owner ${_id}`),
  ].sort();
}
