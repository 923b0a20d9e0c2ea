/**
 * What is asked of the server for each column, and how its text becomes the format's. MySQL's text protocol already
 * spells almost every value as PostgreSQL does; only what it would round, or print in its own way, is an expression here.
 *
 * Guarded columns (`ReadColumn.guard`): with `stop` and `quarantine` a value outside of the range is passed as it is
 * (`0000-00-00`, `2024-02-00`, `-12:00:00`): its form says what it is, and the reader of the bytes refuses it.
 */
import { GodwitError } from '../../errors.ts';
import type { Format, ReadColumn, Table } from '../contract.ts';
import type { LogicalType } from '../types.ts';
import { type MysqlColumn, mysqlExtras } from './extras.ts';
import { ident, literal } from './sql.ts';
import type { Spelling } from './text-rows.ts';
import { isGeometry } from './types.ts';

export type Selected = {
  readonly sql: string;
  readonly spelling: Spelling;
  /** What the value is after shaping, for canonical rows. */
  readonly type: LogicalType;
};

export function select(table: Table, columns: readonly ReadColumn[], format: Format): Selected[] {
  const extras = mysqlExtras(table);
  if (!extras) throw new GodwitError('INTERNAL', 'A table without MySQL extras was given to a MySQL source.');
  const types = new Map(table.columns.map((column) => [column.name, column.type]));
  return columns.map((column) => {
    if (column.constant) return constant(column.constant);
    const found = extras.columns[column.name];
    const type = types.get(column.name);
    if (!found || !type) {
      throw new GodwitError('COLUMN_MISSING', `The table has no column ${column.name}.`, { column: column.name });
    }
    const name = ident(column.name);
    if (column.shape === 'json') return asJson(name, type, found);
    if (column.shape === 'text' || column.guard?.misfit === 'text') return asText(name, type, found, format);
    return asIs(column.guard ? guarded(name, type, column.guard) : name, type, found, format);
  });
}

/** The value as its type. `sql` is the column, or what stands for it. */
function asIs(sql: string, type: LogicalType, { type: native, spelled }: MysqlColumn, format: Format): Selected {
  switch (type.kind) {
    case 'bool':
      return { sql: `ELT(${sql} + 1, 'f', 't')`, spelling: 'plain', type };
    case 'float32':
      // A FLOAT prints six digits of its value; as a double it prints all.
      return { sql: `${sql} * 1e0`, spelling: 'float', type };
    case 'float64':
      return { sql: spelled.includes('(') ? `${sql} * 1e0` : sql, spelling: 'plain', type };
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
    case 'uint64':
    case 'decimal':
      return { sql: padded({ type: native, spelled }) ? `${sql} + 0` : sql, spelling: 'plain', type };
    case 'date':
    case 'time':
    case 'timestamp':
    case 'uuid':
      return { sql, spelling: 'plain', type };
    case 'timestamptz':
      return { sql, spelling: 'zoned', type };
    case 'bytes':
      return { sql, spelling: 'bytes', type };
    case 'native':
      // A geometry's own bytes: the reference system, then WKB.
      return isGeometry(native) ? { ...hexadecimal(sql, format), type } : { sql, spelling: 'text', type };
    default:
      return { sql, spelling: 'text', type };
  }
}

/** `\\x6162` also where bytes are hexadecimal digits alone. */
const hexadecimal = (sql: string, format: Format): Pick<Selected, 'sql' | 'spelling'> =>
  format === 'csv' ? { sql: `CONCAT('\\\\x', LOWER(HEX(${sql})))`, spelling: 'text' } : { sql, spelling: 'bytes' };

/** Bits that would come as bytes, and numbers printed with zeros in front. */
const padded = ({ type, spelled }: Pick<MysqlColumn, 'type' | 'spelled'>): boolean =>
  type === 'bit' || type === 'year' || /zerofill/i.test(spelled);

/** The value's text form, which is the same in every format. */
function asText(name: string, type: LogicalType, column: MysqlColumn, format: Format): Selected {
  const text: LogicalType = { kind: 'text' };
  switch (type.kind) {
    case 'time':
    case 'timestamp':
      return { sql: name, spelling: 'fraction', type: text };
    case 'timestamptz':
      return { sql: name, spelling: 'zonedFraction', type: text };
    case 'bytes':
      return { ...hexadecimal(name, format), type: text };
    case 'native':
      return { sql: isGeometry(column.type) ? `ST_AsText(${name})` : name, spelling: 'text', type: text };
    default:
      return { ...asIs(name, type, column, format), type: text };
  }
}

function asJson(name: string, type: LogicalType, column: MysqlColumn): Selected {
  const json = (sql: string): Selected => ({ sql, spelling: 'text', type: { kind: 'json' } });
  switch (type.kind) {
    case 'json':
      return json(name);
    case 'bool':
      return json(`ELT(${name} + 1, 'false', 'true')`);
    case 'bytes':
      return json(`JSON_QUOTE(CONCAT('\\\\x', LOWER(HEX(${name}))))`);
    case 'native':
      return json(isGeometry(column.type) ? `ST_AsGeoJSON(${name})` : `JSON_QUOTE(CONVERT(${name} USING utf8mb4))`);
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
    case 'uint64':
    case 'decimal':
    case 'float32':
    case 'float64':
      return { ...asIs(name, type, column, 'pg-text'), type: { kind: 'json' } };
    default:
      return json(`JSON_QUOTE(CONVERT(${name} USING utf8mb4))`);
  }
}

function guarded(name: string, type: LogicalType, { misfit, wide }: NonNullable<ReadColumn['guard']>): string {
  if (misfit !== 'null' && misfit !== 'clamp') return name;
  const clamp = misfit === 'clamp';
  switch (type.kind) {
    case 'date':
      return `CASE WHEN ${possible(name)} THEN ${name}${clamp ? ` ELSE ${nearestDate(name)}` : ''} END`;
    case 'timestamp':
    case 'timestamptz':
      return clamp
        ? `CASE WHEN ${possible(name)} THEN ${name} ELSE CONCAT(${nearestDate(name)}, SUBSTR(${name}, 11)) END`
        : `CASE WHEN ${possible(name)} THEN ${name} END`;
    case 'time': {
      const beyond = `${wide ? '>' : '>='} '24:00:00'`;
      return clamp
        ? `CASE WHEN ${name} < '00:00:00' THEN '00:00:00' WHEN ${name} ${beyond} THEN '23:59:59${nines(type.precision)}' ELSE ${name} END`
        : `CASE WHEN ${name} < '00:00:00' OR ${name} ${beyond} THEN NULL ELSE ${name} END`;
    }
    default:
      return name;
  }
}

/** A date that exists, of the years 1 to 9999: not zero, no month or day 0, no 31st of February. */
const possible = (name: string): string => `FROM_DAYS(TO_DAYS(${name})) = DATE(${name}) AND YEAR(${name}) > 0`;

/** The first of what is zero, the last of a month that is shorter. NULL stays NULL. */
function nearestDate(name: string): string {
  const year = `LPAD(GREATEST(YEAR(${name}), 1), 4, '0')`;
  const month = `LPAD(GREATEST(MONTH(${name}), 1), 2, '0')`;
  const first = `CONCAT(${year}, '-', ${month}, '-01')`;
  const day = `LPAD(LEAST(GREATEST(DAYOFMONTH(${name}), 1), DAYOFMONTH(LAST_DAY(${first}))), 2, '0')`;
  return `CONCAT(${year}, '-', ${month}, '-', ${day})`;
}

const nines = (precision = 6): string => (precision === 0 ? '' : `.${'9'.repeat(precision)}`);

/** In the form the server itself would print. */
function constant({ value, type }: NonNullable<ReadColumn['constant']>): Selected {
  switch (type.kind) {
    case 'timestamptz':
      return { sql: literal(value.replace('T', ' ').replace(/(Z|\+00(:?00)?)$/, '')), spelling: 'zonedFraction', type };
    case 'timestamp':
      return { sql: literal(value.replace('T', ' ')), spelling: 'fraction', type };
    case 'bool':
      return { sql: literal(/^t/i.test(value) ? 't' : 'f'), spelling: 'plain', type };
    default:
      return { sql: literal(value), spelling: 'text', type };
  }
}
