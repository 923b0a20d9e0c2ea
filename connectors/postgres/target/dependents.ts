/**
 * What hangs on the tables a swap takes away, as statements that take it off and put it back (decision 13). Everything
 * is printed by the server itself with an empty search_path, so it speaks of names, and means the new table once that has
 * the name. What cannot be carried is named.
 */
import type { Session } from '../session.ts';
import { ident, literal, tableIdent } from '../sql.ts';
import type { PendingKey } from './ledger.ts';

export type Carried = {
  /** Before the old tables go: incoming keys, then views, the last first. */
  readonly drop: readonly string[];
  /** After the new tables have their names. */
  readonly restore: readonly string[];
  /** Incoming keys put back NOT VALID, and incoming keys that must be checked at once (partitioned tables before 18). */
  readonly pending: readonly PendingKey[];
  /** In words, for SWAP_IMPOSSIBLE. */
  readonly obstacles: readonly string[];
  /** Of the old tables. */
  readonly indexes: readonly { readonly table: string; readonly name: string }[];
};

/** A table that is taken away, and what the one that takes its place has. */
export type Leaving = {
  readonly oid: string;
  readonly columns: ReadonlySet<string>;
  /** Columns with a comment of their own, `''` for the table: the old comments give way. */
  readonly commented: ReadonlySet<string>;
  readonly sequences: ReadonlySet<string>;
};

type Relation = { oid: string; schema: string; name: string; kind: string };

/** Of the tables with these oids, which are dropped together. */
export async function dependentsOf(session: Session, leaving: readonly Leaving[]): Promise<Carried> {
  if (leaving.length === 0) return { drop: [], restore: [], pending: [], obstacles: [], indexes: [] };
  const oids = leaving.map((one) => one.oid);
  const tables = await session.query<Relation>(
    `SELECT c.oid::text, n.nspname AS schema, c.relname AS name, c.relkind AS kind
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY($1::oid[]) ORDER BY c.oid`,
    [oids],
  );
  const views = await viewsOver(session, oids);
  const everything = [...oids, ...views.map((view) => view.oid)];
  const obstacles = [...(await unknownDependents(session, everything)), ...(await familyOf(session, oids))];
  for (const view of views) if (view.kind === 'm') obstacles.push(`materialized view ${view.schema}.${view.name}`);
  const drop: string[] = [];
  const restore: string[] = [];
  for (const table of tables) {
    const next = leaving.find((one) => one.oid === table.oid);
    restore.push(...(await tableParts(session, table, next)));
  }
  for (const view of views) {
    const created = await viewText(session, view);
    restore.push(created, ...(await tableParts(session, view)));
    drop.unshift(`DROP VIEW ${tableIdent(view)}`);
  }
  const incoming = await incomingKeys(session, oids);
  drop.unshift(...incoming.map((key) => key.drop));
  restore.push(...incoming.map((key) => key.restore));
  return {
    drop,
    restore,
    pending: incoming.flatMap((key) => (key.pending ? [key.pending] : [])),
    obstacles,
    indexes: await indexesOf(session, oids),
  };
}

/** Views over the tables and over those views, each after what it reads. */
const viewsOver = (session: Session, oids: readonly string[]): Promise<Relation[]> =>
  session.query<Relation>(
    `WITH RECURSIVE over(oid, depth) AS (
       SELECT oid, 0 FROM unnest($1::oid[]) AS t(oid)
       UNION
       SELECT w.ev_class, o.depth + 1 FROM over o JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = o.oid
         AND d.classid = 'pg_rewrite'::regclass JOIN pg_rewrite w ON w.oid = d.objid
       WHERE w.ev_class <> o.oid AND o.depth < 100
     )
     SELECT c.oid::text, n.nspname AS schema, c.relname AS name, c.relkind AS kind
     FROM over o JOIN pg_class c ON c.oid = o.oid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('v', 'm') AND NOT c.oid = ANY($1::oid[])
     GROUP BY c.oid, n.nspname, c.relname, c.relkind ORDER BY max(o.depth), c.oid`,
    [oids],
  );

/** Partitions and old-style inheritance: neither side may be exchanged. A partitioned table goes with its partitions. */
async function familyOf(session: Session, oids: readonly string[]): Promise<string[]> {
  const rows = await session.query<{ said: string }>(
    `SELECT format('%s (inherited from %s)', i.inhrelid::regclass, i.inhparent::regclass) AS said
     FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
     WHERE i.inhrelid = ANY($1::oid[]) OR (i.inhparent = ANY($1::oid[]) AND p.relkind <> 'p')`,
    [oids],
  );
  return rows.map((row) => row.said);
}

/** Whatever else refers to the tables or to the views over them: functions, columns of the row type, foreign rules … */
async function unknownDependents(session: Session, oids: readonly string[]): Promise<string[]> {
  const rows = await session.query<{ said: string }>(
    `WITH mine AS (SELECT oid, reltype, (SELECT typarray FROM pg_type t WHERE t.oid = c.reltype) AS array FROM pg_class c WHERE oid = ANY($1::oid[])),
       used AS (
         SELECT d.classid, d.objid, d.objsubid FROM mine m JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = m.oid
         WHERE d.deptype IN ('n', 'a', 'x')
           AND NOT (d.classid = 'pg_class'::regclass AND (d.objid = m.oid OR EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = d.objid)
             OR EXISTS (SELECT FROM pg_class s WHERE s.oid = d.objid AND s.relkind = 'S' AND d.deptype = 'a')
             OR EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = d.objid)))
           AND NOT (d.classid = 'pg_attrdef'::regclass AND EXISTS (SELECT FROM pg_attrdef a WHERE a.oid = d.objid AND a.adrelid = m.oid))
           AND NOT (d.classid = 'pg_policy'::regclass AND EXISTS (SELECT FROM pg_policy p WHERE p.oid = d.objid AND p.polrelid = m.oid))
           AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (SELECT FROM pg_trigger g WHERE g.oid = d.objid AND (g.tgrelid = m.oid OR g.tgisinternal)))
           AND NOT (d.classid = 'pg_rewrite'::regclass AND EXISTS (SELECT FROM pg_rewrite w JOIN pg_class v ON v.oid = w.ev_class
             WHERE w.oid = d.objid AND (v.relkind IN ('v', 'm') OR w.ev_class = m.oid)))
           AND d.classid NOT IN ('pg_constraint'::regclass, 'pg_statistic_ext'::regclass, 'pg_publication_rel'::regclass)
         UNION
         SELECT d.classid, d.objid, d.objsubid FROM mine m JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass
           AND d.refobjid IN (m.reltype, m.array) AND d.deptype = 'n'
       )
     SELECT pg_describe_object(classid, objid, objsubid) AS said FROM used ORDER BY 1`,
    [oids],
  );
  return rows.map((row) => row.said);
}

/** Definition, options and the rest of a view; its grants and comments come by `tableParts`. */
async function viewText(session: Session, view: Relation): Promise<string> {
  const [row] = await session.query<{ text: string; columns: string; options: string | null }>(
    `SELECT pg_get_viewdef(c.oid) AS text, array_to_string(c.reloptions, ', ') AS options,
       (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns
     FROM pg_class c WHERE c.oid = $1::oid`,
    [view.oid],
  );
  const options = row?.options ? ` WITH (${row.options})` : '';
  return `CREATE VIEW ${tableIdent(view)} (${row?.columns})${options} AS ${row?.text.replace(/;\s*$/, '')}`;
}

/** Owner, grants, comments, triggers, rules, policies, statistics, publications, replica identity. */
async function tableParts(session: Session, table: Relation, next?: Leaving): Promise<string[]> {
  const name = tableIdent(table);
  const filtered = session.version >= 15;
  const rows = await session.query<{ sql: string; n: number; part: string | null }>(
    `SELECT sql, n, part FROM (
       SELECT 1 AS n, 0 AS m, NULL::text AS part, format('ALTER %s ${quoteFormat(name)} OWNER TO %I', CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, pg_get_userbyid(relowner)) AS sql
         FROM pg_class WHERE oid = $1::oid AND relowner <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
       UNION ALL SELECT 2, 0, NULL, format('REVOKE ALL ON ${quoteFormat(name)} FROM PUBLIC, %I', pg_get_userbyid(relowner)) FROM pg_class WHERE oid = $1::oid AND relacl IS NOT NULL
       UNION ALL SELECT 3, 0, NULL, format('GRANT %s ON ${quoteFormat(name)} TO %s%s', privilege_type, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
           CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
         FROM pg_class, aclexplode(relacl) WHERE oid = $1::oid
       UNION ALL SELECT 4, attnum, attname::text, format('GRANT %s (%I) ON ${quoteFormat(name)} TO %s%s', privilege_type, attname, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
           CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
         FROM pg_attribute, aclexplode(attacl) WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped
       UNION ALL SELECT 5, objsubid, coalesce((SELECT attname::text FROM pg_attribute WHERE attrelid = objoid AND attnum = objsubid AND objsubid > 0), ''), CASE objsubid WHEN 0 THEN format('COMMENT ON %s ${quoteFormat(name)} IS %L', CASE $2 WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, description)
           ELSE format('COMMENT ON COLUMN ${quoteFormat(name)}.%I IS %L', (SELECT attname FROM pg_attribute WHERE attrelid = objoid AND attnum = objsubid), description) END
         FROM pg_description WHERE classoid = 'pg_class'::regclass AND objoid = $1::oid
       UNION ALL SELECT 6, 0, NULL, pg_get_triggerdef(oid) || CASE tgenabled WHEN 'O' THEN '' ELSE format('; ALTER TABLE ${quoteFormat(name)} %s TRIGGER %I',
           CASE tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, tgname) END
         FROM pg_trigger WHERE tgrelid = $1::oid AND NOT tgisinternal
       UNION ALL SELECT 7, 0, NULL, pg_get_ruledef(oid) FROM pg_rewrite WHERE ev_class = $1::oid AND rulename <> '_RETURN'
       UNION ALL SELECT 8, 0, NULL, format('CREATE POLICY %I ON ${quoteFormat(name)} AS %s FOR %s TO %s%s%s', polname, CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
           CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
           (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ') FROM unnest(polroles) r),
           ' USING (' || pg_get_expr(polqual, polrelid) || ')', ' WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')')
         FROM pg_policy WHERE polrelid = $1::oid
       UNION ALL SELECT 9, 0, NULL, 'ALTER TABLE ' || ${literal(name)} || ' ENABLE ROW LEVEL SECURITY' FROM pg_class WHERE oid = $1::oid AND relrowsecurity
       UNION ALL SELECT 9, 1, NULL, 'ALTER TABLE ' || ${literal(name)} || ' FORCE ROW LEVEL SECURITY' FROM pg_class WHERE oid = $1::oid AND relforcerowsecurity
       UNION ALL SELECT 10, 0, NULL, pg_get_statisticsobjdef(oid) FROM pg_statistic_ext WHERE stxrelid = $1::oid
       UNION ALL SELECT 11, 0, NULL, format('ALTER PUBLICATION %I ADD TABLE ${quoteFormat(name)}%s%s', p.pubname,
           ${filtered ? `(SELECT ' (' || string_agg(quote_ident(attname), ', ') || ')' FROM pg_attribute WHERE attrelid = r.prrelid AND attnum = ANY(r.prattrs))` : 'NULL'},
           ${filtered ? `' WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')'` : 'NULL'}) FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = $1::oid
       UNION ALL SELECT 12, 0, NULL, 'ALTER TABLE ' || ${literal(name)} || ' REPLICA IDENTITY ' || CASE relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END
         FROM pg_class WHERE oid = $1::oid AND relkind IN ('r', 'p') AND relreplident IN ('f', 'n')
       UNION ALL SELECT 13, 0, s.relname::text, format('GRANT %s ON SEQUENCE %s TO %s%s', privilege_type, s.oid::regclass, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
           CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
         FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S', aclexplode(s.relacl)
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1::oid AND d.deptype IN ('a', 'i')
     ) parts ORDER BY n, m`,
    [table.oid, table.kind],
  );
  if (!next) return rows.map((row) => row.sql);
  const kept = rows.filter(({ n, part }) => {
    if (part === null) return true;
    if (n === 13) return next.sequences.has(part);
    return (part === '' || next.columns.has(part)) && !(n === 5 && next.commented.has(part));
  });
  return kept.map((row) => row.sql);
}

/** A name inside a format string. It stands in a literal, too. */
const quoteFormat = (name: string): string => name.replaceAll('%', '%%').replaceAll("'", "''");

type Incoming = { readonly drop: string; readonly restore: string; readonly pending?: PendingKey };

/** Foreign keys of other tables to these; `outgoing`: and those from these to any table. */
export async function incomingKeys(session: Session, oids: readonly string[], outgoing = false): Promise<Incoming[]> {
  const rows = await session.query<{
    schema: string;
    table: string;
    name: string;
    definition: string;
    partitioned: boolean;
    validated: boolean;
    comment: string | null;
  }>(
    `SELECT n.nspname AS schema, c.relname AS table, k.conname AS name, pg_get_constraintdef(k.oid) AS definition,
       c.relkind = 'p' AS partitioned, k.convalidated AS validated, obj_description(k.oid, 'pg_constraint') AS comment
     FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.contype = 'f' AND k.conparentid = 0
       AND (k.confrelid = ANY($1::oid[]) AND NOT k.conrelid = ANY($1::oid[]) OR $2 AND k.conrelid = ANY($1::oid[]))
     ORDER BY k.oid`,
    [oids, outgoing],
  );
  return rows.map((row) => {
    const table = tableIdent({ schema: row.schema, name: row.table });
    const alter = `ALTER TABLE ${table}`;
    const late = !row.partitioned || session.version >= 18;
    const definition = row.definition.replace(/ NOT VALID$/, '');
    const comment =
      row.comment === null ? '' : `; COMMENT ON CONSTRAINT ${ident(row.name)} ON ${table} IS ${literal(row.comment)}`;
    return {
      drop: `${alter} DROP CONSTRAINT ${ident(row.name)}`,
      restore: `${alter} ADD CONSTRAINT ${ident(row.name)} ${definition}${late ? ' NOT VALID' : ''}${comment}`,
      // One that was not valid before stays so.
      pending: late && row.validated ? { schema: row.schema, table: row.table, constraint: row.name } : undefined,
    };
  });
}

const indexesOf = (session: Session, oids: readonly string[]) =>
  session.query<{ table: string; name: string }>(
    `SELECT i.indrelid::regclass::text AS table, c.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid = ANY($1::oid[]) ORDER BY 1, 2`,
    [oids],
  );
