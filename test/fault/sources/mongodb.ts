import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Binary, type Db, Decimal128, type Document, Int32, Long, MongoClient, UUID } from 'mongodb';
import { startMongodb } from '../../../servers/mongodb.ts';
import { startProxy } from '../../../servers/proxy.ts';
import { createDatabase, databaseUrl, through } from '../addresses.ts';
import { postgresPlace } from '../kinds/postgres.ts';
import type { Random } from '../random.ts';
import { rowDigest, type ShopTable } from '../shop.ts';
import { writing } from '../writer.ts';
import type { SourceKind } from './source.ts';

/** Collections as the tables they become: flattened, so that `order: { id, line }` are two columns. */
const collections: readonly ShopTable[] = [
  {
    name: 'orders',
    columns: { _id: 'int', rev: 'int', customer: 'int', amount: 'money', at: 'instant', note: 'text', payload: 'text' },
    key: ['_id'],
  },
  {
    name: 'items',
    columns: { _id: 'int', rev: 'int', order_id: 'int', order_line: 'int', price: 'money', body: 'bytes' },
    key: ['_id'],
  },
  { name: 'visits', columns: { _id: 'text', rev: 'int', page: 'text', at: 'instant' }, key: ['_id'] },
  { name: 'small', columns: { _id: 'int', rev: 'int', label: 'text' }, key: ['_id'] },
];

/** There are no triggers: the one writer notes each version before he sends it. One that never arrived does no harm there. */
type Notes = Record<string, { readonly first: Noted[]; readonly changes: { key: string; hash: string | null }[] }>;
type Noted = { key: string; hash: string };

export const mongodbSource: SourceKind = {
  name: 'mongodb',
  async start(at, rows) {
    await using made = new AsyncDisposableStack();
    const given = process.env.GODWIT_TEST_MONGODB_URL;
    const server = given ? { url: given } : made.use(await startMongodb({ megabytes: 640 }));
    const { hostname, port } = new URL(server.url);
    const proxy = made.use(await startProxy({ host: hostname, port: Number(port || 27_017) }));
    const name = 'from_mongodb';
    const notes: Notes = Object.fromEntries(collections.map((table) => [table.name, { first: [], changes: [] }]));
    await using client = new MongoClient(server.url);
    await client.db(name).dropDatabase();
    await fill(client.db(name), rows, notes);
    made.defer(async () => {
      await using last = new MongoClient(server.url);
      await last.db(name).dropDatabase();
    });
    const place = postgresPlace(at, await createDatabase(at.target, name));
    const own = made.move();
    return {
      shop: {
        name,
        tables: collections,
        mapping: {
          name,
          source: { source_type: 'mongo', url: through(proxy, databaseUrl(server.url, name)), db_name: name },
          destination: { copy: place.settings },
          collections: [{ collection_name: '*', mode: 'replace', documents: 'flatten' }],
        },
        places: { copy: place },
        history: async ({ name: table }) => notes[table] ?? { first: [], changes: [] },
      },
      write: (random) =>
        writing(async () => {
          const writer = await new MongoClient(server.url, { serverSelectionTimeoutMS: 5_000 }).connect();
          return { transaction: () => change(writer.db(name), { random, rows, notes }), close: () => writer.close() };
        }),
      delay: proxy.delay,
      disturbances: [
        { name: 'connections cut', make: async () => proxy.cut() },
        {
          name: 'away for a while',
          async make() {
            proxy.refuse(true);
            proxy.cut();
            await sleep(1_500);
            proxy.refuse(false);
          },
        },
      ],
      [Symbol.asyncDispose]: () => own.disposeAsync(),
    };
  },
};

const md5 = (text: string): string => createHash('md5').update(text).digest('hex');
const visitId = (text: string): UUID => new UUID(md5(text));
const money = (i: number): Decimal128 => Decimal128.fromString(((i % 100_000) / 100).toFixed(2));

const order = (id: number, i: number): Document => ({
  _id: Long.fromNumber(id),
  rev: new Int32(0),
  customer: new Int32(i % 997),
  amount: money(i),
  at: new Date(Date.UTC(2024, 0, 1) + i * 1_001),
  note: i % 5 === 0 ? null : i % 7 === 0 ? '' : `line\n\t\\ ${i} ё`,
  payload: md5(String(i)).repeat(5),
});
const item = (id: number, i: number): Document => ({
  _id: Long.fromNumber(id),
  rev: new Int32(0),
  order: { id: Long.fromNumber(Math.ceil(i / 2) * 10), line: new Int32(i % 2) },
  price: money(i),
  body: new Binary(Buffer.from(md5(String(i)), 'hex')),
});
const visit = (id: string, i: number): Document => ({
  _id: visitId(id),
  rev: new Int32(0),
  page: `/page/${i}`.repeat(8),
  at: new Date(Date.UTC(2024, 0, 1) + i),
});
const small = (id: number): Document => ({ _id: Long.fromNumber(id), rev: new Int32(0), label: `label ${id}` });

async function fill(db: Db, rows: number, notes: Notes): Promise<void> {
  const made: Readonly<Record<string, (i: number) => Document>> = {
    orders: (i) => order(i * 10, i),
    items: (i) => item(i * 10, i),
    visits: (i) => visit(`v${i}`, i),
    small: (i) => small(i),
  };
  const shares: Readonly<Record<string, number>> = { orders: rows, items: rows, visits: rows / 2, small: 50 };
  for (const table of collections) {
    const all = Array.from({ length: shares[table.name] as number }, (_, i) => made[table.name]?.(i + 1) as Document);
    for (let i = 0; i < all.length; i += 1_000) await db.collection(table.name).insertMany(all.slice(i, i + 1_000));
    notes[table.name]?.first.push(...all.map((document) => noted(table, document)));
  }
}

function noted(table: ShopTable, document: Document): Noted {
  return rowDigest(table, (column) => {
    const [outer = '', inner = ''] = column.split('_').filter(Boolean);
    const value = column in document ? document[column] : document[outer]?.[inner];
    if (value === null || value === undefined) return null;
    if (value instanceof UUID) return value.toString();
    if (value instanceof Binary) {
      return value.sub_type === Binary.SUBTYPE_UUID
        ? value.toUUID().toString()
        : Buffer.from(value.value()).toString('hex');
    }
    return value instanceof Date ? value.toISOString() : String(value);
  });
}

/** One change. Keys are drawn from the whole range, gaps included, so that documents move across chunk borders. */
async function change(
  db: Db,
  { random, rows, notes }: { readonly random: Random; readonly rows: number; readonly notes: Notes },
): Promise<void> {
  const n = random.between(1, 1_000_000_000);
  const table = random.pick([collections[0], collections[0], ...collections]) as ShopTable;
  const collection = db.collection<Document>(table.name);
  const note = (document: Document, gone = false) => {
    const { key, hash } = noted(table, document);
    notes[table.name]?.changes.push({ key, hash: gone ? null : hash });
  };
  const free = (): Document => {
    const id = random.between(1, rows * 10);
    if (table.name === 'orders') return order(id, n % 100_000);
    if (table.name === 'items') return item(id, n % 100_000);
    return table.name === 'visits' ? visit(`new ${n}`, n % 1_000) : small(1 + (n % 100));
  };
  const insert = async (document: Document) => {
    note(document);
    // The key may be taken.
    await collection.insertOne(document).catch((error: { code?: unknown }) => {
      if (error.code !== 11_000) throw error;
    });
  };
  // By its exact key: a server without an index of them would look at all for the next one.
  const i = random.between(1, table.name === 'visits' ? rows / 2 : table.name === 'small' ? 50 : rows);
  const _id = table.name === 'visits' ? visitId(`v${i}`) : Long.fromNumber(table.name === 'small' ? i : i * 10);
  const found = await collection.findOne({ _id: _id as never }, { promoteValues: false });
  const what = random.between(1, 6);
  if (what === 1 || !found) return await insert(free());
  if (what === 2 || what === 3) {
    note(found, true);
    await collection.deleteOne({ _id: found._id });
    // A key that moves far: perhaps from a chunk not yet read into one that is, or back.
    if (what === 3) await insert({ ...found, _id: free()._id, rev: next(found.rev) });
    return;
  }
  const changed = { ...found, rev: next(found.rev), ...('page' in found ? { page: `${found.page}${n}` } : {}) };
  note(changed);
  await collection.replaceOne({ _id: found._id }, changed);
}

const next = (rev: unknown): Int32 => new Int32(Number(rev) + 1);
