import {
  ApplicationFailure,
  allHandlersFinished,
  CancellationScope,
  CancelledFailure,
  type ChildWorkflowHandle,
  ContinueAsNew,
  condition,
  continueAsNew,
  isCancellation,
  ParentClosePolicy,
  setCurrentDetails,
  sleep,
  startChild,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { Begun, RunRef, Unit, Units } from '../activities/contract.ts';
import { control, long } from './activities.ts';
import { type NamedFailure, nameFailure, wasEnded } from './failure.ts';
import { hold } from './hold.ts';
import { type RunArgs, type RunCarry, type RunResult, workflowIds } from './messages.ts';
import { type Desk, handleMessages } from './run-messages.ts';
import { keyOf, moveGroup, moveTable, newMemory, onlyTable } from './units.ts';

/** Children and groups in flight. Each child has up to 16 chunks pending: together well under 500. */
const atOnce = { table: 4, group: 8 } as const;

/**
 * One run of a job: lease → snapshot and plan → tables, each with its own outcome → books. A cancel ends it early and leaves
 * nothing unpublished; a cut-off ends the moving alone, and what is complete is still published.
 */
export async function run(args: RunArgs): Promise<RunResult> {
  const desk: Desk = {
    ref: { runId: args.runId ?? '', epoch: 0 },
    phase: 'beginning',
    tables: 0,
    memory: newMemory(),
    queue: [],
    running: new Map(),
    version: 0,
  };
  desk.memory.paused = args.resume?.paused ?? false;
  handleMessages(desk);
  const begun = args.resume ? resumed(args.resume) : await begin(args);
  desk.ref = { runId: begun.runId, epoch: begun.epoch };
  desk.phase = begun.verdict === 'skipped' ? 'ending' : 'planning';
  if (begun.verdict === 'skipped') {
    await condition(allHandlersFinished);
    return { runId: begun.runId, status: 'skipped' };
  }
  const { ref } = desk;

  let failure: NamedFailure | undefined;
  let canceled = false;
  let cutOff = false;
  try {
    cutOff = await beforeCutOff(begun.cutOffAt, async () => {
      const first = args.resume ? carriedOver(args.resume, desk) : await plan(ref);
      desk.tables = first.tables;
      desk.phase = 'running';
      await moveAll(desk, args, begun, first);
    });
    if (cutOff) {
      desk.phase = 'ending';
      await control.cutOff(ref);
      await long.publishReady({ ...ref, last: true });
    }
  } catch (error) {
    if (error instanceof ContinueAsNew) throw error;
    if (wasEnded(error)) canceled = true;
    else failure = nameFailure(error);
  }
  desk.phase = 'ending';
  return CancellationScope.nonCancellable(async () => {
    if (canceled) await long.discardRun(ref);
    const ended = await control.end({
      ...ref,
      canceled,
      ...(failure ? { failure } : {}),
      ...(cutOff ? { cutOff } : {}),
    });
    await condition(allHandlersFinished);
    setCurrentDetails(`${begun.label}: ${ended.status}. ${ended.message}`);
    switch (ended.status) {
      case 'canceled':
        throw new CancelledFailure(ended.message);
      case 'failed':
        throw ApplicationFailure.nonRetryable(ended.message, ended.code);
      default:
        return { runId: ref.runId, status: ended.status };
    }
  });
}

const resumed = (carry: RunCarry): Begun => ({
  runId: carry.runId,
  epoch: carry.epoch,
  label: carry.label,
  verdict: 'go',
  ...(carry.cutOffAt === undefined ? {} : { cutOffAt: carry.cutOffAt }),
});

/**
 * True when the deadline ended the work. A scope of its own, and a flag: to what it ends, a cut-off and a user's cancel look
 * alike. Who cancels the run cancels both.
 */
async function beforeCutOff(at: number | undefined, work: () => Promise<void>): Promise<boolean> {
  if (at === undefined) {
    await work();
    return false;
  }
  // Taken over after it.
  if (at <= Date.now()) return true;
  const moving = new CancellationScope();
  const waiting = new CancellationScope();
  let over = false;
  const ring = () => {
    over = true;
    moving.cancel();
  };
  void waiting.run(() => sleep(at - Date.now())).then(ring, () => {});
  try {
    await moving.run(work);
    return false;
  } catch (error) {
    if (over && wasEnded(error) && !CancellationScope.current().consideredCancelled) return true;
    throw error;
  } finally {
    waiting.cancel();
  }
}

function carriedOver(carry: RunCarry, desk: Desk): Units {
  for (const ordinal of carry.failed) desk.memory.failed.add(ordinal);
  for (const ordinal of carry.pausedTables) desk.memory.pausedTables.add(ordinal);
  // What is still open stands in PostgreSQL: ask from the first table on.
  return { tables: carry.tables, units: [], next: 1 };
}

async function begin(args: RunArgs): Promise<Begun> {
  const { workflowId, firstExecutionRunId } = workflowInfo();
  const { jobId, scheduleKey = '', runId } = args;
  const begun = await control.begin({
    jobId,
    scheduleKey,
    workflowId,
    firstExecutionRunId,
    ...(runId ? { runId } : {}),
  });
  if (begun.attributes) {
    const { job, run, modes } = begun.attributes;
    upsertSearchAttributes({ GodwitJob: [job], GodwitRun: [run], GodwitMode: [[...modes].sort().join('+')] });
  }
  return begun;
}

/**
 * The snapshot's keeper is a workflow of its own which outlives a continue-as-new; it ends itself soon after the run.
 * A keeper that cannot begin ends the planning with its reason; one lost later ends nothing.
 */
async function plan(ref: RunRef): Promise<Units> {
  const held = await startKeeper(ref);
  const scope = new CancellationScope();
  let reason: unknown;
  const lost = held.result().catch((error) => {
    reason = error;
    scope.cancel();
  });
  void lost;
  try {
    return await scope.run(() => long.plan(ref));
  } catch (error) {
    throw reason !== undefined && isCancellation(error) && !CancellationScope.current().consideredCancelled
      ? reason
      : error;
  }
}

const startKeeper = (ref: RunRef): Promise<ChildWorkflowHandle<typeof hold>> =>
  CancellationScope.nonCancellable(() =>
    startChild(hold, {
      workflowId: workflowIds.hold(ref.runId, ref.epoch),
      args: [ref],
      staticSummary: "keeps the source's snapshot",
      parentClosePolicy: ParentClosePolicy.ABANDON,
    }),
  );

/** Gives out units, publishes what is complete, until nothing is open. Nothing is in flight at its end, however it ends. */
async function moveAll(desk: Desk, args: RunArgs, begun: Begun, first: Units): Promise<void> {
  const { ref, memory, queue, running } = desk;
  queue.push(...first.units);
  let from = first.next;
  let toPublish = true;
  let publishing = false;
  let started = 0;
  let failure: unknown;

  const start = (unit: Unit) => {
    started++;
    running.set(keyOf(unit), unit);
    const moved = unit.kind === 'table' ? moveTable(ref, unit, memory, args.eventLimit) : moveGroup(ref, unit, memory);
    const ended = (left: readonly Unit[]) => {
      queue.push(...left);
      toPublish = true;
    };
    const broke = (error: unknown) => {
      failure ??= error;
    };
    void moved.then(ended, broke).finally(() => {
      running.delete(keyOf(unit));
      desk.version++;
    });
  };
  const publish = async () => {
    publishing = true;
    toPublish = false;
    try {
      const { details, failed = [] } = await long.publishReady(ref);
      for (const ordinal of failed) memory.failed.add(ordinal);
      setCurrentDetails(details);
    } catch (error) {
      failure ??= error;
    }
    publishing = false;
    desk.version++;
  };
  const full = () =>
    started > 0 &&
    (workflowInfo().continueAsNewSuggested || workflowInfo().historyLength > (args.eventLimit ?? 20_000));
  const room = (kind: Unit['kind']) => [...running.values()].filter((unit) => unit.kind === kind).length < atOnce[kind];
  const ready = (unit: Unit) => {
    const only = onlyTable(unit);
    return room(unit.kind) && !(only !== undefined && memory.pausedTables.has(only));
  };
  const nextReady = () => (memory.paused || full() ? -1 : queue.findIndex(ready));
  const working = () => running.size > 0 || publishing;

  try {
    for (;;) {
      if (failure !== undefined) throw failure;
      if (from !== undefined && queue.length < 20 && !full()) {
        const page = await control.units({ ...ref, from });
        queue.push(...page.units);
        from = page.next;
      }
      for (let at = nextReady(); at >= 0; at = nextReady()) start(...(queue.splice(at, 1) as [Unit]));
      if (toPublish && !publishing) void publish();
      const quiet = !working() && !toPublish && allHandlersFinished();
      if (quiet && queue.length === 0 && from === undefined) return;
      if (quiet && full()) break;
      const before = desk.version;
      await condition(() => desk.version !== before);
    }
  } finally {
    await CancellationScope.nonCancellable(() => condition(() => !working()));
  }
  // Children are drained: an open one would be canceled by its parent's close policy (decision 24).
  const { runId, epoch } = ref;
  const resume: RunCarry = {
    runId,
    epoch,
    label: begun.label,
    tables: desk.tables,
    paused: memory.paused,
    executions: (args.resume?.executions ?? 1) + 1,
    failed: [...memory.failed],
    pausedTables: [...memory.pausedTables],
    ...(begun.cutOffAt === undefined ? {} : { cutOffAt: begun.cutOffAt }),
  };
  await continueAsNew<typeof run>({ ...args, resume });
}
