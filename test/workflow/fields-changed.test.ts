/** A document that the description does not cover, met while its collection moves. */
import { MockActivityEnvironment } from '@temporalio/testing';
import { eq } from 'drizzle-orm';
import { MongoClient } from 'mongodb';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Activities, RunRef } from '../../activities/contract.ts';
import { Endpoints } from '../../activities/endpoints.ts';
import type { Source } from '../../connectors/contract.ts';
import { chunks, events, runTables } from '../../db/schema.ts';
import { GodwitError } from '../../errors.ts';
import { createDatabase, createMongoDatabase, missing, sharedMongodb, type TestDatabase } from '../servers/shared.ts';
import { install, query } from './installation.ts';
import { quiet } from './stubbed-worker.ts';

const noServers = (await missing('postgres')) || (await missing('temporal'));
const noMongo = noServers || (await missing('mongodb'));

const documents = 6000;
/** Of the document that no sample has: it changes after the plan, before its batch is read. */
const odd = 5000;

describe.skipIf(noMongo)('a field and a type that no sample had', () => {
  let mongo: MongoClient;
  let url: string;
  let target: TestDatabase;
  beforeAll(async () => {
    ({ url } = await sharedMongodb());
    mongo = new MongoClient(url);
    return () => mongo.close();
  });
  let database: string;
  beforeEach(async () => {
    target = await createDatabase();
    database = `shop_${crypto.randomUUID().slice(0, 8)}`;
    const filler = 'x'.repeat(400);
    const all = Array.from({ length: documents }, (_, i) => ({ _id: i + 1, n: i + 1, filler }) as object);
    await mongo.db(database).collection('orders').insertMany(all);
    return async () => {
      await mongo.db(database).dropDatabase();
      await target.drop();
    };
  });

  /** What waits makes room for the change: a batch of 500 documents at a time. */
  const moved = async (settings: Record<string, string>, documents_: 'flatten' | 'fields') => {
    await using godwit = await install(settings);
    await using stack = new AsyncDisposableStack();
    stack.use(await godwit.work());
    const { run, result } = await godwit.begin({
      name: 'orders',
      source: { source_type: 'mongo', url, db_name: database },
      destination: { warehouse: { destination_type: 'pgsql', url: target.url, schema: 'copy' } },
      collections: [
        { collection_name: 'orders', mode: 'replace', documents: documents_, batch_size: 500, time_delay: 0.2 },
      ],
    });
    const table = async () => (await godwit.db.select().from(runTables).where(eq(runTables.runId, run.id)))[0];
    for (;;) {
      const now = await table();
      if (now && now.status !== 'queued') break;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await mongo
      .db(database)
      .collection('orders')
      .replaceOne({ _id: odd as never }, { n: 'no number', late: { deep: true }, filler: '' });
    const ended = await result();
    const told = await godwit.db.select().from(events).where(eq(events.runId, run.id));
    return { ended, table: await table(), told: told.map(({ kind }) => kind) };
  };
  const columns = () =>
    query<{ name: string; type: string }>(
      target.url,
      `SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
       WHERE attrelid = 'copy.orders'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname`,
    );
  const leftovers = () =>
    query(target.url, `SELECT relname FROM pg_class WHERE relnamespace = '_godwit'::regnamespace AND relname ~ '^t_'`);

  test.each([
    ['one chunk among small tables', {}, 'flatten'],
    ['many chunks', { GODWIT_CHUNK_MB: '1' }, 'flatten'],
    ['one chunk of stringified fields', {}, 'fields'],
  ] as const)('make Godwit look at all documents and start again by itself: %s', async (_, settings, form) => {
    const { ended, table, told } = await moved(settings, form);
    expect(table?.failure).toBeNull();
    expect(ended).toMatchObject({ status: 'succeeded' });
    expect(table).toMatchObject({ status: 'succeeded', generation: 2, rowsRead: documents, rowsWritten: documents });
    expect(told).toContain('table.restarted');
    expect(table?.notes.join('\n')).toContain('described by all of its documents');
    const names = (await columns()).map(({ name }) => name);
    expect(names).toEqual(['_id', 'filler', ...(form === 'flatten' ? ['late_deep'] : ['late']), 'n']);
    const late = form === 'flatten' ? 'late_deep::text' : 'late';
    const rows = await query(
      target.url,
      `SELECT count(*)::int AS all, count(DISTINCT _id)::int AS keys, count(${late})::int AS late,
         max(n::text) FILTER (WHERE _id::text = '${odd}') AS n FROM copy.orders`,
    );
    expect(rows).toEqual([{ all: documents, keys: documents, late: 1, n: expect.stringContaining('no number') }]);
    expect(await leftovers()).toEqual([]);
  });
});

describe.skipIf(noMongo)('a run cut short, and a sample that shows less than the one before', () => {
  test('the next run goes on by the description of then', async () => {
    const { url } = await sharedMongodb();
    await using source = await createMongoDatabase();
    await using target = await createDatabase();
    await using mongo = new MongoClient(url);
    const collection = mongo.db(source.name).collection('orders');
    const all = 1900;
    const filler = 'x'.repeat(1900);
    await collection.insertMany(
      Array.from({ length: all }, (_, i): object => ({
        _id: i + 1,
        filler,
        ...(i + 1 === all ? { rare: 'a\0b' } : {}),
      })),
    );
    await using godwit = await install({ GODWIT_CHUNK_MB: '1' });
    await using _worker = await godwit.work();
    const mapping = {
      name: 'orders',
      source: { source_type: 'mongo', url, db_name: source.name },
      destination: { warehouse: { destination_type: 'pgsql', url: target.url, schema: 'copy' } },
      collections: [{ collection_name: 'orders', mode: 'replace', documents: 'flatten' }],
    };
    const rowOf = async (runId: string) =>
      (await godwit.db.select().from(runTables).where(eq(runTables.runId, runId)))[0];
    const first = await godwit.begin(mapping);
    await first.result().catch(() => {});
    const before = await rowOf(first.run.id);
    expect(before).toMatchObject({ status: 'failed', failure: { code: 'VALUE_REFUSED' } });
    expect(before?.chunksDone).toBeGreaterThan(0);

    await collection.replaceOne({ _id: all as never }, { filler });
    const second = await godwit.begin(mapping);
    expect(await second.result()).toMatchObject({ status: 'succeeded' });
    const after = await rowOf(second.run.id);
    expect(after).toMatchObject({ status: 'succeeded', generation: before?.generation, rowsWritten: all });
    expect(after?.notes.join('\n')).toContain(`goes on where run 1 stopped: ${before?.chunksDone} of`);
    expect(await query(target.url, 'SELECT count(*)::int AS n, count(rare)::int AS rare FROM copy.orders')).toEqual([
      { n: all, rare: 0 },
    ]);
  });
});

describe.skipIf(noServers)('a document that no description covers', () => {
  const alone = () => new MockActivityEnvironment({}, { logger: quiet });

  test.each(['many', 'one'])(
    'ends its table after a look at all documents, and one more (%s chunks)',
    async (chunking) => {
      await using stack = new AsyncDisposableStack();
      const source = stack.use(await createDatabase());
      const target = stack.use(await createDatabase());
      await query(
        source.url,
        `CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i; ANALYZE`,
      );
      const godwit = stack.use(await install(chunking === 'many' ? { GODWIT_CHUNK_MB: '1' } : {}));
      const bench = await godwit.activities();
      let described = 0;
      const unfit = async (name: string): Promise<Source> => {
        const real = await bench.deps.openers.source(name);
        return {
          ...real,
          describeAll: (names, shape) => {
            described++;
            return real.describeAll(names, shape);
          },
          read: async function* () {
            yield* [];
            throw new GodwitError('FIELDS_CHANGED', 'a document has a field that the plan does not know');
          },
        };
      };
      const endpoints = stack.use(new Endpoints({ source: unfit, target: bench.deps.openers.target }, 50));
      Object.assign(bench.deps, { endpoints });
      const call = <K extends keyof Activities>(name: K, args: Parameters<Activities[K]>[0], environment = alone()) =>
        environment.run(bench.activities[name] as never, args) as ReturnType<Activities[K]>;
      const run = await godwit.row({
        name: 'unfit',
        source: { source_type: 'pgsql', url: source.url },
        destination: { warehouse: { destination_type: 'pgsql', url: target.url, schema: 'copy' } },
        tables: [{ table_name: 'public.t', mode: 'replace' }],
      });
      const { epoch } = await call('begin', {
        jobId: run.jobId,
        scheduleKey: '',
        runId: run.id,
        workflowId: run.workflowId,
        firstExecutionRunId: 'first',
      });
      const ref: RunRef = { runId: run.id, epoch };
      const keeper = alone();
      const holding = call('hold', ref, keeper).catch(() => {});
      stack.defer(async () => {
        keeper.cancel();
        await holding;
      });
      await call('plan', ref);
      const row = async () => (await godwit.db.select().from(runTables).where(eq(runTables.runId, ref.runId)))[0];
      const outcome = (what: Promise<unknown>) =>
        what.then(
          () => 'done',
          (error: { type?: string; nonRetryable?: boolean }) => `${error.type}${error.nonRetryable ? ', the end' : ''}`,
        );

      if (chunking === 'one') {
        const group = { ...ref, from: 1, to: 1 };
        expect(await outcome(call('moveMany', group))).toBe('FIELDS_CHANGED');
        // The second attempt starts again by the same description, and meets the same document.
        expect(await outcome(call('moveMany', group))).toBe('FIELDS_CHANGED');
        expect(await row()).toMatchObject({ generation: 2, options: { describedAgain: 1 } });
        for (let more = 0; more < 3 && (await row())?.status !== 'failed'; more++)
          await outcome(call('moveMany', group));
      } else {
        const move = async (generation: number) => {
          await call('split', { ...ref, ordinal: 1, generation, upTo: 0, count: 2 });
          return () => outcome(call('move', { ...ref, ordinal: 1, generation, chunk: 1 }));
        };
        await call('prepareTable', { ...ref, ordinal: 1 });
        const first = await move(1);
        expect(await first()).toBe('FIELDS_CHANGED');
        // Noted; the next attempt tells the workflow to start the table again.
        expect(await first()).toBe('SNAPSHOT_LOST, the end');
        await call('restartTable', { ...ref, ordinal: 1, generation: 1 });
        expect(await row()).toMatchObject({ generation: 2, options: { describedAgain: 1 }, chunksTotal: 0 });
        // A reader that is left over from before says nothing about the new generation.
        expect(await outcome(call('move', { ...ref, ordinal: 1, generation: 1, chunk: 1 }))).toContain('FENCED');
        const second = await move(2);
        expect(await second()).toBe('FIELDS_CHANGED');
        expect(await second()).toBe('SNAPSHOT_LOST, the end');
        expect(await outcome(call('restartTable', { ...ref, ordinal: 1, generation: 2 }))).toBe(
          'FIELDS_CHANGED, the end',
        );
        await call('failTable', { ...ref, ordinal: 1, code: 'FIELDS_CHANGED', message: '' });
      }
      const failed = await row();
      expect(failed).toMatchObject({ status: 'failed', generation: 2, failure: { code: 'FIELDS_CHANGED' } });
      expect(failed?.failure?.message).toContain('all documents were looked at before');
      // For the plan, and for each time it was described again.
      expect(described).toBe(3);
      expect((await godwit.db.select().from(chunks)).every(({ status }) => status !== 'done')).toBe(true);
    },
  );
});
