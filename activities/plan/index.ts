import {
  type DocumentShape,
  type Follow,
  type Lane,
  type Mode,
  type Predicate,
  type Source,
  swapsIn,
  type Table,
  type Target,
  tableText,
  type Work,
} from '../../connectors/contract.ts';
import type { Failure } from '../../db/schema.ts';
import { asGodwitError, codes, type ErrorCode, GodwitError } from '../../errors.ts';
import type { JobDocument, TableEntry, TargetUse } from '../../mapping/document.ts';
import { components } from './components.ts';
import { expand, type Wanted } from './expand.ts';
import { type Asked, decideIncrement, type Moment, type Step } from './increment.ts';
import { shapeOf } from './shape.ts';
import { type PlannedWork, planWork, targetName } from './work.ts';

/** One (table, target) of a run, decided or refused. Plain JSON, no values of rows. */
export type PlannedTable = {
  readonly ordinal: number;
  readonly target: string;
  readonly sourceName: string;
  readonly targetName: string;
  readonly mode: Mode;
  readonly lane: Lane;
  /** Why this lane. */
  readonly why: string;
  /** Tables of one component are published together. */
  readonly component: number;
  readonly work?: Work;
  readonly failure?: Failure;
  readonly notes: readonly string[];
  readonly estimatedRows: number;
  readonly estimatedBytes: number;
  readonly chunks: 'one' | 'many';
  readonly batchSize: number;
  /** The form of its documents. */
  readonly shape?: DocumentShape;
  /** Seconds to wait after each batch. */
  readonly timeDelay: number;
  readonly maxQuarantined: number;
  readonly where: readonly Predicate[];
  /** After a run that did not end this table. */
  readonly continue: 'resume' | 'restart';
  /** Of the incremental modes. */
  readonly step?: Step;
  readonly follow?: Follow;
  readonly maxDeleted?: TableEntry['maxDeleted'];
};

export type PlanInput = {
  readonly document: JobDocument;
  readonly source: Source;
  /** Schema of table names without one. */
  readonly defaultSchema: string;
  /** The job's targets by name; empty = check and plan only. An Error = that target cannot be opened. */
  readonly targets: ReadonlyMap<string, { readonly target: Target; readonly use: TargetUse } | Error>;
  readonly installation: string;
  readonly jobUid: string;
  readonly run: string;
  readonly snapshotDate: string;
  /** The job's, for bookmarks without one. */
  readonly timezone: string;
  /** The moment that is read; absent: a plan to look at. */
  readonly moment?: Moment;
  /** What this run does other than the document says. */
  readonly asked?: Asked;
  /** Only the tables of that schedule; absent: all. */
  readonly schedule?: string;
  readonly signal: AbortSignal;
  /** Aimed-at bytes of a chunk: what is smaller goes in one. */
  readonly chunkBytes: number;
  /** A transient failure of one target fails its tables. Absent: it is thrown, and the plan tried again. */
  readonly impatient?: boolean;
  /**
   * Only this one: described by all of its documents (what a run had planned met one that did not fit), or as it was
   * described before.
   */
  readonly again?: { readonly sourceName: string; readonly target: string; readonly described?: Table };
};

/**
 * The whole plan: big tables first, failures last. One bad table never spoils the others: its failure stands in its place.
 * A failure of the source itself (login, host) is thrown.
 */
export async function planRun(given: PlanInput): Promise<PlannedTable[]> {
  const { document, source } = given;
  const targets = new Map(given.targets);
  const input = { ...given, targets };
  const entries = given.schedule
    ? document.tables.filter((entry) => entry.schedule === given.schedule)
    : document.tables;
  const expanded = await expand({
    entries,
    targets: [...targets.keys()],
    naming: { defaultSchema: input.defaultSchema, dotted: source.documents === true },
    list: () => source.tables(),
  });
  const { again } = input;
  const wanted = onlyAsked(expanded, given)
    .filter((want) => !again || (tableText(want.name) === again.sourceName && want.target === again.target))
    .map((want) => shaped(input, want));
  const known = again?.described;
  const tables = known ? new Map(wanted.map((want) => [descriptionOf(want), known])) : await describe(source, wanted);
  const sourceIdentity = await source.identity();
  const same = new Set<string>();
  for (const [name, opened] of targets) {
    if (opened instanceof Error) continue;
    try {
      if ((await opened.target.identity()) === sourceIdentity) same.add(name);
    } catch (error) {
      targets.set(name, ofTarget(input, error));
    }
  }

  const drafts = await someAtOnce(wanted, (want) => draft(input, want, tables.get(descriptionOf(want))));
  refuseCollisions(drafts);
  for (const one of drafts) if (one.planned && same.has(one.want.target)) refuseSamePlace(one);
  await Promise.all([...targets].map(([name, opened]) => refuseByTarget(input, drafts, name, opened)));
  await lookCloser(input, drafts);

  const sorted = drafts
    .map((one) => ({
      ...one,
      chunks: one.planned && one.table ? chunking(one.table, input.chunkBytes) : ('one' as const),
    }))
    .sort((a, b) => size(b) - size(a));
  const numbers = components(
    sorted.map((one) => (one.failure ? undefined : one.planned?.work)),
    (work) => systemOf(targets.get(work.target)) === source.system,
  );
  return sorted.map((one, i) => finished(one, i + 1, numbers[i] as number, input));
}

/** In their order; each asks the source and the target, whose connections are few. */
async function someAtOnce<T, R>(all: readonly T[], work: (one: T) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(all.length);
  const queue = all.entries();
  const lane = async () => {
    for (const [i, one] of queue) results[i] = await work(one);
  };
  await Promise.all(Array.from({ length: 4 }, lane));
  return results;
}

/** What a target said no with; one that only does not answer just now is asked again with the whole plan. */
function ofTarget({ impatient }: PlanInput, thrown: unknown): GodwitError {
  const error = asGodwitError(thrown);
  if (error.retryable && !impatient) throw error;
  return error;
}

type Draft = {
  readonly want: Shaped;
  readonly table?: Table;
  readonly step?: Step;
  readonly follow?: Follow;
  planned?: PlannedWork;
  failure?: GodwitError;
};

const systemOf = (opened: { readonly target: Target } | Error | undefined) =>
  opened === undefined || opened instanceof Error ? undefined : opened.target.system;

type Shaped = Wanted & { readonly shape?: DocumentShape };

/** With the form its documents take; a form that cannot be is the table's failure. */
function shaped({ source, targets, again }: PlanInput, want: Wanted): Shaped {
  const opened = targets.get(want.target);
  const target = opened && !(opened instanceof Error) ? { target: opened.target } : {};
  try {
    const shape = shapeOf({ entry: want.entry, name: want.name, source, ...target, targetName: want.target });
    if (!shape || want.failure) return want;
    return { ...want, shape: again && !again.described ? { ...shape, thorough: true } : shape };
  } catch (error) {
    return { ...want, failure: asGodwitError(error) };
  }
}

const descriptionOf = ({ name, shape }: Shaped): string => JSON.stringify([name, shape ?? null]);

/** Each table once per form in which it is wanted, with one question per form. */
async function describe(source: Source, wanted: readonly Shaped[]): Promise<Map<string, Table | Error>> {
  const forms = Map.groupBy(
    wanted.filter((want) => !want.failure),
    ({ shape }) => JSON.stringify(shape ?? null),
  );
  const found = new Map<string, Table | Error>();
  for (const group of forms.values()) {
    const each = [...new Map(group.map((want) => [descriptionOf(want), want])).values()];
    const tables = await source.describeAll(
      each.map(({ name }) => name),
      each[0]?.shape,
    );
    for (const [i, want] of each.entries()) found.set(descriptionOf(want), tables[i] as Table | Error);
  }
  return found;
}

/** `run JOB --table T`: names as the document has them, or of tables its patterns match. */
function onlyAsked(expanded: readonly Wanted[], { asked, defaultSchema }: PlanInput): readonly Wanted[] {
  const names = asked?.tables;
  if (!names) return expanded;
  const known = (want: Wanted) => [
    tableText(want.name),
    want.entry.name,
    ...(want.name.schema === defaultSchema ? [want.name.name] : []),
  ];
  const missing = names.find((name) => !expanded.some((want) => known(want).includes(name)));
  if (missing !== undefined) {
    const some = expanded
      .slice(0, 5)
      .map((want) => tableText(want.name))
      .join(', ');
    throw new GodwitError(
      'TABLE_MISSING',
      `The job has no table "${missing}"; it has ${some}${expanded.length > 5 ? ', …' : ''}.`,
      { table: missing },
    );
  }
  return expanded.filter((want) => known(want).some((name) => names.includes(name)));
}

async function draft(input: PlanInput, want: Shaped, table: Table | Error | undefined): Promise<Draft> {
  if (want.failure) return { want, failure: want.failure };
  if (table === undefined || table instanceof Error) return { want, failure: asGodwitError(table) };
  const opened = input.targets.get(want.target);
  if (opened === undefined) {
    // Zero targets: the source alone is checked. A target the job does not have is the mapping's error.
    if (want.target === '') return { want, table };
    const names = [...input.targets.keys()].join(', ');
    const failure = new GodwitError('MAPPING_INVALID', `The job has no target "${want.target}"; it has ${names}.`, {
      table: tableText(want.name),
    });
    return { want, table, failure };
  }
  if (opened instanceof Error) return { want, table, failure: asGodwitError(opened) };
  try {
    const { installation, jobUid, run, snapshotDate, source } = input;
    const planned = planWork({
      entry: want.entry,
      table,
      source,
      target: opened.target,
      targetName: want.target,
      use: opened.use,
      installation,
      jobUid,
      run,
      snapshotDate,
    });
    const found = await decideIncrement({
      ...input,
      entry: want.entry,
      table,
      work: planned.work,
      target: opened.target,
    });
    if (!found) return { want, table, planned: remarked(planned, want) };
    const work =
      found.work.increment?.compare === 'worker'
        ? { ...found.work, ...rowByRow(opened.target, found.work) }
        : found.work;
    return {
      want,
      table,
      step: found.step,
      follow: found.follow,
      planned: remarked({ ...planned, work, notes: [...planned.notes, ...found.notes] }, want),
    };
  } catch (thrown) {
    const error = asGodwitError(thrown);
    // The source or the target does not answer just now: the whole plan is tried again.
    if (error.retryable && !input.impatient) throw error;
    return { want, table, failure: error };
  }
}

/** Values are looked at in the worker. */
const rowByRow = (target: Target, work: Work): Pick<Work, 'lane' | 'readFormat' | 'writeFormat'> => ({
  lane: 'rows',
  readFormat: 'rows',
  writeFormat: target.formats.includes('rows') ? 'rows' : work.writeFormat,
});

/** Casts that the form of the documents leaves no room for: the mapping did not ask for that form by its name. */
const remarked = (planned: PlannedWork, { entry, shape }: Shaped): PlannedWork =>
  shape?.as === 'raw' && entry.fields
    ? {
        ...planned,
        notes: [...planned.notes, '`fields` has no effect: documents move as they are (set `documents: fields`)'],
      }
    : planned;

/** Decision 3: two tables on one name are an error that shows both. */
function refuseCollisions(drafts: Draft[]) {
  const places = Map.groupBy(
    drafts.filter((one) => one.planned),
    (one) => JSON.stringify([one.want.target, one.planned?.work.name.schema, one.planned?.work.name.name]),
  );
  for (const group of places.values()) {
    if (group.length < 2) continue;
    const who = group.map((one) => tableText(one.want.name)).join(' and ');
    for (const one of group) {
      const name = one.planned ? tableText(one.planned.work.name) : '';
      const sentence = `${who} would both be written to ${name} on target ${one.want.target}; set \`schema: "{schema}"\` or \`table\`.`;
      one.failure = new GodwitError('NAME_COLLISION', sentence, {
        table: tableText(one.want.name),
        target: one.want.target,
      });
    }
  }
}

/** The source's own tables are never written to. */
function refuseSamePlace(one: Draft) {
  const work = one.planned?.work;
  if (!work || tableText(work.name) !== tableText(work.source.name)) return;
  const sentence = `Target ${work.target} is the source's own database: ${tableText(work.name)} would be replaced by itself.`;
  one.failure ??= new GodwitError('SAME_DATABASE', sentence, { table: tableText(work.name), target: work.target });
}

async function refuseByTarget(
  input: PlanInput,
  drafts: Draft[],
  name: string,
  opened: { target: Target } | Error | undefined,
) {
  if (opened === undefined || opened instanceof Error) return;
  for (const one of drafts) {
    if (one.want.target !== name || !one.planned || one.failure) continue;
    try {
      one.planned = await withoutNew(opened.target, one.planned);
      const [first, ...more] = await opened.target.refusals(one.planned.work);
      if (!first) {
        const notes = await opened.target.drift?.(one.planned.work);
        if (notes && notes.length > 0) one.planned = { ...one.planned, notes: [...one.planned.notes, ...notes] };
        continue;
      }
      const others =
        more.length > 0 ? ` (and ${more.length} more: ${more.map((error) => error.message).join(' ')})` : '';
      one.failure = new GodwitError(first.code as ErrorCode, first.message + others, {
        table: tableText(one.want.name),
        target: name,
      });
    } catch (error) {
      one.failure = ofTarget(input, error);
    }
  }
}

/**
 * A sample of documents may show less than the one of the run before: what then differs from a table that stays is looked
 * at again by all documents, before it is refused.
 */
async function lookCloser(input: PlanInput, drafts: Draft[]) {
  const doubtful = ({ failure, want: { shape } }: Draft) =>
    failure?.code === 'TARGET_DIFFERS' && !shape?.thorough && (shape?.as === 'fields' || shape?.as === 'flatten');
  const again = drafts.filter(doubtful).map(({ want }): Shaped => {
    const shape = want.shape as DocumentShape;
    return { ...want, shape: { ...shape, thorough: true } };
  });
  if (again.length === 0) return;
  const tables = await describe(input.source, again);
  const anew = await someAtOnce(again, (want) => draft(input, want, tables.get(descriptionOf(want))));
  await Promise.all([...input.targets].map(([name, opened]) => refuseByTarget(input, anew, name, opened)));
  for (const [i, one] of drafts.entries()) {
    if (doubtful(one)) drafts[i] = anew.shift() as Draft;
  }
}

/** `on_schema_change: ignore`: columns which the target's table does not have are left out, but for those it cannot be without. */
async function withoutNew(target: Target, planned: PlannedWork): Promise<PlannedWork> {
  const { work, notes } = planned;
  const stays = !swapsIn(work) || work.swap === 'delete-insert' || work.existing === 'adopt';
  if (work.onSchemaChange !== 'ignore' || !stays) return planned;
  const there = await target.describe(work.name);
  if (!there || there.columns.length === 0) return planned;
  if (work.existing === 'overwrite' && there.owner !== work.jobUid) return planned;
  const has = new Set(there.columns.map((column) => column.name));
  const needed = new Set([...work.key, ...(work.partition ? [work.partition.column] : [])]);
  const stay = ({ name, constant }: Work['columns'][number]) =>
    has.has(name) || needed.has(name) || constant !== undefined;
  const left = work.columns.filter((column) => !stay(column));
  if (left.length === 0) return planned;
  const said = left.map(({ name }) => `${name}: new at the source and left out (on_schema_change: ignore)`);
  return { ...planned, work: { ...work, columns: work.columns.filter(stay) }, notes: [...notes, ...said] };
}

/** A table of less than one and a half chunks, and one without a key, moves as one. */
const chunking = (table: Table, chunkBytes: number): 'one' | 'many' =>
  table.key.length > 0 && table.bytes > chunkBytes * 1.5 ? 'many' : 'one';

const size = (one: Draft): number => (one.failure ? -2 : (one.table?.bytes ?? -1));

function finished(
  one: Draft & { chunks: 'one' | 'many' },
  ordinal: number,
  component: number,
  input: PlanInput,
): PlannedTable {
  const { entry, name, target } = one.want;
  const work = one.failure ? undefined : one.planned?.work;
  const opened = input.targets.get(target);
  const use = opened && !(opened instanceof Error) ? opened.use : input.document.targets[target];
  return {
    ordinal,
    target,
    sourceName: tableText(name),
    targetName: work ? tableText(work.name) : use ? tableText(targetName(name, use)) : tableText(name),
    mode: entry.mode,
    lane: one.planned?.work.lane ?? 'rows',
    why: one.planned?.why ?? '',
    component,
    ...(work ? { work } : {}),
    ...(one.failure ? { failure: toFailure(one.failure) } : {}),
    notes: one.planned?.notes ?? [],
    estimatedRows: one.table?.rows ?? -1,
    estimatedBytes: one.table?.bytes ?? -1,
    chunks: one.chunks,
    batchSize: entry.batchSize,
    ...(one.want.shape ? { shape: one.want.shape } : {}),
    timeDelay: entry.timeDelay ?? 0,
    maxQuarantined: entry.maxQuarantined,
    where: entry.where,
    continue: input.asked?.full || input.asked?.backfill ? 'restart' : entry.continue,
    ...(one.step ? { step: one.step } : {}),
    ...(one.follow ? { follow: one.follow } : {}),
    ...(entry.maxDeleted ? { maxDeleted: entry.maxDeleted } : {}),
  };
}

/** As stored and shown: code, sentence, what to do, where. */
export const toFailure = (error: GodwitError): Failure => ({
  code: error.code,
  message: error.message,
  fix: codes[error.code].fix,
  where: Object.fromEntries(Object.entries(error.where).filter(([, value]) => value !== undefined)),
  at: new Date().toISOString(),
});
