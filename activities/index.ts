import { getClient } from '@temporalio/activity';
import { begin } from './begin.ts';
import type { Activities, RunRef } from './contract.ts';
import { cutOff, untilCutOff } from './cut-off.ts';
import type { Deps } from './deps.ts';
import { discardRun, end } from './end.ts';
import { performing } from './failures.ts';
import { hold } from './hold.ts';
import { move } from './move.ts';
import { moveMany } from './move-many.ts';
import { plan, units } from './plan-run.ts';
import { probe } from './probe.ts';
import { publishReady } from './publish.ts';
import { loadRun, note } from './state.ts';
import {
  failTable,
  finishTable,
  prepareTable,
  requeueTable,
  restartTable,
  setPaused,
  skipTable,
  split,
} from './tables.ts';

/** All activities, with heartbeats, cancellation and one classification of errors around each. */
export function createActivities(deps: Deps): Activities {
  const perform =
    <A, R>(work: (deps: Deps, args: A, signal: AbortSignal) => Promise<R>) =>
    (args: A) =>
      performing(deps, (signal) => work(deps, args, signal));
  /** Work that a cut-off ends. */
  const bounded =
    <A extends RunRef, R>(work: (deps: Deps, args: A, signal: AbortSignal) => Promise<R>) =>
    (args: A) =>
      performing(deps, (signal) => untilCutOff(deps, args, signal, (sooner) => work(deps, args, sooner)));
  return {
    begin: perform(begin),
    plan: bounded(plan),
    units: perform((_, { from, ...ref }, _signal) => units(deps, ref, from)),
    prepareTable: bounded(prepareTable),
    split: bounded(split),
    finishTable: bounded(finishTable),
    restartTable: bounded(restartTable),
    failTable: perform(failTable),
    publishReady: perform(publishReady),
    cutOff: perform(cutOff),
    setPaused: perform(setPaused),
    skipTable: perform(skipTable),
    requeueTable: perform(requeueTable),
    requestCancel: perform(async (_, { workflowId, actor, ...ref }) => {
      const run = await loadRun(deps.db, ref);
      await note(deps.db, { runId: run.id, level: 'warn', kind: 'run.canceling', message: `Canceled by ${actor}.` });
      await getClient().workflow.getHandle(workflowId).cancel();
    }),
    discardRun: perform(discardRun),
    end: perform(end),
    probe: perform(probe),
    move: bounded(move),
    moveMany: bounded(moveMany),
    hold: perform(hold),
  };
}
