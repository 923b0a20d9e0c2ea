/**
 * One set of tables with the values that break data movers: every type of MySQL and MariaDB at its edges, as statements
 * for a new empty database. The session that runs them gets the sql_mode they need.
 */
import type mysql from 'mysql2/promise';
import type { MysqlKind } from '../../servers/mysql.ts';

/** A name of exactly 64 characters, the server's limit. */
export const mysqlLongName = `long_${'x'.repeat(59)}`;

export const mysqlEveryTypeTables = [
  'every type',
  'many',
  'no_key',
  'composite_key',
  'case keys',
  'Mixed `Case`',
  'select',
  mysqlLongName,
  'latin',
  'events',
  'empty',
  'parent',
  'child',
] as const;

/** Columns with zero and partial dates and the like are all in one table of their own. */
export const mysqlOddDates = 'odd dates';

/** What a server has of what not every version has. */
export type MysqlHas = {
  readonly collation0900: boolean;
  /** Told of in the catalog. */
  readonly checks: boolean;
  /** Defaults that are expressions. */
  readonly defaults: boolean;
  /** Indexes that descend. */
  readonly descending: boolean;
  /** Columns that are added and leave the rows as they are. */
  readonly instant: boolean;
  /** A collation to which every two texts are two. */
  readonly exact: boolean;
  /** A LOAD DATA that takes a long field in time: before, twice as long takes four times. */
  readonly longFields: boolean;
  readonly invisible: boolean;
  readonly uuid: boolean;
};

/** By the server's own number, `8.0.19`. */
export function mysqlHas(kind: MysqlKind, version: string): MysqlHas {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const since = (...[a = 0, b = 0, c = 0]: number[]) => major * 1e6 + minor * 1e3 + patch >= a * 1e6 + b * 1e3 + c;
  return {
    collation0900: kind === 'mysql' && since(8),
    checks: kind === 'mariadb' || since(8, 0, 16),
    defaults: kind === 'mariadb' || since(8, 0, 13),
    descending: kind === 'mariadb' ? since(10, 8) : since(8),
    instant: kind === 'mariadb' || since(8, 0, 12),
    exact: kind === 'mariadb' || since(8, 0, 17),
    longFields: kind === 'mariadb' || since(9),
    invisible: kind === 'mariadb' || since(8, 0, 23),
    uuid: kind === 'mariadb' && since(10, 7),
  };
}

export async function mysqlEveryTypeOf(kind: MysqlKind, client: mysql.Connection): Promise<string[]> {
  const [[row]] = await client.query<mysql.RowDataPacket[]>('SELECT VERSION() AS v');
  return mysqlEveryType(kind, mysqlHas(kind, row?.v));
}

const all = (kind: MysqlKind) => mysqlHas(kind, '99.0.0');

export function mysqlEveryType(kind: MysqlKind, has: MysqlHas = all(kind)): string[] {
  const ci = has.collation0900 ? 'utf8mb4_0900_ai_ci' : 'utf8mb4_unicode_520_ci';
  const left = new Set([...(kind === 'mariadb' ? [] : ['v_inet6']), ...(has.uuid ? [] : ['v_uuid'])]);
  return [
    "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION', SESSION time_zone = '+00:00', NAMES utf8mb4",
    `CREATE TABLE \`every type\` (
      id bigint unsigned PRIMARY KEY,
      v_bool bool, v_tiny1 tinyint(1), v_tiny tinyint, v_utiny tinyint unsigned,
      v_small smallint, v_usmall smallint unsigned, v_medium mediumint, v_umedium mediumint unsigned,
      v_int int, v_uint int unsigned, v_zero int(8) unsigned zerofill, v_big bigint, v_ubig bigint unsigned,
      v_decimal decimal(65,30), v_decimal_12_2 decimal(12,2), v_udecimal decimal(10,0) unsigned,
      v_float float, v_double double, v_float_2 float(10,2),
      v_bit1 bit(1), v_bit8 bit(8), v_bit64 bit(64),
      v_char char(5), v_varchar varchar(20), v_tinytext tinytext, v_text text, v_mediumtext mediumtext, v_longtext longtext,
      v_latin1 varchar(20) CHARACTER SET latin1, v_utf8mb3 varchar(20) CHARACTER SET utf8mb3,
      v_ci varchar(20) CHARACTER SET utf8mb4 COLLATE ${ci}, v_utf16 varchar(20) CHARACTER SET utf16,
      v_binary binary(4), v_varbinary varbinary(20), v_tinyblob tinyblob, v_blob blob, v_mediumblob mediumblob, v_longblob longblob,
      v_enum enum('sad', 'it''s "ok"', '', 'a\\\\b,\\t'), v_set set('a', 'b c', 'd''e'), v_json json,
      v_date date, v_datetime datetime, v_datetime3 datetime(3), v_datetime6 datetime(6),
      v_timestamp timestamp NULL, v_timestamp6 timestamp(6) NULL,
      v_time time, v_time6 time(6), v_year year, v_point point,
      ${left.has('v_inet6') ? '' : 'v_inet6 inet6,'} ${left.has('v_uuid') ? '' : 'v_uuid uuid,'}
      v_stored bigint GENERATED ALWAYS AS (v_int * 2) STORED,
      v_virtual varchar(50) GENERATED ALWAYS AS (concat(v_varchar, '!')) VIRTUAL,
      v_invisible int ${has.invisible ? 'INVISIBLE' : ''} DEFAULT 7
    ) CHARACTER SET utf8mb4 COMMENT 'every type; it''s "nasty"'`,
    'INSERT INTO `every type` (id, v_invisible) VALUES (1, NULL)',
    insertAll(left, '2', {
      v_bool: 'true',
      v_tiny1: '2',
      v_tiny: '127',
      v_utiny: '255',
      v_small: '32767',
      v_usmall: '65535',
      v_medium: '8388607',
      v_umedium: '16777215',
      v_int: '2147483647',
      v_uint: '4294967295',
      v_zero: '42',
      v_big: '9223372036854775807',
      v_ubig: '18446744073709551615',
      v_decimal: '99999999999999999999999999999999999.999999999999999999999999999999',
      v_decimal_12_2: '9999999999.99',
      v_udecimal: '9999999999',
      v_float: '3.40282e38',
      v_double: '1.7976931348623157e308',
      v_float_2: '12345.67',
      v_bit1: "b'1'",
      v_bit8: "b'10100101'",
      v_bit64: '0xFFFFFFFFFFFFFFFF',
      v_char: "'ab'",
      v_varchar: "'tab\\tnl\\ncr\\r\\\\N'",
      v_tinytext: "'\"double\" ''single'''",
      v_text: "'ünïcödé 🐦 漢字 ,comma'",
      v_mediumtext: "'\\\\.'",
      v_longtext: "REPEAT('lång🐦', 20000)",
      v_latin1: "'é€ß'",
      v_utf8mb3: "'漢字é'",
      v_ci: "'Ångström'",
      v_utf16: "'🐦x'",
      v_binary: "X'00FF'",
      v_varbinary: "X'000A0D5C2209FF27'",
      v_tinyblob: "X'00'",
      v_blob: "X'5C78303041'",
      v_mediumblob: "''",
      v_longblob: "REPEAT(X'00FF5C0A', 1000)",
      v_enum: "'it''s \"ok\"'",
      v_set: "'d''e,a'",
      v_json: `'{"b": 1.5, "a": [null, "\\\\u00e9", true], "big": 12345678901234567, "nested": {"tab": "\\\\t", "q": "\\\\""}}'`,
      v_date: "'9999-12-31'",
      v_datetime: "'9999-12-31 23:59:59'",
      v_datetime3: "'2024-02-29 23:59:59.999'",
      v_datetime6: "'9999-12-31 23:59:59.999999'",
      v_timestamp: "'2038-01-19 03:14:07'",
      v_timestamp6: "'2038-01-19 03:14:07.999999'",
      v_time: "'838:59:59'",
      v_time6: "'838:59:58.999999'",
      v_year: '2155',
      v_point: "ST_GeomFromText('POINT(1.5 -2.5)')",
      v_inet6: "'2001:db8::1'",
      v_uuid: "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
      v_invisible: '-1',
    }),
    insertAll(left, '3', {
      v_bool: 'false',
      v_tiny1: '-128',
      v_tiny: '-128',
      v_utiny: '0',
      v_small: '-32768',
      v_usmall: '0',
      v_medium: '-8388608',
      v_umedium: '0',
      v_int: '-2147483648',
      v_uint: '0',
      v_zero: '0',
      v_big: '-9223372036854775808',
      v_ubig: '9223372036854775808',
      v_decimal: '-0.000000000000000000000000000001',
      v_decimal_12_2: '-9999999999.99',
      v_udecimal: '0',
      v_float: '1.17549e-38',
      v_double: '2.2250738585072014e-308',
      v_float_2: '-0.01',
      v_bit1: "b'0'",
      v_bit8: "b'0'",
      v_bit64: '1',
      v_char: "''",
      v_varchar: "''",
      v_tinytext: "''",
      v_text: "'\\0\\Z\\b'",
      v_mediumtext: "'NULL'",
      v_longtext: "'\\\\'",
      v_latin1: "''",
      v_utf8mb3: "''",
      v_ci: "' both sides '",
      v_utf16: "''",
      v_binary: "X'00000000'",
      v_varbinary: "''",
      v_tinyblob: "''",
      v_blob: "''",
      v_mediumblob: "X'FFFFFF'",
      v_longblob: "''",
      v_enum: "''",
      v_set: "''",
      v_json: "'null'",
      v_date: "'0001-01-01'",
      v_datetime: "'0001-01-01 00:00:00'",
      v_datetime3: "'1000-01-01 00:00:00.001'",
      v_datetime6: "'1000-01-01 00:00:00.000001'",
      v_timestamp: "'1970-01-01 00:00:01'",
      v_timestamp6: "'1970-01-01 00:00:01.000001'",
      v_time: "'-838:59:59'",
      v_time6: "'-00:00:00.000001'",
      v_year: '1901',
      v_point: "ST_GeomFromText('POINT(0 0)')",
      v_inet6: "'::'",
      v_uuid: "'00000000-0000-0000-0000-000000000001'",
      v_invisible: '0',
    }),
    `INSERT INTO \`every type\` (id, v_float, v_double, v_text, v_varchar, v_time6, v_year, v_json, v_decimal_12_2, v_set, v_bit8) VALUES
      (4, 0.1, 0.1, '\f\v\r', 'NULL', '23:59:59.999999', 0, '[]', 0.10, 'a,b c,d''e', b'1'),
      (5, 16777216, 1e21, '\\\\x41', '\\\\t', '00:00:00', 1970, '{}', -0.10, NULL, NULL),
      (6, -0e0, 5e-324, 'a\\'b', '\\\\', '24:00:00', NULL, '"text"', 0, 'a', b'1111'),
      (18446744073709551615, 1e-30, 123456789.123456789, ' ', ' ', '00:00:00.5', 2000, '-1.25e10', 1, 'd''e', b'11')`,

    // Dates that exist in MySQL alone: zero, partial, and (with this sql_mode) of no calendar.
    "SET SESSION sql_mode = 'ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION'",
    `CREATE TABLE \`${mysqlOddDates}\` (id int PRIMARY KEY, d date, dt datetime, dt6 datetime(6), ts timestamp NULL)`,
    `INSERT INTO \`${mysqlOddDates}\` VALUES
      (1, '2024-02-29', '2024-02-29 01:02:03', '2024-02-29 01:02:03.000004', '2024-02-29 01:02:03'),
      (2, '0000-00-00', '0000-00-00 00:00:00', '0000-00-00 00:00:00', '0000-00-00 00:00:00'),
      (3, '2024-00-00', '2024-00-00 00:00:00', '2024-01-00 00:00:00.000001', NULL),
      (4, '0000-01-01', '0000-01-01 10:00:00', NULL, NULL),
      (5, '2023-02-31', '2023-02-31 12:00:00', NULL, NULL),
      (6, NULL, NULL, NULL, NULL)`,

    "SET SESSION sql_mode = 'NO_ENGINE_SUBSTITUTION'",
    `CREATE TABLE many (
      id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, name varchar(100) NOT NULL DEFAULT 'x''y', amount decimal(12,2),
      at datetime(3) DEFAULT CURRENT_TIMESTAMP(3), ref bigint unsigned COMMENT 'the "ref"',
      lower_name varchar(100) GENERATED ALWAYS AS (lower(name)) STORED,
      UNIQUE KEY \`many by ref\` (ref), KEY \`many by name\` (name(10) DESC, amount), CONSTRAINT \`amount is sane\` CHECK (amount > -5)
    ) AUTO_INCREMENT = 100 CHARACTER SET utf8mb4 COMMENT 'many rows; it''s fine'`,
    `INSERT INTO many (id, name, amount, at, ref)
      SELECT n * 3, CONCAT('Row ', n), n / 100, '2024-01-01' + INTERVAL n MINUTE, CASE n % 3 WHEN 0 THEN NULL ELSE n END FROM (${numbers}) numbers
      WHERE n BETWEEN 1 AND 5000`,
    'CREATE TABLE no_key (a int, b varchar(20))',
    `INSERT INTO no_key SELECT n % 10, CASE n % 7 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE CONCAT('b', n) END FROM (${numbers}) numbers WHERE n < 1000`,
    `CREATE TABLE composite_key (region varchar(10) CHARACTER SET utf8mb4 COLLATE ${ci}, day date, n smallint,
      many_id bigint unsigned, PRIMARY KEY (region, day, n), CONSTRAINT to_many FOREIGN KEY (many_id) REFERENCES many (id) ON DELETE SET NULL)`,
    `INSERT INTO composite_key SELECT r, '2024-01-01' + INTERVAL numbers.n DAY, m.n, NULL
      FROM (SELECT '' AS r UNION ALL SELECT 'a' UNION ALL SELECT 'b' UNION ALL SELECT 'x\\\\y' UNION ALL SELECT '''') regions,
      (${numbers}) numbers, (SELECT -1 AS n UNION ALL SELECT 0 UNION ALL SELECT 5) m WHERE numbers.n < 40`,
    // Keys that a case-insensitive collation would take for one.
    'CREATE TABLE `case keys` (k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY, v int)',
    "INSERT INTO `case keys` VALUES ('a', 1), ('A', 2), ('á', 3), ('Á', 4), ('ss', 5), ('ß', 6), ('', 7)",
    'CREATE TABLE `Mixed ``Case``` (`Id` int PRIMARY KEY, `Weird, "name"` text, `ünï` text, `a\'b\\c` text, `back``tick` int)',
    "INSERT INTO `Mixed ``Case``` VALUES (1, 'a', 'b', 'c', 1), (2, NULL, '', '\\\\', NULL)",
    'CREATE TABLE `select` (`from` int PRIMARY KEY, `where` varchar(20) NOT NULL, `order` text)',
    "INSERT INTO `select` VALUES (1, 'x@y', NULL)",
    `CREATE TABLE \`${mysqlLongName}\` (\`${mysqlLongName}\` char(36) CHARACTER SET ascii PRIMARY KEY, v text)`,
    `INSERT INTO \`${mysqlLongName}\` SELECT LEFT(SHA2(n, 224), 36), n FROM (${numbers}) numbers WHERE n < 500`,
    'CREATE TABLE latin (id int PRIMARY KEY, v text, w varchar(50)) CHARACTER SET latin1',
    "INSERT INTO latin VALUES (1, 'naïve café €', 'ÿ'), (2, '', NULL), (3, 'back\\\\slash\\ttab', '\\n')",
    `CREATE TABLE events (id bigint NOT NULL, at datetime NOT NULL, body json, PRIMARY KEY (id, at))
      PARTITION BY RANGE (YEAR(at)) (PARTITION p23 VALUES LESS THAN (2024), PARTITION p24 VALUES LESS THAN (2025), PARTITION rest VALUES LESS THAN MAXVALUE)`,
    `INSERT INTO events SELECT n, '2022-06-01' + INTERVAL n * 8 HOUR, JSON_OBJECT('n', n) FROM (${numbers}) numbers WHERE n < 3000`,
    'CREATE TABLE `empty` (id int PRIMARY KEY, v text)',
    'CREATE TABLE parent (id int PRIMARY KEY, v text)',
    "INSERT INTO parent VALUES (1, 'one'), (2, 'two')",
    'CREATE TABLE child (id int PRIMARY KEY, parent_id int, FOREIGN KEY (parent_id) REFERENCES parent (id) ON UPDATE CASCADE)',
    'INSERT INTO child VALUES (10, 1), (11, 2), (12, NULL)',
    'CREATE VIEW a_view AS SELECT id, name, amount FROM many WHERE id > 100',
    'ANALYZE TABLE `every type`, many, no_key, composite_key, events',
  ];
}

/** 0 to 9999, without a sequence engine or a recursive query. */
const digits = Array.from({ length: 10 }, (_, n) => `SELECT ${n}${n === 0 ? ' AS d' : ''}`).join(' UNION ALL ');
const numbers = `SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS n FROM (${digits}) a, (${digits}) b, (${digits}) c, (${digits}) e`;

function insertAll(left: ReadonlySet<string>, id: string, values: Readonly<Record<string, string>>): string {
  const here = Object.entries(values).filter(([name]) => !left.has(name));
  const names = here.map(([name]) => name).join(', ');
  return `INSERT INTO \`every type\` (id, ${names}) VALUES (${id}, ${here.map(([, value]) => value).join(', ')})`;
}
