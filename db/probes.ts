import { eq, lt } from 'drizzle-orm';
import { GodwitError } from '../errors.ts';
import type { JobDocument } from '../mapping/document.ts';
import type { ParsedMapping } from '../mapping/parse.ts';
import type { Sealer } from '../secrets/seal.ts';
import type { Executor } from './open.ts';
import type { RowPlace } from './quarantine.ts';
import { type ProbeAnswer, probes } from './schema.ts';

/** What a worker looks at outside of any run. Rows and ids only: the secrets are opened there. */
export type ProbeRequest =
  | { readonly kind: 'test'; readonly endpoint: 'source' | 'target' | 'connection'; readonly id: string }
  /** A message to a channel of the settings, by its name. */
  | { readonly kind: 'notify'; readonly channel: string }
  | { readonly kind: 'tables'; readonly sourceId: string }
  | { readonly kind: 'columns'; readonly sourceId: string; readonly schema: string; readonly table: string }
  /** The latest document of the job. */
  | { readonly kind: 'plan'; readonly jobId: string }
  /** A document that is not applied. `endpoints`: see `openProbeEndpoints`. `jobId` when there is a job of its name. */
  | {
      readonly kind: 'plan';
      readonly document: JobDocument;
      readonly jobId?: string;
      readonly endpoints?: string;
    }
  /** Writes rows that were set aside into the table they belong to. `rows`: only these (chunk and row). */
  | {
      readonly kind: 'replay';
      readonly runId: string;
      readonly ordinal: number;
      readonly actor: string;
      readonly rows?: readonly RowPlace[];
    }
  /** Where another tool stopped. `tables`: see `sealTakeover`. */
  | { readonly kind: 'remember'; readonly jobId: string; readonly tables: string };

/** A table that another tool has kept so far. Keys and bookmarks as texts: sealed. */
export type Takeover = {
  readonly table: string;
  /** Of the job's targets; absent: all of them. */
  readonly target?: string;
  /** ISO 8601; without a zone in the job's. */
  readonly lastRun: string;
  readonly lastKey?: string;
  readonly lastBookmark?: string;
};
export const sealTakeover = (sealer: Sealer, tables: readonly Takeover[]): string =>
  sealer.sealJson(tables, 'takeover').toString('base64');
export const openTakeover = (sealer: Sealer, sealed: string): readonly Takeover[] =>
  sealer.openJson<readonly Takeover[]>(Buffer.from(sealed, 'base64'), 'takeover');

/** Of a plan's document: what is written inside it. */
export type InlineEndpoints = ParsedMapping['endpoints'];

export async function createProbe(db: Executor, request: ProbeRequest): Promise<string> {
  const id = crypto.randomUUID();
  await db.insert(probes).values({ id, request });
  return id;
}

/** Inline endpoints hold secrets: sealed text for `ProbeRequest.endpoints`. */
export const sealProbeEndpoints = (sealer: Sealer, endpoints: InlineEndpoints): string =>
  sealer.sealJson(endpoints, 'probe endpoints').toString('base64');

/** In the worker only. Make each one effective with `effectiveInline` of endpoints.ts. */
export const openProbeEndpoints = (sealer: Sealer, sealed: string): InlineEndpoints =>
  sealer.openJson<InlineEndpoints>(Buffer.from(sealed, 'base64'), 'probe endpoints');

/** Throws NOT_FOUND: swept. */
export async function getProbe(
  db: Executor,
  id: string,
): Promise<{ readonly id: string; readonly request: ProbeRequest; readonly answer: ProbeAnswer | null }> {
  const [found] = await db.select().from(probes).where(eq(probes.id, id));
  if (!found) throw new GodwitError('NOT_FOUND', 'That probe is gone.');
  return { id: found.id, request: found.request as ProbeRequest, answer: found.answer };
}

export async function answerProbe(db: Executor, id: string, answer: ProbeAnswer): Promise<void> {
  await db.update(probes).set({ answer }).where(eq(probes.id, id));
}

/** For the janitor. */
export async function sweepProbes(db: Executor, olderThan: Date): Promise<void> {
  await db.delete(probes).where(lt(probes.createdAt, olderThan));
}
