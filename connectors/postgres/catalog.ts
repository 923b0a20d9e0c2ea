/**
 * The catalog queries. Each one answers for any number of tables at once. All names are resolved by the server's
 * functions with an empty search_path, so they come out complete.
 */
import type { Session } from './session.ts';

export type RelationRow = {
  oid: number;
  schema: string;
  name: string;
  /** r table, p partitioned, v view, m materialised view, f foreign. */
  kind: 'r' | 'p' | 'v' | 'm' | 'f';
  temporary: boolean;
  rows: number;
  bytes: number;
  pages: number;
  comment: string | null;
  usage: boolean;
  select: boolean;
  hidden: boolean;
  partition_key: string | null;
};

/** The sizes are those of now, the density of rows that of the last ANALYZE; without one, PostgreSQL's own guess. */
const relationsSql = (roots: string): string => `
WITH RECURSIVE roots AS (${roots}),
tree(root, oid) AS (
  SELECT oid, oid FROM roots
  UNION ALL
  SELECT t.root, i.inhrelid
  FROM tree t JOIN pg_class p ON p.oid = t.oid AND p.relkind = 'p' JOIN pg_inherits i ON i.inhparent = t.oid
),
leaf AS (
  SELECT t.root, c.oid, c.relkind, c.reltuples, c.relpages,
    CASE WHEN c.relkind IN ('r', 'm') THEN coalesce(pg_relation_size(c.oid), 0) END
      / current_setting('block_size')::float8 AS pages,
    CASE WHEN c.relkind IN ('r', 'm') THEN coalesce(pg_table_size(c.oid), 0) END AS bytes
  FROM tree t JOIN pg_class c ON c.oid = t.oid AND c.relkind <> 'p'
),
size AS (
  SELECT root, sum(pages) AS pages, sum(bytes) AS bytes, sum(CASE
    WHEN relkind = 'f' AND reltuples > 0 THEN reltuples
    WHEN relkind NOT IN ('r', 'm') THEN -1
    WHEN pages = 0 THEN 0
    WHEN relpages > 0 AND reltuples >= 0 THEN reltuples::float8 / relpages * pages
    ELSE pages * (current_setting('block_size')::float8 - 24) / (28 + (
      SELECT sum(CASE WHEN a.attlen > 0 THEN a.attlen ELSE 32 END)
      FROM pg_attribute a WHERE a.attrelid = leaf.oid AND a.attnum > 0 AND NOT a.attisdropped)) END) AS rows
  FROM leaf GROUP BY root
)
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.relpersistence = 't' AS temporary,
  greatest(-1, round(coalesce(s.rows, 0)))::float8 AS rows, coalesce(s.bytes, CASE WHEN c.relkind = 'p' THEN 0 ELSE -1 END)::float8 AS bytes,
  coalesce(s.pages, 0)::float8 AS pages, obj_description(c.oid, 'pg_class') AS comment,
  has_schema_privilege(n.oid, 'USAGE') AS usage,
  has_table_privilege(c.oid, 'SELECT') OR NOT EXISTS (
    SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT')) AS "select",
  c.relkind IN ('r', 'p') AND c.relrowsecurity AND row_security_active(c.oid) AS hidden,
  CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key
FROM roots r JOIN pg_class c ON c.oid = r.oid JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN size s ON s.root = c.oid
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`;

/** What a wildcard sees: no partitions (their table has them), nothing temporary, of the system, or of an extension. */
export const allRelations = (session: Session): Promise<RelationRow[]> =>
  session.query<RelationRow>(
    relationsSql(`
  SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '_godwit')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`),
  );

export const relationsNamed = (session: Session, schemas: readonly string[], names: readonly string[]) =>
  session.query<RelationRow>(
    relationsSql(`
  SELECT c.oid FROM unnest($1::text[], $2::text[]) AS want(schema, name)
  JOIN pg_namespace n ON n.nspname = want.schema
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  GROUP BY c.oid`),
    [schemas, names],
  );

export type ColumnRow = {
  relation: number;
  number: number;
  name: string;
  type: number;
  typmod: number;
  native: string;
  not_null: boolean;
  identity: '' | 'a' | 'd';
  generated: '' | 's' | 'v';
  expression: string | null;
  collation: string | null;
  comment: string | null;
};

export const columnsOf = (session: Session, oids: readonly number[]) =>
  session.query<ColumnRow>(
    `
SELECT a.attrelid AS relation, a.attnum AS number, a.attname AS name, a.atttypid AS type, a.atttypmod AS typmod,
  format_type(a.atttypid, a.atttypmod) AS native, a.attnotnull AS not_null, a.attidentity AS identity,
  a.attgenerated AS generated, pg_get_expr(d.adbin, d.adrelid) AS expression,
  CASE WHEN a.attcollation <> t.typcollation THEN (
    SELECT format('%I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
    WHERE c.oid = a.attcollation) END AS collation,
  col_description(a.attrelid, a.attnum) AS comment
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`,
    [oids],
  );

export type TypeRow = {
  oid: number;
  schema: string;
  name: string;
  kind: string;
  /** b base, c composite, d domain, e enum, r range, m multirange, p pseudo. */
  element: number;
  base: number;
  typmod: number;
  extension: string | null;
  extension_schema: string | null;
  /** A true array: its element names it as its array. */
  array: boolean;
  native_base: string | null;
  not_null: boolean;
  default: string | null;
  collation: string | null;
  labels: string[] | null;
  checks: { name: string; definition: string }[] | null;
  attributes: { name: string; type: number; native: string; collation: string | null }[] | null;
  /** relkind of the relation a composite describes: c for a free-standing one. */
  relation_kind: string | null;
  range: {
    subtype: number;
    native: string;
    opclass: string | null;
    collation: string | null;
    diff: string | null;
    canonical: boolean;
    multirange: { schema: string; name: string } | null;
  } | null;
  comment: string | null;
};

/** The given types and everything they stand on. */
export const typesOf = (session: Session, oids: readonly number[]) => {
  const multiranges = session.version >= 14;
  return session.query<TypeRow>(
    `
WITH RECURSIVE need(oid) AS (
  SELECT unnest($1::oid[])
  UNION
  SELECT x.oid FROM need n JOIN pg_type t ON t.oid = n.oid CROSS JOIN LATERAL (
    SELECT t.typelem UNION ALL SELECT t.typbasetype
    UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid
    ${multiranges ? 'UNION ALL SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid' : ''}
    UNION ALL SELECT a.atttypid FROM pg_attribute a
      WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
  ) x(oid) WHERE x.oid <> 0
)
SELECT t.oid, s.nspname AS schema, t.typname AS name, t.typtype AS kind, t.typelem AS element, t.typbasetype AS base,
  t.typtypmod AS typmod, e.extname AS extension, en.nspname AS extension_schema,
  t.typelem <> 0 AND EXISTS (SELECT FROM pg_type el WHERE el.oid = t.typelem AND el.typarray = t.oid) AS array,
  CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END AS native_base,
  t.typnotnull AS not_null, t.typdefault AS default,
  CASE WHEN t.typtype = 'd' AND t.typcollation <> b.typcollation THEN (
    SELECT format('%I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
    WHERE c.oid = t.typcollation) END AS collation,
  CASE WHEN t.typtype = 'e' THEN (
    SELECT json_agg(l.enumlabel ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = t.oid) END AS labels,
  CASE WHEN t.typtype = 'd' THEN (
    SELECT json_agg(json_build_object('name', c.conname, 'definition', pg_get_constraintdef(c.oid)) ORDER BY c.conname)
    FROM pg_constraint c WHERE c.contypid = t.oid AND c.contype = 'c') END AS checks,
  CASE WHEN t.typtype = 'c' THEN (
    SELECT json_agg(json_build_object('name', a.attname, 'type', a.atttypid::int8, 'native', format_type(a.atttypid, a.atttypmod),
      'collation', CASE WHEN a.attcollation <> at.typcollation THEN (
        SELECT format('%I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
        WHERE c.oid = a.attcollation) END) ORDER BY a.attnum)
    FROM pg_attribute a JOIN pg_type at ON at.oid = a.atttypid
    WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) END AS attributes,
  rel.relkind AS relation_kind,
  (SELECT json_build_object('subtype', r.rngsubtype::int8, 'native', format_type(r.rngsubtype, -1),
      'opclass', CASE WHEN NOT oc.opcdefault THEN format('%I.%I', ocn.nspname, oc.opcname) END,
      'collation', CASE WHEN r.rngcollation <> st.typcollation THEN (
        SELECT format('%I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
        WHERE c.oid = r.rngcollation) END,
      'diff', CASE WHEN r.rngsubdiff <> 0 AND dn.nspname = 'pg_catalog' THEN format('%I.%I', dn.nspname, dp.proname) END,
      'canonical', r.rngcanonical <> 0,
      'multirange', ${
        multiranges
          ? "(SELECT json_build_object('schema', mn.nspname, 'name', m.typname) FROM pg_type m JOIN pg_namespace mn ON mn.oid = m.typnamespace WHERE m.oid = r.rngmultitypid)"
          : 'NULL'
      })
    FROM pg_range r JOIN pg_type st ON st.oid = r.rngsubtype JOIN pg_opclass oc ON oc.oid = r.rngsubopc
      JOIN pg_namespace ocn ON ocn.oid = oc.opcnamespace
      LEFT JOIN pg_proc dp ON dp.oid = r.rngsubdiff LEFT JOIN pg_namespace dn ON dn.oid = dp.pronamespace
    WHERE r.rngtypid = t.oid) AS range,
  obj_description(t.oid, 'pg_type') AS comment
FROM need JOIN pg_type t ON t.oid = need.oid JOIN pg_namespace s ON s.oid = t.typnamespace
  LEFT JOIN pg_type b ON b.oid = t.typbasetype
  LEFT JOIN pg_class rel ON rel.oid = t.typrelid AND t.typrelid <> 0
  LEFT JOIN pg_depend x ON x.classid = 'pg_type'::regclass AND x.objid = t.oid AND x.deptype = 'e'
  LEFT JOIN pg_extension e ON e.oid = x.refobjid LEFT JOIN pg_namespace en ON en.oid = e.extnamespace
ORDER BY t.oid`,
    [oids],
  );
};

export type ConstraintRow = {
  relation: number;
  name: string;
  kind: 'p' | 'u' | 'x' | 'c' | 'f';
  definition: string;
  columns: string[];
  validated: boolean;
  comment: string | null;
  ref_schema: string | null;
  ref_name: string | null;
  ref_columns: string[] | null;
  prefix: string | null;
};

/** Not-null constraints (18) are the columns' own; keys a partition got from its parent belong to the parent. */
export const constraintsOf = (session: Session, oids: readonly number[]) =>
  session.query<ConstraintRow>(
    `
SELECT k.conrelid AS relation, k.conname AS name, k.contype AS kind, pg_get_constraintdef(k.oid) AS definition,
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, o)
    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.o) AS columns,
  k.convalidated AS validated, obj_description(k.oid, 'pg_constraint') AS comment,
  rn.nspname AS ref_schema, r.relname AS ref_name, x.ref_columns,
  CASE WHEN k.contype = 'f' THEN format('FOREIGN KEY (%s) REFERENCES %s(%s)',
    (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY u.o) FROM unnest(k.conkey) WITH ORDINALITY u(n, o)
      JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n),
    k.confrelid::regclass,
    (SELECT string_agg(quote_ident(c), ', ' ORDER BY o) FROM unnest(x.ref_columns) WITH ORDINALITY u(c, o))) END AS prefix
FROM pg_constraint k
  LEFT JOIN pg_class r ON r.oid = k.confrelid LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace
  LEFT JOIN LATERAL (SELECT ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, o)
    JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.o) AS ref_columns) x ON true
WHERE k.conrelid = ANY($1::oid[]) AND k.contype IN ('p', 'u', 'x', 'c', 'f')
  AND NOT EXISTS (SELECT FROM pg_constraint up WHERE up.oid = k.conparentid AND up.conrelid = k.conrelid)
ORDER BY k.conrelid, k.conname COLLATE "C"`,
    [oids],
  );

export type IndexRow = {
  relation: number;
  name: string;
  definition: string;
  prefix: string;
  primary: boolean;
  unique: boolean;
  valid: boolean;
  immediate: boolean;
  partial: boolean;
  constraint: boolean;
  /** Key columns when all are plain columns, else null. */
  columns: { name: string; not_null: boolean; type: string; collation: string | null }[] | null;
  /** btree, ascending, with the types' own operators: what key ranges can be walked on. */
  ordered: boolean;
  pages: number;
  comment: string | null;
};

export const indexesOf = (session: Session, oids: readonly number[]) =>
  session.query<IndexRow>(
    `
SELECT i.indrelid AS relation, c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition,
  format('CREATE %sINDEX %I ON %s%s ', CASE WHEN i.indisunique THEN 'UNIQUE ' END, c.relname,
    CASE WHEN t.relkind = 'p' THEN 'ONLY ' END, i.indrelid::regclass) AS prefix,
  i.indisprimary AS primary, i.indisunique AS unique, i.indisvalid AND i.indisready AS valid, i.indimmediate AS immediate,
  i.indpred IS NOT NULL AS partial,
  EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')) AS constraint,
  CASE WHEN i.indexprs IS NULL THEN (
    SELECT json_agg(json_build_object('name', a.attname, 'not_null', a.attnotnull,
      'type', format_type(a.atttypid, -1), 'collation', CASE WHEN l.oid IS NOT NULL THEN format('%I.%I', ln.nspname, l.collname) END)
      ORDER BY k.n)
    FROM generate_series(1, i.indnkeyatts) AS k(n)
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n - 1]
      LEFT JOIN pg_collation l ON l.oid = i.indcollation[k.n - 1] LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace
  ) END AS columns,
  am.amname = 'btree' AND NOT EXISTS (
    SELECT FROM generate_series(0, i.indnkeyatts - 1) AS k(n) JOIN pg_opclass o ON o.oid = i.indclass[k.n]
    WHERE i.indoption[k.n] & 1 = 1 OR NOT o.opcdefault) AS ordered,
  c.relpages AS pages, obj_description(i.indexrelid, 'pg_class') AS comment
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid JOIN pg_am am ON am.oid = c.relam
WHERE i.indrelid = ANY($1::oid[]) AND i.indislive
ORDER BY i.indrelid, c.relname COLLATE "C"`,
    [oids],
  );

export type SequenceRow = {
  relation: number;
  number: number;
  schema: string;
  name: string;
  owned: boolean;
  type: string;
  start: string;
  increment: string;
  min: string;
  max: string;
  cache: string;
  cycle: boolean;
  last: string | null;
};

/** Of identity columns, and those a default takes from, whoever owns them. */
export const sequencesOf = (session: Session, oids: readonly number[]) =>
  session.query<SequenceRow>(
    `
WITH used AS (
  SELECT d.refobjid AS relation, d.refobjsubid AS number, d.objid AS sequence
  FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i'
    AND d.refobjid = ANY($1::oid[]) AND d.refobjsubid > 0
  UNION
  SELECT a.adrelid, a.adnum, d.refobjid
  FROM pg_attrdef a JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid
    AND d.refclassid = 'pg_class'::regclass JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
  WHERE a.adrelid = ANY($1::oid[])
)
SELECT u.relation, u.number, n.nspname AS schema, c.relname AS name,
  EXISTS (SELECT FROM pg_depend o WHERE o.classid = 'pg_class'::regclass AND o.objid = u.sequence
    AND o.refclassid = 'pg_class'::regclass AND o.deptype IN ('a', 'i') AND o.refobjid = u.relation AND o.refobjsubid = u.number) AS owned,
  format_type(q.seqtypid, NULL) AS type, q.seqstart::text AS start, q.seqincrement::text AS increment,
  q.seqmin::text AS min, q.seqmax::text AS max, q.seqcache::text AS cache, q.seqcycle AS cycle,
  CASE WHEN has_sequence_privilege(q.seqrelid, 'USAGE, SELECT') THEN pg_sequence_last_value(q.seqrelid)::text END AS last
FROM used u JOIN pg_class c ON c.oid = u.sequence JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_sequence q ON q.seqrelid = u.sequence
ORDER BY u.relation, u.number`,
    [oids],
  );

export type PartRow = {
  root: number;
  schema: string;
  name: string;
  parent_schema: string;
  parent_name: string;
  bound: string;
  key: string | null;
};

export const partsOf = (session: Session, oids: readonly number[]) =>
  session.query<PartRow>(
    `
WITH RECURSIVE part(root, oid, parent, depth) AS (
  SELECT i.inhparent, i.inhrelid, i.inhparent, 1 FROM pg_inherits i WHERE i.inhparent = ANY($1::oid[])
  UNION ALL
  SELECT p.root, i.inhrelid, i.inhparent, p.depth + 1 FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
)
SELECT p.root, n.nspname AS schema, c.relname AS name, pn.nspname AS parent_schema, pc.relname AS parent_name,
  pg_get_expr(c.relpartbound, c.oid) AS bound, CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS key
FROM part p JOIN pg_class c ON c.oid = p.oid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class pc ON pc.oid = p.parent JOIN pg_namespace pn ON pn.oid = pc.relnamespace
ORDER BY p.root, p.depth, n.nspname COLLATE "C", c.relname COLLATE "C"`,
    [oids],
  );

/**
 * The relations whose storage a read of the table touches: itself, the leaves of a partitioned table, the tables under
 * a view; with the file each one has now.
 */
export const storageOf = (session: Session, oids: readonly number[]) =>
  session.query<{ root: number; oid: number; file: string }>(
    `
WITH RECURSIVE under(root, oid) AS (
  SELECT oid, oid FROM unnest($1::oid[]) AS r(oid)
  UNION
  SELECT u.root, x.oid FROM under u JOIN pg_class c ON c.oid = u.oid CROSS JOIN LATERAL (
    SELECT i.inhrelid FROM pg_inherits i
    WHERE i.inhparent = u.oid AND (c.relkind = 'p' OR u.oid <> u.root)
    UNION ALL
    SELECT d.refobjid FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
      AND d.refclassid = 'pg_class'::regclass
    WHERE c.relkind = 'v' AND w.ev_class = u.oid AND d.refobjid <> u.oid
  ) x(oid)
)
SELECT u.root, u.oid, pg_relation_filenode(u.oid)::text AS file
FROM under u JOIN pg_class c ON c.oid = u.oid AND c.relkind IN ('r', 'm')
ORDER BY u.root, u.oid`,
    [oids],
  );

/** pg_stats.correlation by table and column, where this login may see it. */
export const correlations = (session: Session, tables: readonly { schema: string; name: string; column: string }[]) =>
  session.query<{ schema: string; name: string; correlation: number | null }>(
    `
SELECT s.schemaname AS schema, s.tablename AS name, s.correlation
FROM unnest($1::text[], $2::text[], $3::text[]) AS w(schema, name, col)
  JOIN pg_stats s ON s.schemaname = w.schema AND s.tablename = w.name AND s.attname = w.col
ORDER BY s.inherited DESC`,
    [tables.map((t) => t.schema), tables.map((t) => t.name), tables.map((t) => t.column)],
  );
