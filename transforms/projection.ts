/**
 * What becomes of the columns of a source's CSV: one SQL projection. Its input columns are `c0`, `c1`, … (VARCHAR), in
 * the order of `work.columns`, constants included. DuckDB is told every type and every refusal (decision 18).
 */
import type { PlanColumn, Work } from '../connectors/contract.ts';
import { typeText } from '../connectors/types.ts';
import { GodwitError } from '../errors.ts';

/** One output column. `expression` is SQL over `c0` …; it must refuse (`refuse`) what it cannot keep. */
export type Projected = { readonly name: string; readonly type: string; readonly expression: string };

export type FileFormat = 'parquet' | 'csv' | 'ndjson';
export const hiveNull = '__HIVE_DEFAULT_PARTITION__';

export const quotedName = (name: string): string => `"${name.replaceAll('"', '""')}"`;
const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/** Stops the statement, naming the input column by its number only: a message with a value in it is a leak. */
export const refuse = (index: number): string => `error('godwit-misfit c${index}')`;

/** The file's columns for this work. Hive columns are apart: see `partitionOf`. */
export function projectionOf(columns: readonly PlanColumn[], format: FileFormat): Projected[] {
  return columns.map((column, i) => {
    const type = format === 'parquet' ? parquetType(column) : textType(column);
    return { name: column.name, type, expression: cast(column, i, type, format) };
  });
}

/** DuckDB's type for a column in Parquet; text for whatever was shaped into text or JSON by the source. */
export function parquetType({ shape, type }: Pick<PlanColumn, 'shape' | 'type'>): string {
  if (shape !== 'native') return 'VARCHAR';
  switch (type.kind) {
    case 'bool':
      return 'BOOLEAN';
    case 'int8':
      return 'TINYINT';
    case 'int16':
      return 'SMALLINT';
    case 'int32':
      return 'INTEGER';
    case 'int64':
      return 'BIGINT';
    case 'uint64':
      return 'UBIGINT';
    case 'float32':
      return 'FLOAT';
    case 'float64':
      return 'DOUBLE';
    case 'decimal':
      return type.precision === undefined || type.precision > 38
        ? 'VARCHAR'
        : `DECIMAL(${type.precision},${type.scale ?? 0})`;
    case 'bytes':
      return 'BLOB';
    case 'date':
      return 'DATE';
    case 'time':
      return 'TIME';
    case 'timestamp':
      return 'TIMESTAMP';
    case 'timestamptz':
      return 'TIMESTAMPTZ';
    // Parquet has a UUID type, which pandas, Spark and Athena show as 16 raw bytes.
    case 'uuid':
    case 'text':
    case 'enum':
    case 'json':
    case 'interval':
    case 'timetz':
    case 'array':
    case 'native':
      return 'VARCHAR';
  }
}

/** In CSV and NDJSON every value is the source's own exact text; only truth values get one spelling. */
const textType = ({ shape, type }: PlanColumn): string =>
  shape === 'native' && type.kind === 'bool' ? 'BOOLEAN' : 'VARCHAR';

function cast(column: PlanColumn, i: number, type: string, format: FileFormat): string {
  const c = `c${i}`;
  switch (type) {
    case 'VARCHAR':
      // Bytes arrive as hexadecimal digits; text files show them as PostgreSQL does.
      return column.shape === 'native' && column.type.kind === 'bytes' ? `'\\x' || ${c}` : c;
    case 'BLOB':
      return `unhex(${c})`;
    // The next two: DuckDB would read `0044-03-15 BC` as AD 44 and `infinity` as a date. A plain year has four digits.
    // It would also read year 0, which MySQL has, as 1 BC. (LIKE makes no new text; taking the fifth character does.)
    case 'DATE':
      return `CASE WHEN strlen(${c}) <> 10 OR ${c} NOT LIKE '____-%' OR prefix(${c}, '0000') THEN ${refuse(i)} ELSE CAST(${c} AS DATE) END`;
    case 'TIMESTAMP':
    case 'TIMESTAMPTZ':
      return `CASE WHEN suffix(${c}, 'C') OR ${c} NOT LIKE '____-%' OR prefix(${c}, '0000') THEN ${refuse(i)} ELSE CAST(${c} AS ${type}) END`;
    case 'TIME':
      // 24:00:00 is a time in PostgreSQL, in no Parquet reader; MySQL's go from -838:59:59 to 838:59:59.
      return `CASE WHEN ${beyondDay(column, c)} THEN ${outOfDay(column, i)} ELSE CAST(${c} AS TIME) END`;
    default:
      return format === 'parquet' || type === 'BOOLEAN' ? `CAST(${c} AS ${type})` : c;
  }
}

const beyondDay = ({ type }: PlanColumn, c: string): string =>
  type.kind === 'time' && type.wide ? `(${c}[3] <> ':' OR ${c} >= '24')` : `prefix(${c}, '24')`;

function outOfDay({ type, misfit }: PlanColumn, i: number): string {
  if (misfit === 'null') return 'CAST(NULL AS TIME)';
  if (misfit !== 'clamp') return refuse(i);
  const last = "TIME '23:59:59.999999'";
  return type.kind === 'time' && type.wide
    ? `CASE WHEN prefix(c${i}, '-') THEN TIME '00:00:00' ELSE ${last} END`
    : last;
}

/** NDJSON: one text column holding the whole line, so that numbers and nested JSON keep every digit. */
export function lineOf(projected: readonly Projected[], columns: readonly PlanColumn[]): string {
  const byName = new Map(columns.map((column, i) => [column.name, { column, i }]));
  const members = projected.map(({ name, expression }, i) => {
    const known = byName.get(name);
    const key = `${i === 0 ? '' : ','}${JSON.stringify(name)}:`;
    return `${literal(key)} || ${jsonOf(expression, known?.column)}`;
  });
  return `'{' || ${members.join(' || ') || "''"} || '}'`;
}

function jsonOf(expression: string, column: PlanColumn | undefined): string {
  const text = `coalesce(CAST(to_json(CAST(${expression} AS VARCHAR)) AS VARCHAR), 'null')`;
  if (!column || column.shape === 'text') return text;
  switch (column.type.kind) {
    case 'bool':
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
    case 'uint64':
      return `coalesce(CAST(${expression} AS VARCHAR), 'null')`;
    case 'float32':
    case 'float64':
      // JSON has no NaN and no infinity: those become strings.
      return `CASE WHEN ${expression} IN ('NaN', 'Infinity', '-Infinity') THEN ${text} ELSE coalesce(${expression}, 'null') END`;
    case 'json':
    case 'array':
      // Line breaks stand only between the tokens of a JSON text, never inside of one.
      return column.type.kind === 'json' || column.shape === 'json'
        ? `coalesce(translate(${expression}, chr(10) || chr(13), '  '), 'null')`
        : text;
    default:
      return column.shape === 'json' ? `coalesce(translate(${expression}, chr(10) || chr(13), '  '), 'null')` : text;
  }
}

/**
 * The Hive folders: `<col>=<value>` for int and str, `<col>_year=…/<col>_month=…/<col>_day=…` for datetime (UTC, with
 * leading zeros). A column that is a folder is not in the files (Athena, Spark and pyarrow want it so). NULL is Hive's own
 * word for it, and the empty string, which Hive cannot tell from NULL in a folder's name, is refused.
 */
export function partitionOf(work: Pick<Work, 'columns' | 'partition'>): {
  readonly folders: readonly Projected[];
  /** The name of the column which moved from the files into the folders. */
  readonly moved?: string;
} {
  const { partition, columns } = work;
  if (!partition) return { folders: [] };
  const i = columns.findIndex((column) => column.name === partition.column);
  const column = columns[i];
  if (!column) {
    throw new GodwitError(
      'COLUMN_MISSING',
      `The partition column "${partition.column}" is not among those that move.`,
      {
        column: partition.column,
      },
    );
  }
  const c = `c${i}`;
  const folder = (name: string, expression: string): Projected => ({
    name,
    type: 'VARCHAR',
    expression: `coalesce(${expression}, '${hiveNull}')`,
  });
  const wrong = (wanted: string) =>
    new GodwitError(
      'MAPPING_INVALID',
      `partition_col "${column.name}" is ${typeText(column.type)}: partition_col_format ${partition.format} needs ${wanted}.`,
      { column: column.name },
    );
  switch (partition.format) {
    case 'datetime': {
      // In CSV and NDJSON a date is the source's own text, which says itself whether it is one.
      const dated = ['date', 'timestamp', 'timestamptz'].includes(column.type.kind) && column.shape === 'native';
      if (!dated && column.shape !== 'text') {
        throw wrong('a date or a timestamp');
      }
      const guarded = `CASE WHEN suffix(${c}, 'C') OR ${c}[5] <> '-' THEN ${refuse(i)} ELSE ${c} END`;
      const folders = [
        folder(`${column.name}_year`, `substr(${guarded}, 1, 4)`),
        folder(`${column.name}_month`, `substr(${c}, 6, 2)`),
        folder(`${column.name}_day`, `substr(${c}, 9, 2)`),
      ];
      const taken = folders.find(({ name }) =>
        columns.some((other) => other.name.toLowerCase() === name.toLowerCase()),
      );
      if (taken) {
        throw new GodwitError(
          'NAME_COLLISION',
          `The table has a column "${taken.name}", which partition_col makes a folder of.`,
          {
            column: taken.name,
          },
        );
      }
      return { folders };
    }
    case 'int':
      if (!/^u?int/.test(column.type.kind)) throw wrong('an integer');
      return { folders: [folder(column.name, c)], moved: column.name };
    case 'str':
      return {
        folders: [
          // 80 characters encode to at most 240 bytes, which every file system takes as a name… if they are plain.
          folder(
            column.name,
            `CASE WHEN ${c} = '' OR ${c} = '${hiveNull}' OR strlen(url_encode(${c})) > 200 THEN ${refuse(i)} ELSE ${c} END`,
          ),
        ],
        moved: column.name,
      };
  }
}
