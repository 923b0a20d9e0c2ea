/** Tables as the contract wants them, from one batch of catalog queries for any number of tables of a database. */
import { createHash } from 'node:crypto';
import { distance } from 'fastest-levenshtein';
import { GodwitError } from '../../errors.ts';
import { type Column, type Table, type TableKind, type TableName, type TableSummary, tableText } from '../contract.ts';
import * as catalog from './catalog.ts';
import { defaultOf, partitioningOf, plainText } from './definitions.ts';
import { numberOf } from './errors.ts';
import type { MysqlCheck, MysqlColumn, MysqlExtras, MysqlForeignKey, MysqlIndex } from './extras.ts';
import { rangeable } from './keys.ts';
import type { Session } from './session.ts';
import { tableIdent } from './sql.ts';
import { logical } from './types.ts';

export async function listTables(session: Session, schema: string): Promise<TableSummary[]> {
  const rows = await catalog.allTables(session, schema);
  const closed = await catalog.unreadable(session, schema);
  return rows.map((row) => ({
    name: { schema: row.schema, name: row.name },
    kind: kindOf(row),
    rows: Number(row.rows ?? -1),
    bytes: Number(row.bytes ?? -1),
    readable: !closed.has(row.name),
  }));
}

const kindOf = (row: catalog.TableRow): TableKind =>
  row.type === 'VIEW' ? 'view' : /\bpartitioned\b/.test(row.options ?? '') ? 'partitioned' : 'table';

/** In the order asked for; what cannot be read is an error in its place (TABLE_MISSING, PRIVILEGE_MISSING). */
export async function describeTables(session: Session, wanted: readonly TableName[]): Promise<(Table | Error)[]> {
  const found = new Map<string, Table | Error>();
  const insensitive = await namesFold(session);
  for (const [schema, names] of Map.groupBy(wanted, (name) => name.schema)) {
    const all = await everything(session, schema, [...new Set(names.map(({ name }) => name))]);
    for (const name of names) {
      const row =
        all.tables.find((row) => row.name === name.name) ??
        (insensitive ? all.tables.find((row) => row.name.toLowerCase() === name.name.toLowerCase()) : undefined);
      found.set(tableText(name), row ? described(row, all) : await missingTable(session, name));
    }
  }
  return wanted.map((name) => found.get(tableText(name)) as Table | Error);
}

/** Does the server take table names without regard to case? */
async function namesFold(session: Session): Promise<boolean> {
  const [row] = await session.query<{ fold: number }>('SELECT @@lower_case_table_names AS fold');
  return row?.fold !== 0;
}

type Everything = {
  readonly session: Session;
  readonly tables: readonly catalog.TableRow[];
  readonly columns: ReadonlyMap<string, catalog.ColumnRow[]>;
  readonly indexes: ReadonlyMap<string, catalog.IndexRow[]>;
  readonly foreignKeys: ReadonlyMap<string, catalog.ForeignKeyRow[]>;
  readonly checks: ReadonlyMap<string, catalog.CheckRow[]>;
  readonly partitions: ReadonlyMap<string, catalog.PartitionRow[]>;
  readonly storage: ReadonlyMap<string, string>;
};

async function everything(session: Session, schema: string, wanted: readonly string[]): Promise<Everything> {
  const tables = await catalog.tablesNamed(session, schema, wanted);
  const names = tables.map((row) => row.name);
  const partitioned = tables.filter((row) => kindOf(row) === 'partitioned').map((row) => row.name);
  return {
    session,
    tables,
    columns: Map.groupBy(await catalog.columnsOf(session, schema, names), (row) => row.table),
    indexes: Map.groupBy(await catalog.indexesOf(session, schema, names), (row) => row.table),
    foreignKeys: Map.groupBy(await catalog.foreignKeysOf(session, schema, names), (row) => row.table),
    checks: Map.groupBy(await catalog.checksOf(session, schema, names), (row) => row.table),
    partitions: Map.groupBy(await catalog.partitionsOf(session, schema, partitioned), (row) => row.table),
    storage: await catalog.storageOf(session, schema, names),
  };
}

function described(row: catalog.TableRow, all: Everything): Table | Error {
  const name: TableName = { schema: row.schema, name: row.name };
  const rows = all.columns.get(row.name) ?? [];
  const refused = obstacle(name, rows);
  if (refused) return refused;
  const checks = all.checks.get(row.name) ?? [];
  const json = new Set(checks.filter(isJson).map((check) => check.name));
  const special = Object.fromEntries(rows.map((column) => [column.name, mysqlColumn(column, json, all.session)]));
  const columns = rows.map((column) => columnOf(column, special[column.name] as MysqlColumn));
  const indexes = indexesOf(all.indexes.get(row.name) ?? [], all.session);
  const key = keyOf(indexes, columns);
  const foreignKeys = foreignKeysOf(all.foreignKeys.get(row.name) ?? []);
  const storage = row.type === 'VIEW' ? '' : (all.storage.get(row.name) ?? row.created ?? '');
  const extras: MysqlExtras = {
    system: 'mysql',
    flavor: all.session.flavor,
    version: all.session.version,
    engine: row.engine ?? undefined,
    rowFormat: row.rowFormat ?? undefined,
    collation: row.collation ?? undefined,
    comment: row.type === 'VIEW' ? undefined : row.comment || undefined,
    autoIncrement: row.autoIncrement === null ? undefined : String(row.autoIncrement),
    columns: special,
    indexes,
    foreignKeys,
    checks: checks.filter((check) => !isJson(check)).map((check) => checkOf(check, all.session)),
    partitioning: partitioningOf(all.partitions.get(row.name) ?? [], all.session),
    versioned: row.type === 'SYSTEM VERSIONED' ? true : undefined,
    storage,
    keyIndex: key && rangeIndex(key, special),
  };
  return {
    system: 'mysql',
    name,
    kind: kindOf(row),
    columns,
    key: key ? key.parts.map((part) => part.column as string) : [],
    rows: Number(row.rows ?? -1),
    bytes: Number(row.bytes ?? -1),
    references: foreignKeys.map((foreign) => foreign.references),
    fingerprint: `${hash(JSON.stringify(columns.map((column) => [column.name, column.native])))}.${hash(storage)}`,
    // Plain JSON: what is undefined is not there.
    extras: JSON.parse(JSON.stringify(extras)),
  };
}

const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 20);

function columnOf(row: catalog.ColumnRow, column: MysqlColumn): Column {
  const number = (value: number | string | null) => (value === null ? undefined : Number(value));
  return {
    name: row.name,
    type: logical({
      name: row.type.toLowerCase(),
      spelled: row.spelled,
      length: number(row.length),
      precision: number(row.precision),
      scale: number(row.scale),
      fraction: number(row.fraction),
      json: column.json,
    }),
    native: nativeOf(column),
    nullable: row.nullable === 'YES',
    ...(isGenerated(row) ? { generated: true } : {}),
    ...(row.comment === '' ? {} : { comment: row.comment }),
  };
}

function nativeOf({ spelled, charset, collation, json }: MysqlColumn): string {
  if (json && spelled === 'longtext') return 'json';
  return charset === undefined ? spelled : `${spelled} CHARACTER SET ${charset} COLLATE ${collation}`;
}

const isGenerated = ({ extra, generation }: catalog.ColumnRow): boolean =>
  /\bGENERATED\b/i.test(extra.replace('DEFAULT_GENERATED', '')) || (generation ?? '') !== '';

function mysqlColumn(row: catalog.ColumnRow, json: ReadonlySet<string>, session: Session): MysqlColumn {
  const expression = isGenerated(row) ? plainText(row.generation ?? '', session) : undefined;
  return {
    type: row.type.toLowerCase(),
    spelled: row.spelled,
    charset: row.charset ?? undefined,
    collation: row.collation ?? undefined,
    default: isGenerated(row) ? undefined : defaultOf(row, session),
    onUpdate: /on update ([a-z_]+(?:\(\d*\))?)/i.exec(row.extra)?.[1],
    autoIncrement: /auto_increment/i.test(row.extra) || undefined,
    invisible: /\bINVISIBLE\b/i.test(row.extra) || undefined,
    generated: expression
      ? { expression, kind: /STORED|PERSISTENT/i.test(row.extra) ? 'stored' : 'virtual' }
      : undefined,
    srid: row.srid === null ? undefined : Number(row.srid),
    json: (row.type.toLowerCase() === 'longtext' && json.has(row.name)) || undefined,
  };
}

/** MariaDB's JSON is a word for LONGTEXT with this check. */
const isJson = (check: catalog.CheckRow): boolean =>
  check.level === 'Column' &&
  check.clause.toLowerCase() === `json_valid(\`${check.name.replaceAll('`', '``')}\`)`.toLowerCase();

const checkOf = (check: catalog.CheckRow, session: Session): MysqlCheck => ({
  name: check.name,
  expression: plainText(check.clause, session),
  enforced: check.enforced === 'YES',
  ...(check.level === 'Column' ? { column: check.name } : {}),
});

function indexesOf(rows: readonly catalog.IndexRow[], session: Session): MysqlIndex[] {
  const indexes = [...Map.groupBy(rows, (row) => row.name)].map(([name, parts]): MysqlIndex => {
    const first = parts[0] as catalog.IndexRow;
    return {
      name,
      unique: Number(first.notUnique) === 0,
      type: first.type,
      parts: parts.map((part) => ({
        ...(part.column === null ? {} : { column: part.column }),
        ...(part.expression === null ? {} : { expression: plainText(part.expression, session) }),
        // Of SPATIAL and FULLTEXT indexes the server says it too, and does not take it.
        ...(part.prefix === null || first.type !== 'BTREE' ? {} : { prefix: Number(part.prefix) }),
        ...(part.order === 'D' ? { descending: true } : {}),
      })),
      ...(first.comment ? { comment: first.comment } : {}),
      ...(Number(first.hidden) === 1 ? { invisible: true } : {}),
    };
  });
  return indexes.sort((a, b) => Number(b.name === 'PRIMARY') - Number(a.name === 'PRIMARY'));
}

/** The primary key; else the unique index that says the same: over whole columns, none of them nullable. */
function keyOf(indexes: readonly MysqlIndex[], columns: readonly Column[]): MysqlIndex | undefined {
  const nullable = new Set(columns.filter((column) => column.nullable).map((column) => column.name));
  const usable = indexes.filter(
    (index) =>
      index.unique &&
      index.parts.every((part) => part.column !== undefined && !part.prefix && !nullable.has(part.column)),
  );
  return usable.sort(
    (a, b) => Number(b.name === 'PRIMARY') - Number(a.name === 'PRIMARY') || a.parts.length - b.parts.length,
  )[0];
}

/** Ranges are made over the index's leading columns of types that have an order of their own in it. */
function rangeIndex(index: MysqlIndex, columns: Readonly<Record<string, MysqlColumn>>): MysqlExtras['keyIndex'] {
  if (index.type !== 'BTREE' || index.invisible) return undefined;
  const names = index.parts.map((part) => part.column as string);
  const end = names.findIndex((name) => !rangeable(columns[name]));
  const leading = end < 0 ? names : names.slice(0, end);
  return leading.length === 0 ? undefined : { name: index.name, columns: leading };
}

const foreignKeysOf = (rows: readonly catalog.ForeignKeyRow[]): MysqlForeignKey[] =>
  [...Map.groupBy(rows, (row) => row.name)].map(([name, parts]) => {
    const first = parts[0] as catalog.ForeignKeyRow;
    return {
      name,
      columns: parts.map((part) => part.column),
      references: { schema: first.toSchema, name: first.toTable },
      referencedColumns: parts.map((part) => part.toColumn),
      onUpdate: first.onUpdate,
      onDelete: first.onDelete,
    };
  });

function obstacle(name: TableName, columns: readonly catalog.ColumnRow[]): GodwitError | undefined {
  const table = tableText(name);
  if (columns.length === 0) {
    return new GodwitError('PRIVILEGE_MISSING', `No column of ${table} may be seen, or the view is broken.`, { table });
  }
  const closed = columns.filter((column) => !column.privileges.split(',').includes('select'));
  if (closed.length === 0) return undefined;
  const all = closed.length === columns.length;
  const what = all ? table : `${closed.map((column) => column.name).join(', ')} of ${table}`;
  return new GodwitError('PRIVILEGE_MISSING', `SELECT on ${what} is missing.`, { table });
}

/** A table one may do nothing with is not listed: the server is asked what it says of it. */
async function missingTable(session: Session, name: TableName): Promise<GodwitError> {
  const table = tableText(name);
  try {
    await session.query(`SELECT 1 FROM ${tableIdent(name)} LIMIT 0`);
  } catch (error) {
    const number = numberOf(error);
    if (number === 1142 || number === 1044) {
      return new GodwitError('PRIVILEGE_MISSING', `SELECT on ${table} is missing.`, { table });
    }
    if (number !== 1146 && number !== 1049) throw error;
  }
  const near = (await catalog.allTables(session, name.schema))
    .map((row) => ({ text: tableText(row), far: distance(row.name, name.name) }))
    .filter(({ far }) => far <= Math.max(2, name.name.length / 3))
    .sort((a, b) => a.far - b.far)
    .slice(0, 3)
    .map(({ text }) => text);
  const hint = near.length > 0 ? ` Nearest: ${near.join(', ')}.` : '';
  return new GodwitError('TABLE_MISSING', `The source has no table ${table}.${hint}`, { table });
}
