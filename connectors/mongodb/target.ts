/** MongoDB 4.4 and later as a target: a single server, a replica set, or a sharded cluster by its router. */
import type { Format, Target, Work } from '../contract.ts';
import { tableText } from '../contract.ts';
import { databaseIdentity } from './identity.ts';
import { LazySession, type Session } from './session.ts';
import { type MongoSettings, resolve } from './settings.ts';
import { checkTarget } from './target/check.ts';
import { checkpointsOf, claimChunk } from './target/claim.ts';
import { discardWork } from './target/discard.ts';
import { finishWork } from './target/finish.ts';
import { fitTable } from './target/fit.ts';
import { keysOfTable } from './target/keys.ts';
import { type Ledger, ledgerOf } from './target/ledger.ts';
import { prepareWork } from './target/prepare.ts';
import { publishWorks } from './target/publish.ts';
import { describeTable, refusalsOf } from './target/refusals.ts';
import { sizesOf } from './target/size.ts';
import { rememberForeign, stateOf } from './target/state.ts';
import { deleteVanished } from './target/vanished.ts';
import { writeChunk } from './target/write.ts';

const formats: readonly Format[] = ['bson', 'rows'];

/** Opens no connection yet. Throws SETTINGS_INVALID. */
export function openTarget(settings: MongoSettings): Target {
  // What was written is read back: by the primary, whatever a shared connection says.
  const address = { ...resolve(settings), readPreference: 'primary' as const };
  const lazy = new LazySession(address);
  const databaseOf = (session: Session, schema: string) => session.client.db(schema || address.database);
  const ledgerFor = (session: Session, work: Work): Ledger => ledgerOf(databaseOf(session, work.name.schema));
  const withLedger = <T>(work: Work, use: (ledger: Ledger) => Promise<T>): Promise<T> =>
    lazy.use((session) => use(ledgerFor(session, work)), { table: tableText(work.name), target: work.target });
  return {
    system: 'mongodb',
    formats,
    documents: true,
    // Of database and collection together; `refusals` knows what is left beside the other.
    nameLimit: 253,
    holds: { endOfDay: true, years: 'finite' },
    identity: () => lazy.use((session) => databaseIdentity(session, address.hosts)),
    check: () => checkTarget(address),
    fit: fitTable,
    describe: (name) => lazy.use((session) => describeTable(databaseOf(session, name.schema), name)),
    refusals: (work) => lazy.use((session) => refusalsOf(session, (one) => ledgerFor(session, one), work)),
    prepare: (work) => withLedger(work, (ledger) => prepareWork(ledger, work)),
    claim: (work, chunk) => withLedger(work, (ledger) => claimChunk(ledger, work, chunk)),
    async write(work, claim, batches, options) {
      const session = await lazy.get();
      return await writeChunk({ ledger: ledgerFor(session, work), work, claim, options }, batches);
    },
    finish: (work) => withLedger(work, (ledger) => finishWork(ledger, work)),
    publish: (works) => lazy.use((session) => publishWorks((work) => ledgerFor(session, work), works)),
    discard: (work) => withLedger(work, (ledger) => discardWork(ledger, work)),
    async *checkpoints(work) {
      yield* checkpointsOf(await withLedger(work, async (ledger) => ledger), work);
    },
    // Of keys alone it may refuse some: `refusals`.
    refusesMode: () => undefined,
    sizes: (names) => lazy.use((session) => sizesOf((schema) => databaseOf(session, schema), names)),
    state: (work) => withLedger(work, (ledger) => stateOf(ledger, work)),
    remember: (work, state) => withLedger(work, (ledger) => rememberForeign(ledger, work, state)),
    async *keys(work, range, signal) {
      const session = await lazy.get();
      yield* keysOfTable(databaseOf(session, work.name.schema), work, range, signal);
    },
    async deleteKeys(work, claim, keys, signal) {
      const session = await lazy.get();
      return await deleteVanished({ ledger: ledgerFor(session, work), work, claim, signal }, keys);
    },
    [Symbol.asyncDispose]: () => lazy[Symbol.asyncDispose](),
  };
}
