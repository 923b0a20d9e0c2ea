import type { Batch, BytesBatch, Work } from '../../connectors/contract.ts';
import { openTarget } from '../../connectors/postgres/target.ts';
import type { Row } from '../../connectors/types.ts';
import { createDatabase } from '../servers/shared.ts';
import { type IncrementalSubject, testIncrementalTarget } from './incremental-target.ts';
import {
  connect,
  contents,
  describeVersions,
  give,
  leftovers,
  plainWork,
  quoted,
  type Version,
  visible,
} from './postgres-works.ts';

/** COPY text of `id`, `v`, without frames and in two pieces cut within a row. */
function textBatches(rows: readonly Row[]): Batch[] {
  const text = Buffer.from(rows.map(([id, v]) => `${id}\t${v ?? '\\N'}\n`).join(''));
  const cut = text.length >> 1;
  const piece = (bytes: Uint8Array, last?: number): BytesBatch => ({ kind: 'bytes', bytes: [bytes], rows: last });
  return [piece(text.subarray(0, cut)), piece(text.subarray(cut), rows.length)];
}

const batchesOf = (work: Work, rows: readonly Row[]) =>
  give(work.writeFormat === 'pg-text' ? textBatches(rows) : rows.length === 0 ? [] : [{ kind: 'rows', rows }]);

async function subject(format: 'rows' | 'pg-text', version: Version): Promise<IncrementalSubject> {
  const database = await createDatabase(undefined, { version });
  const client = await connect(database);
  return {
    open: () => openTarget({ url: database.url }),
    work: (over) => plainWork({ mode: 'syncing', writeFormat: format, readFormat: format, ...over }),
    batches: batchesOf,
    visible: (work) => visible(client, work),
    leftovers: () => leftovers(client),
    drop: async ({ name }) => void (await client.query(`DROP TABLE ${quoted(name)}`)),
    versions: (work) => contents(client, `SELECT xmin || ' ' || ctid AS x FROM ${quoted(work.name)} ORDER BY id`),
    bring: async ({ name }, rows) => {
      await client.query(`CREATE SCHEMA IF NOT EXISTS ${quoted(name).split('.')[0]}`);
      await client.query(`CREATE TABLE ${quoted(name)} (id integer NOT NULL, v text)`);
      for (const row of rows) await client.query(`INSERT INTO ${quoted(name)} VALUES ($1, $2)`, [...row]);
    },
    ...(format === 'rows' ? { bad: [2, 'a\0b'] } : {}),
    async [Symbol.asyncDispose]() {
      await client.end();
      await database.drop();
    },
  };
}

const oldestAndNewest = [undefined, 13] as const;

await describeVersions(
  ', incremental modes',
  (version) => {
    testIncrementalTarget('rows', () => subject('rows', version));
    testIncrementalTarget('COPY text', () => subject('pg-text', version));
  },
  oldestAndNewest,
);
