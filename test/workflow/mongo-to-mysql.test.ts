/** docs/examples/mongo-to-mysql.md is run as it stands, with other addresses. */
import { readFileSync } from 'node:fs';
import { asc, eq } from 'drizzle-orm';
import { Decimal128, Long, MongoClient, ObjectId } from 'mongodb';
import mysql from 'mysql2/promise';
import { beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { runTables } from '../../db/schema.ts';
import { createMongoDatabase, createMysqlDatabase, missing } from '../servers/shared.ts';
import { install } from './installation.ts';

const page = readFileSync(new URL('../../docs/examples/mongo-to-mysql.md', import.meta.url), 'utf8');
const mapping = parse(/```yaml\n([\s\S]*?)```/.exec(page)?.[1] ?? '');

const noServers = (await missing('postgres')) || (await missing('temporal')) || (await missing('mongodb'));
const lacks = { mysql: await missing('mysql'), mariadb: await missing('mariadb') };

describe.skipIf(noServers)('from MongoDB to MySQL, as the example says', () => {
  let godwit: Awaited<ReturnType<typeof install>>;
  let store: Awaited<ReturnType<typeof createMongoDatabase>>;
  const reviews = 12_000;
  beforeAll(async () => {
    await using stack = new AsyncDisposableStack();
    godwit = stack.use(await install({ GODWIT_CHUNK_MB: '1' }));
    stack.use(await godwit.work());
    store = stack.use(await createMongoDatabase());
    await using client = new MongoClient(store.url);
    const db = client.db(store.name);
    await db.collection('reviews').insertMany(
      Array.from({ length: reviews }, (_, i) => ({
        _id: new ObjectId(i.toString(16).padStart(24, '0')),
        marketplace: 'US',
        customer_id: Long.fromString(`${9007199254740993n + BigInt(i)}`),
        star_rating: (i % 5) + 1,
        verified_purchase: i % 3 === 0,
        ...(i % 10 === 0
          ? {}
          : { product: { id: `B${i}`, title: `Reeds é😀 ${i}`, category: 'Musical\tInstruments' } }),
        votes: { helpful: i % 7, total: i % 4 === 0 ? String(i) : i },
        price: Decimal128.fromString(`${i}.90`),
        tags: ['reeds', `t${i}`],
        review_date: new Date(Date.UTC(2015, 7, 31, 7, 12, 45, 250) + i * 1000),
        headline: i === 7 ? null : `Great \\N ${i}`,
        body: 'x'.repeat(i % 300),
      })),
    );
    await db.collection('customers').insertMany([
      {
        _id: 1 as never,
        name: 'Ann',
        since: new Date('2020-02-29T00:00:00Z'),
        newsletter: true,
        orders: 3,
        spent: 12.5,
      },
      { _id: 2 as never, name: 'Bob', since: '2021-01-01', newsletter: 'yes', orders: 'many', spent: 'much' },
      { _id: 3 as never, name: null, orders: Long.fromString('9007199254740993') },
    ]);
    await db
      .collection('audit')
      .insertMany([{ _id: 'a' as never, deep: { big: Long.fromString('9007199254740993') } }]);
    const kept = stack.move();
    return () => kept.disposeAsync();
  });

  for (const kind of ['mysql', 'mariadb'] as const) {
    describe.skipIf(lacks[kind])(kind, () => {
      test('everything arrives, with its types and the books balanced', async () => {
        await using warehouse = await createMysqlDatabase(kind);
        const connection = await mysql.createConnection({ uri: warehouse.url, charset: 'utf8mb4', dateStrings: true });
        const ask = async (sql: string) =>
          (await connection.query<mysql.RowDataPacket[]>(sql))[0].map((row) => ({ ...row }));
        try {
          const { run, result } = await godwit.begin({
            ...mapping,
            name: `reviews-${kind}`,
            source: { source_type: mapping.source.source_type, url: store.url },
            destination: { dwh: { destination_type: kind, url: warehouse.url } },
            collections: mapping.collections.map((one: object) => ({
              ...one,
              ...('time_delay' in one ? { time_delay: 0.01 } : {}),
            })),
          });
          const ended = await result();
          const tables = await godwit.db
            .select()
            .from(runTables)
            .where(eq(runTables.runId, run.id))
            .orderBy(asc(runTables.sourceName));
          expect(tables.map(({ failure }) => failure)).toEqual([null, null, null]);
          expect(ended).toMatchObject({ status: 'succeeded' });
          expect(tables.map((one) => [one.sourceName.split('.')[1], one.rowsRead, one.rowsWritten])).toEqual([
            ['audit', 1, 1],
            ['customers', 3, 3],
            ['reviews', reviews, reviews],
          ]);
          const columns = await ask(
            `SELECT column_name AS name, column_type AS type FROM information_schema.columns
             WHERE table_schema = database() AND table_name = 'reviews' ORDER BY ordinal_position`,
          );
          // As the page says. MariaDB shows the width of integers.
          expect(new Map(columns.map(({ name, type }) => [name, type.replace(/^(big|)int\(\d+\)/, '$1int')]))).toEqual(
            new Map([
              ['_id', 'varchar(24)'],
              ['marketplace', 'longtext'],
              ['customer_id', 'bigint'],
              ['star_rating', 'int'],
              ['verified_purchase', 'tinyint(1)'],
              ['votes_helpful', 'int'],
              ['votes_total', 'longtext'],
              ['price', 'longtext'],
              ['tags', 'longtext'],
              ['review_date', 'datetime(3)'],
              ['headline', 'longtext'],
              ['body', 'longtext'],
              ['product_id', 'longtext'],
              ['product_title', 'longtext'],
              ['product_category', 'longtext'],
            ]),
          );
          expect(tables.map(({ lane }) => lane)).toEqual(['direct', 'direct', 'direct']);
          expect(
            await ask(
              'SELECT count(*) AS n, count(DISTINCT _id) AS ids, sum(star_rating) AS stars, count(product_title) AS products FROM reviews',
            ),
          ).toEqual([
            { n: reviews, ids: reviews, stars: String((reviews / 5) * 15), products: reviews - reviews / 10 },
          ]);
          expect(
            await ask(
              `SELECT _id, CAST(customer_id AS CHAR) AS customer, product_title AS title, CAST(votes_total AS CHAR) AS total,
                 CAST(price AS CHAR) AS price, tags, CAST(review_date AS CHAR) AS at, headline, verified_purchase + 0 AS verified
               FROM reviews WHERE _id IN ('${'1'.padStart(24, '0')}', '${'4'.padStart(24, '0')}') ORDER BY _id`,
            ),
          ).toEqual([
            {
              _id: '1'.padStart(24, '0'),
              customer: '9007199254740994',
              title: 'Reeds é😀 1',
              total: '1',
              price: expect.stringMatching(/^1\.90?$/),
              tags: expect.stringMatching(/^\["reeds", ?"t1"\]$/),
              at: '2015-08-31 07:12:46.250',
              headline: 'Great \\N 1',
              verified: 0,
            },
            expect.objectContaining({ total: expect.stringMatching(/^"?4"?$/), verified: 0 }),
          ]);
          expect(
            await ask(
              'SELECT name, since, newsletter, CAST(orders AS CHAR) AS orders, spent FROM customers ORDER BY _id',
            ),
          ).toEqual([
            {
              name: 'Ann',
              since: expect.stringMatching(/^2020-02-29 00:00:00/),
              newsletter: 1,
              orders: '3',
              spent: 12.5,
            },
            {
              name: 'Bob',
              since: expect.stringMatching(/^2021-01-01 00:00:00/),
              newsletter: expect.anything(),
              orders: '0',
              spent: null,
            },
            { name: null, since: null, newsletter: null, orders: '9007199254740993', spent: null },
          ]);
          const [audit] = await ask('SELECT _id, document, migration_snapshot_date AS at FROM audit');
          expect(audit).toMatchObject({ _id: 'a', at: expect.stringMatching(/^20/) });
          expect(JSON.parse(String(audit?.document))).toEqual({
            _id: 'a',
            deep: { big: { $numberLong: '9007199254740993' } },
          });
        } finally {
          await connection.end();
        }
      });
    });
  }
});
