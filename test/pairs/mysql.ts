/** MySQL and MariaDB read by their driver: the bytes of the text protocol, nothing made of them by the driver. */
import mysql from 'mysql2/promise';
import type { Contents } from './contents.ts';
import { bytes, float, json, type Meaning, moment, number, text } from './meaning.ts';

type Described = { readonly name: string; readonly type: string; readonly native: string; readonly json: boolean };

export async function readMysql(url: string, database: string, table: string): Promise<Contents> {
  const connection = await mysql.createConnection({ uri: url, rowsAsArray: true, charset: 'utf8mb4_bin' });
  try {
    await connection.query("SET SESSION time_zone = '+00:00', sql_mode = ''");
    const [described] = await connection.query<mysql.RowDataPacket[]>({
      sql: `SELECT column_name AS name, data_type AS type, column_type AS native,
              data_type = 'json' OR EXISTS (SELECT 1 FROM information_schema.check_constraints k
                WHERE k.constraint_schema = c.table_schema AND k.check_clause = CONCAT('json_valid(\`', c.column_name, '\`)')
                ${/mariadb/i.test(await versionOf(connection)) ? 'AND k.table_name = c.table_name' : 'AND FALSE'}) AS json
            FROM information_schema.columns c WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position`,
      values: [database, table],
      rowsAsArray: false,
    });
    const columns = (described as Described[]).map((column) => ({ ...column, json: Boolean(Number(column.json)) }));
    const list = columns.map((column) => expression(mysql.escapeId(column.name, true), column)).join(', ');
    const [rows] = await connection.query<mysql.RowDataPacket[][]>({
      sql: `SELECT ${list} FROM ${mysql.escapeId(database, true)}.${mysql.escapeId(table, true)}`,
      typeCast: (field) => field.buffer(),
    });
    return {
      columns: new Map(
        columns.map(({ name, type, native, json: isJson }) => [
          name,
          isJson ? 'json' : type === 'tinyint' ? native : type,
        ]),
      ),
      rows: (rows as unknown as (Buffer | null)[][]).map(
        (row) => new Map(columns.map((column, at) => [column.name, meaning(column, row[at] ?? null)])),
      ),
    };
  } finally {
    await connection.end();
  }
}

async function versionOf(connection: mysql.Connection): Promise<string> {
  const [rows] = await connection.query<mysql.RowDataPacket[][]>('SELECT VERSION()');
  return String(rows[0]?.[0]);
}

const geometries = /^(geometry|point|linestring|polygon|multi.*|geom.*collection)$/;

function expression(name: string, { type }: Described): string {
  // A float is printed with six digits: as a double it is printed with all it has.
  if (type === 'float') return `${name} * 1e0`;
  if (!geometries.test(type)) return name;
  return `CONCAT(IF(ST_SRID(${name}) = 0, '', CONCAT('SRID=', ST_SRID(${name}), ';')), ST_AsText(${name}))`;
}

function meaning({ type, json: isJson }: Described, value: Buffer | null): Meaning {
  if (value === null) return null;
  const written = value.toString('utf8');
  if (isJson) return json(written);
  if (geometries.test(type)) return text(written);
  switch (type) {
    case 'tinyint':
    case 'smallint':
    case 'mediumint':
    case 'int':
    case 'bigint':
    case 'decimal':
    case 'year':
      return number(written);
    case 'bit':
      return number(BigInt(`0x${value.toString('hex')}`).toString());
    case 'float':
      return float(Math.fround(Number(written)), true);
    case 'double':
      return float(Number(written));
    case 'date':
      return moment('date', written);
    case 'datetime':
      return moment('local', written);
    case 'timestamp':
      return moment('instant', written);
    case 'time':
      return moment('time', written);
    case 'uuid':
      return { is: 'uuid', value: written };
    case 'char':
    case 'varchar':
    case 'tinytext':
    case 'text':
    case 'mediumtext':
    case 'longtext':
    case 'enum':
    case 'set':
    case 'inet4':
    case 'inet6':
      return text(written);
    default:
      return bytes(value);
  }
}
