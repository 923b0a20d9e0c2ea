/** Sources and targets alike: a connection plus what is specific. */
import { and, asc, eq, gt, isNull } from 'drizzle-orm';
import { GodwitError } from '../errors.ts';
import type { Sealer } from '../secrets/seal.ts';
import { hidden } from '../secrets/secret.ts';
import {
  type Connection,
  type ConnectionChange,
  type ConnectionDraft,
  changedSecrets,
  getConnection,
  inUse,
  openSecrets,
  refuseTwice,
  sealSecrets,
  secretPurpose,
} from './connections.ts';
import { type Executor, violated } from './open.ts';
import { type Page, type PageWish, pageOf, readCursor } from './paging.ts';
import { connections, jobs, jobUses, type Settings, sources, targets } from './schema.ts';

export type EndpointKind = 'source' | 'target';
/** With the name of the connection it inherits from, and of the job it was written in. */
export type EndpointRow = typeof sources.$inferSelect & {
  readonly connection: string | null;
  readonly job: string | null;
};
export type EndpointDraft = ConnectionDraft & { readonly connection?: string };
export type EndpointChange = ConnectionChange & { readonly connection?: string | null };

/** Settings and secrets with those of the connection below them. References are still references. */
export type Effective = {
  readonly kind: EndpointKind;
  readonly id: string;
  readonly name: string;
  readonly type: string;
  readonly settings: Settings;
  readonly secrets: Readonly<Record<string, string>>;
};

export type Explained = {
  readonly setting: string;
  readonly value: unknown;
  readonly from: EndpointKind | 'connection' | 'default';
  readonly secret: boolean;
  /** What a lower level says and this one overrides. */
  readonly overrides?: unknown;
};

// The two tables have the same columns.
const tableOf = (kind: EndpointKind) => (kind === 'source' ? sources : (targets as unknown as typeof sources));
const missing = (kind: EndpointKind, name: string) =>
  new GodwitError('NOT_FOUND', `There is no ${kind} named "${name}".`);

export async function createEndpoint(
  db: Executor,
  sealer: Sealer,
  { kind, draft, ownerJob }: { readonly kind: EndpointKind; readonly draft: EndpointDraft; readonly ownerJob?: string },
): Promise<void> {
  const id = crypto.randomUUID();
  const { name, type, settings } = draft;
  const connectionId = draft.connection === undefined ? null : await connectionIdOf(db, draft.connection, type);
  const sealed = sealSecrets(sealer, secretPurpose(kind, id), draft.secrets);
  const table = tableOf(kind);
  const made = await db
    .insert(table)
    .values({ id, name, type, settings, connectionId, ownerJob: ownerJob ?? null, ...sealed })
    .onConflictDoNothing({ target: table.name })
    .returning({ id: table.id });
  if (made.length === 0) refuseTwice(kind, name);
}

/** A row of one level holds a whole other system's settings when types differ: refused. */
export async function connectionIdOf(db: Executor, name: string, type: string): Promise<string> {
  const [found] = await db.select().from(connections).where(eq(connections.name, name)).for('key share');
  if (!found) throw new GodwitError('NOT_FOUND', `There is no connection named "${name}".`);
  if (found.type !== type) {
    throw new GodwitError('SETTINGS_INVALID', `The connection "${name}" is of type ${found.type}, not ${type}.`);
  }
  return found.id;
}

const columnsOf = (table: typeof sources) => ({
  id: table.id,
  name: table.name,
  type: table.type,
  connectionId: table.connectionId,
  settings: table.settings,
  secrets: table.secrets,
  secretNames: table.secretNames,
  ownerJob: table.ownerJob,
  createdAt: table.createdAt,
  updatedAt: table.updatedAt,
  connection: connections.name,
  job: jobs.name,
});

const selectEndpoints = (db: Executor, table: typeof sources) =>
  db
    .select(columnsOf(table))
    .from(table)
    .leftJoin(connections, eq(connections.id, table.connectionId))
    .leftJoin(jobs, eq(jobs.id, table.ownerJob))
    .$dynamic();

/** Throws NOT_FOUND. */
export async function getEndpoint(db: Executor, kind: EndpointKind, name: string): Promise<EndpointRow> {
  const table = tableOf(kind);
  const [found] = await selectEndpoints(db, table).where(eq(table.name, name));
  if (!found) throw missing(kind, name);
  return found;
}

export async function getEndpointById(db: Executor, kind: EndpointKind, id: string): Promise<EndpointRow> {
  const table = tableOf(kind);
  const [found] = await selectEndpoints(db, table).where(eq(table.id, id));
  if (!found) throw new GodwitError('NOT_FOUND', `That ${kind} is gone.`);
  return found;
}

/** `inline`: those written inside mappings too. */
export async function listEndpoints(
  db: Executor,
  { kind, inline, limit, cursor }: PageWish & { readonly kind: EndpointKind; readonly inline?: boolean },
): Promise<Page<EndpointRow>> {
  const table = tableOf(kind);
  const after = cursor === undefined ? undefined : gt(table.name, readCursor(cursor, ['string'])[0]);
  const rows = await selectEndpoints(db, table)
    .where(and(after, inline ? undefined : isNull(table.ownerJob)))
    .orderBy(asc(table.name))
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [row.name]);
}

export async function updateEndpoint(
  db: Executor,
  sealer: Sealer,
  { kind, name, change }: { readonly kind: EndpointKind; readonly name: string; readonly change: EndpointChange },
): Promise<void> {
  const table = tableOf(kind);
  await db.transaction(async (tx) => {
    const found = await lockOwn(tx, kind, name);
    if (change.name !== undefined && change.name !== name) await refuseUsed(tx, kind, found);
    const purpose = secretPurpose(kind, found.id);
    const secrets =
      change.secrets && changedSecrets(sealer, purpose, { envelope: found.secrets, change: change.secrets });
    const connectionId = change.connection && (await connectionIdOf(tx, change.connection, found.type));
    try {
      await tx
        .update(table)
        .set({
          ...(change.name === undefined ? {} : { name: change.name }),
          ...(change.settings === undefined ? {} : { settings: change.settings }),
          ...(change.connection === undefined ? {} : { connectionId }),
          ...secrets,
          updatedAt: new Date(),
        })
        .where(eq(table.id, found.id));
    } catch (error) {
      if (violated(error)?.kind === 'unique') refuseTwice(kind, change.name ?? name);
      throw error;
    }
  });
}

/** Throws IN_USE naming the jobs. */
export async function removeEndpoint(db: Executor, kind: EndpointKind, name: string): Promise<void> {
  const table = tableOf(kind);
  await db.transaction(async (tx) => {
    const found = await lockOwn(tx, kind, name);
    await refuseUsed(tx, kind, found);
    await tx.delete(table).where(eq(table.id, found.id));
  });
}

async function lockOwn(tx: Executor, kind: EndpointKind, name: string) {
  const table = tableOf(kind);
  const [found] = await tx.select().from(table).where(eq(table.name, name)).for('update');
  if (!found) throw missing(kind, name);
  if (found.ownerJob !== null) {
    const message = `The ${kind} "${name}" is written inside a job's mapping: change the mapping and apply it.`;
    throw new GodwitError('CONFLICT', message);
  }
  return found;
}

/** Documents name sources and targets, so a new name is as bad for them as none. */
async function refuseUsed(tx: Executor, kind: EndpointKind, { id, name }: { id: string; name: string }): Promise<void> {
  const column = kind === 'source' ? jobUses.sourceId : jobUses.targetId;
  const users = await tx
    .selectDistinct({ name: jobs.name })
    .from(jobUses)
    .innerJoin(jobs, eq(jobs.id, jobUses.jobId))
    .where(eq(column, id));
  if (users.length > 0) {
    throw inUse(
      `${kind} "${name}"`,
      users.map((user) => `job ${user.name}`),
    );
  }
}

/** For workers only: the secrets are in it, references unresolved. */
export async function effectiveEndpoint(
  db: Executor,
  sealer: Sealer,
  { kind, ...by }: { readonly kind: EndpointKind } & ({ readonly name: string } | { readonly id: string }),
): Promise<Effective> {
  const row = 'id' in by ? await getEndpointById(db, kind, by.id) : await getEndpoint(db, kind, by.name);
  const connection = await connectionOf(db, row);
  const below = connection
    ? openSecrets(sealer, secretPurpose('connection', connection.id), connection.secrets)
    : undefined;
  return {
    kind,
    id: row.id,
    name: row.name,
    type: row.type,
    settings: { ...connection?.settings, ...row.settings },
    secrets: { ...below, ...openSecrets(sealer, secretPurpose(kind, row.id), row.secrets) },
  };
}

/** The same for one written inside a mapping that is not applied. */
export async function effectiveInline(
  db: Executor,
  sealer: Sealer,
  { kind, endpoint }: { readonly kind: EndpointKind; readonly endpoint: EndpointDraft },
): Promise<Effective> {
  const { name, type, connection } = endpoint;
  const below = connection === undefined ? undefined : await getConnection(db, connection);
  const secrets = below && openSecrets(sealer, secretPurpose('connection', below.id), below.secrets);
  return {
    kind,
    id: '',
    name,
    type,
    settings: { ...below?.settings, ...endpoint.settings },
    secrets: { ...secrets, ...endpoint.secrets },
  };
}

/** For the test of a connection by itself. */
export async function effectiveConnection(db: Executor, sealer: Sealer, id: string) {
  const [found] = await db.select().from(connections).where(eq(connections.id, id));
  if (!found) throw new GodwitError('NOT_FOUND', 'That connection is gone.');
  const { name, type, settings } = found;
  return { id, name, type, settings, secrets: openSecrets(sealer, secretPurpose('connection', id), found.secrets) };
}

async function connectionOf(db: Executor, row: EndpointRow): Promise<Connection | undefined> {
  if (row.connectionId === null) return undefined;
  const [found] = await db.select().from(connections).where(eq(connections.id, row.connectionId));
  return found;
}

/** Settings with those of the connection, without any secret: what defaults of a mapping are filled from. */
export async function plainSettings(db: Executor, kind: EndpointKind, name: string) {
  const row = await getEndpoint(db, kind, name);
  const connection = await connectionOf(db, row);
  return { id: row.id, type: row.type, settings: { ...connection?.settings, ...row.settings } as Settings };
}

/** Each effective value and the level that set it. `defaults`: what the system assumes. Secrets show as `***`. */
export async function explainEndpoint(
  db: Executor,
  { kind, name, defaults }: { kind: EndpointKind; name: string; defaults: (type: string) => Settings },
): Promise<readonly Explained[]> {
  const row = await getEndpoint(db, kind, name);
  const connection = await connectionOf(db, row);
  const levels = [
    { from: kind, values: shown(row) },
    ...(connection ? [{ from: 'connection' as const, values: shown(connection) }] : []),
    { from: 'default' as const, values: defaults(row.type) },
  ];
  const secrets = new Set([...row.secretNames, ...(connection?.secretNames ?? [])]);
  const names = [...new Set(levels.flatMap(({ values }) => Object.keys(values)))].sort();
  return names.map((setting) => {
    const [first, second] = levels.filter(({ values }) => values[setting] !== undefined);
    const overrides = second?.values[setting];
    return {
      setting,
      value: first?.values[setting],
      from: first?.from ?? 'default',
      secret: secrets.has(setting),
      ...(overrides === undefined ? {} : { overrides }),
    };
  });
}

const shown = (row: { settings: Settings; secretNames: string[] }): Settings => ({
  ...row.settings,
  ...Object.fromEntries(row.secretNames.map((name) => [name, hidden])),
});
