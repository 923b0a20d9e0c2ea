import { ApplicationFailure, CancellationScope, condition, setHandler, workflowInfo } from '@temporalio/workflow';
import type { RunRef, Unit } from '../activities/contract.ts';
import { control, long } from './activities.ts';
import {
  type Actor,
  type Aim,
  cancelUpdate,
  pauseSignal,
  pauseUpdate,
  resumeUpdate,
  retryTableUpdate,
  skipTableUpdate,
  stateQuery,
} from './messages.ts';
import { onlyTable, type RunMemory } from './units.ts';

/** The open state of a run. `version` counts changes: who waits for one compares it. */
export type Desk = {
  /** Known once the run has begun. */
  ref: RunRef;
  phase: 'beginning' | 'planning' | 'running' | 'ending';
  tables: number;
  readonly memory: RunMemory;
  readonly queue: Unit[];
  readonly running: Map<string, Unit>;
  version: number;
};

const refuse = (message: string) => {
  throw ApplicationFailure.nonRetryable(message, 'CONFLICT');
};

/** Updates are refused by synchronous validators, so that a refusal leaves no history. */
export function handleMessages(desk: Desk): void {
  const { memory } = desk;
  // Who is quicker than the first activity waits for it.
  const begun = async (): Promise<RunRef> => {
    await condition(() => desk.phase !== 'beginning');
    return desk.ref;
  };
  setHandler(stateQuery, () => ({
    phase: memory.paused ? 'paused' : desk.phase,
    paused: memory.paused,
    open: desk.queue.length + desk.running.size,
  }));

  const isOpen = () => desk.phase === 'ending' && refuse('The run is ending.');
  const isTable = (ordinal: number) => {
    isOpen();
    if (desk.phase !== 'running') refuse('The run is being planned; its tables are not known yet.');
    if (!Number.isInteger(ordinal) || ordinal < 1 || ordinal > desk.tables) refuse(`The run has no table ${ordinal}.`);
  };
  const isAim = ({ ordinal }: Aim) => (ordinal === undefined ? void isOpen() : isTable(ordinal));

  const tellPaused = async (ordinal: number | undefined, paused: boolean) => {
    for (const [which, { handle }] of memory.children) {
      if (ordinal !== undefined && which !== ordinal) continue;
      const now = paused || memory.paused || memory.pausedTables.has(which);
      // A child that ended meanwhile needs no telling.
      await handle.signal(pauseSignal, { paused: now }).catch(() => {});
    }
  };
  const setPaused = async (ordinal: number | undefined, paused: boolean, actor: string) => {
    if (ordinal === undefined) memory.paused = paused;
    else if (paused) memory.pausedTables.add(ordinal);
    else memory.pausedTables.delete(ordinal);
    const ref = await begun();
    const write = () => control.setPaused({ ...ref, paused, actor, ...(ordinal === undefined ? {} : { ordinal }) });
    // Going on is written down first, stopping is told first: a chunk that is only scheduled then meets the right word.
    if (!paused) await write();
    await tellPaused(ordinal, paused);
    if (paused) await write();
    desk.version++;
  };
  setHandler(pauseUpdate, ({ ordinal, actor }) => setPaused(ordinal, true, actor), {
    validator: (aim) => {
      isAim(aim);
      const already = aim.ordinal === undefined ? memory.paused : memory.pausedTables.has(aim.ordinal);
      if (already) refuse('It is paused already.');
    },
    description: 'No new chunks start; those that move finish.',
  });
  setHandler(resumeUpdate, ({ ordinal, actor }) => setPaused(ordinal, false, actor), {
    validator: (aim) => {
      isAim(aim);
      const paused = aim.ordinal === undefined ? memory.paused : memory.pausedTables.has(aim.ordinal);
      if (!paused) refuse('It is not paused.');
    },
  });

  const skip = async (ordinal: number, actor: string) => {
    memory.skipped.add(ordinal);
    memory.failed.delete(ordinal);
    memory.pausedTables.delete(ordinal);
    const queued = desk.queue.findIndex((unit) => onlyTable(unit) === ordinal);
    if (queued >= 0) desk.queue.splice(queued, 1);
    memory.children.get(ordinal)?.scope.cancel();
    await condition(() => !memory.children.has(ordinal));
    await long.skipTable({ ...desk.ref, ordinal, actor });
    desk.version++;
  };
  setHandler(skipTableUpdate, ({ ordinal, actor }) => skip(ordinal, actor), {
    validator: ({ ordinal }) => {
      isTable(ordinal);
      if (memory.skipped.has(ordinal)) refuse(`Table ${ordinal} is skipped already.`);
    },
    description: 'Leaves a table out: its staging is discarded, the run ends as partial.',
  });

  const again = async (ordinal: number, actor: string) => {
    memory.failed.delete(ordinal);
    try {
      desk.queue.push(await control.requeueTable({ ...desk.ref, ordinal, actor }));
    } catch (error) {
      memory.failed.add(ordinal);
      throw error;
    }
    desk.version++;
  };
  setHandler(retryTableUpdate, ({ ordinal, actor }) => again(ordinal, actor), {
    validator: ({ ordinal }) => {
      isTable(ordinal);
      if (!memory.failed.has(ordinal)) refuse(`Table ${ordinal} did not fail in moving.`);
    },
    description: 'A failed table goes on from its checkpoints.',
  });

  // The same way as `temporal workflow cancel`: the request comes back as a cancellation of the root scope. A workflow
  // cannot ask that of itself, so an activity does.
  const cancel = ({ actor }: Actor) =>
    CancellationScope.nonCancellable(async () =>
      control.requestCancel({ ...(await begun()), workflowId: workflowInfo().workflowId, actor }),
    );
  setHandler(cancelUpdate, cancel, {
    validator: (_actor: Actor) => void isOpen(),
    description: 'Ends the run cleanly: staging is discarded, what was published stays.',
  });
}
