import { describe } from 'vitest';
import { openTarget } from '../../connectors/mongodb/target.ts';
import { createMongoDatabase, missing, sharedMongodb } from '../servers/shared.ts';
import { bytesOfAll, connect, give, leftovers, plainWork, rawWork, rowsOfAll, visible } from './mongodb-works.ts';
import { type TargetSubject, testTarget } from './target.ts';

async function subject(format: 'rows' | 'bson'): Promise<TargetSubject> {
  const { kind } = await sharedMongodb();
  const database = await createMongoDatabase();
  const client = await connect(database.url);
  const db = client.db(database.name);
  return {
    open: () => openTarget({ url: database.url }),
    work: (over) => (format === 'rows' ? plainWork(database.name, over) : rawWork(database.name, over)),
    batches: (_, rows) =>
      give(format === 'rows' ? rowsOfAll(rows) : bytesOfAll(rows.map(([id, v]) => ({ _id: id, v })))),
    visible: (work) => visible(db, work),
    leftovers: () => leftovers(db),
    tellsSizes: kind !== 'mongo-java-server',
    async [Symbol.asyncDispose]() {
      await client.close();
      await database.drop();
    },
  };
}

describe.skipIf(await missing('mongodb'))('MongoDB as a target', () => {
  testTarget('rows', () => subject('rows'));
  testTarget('whole documents', () => subject('bson'));
});
