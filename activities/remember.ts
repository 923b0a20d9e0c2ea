/** Tables that another tool has kept so far: the next run goes on where that one stopped (`godwit import --state`). */
import type { Follow, TableState } from '../connectors/contract.ts';
import { tableText } from '../connectors/contract.ts';
import type { LogicalKind } from '../connectors/types.ts';
import { getJobById } from '../db/jobs.ts';
import { openTakeover, type ProbeRequest, type Takeover } from '../db/probes.ts';
import type { ProbeAnswer, TakenOver } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import { instantOf } from './compare.ts';
import type { Deps } from './deps.ts';
import { ours, storedFailure } from './failures.ts';
import type { PlannedTable } from './plan/index.ts';
import { epochOf, instantOfWall, textOf } from './plan/instants.ts';
import { type Planned, planSome } from './plan-one.ts';

type Request = Extract<ProbeRequest, { kind: 'remember' }>;
type Answer = Extract<ProbeAnswer, { kind: 'remember' }>;

/** Keys read again below the last one: what the other tool may have missed of late commits (decision 22). */
const recheckKeys = 10_000;

/** Each table by itself: one that cannot be taken over says why in its place. */
export async function remember(deps: Deps, id: string, request: Request, signal: AbortSignal): Promise<Answer> {
  const job = await getJobById(deps.db, request.jobId);
  const wanted = openTakeover(deps.sealer, request.tables);
  // The tables are the other tool's, and that is what is to be taken over.
  const document = {
    ...job.document,
    tables: job.document.tables.map((one) => ({ ...one, existing: 'adopt' as const })),
  };
  await using planned = await planSome(deps, job, {
    document,
    run: id,
    snapshotDate: new Date(),
    tables: [...new Set(wanted.map((one) => one.table))],
    // Epochs are told by their size, so one value is looked at.
    moment: { snapshot: { consistency: 'chunk' } },
    signal,
  });
  const tables: TakenOver[] = [];
  for (const one of planned.tables) {
    const takeover = wanted.find((each) => means(each, one));
    if (!takeover) continue;
    const { sourceName: table, target, targetName } = one;
    try {
      await takeOver(planned, one, takeover, id);
      tables.push({ table, target, targetName });
    } catch (error) {
      tables.push({ table, target, targetName, failure: storedFailure(ours(error)) });
    }
  }
  return { kind: 'remember', tables };
}

const means = ({ table, target }: Takeover, one: PlannedTable): boolean =>
  (target === undefined || target === one.target) && (one.sourceName === table || one.sourceName.endsWith(`.${table}`));

async function takeOver(planned: Planned, one: PlannedTable, from: Takeover, run: string): Promise<void> {
  const at = { table: one.sourceName, target: one.target };
  if (one.failure) throw new GodwitError(one.failure.code as 'MODE_REFUSED', one.failure.message, at);
  const { work, follow } = one;
  const target = planned.targets.get(one.target);
  if (!work || !target || !follow) {
    throw new GodwitError(
      'MODE_REFUSED',
      `${one.sourceName}: mode ${one.mode} moves the whole table and remembers nothing.`,
      at,
    );
  }
  if (!target.remember) throw new GodwitError('MODE_REFUSED', `Target ${one.target} cannot take tables over.`, at);
  const { state: _state, increment: _increment, ...table } = work;
  if (await target.state?.(table)) {
    const message = `${tableText(work.name)} is Godwit's already and remembers where it is.`;
    throw new GodwitError('CONFLICT', message, at);
  }
  const kind = work.source.columns.find((column) => column.name === follow.column)?.type.kind ?? 'timestamptz';
  const state = stateFrom(from, { follow, kind, timezone: planned.timezone, run, at });
  await target.remember({ ...table, existing: 'adopt' }, state);
}

type How = {
  readonly follow: Follow;
  readonly kind: LogicalKind;
  readonly timezone: string;
  readonly run: string;
  readonly at: { readonly table: string; readonly target: string };
};

export function stateFrom(
  { lastRun, lastKey, lastBookmark }: Takeover,
  { follow, kind, timezone, run, at }: How,
): TableState {
  const micros = instantIn(lastRun, timezone);
  if (micros === undefined) throw new GodwitError('USAGE', `${at.table}: \`last_run\` is no date and time.`, at);
  const clock = textOf(micros, 'timestamptz');
  const common = { follow, startedAt: clock, succeededAt: clock, run };
  if (follow.by === 'key') {
    if (lastKey === undefined) {
      throw new GodwitError('USAGE', `${at.table}: logging goes on behind a key; give \`last_key\`.`, at);
    }
    return { ...common, settled: { clock, upto: lastKey, floor: floorOf(lastKey, kind) } };
  }
  const bookmark = lastBookmark === undefined ? undefined : instantIn(lastBookmark, timezone);
  if (lastBookmark !== undefined && bookmark === undefined) {
    throw new GodwitError('USAGE', `${at.table}: \`last_bookmark\` is no date and time.`, at);
  }
  return {
    ...common,
    settled: { clock, ...(bookmark === undefined ? {} : { upto: written(bookmark, follow, kind) }) },
  };
}

/** Whole numbers have a distance; of other keys the last one itself is read again. */
function floorOf(key: string, kind: LogicalKind): string {
  const whole: readonly LogicalKind[] = ['int8', 'int16', 'int32', 'int64', 'uint64'];
  return whole.includes(kind) && /^-?\d+$/.test(key) ? String(BigInt(key) - BigInt(recheckKeys)) : key;
}

const written = (micros: bigint, { form }: Follow, kind: LogicalKind): string => {
  if (form === 'native') return textOf(micros, kind === 'text' ? 'timestamptz' : kind);
  return form === 'text' ? textOf(micros, 'timestamptz') : epochOf(micros, form);
};

/** A time without a zone is of the job's. */
function instantIn(text: string, timezone: string): bigint | undefined {
  const micros = instantOf(text);
  const wall = /^\d{4}[-/]\d{1,2}[-/]\d{1,2}([T ][\d:.,]+)?$/.test(text.trim());
  return micros !== undefined && wall ? instantOfWall(micros, timezone) : micros;
}
