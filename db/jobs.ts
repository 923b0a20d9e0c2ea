import { and, asc, desc, eq, gt, inArray, isNull, max } from 'drizzle-orm';
import { GodwitError } from '../errors.ts';
import { fillDefaults } from '../mapping/defaults.ts';
import type { JobDocument } from '../mapping/document.ts';
import type { ParsedMapping } from '../mapping/parse.ts';
import type { Sealer } from '../secrets/seal.ts';
import { inUse, sealSecrets, secretPurpose } from './connections.ts';
import { connectionIdOf, createEndpoint, type EndpointDraft, type EndpointKind, plainSettings } from './endpoints.ts';
import { type Executor, violated } from './open.ts';
import { type Page, type PageWish, pageOf, readCursor } from './paging.ts';
import { putSchedules, tellSchedules } from './schedules.ts';
import { jobDocuments, jobs, jobUses, runs, sources, targets } from './schema.ts';
import { activeStatuses } from './status.ts';

export type Job = typeof jobs.$inferSelect;
export type JobWithDocument = Job & { readonly document: JobDocument };
export type Applied = {
  readonly job: JobWithDocument;
  readonly outcome: 'created' | 'updated' | 'unchanged';
};

const missing = (name: string) => new GodwitError('NOT_FOUND', `There is no job named "${name}".`, { job: name });
// A job's own source, target and document live and die with it.
const tableOf = (kind: EndpointKind) => (kind === 'source' ? sources : (targets as unknown as typeof sources));

/**
 * Makes or updates the job of the mapping's name (of `name`, when the mapping renames it): inline endpoints become rows
 * of its own, a new version of the document is stored only when it differs. All or nothing.
 */
export async function applyJob(
  db: Executor,
  sealer: Sealer,
  {
    parsed,
    name,
    create = true,
  }: { readonly parsed: ParsedMapping; readonly name?: string; readonly create?: boolean },
): Promise<Applied> {
  return await db.transaction(async (tx) => {
    const wanted = parsed.document.name;
    const { job, isNew } = await takeJob(tx, name ?? wanted, create);
    if (job.name !== wanted) await renameJob(tx, job, wanted);

    const own = await ownEndpoints(tx, sealer, { jobId: job.id, parsed });
    const uses = await findUses(tx, parsed.document, own);
    const document = parsed.open ? await fillFromSaved(tx, parsed.document) : parsed.document;
    await tx.delete(jobUses).where(eq(jobUses.jobId, job.id));
    await tx.insert(jobUses).values(uses.map((use) => ({ jobId: job.id, ...use })));
    await dropOrphans(tx, job.id, parsed);

    const [latest] = await tx
      .select()
      .from(jobDocuments)
      .where(eq(jobDocuments.jobId, job.id))
      .orderBy(desc(jobDocuments.version))
      .limit(1);
    const same = latest !== undefined && equalJson(latest.document, document);
    const version = same ? latest.version : (latest?.version ?? 0) + 1;
    if (!same) await tx.insert(jobDocuments).values({ jobId: job.id, version, document });
    await putSchedules(tx, { jobId: job.id, name: wanted, document });
    const [stored] = await tx
      .update(jobs)
      .set({ name: wanted, version, ...(same ? {} : { updatedAt: new Date() }) })
      .where(eq(jobs.id, job.id))
      .returning();
    const outcome = isNew ? 'created' : same && job.name === wanted ? 'unchanged' : 'updated';
    return { job: { ...(stored as Job), document }, outcome };
  });
}

async function takeJob(tx: Executor, name: string, create: boolean): Promise<{ job: Job; isNew: boolean }> {
  const made = create ? await tx.insert(jobs).values({ name }).onConflictDoNothing().returning() : [];
  if (made[0]) return { job: made[0], isNew: true };
  const [found] = await tx.select().from(jobs).where(eq(jobs.name, name)).for('update');
  if (!found) throw missing(name);
  return { job: found, isNew: false };
}

/** The uid stays, so targets still know their owner. Runs in flight look their endpoints up by name: not then. */
async function renameJob(tx: Executor, job: Job, name: string): Promise<void> {
  await refuseActive(tx, job, 'renamed');
  try {
    await tx.update(jobs).set({ name }).where(eq(jobs.id, job.id));
    for (const kind of ['source', 'target'] as const) {
      const table = tableOf(kind);
      const owned = await tx.select({ id: table.id, name: table.name }).from(table).where(eq(table.ownerJob, job.id));
      for (const row of owned) {
        await tx
          .update(table)
          .set({ name: name + row.name.slice(job.name.length) })
          .where(eq(table.id, row.id));
      }
    }
  } catch (error) {
    if (violated(error)?.kind === 'unique') {
      throw new GodwitError('ALREADY_EXISTS', `There is a job named "${name}" already.`, { job: job.name });
    }
    throw error;
  }
}

async function refuseActive(tx: Executor, job: Job, verb: string): Promise<void> {
  const [active] = await tx
    .select({ number: runs.number, status: runs.status })
    .from(runs)
    .where(and(eq(runs.jobId, job.id), inArray(runs.status, [...activeStatuses])))
    .limit(1);
  if (!active) return;
  const sentence = `Run ${active.number} of the job "${job.name}" is ${active.status}: a job cannot be ${verb} while it runs.`;
  throw new GodwitError('CONFLICT', sentence, { job: job.name, run: `${job.name}/${active.number}` });
}

type Own = { readonly source?: string; readonly targets: ReadonlyMap<string, string> };

/** Rows for what is written inside the mapping; their secrets are those of the mapping, no older ones. */
async function ownEndpoints(
  tx: Executor,
  sealer: Sealer,
  { jobId, parsed }: { readonly jobId: string; readonly parsed: ParsedMapping },
): Promise<Own> {
  const put = async (kind: EndpointKind, draft: EndpointDraft): Promise<string> => {
    const table = tableOf(kind);
    const [found] = await tx.select().from(table).where(eq(table.name, draft.name)).for('update');
    if (!found) {
      await createEndpoint(tx, sealer, { kind, draft, ownerJob: jobId });
      const [made] = await tx.select({ id: table.id }).from(table).where(eq(table.name, draft.name));
      return (made as { id: string }).id;
    }
    const { type, settings, connection } = draft;
    const connectionId = connection === undefined ? null : await connectionIdOf(tx, connection, type);
    const sealed = sealSecrets(sealer, secretPurpose(kind, found.id), draft.secrets);
    await tx
      .update(table)
      .set({ type, settings, connectionId, ...sealed, updatedAt: new Date() })
      .where(eq(table.id, found.id));
    return found.id;
  };
  const { source, targets: inline } = parsed.endpoints;
  const made = new Map<string, string>();
  for (const [alias, endpoint] of Object.entries(inline)) made.set(alias, await put('target', endpoint));
  return { ...(source ? { source: await put('source', source) } : {}), targets: made };
}

async function findUses(tx: Executor, document: JobDocument, own: Own) {
  const saved = async (kind: EndpointKind, name: string): Promise<string> => {
    const table = tableOf(kind);
    const [found] = await tx
      .select({ id: table.id })
      .from(table)
      .where(and(eq(table.name, name), isNull(table.ownerJob)))
      .for('key share');
    if (!found) throw new GodwitError('NOT_FOUND', `There is no ${kind} named "${name}".`, { job: document.name });
    return found.id;
  };
  const uses: { sourceId?: string; targetId?: string; alias?: string }[] = [
    { sourceId: own.source ?? (await saved('source', document.source)) },
  ];
  for (const [alias, use] of Object.entries(document.targets)) {
    uses.push({ targetId: own.targets.get(alias) ?? (await saved('target', use.target)), alias });
  }
  return uses;
}

/** What the mapping left to saved sources and targets. */
export async function fillFromSaved(tx: Executor, document: JobDocument): Promise<JobDocument> {
  const source = await plainSettings(tx, 'source', document.source);
  const targets = await Promise.all(
    Object.entries(document.targets).map(
      async ([alias, use]) => [alias, await plainSettings(tx, 'target', use.target)] as const,
    ),
  );
  return fillDefaults(document, source, Object.fromEntries(targets));
}

/** Rows of endpoints no longer written in the mapping. A run in flight may still need them: they go at the next apply. */
async function dropOrphans(tx: Executor, jobId: string, parsed: ParsedMapping): Promise<void> {
  const [active] = await tx
    .select({ id: runs.id })
    .from(runs)
    .where(and(eq(runs.jobId, jobId), inArray(runs.status, [...activeStatuses])))
    .limit(1);
  if (active) return;
  const { source, targets: inline } = parsed.endpoints;
  const keep = new Set([source?.name, ...Object.values(inline).map((endpoint) => endpoint.name)]);
  for (const kind of ['source', 'target'] as const) {
    const table = tableOf(kind);
    const owned = await tx.select({ id: table.id, name: table.name }).from(table).where(eq(table.ownerJob, jobId));
    const gone = owned.filter(({ name }) => !keep.has(name)).map(({ id }) => id);
    if (gone.length > 0) await tx.delete(table).where(inArray(table.id, gone));
  }
}

const withDocument = (db: Executor) =>
  db
    .select({
      id: jobs.id,
      uid: jobs.uid,
      name: jobs.name,
      version: jobs.version,
      lastRun: jobs.lastRun,
      createdAt: jobs.createdAt,
      updatedAt: jobs.updatedAt,
      document: jobDocuments.document,
    })
    .from(jobs)
    .innerJoin(jobDocuments, and(eq(jobDocuments.jobId, jobs.id), eq(jobDocuments.version, jobs.version)))
    .$dynamic();

/** Throws NOT_FOUND. */
export async function getJob(db: Executor, name: string): Promise<JobWithDocument> {
  const [found] = await withDocument(db).where(eq(jobs.name, name));
  if (!found) throw missing(name);
  return found as JobWithDocument;
}

export async function getJobById(db: Executor, id: string): Promise<JobWithDocument> {
  const [found] = await withDocument(db).where(eq(jobs.id, id));
  if (!found) throw new GodwitError('NOT_FOUND', 'That job is gone.');
  return found as JobWithDocument;
}

export async function listJobs(db: Executor, { limit, cursor }: PageWish): Promise<Page<JobWithDocument>> {
  const after = cursor === undefined ? undefined : gt(jobs.name, readCursor(cursor, ['string'])[0]);
  const rows = await withDocument(db)
    .where(after)
    .orderBy(asc(jobs.name))
    .limit(limit + 1);
  return pageOf(rows as JobWithDocument[], limit, (row) => [row.name]);
}

export async function listJobVersions(db: Executor, jobId: string) {
  return await db
    .select({ version: jobDocuments.version, createdAt: jobDocuments.createdAt, document: jobDocuments.document })
    .from(jobDocuments)
    .where(eq(jobDocuments.jobId, jobId))
    .orderBy(desc(jobDocuments.version))
    .limit(500);
}

/** With its runs and what is written in its mapping. Throws CONFLICT while it runs. */
export async function removeJob(db: Executor, name: string): Promise<void> {
  await db.transaction(async (tx) => {
    const [job] = await tx.select().from(jobs).where(eq(jobs.name, name)).for('update');
    if (!job) throw missing(name);
    const [active] = await tx
      .select({ number: max(runs.number) })
      .from(runs)
      .where(and(eq(runs.jobId, job.id), inArray(runs.status, [...activeStatuses])));
    if (active?.number != null) throw inUse(`job "${name}"`, [`run ${name}/${active.number}, which is not over`]);
    await tx.delete(jobs).where(eq(jobs.id, job.id));
    await tellSchedules(tx);
  });
}

/** Key order is not kept by jsonb. */
function equalJson(a: unknown, b: unknown): boolean {
  return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}

const sorted = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, one]) => one !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, one]) => [key, sorted(one)]),
  );
};
