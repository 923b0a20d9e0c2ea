/** MySQL 5.7 to 9 and MariaDB 10.6 and later as a target. */
import { GodwitError } from '../../errors.ts';
import type { Format, TableName, Target, Work } from '../contract.ts';
import { databaseIdentity } from './identity.ts';
import { SessionPool } from './pool.ts';
import { openSession, type Session, type SessionOptions } from './session.ts';
import { type MysqlAddress, type MysqlSettings, resolve } from './settings.ts';
import { digestKind } from './sweep.ts';
import { checkTarget } from './target/check.ts';
import { checkpointsOf, claimChunk } from './target/claim.ts';
import { discardWork } from './target/discard.ts';
import { finishWork } from './target/finish.ts';
import { fitTable } from './target/fit.ts';
import { Ledger } from './target/ledger.ts';
import type { Books } from './target/names.ts';
import { prepareWork } from './target/prepare.ts';
import { publishWorks } from './target/publish.ts';
import { describeTable, driftNotes, refusalsOf } from './target/refusals.ts';
import { rememberState } from './target/remember.ts';
import { sizer } from './target/size.ts';
import { stateOf } from './target/state.ts';
import { deleteKeys, targetDigest, targetKeys } from './target/sweep.ts';
import { writeChunk } from './target/write.ts';

const formats: readonly Format[] = ['pg-text', 'rows'];

/** Of every session. Warnings are what tells that a value was changed: all kinds of them are counted. */
const writing: SessionOptions = {
  localInfile: true,
  lockTimeout: 5_000,
  set: { sql_notes: '1', wait_timeout: '1800' },
};

/** Opens no connection yet. Throws SETTINGS_INVALID. */
export function openTarget(settings: MysqlSettings): Target {
  const address = resolve(settings);
  // Without a database: the one to be written to may still have to be made.
  const pool = new SessionPool({ ...address, database: '' }, writing);
  const ledger = new Ledger(pool, address);
  const sizesOf = sizer();
  const withLedger = async <T>(work: (session: Session, books: Books) => Promise<T>): Promise<T> => {
    const books = await ledger.ensure();
    return await pool.use((session) => work(session, books));
  };
  /** The table's name as this server keeps it: some know no upper case. */
  const kept = async (session: Session, { schema, name }: TableName): Promise<TableName> =>
    (await ledger.folds(session)) ? { schema: schema.toLowerCase(), name: name.toLowerCase() } : { schema, name };
  const here = async (session: Session, work: Work): Promise<Work> => ({
    ...work,
    name: await kept(session, work.name),
  });
  return {
    system: 'mysql',
    formats,
    // In bytes; `refusals` counts the 64 characters.
    nameLimit: 256,
    holds: { endOfDay: true },
    identity: () => identityOf(address),
    check: () => checkTarget(address),
    fit: fitTable,
    describe: (name) =>
      pool.use(async (session) => describeTable(session, await kept(session, name), await ledger.find(session))),
    refusals: (work) =>
      pool.use(async (session) => refusalsOf(session, await here(session, work), await ledger.find(session))),
    drift: (work) => pool.use(async (session) => driftNotes(session, await here(session, work))),
    prepare: (work) => withLedger(async (session, books) => prepareWork(session, books, await here(session, work))),
    async claim(work, chunk) {
      const books = await ledger.ensure();
      return await claimChunk(pool, books, await pool.use((session) => here(session, work)), chunk);
    },
    async write(work, claim, batches, options) {
      const books = await ledger.ensure();
      const mine = await pool.use((session) => here(session, work));
      return await writeChunk({ pool, books, work: mine, claim, options }, batches);
    },
    finish: (work) => withLedger(async (session, books) => finishWork(session, books, await here(session, work))),
    publish: (works, missing) =>
      withLedger(async (session, books) => {
        const mine = await Promise.all(works.map((work) => here(session, work)));
        return await publishWorks(session, books, mine, missing);
      }),
    discard: (work) => withLedger(async (session, books) => discardWork(session, books, await here(session, work))),
    async *checkpoints(work) {
      const books = await ledger.ensure();
      yield* checkpointsOf(pool, books, await pool.use((session) => here(session, work)));
    },
    refusesMode: () => undefined,
    sizes: (names) =>
      pool.use(async (session) => sizesOf(session, await Promise.all(names.map((name) => kept(session, name))))),
    state: (work) =>
      pool.use(async (session) => {
        const books = await ledger.find(session);
        return books && (await stateOf(session, books, await here(session, work)));
      }),
    remember: (work, state) =>
      withLedger(async (session, books) => rememberState(session, books, await here(session, work), state)),
    async *keys(work, range, signal) {
      yield* targetKeys(pool, await pool.use((session) => here(session, work)), range, signal);
    },
    digestKind,
    digest: async (work, range, signal) =>
      await targetDigest(pool, await pool.use((session) => here(session, work)), range, signal),
    async deleteKeys(work, claim, keys, signal) {
      const books = await ledger.ensure();
      const mine = await pool.use((session) => here(session, work));
      return await deleteKeys({ pool, books, work: mine, claim, signal }, keys);
    },
    [Symbol.asyncDispose]: () => pool[Symbol.asyncDispose](),
  };
}

/** A database that is still to be made is another one than any there is. */
async function identityOf(address: MysqlAddress): Promise<string> {
  try {
    await using session = await openSession(address);
    return await databaseIdentity(session);
  } catch (error) {
    if (!(error instanceof GodwitError) || error.code !== 'DATABASE_MISSING') throw error;
    await using session = await openSession({ ...address, database: 'information_schema' });
    return (await databaseIdentity(session)).replace(/[^/]*$/, address.database);
  }
}
