import {
  ApplicationFailure,
  allHandlersFinished,
  CancellationScope,
  CancelledFailure,
  ContinueAsNew,
  condition,
  continueAsNew,
  isCancellation,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { control, data, long } from './activities.ts';
import { nameFailure, wasEnded } from './failure.ts';
import { pauseSignal, type TableArgs, type TableCarry } from './messages.ts';

/** The first page is small, so that moving begins at once. */
const pageSizes = [2, 8, 32, 128];

/** One big table: prepare → split and move, overlapped → finish. Its failure is recorded before it is thrown. */
export async function table(args: TableArgs): Promise<void> {
  const ref = { runId: args.runId, epoch: args.epoch, ordinal: args.ordinal };
  const pause = { on: args.paused };
  setHandler(pauseSignal, ({ paused }) => {
    pause.on = paused;
  });
  try {
    let at = args.resume ?? (await long.prepareTable(ref));
    for (;;) {
      const ended = await moveChunks(args, at, pause);
      if (ended === 'moved') break;
      if (ended === 'restart') {
        at = await long.restartTable({ ...ref, generation: at.generation });
        continue;
      }
      await condition(allHandlersFinished);
      await continueAsNew<typeof table>({ ...args, paused: pause.on, resume: ended });
    }
    await long.finishTable({ ...ref, generation: at.generation });
  } catch (error) {
    if (isCancellation(error) || error instanceof ContinueAsNew) throw error;
    const { code, message } = nameFailure(error);
    if (wasEnded(error)) throw new CancelledFailure(message);
    await CancellationScope.nonCancellable(() => control.failTable({ ...ref, code, message }));
    throw ApplicationFailure.nonRetryable(message, code);
  }
}

/**
 * Moves all chunks through a bounded pool while the next page is split. Ends `moved`, or `restart` (the snapshot these
 * chunks were cut under is gone), or with what to carry when the history is long. Nothing is in flight at its end.
 */
async function moveChunks(
  args: TableArgs,
  start: TableCarry,
  pause: { readonly on: boolean },
): Promise<'moved' | 'restart' | TableCarry> {
  const ref = { runId: args.runId, epoch: args.epoch, ordinal: args.ordinal, generation: start.generation };
  const { move } = data(args.label);
  let { next, upTo, splitDone, pool } = start;
  let page = 0;
  let splitting = false;
  let done = next - 1;
  let failure: unknown;
  const left: number[] = [];
  const moving = new Set<number>();
  const scope = new CancellationScope();

  const stop = (error: unknown) => {
    failure ??= error;
    scope.cancel();
  };
  const startMove = (chunk: number) => {
    moving.add(chunk);
    const ended = ({ outcome }: { outcome: 'done' | 'paused' }) => {
      if (outcome === 'paused') left.push(chunk);
      else done++;
    };
    move({ ...ref, chunk })
      .then(ended, stop)
      .finally(() => moving.delete(chunk));
  };
  const startSplit = () => {
    splitting = true;
    const count = pageSizes[Math.min(page++, pageSizes.length - 1)] as number;
    long
      .split({ ...ref, upTo, count })
      .then((found) => {
        upTo = found.upTo;
        splitDone = found.done;
        pool = found.pool;
      }, stop)
      .finally(() => {
        splitting = false;
      });
  };
  const full = () => workflowInfo().continueAsNewSuggested || workflowInfo().historyLength > (args.eventLimit ?? 2000);
  const idle = () => moving.size === 0 && !splitting;
  const canMove = () => !pause.on && !full() && moving.size < pool && (left.length > 0 || next <= upTo);
  const canSplit = () => !splitDone && !splitting && !full() && upTo - next < pool;

  try {
    await scope.run(async () => {
      for (;;) {
        while (canMove()) startMove(left.shift() ?? next++);
        if (canSplit()) startSplit();
        setCurrentDetails(
          `${args.label}: ${done} of ${upTo}${splitDone ? '' : ' or more'} chunks${pause.on ? ', paused' : ''}`,
        );
        const known = moving.size + left.length;
        if (idle() && (full() || (splitDone && next > upTo && known === 0))) return;
        const before = `${done} ${left.length} ${upTo} ${splitting}`;
        await condition(
          () => canMove() || canSplit() || idle() || before !== `${done} ${left.length} ${upTo} ${splitting}`,
        );
        if (idle() && pause.on && !full()) await condition(() => !pause.on);
      }
    });
  } catch (error) {
    if (!failure) failure = error;
  }
  await CancellationScope.nonCancellable(() => condition(idle));
  if (failure !== undefined) {
    if (!isCancellation(failure) && nameFailure(failure).code === 'SNAPSHOT_LOST') return 'restart';
    throw failure;
  }
  if (splitDone && next > upTo && left.length === 0) return 'moved';
  return { generation: start.generation, next: Math.min(next, ...left), upTo, splitDone, pool };
}
