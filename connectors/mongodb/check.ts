/** What must be true before a run, asked of the server: each answer with what to do about it. */
import { GodwitError } from '../../errors.ts';
import { type Check, tableText } from '../contract.ts';
import { listTables } from './describe.ts';
import { openSession, type ServerFacts, type Session } from './session.ts';
import type { MongoAddress } from './settings.ts';

const pass = (name: string, detail: string): Check => ({ name, outcome: 'pass', detail });
const warn = (name: string, detail: string, fix: string): Check => ({ name, outcome: 'warn', detail, fix });
const fail = (name: string, detail: string, fix: string): Check => ({ name, outcome: 'fail', detail, fix });

/** What the driver speaks with, by the number of the protocol: 4.4. */
const oldest = { wire: 9, version: '4.4' };

/** Never throws for what it finds: a server that cannot be reached is a failed check. */
export async function checkSource(address: MongoAddress): Promise<Check[]> {
  const reached = await reach(address);
  if (!('session' in reached)) return reached.checks;
  await using session = reached.session;
  const facts = await session.facts();
  return [
    ...reached.checks,
    checkVersion(facts),
    checkTopology(facts),
    checkClock(facts),
    await checkReadable(session),
  ];
}

/** `server` and `login`, which a target asks as well. */
export async function reach(
  address: MongoAddress,
): Promise<{ checks: Check[]; session: Session } | { checks: Check[] }> {
  const place = address.hosts.join(',');
  try {
    const session = await openSession(address);
    const who = address.user === undefined ? 'Everybody may' : `${address.user} may`;
    const checks = [pass('server', `${place} answers.`), pass('login', `${who} log in.`)];
    return { checks, session };
  } catch (error) {
    if (!(error instanceof GodwitError)) throw error;
    const fix = fixes[error.code] ?? `See ${error.code} in the list of errors.`;
    if (error.code !== 'LOGIN_REFUSED' && error.code !== 'PRIVILEGE_MISSING') {
      return { checks: [fail('server', error.message, fix)] };
    }
    return { checks: [pass('server', `${place} answers.`), fail('login', error.message, fix)] };
  }
}

const fixes: Readonly<Partial<Record<string, string>>> = {
  CONNECTION_FAILED: 'Check that the server runs, listens on this address, and lets the worker through its firewall.',
  UNKNOWN_HOST: 'Correct the host.',
  TLS_FAILED: 'Give the right tls_ca, or set tls to what the server offers.',
  LOGIN_REFUSED: 'Correct username and password, and auth_source: the database the user is defined in.',
  PRIVILEGE_MISSING: 'Grant the role `read` on the database to the login.',
  SERVER_UNSUITABLE: `Use MongoDB ${oldest.version} or later.`,
};

export const checkVersion = ({ version, wire }: ServerFacts): Check =>
  wire < oldest.wire
    ? fail('version', `MongoDB ${version.join('.')}; Godwit needs ${oldest.version} or later.`, 'Upgrade the server.')
    : pass('version', `MongoDB ${version.join('.')}.`);

function checkTopology({ set, mongos, writable }: ServerFacts): Check {
  if (mongos) return pass('topology', 'A sharded cluster, by its router.');
  if (!set) return pass('topology', 'A single server: it can be copied; its changes cannot be followed.');
  const members = set.members.length;
  return pass(
    'topology',
    `Replica set ${set.name} of ${members} ${writable ? '(the primary answers)' : '(a secondary answers)'}.`,
  );
}

export function checkClock({ now }: ServerFacts): Check {
  const skew = Math.round((now - Date.now()) / 1000);
  if (Math.abs(skew) <= 60) return pass('clock', 'The clocks of server and worker agree.');
  const detail = `The server's clock is ${Math.abs(skew)} s ${skew > 0 ? 'ahead' : 'behind'}.`;
  return warn('clock', detail, 'Let both keep time by NTP.');
}

async function checkReadable(session: Session): Promise<Check> {
  const fix = `Grant the role \`read\` on ${session.db.databaseName} to the login.`;
  try {
    const tables = await session.run(() => listTables(session));
    const closed = tables.filter((table) => !table.readable);
    if (tables.length === 0) {
      return warn('privileges', 'No collection is visible to this login.', `Check db_name. ${fix}`);
    }
    if (closed.length === 0) return pass('privileges', `All ${tables.length} collections may be read.`);
    const some = closed.slice(0, 5).map((table) => tableText(table.name));
    const detail = `${closed.length} of ${tables.length} collections may not be read: ${some.join(', ')}${closed.length > 5 ? ', …' : ''}`;
    return (closed.length === tables.length ? fail : warn)('privileges', detail, fix);
  } catch (error) {
    return fail('privileges', error instanceof GodwitError ? error.message : String(error), fix);
  }
}
