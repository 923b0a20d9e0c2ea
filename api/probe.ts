import { createProbe, getProbe, type ProbeRequest, sweepProbes } from '../db/probes.ts';
import type { ProbeAnswer } from '../db/schema.ts';
import { codes, type ErrorCode, GodwitError, type Where } from '../errors.ts';
import { workflowIds } from '../workflows/messages.ts';
import type { ApiDeps } from './deps.ts';
import { calling } from './temporal.ts';

type Answer = Exclude<ProbeAnswer, { kind: 'failure' }>;
type Of<K extends Answer['kind']> = Extract<Answer, { kind: K }>;

/** Lets a worker look, waits, and reads what it wrote. The API itself opens no source and no target. */
export async function probe<K extends Answer['kind']>(
  deps: ApiDeps,
  request: ProbeRequest,
  kind: K,
): Promise<Of<K> & { readonly probeId: string }> {
  const { client, database, queues, probeMs = 60_000 } = deps;
  const { db } = database;
  await sweepProbes(db, new Date(Date.now() - 3_600_000));
  const probeId = await createProbe(db, request);
  await calling(client, probeMs, () =>
    client.workflow.execute('probe', {
      args: [{ probeId }],
      workflowId: workflowIds.probe(probeId),
      taskQueue: queues.control,
      workflowExecutionTimeout: probeMs + 5_000,
      staticSummary: request.kind,
    }),
  );
  return { ...(await readProbe(deps, probeId, kind)), probeId };
}

/** The answer of an earlier probe: further pages come from it. Throws what the worker met. */
export async function readProbe<K extends Answer['kind']>(deps: ApiDeps, probeId: string, kind: K): Promise<Of<K>> {
  const { answer } = await getProbe(deps.database.db, probeId);
  if (answer?.kind === kind) return answer as Of<K>;
  if (answer?.kind !== 'failure') throw new GodwitError('INTERNAL', 'The worker left no answer.');
  const { code, message, where, fix } = answer.failure;
  const error = new GodwitError(code in codes ? (code as ErrorCode) : 'INTERNAL', message, where as Where);
  throw fix === undefined ? error : Object.assign(error, { fix });
}
