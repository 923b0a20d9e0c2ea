import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Long, MongoClient } from 'mongodb';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { processExists } from '../../servers/child.ts';
import { startMongodb } from '../../servers/mongodb.ts';
import { createMongoDatabase, missing } from './shared.ts';

function clientOf(url: string): MongoClient {
  const client = new MongoClient(url, { serverSelectionTimeoutMS: 2_000 });
  onTestFinished(() => client.close());
  return client;
}

describe.skipIf(await missing('mongodb'))('The MongoDB server', () => {
  test('keeps documents in the database of the URL, which is dropped afterwards', async () => {
    const database = await createMongoDatabase();
    const db = clientOf(database.url).db();
    expect(db.databaseName).toBe(database.name);
    await db.collection('c').insertMany([{ n: Long.MAX_VALUE }, { n: 'text' }]);
    const read = await db
      .collection('c')
      .find({}, { promoteLongs: false, projection: { _id: 0 } })
      .toArray();
    expect(read).toEqual([{ n: Long.MAX_VALUE }, { n: 'text' }]);
    await database.drop();
    expect(await db.collection('c').countDocuments()).toBe(0);
  });

  test('one of our own comes back on its port after kill -9, and leaves nothing', async () => {
    const server = await startMongodb();
    const { url } = server;
    await server.kill();
    await expect(clientOf(url).db('d').command({ ping: 1 })).rejects.toThrow();
    await server.restart();
    expect(server.url).toBe(url);
    expect(await clientOf(url).db('d').command({ ping: 1 })).toMatchObject({ ok: 1 });
    await server.stop();
    expect(existsSync(server.dir)).toBe(false);
    expect(processExists(server.pid)).toBe(false);
  });
});

test.skipIf(await missing('mongodb'))('one with an oplog has change streams', async () => {
  await using server = await startMongodb({ oplog: true });
  const changes = clientOf(server.url).db('d').collection('c').watch();
  const next = changes.next();
  const writer = clientOf(server.url).db('d').collection('c');
  const writing = setInterval(() => void writer.insertOne({}).catch(() => {}), 100);
  onTestFinished(() => clearInterval(writing));
  expect(await next).toMatchObject({ operationType: 'insert', fullDocument: {} });
  clearInterval(writing);
  await changes.close();
});

test('where it is neither there nor to be had, the reason is said and what to do', async () => {
  const cache = await mkdtemp(join(tmpdir(), 'godwit-test-'));
  onTestFinished(() => rm(cache, { recursive: true, force: true }));
  vi.stubEnv('GODWIT_CACHE', cache);
  vi.stubEnv('PATH', cache);
  onTestFinished(() => void vi.unstubAllEnvs());
  await expect(startMongodb()).rejects.toMatchObject({
    code: 'DOWNLOAD_FAILED',
    message: expect.stringMatching(/there is no Java.*GODWIT_TEST_MONGODB_URL/),
  });
});
