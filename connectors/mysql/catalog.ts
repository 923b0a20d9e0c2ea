/** Queries of information_schema: what is there, in as few of them as possible. Names of columns differ in case between servers. */
import { numberOf } from './errors.ts';
import { fileName } from './file-names.ts';
import { atLeast, type Session } from './session.ts';

/** More names than this in one query and the server looks at the whole schema rather than at each. */
const namesAtOnce = 500;

export type TableRow = {
  readonly schema: string;
  readonly name: string;
  readonly type: string;
  readonly engine: string | null;
  readonly rowFormat: string | null;
  readonly rows: number | string | null;
  readonly bytes: number | string | null;
  readonly autoIncrement: number | string | null;
  readonly created: string | null;
  readonly collation: string | null;
  readonly options: string | null;
  readonly comment: string;
};

const tableColumns = `table_schema AS \`schema\`, table_name AS name, table_type AS type, engine AS engine,
  row_format AS rowFormat, table_rows AS \`rows\`, data_length AS bytes, auto_increment AS autoIncrement,
  create_time AS created, table_collation AS collation, create_options AS options, table_comment AS comment`;

const ofKinds = `table_type IN ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED')`;

export const allTables = (session: Session, schema: string): Promise<TableRow[]> =>
  session.query(
    `SELECT ${tableColumns} FROM information_schema.tables
     WHERE table_schema = ? AND ${ofKinds} ORDER BY table_name`,
    [schema],
  );

/** Tables of which at least one column may not be read. */
export async function unreadable(session: Session, schema: string): Promise<Set<string>> {
  const rows = await session.query<{ name: string }>(
    `SELECT DISTINCT table_name AS name FROM information_schema.columns
     WHERE table_schema = ? AND FIND_IN_SET('select', privileges) = 0`,
    [schema],
  );
  return new Set(rows.map((row) => row.name));
}

export const tablesNamed = (session: Session, schema: string, names: readonly string[]): Promise<TableRow[]> =>
  inParts(names, (some) =>
    session.query(
      `SELECT ${tableColumns} FROM information_schema.tables WHERE table_schema = ? AND table_name IN (?) AND ${ofKinds}`,
      [schema, some],
    ),
  );

export type ColumnRow = {
  readonly table: string;
  readonly name: string;
  readonly default: string | null;
  readonly nullable: string;
  readonly type: string;
  readonly spelled: string;
  readonly length: number | string | null;
  readonly precision: number | string | null;
  readonly scale: number | string | null;
  readonly fraction: number | string | null;
  readonly charset: string | null;
  readonly collation: string | null;
  readonly extra: string;
  readonly comment: string;
  readonly generation: string | null;
  readonly privileges: string;
  readonly srid: number | string | null;
};

export const columnsOf = (session: Session, schema: string, names: readonly string[]): Promise<ColumnRow[]> => {
  const srid = atLeast(session, { mysql: [8, 0, 3] }) ? 'srs_id' : 'NULL';
  return inParts(names, (some) =>
    session.query(
      `SELECT table_name AS \`table\`, column_name AS name, column_default AS \`default\`, is_nullable AS nullable,
         data_type AS type, column_type AS spelled, character_maximum_length AS length, numeric_precision AS \`precision\`,
         numeric_scale AS scale, datetime_precision AS fraction, character_set_name AS charset,
         collation_name AS collation, extra AS extra, column_comment AS comment, generation_expression AS generation,
         privileges AS privileges, ${srid} AS srid
       FROM information_schema.columns WHERE table_schema = ? AND table_name IN (?)
       ORDER BY table_name, ordinal_position`,
      [schema, some],
    ),
  );
};

/** Columns as a chunk compares them: few, and nothing that has no part in a value. */
export const shapeOf = (
  session: Session,
  schema: string,
  name: string,
): Promise<{ table: string; name: string; spelled: string; collation: string | null }[]> =>
  session.query(
    `SELECT table_name AS \`table\`, column_name AS name, column_type AS spelled, collation_name AS collation
     FROM information_schema.columns WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position`,
    [schema, name],
  );

export type IndexRow = {
  readonly table: string;
  readonly name: string;
  readonly notUnique: number;
  readonly column: string | null;
  readonly order: string | null;
  readonly prefix: number | string | null;
  readonly type: string;
  readonly comment: string;
  readonly hidden: number;
  readonly expression: string | null;
};

export const indexesOf = (session: Session, schema: string, names: readonly string[]): Promise<IndexRow[]> => {
  const hidden = atLeast(session, { mysql: [8] })
    ? "is_visible = 'NO'"
    : atLeast(session, { mariadb: [10, 6] })
      ? "ignored = 'YES'"
      : '0';
  const expression = atLeast(session, { mysql: [8, 0, 13] }) ? 'expression' : 'NULL';
  return inParts(names, (some) =>
    session.query(
      `SELECT table_name AS \`table\`, index_name AS name, non_unique AS notUnique, column_name AS \`column\`,
         collation AS \`order\`, sub_part AS prefix, index_type AS type, index_comment AS comment,
         ${hidden} AS hidden, ${expression} AS expression
       FROM information_schema.statistics WHERE table_schema = ? AND table_name IN (?)
       ORDER BY table_name, index_name, seq_in_index`,
      [schema, some],
    ),
  );
};

export type ForeignKeyRow = {
  readonly table: string;
  readonly name: string;
  readonly column: string;
  readonly toSchema: string;
  readonly toTable: string;
  readonly toColumn: string;
  readonly onUpdate: string;
  readonly onDelete: string;
};

export const foreignKeysOf = (session: Session, schema: string, names: readonly string[]): Promise<ForeignKeyRow[]> =>
  inParts(names, (some) =>
    session.query(
      `SELECT k.table_name AS \`table\`, k.constraint_name AS name, k.column_name AS \`column\`,
         k.referenced_table_schema AS toSchema, k.referenced_table_name AS toTable,
         k.referenced_column_name AS toColumn, r.update_rule AS onUpdate, r.delete_rule AS onDelete
       FROM information_schema.key_column_usage k
       JOIN information_schema.referential_constraints r
         ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name
           AND r.table_name = k.table_name
       WHERE k.table_schema = ? AND k.table_name IN (?) AND k.referenced_table_name IS NOT NULL
       ORDER BY k.table_name, k.constraint_name, k.ordinal_position`,
      [schema, some],
    ),
  );

export type CheckRow = {
  readonly table: string;
  readonly name: string;
  readonly clause: string;
  readonly enforced: string;
  readonly level: string;
};

export const checksOf = async (session: Session, schema: string, names: readonly string[]): Promise<CheckRow[]> => {
  if (atLeast(session, { mariadb: [10, 5] })) {
    return inParts(names, (some) =>
      session.query(
        `SELECT table_name AS \`table\`, constraint_name AS name, check_clause AS clause, 'YES' AS enforced, level AS level
         FROM information_schema.check_constraints WHERE constraint_schema = ? AND table_name IN (?)
         ORDER BY table_name, constraint_name`,
        [schema, some],
      ),
    );
  }
  if (!atLeast(session, { mysql: [8, 0, 16] })) return [];
  return inParts(names, (some) =>
    session.query(
      `SELECT t.table_name AS \`table\`, c.constraint_name AS name, c.check_clause AS clause, t.enforced AS enforced,
         'Table' AS level
       FROM information_schema.table_constraints t
       JOIN information_schema.check_constraints c
         ON c.constraint_schema = t.constraint_schema AND c.constraint_name = t.constraint_name
       WHERE t.constraint_type = 'CHECK' AND t.table_schema = ? AND t.table_name IN (?)
       ORDER BY t.table_name, c.constraint_name`,
      [schema, some],
    ),
  );
};

export type PartitionRow = {
  readonly table: string;
  readonly name: string;
  readonly method: string;
  readonly expression: string | null;
  readonly description: string | null;
  readonly subMethod: string | null;
  readonly subExpression: string | null;
  readonly subPartitions: number;
  readonly comment: string;
};

export const partitionsOf = (session: Session, schema: string, names: readonly string[]): Promise<PartitionRow[]> =>
  inParts(names, (some) =>
    session.query(
      `SELECT table_name AS \`table\`, partition_name AS name, MAX(partition_method) AS method,
         MAX(partition_expression) AS expression, MAX(partition_description) AS description,
         MAX(subpartition_method) AS subMethod, MAX(subpartition_expression) AS subExpression,
         COUNT(subpartition_name) AS subPartitions, MAX(partition_comment) AS comment
       FROM information_schema.partitions
       WHERE table_schema = ? AND table_name IN (?) AND partition_name IS NOT NULL
       GROUP BY table_name, partition_name, partition_ordinal_position
       ORDER BY table_name, partition_ordinal_position`,
      [schema, some],
    ),
  );

/**
 * The ids of the tablespaces that the tables' rows lie in, by table: a TRUNCATE or a rebuild makes new ones. Tables that
 * share a tablespace are not here. Empty when the login lacks PROCESS.
 */
export async function storageOf(
  session: Session,
  schema: string,
  names: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const found = await spacesOf(session, schema, names, 'id');
  return new Map([...found].map(([table, ids]) => [table, ids.sort().join(' ')]));
}

/**
 * Bytes of the files of those tablespaces, by table; the same are missing, and those whose files some MySQL 8.0 do not find (0). The
 * server looks at the files of all tables there are.
 */
export async function fileSizesOf(
  session: Session,
  schema: string,
  names: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const found = await spacesOf(session, schema, names, 'bytes');
  const told = [...found].filter(([, sizes]) => sizes.every((size) => Number(size) > 0));
  return new Map(told.map(([table, sizes]) => [table, sizes.reduce((sum, size) => sum + Number(size), 0)]));
}

type Asked = 'id' | 'bytes';

async function spacesOf(
  session: Session,
  schema: string,
  names: readonly string[],
  what: Asked,
): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  try {
    for (const { table, value } of await inParts(names, (some) => spaces(session, schema, some, what))) {
      found.set(table, [...(found.get(table) ?? []), value]);
    }
  } catch (error) {
    if (numberOf(error) !== 1227 && numberOf(error) !== 1142 && numberOf(error) !== 1109) throw error;
  }
  return found;
}

type Space = { readonly table: string; readonly value: string };

const spaces = (session: Session, schema: string, names: readonly string[], what: Asked): Promise<Space[]> => {
  const wanted = names.map(() => 'SELECT ? AS name').join(' UNION ALL ');
  // A partition is a tablespace of its own: `schema/table#p#p0`, in older versions `#P#`.
  if (atLeast(session, { mysql: [8] })) {
    const [books, value, name] =
      what === 'id'
        ? ['innodb_tablespaces_brief', "CONCAT(CAST(s.space AS CHAR), '')", 's.name']
        : ['innodb_tablespaces', 'CAST(s.file_size AS CHAR)', 'CAST(s.name AS BINARY)']; // there without regard to case
    return session.query(
      `SELECT w.name AS \`table\`, ${value} AS value
       FROM (${wanted}) w
       JOIN information_schema.${books} s
         ON ${name} = CONVERT(CONCAT(?, '/', w.name) USING utf8mb3)
           OR ${name} LIKE CONVERT(CONCAT(REPLACE(REPLACE(CONCAT(?, '/', w.name), '|', '||'), '_', '|_'), '#p#%') USING utf8mb3) ESCAPE '|'`,
      [...names, schema, schema],
    );
  }
  if (session.flavor === 'mysql') return spacesOfFiles(session, schema, names, what);
  const file = (text: string) => `CAST(CONVERT(${text} USING filename) AS BINARY)`;
  return session.query(
    `SELECT w.name AS \`table\`, ${olderBooks[what].value} AS value
     FROM (${wanted}) w
     JOIN information_schema.${olderBooks[what].books} s
       ON CAST(SUBSTRING_INDEX(s.name, '#', 1) AS BINARY) = CONCAT(${file('?')}, '/', ${file('w.name')})`,
    [...names, schema],
  );
};

/** Of MariaDB, and MySQL before 8. */
const olderBooks: Readonly<Record<Asked, { readonly books: string; readonly value: string }>> = {
  id: { books: 'innodb_sys_tables', value: 'CAST(s.table_id AS CHAR)' },
  bytes: { books: 'innodb_sys_tablespaces', value: 'CAST(s.file_size AS CHAR)' },
};

/** MySQL before 8 has the names of files there and, unlike MariaDB, no word of SQL for them. */
async function spacesOfFiles(
  session: Session,
  schema: string,
  names: readonly string[],
  what: Asked,
): Promise<Space[]> {
  const folder = fileName(schema);
  const files = names.flatMap((name) => {
    const file = fileName(name);
    return file === undefined ? [] : [{ name, file }];
  });
  if (folder === undefined || files.length === 0) return [];
  const wanted = files.map(() => 'SELECT ? AS name, ? AS file').join(' UNION ALL ');
  return session.query(
    `SELECT w.name AS \`table\`, ${olderBooks[what].value} AS value
     FROM (${wanted}) w
     JOIN information_schema.${olderBooks[what].books} s
       ON CAST(SUBSTRING_INDEX(s.name, '#', 1) AS BINARY) = CAST(CONCAT(?, '/', w.file) AS BINARY)`,
    [...files.flatMap(({ name, file }) => [name, file]), folder],
  );
}

async function inParts<R>(names: readonly string[], ask: (some: readonly string[]) => Promise<R[]>): Promise<R[]> {
  const rows: R[] = [];
  for (let at = 0; at < names.length; at += namesAtOnce) rows.push(...(await ask(names.slice(at, at + namesAtOnce))));
  return rows;
}
