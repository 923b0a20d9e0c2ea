/** What must be true of a target before a run. It is tried: roles are too many to be read. */
import { randomBytes } from 'node:crypto';
import type { Db } from 'mongodb';
import { type Check, tableText } from '../../contract.ts';
import { checkClock, checkVersion, reach } from '../check.ts';
import { numberOf, translate } from '../errors.ts';
import type { ServerFacts } from '../session.ts';
import type { MongoAddress } from '../settings.ts';
import { dropCollection, makeCollection, renameCollection } from './collections.ts';
import { durably } from './insert.ts';

const pass = (name: string, detail: string): Check => ({ name, outcome: 'pass', detail });
const fail = (name: string, detail: string, fix: string): Check => ({ name, outcome: 'fail', detail, fix });

export async function checkTarget(address: MongoAddress): Promise<Check[]> {
  const reached = await reach(address);
  if (!('session' in reached)) return reached.checks;
  await using session = reached.session;
  const facts = await session.facts();
  const checks = [...reached.checks, checkVersion(facts), checkWritable(facts), checkClock(facts), durability(facts)];
  if (checks.some(({ outcome }) => outcome === 'fail')) return checks;
  const database = address.schema ?? address.database;
  return [...checks, await trial(session.client.db(database), database)];
}

const checkWritable = ({ writable }: ServerFacts): Check =>
  writable
    ? pass('writable', 'The server takes writes.')
    : fail(
        'writable',
        'The member that answers is a secondary.',
        'Name the whole replica set, not one member with `direct`.',
      );

const durability = ({ set, mongos }: ServerFacts): Check =>
  set || mongos
    ? pass('durability', 'Writes are confirmed by a majority of the members and are in their journals.')
    : pass('durability', 'A single server: writes are confirmed when they are in its journal.');

/** All that a run does, on collections of a name nobody has; nothing is left of it. */
async function trial(db: Db, database: string): Promise<Check> {
  const name = 'privileges';
  const of = (ending: string) => `_godwit.check_${ending}`;
  const once = randomBytes(6).toString('hex');
  const [from, to] = [of(`${once}_a`), of(`${once}_b`)];
  try {
    try {
      await makeCollection(db, from, {});
      await db.command({ insert: from, documents: [{ _id: 1 }, { _id: 2 }], writeConcern: durably });
      await db.command({ delete: from, deletes: [{ q: { _id: 2 }, limit: 1 }], writeConcern: durably });
      await db.command({ createIndexes: from, indexes: [{ key: { a: 1 }, name: 'a' }] });
      await makeCollection(db, to, {});
      await renameCollection(db, from, to, true);
    } finally {
      await dropCollection(db, from);
      await dropCollection(db, to);
    }
    return pass(name, `The login may make, fill, index, rename and drop collections in ${database}.`);
  } catch (error) {
    if (numberOf(error) === undefined) throw translate(error, { table: tableText({ schema: database, name: from }) });
    const detail = `Collections in ${database} cannot be made, filled, indexed, renamed and dropped: ${translate(error).message}`;
    return fail(name, detail, `Grant the role \`readWrite\` on ${database} to the login.`);
  }
}
