import type { Work } from '../../connectors/contract.ts';
import { openTarget } from '../../connectors/mysql/target.ts';
import type { MysqlKind } from '../../servers/mysql.ts';
import { type IncrementalSubject, testIncrementalTarget } from './incremental-target.ts';
import {
  batchesOf,
  connect,
  describeKinds,
  dropAll,
  leftovers,
  plainWorks,
  quoted,
  serverUrl,
  visible,
  within,
} from './mysql-works.ts';

async function subject(format: 'rows' | 'pg-text', kind: MysqlKind): Promise<IncrementalSubject> {
  const url = await serverUrl(kind);
  const client = await connect(url);
  const { work, prefix, made } = plainWorks();
  return {
    open: () => openTarget({ url: within(url, prefix) }),
    work: (over) => work({ mode: 'syncing', writeFormat: format, readFormat: format, ...over }),
    batches: (one, rows) => batchesOf(one.writeFormat as 'rows' | 'pg-text', rows),
    visible: (one) => visible(client, one),
    leftovers: () => leftovers(client, prefix, made),
    drop: async ({ name }: Work) => {
      await client.query(`DROP TABLE ${quoted(name)}`);
    },
    bring: async ({ name }: Work, rows) => {
      await client.query(`CREATE DATABASE IF NOT EXISTS ${quoted(name).split('.')[0]} CHARACTER SET utf8mb4`);
      await client.query(`CREATE TABLE ${quoted(name)} (id int NOT NULL PRIMARY KEY, v longtext)`);
      for (const row of rows) await client.query(`INSERT INTO ${quoted(name)} VALUES (?, ?)`, [...row]);
    },
    ...(format === 'rows' ? { bad: ['no number', 'bad'] } : {}),
    async [Symbol.asyncDispose]() {
      await dropAll(client, prefix);
      await client.end();
    },
  };
}

await describeKinds(', incremental modes', (kind) => {
  testIncrementalTarget('rows', () => subject('rows', kind));
  testIncrementalTarget('LOAD DATA of pg-text', () => subject('pg-text', kind));
});
