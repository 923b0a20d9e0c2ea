/** Which database this is, the same by whatever address it is reached (decision 4). */
import { numberOf } from './errors.ts';
import type { Session } from './session.ts';

/**
 * A sharded cluster has an id. A replica set is known by its name and the members' own addresses, together with the
 * process that is primary: two sets set up alike on two machines may have the same names. A single server is known by its
 * process.
 */
export async function databaseIdentity(session: Session, hosts: readonly string[]): Promise<string> {
  const facts = await session.facts();
  const process = facts.process ?? (await oldProcess(session));
  const database = session.db.databaseName;
  const cluster = facts.mongos ? await clusterId(session) : undefined;
  if (cluster !== undefined) return `mongodb:cluster-${cluster}/${database}`;
  if (facts.set) {
    const primary = facts.writable && process !== undefined ? `@${process}` : '';
    return `mongodb:${facts.set.name}(${facts.set.members.join(',')})${primary}/${database}`;
  }
  return `mongodb:${process ?? [...hosts].sort().join(',')}/${database}`;
}

async function clusterId(session: Session): Promise<string | undefined> {
  try {
    const found = await session.client
      .db('config')
      .collection<{ _id: number; clusterId: unknown }>('version')
      .findOne();
    return found ? String(found.clusterId) : undefined;
  } catch (error) {
    if (numberOf(error) === undefined) throw error;
    return undefined;
  }
}

/** Servers that do not name their process in the greeting may do so in their statistics. */
async function oldProcess(session: Session): Promise<string | undefined> {
  try {
    const { host, pid } = await session.client.db('admin').command({ serverStatus: 1 });
    return host === undefined || pid === undefined ? undefined : `${host}#${pid}`;
  } catch (error) {
    if (numberOf(error) === undefined) throw error;
    return undefined;
  }
}
