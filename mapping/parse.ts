import { basename, extname } from 'node:path';
import { z } from 'zod';
import type { Misfit, Partition, Predicate } from '../connectors/contract.ts';
import { ownDatabase, schemaDefault } from './defaults.ts';
import type { JobDocument, TableEntry, TargetUse } from './document.ts';
import { type Endpoint, readSource, readTarget, systemOf } from './endpoints.ts';
import { didYouMean, type Path, type Report, report } from './problems.ts';
import { readText } from './read.ts';
import { assignSchedules, type Said, saidAt } from './schedule.ts';
import { collectionSchema, identifier, mappingSchema, type TableKeys, tableSchema } from './schema.ts';
import { notifyRules } from './settings.ts';

export type ParsedMapping = {
  readonly document: JobDocument;
  /** Sources and targets written inside the mapping; what is absent here is saved already, under that name. */
  readonly endpoints: {
    readonly source?: Endpoint;
    /** By the target's name in the job. */
    readonly targets: Readonly<Record<string, Endpoint>>;
  };
  /**
   * Set when the mapping names saved ones and leaves something to them: see `fillDefaults` in mapping/defaults.ts, which
   * the one who knows them calls before the document is stored.
   */
  readonly open: boolean;
  /** Keys that are right but have no effect in this version, in sentences. */
  readonly warnings: readonly string[];
};

export type ParseOptions = { readonly format?: 'yaml' | 'json'; readonly file?: string };

const mappingTimes = z.object({
  cron: mappingSchema.shape.cron.catch(undefined),
  interval: mappingSchema.shape.interval.catch(undefined),
});

/** Throws MAPPING_INVALID (a MappingError) with everything wrong at once. Never quotes a value of a secret setting. */
export function parseMapping(input: string | object, { file }: ParseOptions = {}): ParsedMapping {
  const { value, locate } =
    typeof input === 'string' ? readText(input, file) : { value: input, locate: () => undefined };
  const found = report(locate, file);
  const top = found.parse(mappingSchema, withoutLater(value, found), []);
  const keys = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  const name = top?.name ?? nameOf(file);
  if (top && !identifier.safeParse(name).success) {
    found.add(['name'], name === undefined ? 'is required' : `"${name}" cannot be a job's name; set \`name\``, 'key');
  }
  const job = name ?? 'job';
  const timezone = top?.timezone;
  // Looked at beside a mistake elsewhere, too.
  const whole = saidAt(top ?? mappingTimes.safeParse(keys).data ?? {}, { at: [], found, timezone });

  const source = readSourcePlace(keys.source, job, found);
  const targets = readDestinations(keys.destination, job, found);
  const warnings: string[] = [];
  const said = new Map<TableEntry, Said>();
  const listed = readTables({ keys, source: source?.endpoint, targets, found, warnings, said, timezone });
  const timing = { said: whole, timezone, options: top?.schedule, found, warnings };
  const { tables, schedules } = assignSchedules(listed, (table) => said.get(table), timing);

  const inherits = [source?.endpoint, ...Object.values(targets).map((target) => target.endpoint)].some(
    (endpoint) => endpoint === undefined || endpoint.connection !== undefined,
  );
  const schema = source?.endpoint ? schemaDefault(source.endpoint.type, source.endpoint.settings) : undefined;
  for (const [alias, { use, saved, endpoint }] of Object.entries(targets)) {
    if (inherits || saved !== undefined || use.schema !== undefined || schema !== undefined) continue;
    if (endpoint && ownDatabase(endpoint) !== undefined) continue;
    const why = "the source's db_name is not known for the default `{source}_{db_name}_dms`";
    found.add(['destination', alias], `"schema" is required here: ${why}`);
  }
  found.end();

  const document: JobDocument = {
    name: job,
    source: source?.name ?? '',
    targets: Object.fromEntries(
      Object.entries(targets).map(([alias, target]) => [alias, targetUse(`${job}/${alias}`, target, schema)]),
    ),
    tables,
    giveUpAfter: seconds(top?.give_up_after ?? '24h'),
    ...(timezone === undefined ? {} : { timezone }),
    ...(schedules ? { schedules } : {}),
    ...(top?.cut_off_time === undefined ? {} : { cutOffTime: top.cut_off_time }),
    ...(top?.notify === undefined ? {} : { notify: notifyRules(top.notify) }),
  };
  return {
    document,
    endpoints: {
      ...(source?.endpoint ? { source: source.endpoint } : {}),
      targets: Object.fromEntries(
        Object.entries(targets).flatMap(([alias, { endpoint }]) => (endpoint ? [[alias, endpoint] as const] : [])),
      ),
    },
    open: inherits,
    warnings,
  };
}

const nameOf = (file: string | undefined): string | undefined =>
  file === undefined ? undefined : basename(file, extname(file));

/** Keys of the manual whose sources come later get their own sentence instead of "unknown". */
function withoutLater(value: unknown, found: Report): unknown {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value;
  const later: Readonly<Record<string, string>> = {
    topics:
      'Kafka sources come in a later version of Godwit; list `tables` of a database, or `collections` of a mongo one',
    apis: 'API sources come in a later version of Godwit; list `tables` of a database, or `collections` of a mongo one',
    redis: 'it belongs to Kafka sources, which come in a later version of Godwit',
  };
  const present = Object.keys(later).filter((key) => key in value);
  for (const key of present) found.add([key], later[key] as string, 'key');
  const rest = Object.fromEntries(Object.entries(value).filter(([key]) => !present.includes(key)));
  // Said already: a mapping of topics needs no second sentence about its missing tables.
  return present.length > 0 ? { tables: [], ...rest } : rest;
}

function readSourcePlace(input: unknown, job: string, found: Report) {
  const at = ['source'];
  if (input === undefined)
    return void found.add([], '"source" is required: settings with source_type, or the name of a saved source');
  if (typeof input === 'string') return input === '' ? void found.add(at, 'is empty') : { name: input };
  if (!isMap(input)) return void found.add(at, 'expected settings with source_type, or the name of a saved source');
  const endpoint = readSource({ input, name: `${job}/source`, at }, found);
  return endpoint && { name: endpoint.name, endpoint };
}

type Target = NonNullable<ReturnType<typeof readTarget>>;

function readDestinations(input: unknown, job: string, found: Report): Record<string, Target> {
  const targets: Record<string, Target> = {};
  if (input === undefined || input === null) return targets;
  if (!isMap(input)) {
    found.add(['destination'], 'expected a map: a name of your choice for each target, and its settings');
    return targets;
  }
  if ('destination_type' in input) {
    found.add(['destination'], 'give the target a name: `destination: { warehouse: { destination_type: … } }`');
    return targets;
  }
  for (const [alias, value] of Object.entries(input)) {
    const at = ['destination', alias];
    const wrong = identifier.safeParse(alias).error?.issues[0]?.message;
    if (wrong) found.add(at, `a target's name: ${wrong}`, 'key');
    if (typeof value === 'string' && value !== '') targets[alias] = { saved: value, use: {} };
    else if (!isMap(value)) found.add(at, 'expected settings with destination_type, or the name of a saved target');
    else {
      const target = readTarget({ input: value, name: `${job}/${alias}`, at }, found);
      if (target) targets[alias] = target;
    }
  }
  return targets;
}

const targetUse = (own: string, { saved, use, endpoint }: Target, schema: string | undefined): TargetUse => ({
  target: saved ?? own,
  // Absent until fillDefaults has seen the saved source, target or connection.
  schema:
    use.schema ?? (endpoint && ownDatabase(endpoint)) ?? (endpoint && !endpoint.connection ? schema : undefined) ?? '',
  table: use.table ?? '{table}',
  ...(use.format === undefined ? {} : { format: use.format }),
  ...(use.s3_suffix === undefined ? {} : { suffix: use.s3_suffix }),
});

type Tables = {
  readonly keys: Readonly<Record<string, unknown>>;
  /** When it is written in the mapping itself. */
  readonly source: Endpoint | undefined;
  readonly targets: Readonly<Record<string, Target>>;
  readonly found: Report;
  readonly warnings: string[];
  /** Filled: when each table runs. */
  readonly said: Map<TableEntry, Said>;
  readonly timezone: string | undefined;
};

/** `tables`, and the manual's other word for those of a document store. */
const lists = [
  { list: 'tables', nameKey: 'table_name', schema: tableSchema },
  { list: 'collections', nameKey: 'collection_name', schema: collectionSchema },
] as const;

function readTables(all: Tables): TableEntry[] {
  const { keys, source, found } = all;
  const given = lists.filter(({ list }) => keys[list] !== undefined);
  if (given.length === 0) {
    const later = ['topics', 'apis'].some((key) => key in keys);
    const one = source && systemOf(source.type).documents ? 'collections' : 'tables';
    if (!later)
      found.add([], `"${one}" is required: a list with at least one ${one === 'tables' ? 'table' : 'collection'}`);
    return [];
  }
  const seen = new Map<string, string>();
  return given.flatMap((which) => readList(which, all, seen));
}

function readList(
  { list, nameKey, schema }: (typeof lists)[number],
  all: Tables,
  seen: Map<string, string>,
): TableEntry[] {
  const { keys, source, targets, found, warnings } = all;
  const entries = keys[list];
  const documents = source && systemOf(source.type).documents;
  if (!Array.isArray(entries) || entries.length === 0) {
    found.add([list], `"${list}" is required: a list with at least one ${list === 'tables' ? 'table' : 'collection'}`);
    return [];
  }
  if (list === 'collections' && source && !documents) {
    found.add([list], `"collections" are those of a mongo source; list the \`tables\` of ${source.type}`, 'key');
    return [];
  }
  const known = isMap(keys.destination) ? Object.keys(keys.destination) : Object.keys(targets);
  return entries.flatMap((input: unknown, i) => {
    const at = [list, i];
    const parsed = found.parse(schema, input, at);
    if (!parsed) return [];
    const entry: Entry = { ...parsed, name: 'table_name' in parsed ? parsed.table_name : parsed.collection_name };
    for (const [n, target] of (entry.targets ?? []).entries()) {
      if (!known.includes(target)) {
        found.add([...at, 'targets', n], `the job has no target "${target}"${didYouMean(target, known)}`);
      }
    }
    for (const target of entry.targets ?? (known.length > 0 ? known : [''])) {
      const place = JSON.stringify([entry.name, target]);
      const before = seen.get(place);
      if (before !== undefined) {
        found.add([...at, nameKey], `"${entry.name}" is listed before, in ${before}; one entry per table and target`);
        break;
      }
      seen.set(place, `${list}[${i}]`);
    }
    if (entry.columns && entry.exclude_columns.length > 0) {
      found.add([...at, 'exclude_columns'], 'not beside `columns`: list the one or the other', 'key');
    }
    if (entry.exclude.length > 0 && !/[*?]/.test(entry.name)) {
      found.add([...at, 'exclude'], `is for patterns; ${nameKey} is one table (columns: \`exclude_columns\`)`, 'key');
    }
    refuseDocuments(entry, { at, found, source: documents ? undefined : source });
    refuseIncremental(entry, at, found);
    warn(entry, warnings);
    const table = tableEntry(entry, at, found);
    all.said.set(table, saidAt(entry, { at, found, timezone: all.timezone }));
    return [table];
  });
}

type Entry = Omit<TableKeys, 'table_name'> & { readonly name: string };

type DocumentKeys = {
  readonly at: Path;
  readonly found: Report;
  /** A source known to have no documents. */
  readonly source: Endpoint | undefined;
};

/** Keys that mean something for documents only, or for one form of them. */
function refuseDocuments(entry: Entry, { at, found, source }: DocumentKeys) {
  const casts = Object.keys(entry.fields);
  if (source) {
    const why = `is for sources of documents (mongo); the columns of ${source.type} have types of their own`;
    if (entry.documents !== undefined) found.add([...at, 'documents'], why, 'key');
    if (casts.length > 0) found.add([...at, 'fields'], why, 'key');
  } else if (casts.length > 0 && (entry.documents === 'json' || entry.documents === 'raw')) {
    found.add(
      [...at, 'fields'],
      `is for \`documents: fields\` and flatten; ${entry.documents} keeps the document whole`,
      'key',
    );
  }
  if (entry.documents !== 'raw') return;
  for (const [key, idle] of [
    ['columns', entry.columns === undefined],
    ['exclude_columns', entry.exclude_columns.length === 0],
    ['col_rename', Object.keys(entry.col_rename).length === 0],
  ] as const) {
    if (!idle) found.add([...at, key], 'not beside `documents: raw`, which moves documents as they are', 'key');
  }
}

/** What the incremental modes need, as far as the mapping alone can tell. */
function refuseIncremental(entry: Entry, at: Path, found: Report) {
  const follows = entry.mode === 'syncing' || entry.mode === 'mirroring';
  if (follows && entry.bookmark === undefined) {
    found.add(at, `"bookmark" is required for ${entry.mode}: the column that is set to now whenever a row changes`);
  }
  if (entry.mode === 'logging' && entry.primary_key !== undefined && [entry.primary_key].flat().length > 1) {
    found.add([...at, 'primary_key'], 'logging follows one column that only grows');
  }
  if (entry.max_deleted !== undefined && entry.mode !== 'mirroring') {
    found.add([...at, 'max_deleted'], `is for mirroring; ${entry.mode} deletes nothing`, 'key');
  }
  if (
    entry.mode !== 'replace' &&
    entry.mode !== 'dumping' &&
    entry.documents === 'raw' &&
    entry.bookmark?.includes('.')
  ) {
    found.add([...at, 'bookmark'], 'expected a field at the top of the documents');
  }
}

const incremental = ['improper_bookmarks', 'buffer_updation_lag', 'grace_updation_lag'] as const;

/** Keys that have no effect in this mode: older mappings carry them along. */
function warn(entry: Entry, warnings: string[]) {
  if (entry.mode === 'syncing' || entry.mode === 'mirroring') return;
  const given = incremental.filter((key) => entry[key] !== undefined && entry[key] !== false);
  const idle = entry.bookmark === undefined ? given : (['bookmark', ...given] as const);
  if (idle.length === 0) return;
  const why = entry.mode === 'logging' ? 'which follows the primary key' : 'which reads the whole table';
  const verb = idle.length === 1 ? 'has' : 'have';
  warnings.push(`${entry.name}: ${idle.join(', ')} ${verb} no effect in mode ${entry.mode}, ${why}.`);
}

type Lag = TableKeys['buffer_updation_lag'];
const lagSeconds = ({ days = 0, hours = 0, minutes = 0 }: NonNullable<Lag>) =>
  ((days * 24 + hours) * 60 + minutes) * 60;

function maxDeleted(given: NonNullable<TableKeys['max_deleted']>): NonNullable<TableEntry['maxDeleted']> {
  return typeof given === 'number' ? { rows: given } : { share: Number.parseFloat(given) / 100 };
}

/** What the incremental modes go by; nothing for the others. */
const following = (entry: Entry): Partial<TableEntry> => {
  if (entry.mode === 'replace' || entry.mode === 'dumping') return {};
  const { minutes, keys } = entry.recheck;
  const recheck = {
    ...(minutes === undefined ? {} : { seconds: minutes * 60 }),
    ...(keys === undefined ? {} : { keys }),
  };
  return {
    ...(entry.mode === 'logging' || entry.bookmark === undefined ? {} : { bookmark: entry.bookmark }),
    ...(entry.improper_bookmarks ? { improperBookmarks: true } : {}),
    ...(entry.buffer_updation_lag ? { bufferLag: lagSeconds(entry.buffer_updation_lag) } : {}),
    ...(entry.grace_updation_lag ? { graceLag: lagSeconds(entry.grace_updation_lag) } : {}),
    ...(Object.keys(recheck).length > 0 ? { recheck } : {}),
    ...(entry.max_deleted === undefined ? {} : { maxDeleted: maxDeleted(entry.max_deleted) }),
  };
};

function tableEntry(entry: Entry, at: Path, found: Report): TableEntry {
  const partition: Partition | undefined = entry.partition_col
    ? {
        column: entry.partition_col,
        format: entry.partition_col_format,
        ...(entry.partition_years ? { years: entry.partition_years } : {}),
      }
    : undefined;
  return {
    name: entry.name,
    exclude: entry.exclude,
    mode: entry.mode,
    ...(entry.primary_key === undefined ? {} : { primaryKey: [entry.primary_key].flat() }),
    batchSize: entry.batch_size,
    ...(entry.columns ? { columns: entry.columns } : {}),
    excludeColumns: entry.exclude_columns,
    rename: entry.col_rename,
    where: Object.entries(entry.where).flatMap(([column, is]) =>
      predicates(column, is, [...at, 'where', column], found),
    ),
    ...(partition ? { partition } : {}),
    ...following(entry),
    ...(entry.strict ? { strict: true } : {}),
    existing: entry.existing,
    swap: entry.swap,
    continue: entry.continue,
    onSchemaChange: entry.on_schema_change,
    onMisfit:
      typeof entry.on_misfit === 'string' ? { '*': entry.on_misfit } : (entry.on_misfit as Record<string, Misfit>),
    maxQuarantined: entry.max_quarantined,
    ...(entry.time_delay > 0 ? { timeDelay: entry.time_delay } : {}),
    ...(entry.documents ? { documents: entry.documents } : {}),
    ...(Object.keys(entry.fields).length > 0 ? { fields: entry.fields } : {}),
    views: entry.views,
    ...(entry.targets ? { targets: entry.targets } : {}),
  };
}

/** Decision 20's comparisons; the source evaluates them. */
function predicates(column: string, is: TableKeys['where'][string], at: Path, found: Report): Predicate[] {
  const make = (op: Predicate['op'], values: readonly unknown[]): Predicate => {
    if (values.some((value) => typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value))) {
      found.add(at, 'a whole number past 2^53 must be given as text, in quotes, so that none of its digits is lost');
    }
    return { column, op, values: values as Predicate['values'] };
  };
  if (is === null) return [make('is null', [])];
  if (Array.isArray(is)) return [make('in', is)];
  if (typeof is !== 'object') return [make('=', [is])];
  const tests = Object.entries(is).filter(([, value]) => value !== undefined);
  if (tests.length === 0) found.add(at, 'is empty');
  return tests.map(([op, value]) => {
    if (op === 'is') return make('is null', []);
    if (op === 'is not') return make('is not null', []);
    return make(op as Predicate['op'], Array.isArray(value) ? value : [value]);
  });
}

const unit = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

/** `24h`, `90 s`, `30m`, `2d` or seconds. */
function seconds(input: number | string): number {
  if (typeof input === 'number') return input;
  const [, amount = '0', letter = 's'] = /^([\d.]+)\s*([smhd])$/.exec(input) ?? [];
  return Number(amount) * unit[letter as keyof typeof unit];
}

const isMap = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value);
