import { asc, eq, gt } from 'drizzle-orm';
import { GodwitError } from '../errors.ts';
import type { Sealer } from '../secrets/seal.ts';
import { type Executor, violated } from './open.ts';
import { type Page, type PageWish, pageOf, readCursor } from './paging.ts';
import { connections, type Settings, sources, targets } from './schema.ts';

export type Connection = typeof connections.$inferSelect;

export type ConnectionDraft = {
  readonly name: string;
  readonly type: string;
  readonly settings: Settings;
  /** Values or references, to be sealed. */
  readonly secrets: Readonly<Record<string, string>>;
};

/** A change: what is absent stays. A secret given as null is removed. */
export type ConnectionChange = {
  readonly name?: string;
  readonly settings?: Settings;
  readonly secrets?: Readonly<Record<string, string | null>>;
};

export type SecretOwner = 'connection' | 'source' | 'target';

/** An envelope opens only for the row it was sealed for. */
export const secretPurpose = (kind: SecretOwner, id: string): string => `${kind}/${id}`;

export function sealSecrets(sealer: Sealer, purpose: string, secrets: Readonly<Record<string, string>>) {
  const names = Object.keys(secrets).sort();
  return { secrets: names.length > 0 ? sealer.sealJson(secrets, purpose) : null, secretNames: names };
}

/** Secrets as stored (references unresolved). */
export const openSecrets = (sealer: Sealer, purpose: string, envelope: Buffer | null): Record<string, string> =>
  envelope === null ? {} : sealer.openJson<Record<string, string>>(envelope, purpose);

/** Secrets after a change: null removes one. */
export function changedSecrets(
  sealer: Sealer,
  purpose: string,
  { envelope, change }: { envelope: Buffer | null; change: Readonly<Record<string, string | null>> },
) {
  const merged = Object.entries({ ...openSecrets(sealer, purpose, envelope), ...change });
  const kept = merged.filter((entry): entry is [string, string] => entry[1] !== null);
  return sealSecrets(sealer, purpose, Object.fromEntries(kept));
}

export async function createConnection(db: Executor, sealer: Sealer, draft: ConnectionDraft): Promise<Connection> {
  const id = crypto.randomUUID();
  const { name, type, settings } = draft;
  const sealed = sealSecrets(sealer, secretPurpose('connection', id), draft.secrets);
  const made = await db
    .insert(connections)
    .values({ id, name, type, settings, ...sealed })
    .onConflictDoNothing({ target: connections.name })
    .returning();
  return made[0] ?? refuseTwice('connection', name);
}

export function refuseTwice(kind: string, name: string): never {
  throw new GodwitError('ALREADY_EXISTS', `There is a ${kind} named "${name}" already.`);
}

/** Throws NOT_FOUND. */
export async function getConnection(db: Executor, name: string): Promise<Connection> {
  const [found] = await db.select().from(connections).where(eq(connections.name, name));
  if (!found) throw new GodwitError('NOT_FOUND', `There is no connection named "${name}".`);
  return found;
}

export async function listConnections(db: Executor, { limit, cursor }: PageWish): Promise<Page<Connection>> {
  const after = cursor === undefined ? undefined : gt(connections.name, readCursor(cursor, ['string'])[0]);
  const rows = await db
    .select()
    .from(connections)
    .where(after)
    .orderBy(asc(connections.name))
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [row.name]);
}

export async function updateConnection(
  db: Executor,
  sealer: Sealer,
  { name, change }: { readonly name: string; readonly change: ConnectionChange },
): Promise<Connection> {
  return await db.transaction(async (tx) => {
    const [found] = await tx.select().from(connections).where(eq(connections.name, name)).for('update');
    if (!found) throw new GodwitError('NOT_FOUND', `There is no connection named "${name}".`);
    const purpose = secretPurpose('connection', found.id);
    const secrets =
      change.secrets && changedSecrets(sealer, purpose, { envelope: found.secrets, change: change.secrets });
    try {
      const changed = await tx
        .update(connections)
        .set({
          ...(change.name === undefined ? {} : { name: change.name }),
          ...(change.settings === undefined ? {} : { settings: change.settings }),
          ...secrets,
          updatedAt: new Date(),
        })
        .where(eq(connections.id, found.id))
        .returning();
      return changed[0] as Connection;
    } catch (error) {
      if (violated(error)?.kind === 'unique') refuseTwice('connection', change.name ?? name);
      throw error;
    }
  });
}

/** Throws IN_USE naming the sources and targets that inherit from it. */
export async function removeConnection(db: Executor, name: string): Promise<void> {
  await db.transaction(async (tx) => {
    const [found] = await tx.select().from(connections).where(eq(connections.name, name)).for('update');
    if (!found) throw new GodwitError('NOT_FOUND', `There is no connection named "${name}".`);
    const users = [
      ...(await tx.select({ name: sources.name }).from(sources).where(eq(sources.connectionId, found.id))).map(
        (source) => `source ${source.name}`,
      ),
      ...(await tx.select({ name: targets.name }).from(targets).where(eq(targets.connectionId, found.id))).map(
        (target) => `target ${target.name}`,
      ),
    ];
    if (users.length > 0) throw inUse(`connection "${name}"`, users);
    await tx.delete(connections).where(eq(connections.id, found.id));
  });
}

export const inUse = (what: string, users: readonly string[]): GodwitError => {
  const shown = users.toSorted().slice(0, 20).join(', ');
  const more = users.length > 20 ? ` and ${users.length - 20} more` : '';
  return new GodwitError('IN_USE', `The ${what} is used by ${shown}${more}.`);
};
