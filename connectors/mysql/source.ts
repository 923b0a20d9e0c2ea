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
import { splitTable } from './split.ts';

/** Opens no connection yet. Throws SETTINGS_INVALID. */
export function openSource(settings: MysqlSettings): Source {
  const address = resolve(settings);
  const pool = new SessionPool(address);
  const schema = address.schema ?? address.database;
  const named = (name: TableName): TableName => ({ schema: name.schema || schema, name: name.name });
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
    open: () => pool.use(openSnapshot),
    split: (table, options) => splitTable(pool, table, options),
    read: (table, chunk, want) => readChunk(pool, table, chunk, want),
    exactFormats,
    [Symbol.asyncDispose]: () => pool[Symbol.asyncDispose](),
  };
}
