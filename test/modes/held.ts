/** A worker that can hold chunks in their midst: their first rows are on the way, and nothing more comes until they are told to stop. */
import { asc, eq } from 'drizzle-orm';
import { Endpoints } from '../../activities/endpoints.ts';
import { createActivities } from '../../activities/index.ts';
import type { Chunk, Target, Work } from '../../connectors/contract.ts';
import { runs, runTables } from '../../db/schema.ts';
import { sharedTemporal } from '../servers/shared.ts';
import { install } from '../workflow/installation.ts';
import { startStubbed } from '../workflow/stubbed-worker.ts';

/** More than all tests of one file hold at once: who is held keeps its slot. */
const slots = 64;

export type Held = Awaited<ReturnType<typeof installHeld>>;

export async function installHeld(settings: Readonly<Record<string, string>> = {}) {
  await using stack = new AsyncDisposableStack();
  const godwit = stack.use(await install(settings));
  const { deps } = await godwit.activities();
  /** Which chunks are held, by the target's name in its job. */
  const rules = new Map<string, (chunk: Chunk) => boolean>();
  const written: { readonly target: string; readonly chunk: number }[] = [];

  const stuck = (signal: AbortSignal) =>
    new Promise<never>((_, reject) => {
      if (signal.aborted) reject(signal.reason);
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  async function* begun<B>(batches: AsyncIterable<B>, signal: AbortSignal): AsyncGenerator<B> {
    for await (const batch of batches) {
      yield batch;
      break;
    }
    await stuck(signal);
  }
  const gated = <B>({ target }: Work, chunk: Chunk, batches: AsyncIterable<B>, signal: AbortSignal) => {
    written.push({ target, chunk: chunk.id });
    return rules.get(target)?.(chunk) ? begun(batches, signal) : batches;
  };
  const holding = (it: Target): Target => {
    const write: Target['write'] = (work, claim, batches, options) =>
      it.write(work, claim, gated(work, claim.chunk, batches, options.signal), options);
    const deleteKeys: NonNullable<Target['deleteKeys']> = async (work, claim, keys, signal) => {
      if (!it.deleteKeys) throw new Error(`${it.system} deletes nothing.`);
      return await it.deleteKeys(work, claim, gated(work, claim.chunk, keys, signal), signal);
    };
    return { ...it, write, ...(it.deleteKeys ? { deleteKeys } : {}) };
  };
  const openers = {
    ...deps.openers,
    openTarget: async (effective: Parameters<typeof deps.openers.openTarget>[0]) =>
      holding(await deps.openers.openTarget(effective)),
    target: async (name: string) => holding(await deps.openers.target(name)),
  };
  const endpoints = stack.use(new Endpoints(openers, 1000));
  const { address } = await sharedTemporal();
  const worker = stack.use(await startStubbed(address, createActivities({ ...deps, openers, endpoints }), slots));

  /**
   * A run of a job of one table, to its end; cut off after so many milliseconds. `table` is absent when it was not even planned.
   * `written`: the chunks that were begun at the target.
   */
  const run = async (mapping: object, cutOffAfter?: number) => {
    const row = await godwit.row(mapping);
    const before = written.length;
    if (cutOffAfter !== undefined) {
      const request = { cutOffAt: new Date(Date.now() + cutOffAfter).toISOString() };
      await godwit.db.update(runs).set({ request }).where(eq(runs.id, row.id));
    }
    const handle = await worker.client.workflow.start('run', {
      workflowId: row.workflowId,
      taskQueue: worker.queues.control,
      args: [{ jobId: row.jobId, runId: row.id }],
    });
    const broken = await handle.result().then(
      () => undefined,
      (error: Error) => error,
    );
    const [ended] = await godwit.db.select().from(runs).where(eq(runs.id, row.id));
    const [table] = await godwit.db
      .select()
      .from(runTables)
      .where(eq(runTables.runId, row.id))
      .orderBy(asc(runTables.ordinal));
    // One that failed has said why; one that is open was broken by something else.
    if (!ended?.endedAt) throw broken ?? new Error('The run is gone.');
    const mine = written.slice(before).filter((one) => one.target === table?.target);
    return { run: ended, table, written: mine.map(({ chunk }) => chunk) };
  };
  const kept = stack.move();
  return {
    home: godwit.home,
    db: godwit.db,
    rules,
    run,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}
