/** Mappings of the old tool as Godwit reads them: the same keys, and a word about each one that means nothing here. */
import { collectionSchema, identifier, tableSchema } from '../../mapping/schema.ts';
import { timeOfDay, timezone } from '../../mapping/settings.ts';
import type { OldFile, OldMapping } from './python.ts';

export type Converted = {
  readonly name: string;
  /** Absent: its source is none that Godwit has. */
  readonly mapping?: Readonly<Record<string, unknown>>;
  /** What a person must look at. */
  readonly byHand: readonly string[];
};

/** The manual's default, where its settings say nothing. */
const manualsZone = 'Asia/Kolkata';

const later: Readonly<Record<string, string>> = {
  kafka: 'sources of kafka come in a later version of Godwit',
  api: 'sources of type api come in a later version of Godwit',
  redshift: 'targets of redshift come in a later version of Godwit',
};
const functions: Readonly<Record<string, string>> = {
  get_table_name:
    'the function get_table_name decides where a record goes: name the target’s table with `table`, or give each topic its own',
  process_dict:
    'the function process_dict changes records: say it with `fields`, `col_rename`, `columns` and `where`, or do it in a view of the source',
};

export function convert(file: OldFile, fileName: string): Converted[] {
  return file.mappings.map((one) => convertOne(one, file, nameOf(one, file, fileName)));
}

/** `mapping` in `orders.py` is the job `orders`; others carry the name of their variable or key. */
function nameOf({ path }: OldMapping, { mappings }: OldFile, fileName: string): string {
  const rest = path.filter((part) => !/^(mappings?|pipeline_format|pipelines?|jobs?)$/i.test(part));
  const words =
    rest.length > 0 || mappings.length > 1 ? [...(mappings.length > 1 && rest.length === 0 ? path : []), ...rest] : [];
  const name = (words.length > 0 ? words.join('-') : fileName)
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '');
  const short = name.slice(0, 63);
  return identifier.safeParse(short).success ? short : 'imported';
}

function convertOne({ mapping }: OldMapping, file: OldFile, name: string): Converted {
  const byHand: string[] = [];
  const hand = (what: string) => {
    if (!byHand.includes(what)) byHand.push(what);
  };
  for (const one of file.functions) if (functions[one]) hand(functions[one]);
  for (const one of file.decided) {
    hand(`${one}: the file makes a number of this variable or compares it, with its default; check what comes of it`);
  }
  const source = known(mapping.source, 'source', 'source_type', hand);
  for (const key of ['topics', 'apis', 'redis']) {
    if (key in mapping) hand(`${key}: ${later[key === 'apis' ? 'api' : 'kafka']}`);
  }
  const others = Object.keys(mapping).filter((key) => !knownKeys.has(key));
  for (const key of others) hand(`${key}: not known to Godwit, left out`);
  const destination = Object.fromEntries(
    Object.entries((mapping.destination ?? {}) as Record<string, unknown>).flatMap(([alias, target]) => {
      const made = known(target, `destination ${alias}`, 'destination_type', hand);
      if (!made) return [];
      const fit = identifier.safeParse(alias).success ? alias : alias.replace(/[^A-Za-z0-9._-]+/g, '-').slice(0, 63);
      if (fit !== alias) hand(`destination ${alias}: is called ${fit} here`);
      return [[fit, made] as const];
    }),
  );
  const lists = { tables: tableSchema, collections: collectionSchema } as const;
  const moved = Object.fromEntries(
    Object.entries(lists).flatMap(([key, schema]) => {
      const given = mapping[key];
      if (!Array.isArray(given)) return [];
      return [
        [key, given.map((one) => entry(one as Record<string, unknown>, Object.keys(schema.shape), hand))] as const,
      ];
    }),
  );
  if (!source || Object.keys(moved).length === 0) {
    if (source) hand('it lists no tables and no collections');
    return { name, byHand };
  }
  return {
    name,
    byHand,
    mapping: {
      name,
      ...settingsOf(file, hand),
      source,
      ...(Object.keys(destination).length > 0 ? { destination } : {}),
      ...moved,
    },
  };
}

/** Those that a mapping may have too. */
function settingsOf({ settings }: OldFile, hand: Hand): Readonly<Record<string, unknown>> {
  const { timezone: zone = manualsZone, cut_off_time: given, notify } = settings;
  const known = timezone.safeParse(zone).success;
  if (!known) hand(`timezone: the file does not say it by name; ${manualsZone}, the manual’s default, is written`);
  const cut = typeof given === 'string' ? given.slice(0, 8) : undefined;
  const timed = timeOfDay.safeParse(cut).success;
  if (cut !== undefined && !timed) hand('cut_off_time: the file does not say it as a time of day; left out');
  return {
    timezone: known ? zone : manualsZone,
    ...(timed ? { cut_off_time: cut } : {}),
    ...(typeof notify === 'boolean' ? { notify } : {}),
  };
}

const knownKeys = new Set(['source', 'destination', 'tables', 'collections', 'topics', 'apis', 'redis']);
type Hand = (what: string) => void;

/** Settings of a system, `os.getenv` as references. Undefined: there is no such system here. */
function known(value: unknown, place: string, typeKey: string, hand: Hand): Record<string, unknown> | undefined {
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    return void hand(`${place}: is no dictionary`);
  const given = Object.entries(value).filter(([, one]) => one !== null);
  const settings = unmarked(Object.fromEntries(given), place, hand) as Record<string, unknown>;
  const type = settings[typeKey];
  if (typeof type === 'string' && later[type]) return void hand(`${place}: ${later[type]}`);
  if (type === 's3' && settings.s3_bucket_name !== undefined && settings.region === undefined) {
    hand(`${place}: credentials and region are taken from the AWS environment of the worker, unless you set them here`);
  }
  return settings;
}

/** The entry as it is; keys that Godwit does not have are left out and named. */
function entry(given: Record<string, unknown>, keys: readonly string[], hand: Hand): Record<string, unknown> {
  const name = String(given.table_name ?? given.collection_name ?? 'an entry');
  const clean = unmarked(given, name, hand) as Record<string, unknown>;
  const kept = Object.entries(clean).filter(([key, value]) => {
    // `False` stands for none, as the manual has it for partition_col.
    if (keys.includes(key)) return value !== null && !(value === false && ['bookmark', 'primary_key'].includes(key));
    hand(`${name}: ${key} is not known to Godwit, left out`);
    return false;
  });
  return Object.fromEntries(kept);
}

/** `os.getenv('X')` came as a marked `env:X`. Alone it is a reference; in the middle of a text somebody must look. */
function unmarked(value: unknown, place: string, hand: Hand): unknown {
  if (typeof value === 'string') {
    if (!value.includes('⟦')) return value;
    const whole = /^⟦(env:[^⟧]+)⟧$/.exec(value)?.[1];
    if (whole) return whole;
    const names = [...value.matchAll(/⟦(?:env|unknown):([^⟧]+)⟧/g)].map(([, name]) => name);
    hand(`${place}: a value is put together from ${names.join(', ')}; write it out`);
    return value.replaceAll(/⟦(?:env|unknown):([^⟧]+)⟧/g, '$${$1}');
  }
  if (Array.isArray(value)) return value.map((one) => unmarked(one, place, hand));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, unmarked(one, place, hand)]));
}

/** What the settings of the old tool become, in sentences. */
export function settingsNotes({ settings, mappings }: OldFile): string[] {
  const ours = ['timezone', 'cut_off_time', 'notify'].filter(
    (key) => settings[key] !== undefined && settings[key] !== null,
  );
  const once = mappings.length === 0 ? ours : [];
  const notes: Readonly<Record<string, string>> = {
    encryption_store:
      'encryption_store: not needed; what a table remembers is kept beside it on its target. Take over where it stopped: godwit import --state',
    dashboard_store: 'dashboard_store: not needed; the history is in Godwit’s own PostgreSQL (godwit runs --tables)',
    slack_notif: 'slack_notif: set the token and the channel once for the installation (docs/settings.md)',
    fastapi_server: 'fastapi_server: not needed; schedules are Temporal’s, the API is `godwit api`',
  };
  const set = once.map((key) => {
    const said = String(settings[key]);
    const value = said.includes('⟦') ? 'VALUE' : said;
    return `${key}: godwit settings set ${key} ${value}`;
  });
  return [...set, ...Object.keys(settings).flatMap((key) => notes[key] ?? [])];
}
