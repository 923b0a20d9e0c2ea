/** Bookmarks that are no dates of the system: texts in several spellings, and epochs of each unit, from every kind of source. */
import { MongoClient } from 'mongodb';
import mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  createDatabase,
  createMongoDatabase,
  createMysqlDatabase,
  missing,
  type TestDatabase,
} from '../servers/shared.ts';
import { install, query } from '../workflow/installation.ts';
import { absent, type Godwit, runOnce } from './from.ts';

type Value = string | number | null;
type Source = AsyncDisposable & {
  readonly settings: object;
  readonly entry: object;
  put(id: number, name: string, at: Value): Promise<void>;
};

const minute = 60_000;
/** How a moment (milliseconds) is written, and what type has it in SQL. */
const forms: Readonly<Record<string, { readonly type: string; readonly write: (at: number, i: number) => Value }>> = {
  texts: {
    type: 'varchar(60)',
    // Every spelling in one column: nothing that the source's own order could compare.
    write: (at, i) => {
      const iso = new Date(at).toISOString();
      return [iso, iso.replace('T', ' ').replace('Z', ''), new Date(at).toUTCString(), String(at)][i % 4] as string;
    },
  },
  seconds: { type: 'bigint', write: (at) => Math.floor(at / 1000) },
  milliseconds: { type: 'bigint', write: (at) => at },
};

const sources: Readonly<Record<'pgsql' | 'mysql' | 'mongo', (type: string) => Promise<Source>>> = {
  async pgsql(type) {
    const database = await createDatabase();
    await query(database.url, `CREATE TABLE item (id int PRIMARY KEY, name text, at ${type})`);
    return {
      settings: { source_type: 'pgsql', url: database.url },
      entry: { table_name: 'item' },
      async put(id, name, at) {
        const value = at === null ? 'NULL' : typeof at === 'number' ? at : `'${at}'`;
        await query(
          database.url,
          `INSERT INTO item VALUES (${id}, '${name}', ${value}) ON CONFLICT (id) DO UPDATE SET name = excluded.name, at = excluded.at`,
        );
      },
      [Symbol.asyncDispose]: database.drop,
    };
  },
  async mysql(type) {
    const database = await createMysqlDatabase('mysql');
    const connection = await mysql.createConnection(database.url);
    await connection.query(`CREATE TABLE item (id int PRIMARY KEY, name varchar(100), at ${type})`);
    return {
      settings: { source_type: 'mysql', url: database.url },
      entry: { table_name: `${database.name}.item` },
      async put(id, name, at) {
        await connection.query('REPLACE INTO item VALUES (?, ?, ?)', [id, name, at]);
      },
      async [Symbol.asyncDispose]() {
        await connection.end();
        await database.drop();
      },
    };
  },
  async mongo() {
    const database = await createMongoDatabase();
    const client = new MongoClient(database.url);
    const collection = client.db().collection<{ _id: number }>('item');
    return {
      settings: { source_type: 'mongo', url: database.url, db_name: database.name },
      entry: { table_name: 'item', documents: 'flatten' },
      async put(id, name, at) {
        await collection.replaceOne({ _id: id }, { name, at }, { upsert: true });
      },
      async [Symbol.asyncDispose]() {
        await client.close();
        await database.drop();
      },
    };
  },
};

const skip = new Map<string, boolean>();
for (const word of ['pgsql', 'mysql', 'mongo'] as const) skip.set(word, await absent(word));

describe.skipIf((await missing('postgres')) || (await missing('temporal')))('improper bookmarks', () => {
  const stack = new AsyncDisposableStack();
  let godwit: Godwit;
  let target: TestDatabase;
  beforeAll(async () => {
    godwit = stack.use(await install());
    stack.use(await godwit.work());
    target = stack.use(await createDatabase());
  });
  afterAll(() => stack.disposeAsync());

  for (const word of ['pgsql', 'mysql', 'mongo'] as const) {
    for (const [form, { type, write }] of Object.entries(forms)) {
      test.skipIf(skip.get(word))(`of ${form}, from ${word}`, async () => {
        await using source = await sources[word](type);
        const schema = `${word}_${form}`;
        const mapping = {
          name: schema.replace('_', '-'),
          source: source.settings,
          destination: { there: { destination_type: 'pgsql', url: target.url, schema, table: 'item' } },
          tables: [{ ...source.entry, mode: 'syncing', bookmark: 'at', improper_bookmarks: true }],
        };
        const names = async () =>
          (await query<{ name: string }>(target.url, `SELECT name FROM ${schema}.item ORDER BY name`)).map(
            ({ name }) => name,
          );
        const now = Date.now();
        const wanted = new Set<string>();
        const put = async (id: number, name: string, at: number | null) => {
          await source.put(id, name, at === null ? null : write(at, id));
          wanted.add(name);
        };
        const run = async () => {
          const table = await runOnce(godwit, mapping);
          expect(await names()).toEqual([...wanted].sort());
          return table;
        };
        for (let id = 1; id <= 40; id++) await put(id, `old ${id}`, now - 10 * 24 * 60 * minute + id * 60 * minute);
        await put(41, 'none', null);
        expect((await run()).step).toBe('load');
        const quiet = await run();
        expect(quiet).toMatchObject({ step: 'increment', rowsWritten: 0 });
        // What only the worker can compare is read whole, and what is old is left out; an epoch is compared by the source.
        if (form === 'texts') expect([quiet.rowsRead, quiet.rowsFiltered]).toEqual([41, 40]);
        else expect(quiet.rowsRead).toBeLessThan(41);
        for (let id = 50; id < 58; id++) await put(id, `new ${id}`, now + id);
        wanted.delete('old 7');
        await put(7, 'changed', now + 1000);
        wanted.delete('none');
        await put(41, 'none, changed', null);
        expect((await run()).rowsWritten).toBe(10);
        expect((await run()).rowsWritten).toBe(0);
      });
    }
  }
});
