/** Tables that another tool has kept so far: the next run goes on where that one stopped (`godwit import --state`). */
import type { Follow, TableState } from '../connectors/contract.ts';
import { tableText } from '../connectors/contract.ts';
import type { LogicalKind } from '../connectors/types.ts';
import { getJobById } from '../db/jobs.ts';
import { openTakeover, type ProbeRequest, type Takeover } from '../db/probes.ts';
import type { ProbeAnswer, TakenOver } from '../db/schema.ts';
import { GodwitError } from '../errors.ts';
import { reach } from '../faults.ts';
import { instantOf } from './compare.ts';
import type { Deps } from './deps.ts';
import { ours, storedFailure } from './failures.ts';
import type { PlannedTable } from './plan/index.ts';
import { epochOf, instantOfWall, textOf, wallMicros } from './plan/instants.ts';
import { type Planned, planSome } from './plan-one.ts';

type Request = Extract<ProbeRequest, { kind: 'remember' }>;
type Answer = Extract<ProbeAnswer, { kind: 'remember' }>;

/** Keys read again below the last one: what the other tool may have missed of late commits (decision 22). */
const recheckKeys = 10_000;

/** Each table by itself: one that cannot be taken over says why in its place. Idempotent by `id`. */
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
  const tables = wanted.filter((each) => !planned.tables.some((one) => means(each, one))).map(unknown);
  for (const one of planned.tables) {
    const meant = wanted.filter((each) => means(each, one));
    // What is said of one target counts before what is said of each.
    const takeover = meant.find((each) => each.target !== undefined) ?? meant[0];
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

/** The tables are the job's, so the target is not. */
function unknown({ table, target = '' }: Takeover): TakenOver {
  const error = new GodwitError('NOT_FOUND', `The job moves ${table} to no target "${target}".`, { table, target });
  return { table, target, targetName: '', failure: storedFailure(error) };
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
  const known = await target.state?.(table);
  // By an attempt at this very request that died before it could say so.
  if (known?.run === run) return;
  if (known) {
    const message = `${tableText(work.name)} is Godwit's already and remembers where it is.`;
    throw new GodwitError('CONFLICT', message, at);
  }
  const other = follow.by === 'key' ? 'text' : 'timestamptz';
  const kind = work.source.columns.find((column) => column.name === follow.column)?.type.kind ?? other;
  const state = stateFrom(from, { follow, kind, timezone: planned.timezone, run, at });
  await target.remember({ ...table, existing: 'adopt' }, state);
  reach('after-commit');
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
    const upto = keyOf(lastKey, { kind, timezone, at });
    return { ...common, settled: { clock, upto, floor: floorOf(upto, kind) } };
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

/** Of whole numbers, the least of their type. */
const bottoms: Partial<Record<LogicalKind, bigint>> = {
  int8: -(2n ** 7n),
  int16: -(2n ** 15n),
  int32: -(2n ** 31n),
  int64: -(2n ** 63n),
  uint64: 0n,
};
const instants: readonly LogicalKind[] = ['date', 'timestamp', 'timestamptz'];

/** The canonical text of a key of that kind, however it was written. Throws USAGE, without the key. */
function keyOf(given: string, { kind, timezone, at }: Pick<How, 'kind' | 'timezone' | 'at'>): string {
  const text = given.trim();
  const wrong = (what: string) => new GodwitError('USAGE', `${at.table}: \`last_key\` is no ${what}.`, at);
  if (bottoms[kind] !== undefined) {
    if (!/^-?\d+$/.test(text)) throw wrong('whole number');
    return BigInt(text).toString();
  }
  if (kind === 'uuid') {
    const digits = /^[0-9a-f]{32}$/.exec(text.toLowerCase().replaceAll(/[-{}]/g, ''))?.[0];
    if (!digits) throw wrong('UUID');
    return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
  }
  if (!instants.includes(kind)) return given;
  const micros = instantIn(text, timezone);
  if (micros === undefined) throw wrong('date and time');
  if (kind === 'timestamptz') return textOf(micros, kind);
  // A column without a zone: what is written without one stands there so; an instant is shown by the clock of UTC, or the job's.
  const walls = hasZone(text) ? [micros, wallMicros(micros, timezone)] : [instantOf(text) ?? micros];
  const [least = micros] = walls.sort((a, b) => (a < b ? -1 : 1));
  return textOf(least, kind);
}

/** Whole numbers have a distance; of other keys the last one itself is read again. */
function floorOf(key: string, kind: LogicalKind): string {
  const bottom = bottoms[kind];
  if (bottom === undefined) return key;
  const floor = BigInt(key) - BigInt(recheckKeys);
  return String(floor < bottom ? bottom : floor);
}

const written = (micros: bigint, { form }: Follow, kind: LogicalKind): string => {
  if (form === 'native') return textOf(micros, kind === 'text' ? 'timestamptz' : kind);
  return form === 'text' ? textOf(micros, 'timestamptz') : epochOf(micros, form);
};

/** A time without a zone is of the job's. */
function instantIn(text: string, timezone: string): bigint | undefined {
  const micros = instantOf(text);
  return micros === undefined || hasZone(text) ? micros : instantOfWall(micros, timezone);
}

const zone = /(Z|UTC|GMT|[ECMP][SD]T|[+-]\d\d:\d\d|\+\d\d(\d\d)?|:\d\d([.,]\d+)?\s*-\d\d(\d\d)?)\s*(\(.*\))?$/i;

/** Of a text that is an instant. Epochs are of UTC. */
const hasZone = (text: string): boolean => {
  const said = text.trim();
  return /^-?\d+(\.\d+)?$/.test(said) ? !/^(19|20)\d{6}$/.test(said) : zone.test(said);
};
