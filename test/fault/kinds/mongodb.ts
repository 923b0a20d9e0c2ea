import { setTimeout as sleep } from 'node:timers/promises';
import { Binary, type Document, MongoClient } from 'mongodb';
import { startMongodb } from '../../../servers/mongodb.ts';
import { startProxy } from '../../../servers/proxy.ts';
import { databaseUrl, through } from '../addresses.ts';
import { type Content, contentOf } from '../oracle.ts';
import { rowDigest, type ShopTable } from '../shop.ts';
import type { Disturbance, Kind, Place } from './kind.ts';

export const mongodb: Kind = {
  name: 'mongodb',
  writing: ['after-read', 'before-commit', 'between-checkpoint-and-commit', 'after-commit', 'before-answer'],
  publishing: ['in-swap', 'after-swap'],
  async start() {
    await using made = new AsyncDisposableStack();
    const server = await serverOf(made);
    const address = new URL(server.url);
    const proxy = made.use(await startProxy({ host: address.hostname, port: Number(address.port || 27_017) }));
    const disturbances: Disturbance[] = [
      {
        name: 'away for a while',
        async make() {
          proxy.refuse(true);
          proxy.cut();
          await sleep(1_500);
          proxy.refuse(false);
        },
      },
      { name: 'connections cut', make: async () => proxy.cut() },
    ];
    if (server.restart) disturbances.unshift({ name: 'restarted', make: server.restart });
    else console.warn(`skipped: a restart of the MongoDB target in mid-write: ${server.noRestart}`);
    const databases: string[] = [];
    const own = made.move();
    return {
      async place(name) {
        const database = `fault_${name}`;
        databases.push(database);
        return placeIn({ url: server.url, proxied: through(proxy, databaseUrl(server.url, database)), database });
      },
      disturbances,
      async [Symbol.asyncDispose]() {
        await using client = new MongoClient(server.url);
        for (const database of databases) await client.db(database).dropDatabase();
        await own.disposeAsync();
      },
    };
  },
  // Later attempts write apart from the first one, and only who counts is put together with the others. Here all write into
  // one collection. Two more things would hold doubled rows off: rows without a key have the same `_id` in each attempt, and
  // what is there is counted before it is published.
  fence: {
    stopAt: 'between-checkpoint-and-commit',
    wakes: false,
    changes: [
      {
        file: 'connectors/mongodb/target/names.ts',
        from: 'asideOf = (staging: string, chunk: number, epoch: number): string =>',
        to: 'asideOf = (staging: string, chunk: number, epoch: number): string => chunk * epoch > 0 ? staging :',
      },
      {
        file: 'connectors/mongodb/target/rows.ts',
        from: 'bytes.writeUInt32BE(ordinal >>> 0, 8);',
        to: 'bytes.writeUInt32BE(ordinal >>> 0, 8);\n    bytes.writeUInt32BE(process.pid, 0);',
      },
      {
        file: 'connectors/mongodb/target/finish.ts',
        from: 'if (there === expected) return;',
        to: 'if (there >= expected) return;',
      },
    ],
  },
};

type Server = {
  readonly url: string;
  readonly restart?: () => Promise<unknown>;
  readonly noRestart?: string;
};

/** A server in memory loses all by a restart, and one that somebody else runs is not ours to restart. */
async function serverOf(made: AsyncDisposableStack): Promise<Server> {
  const url = process.env.GODWIT_TEST_MONGODB_URL;
  if (url)
    return { url, noRestart: 'the server of GODWIT_TEST_MONGODB_URL is not ours to restart; its connections are cut' };
  const server = made.use(await startMongodb({ megabytes: 640 }));
  if (server.kind === 'mongod') return { url: server.url, restart: () => server.restart() };
  return {
    url: server.url,
    noRestart: 'mongo-java-server keeps the data in memory (put mongod on PATH); its connections are cut and refused',
  };
}

type Where = { readonly url: string; readonly proxied: string; readonly database: string };

const placeIn = ({ url, proxied, database }: Where): Place => ({
  settings: { destination_type: 'mongo', url: proxied, schema: database },
  async content(table): Promise<Content> {
    await using client = new MongoClient(url);
    const rows: { key: string; hash: string }[] = [];
    for await (const found of client.db(database).collection(table.name).find({}, { promoteValues: false })) {
      rows.push(rowDigest(table, (column) => textOf(table, found, column)));
    }
    return contentOf(rows, table.key.length > 0);
  },
  async strays(published) {
    await using client = new MongoClient(url);
    const db = client.db(database);
    const names = (await db.listCollections({}, { nameOnly: true }).toArray()).map(({ name }) => name);
    const books = ['owner', 'work', 'chunk', 'snapshot', 'intent'].map((name) => `_godwit.${name}`);
    const found = names.filter((name) => !(books.includes(name) || published.has(`${database}.${name}`)));
    const works = await db.collection<{ _id: string }>('_godwit.work').find({}).toArray();
    const known = new Set(works.map(({ _id }) => _id));
    for (const { state, table } of works as Document[]) {
      if (state !== 'published') found.push(`books of unpublished ${table}`);
    }
    for (const { _id } of await db.collection<{ _id: string }>('_godwit.chunk').find({}).toArray()) {
      if (!known.has(_id.split('.')[0] as string)) found.push('a chunk without its work');
    }
    const intents = await db.collection('_godwit.intent').countDocuments();
    if (intents > 0) found.push(`${intents} intents of inserts`);
    return found;
  },
});

/** What the document says in that column, as the digest of the source says it; null is there as null. */
function textOf(table: ShopTable, document: Document, column: string): string | null {
  if (!(column in document)) throw new Error(`a document of ${table.name} has no ${column}`);
  const value = document[column];
  if (value === null) return null;
  if (value instanceof Binary) {
    return value.sub_type === Binary.SUBTYPE_UUID
      ? value.toUUID().toString()
      : Buffer.from(value.value()).toString('hex');
  }
  return value instanceof Date ? value.toISOString() : String(value);
}
