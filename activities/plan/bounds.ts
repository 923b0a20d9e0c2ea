/** From where an incremental table is read, and what is remembered after it (decisions 22 and 23). Pure. */
import type { Follow, Range, Source, TableState, Watermark } from '../../connectors/contract.ts';
import type { LogicalKind } from '../../connectors/types.ts';
import { epochOf, microsOf, microsOfEpoch, textOf, wallMicros } from './instants.ts';

export type Lags = {
  /** Seconds. */
  readonly buffer: number;
  readonly grace: number;
  /** Of bookmarks, seconds. */
  readonly recheck: number;
};

export type Following = {
  readonly follow: Follow;
  /** Of the column. */
  readonly kind: LogicalKind;
  readonly nullable: boolean;
  readonly lags: Lags;
  /** Of the job: where a bookmark without a zone may have been written. */
  readonly timezone: string;
};

const seconds = (count: number) => BigInt(Math.round(count * 1e6));

/**
 * The rows to read. Of keys: from some thousand below the last settled one. Of bookmarks: from the least of the last settled
 * bookmark, the source's clock then, and the start of what was open then, each less the `recheck` window; of the last start
 * less the buffer; of the last end less the grace. A bookmark far in the future so never hides what comes after it. Up to what was
 * there when the run began: a row that changes meanwhile belongs to the next run.
 */
export function rangeOf({ settled, startedAt, succeededAt }: TableState, now: Watermark, how: Following): Range {
  const { follow, nullable } = how;
  const { column } = follow;
  const upto = now.upto === undefined ? {} : { upto: now.upto };
  if (follow.by === 'key') {
    // Without an upper end there was no row, and from the first on is right.
    return settled.floor === undefined ? { column, ...upto } : { column, from: settled.floor, ...upto };
  }
  const recheck = seconds(how.lags.recheck);
  const last = settled.upto === undefined ? undefined : instant(settled.upto, how);
  const clocks = [settled.clock, settled.oldest].flatMap((at) => clockOf(at, how)).map((at) => at - recheck);
  const { longest, back } = drifts(settled, now, how);
  const started = clockOf(startedAt, how).map((at) => at - seconds(how.lags.buffer));
  const ended = how.lags.grace > 0 ? clockOf(succeededAt, how).map((at) => at - seconds(how.lags.grace)) : [];
  const all = [...(last === undefined ? [] : [last - longest - recheck]), ...clocks, ...started, ...ended];
  // BigInts have no Math.min.
  const [least = 0n] = all.sort((a, b) => (a < b ? -1 : 1));
  return { column, from: written(least - back, how), ...upto, ...(nullable ? { nulls: true } : {}) };
}

/** Of a bookmark of this form; undefined when it is no finite instant. */
const instant = (text: string, { follow }: Following): bigint | undefined =>
  follow.form === 'native' || follow.form === 'text' ? microsOf(text) : microsOfEpoch(text, follow.form);

/** May its values be the wall clock of some zone? Texts have one or not, each as it was written. */
const zoneless = ({ kind, follow }: Following): boolean =>
  follow.form === 'text' || (follow.form === 'native' && kind !== 'timestamptz');

/** A clock as the bookmark's column could have written it: in UTC, and without a zone in the job's zone too. */
function clockOf(at: string | undefined, how: Following): bigint[] {
  const micros = at === undefined ? undefined : microsOf(at);
  if (micros === undefined) return [];
  return zoneless(how) ? [micros, wallMicros(micros, how.timezone)] : [micros];
}

/**
 * Of bookmarks without a zone. `longest`: how long the oldest transaction was open, whatever the zone in which it wrote. `back`: how
 * far the clock of the job's zone was put back since.
 */
function drifts(
  settled: Watermark,
  now: Watermark,
  how: Following,
): { readonly longest: bigint; readonly back: bigint } {
  const none = { longest: 0n, back: 0n };
  const then = microsOf(settled.clock);
  if (!zoneless(how) || then === undefined) return none;
  const oldest = settled.oldest === undefined ? then : (microsOf(settled.oldest) ?? then);
  const present = microsOf(now.clock) ?? then;
  const offset = (at: bigint) => wallMicros(at, how.timezone) - at;
  const back = offset(then) - offset(present);
  return { longest: oldest < then ? then - oldest : 0n, back: back > 0n ? back : 0n };
}

/** Rounded down to what the column can show. */
function written(micros: bigint, { follow, kind }: Following): string {
  if (follow.form === 'native') return textOf(micros, kind);
  return follow.form === 'text' ? textOf(micros, 'timestamptz') : epochOf(micros, follow.form);
}

/**
 * What holds once this run is complete. A watermark is settled when nothing that was open then could still commit below it, and
 * a read after that has seen it all: this run's own when nothing is open, else the pending one of an earlier run.
 */
export function stateAfter(
  before: TableState | undefined,
  now: Watermark,
  how: Pick<TableState, 'follow' | 'key' | 'where' | 'run'> & { readonly ended: Source['ended'] },
): TableState {
  const { follow, ended: over, ...kept } = how;
  const { active: _active, ...taken } = now;
  // Filled in when it is made visible.
  const common = { follow, ...kept, startedAt: now.clock, succeededAt: now.clock };
  const ended = (one: Watermark) => one.open === undefined || (over?.(one, now) ?? true);
  if (now.open === undefined) return { ...common, settled: taken };
  // Who is open may hold keys below any floor: after a load the first increment looks at all keys once.
  if (!before) return { ...common, settled: follow.by === 'key' ? { clock: now.clock } : taken, pending: taken };
  const { pending } = before;
  if (pending && ended(pending)) return { ...common, settled: pending, pending: taken };
  return { ...common, settled: before.settled, pending: pending ?? taken };
}
