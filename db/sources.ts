/** What `endpoints.ts` says, for sources. */
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

const kind = 'source';

export async function createSource(db: Executor, sealer: Sealer, draft: EndpointDraft) {
  await createEndpoint(db, sealer, { kind, draft });
  return await getEndpoint(db, kind, draft.name);
}

export const getSource = (db: Executor, name: string) => getEndpoint(db, kind, name);

export const listSources = (db: Executor, wish: PageWish & { readonly inline?: boolean }) =>
  listEndpoints(db, { ...wish, kind });

export async function updateSource(
  db: Executor,
  sealer: Sealer,
  { name, change }: { name: string; change: EndpointChange },
) {
  await updateEndpoint(db, sealer, { kind, name, change });
  return await getEndpoint(db, kind, change.name ?? name);
}

/** Throws IN_USE naming the jobs. */
export const removeSource = (db: Executor, name: string) => removeEndpoint(db, kind, name);

/** In the worker only. */
export const effectiveSource = (db: Executor, sealer: Sealer, name: string) =>
  effectiveEndpoint(db, sealer, { kind, name });

export const explainSource = (db: Executor, name: string, defaults: (type: string) => Settings) =>
  explainEndpoint(db, { kind, name, defaults });
