/** PostgreSQL 13 to 18 as a target. */
import type { Format, Target } from '../contract.ts';
import { databaseIdentity } from './identity.ts';
import { digestKind } from './keys.ts';
import { SessionPool } from './pool.ts';
import type { Session, SessionOptions } from './session.ts';
import { type PostgresSettings, resolve } from './settings.ts';
import { checkTarget } from './target/check.ts';
import { checkpointsOf, claimChunk } from './target/claim.ts';
import { discardWork } from './target/discard.ts';
import { finishWork } from './target/finish.ts';
import { fitTable } from './target/fit.ts';
import { Ledger } from './target/ledger.ts';
import { prepareWork } from './target/prepare.ts';
import { publishWorks } from './target/publish.ts';
import { describeTable, driftNotes, refusalsOf } from './target/refusals.ts';
import { sizesOf } from './target/size.ts';
import { rememberedState, rememberState } from './target/state.ts';
import { deleteChunk, digestOf, keysIn } from './target/sweep.ts';
import { writeChunk } from './target/write.ts';

const formats: readonly Format[] = ['pg-binary', 'pg-text', 'rows'];

/** Of every session: durable commits, and no lock kept for a worker that is gone. */
const writing: SessionOptions = {
  lockTimeout: 5_000,
  idleInTransactionTimeout: 300_000,
  set: { synchronous_commit: 'on', tcp_user_timeout: '60000' },
};

/** Opens no connection yet. Throws SETTINGS_INVALID. */
export function openTarget(settings: PostgresSettings): Target {
  const address = resolve(settings);
  const pool = new SessionPool(address, writing);
  const ledger = new Ledger(pool);
  const withLedger = async <T>(work: (session: Session) => Promise<T>): Promise<T> => {
    await ledger.ensure();
    return await pool.use(work);
  };
  return {
    system: 'postgres',
    formats,
    takesFrames: true,
    partitions: ['datetime'],
    nameLimit: 63,
    holds: { endOfDay: true, years: 'postgres' },
    lenient: true,
    identity: () => pool.use(databaseIdentity),
    check: () => checkTarget(address),
    fit: fitTable,
    describe: (name) => pool.use(async (session) => describeTable(session, name, await ledger.exists(session))),
    refusals: (work) => pool.use(async (session) => refusalsOf(session, work, await ledger.exists(session))),
    drift: (work) => pool.use((session) => driftNotes(session, work)),
    prepare: (work) => withLedger((session) => prepareWork(session, work)),
    async claim(work, chunk) {
      await ledger.ensure();
      return await claimChunk(pool, work, chunk);
    },
    write: (work, claim, batches, options) => writeChunk({ pool, address, work, claim, options }, batches),
    finish: (work) => withLedger((session) => finishWork(session, work)),
    publish: (works, missing) => withLedger((session) => publishWorks(session, works, missing)),
    discard: (work) => withLedger((session) => discardWork(session, work)),
    async *checkpoints(work) {
      await ledger.ensure();
      yield* checkpointsOf(pool, work);
    },
    refusesMode: () => undefined,
    sizes: (names) => pool.use((session) => sizesOf(session, names)),
    state: (work) => pool.use((session) => rememberedState(session, work)),
    remember: (work, state) => withLedger((session) => rememberState(session, { ...work, state })),
    keys: (work, range, signal) => keysIn(pool, work, { range, signal }),
    digestKind,
    digest: (work, range, signal) => digestOf(pool, work, { range, signal }),
    deleteKeys: (work, claim, keys, signal) =>
      deleteChunk({ pool, address, work, claim, options: { signal, quarantine: async () => {} } }, keys),
    [Symbol.asyncDispose]: () => pool[Symbol.asyncDispose](),
  };
}
