/** PostgreSQL 13 to 18 as a source. */
import type { Source, TableName } from '../contract.ts';
import { checkSource } from './check.ts';
import { describeTables, listTables } from './describe.ts';
import { exactFormats } from './exact.ts';
import { databaseIdentity } from './identity.ts';
import { digestKind } from './keys.ts';
import { ended } from './pending.ts';
import { SessionPool } from './pool.ts';
import { readChunk, readFormats } from './read.ts';
import { type PostgresSettings, resolve } from './settings.ts';
import { openSnapshot } from './snapshot.ts';
import { splitTable } from './split.ts';
import { keyRanges, sourceDigest, sourceKeys } from './sweep.ts';
import { takeWatermark } from './watermark.ts';

/** Opens no connection yet. Throws SETTINGS_INVALID. */
export function openSource(settings: PostgresSettings): Source {
  const address = resolve(settings);
  const pool = new SessionPool(address);
  const named = (name: TableName): TableName => ({
    schema: name.schema || address.schema || 'public',
    name: name.name,
  });
  return {
    system: 'postgres',
    formats: readFormats,
    identity: () => pool.use(databaseIdentity),
    check: () => checkSource(address),
    tables: () => pool.use(listTables),
    async describe(name) {
      const [table] = await pool.use((session) => describeTables(session, [named(name)]));
      if (!table || table instanceof Error) throw table ?? new Error('nothing was described');
      return table;
    },
    describeAll: (names) => pool.use((session) => describeTables(session, names.map(named))),
    open: () => openSnapshot(address),
    split: (table, options) => splitTable(pool, table, options),
    read: (table, chunk, want) => readChunk(pool, table, chunk, want),
    exactFormats,
    watermark: (table, follow, options) => takeWatermark(pool, table, follow, options),
    ended,
    keyRanges: (table, key, options) => keyRanges(pool, table, key, options),
    keys: (table, key, range, want) => sourceKeys(pool, table, key, { range, want }),
    digestKind,
    digest: (table, key, range, want) => sourceDigest(pool, table, key, { range, want }),
    [Symbol.asyncDispose]: () => pool[Symbol.asyncDispose](),
  };
}
