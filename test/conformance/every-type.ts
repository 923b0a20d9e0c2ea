/**
 * One set of tables with the values that break data movers: every type a real schema has, at its edges. Plain SQL for a
 * PostgreSQL of the given major version. Everything lies in the schema given (default `nasty`).
 */

/** A name of exactly 63 bytes, the server's limit. */
export const longName = `long_${'x'.repeat(58)}`;

export const everyTypeTables = [
  'every type',
  'many',
  'no_key',
  'composite_key',
  'Mixed "Case"',
  'select',
  longName,
  'events',
  'empty',
  'parent',
] as const;

export function everyType(version: number, schema = 'nasty'): string {
  const s = `"${schema}"`;
  const since = (least: number, text: string) => (version >= least ? text : '');
  return `
DROP SCHEMA IF EXISTS ${s} CASCADE;
CREATE SCHEMA ${s};
CREATE TYPE ${s}.mood AS ENUM ('sad', 'it''s "ok"', '', 'happy,\\tvery');
CREATE DOMAIN ${s}.price AS numeric(12,2) CHECK (VALUE IS NULL OR VALUE > -1000000);
CREATE DOMAIN ${s}.email AS text COLLATE "C" NOT NULL DEFAULT 'a@b' CONSTRAINT "has @" CHECK (VALUE ~ '@');
CREATE DOMAIN ${s}.price2 AS ${s}.price;
CREATE TYPE ${s}.address AS (street text, "no" integer, mood ${s}.mood, at timestamptz);
CREATE TYPE ${s}.floats AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE TABLE ${s}."every type" (
  id bigint PRIMARY KEY,
  v_bool boolean, v_int2 smallint, v_int4 integer, v_int8 bigint, v_oid oid,
  v_float4 real, v_float8 double precision,
  v_numeric numeric, v_numeric_12_2 numeric(12,2), v_numeric_50_20 numeric(50,20),
  ${since(15, 'v_numeric_neg numeric(3,-2), v_numeric_small numeric(2,5),')}
  v_money money,
  v_text text, v_varchar varchar(20), v_char char(5), v_char1 "char", v_name name,
  v_bytea bytea, v_json json, v_jsonb jsonb, v_uuid uuid, v_xml xml,
  v_date date, v_time time, v_time3 time(3), v_timetz timetz,
  v_timestamp timestamp, v_timestamp0 timestamp(0), v_timestamptz timestamptz, v_interval interval,
  v_mood ${s}.mood, v_price ${s}.price, v_price2 ${s}.price2, v_address ${s}.address,
  v_int4range int4range, v_tstzrange tstzrange, v_numrange numrange, v_floats ${s}.floats,
  ${since(14, 'v_multirange int4multirange,')}
  v_bit bit(5), v_varbit varbit, v_inet inet, v_cidr cidr, v_macaddr macaddr, v_macaddr8 macaddr8,
  v_point point, v_line line, v_lseg lseg, v_box box, v_path path, v_polygon polygon, v_circle circle,
  v_tsvector tsvector, v_tsquery tsquery, v_jsonpath jsonpath, v_pg_lsn pg_lsn,
  v_ints integer[], v_texts text[], v_bools boolean[], v_numerics numeric(10,2)[], v_times timestamptz[],
  v_byteas bytea[], v_moods ${s}.mood[], v_boxes box[], v_jsons jsonb[], v_addresses ${s}.address[],
  v_regclass regclass,
  v_generated bigint GENERATED ALWAYS AS (id % 1000) STORED
);
INSERT INTO ${s}."every type" (id) VALUES (1);
INSERT INTO ${s}."every type" VALUES (
  2, true, 32767, 2147483647, 9223372036854775807, 4294967295, 3.4028235e38, 1.7976931348623157e308,
  'NaN', 9999999999.99, 123456789012345678901234567890.12345678901234567890, ${since(15, '12300, 0.00012,')}
  '$92,233,720,368,547,758.07', E'tab\\tnew\\nline\\rcr back\\\\slash "double" ''single'' ,comma \\\\N', 'ünïcödé 🐦 漢字', 'ab', 'x', 'a name',
  '\\x00ff5c0a0922', '{"b": 1.10, "a": [null, "\\u00e9"], "b": 2}', '{"big": 123456789012345678901234567890, "s": "tab\\tq\\""}',
  'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '<a b="c">d &amp; e</a>',
  'infinity', '24:00:00', '12:34:56.789', '23:59:59.999999+15:59:59',
  'infinity', '2024-02-29 23:59:59', 'infinity', '178000000 years 11 mons 30 days 23:59:59.999999',
  'it''s "ok"', 123.45, -0.01, ROW('a "b", (c)', NULL, 'happy,\\tvery', '2024-01-01 00:00:00.000001+02'),
  '[1,10)', '["2024-01-01 00:00:00+00",infinity]', '(,1.5]', '[-1.5,2.5)', ${since(14, "'{[1,3),[5,7)}',")}
  B'10101', B'', '2001:db8::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05',
  '(1.5,-2.5)', '{1,-1,0}', '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(0,0),5>',
  to_tsvector('simple', 'the quick ''brown'' fox'), 'fat & (rat | ''c at'')', '$.a[*] ? (@ > 1)', '16/B374D848',
  '{1,NULL,3}', ARRAY['a,b', NULL, 'NULL', '', '"q"', E'back\\\\slash', '{x}', ' sp '], '{t,f,NULL}', '{1.10,NaN}',
  ARRAY['infinity', '2024-01-01 00:00:00.123456+00']::timestamptz[], ARRAY['\\x00ff', '\\x']::bytea[],
  ARRAY['sad', '']::${s}.mood[], '{(1,1),(0,0);(2,2),(1,1)}', ARRAY['{"a": 1}', 'null']::jsonb[],
  ARRAY[ROW('x', 1, 'sad', NULL)]::${s}.address[], 'pg_catalog.pg_class'::regclass);
INSERT INTO ${s}."every type" VALUES (
  3, false, -32768, -2147483648, -9223372036854775808, 0, 'NaN', '-Infinity',
  ${version >= 14 ? "'Infinity'" : "'1e300'"}, 'NaN', -0.00000000000000000001, ${since(15, 'NULL, NULL,')}
  '-$92,233,720,368,547,758.08', '', '', '', '', '',
  '', '""', 'null', '00000000-0000-0000-0000-000000000000', '',
  '0044-03-15 BC', '00:00:00', '00:00:00.001', '00:00:00-15:59:59',
  '4713-01-01 00:00:00 BC', '0001-01-01 00:00:00', '-infinity', '-1 years +2 mons -3 days +04:05:06.000007',
  '', 'NaN', NULL, ROW('', NULL, NULL, '-infinity'),
  'empty', '(,)', 'empty', 'empty', ${since(14, "'{}',")}
  B'00000', B'1', '::', '::/0', '00:00:00:00:00:00', '00:00:00:00:00:00:00:00',
  '(NaN,Infinity)', '{0,1,5}', '[(0,0),(0,0)]', '(0,0),(0,0)', '((0,0))', '((0,0))', '<(0,0),0>',
  '', '', '$', '0/0',
  '{}', '{}', '{{t,f},{f,t}}', '[0:1]={1.00,2.00}', '{NULL}',
  '{}', '{NULL}', '{}', '{}', ARRAY[NULL]::${s}.address[], NULL);
INSERT INTO ${s}."every type" (id, v_date, v_timestamp, v_timestamptz, v_numeric, v_float8, v_float4, v_ints, v_text, v_interval) VALUES
  (4, '5874897-12-31', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00', '1e-16383', 5e-324, 1e-45, '{{{1,2},{3,4}},{{5,6},{7,NULL}}}', 'NULL', '0'),
  (5, '0001-01-01', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999+00', '1e131071', '-0'::float8, 0.1, '[5:5]={1}', '\\N', '-00:00:00.000001'),
  (6, '0001-12-31 BC', '0001-12-31 23:59:59.999999 BC', '0001-12-31 23:59:59.999999+00 BC', 0.10, 0.1, 16777217, NULL, '\\.', '1 mon'),
  (-9223372036854775808, '10000-01-01', '10000-01-01', '10000-01-01 00:00:00+00', -0.000, 1e21, 1e21, NULL, E'\\001\\177', '-1 mon');

CREATE TABLE ${s}.many (
  id bigint GENERATED BY DEFAULT AS IDENTITY (START WITH 7 INCREMENT BY 3 CACHE 5) PRIMARY KEY,
  serial_no serial, name text NOT NULL DEFAULT 'x''y', amount numeric(12,2), at timestamptz DEFAULT now(), ref bigint,
  lower_name text GENERATED ALWAYS AS (lower(name)) STORED ${since(18, `, twice bigint GENERATED ALWAYS AS (ref * 2) VIRTUAL`)},
  CONSTRAINT "amount is sane" CHECK (amount > -5), UNIQUE (serial_no)
);
INSERT INTO ${s}.many (name, amount, at, ref)
  SELECT 'Row ' || g, g / 100.0, '2024-01-01'::timestamptz + g * interval '1 minute', CASE g % 3 WHEN 0 THEN NULL ELSE g END
  FROM generate_series(1, 5000) g;
CREATE INDEX "many by name" ON ${s}.many (lower(name) DESC, amount) WHERE amount > 10;
COMMENT ON TABLE ${s}.many IS 'many rows; it''s fine';
COMMENT ON COLUMN ${s}.many.name IS 'the "name"';

CREATE TABLE ${s}.no_key (a integer, b text);
INSERT INTO ${s}.no_key SELECT g % 10, CASE WHEN g % 7 = 0 THEN NULL WHEN g % 7 = 1 THEN '' ELSE 'b' || g END FROM generate_series(1, 1000) g;

CREATE TABLE ${s}.composite_key (region text COLLATE "C", day date, n smallint, many_id bigint REFERENCES ${s}.many (id) ON DELETE SET NULL DEFERRABLE,
  PRIMARY KEY (region, day, n));
INSERT INTO ${s}.composite_key SELECT r, '2024-01-01'::date + d, n, NULL
  FROM unnest(ARRAY['', 'a', 'A', 'é', E'x\\\\y', '''']) r, generate_series(0, 30) d, generate_series(-2, 5) n;

CREATE TABLE ${s}."Mixed ""Case""" ("Id" integer PRIMARY KEY, "Weird, ""name""" text, "ünï" text, "a'b\\c" text);
INSERT INTO ${s}."Mixed ""Case""" VALUES (1, 'a', 'b', 'c'), (2, NULL, '', '\\');
CREATE TABLE ${s}."select" ("from" integer, "where" ${s}.email, "order" text, PRIMARY KEY ("from"));
INSERT INTO ${s}."select" VALUES (1, 'x@y', NULL);
CREATE TABLE ${s}."${longName}" ("${longName}" uuid PRIMARY KEY, v text);
INSERT INTO ${s}."${longName}" SELECT md5(g::text)::uuid, g::text FROM generate_series(1, 500) g;

CREATE TABLE ${s}.events (id bigint NOT NULL, at timestamp NOT NULL, body jsonb, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE ${s}.events_2023 PARTITION OF ${s}.events FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE ${s}.events_2024 PARTITION OF ${s}.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (id);
CREATE TABLE ${s}.events_2024_a PARTITION OF ${s}.events_2024 FOR VALUES IN (1, 2, 3);
CREATE TABLE ${s}.events_2024_b PARTITION OF ${s}.events_2024 DEFAULT;
CREATE TABLE ${s}.events_rest PARTITION OF ${s}.events DEFAULT;
INSERT INTO ${s}.events SELECT g, '2022-06-01'::timestamp + g * interval '8 hours', jsonb_build_object('n', g) FROM generate_series(1, 3000) g;

CREATE TABLE ${s}.empty (id integer PRIMARY KEY, v text);
CREATE TABLE ${s}.parent (id integer PRIMARY KEY, v text);
CREATE TABLE ${s}.child (more text) INHERITS (${s}.parent);
INSERT INTO ${s}.parent VALUES (1, 'parent');
INSERT INTO ${s}.child VALUES (2, 'child', 'more');
CREATE VIEW ${s}.a_view AS SELECT id, name, amount FROM ${s}.many WHERE id > 100;
CREATE MATERIALIZED VIEW ${s}.a_matview AS SELECT id, name FROM ${s}.many;
ANALYZE;
`;
}
