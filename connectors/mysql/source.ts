/** MySQL 5.7 to 9 and MariaDB 10.6 and later as a source. A schema is a database of the server. */
import type { Source, TableName } from '../contract.ts';
import { checkSource } from './check.ts';
import { describeTables, listTables } from './describe.ts';
import { exactFormats } from './exact.ts';
import { databaseIdentity } from './identity.ts';
import { SessionPool } from './pool.ts';
import { readChunk, readFormats } from './read.ts';
import { type MysqlSettings, resolve } from './settings.ts';
import { openSnapshot } from './snapshot.ts';
import { keyRanges, sourceDigest, sourceKeys } from './source-keys.ts';
import { splitTable } from './split.ts';
import { digestKind } from './sweep.ts';
import { transactionLog } from './transactions.ts';
import { ended, watermarkOf } from './watermark.ts';

/** Opens no connection yet. Throws SETTINGS_INVALID. */
export function openSource(settings: MysqlSettings): Source {
  const address = resolve(settings);
  const pool = new SessionPool(address);
  const schema = address.schema ?? address.database;
  const named = (name: TableName): TableName => ({ schema: name.schema || schema, name: name.name });
  const transactions = transactionLog(pool);
  return {
    system: 'mysql',
    formats: readFormats,
    identity: () => pool.use(databaseIdentity),
    check: () => checkSource(address),
    tables: () => pool.use((session) => listTables(session, schema)),
    async describe(name) {
      const [table] = await pool.use((session) => describeTables(session, [named(name)]));
      if (!table || table instanceof Error) throw table ?? new Error('nothing was described');
      return table;
    },
    describeAll: (names) => pool.use((session) => describeTables(session, names.map(named))),
    open: () => pool.use((session) => openSnapshot(session, transactions)),
    split: (table, options) => splitTable(pool, table, options),
    read: (table, chunk, want) => readChunk(pool, table, chunk, want),
    exactFormats,
    watermark: (table, follow, options) => watermarkOf(pool, transactions, table, follow, options),
    ended,
    keyRanges: (table, key, options) => keyRanges(pool, table, key, options),
    keys: (table, key, range, want) => sourceKeys(pool, table, key, range, want),
    digestKind,
    digest: (table, key, range, want) => sourceDigest(pool, table, key, range, want),
    [Symbol.asyncDispose]: () => pool[Symbol.asyncDispose](),
  };
}
