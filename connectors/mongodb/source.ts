/** MongoDB 4.4 and later as a source. */
import type { DocumentShape, Source, TableName } from '../contract.ts';
import { checkSource } from './check.ts';
import { describeTables, listTables } from './describe.ts';
import { exactFormats } from './exact.ts';
import { databaseIdentity } from './identity.ts';
import { keyRangesOf, keysIn } from './keys.ts';
import { readChunk, readFormats } from './read.ts';
import { LazySession } from './session.ts';
import { type MongoSettings, resolve } from './settings.ts';
import { openMoment } from './snapshot.ts';
import { splitTable } from './split.ts';
import { watermarkOf } from './watermark.ts';

/** The mapping manual's: every field a text, `_id` the key. */
const byTheManual: DocumentShape = { as: 'fields', casts: {} };

/** Opens no connection yet. Throws SETTINGS_INVALID. */
export function openSource(settings: MongoSettings): Source {
  const address = resolve(settings);
  const lazy = new LazySession(address);
  const named = (name: TableName): TableName => ({ schema: name.schema || address.database, name: name.name });
  return {
    system: 'mongodb',
    formats: readFormats,
    documents: true,
    identity: () => lazy.read((session) => databaseIdentity(session, address.hosts)),
    check: () => checkSource(address),
    tables: () => lazy.read(listTables),
    async describe(name, shape = byTheManual) {
      const [table] = await lazy.read((session) => describeTables(session, [named(name)], shape));
      if (!table || table instanceof Error) throw table ?? new Error('nothing was described');
      return table;
    },
    describeAll: (names, shape = byTheManual) =>
      lazy.read((session) => describeTables(session, names.map(named), shape)),
    open: () => openMoment(lazy),
    split: (table, options) => splitTable(lazy, table, options),
    read: (table, chunk, want) => readChunk(lazy, table, chunk, want),
    exactFormats,
    watermark: (table, follow, options) => watermarkOf(lazy, table, follow, options),
    keyRanges: (table, key, options) => keyRangesOf(lazy, table, key, options),
    keys: (table, key, range, want) => keysIn(lazy, table, key, range, want),
    [Symbol.asyncDispose]: () => lazy[Symbol.asyncDispose](),
  };
}
