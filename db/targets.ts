/** What `endpoints.ts` says, for targets. */
import type { Sealer } from '../secrets/seal.ts';
import {
  createEndpoint,
  type EndpointChange,
  type EndpointDraft,
  effectiveEndpoint,
  explainEndpoint,
  getEndpoint,
  listEndpoints,
  removeEndpoint,
  updateEndpoint,
} from './endpoints.ts';
import type { Executor } from './open.ts';
import type { PageWish } from './paging.ts';
import type { Settings } from './schema.ts';

const kind = 'target';

export async function createTarget(db: Executor, sealer: Sealer, draft: EndpointDraft) {
  await createEndpoint(db, sealer, { kind, draft });
  return await getEndpoint(db, kind, draft.name);
}

export const getTarget = (db: Executor, name: string) => getEndpoint(db, kind, name);

export const listTargets = (db: Executor, wish: PageWish & { readonly inline?: boolean }) =>
  listEndpoints(db, { ...wish, kind });

export async function updateTarget(
  db: Executor,
  sealer: Sealer,
  { name, change }: { name: string; change: EndpointChange },
) {
  await updateEndpoint(db, sealer, { kind, name, change });
  return await getEndpoint(db, kind, change.name ?? name);
}

/** Throws IN_USE naming the jobs. */
export const removeTarget = (db: Executor, name: string) => removeEndpoint(db, kind, name);

/** In the worker only. */
export const effectiveTarget = (db: Executor, sealer: Sealer, name: string) =>
  effectiveEndpoint(db, sealer, { kind, name });

export const explainTarget = (db: Executor, name: string, defaults: (type: string) => Settings) =>
  explainEndpoint(db, { kind, name, defaults });
