import type { Source, Target } from '../connectors/contract.ts';
import { type Effective, effectiveConnection, effectiveEndpoint, effectiveInline } from '../db/endpoints.ts';
import { getJobById } from '../db/jobs.ts';
import { answerProbe, getProbe, openProbeEndpoints, type ProbeRequest } from '../db/probes.ts';
import type { ProbeAnswer } from '../db/schema.ts';
import { settingsOf } from '../db/settings.ts';
import { GodwitError } from '../errors.ts';
import { sourceSchema } from '../mapping/defaults.ts';
import type { JobDocument, TargetUse } from '../mapping/document.ts';
import { systemOf } from '../mapping/endpoints.ts';
import type { ProbeArgs } from '../workflows/messages.ts';
import { testChannel } from './channel.ts';
import type { Deps } from './deps.ts';
import { ours, storedFailure } from './failures.ts';
import { parseName } from './plan/expand.ts';
import { planRun } from './plan/index.ts';
import { remember } from './remember.ts';
import { replay } from './replay.ts';

/** Looks at a server, or does something small and idempotent there, and writes what it saw, or why it could not, into the probe's row. */
export async function probe(deps: Deps, { probeId }: ProbeArgs, signal: AbortSignal): Promise<void> {
  const { request } = await getProbe(deps.db, probeId);
  let answer: ProbeAnswer;
  try {
    answer = await look(deps, { probeId, request, signal });
  } catch (thrown) {
    answer = { kind: 'failure', failure: storedFailure(ours(thrown)) };
  }
  await answerProbe(deps.db, probeId, answer);
}

type Looking = { readonly probeId: string; readonly request: ProbeRequest; readonly signal: AbortSignal };

async function look(deps: Deps, { probeId, request, signal }: Looking): Promise<ProbeAnswer> {
  const { db, sealer, openers } = deps;
  switch (request.kind) {
    case 'test':
      return { kind: 'checks', checks: await test(deps, request) };
    case 'notify':
      return { kind: 'checks', checks: await testChannel(deps, request.channel) };
    case 'tables': {
      await using source = await openers.openSource(
        await effectiveEndpoint(db, sealer, { kind: 'source', id: request.sourceId }),
      );
      return { kind: 'tables', tables: await source.tables() };
    }
    case 'columns': {
      const from = await effectiveEndpoint(db, sealer, { kind: 'source', id: request.sourceId });
      await using source = await openers.openSource(from);
      const { extras: _extras, ...table } = await describe(source, from, request);
      return { kind: 'columns', table };
    }
    case 'plan':
      return { kind: 'plan', plan: await planOnly(deps, request) };
    case 'replay':
      return await replay(deps, probeId, request, signal);
    case 'remember':
      return await remember(deps, probeId, request, signal);
  }
}

/** Documents are shown with the types of their fields, nested ones too where their names leave room for that. */
async function describe(source: Source, from: Effective, { schema, table }: { schema: string; table: string }) {
  if (!source.documents) return await source.describe({ schema, name: table });
  const naming = { defaultSchema: sourceSchema(from) ?? '', dotted: true };
  const name = parseName(schema ? `${schema}.${table}` : table, naming);
  try {
    return await source.describe(name, { as: 'flatten', casts: {} });
  } catch (error) {
    if (ours(error).code !== 'NAME_COLLISION') throw error;
    return await source.describe(name, { as: 'fields', casts: {} });
  }
}

async function test({ db, sealer, openers }: Deps, { endpoint, id }: Extract<ProbeRequest, { kind: 'test' }>) {
  if (endpoint === 'target') {
    await using target = await openers.openTarget(await effectiveEndpoint(db, sealer, { kind: 'target', id }));
    return await target.check();
  }
  if (endpoint === 'source') {
    await using source = await openers.openSource(await effectiveEndpoint(db, sealer, { kind: 'source', id }));
    return await source.check();
  }
  const connection = await effectiveConnection(db, sealer, id);
  const { everywhere } = systemOf(connection.type);
  const named = everywhere === undefined || connection.settings.db_name !== undefined;
  const effective = named ? connection : { ...connection, settings: { ...connection.settings, db_name: everywhere } };
  const checks = await checkEither(openers, effective);
  // Of a database which was only picked to have one, privileges say nothing.
  return named ? checks : checks.filter(({ name }) => name !== 'privileges');
}

/** A connection that can only be a target is tested as one. */
async function checkEither(openers: Deps['openers'], connection: Parameters<Deps['openers']['openSource']>[0]) {
  try {
    await using source = await openers.openSource(connection);
    return await source.check();
  } catch (error) {
    if (ours(error).code !== 'SETTINGS_INVALID') throw error;
    await using target = await openers.openTarget(connection);
    return await target.check();
  }
}

/** What a run of this document would do; the tables' extras stay out, they are long and for machines. */
async function planOnly(deps: Deps, request: Extract<ProbeRequest, { kind: 'plan' }>) {
  const { document, jobUid } = await documentOf(deps, request);
  const inline =
    'endpoints' in request && request.endpoints ? openProbeEndpoints(deps.sealer, request.endpoints) : undefined;
  const effective = async (kind: 'source' | 'target', name: string, alias?: string): Promise<Effective> => {
    const written = kind === 'source' ? inline?.source : alias === undefined ? undefined : inline?.targets[alias];
    return written
      ? await effectiveInline(deps.db, deps.sealer, { kind, endpoint: written })
      : await effectiveEndpoint(deps.db, deps.sealer, { kind, name });
  };
  await using stack = new AsyncDisposableStack();
  const from = await effective('source', document.source);
  const source: Source = stack.use(await deps.openers.openSource(from));
  const targets = await Promise.all(
    Object.entries(document.targets).map(
      async ([alias, use]): Promise<[string, { target: Target; use: TargetUse } | Error]> => {
        try {
          return [
            alias,
            { target: stack.use(await deps.openers.openTarget(await effective('target', use.target, alias))), use },
          ];
        } catch (error) {
          return [alias, ours(error)];
        }
      },
    ),
  );
  const planned = await planRun({
    document,
    source,
    defaultSchema: sourceSchema(from) ?? '',
    targets: new Map(targets),
    installation: deps.installation,
    jobUid,
    run: crypto.randomUUID(),
    snapshotDate: new Date().toISOString(),
    timezone: document.timezone ?? (await settingsOf(deps.db, deps.config)).timezone,
    signal: new AbortController().signal,
    chunkBytes: deps.config.chunkBytes,
    impatient: true,
  });
  return {
    job: document.name,
    source: document.source,
    // No moment was read, so nothing in it holds a key value.
    tables: planned.map(({ work, ...table }) => ({
      ...table,
      ...(work
        ? { columns: work.columns, key: work.key, readFormat: work.readFormat, writeFormat: work.writeFormat }
        : {}),
    })),
  };
}

async function documentOf(
  { db }: Deps,
  request: Extract<ProbeRequest, { kind: 'plan' }>,
): Promise<{ document: JobDocument; jobUid: string }> {
  const job = request.jobId === undefined ? undefined : await getJobById(db, request.jobId);
  // A document of no job yet owns nothing on any target.
  const jobUid = job?.uid ?? crypto.randomUUID();
  if ('document' in request) return { document: request.document, jobUid };
  if (!job) throw new GodwitError('NOT_FOUND', 'That job is gone.');
  return { document: job.document, jobUid };
}
