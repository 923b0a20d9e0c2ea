import {
  type Fit,
  type Format,
  type Lane,
  type Misfit,
  type PlanColumn,
  type Source,
  type Table,
  type TableName,
  type Target,
  tableText,
  type Work,
} from '../../connectors/contract.ts';
import type { LogicalType } from '../../connectors/types.ts';
import { GodwitError } from '../../errors.ts';
import type { TableEntry, TargetUse } from '../../mapping/document.ts';
import { partitionOf } from '../../transforms/projection.ts';

export type PlannedWork = { readonly work: Work; readonly why: string; readonly notes: readonly string[] };

export type WorkInput = {
  readonly entry: TableEntry;
  readonly table: Table;
  readonly source: Source;
  readonly target: Target;
  readonly targetName: string;
  readonly use: TargetUse;
  readonly installation: string;
  readonly jobUid: string;
  readonly run: string;
  readonly snapshotDate: string;
};

export const snapshotColumn = 'migration_snapshot_date';
/** When a row came, in tables of increments that lie beside each other (`Target.appends`). */
export const updatedColumn = 'godwit_updated_at';

/** One table to one target, decided: names, columns with their fit, key, lane. Throws the first plan error it meets. */
export function planWork(input: WorkInput): PlannedWork {
  const { entry, table, source, target, use } = input;
  const at = { table: tableText(table.name), target: input.targetName };
  const name = targetName(table.name, use);
  refuseLongNames(name, target, at);

  const notes: string[] = [];
  const moved = choose(input);
  const columns = moved.map(({ column, fit }): PlanColumn => planColumn(input, column, fit, notes));
  notes.push(...checkedNotes(columns));
  const stamp = stampOf(entry, target);
  if (stamp !== undefined) columns.push(stampColumn(input, columns, stamp));
  if (!target.documents && !target.formats.includes(fileFormat(use))) refuseLongColumns(columns, target, at);

  const key = targetKey(input, columns);
  const partition = renamedPartition(entry);
  if (partition && target.formats.includes(fileFormat(use))) partitionOf({ columns, partition });
  else if (partition && !target.partitions?.includes(partition.format)) {
    notes.push(`partition_col: a ${target.system} target is not partitioned by ${partition.format} values`);
  }
  const lane = chooseLane({ source, table, target, columns, use });
  if (key.length === 0 && entry.mode === 'replace') {
    notes.push('no key: the table is one chunk in one snapshot and starts again when that is lost');
  }
  return {
    why: lane.why,
    notes,
    work: {
      installation: input.installation,
      jobUid: input.jobUid,
      run: input.run,
      target: input.targetName,
      mode: entry.mode,
      source: table,
      name,
      columns,
      key,
      generation: 1,
      existing: entry.existing,
      swap: entry.swap,
      onSchemaChange: entry.onSchemaChange ?? 'add',
      ...(stamp === undefined ? {} : { snapshotDate: input.snapshotDate }),
      ...(partition ? { partition } : {}),
      lane: lane.lane,
      readFormat: lane.read,
      writeFormat: lane.write,
    },
  };
}

const fill = (pattern: string, name: TableName) =>
  pattern.replaceAll('{schema}', name.schema).replaceAll('{table}', name.name);

/** Decision 3: `{schema}` and `{table}` in both patterns; a suffix for files. */
export const targetName = (name: TableName, use: TargetUse): TableName => ({
  schema: fill(use.schema, name),
  name: fill(use.table, name) + (use.suffix ?? ''),
});

function refuseLongNames(name: TableName, target: Target, at: { table: string; target: string }) {
  for (const part of [name.schema, name.name]) {
    const length = Buffer.byteLength(part);
    if (length > target.nameLimit) {
      const sentence = `The name "${part}" on target ${at.target} has ${length} bytes; ${target.nameLimit} is the limit there.`;
      throw new GodwitError('NAME_TOO_LONG', sentence, at);
    }
  }
}

/** Fields of documents, and columns of files, may have any name; a database would cut it. */
function refuseLongColumns(columns: readonly PlanColumn[], target: Target, at: { table: string; target: string }) {
  for (const { name } of columns) {
    const length = Buffer.byteLength(name);
    if (length <= target.nameLimit) continue;
    const sentence = `The column "${name}" of ${at.table} has a name of ${length} bytes; ${target.nameLimit} is the limit on target ${at.target}. Give it another one with col_rename.`;
    throw new GodwitError('NAME_TOO_LONG', sentence, { ...at, column: name });
  }
}

/** The columns that move, each with the target's answer; a generated one is left to a target of the same system. */
function choose({ table, entry, target, use }: WorkInput) {
  const known = new Set(table.columns.map((column) => column.name));
  const named = [
    ...(entry.columns ?? []),
    ...entry.excludeColumns,
    ...Object.keys(entry.rename),
    ...Object.keys(entry.onMisfit).filter((column) => column !== '*'),
    ...entry.where.map((predicate) => predicate.column),
    ...(entry.primaryKey ?? []),
    ...(entry.partition ? [entry.partition.column] : []),
  ];
  const unknown = named.find((column) => !known.has(column));
  if (unknown !== undefined) {
    const has = table.columns.map((column) => column.name).join(', ');
    throw new GodwitError(
      'COLUMN_MISSING',
      `Table ${tableText(table.name)} has no column "${unknown}"; it has ${has}.`,
      {
        table: tableText(table.name),
        column: unknown,
      },
    );
  }
  const wanted = new Set(entry.columns ?? known);
  for (const column of entry.excludeColumns) wanted.delete(column);
  // A target may hold a column of the key in another type than the same column elsewhere.
  const fits = target.fit(entry.primaryKey ? { ...table, key: entry.primaryKey } : table, use.format);
  return table.columns
    .map((column, i) => ({ column, fit: fits[i] as Fit }))
    .filter(({ column }) => wanted.has(column.name) && !(column.generated && target.system === table.system));
}

function planColumn(input: WorkInput, column: Table['columns'][number], fit: Fit, notes: string[]): PlanColumn {
  const { entry, table } = input;
  const misfit = entry.onMisfit[column.name] ?? entry.onMisfit['*'] ?? 'stop';
  const settled = fit.fit === 'checked' && misfit === 'text' ? asText(input, column) : (manuals(input, column) ?? fit);
  if (settled.fit === 'refused') {
    throw new GodwitError(
      'TYPE_REFUSED',
      `Column "${column.name}" of ${tableText(table.name)} is ${column.native}: ${settled.reason}. Leave it out with exclude_columns or convert it.`,
      { table: tableText(table.name), column: column.name, target: input.targetName },
    );
  }
  if (settled.note) notes.push(`${column.name}: ${settled.note}`);
  return {
    from: column.name,
    name: entry.rename[column.name] ?? column.name,
    shape: settled.shape,
    type: settled.type,
    native: settled.native,
    nullable: column.nullable || (settled.fit === 'checked' && misfit === 'null'),
    fit: settled.fit,
    misfit,
  };
}

/**
 * The manual's `strict: false` where the target has it (decision 21): json as text, instants as UTC without a zone. The texts
 * and the binary form of both kinds of timestamps are the same, so nothing but the column's type is another one.
 */
function manuals(input: WorkInput, column: Table['columns'][number]): Fit | undefined {
  const { entry, target } = input;
  if (entry.strict || entry.mode === 'replace' || !target.lenient) return undefined;
  if (column.type.kind === 'json') {
    const fit = asText(input, column);
    return fit.fit === 'refused' ? fit : { ...fit, note: 'json written as text (strict: false)' };
  }
  if (column.type.kind !== 'timestamptz') return undefined;
  const { kind: _kind, ...rest } = column.type;
  const fit = fitMade(input, {
    ...column,
    type: { kind: 'timestamp', ...rest },
    native: 'timestamp without time zone',
  });
  if (!fit || fit.fit === 'refused') return fit;
  return { ...fit, type: column.type, note: 'an instant, written as UTC without a zone (strict: false)' };
}

/** One line for all columns that are checked alike. */
function checkedNotes(columns: readonly PlanColumn[]): string[] {
  const alike = Map.groupBy(
    columns.filter(({ fit }) => fit === 'checked'),
    ({ misfit, native }) => misfitText(misfit, native),
  );
  return [...alike].map(
    ([what, some]) =>
      `${some.map(({ name }) => name).join(', ')}: checked while ${some.length === 1 ? 'it moves' : 'they move'}, ${what}`,
  );
}

function misfitText(misfit: Misfit, native: string): string {
  switch (misfit) {
    case 'stop':
      return `a value that ${native} cannot hold stops the table`;
    case 'null':
      return `a value that ${native} cannot hold becomes NULL`;
    case 'clamp':
      return `a value that ${native} cannot hold becomes the nearest it can`;
    case 'quarantine':
      return `a row with a value that ${native} cannot hold is set aside`;
    case 'text':
      return 'written as text';
  }
}

/**
 * How the target holds a column that is not the source's own: by its logical type, also where both systems are the same.
 * (A target keeps the native spelling of its own system's columns, and `files` has none.)
 */
const fitMade = ({ table, target, use }: WorkInput, column: Table['columns'][number]): Fit | undefined =>
  target.fit({ ...table, system: 'files', extras: undefined, columns: [column] }, use.format)[0];

/** How the target holds the column's text form. */
function asText(input: WorkInput, column: Table['columns'][number]): Fit {
  const fit = fitMade(input, { ...column, type: { kind: 'text' }, native: 'text' });
  if (!fit || fit.fit === 'refused') return fit ?? { fit: 'refused', reason: 'the target has no text' };
  return { ...fit, fit: 'exact', shape: 'text', note: 'written as text' };
}

/** The column that says of each row when it came, where the mode has one. */
const stampOf = ({ mode }: TableEntry, target: Target): string | undefined => {
  if (mode === 'dumping') return snapshotColumn;
  return mode !== 'replace' && target.appends ? updatedColumn : undefined;
};

function stampColumn(input: WorkInput, columns: readonly PlanColumn[], name: string): PlanColumn {
  const { table, target, snapshotDate } = input;
  if (columns.some((column) => column.name === name)) {
    throw new GodwitError(
      'NAME_COLLISION',
      `Table ${tableText(table.name)} has a column "${name}" of its own, which ${input.entry.mode} adds; rename it with col_rename.`,
      { table: tableText(table.name), column: name },
    );
  }
  // A run's instant has milliseconds, and so have the dates of documents.
  const type: LogicalType = { kind: 'timestamptz', ...(target.documents ? { precision: 3 } : {}) };
  const fit = fitMade(input, { name, type, native: 'timestamp with time zone', nullable: false });
  if (!fit || fit.fit === 'refused') {
    const why = fit ? `: ${fit.reason}` : '';
    throw new GodwitError('TYPE_REFUSED', `The target cannot hold "${name}"${why}.`, {
      table: tableText(table.name),
      column: name,
      target: input.targetName,
    });
  }
  const { native } = fit;
  return {
    name,
    shape: 'native',
    type,
    native,
    nullable: false,
    fit: 'exact',
    misfit: 'stop',
    constant: snapshotDate,
  };
}

/** Key columns by their names on the target; none when one of them does not move. Dumping: a key per snapshot. */
function targetKey({ entry, table }: WorkInput, columns: readonly PlanColumn[]): string[] {
  const source = entry.primaryKey ?? table.key;
  const names = source.map((from) => columns.find((column) => column.from === from)?.name);
  if (names.length === 0 || names.includes(undefined)) return [];
  return entry.mode === 'dumping' ? [snapshotColumn, ...(names as string[])] : (names as string[]);
}

const renamedPartition = ({ partition, rename }: TableEntry) =>
  partition && { ...partition, column: rename[partition.column] ?? partition.column };

type LaneInput = {
  readonly source: Source;
  readonly table: Table;
  readonly target: Target;
  readonly columns: readonly PlanColumn[];
  readonly use: TargetUse;
};
type LaneChoice = { readonly lane: Lane; readonly read: Format; readonly write: Format; readonly why: string };

const fileFormat = (use: TargetUse) => use.format ?? 'parquet';

/** The cheapest path from what the source offers to what the target takes (design, section 4). */
export function chooseLane({ source, table, target, columns, use }: LaneInput): LaneChoice {
  const reading = columns.flatMap((column) => (column.from === undefined ? [] : [column.from]));
  const asIs = columns.every((column) => column.fit === 'exact' && column.shape === 'native');
  const exact = asIs
    ? source.exactFormats(table, reading, target).find((format) => target.formats.includes(format))
    : undefined;
  if (exact !== undefined) {
    const why = exact === 'bson' ? 'documents move as they are' : `both sides speak ${exact}; no byte is changed`;
    return { lane: 'direct', read: exact, write: exact, why };
  }
  const file = fileFormat(use);
  if (target.formats.includes(file)) {
    const aside = columns.find((column) => column.fit === 'checked' && column.misfit === 'quarantine');
    if (aside) {
      return {
        lane: 'rows',
        read: 'rows',
        write: file,
        why: `rows with a misfit in ${aside.name} are set aside one by one`,
      };
    }
    if (source.formats.includes('csv')) {
      return { lane: 'columnar', read: 'csv', write: file, why: `CSV from the source, typed by DuckDB into ${file}` };
    }
    return {
      lane: 'rows',
      read: 'rows',
      write: file,
      why: `values come one by one from ${source.system}, and DuckDB types them into ${file}`,
    };
  }
  if (source.formats.includes('pg-text') && target.formats.includes('pg-text')) {
    const why = `both sides speak pg-text; ${source.system} gives each value the text that ${target.system} takes`;
    return { lane: 'direct', read: 'pg-text', write: 'pg-text', why };
  }
  return {
    lane: 'rows',
    read: 'rows',
    write: 'rows',
    why: `no format common to ${source.system} and ${target.system}; values are converted one by one`,
  };
}
