/** Documents that stay whole: every BSON type is kept, not only what a value says. */
import { BSON, type Document, MongoClient } from 'mongodb';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mongodbEveryType } from '../conformance/mongodb-every-type.ts';
import { createMongoDatabase, missing, sharedMongodb } from '../servers/shared.ts';
import { install } from '../workflow/installation.ts';
import { targetsToSkip } from './from.ts';
import type { Meaning } from './meaning.ts';
import { move } from './run.ts';
import { everyTypes, type Source, targets } from './sides.ts';

const noServers = (await missing('mongodb')) || (await missing('postgres')) || (await missing('temporal'));
const targetsHere = await targetsToSkip(['pgsql', 'mysql', 'mariadb', 'files']);
const collections = Object.keys(mongodbEveryType);

describe.skipIf(noServers)('whole documents', () => {
  const stack = new AsyncDisposableStack();
  let source: Source;
  let godwit: Awaited<ReturnType<typeof install>>;
  let client: MongoClient;
  let from: string;
  beforeAll(async () => {
    source = stack.use(await everyTypes.mongo());
    from = (source.settings as { db_name: string }).db_name;
    client = stack.use(new MongoClient((await sharedMongodb()).url));
    godwit = stack.use(await install());
    stack.use(await godwit.work());
  });
  afterAll(() => stack.disposeAsync());

  const run = (name: string, destination: object, documents: string) =>
    move(godwit, {
      name,
      source: source.settings,
      destination: { there: destination },
      collections: [{ collection_name: '*', mode: 'replace', documents }],
    });
  const ejson = (value: unknown): unknown => JSON.parse(BSON.EJSON.stringify(value, { relaxed: false }));

  test('raw, from MongoDB to MongoDB: the same bytes', async () => {
    await using database = await createMongoDatabase();
    await run('raw', { destination_type: 'mongo', url: database.url, schema: database.name }, 'raw');
    for (const name of [...collections, 'empty']) {
      const bytes = async (of: string) => {
        const documents = await client.db(of).collection(name).find({}, { raw: true }).toArray();
        return documents.map((document) => (document as unknown as Buffer).toString('hex')).sort();
      };
      const there = await bytes(database.name);
      expect.soft(there, name).toEqual(await bytes(from));
      expect.soft(there.length, name).toBe(mongodbEveryType[name]?.length ?? 0);
    }
  });

  for (const [to, skipped] of targetsHere) {
    test.skipIf(skipped)(`json, to ${to}: each document in one column`, async () => {
      await using target = await targets[to](godwit.home);
      await run(`json-${to}`, target.settings, 'json');
      for (const name of collections) {
        const there = (await target.read(name)).rows.map((row) => textOf(row.get('document') ?? null));
        const here = await client
          .db(from)
          .collection(name)
          .find({}, { promoteValues: false, bsonRegExp: true })
          .toArray();
        const sorted = (documents: unknown[]) => documents.map((document) => JSON.stringify(ordered(document))).sort();
        expect
          .soft(sorted(there.map((text) => JSON.parse(text))), name)
          .toEqual(sorted(here.map((one: Document) => ejson(one))));
      }
    });
  }
});

const textOf = (value: Meaning): string =>
  value?.is === 'json' ? (value.written ?? '') : value?.is === 'text' ? value.value : 'no document';

/** JSON types of databases do not keep the order of fields. */
function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort()
      .map(([name, inner]) => [name, ordered(inner)]),
  );
}
