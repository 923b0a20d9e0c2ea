/**
 * The keys of a mapping: those of the mapping manual as far as they mean something for this version's sources, and
 * Godwit's own. One strict object per place, so that an unknown key is an error there.
 */
import { z } from 'zod';
import { cronInput, intervalInput, scheduleInput, timezoneInput } from './schedule.ts';
import { cutOffTime, notifyInput } from './settings.ts';

const name = z.string().min(1);
const names = z.union([name, z.array(name).min(1)], { error: 'expected a name or a list of names' });
const scalar = z.union([z.string(), z.number(), z.boolean()], {
  error: 'expected a text, a number, true or false',
});

/** Job and target names: they stand in workflow ids, in `job/number` and in `<job>/<target>`. */
export const identifier = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
    'expected letters, digits, ".", "_" or "-" (at most 63, no leading mark)',
  );

export const operators = ['=', 'in', '<', '<=', '>', '>=', 'is', 'is not'] as const;
export const misfits = ['stop', 'null', 'clamp', 'text', 'quarantine'] as const;
const misfit = z.enum(misfits);
const duration = 'expected seconds, or a number with s, m, h or d (24h)';
/** What an unknown key of a small map is told. */
const known = (list: readonly string[]) => ({
  error: (issue: { code?: string }) =>
    issue.code === 'unrecognized_keys' ? `known here: ${list.join(', ')}` : undefined,
});
const lag = z.strictObject(
  {
    days: z.number().int().min(0).optional(),
    hours: z.number().int().min(0).optional(),
    minutes: z.number().int().min(0).optional(),
  },
  known(['days', 'hours', 'minutes']),
);
const test = z.strictObject(
  {
    '=': scalar.optional(),
    in: z.array(scalar).min(1).optional(),
    '<': scalar.optional(),
    '<=': scalar.optional(),
    '>': scalar.optional(),
    '>=': scalar.optional(),
    is: z.null().optional(),
    'is not': z.null().optional(),
  },
  known(operators),
);

export const documentForms = ['fields', 'flatten', 'json', 'raw'] as const;
export const casts = ['datetime', 'bool', 'int', 'float', 'str', 'json', 'decimal'] as const;

const keys = {
  mode: z
    .enum(['replace', 'dumping', 'logging', 'syncing', 'mirroring'])
    .describe(
      'replace: the target becomes an exact copy by one atomic swap. dumping: each run appends a snapshot with `migration_snapshot_date`. logging: new rows by a growing primary key, never updates. syncing: new and changed rows by `bookmark`; what is deleted at the source stays. mirroring: syncing, and what vanished at the source is deleted',
    ),
  cron: cronInput
    .optional()
    .describe(
      "When this table runs: eight fields (year month day week day_of_week hour minute second, 0 = Monday), five of a crontab, some of the eight as a map, or `self-managed`: started by hand, by the API or by a scheduler outside. Default: the job's",
    ),
  interval: intervalInput
    .optional()
    .describe('Instead of `cron`: every so often (`15m`, `2h`, `{hours: 2}`), counted from 1970-01-01T00:00Z'),
  primary_key: names.optional().describe("Columns that identify a row. Default: the table's own key"),
  primary_key_datatype: z
    .enum(['str', 'uuid', 'int', 'datetime'])
    .optional()
    .describe('Accepted from older mappings; the database itself says the type'),
  batch_size: z.number().int().min(1).max(1_000_000).default(10_000).describe('Rows moved at once on the rows lane'),
  time_delay: z.number().min(0).max(60).default(0).describe('Seconds to wait after each batch, to spare the source'),
  documents: z
    .enum(documentForms)
    .optional()
    .describe(
      'How documents become rows. fields: each top-level field a column of text, or of the type `fields` says. flatten: nested documents become columns `a_b`, of the types found. json: `_id` and one column `document`. raw: as they are, to a target of documents. Default: raw where the target holds documents, else fields',
    ),
  fields: z
    .record(name, z.enum(casts))
    .default({})
    .describe(
      'Of documents taken as fields or flattened: what a field becomes; a value that cannot become it is int 0, all others null',
    ),
  columns: z.array(name).min(1).optional().describe('Only these columns'),
  exclude_columns: z.array(name).default([]).describe('All columns but these'),
  col_rename: z.record(name, name).default({}).describe('Column at the source: its name at the target'),
  where: z
    .record(name, z.union([z.null(), scalar, z.array(scalar).min(1), test], { error: whereError }))
    .default({})
    .describe(
      'Only rows for which all hold: `column: value`, `column: [values]`, `column: null`, `column: {">=": value}`',
    ),
  partition_col: z
    .union([name, z.literal(false)], { error: 'expected a column name or false' })
    .default(false)
    .describe(
      'File targets: one folder per value of this column (per day of a datetime). PostgreSQL: one partition per month of a datetime',
    ),
  partition_years: z
    .tuple([z.number().int().min(1).max(9999), z.number().int().min(1).max(9999)])
    .optional()
    .describe(
      'PostgreSQL: makes the partitions of these years at once, `[2015, 2030]`. Default: each with its first row',
    ),
  partition_col_format: z.enum(['datetime', 'int', 'str']).default('str').describe('What partition_col holds'),
  strict: z
    .boolean()
    .default(false)
    .describe(
      "To PostgreSQL, in the manual's four modes: true keeps json as json and instants as they are; false writes json as text and instants as UTC without a zone. No effect on replace, which is always exact",
    ),
  bookmark: name
    .optional()
    .describe('Of syncing and mirroring: the column that is set to now whenever a row changes (`updated_at`)'),
  improper_bookmarks: z
    .boolean()
    .default(false)
    .describe('The bookmark is stored as text in any standard format, or as an epoch in a number'),
  buffer_updation_lag: lag
    .optional()
    .describe('Rows changed in this time before the start of the last run are looked at again'),
  grace_updation_lag: lag
    .optional()
    .describe('Rows changed in this time before the end of the last successful run are looked at again'),
  recheck: z
    .strictObject(
      { minutes: z.number().min(0).optional(), keys: z.number().int().min(0).optional() },
      known(['minutes', 'keys']),
    )
    .default({})
    .describe(
      'What incremental modes read again of the last run for rows that were committed late: bookmarks of so many minutes (60), so many keys (10000)',
    ),
  max_deleted: z
    .union([
      z.number().int().min(0),
      z.string().regex(/^(100|\d{1,2})(\.\d+)?%$/, 'expected a number of rows, or a share (5%)'),
    ])
    .optional()
    .describe('Mirroring: the table fails, and nothing is deleted, when more rows vanished at the source than this'),
  exclude: z.array(name).default([]).describe('Tables a pattern leaves out; may be patterns themselves'),
  views: z.boolean().default(false).describe('The pattern takes views too. A view named in full is always taken'),
  targets: z.array(name).min(1).optional().describe('Only to these targets of the job'),
  existing: z
    .enum(['refuse', 'adopt', 'overwrite'])
    .default('refuse')
    .describe(
      'A non-empty target table that Godwit did not make: refuse it, keep its rows and go on in it, or replace it',
    ),
  swap: z
    .enum(['rename', 'delete-insert'])
    .default('rename')
    .describe('How replace publishes: a new table under the old name, or new rows in the old table'),
  continue: z
    .enum(['resume', 'restart'])
    .default('resume')
    .describe('After an unfinished run: go on where it stopped, or start the table again'),
  on_schema_change: z
    .enum(['add', 'refuse', 'ignore'])
    .default('add')
    .describe(
      "When the source's columns changed since the last run, for a target table that stays: follow (new columns added, types widened), refuse, or leave new columns out",
    ),
  on_misfit: z
    .union([misfit, z.record(name, misfit)], { error: `expected ${misfits.join(', ')}, or a map of columns to these` })
    .default({})
    .describe('What happens to a value the target type cannot hold; per column, `*` for all others. Default stop'),
  max_quarantined: z.number().int().min(0).default(0).describe('Rows a run may set aside before the table fails'),
};

export const tableSchema = z.strictObject({
  table_name: name.describe('`schema.table`, `table` (in the default schema), or a pattern with `*` and `?`'),
  ...keys,
});
/** The manual's word for the tables of a document store; everything else is the same. */
export const collectionSchema = z.strictObject({
  collection_name: name.describe('A collection of the source, or a pattern with `*` and `?`'),
  ...keys,
});
export type TableKeys = z.infer<typeof tableSchema>;

function whereError() {
  return `expected a value, a list of values, null, or a map with ${operators.join(', ')}`;
}

/** What a destination says beside the settings of its system. */
export const targetUseSchema = z.strictObject({
  schema: name
    .optional()
    .describe(
      'Schema, database (mysql, mariadb, mongo) or folder to write to; may hold {schema} and {table}. Default `{source}_{db_name}_dms`; the `db_name` of a mysql, mariadb or mongo target',
    ),
  table: name.optional().describe('Table name there; may hold {schema} and {table}. Default `{table}`'),
  format: z.enum(['parquet', 'csv', 'ndjson']).optional().describe('Of the files. Default parquet'),
  s3_suffix: z.string().optional().describe('Added to the table name (folder) at file targets'),
});

export const mappingSchema = z.strictObject({
  name: identifier.optional().describe("The job's name. Default: the file's name without its ending"),
  source: z.unknown().optional().describe('Name of a saved source, or its settings with source_type'),
  destination: z
    .unknown()
    .optional()
    .describe('Name of the target in the job: name of a saved target, or settings with destination_type'),
  tables: z.unknown().optional(),
  collections: z.unknown().optional(),
  cron: cronInput.optional().describe('Default of the tables'),
  interval: intervalInput.optional().describe('Default of the tables'),
  timezone: timezoneInput
    .optional()
    .describe(
      "IANA name of the zone of schedules, cut-off times and bookmarks without one. Default: the installation's",
    ),
  schedule: scheduleInput.optional().describe('What holds for each schedule of the job beside its times'),
  cut_off_time: cutOffTime
    .optional()
    .describe(
      "Time of day in the job's zone at which what still runs is cut off; null for none. Default: the installation's",
    ),
  notify: notifyInput
    .optional()
    .describe(
      "Who is told of the end of a run: true, false, ends (succeeded, partial, failed, canceled, skipped, completion, failure), or a map with `on` and `channels`. Default: the installation's",
    ),
  give_up_after: z
    .union([z.number().positive(), z.string().regex(/^\d+(\.\d+)?\s*[smhd]$/, duration)], {
      error: duration,
    })
    .default('24h')
    .describe('How long a transient failure may last before its table fails'),
});
