/** What an incremental mode does in this run: load all, or move what is new; and what is remembered when that is done. */
import { isDeepStrictEqual } from 'node:util';
import {
  type Follow,
  type Increment,
  type Mode,
  type PlanColumn,
  type SnapshotRef,
  type Source,
  type Table,
  type TableState,
  type Target,
  tableText,
  type Watermark,
  type Work,
} from '../../connectors/contract.ts';
import type { LogicalKind } from '../../connectors/types.ts';
import type { RunBounds, RunRequest } from '../../db/schema.ts';
import { GodwitError } from '../../errors.ts';
import type { TableEntry } from '../../mapping/document.ts';
import { writtenInstant } from '../../schedules/zone.ts';
import { sameOrder } from '../sweep.ts';
import { type Following, rangeOf, stateAfter } from './bounds.ts';
import { epochOf, instantOfWall, microsOf, textOf, unitByGreatest, wallMicros } from './instants.ts';

export type Step = 'load' | 'increment' | 'backfill';

/** The moment a run reads its source at. Absent while only a plan is shown: then no row is looked at. */
export type Moment = { readonly snapshot: SnapshotRef; readonly clock?: string; readonly pending?: string };

export type Asked = RunRequest & { readonly bounds?: RunBounds };

export type Incremental = {
  readonly step: Step;
  readonly follow: Follow;
  readonly work: Work;
  readonly notes: readonly string[];
};

export type IncrementInput = {
  readonly entry: TableEntry;
  readonly table: Table;
  readonly work: Work;
  readonly source: Source;
  readonly target: Target;
  readonly timezone: string;
  readonly moment?: Moment;
  readonly asked?: Asked;
  readonly signal: AbortSignal;
};

const incremental: readonly string[] = ['logging', 'syncing', 'mirroring'] satisfies Mode[];
export const isIncremental = (mode: string): boolean => incremental.includes(mode);

/** Undefined for modes that move the whole table. Throws MODE_REFUSED with what is missing. */
export async function decideIncrement(input: IncrementInput): Promise<Incremental | undefined> {
  const { entry, table, work, source, target, asked: request } = input;
  if (request?.backfill && !isIncremental(entry.mode)) {
    throw refused(
      work,
      `mode ${entry.mode} always moves the whole table; a part of it is for logging, syncing and mirroring`,
    );
  }
  if (!isIncremental(entry.mode)) return undefined;
  refuse(input);
  let follow = followOf(entry, table, source);
  if (follow.form === 'text' && !work.columns.some((column) => column.from === follow.column)) {
    throw refused(
      work,
      `the bookmark ${follow.column} is a text that only Godwit compares, so it must be among the columns`,
    );
  }
  const state = await target.state?.(work);
  const now = await watermark(input, follow);
  // What an epoch counts is told by its size, once there is one.
  if (follow.by === 'bookmark' && isEpoch(follow)) {
    const known = state?.settled.upto === undefined ? undefined : state.follow.form;
    follow = { ...follow, form: known ?? unitByGreatest(now?.upto) };
  }
  const how = { follow, key: work.key, where: entry.where, run: work.run, ended: source.ended?.bind(source) };
  const other = state && differs(state, how, entry.mode);
  if (request?.backfill && (!state || other)) {
    throw refused(work, 'it was not loaded yet; run it once without --from, --to and --where');
  }
  if (!state || other || request?.full) {
    const why = other
      ? `${other}: loaded anew`
      : state
        ? 'loaded anew, as was asked for'
        : 'not loaded yet: the first run moves all rows';
    const after = now && stateAfter(undefined, now, how);
    const notes = [why, ...grows(table, follow)];
    return { step: 'load', follow, work: { ...work, ...(after ? { state: after } : {}) }, notes };
  }
  if (request?.backfill) return backfill(input, follow, request.bounds ?? {});
  const following: Following = {
    follow,
    kind: kindOf(table, follow),
    nullable: table.columns.find((column) => column.name === follow.column)?.nullable ?? true,
    lags: {
      buffer: entry.bufferLag ?? 0,
      grace: entry.graceLag ?? 0,
      recheck: entry.recheck?.seconds ?? recheckSeconds,
    },
    timezone: input.timezone,
  };
  const increment: Increment = {
    ...(now ? { range: rangeOf(state, now, following) } : {}),
    ...(follow.form === 'text' ? { compare: 'worker' as const } : {}),
    existing: entry.mode === 'logging' ? 'keep' : 'update',
  };
  const after = now && stateAfter(state, now, how);
  const by = follow.by === 'key' ? `key ${follow.column}` : `bookmark ${follow.column}`;
  const last = `moves what is new since run of ${state.startedAt.slice(0, 16)}Z, by ${by}`;
  const notes = [last, ...grows(table, follow)];
  if (otherFilter(state, how)) {
    notes.push(
      '`where` is another than in the last run: rows it lets pass by now come when they change, or with --full',
    );
  }
  return { step: 'increment', follow, work: { ...work, increment, ...(after ? { state: after } : {}) }, notes };
}

/** Random keys are as many below the last one as above. */
const grows = (table: Table, { by, column }: Follow): string[] =>
  by === 'key' && ['uuid', 'text'].includes(kindOf(table, { by, column, form: 'native' }))
    ? [
        `${column}: only rows whose key is greater than those before are found; random ones (UUID version 4) need syncing`,
      ]
    : [];

/** Decision 22. */
const recheckSeconds = 3600;
const recheckKeys = 10_000;

/** A key that the target holds in a type of another order cannot be compared with the source's. */
const keepsOrder = (table: Table, { from, type }: PlanColumn): boolean => {
  const there = table.columns.find((one) => one.name === from)?.type;
  return there === undefined || sameOrder(there, type);
};

function refuse({ entry, work, source, target, table }: IncrementInput): void {
  const { mode } = entry;
  const name = work.target;
  const why = target.refusesMode ? target.refusesMode(mode) : `target ${name} has replace and dumping only`;
  if (why !== undefined) throw refused(work, why);
  if (!source.watermark) throw refused(work, `a source of ${source.system} has replace and dumping only`);
  if (work.key.length === 0) {
    throw refused(work, `${mode} needs a primary key that moves with the rows; set \`primary_key\``);
  }
  const sorted =
    mode === 'mirroring' && work.columns.find((column) => work.key.includes(column.name) && !keepsOrder(table, column));
  if (sorted)
    throw refused(
      work,
      `mirroring compares keys in order, and ${sorted.name} is held as another type, ${sorted.native}`,
    );
  // A mended key is none that the source has: its row would come and be deleted by turns.
  const mended = work.columns.find(
    ({ name, fit, misfit }) =>
      work.key.includes(name) && fit === 'checked' && (misfit === 'null' || misfit === 'clamp'),
  );
  if (mode === 'mirroring' && mended) {
    throw refused(
      work,
      `mirroring compares keys, and on_misfit would write others in ${mended.name}; set it to stop or quarantine`,
    );
  }
  if (mode === 'mirroring' && !(source.keys && source.keyRanges && target.keys && target.deleteKeys)) {
    throw refused(work, `mirroring needs keys that ${source.system} and ${target.system} can compare`);
  }
  if (entry.where.length > 0 && mode === 'mirroring' && !source.keys)
    throw refused(work, 'a filter cannot be mirrored');
}

const refused = (work: Work, why: string) => {
  const table = tableText(work.source.name);
  return new GodwitError('MODE_REFUSED', `${table}: ${why}.`, { table, target: work.target });
};

const instants: readonly LogicalKind[] = ['date', 'timestamp', 'timestamptz'];
const numbers: readonly LogicalKind[] = ['int8', 'int16', 'int32', 'int64', 'uint64', 'decimal', 'float32', 'float64'];

/** By what this table is followed. Documents are told by their source what their fields hold. */
function followOf(entry: TableEntry, table: Table, source: Source): Follow {
  const key = entry.primaryKey ?? table.key;
  if (entry.mode === 'logging') {
    const [column, ...more] = key;
    if (column === undefined || more.length > 0) {
      throw refusedTable(
        table,
        `logging follows a primary key of one column that only grows; it has ${key.join(', ') || 'none'}`,
      );
    }
    return { by: 'key', column, form: 'native' };
  }
  const name = entry.bookmark ?? '';
  const column = table.columns.find((one) => one.name === name);
  const follow = (form: Follow['form']): Follow => ({ by: 'bookmark', column: name, form });
  // Documents that move whole have their bookmark inside, and their source knows what it holds. Where there is none yet, none has it.
  const inside = table.rows === 0 || table.columns.some(({ native }) => native === 'document');
  if (!column && source.documents && inside) return follow('native');
  if (!column) throw missingColumn(table, name, 'bookmark');
  const { kind } = column.type;
  if (instants.includes(kind)) return follow('native');
  if (!entry.improperBookmarks) {
    if (source.documents) return follow('native');
    throw refusedTable(
      table,
      `the bookmark ${name} is ${column.native}, no date and time; set \`improper_bookmarks: true\` when it holds one`,
    );
  }
  return follow(numbers.includes(kind) ? 'milliseconds' : 'text');
}

function missingColumn(table: Table, name: string, what: 'column' | 'bookmark'): GodwitError {
  const has = table.columns.map((one) => one.name).join(', ');
  const message = `Table ${tableText(table.name)} has no ${what} "${name}"; it has ${has}.`;
  return new GodwitError('COLUMN_MISSING', message, { table: tableText(table.name), column: name });
}

const refusedTable = (table: Table, why: string) =>
  new GodwitError('MODE_REFUSED', `${tableText(table.name)}: ${why}.`, { table: tableText(table.name) });

const isEpoch = ({ form }: Follow) => form !== 'native' && form !== 'text';
const sameColumn = (a: Follow, b: Follow) =>
  a.by === b.by && a.column === b.column && isEpoch(a) === isEpoch(b) && (isEpoch(a) || a.form === b.form);

type Keeping = Pick<TableState, 'follow' | 'key' | 'where'>;
const otherFilter = (before: Keeping, now: Keeping): boolean =>
  before.where !== undefined && !isDeepStrictEqual(JSON.parse(JSON.stringify(now.where)), before.where);

/**
 * Why no increment can go on from what is remembered. A filter that was changed leaves the rows of the other modes where they are: a
 * load would take away those that are gone at the source by now.
 */
function differs(before: Keeping, now: Keeping, mode: Mode): string | undefined {
  if (!sameColumn(before.follow, now.follow)) {
    return `it followed ${before.follow.column} before and follows ${now.follow.column} now`;
  }
  if (before.key && before.key.join('\0') !== now.key?.join('\0')) {
    return `its key was ${before.key.join(', ')} and is ${now.key?.join(', ')}`;
  }
  return mode === 'mirroring' && otherFilter(before, now) ? 'its `where` is another one' : undefined;
}

const kindOf = (table: Table, { by, column }: Follow): LogicalKind => {
  const kind = table.columns.find((one) => one.name === column)?.type.kind ?? 'timestamptz';
  // Fields of documents have texts or numbers as columns, and instants as values.
  return by === 'bookmark' && !instants.includes(kind) ? 'timestamptz' : kind;
};

async function watermark(input: IncrementInput, follow: Follow): Promise<Watermark | undefined> {
  const { moment, source, table, entry, signal } = input;
  if (!moment || input.asked?.backfill) return undefined;
  return await source.watermark?.(table, follow, {
    snapshot: moment.snapshot,
    ...(moment.clock === undefined ? {} : { clock: moment.clock }),
    ...(moment.pending === undefined ? {} : { pending: moment.pending }),
    recheck: entry.recheck?.keys ?? recheckKeys,
    signal,
  });
}

const keyForms = [
  { of: /^u?int/, text: /^-?\d+$/, name: 'whole number' },
  { of: /^uuid$/, text: /^[\da-f]{8}-?([\da-f]{4}-?){3}[\da-f]{12}$/i, name: 'UUID' },
];

/** A stretch of rows again; what is remembered of the table stays as it is. */
function backfill({ entry, work, table, timezone }: IncrementInput, follow: Follow, bounds: RunBounds): Incremental {
  const kind = kindOf(table, follow);
  const end = (text: string, of: 'from' | 'upto') => {
    const instant = follow.by === 'bookmark' || instants.includes(kind);
    const read = instant ? asked(text, of, timezone) : undefined;
    const what = keyForms.find((form) => form.of.test(kind));
    if (!instant && what && !what.text.test(text.trim())) {
      throw refused(work, `\`--${of === 'from' ? 'from' : 'to'}\` is no ${what.name}, which ${follow.column} is`);
    }
    if (!instant) return text;
    if (read === undefined) {
      throw refused(
        work,
        `\`--${of === 'from' ? 'from' : 'to'}\` is no date and time such as 2024-02-29 or 2024-02-29T12:00:00`,
      );
    }
    const wall = follow.form === 'native' && kind !== 'timestamptz';
    if (isEpoch(follow)) return epochOf(read.micros, follow.form);
    if (follow.form !== 'text') return textOf(wall ? read.wall : read.micros, kind);
    // Each has a zone or not, as it was written: both are meant.
    const [low, high] = read.wall < read.micros ? [read.wall, read.micros] : [read.micros, read.wall];
    return textOf(of === 'from' ? low : high, 'timestamptz');
  };
  const { from, upto, where } = bounds;
  const known = (name: string) => table.columns.some((column) => column.name === name);
  const unknown = where?.find((one) => !known(one.column));
  if (unknown) throw missingColumn(table, unknown.column, 'column');
  const range = {
    column: follow.column,
    ...(from === undefined ? {} : { from: end(from, 'from') }),
    ...(upto === undefined ? {} : { upto: end(upto, 'upto') }),
  };
  const ranged = from !== undefined || upto !== undefined;
  const increment: Increment = {
    ...(ranged ? { range } : {}),
    ...(where ? { where } : {}),
    ...(ranged && follow.form === 'text' ? { compare: 'worker' as const } : {}),
    existing: entry.mode === 'logging' ? 'keep' : 'update',
  };
  const note = 'a part of the table is moved again; what is new elsewhere comes with the next run';
  return { step: 'backfill', follow, work: { ...work, increment }, notes: [note] };
}

/** What a person wrote, in the job's zone unless it names one; a date alone is its first or its last instant. */
function asked(text: string, of: 'from' | 'upto', timezone: string) {
  const found = writtenInstant(text);
  if (!found) return undefined;
  const [, date = '', given, offset] = found;
  const time = given ?? (of === 'from' ? '00:00:00' : '23:59:59.999999');
  const wall = microsOf(`${date}T${time.length === 5 ? `${time}:00` : time}`);
  if (wall === undefined) return undefined;
  if (offset === undefined) return { wall, micros: instantOfWall(wall, timezone) };
  const [, sign = '+', hours = '0', minutes = '0'] = /([+-])(\d\d):?(\d\d)/.exec(offset) ?? [];
  const shift = BigInt(Number(hours) * 60 + Number(minutes)) * 60_000_000n;
  const micros = sign === '-' ? wall + shift : wall - shift;
  return { micros, wall: wallMicros(micros, timezone) };
}
