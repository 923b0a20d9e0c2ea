/** Activities without databases: a run of so many tables, whose behaviour a test decides table by table. */
import { getClient, heartbeat, sleep } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import type { Activities, Unit } from '../../activities/contract.ts';

export type StubTable = {
  readonly chunks: number;
  /** Milliseconds a chunk takes. */
  readonly takes?: number;
  /** What a chunk does the n-th time (from 1) it is tried. */
  readonly move?: (chunk: number, attempt: number, generation: number) => void;
  /** Its first publication fails. */
  readonly unpublished?: true;
};

export type StubState = {
  readonly tables: Map<number, { status: string; code?: string; generation: number; done: Set<string> }>;
  readonly log: string[];
  paused: boolean;
  readonly pausedTables: Set<number>;
  discarded: boolean;
  ended: string | undefined;
  most: number;
};

export function stubActivities(
  tables: readonly StubTable[],
  options: {
    holdFails?: boolean;
    small?: number;
    cutOffAt?: number;
    ownClock?: 'planning' | 'preparing' | 'moving' | 'finishing';
  } = {},
) {
  /** As work ends whose worker's clock was there first, when Temporal has asked it to end already. */
  const ends = (error: unknown) =>
    options.ownClock && error instanceof CancelledFailure
      ? ApplicationFailure.create({ type: 'CUT_OFF', message: 'It is time.', nextRetryDelay: '5s' })
      : error;
  const stays = async (where: typeof options.ownClock) => {
    while (options.ownClock === where) {
      heartbeat();
      await sleep(50).catch((error) => {
        throw ends(error);
      });
    }
  };
  const state: StubState = {
    tables: new Map(tables.map((_, i) => [i + 1, { status: 'queued', generation: 1, done: new Set() }])),
    log: [],
    paused: false,
    pausedTables: new Set(),
    discarded: false,
    ended: undefined,
    most: 0,
  };
  const attempts = new Map<string, number>();
  let moving = 0;
  const of = (ordinal: number) => state.tables.get(ordinal)!;
  const plan = (ordinal: number) => tables[ordinal - 1]!;
  const open = (ordinal: number) => ['queued', 'running'].includes(of(ordinal).status);
  const unitsFrom = (from: number): Unit[] => {
    const units: Unit[] = [];
    const small = options.small ?? tables.length + 1;
    for (let ordinal = from; ordinal <= tables.length; ordinal++) {
      if (ordinal >= small) {
        units.push({ kind: 'group', from: ordinal, to: tables.length });
        break;
      }
      if (open(ordinal)) units.push({ kind: 'table', ordinal, label: `public.t${ordinal}` });
    }
    return units;
  };
  const work = async (ordinal: number, chunk: number) => {
    const t = of(ordinal);
    const key = `${ordinal}/${t.generation}/${chunk}`;
    const attempt = (attempts.get(key) ?? 0) + 1;
    attempts.set(key, attempt);
    state.most = Math.max(state.most, ++moving);
    try {
      for (let left = plan(ordinal).takes ?? 5; left > 0; left -= 50) {
        heartbeat();
        await sleep(Math.min(left, 50));
      }
      plan(ordinal).move?.(chunk, attempt, t.generation);
      t.done.add(key);
      state.log.push(`moved ${key}`);
    } catch (error) {
      throw ends(error);
    } finally {
      moving--;
    }
  };

  const activities: Activities = {
    begin: async ({ runId }) => ({
      runId: runId ?? 'run-1',
      epoch: 1,
      verdict: 'go',
      label: 'shop 1',
      ...(options.cutOffAt === undefined ? {} : { cutOffAt: options.cutOffAt }),
    }),
    plan: async () => {
      while (options.holdFails) {
        heartbeat();
        await sleep(50);
      }
      await stays('planning');
      return { tables: tables.length, units: unitsFrom(1) };
    },
    units: async ({ from }) => ({ tables: tables.length, units: unitsFrom(from) }),
    prepareTable: async ({ ordinal }) => {
      of(ordinal).status = 'running';
      await stays('preparing');
      return { generation: of(ordinal).generation, next: 1, upTo: 0, splitDone: false, pool: 4 };
    },
    split: async ({ ordinal, upTo, count }) => {
      const to = Math.min(plan(ordinal).chunks, upTo + count);
      return { upTo: to, done: to === plan(ordinal).chunks, pool: 4 };
    },
    move: async ({ ordinal, chunk }) => {
      if (state.paused || state.pausedTables.has(ordinal)) return { outcome: 'paused' };
      await work(ordinal, chunk);
      return { outcome: 'done' };
    },
    moveMany: async ({ from, to }) => {
      const failed: number[] = [];
      const left: Unit[] = [];
      for (let ordinal = from; ordinal <= to; ordinal++) {
        if (!open(ordinal)) continue;
        if (state.paused || state.pausedTables.has(ordinal)) {
          left.push({ kind: 'group', from: ordinal, to: ordinal });
          continue;
        }
        try {
          await work(ordinal, 1);
          of(ordinal).status = 'staged';
        } catch (error) {
          if (error instanceof CancelledFailure || options.ownClock) throw error;
          Object.assign(of(ordinal), { status: 'failed', code: (error as ApplicationFailure).type });
          failed.push(ordinal);
        }
      }
      return { failed, left };
    },
    finishTable: async ({ ordinal }) => {
      await stays('finishing');
      of(ordinal).status = 'staged';
    },
    restartTable: async ({ ordinal }) => {
      state.log.push(`restart ${ordinal}`);
      return { generation: ++of(ordinal).generation, next: 1, upTo: 0, splitDone: false, pool: 4 };
    },
    failTable: async ({ ordinal, code }) => {
      if (open(ordinal)) Object.assign(of(ordinal), { status: 'failed', code });
    },
    publishReady: async () => {
      const failed: number[] = [];
      for (const [ordinal, t] of state.tables) {
        if (t.status !== 'staged') continue;
        const fails = plan(ordinal).unpublished && !state.log.includes(`unpublished ${ordinal}`);
        if (fails) failed.push(ordinal);
        if (fails) state.log.push(`unpublished ${ordinal}`);
        t.status = fails ? 'failed' : 'succeeded';
      }
      return { details: '| table |', failed };
    },
    cutOff: async () => {
      for (const t of state.tables.values()) if (['queued', 'running'].includes(t.status)) t.status = 'cut off';
      state.log.push('cut off');
    },
    setPaused: async ({ ordinal, paused }) => {
      if (ordinal === undefined) state.paused = paused;
      else if (paused) state.pausedTables.add(ordinal);
      else state.pausedTables.delete(ordinal);
    },
    skipTable: async ({ ordinal }) => {
      of(ordinal).status = 'skipped';
    },
    requeueTable: async ({ ordinal }) => {
      Object.assign(of(ordinal), { status: 'queued', code: undefined });
      return { kind: 'table', ordinal, label: `public.t${ordinal}` };
    },
    requestCancel: async ({ workflowId }) => {
      await getClient().workflow.getHandle(workflowId).cancel();
    },
    discardRun: async () => {
      state.discarded = true;
      for (const t of state.tables.values()) if (t.status !== 'succeeded') t.status = 'canceled';
    },
    end: async ({ canceled, failure }) => {
      const all = [...state.tables.values()].map((t) => t.status);
      const failed = failure !== undefined || (all.length > 0 && all.every((status) => status === 'failed'));
      const status = canceled
        ? 'canceled'
        : failed
          ? 'failed'
          : all.every((one) => one === 'succeeded')
            ? 'succeeded'
            : 'partial';
      state.ended = status;
      return { status, code: failure?.code ?? 'RUN_FAILED', message: failure?.message ?? status };
    },
    probe: async () => {},
    hold: async () => {
      if (options.holdFails) throw ApplicationFailure.nonRetryable('No snapshot here.', 'SERVER_UNSUITABLE');
      while (state.ended === undefined) {
        heartbeat();
        await sleep(50);
      }
    },
  };
  return { state, activities };
}
