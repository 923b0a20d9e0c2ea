/** Part files as a table of DuckDB, and its columns as values, for what is done with parts that are finished. */
import type { Work } from '../contract.ts';
import type { Current } from './manifest.ts';
import { stamp } from './manifest.ts';

export type FileFormat = 'parquet' | 'csv' | 'ndjson';
export const fileFormat = ({ writeFormat }: Pick<Work, 'writeFormat'>): FileFormat => writeFormat as FileFormat;

export const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;
export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
/** What stands for itself in a glob. */
export const listOf = (paths: readonly string[]): string =>
  `[${paths.map((path) => literal(path.replaceAll(/[[*?]/g, '[$&]'))).join(', ')}]`;

/**
 * Every value as the file has it: typed in Parquet, text in CSV, and of NDJSON one column `line`. `widest`: bytes of the
 * longest line there may be.
 */
export function relationOf(paths: readonly string[], format: FileFormat, widest: number): string {
  const line = Math.max(widest + 1, 2 * 1024 * 1024);
  const wide = `max_line_size = ${line}, buffer_size = ${line + 4096}, parallel = false`;
  switch (format) {
    case 'parquet':
      return `read_parquet(${listOf(paths)}, union_by_name = true, hive_partitioning = false)`;
    case 'csv':
      return `read_csv(${listOf(paths)}, ${csvDialect}, union_by_name = true, hive_partitioning = false, ${wide})`;
    case 'ndjson':
      // Finished text: no quote, and a delimiter that JSON never has as it is.
      return (
        `read_csv(${listOf(paths)}, columns = {line: 'VARCHAR'}, auto_detect = false, header = false, quote = '', ` +
        `escape = '', delim = e'\\x01', nullstr = e'\\x02', new_line = '\\n', hive_partitioning = false, ${wide})`
      );
  }
}

/** As the parts are written: all values are texts, and NULL is an empty field without quotes. */
export const csvDialect =
  "header = true, all_varchar = true, delim = ',', quote = '\"', escape = '\"', nullstr = '', " +
  "allow_quoted_nulls = false, new_line = '\\n'";

/** A column of `relationOf`. */
export const columnOf = (column: string, format: FileFormat): string =>
  format === 'ndjson' ? `json_extract_string(line, ${literal(pointerOf(column))})` : quoted(column);

const pointerOf = (column: string): string => `/${column.replaceAll('~', '~0').replaceAll('/', '~1')}`;

type Versions = {
  readonly current: Current;
  /** The names by which versions of one row are told to be that. */
  readonly key: readonly string[];
  readonly value: (column: string) => string;
  readonly format: FileFormat;
  /** The parts have the column `godwit_updated_at`. */
  readonly stamped: boolean;
};

/** The one version that counts: by when it came, and of one run by the bookmark. */
export function latest({ current: { keeps, bookmark }, key, value, format, stamped }: Versions): string {
  const way = keeps === 'first' ? 'ASC' : 'DESC';
  const terms = [
    // Texts of an instant differ by lane: `2024-02-29 12:00:00+00`, `2024-02-29T12:00:00Z`. Rows without one are another tool's, older
    // than all others.
    ...(stamped
      ? [`TRY_CAST(${value(stamp)} AS TIMESTAMPTZ) ${way} NULLS ${keeps === 'first' ? 'FIRST' : 'LAST'}`]
      : []),
    ...(bookmark ? [`${comparable(bookmark, value, format)} ${way} NULLS LAST`] : []),
  ];
  const order = terms.length > 0 ? ` ORDER BY ${terms.join(', ')}` : '';
  return `QUALIFY row_number() OVER (PARTITION BY ${key.map(value).join(', ') || '1'}${order}) = 1`;
}

/** The bookmark as what can be compared. */
export function comparable(
  { column, as }: NonNullable<Current['bookmark']>,
  value: (column: string) => string,
  format: FileFormat,
): string {
  switch (as) {
    case 'instant':
      return format === 'parquet' ? value(column) : `TRY_CAST(${value(column)} AS TIMESTAMP)`;
    case 'number':
      return `TRY_CAST(${value(column)} AS DECIMAL(38, 9))`;
    case 'text':
      return `CAST(${value(column)} AS VARCHAR)`;
  }
}

export const writeOptions: Readonly<Record<FileFormat, string>> = {
  parquet: 'FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 2, ROW_GROUP_SIZE 30720, ROW_GROUP_SIZE_BYTES 33554432',
  csv: 'FORMAT csv, HEADER true',
  ndjson: "FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER e'\\x01'",
};
