/** What a plan must know of the target before anything is written there. Writes nothing. */
import { GodwitError } from '../../../errors.ts';
import { type ExistingTable, swapsIn, type TableName, tableText, type Work } from '../../contract.ts';
import { postgresExtras } from '../extras.ts';
import type { Session } from '../session.ts';
import { ident, tableIdent } from '../sql.ts';
import { dependentsOf } from './dependents.ts';
import { columnsOf, driftOf, stays } from './drift.ts';
import { looseNotes } from './finish.ts';
import { layout } from './layout.ts';
import { isEmpty, notOwned, ownership } from './ownership.ts';
import { isLoose, partitionRefusal } from './partitions.ts';
import { leavingOf } from './swap.ts';
import { planTypes } from './user-types.ts';

export async function refusalsOf(session: Session, work: Work, ledger: boolean): Promise<GodwitError[]> {
  const where = { table: tableText(work.name), target: work.target };
  const owner = await ownership(session, work, ledger);
  const refused = [
    notOwned(work, owner),
    ...(await privileges(session, work)),
    ...(await missingTypes(session, work)),
    ...(await planTypes(session, work)).refusals,
    partitionRefusal(work),
  ];
  if (owner.exists && owner.oid !== undefined) {
    const kind = await kindOf(session, owner.oid);
    if (kind !== 'r' && kind !== 'p') {
      refused.push(new GodwitError('TARGET_DIFFERS', `${where.table} exists on the target and is no table.`, where));
    } else {
      const keeps = !swapsIn(work) || work.existing === 'adopt' || work.swap === 'delete-insert';
      const fresh = work.mode === 'dumping' && work.existing === 'overwrite' && !owner.mine;
      if (keeps && !fresh) refused.push(...(await otherColumns(session, work, owner.oid)));
      if (swapsIn(work) && work.swap === 'rename') refused.push(...(await notCarried(session, work, owner.oid)));
    }
  }
  return refused.filter((error) => error !== undefined);
}

const kindOf = async (session: Session, oid: string): Promise<string> =>
  (await session.query<{ kind: string }>('SELECT relkind AS kind FROM pg_class WHERE oid = $1::oid', [oid]))[0]?.kind ??
  '';

async function privileges(session: Session, work: Work): Promise<GodwitError[]> {
  const [row] = await session.query<{
    database: string;
    login: string;
    create: boolean;
    schema: boolean | null;
    ledger: boolean | null;
    owns: boolean | null;
    temporary: boolean;
  }>(
    `SELECT current_database() AS database, current_user AS login, has_database_privilege(current_database(), 'CREATE') AS create,
       has_database_privilege(current_database(), 'TEMPORARY') AS temporary,
       (SELECT has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = $1) AS schema,
       (SELECT has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE') AND NOT EXISTS (SELECT FROM pg_class c
          WHERE c.relnamespace = s.oid AND c.relkind = 'r' AND c.relname IN ('owner', 'work', 'chunk') AND NOT has_table_privilege(c.oid, 'UPDATE'))
        FROM pg_namespace s WHERE nspname = '_godwit') AS ledger,
       (SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2) AS owns`,
    [work.name.schema, work.name.name],
  );
  const where = { table: tableText(work.name), target: work.target };
  const lacking = (what: string) => new GodwitError('PRIVILEGE_MISSING', what, where);
  if (!row) return [];
  const { database, login } = row;
  const errors: GodwitError[] = [];
  if (!row.temporary && isLoose(work)) {
    const grant = `GRANT TEMPORARY ON DATABASE ${ident(database)} TO ${ident(login)}`;
    errors.push(lacking(`Rows are compared in temporary tables, which the login may not make: ${grant}.`));
  }
  if (row.schema === null && !row.create) {
    errors.push(
      lacking(
        `Schema ${work.name.schema} does not exist on the target and may not be made: GRANT CREATE ON DATABASE ${ident(database)} TO ${ident(login)}.`,
      ),
    );
  }
  if (row.schema === false) {
    errors.push(
      lacking(
        `The login may not make tables in ${work.name.schema}: GRANT USAGE, CREATE ON SCHEMA ${ident(work.name.schema)} TO ${ident(login)}.`,
      ),
    );
  }
  if (row.ledger === false || (row.ledger === null && !row.create)) {
    errors.push(
      lacking(
        `Schema _godwit, where Godwit keeps its checkpoints, may not be used or made: GRANT CREATE ON DATABASE ${ident(database)} TO ${ident(login)}, or CREATE SCHEMA _godwit AUTHORIZATION ${ident(login)}.`,
      ),
    );
  }
  if (row.owns === false) {
    errors.push(
      lacking(
        `${where.table} belongs to another role: ALTER TABLE ${tableIdent(work.name)} OWNER TO ${ident(login)}, or make the login a member of its owner.`,
      ),
    );
  }
  return errors;
}

/** Built-in types and collations of newer servers, and those of extensions that are not there. */
async function missingTypes(session: Session, work: Work): Promise<GodwitError[]> {
  const where = { table: tableText(work.name), target: work.target };
  const errors: GodwitError[] = [];
  const refuse = (column: string, message: string) =>
    errors.push(new GodwitError('TYPE_REFUSED', message, { ...where, column }));
  const extras = postgresExtras(work.source);
  const extensions = extras?.extensions ?? [];
  const own = new Set((extras?.types ?? []).map((type) => tableIdent(type.name).replaceAll('"', '')));
  const columns = layout(work);
  const base = (native: string) => native.replace(/(\[\])+$/, '').replace(/\([^()]*\)/, '');
  const names = columns.map((column) => base(column.native));
  const rows = await session.query<{ known: boolean }>(
    `SELECT to_regtype(name) IS NOT NULL AS known FROM unnest($1::text[]) WITH ORDINALITY AS t(name, n) ORDER BY n`,
    [names],
  );
  columns.forEach((column, i) => {
    const spelled = (names[i] as string).replaceAll('"', '');
    const comesWithRange = session.version >= 14 && isMultirange(work, spelled);
    if (!rows[i]?.known && !own.has(spelled) && !comesWithRange) {
      const among =
        extensions.length > 0
          ? ` It may belong to extension ${extensions.map((e) => e.name).join(' or ')}: CREATE EXTENSION there first.`
          : '';
      refuse(
        column.final,
        `Column "${column.final}" of ${where.table} is ${column.native}, a type the target (PostgreSQL ${session.version}) does not have.${among}`,
      );
    }
    const numeric = /^numeric\((\d+),(-?\d+)\)/.exec(column.native);
    if (numeric && session.version < 15 && (Number(numeric[2]) < 0 || Number(numeric[2]) > Number(numeric[1]))) {
      refuse(
        column.final,
        `Column "${column.final}" of ${where.table} is ${column.native}; PostgreSQL ${session.version} has no such scale.`,
      );
    }
  });
  const collations = columns.filter((column) => column.special?.collation !== undefined);
  if (collations.length > 0) {
    const found = await session.query<{ known: boolean }>(
      `SELECT to_regcollation(name) IS NOT NULL AS known FROM unnest($1::text[]) WITH ORDINALITY AS t(name, n) ORDER BY n`,
      [collations.map((column) => column.special?.collation)],
    );
    collations.forEach((column, i) => {
      if (!found[i]?.known)
        refuse(
          column.final,
          `Column "${column.final}" of ${where.table} has collation ${column.special?.collation}, which the target does not have.`,
        );
    });
  }
  return errors;
}

const isMultirange = (work: Work, name: string): boolean =>
  (postgresExtras(work.source)?.types ?? []).some(
    (type) => type.multirange && tableIdent(type.multirange).replaceAll('"', '') === name,
  );

async function otherColumns(session: Session, work: Work, oid: string): Promise<GodwitError[]> {
  const { differences } = driftOf(work, await columnsOf(session, oid), session.version);
  if (differences.length === 0) return [];
  const table = tableText(work.name);
  return [
    new GodwitError('TARGET_DIFFERS', `${table} exists on the target with other columns: ${differences.join('; ')}.`, {
      table,
      target: work.target,
    }),
  ];
}

/** What a run would change in a table that stays, in words. */
export async function driftNotes(session: Session, work: Work): Promise<readonly string[]> {
  const notes = swapsIn(work) && isLoose(work) ? looseNotes(work) : [];
  if (!stays(work)) return notes;
  const [there] = await session.query<{ oid: string }>(
    'SELECT to_regclass($1)::oid::text AS oid WHERE to_regclass($1) IS NOT NULL',
    [tableIdent(work.name)],
  );
  if (!there) return notes;
  return [...notes, ...driftOf(work, await columnsOf(session, there.oid), session.version).notes];
}

async function notCarried(session: Session, work: Work, oid: string): Promise<GodwitError[]> {
  const table = tableText(work.name);
  const { obstacles } = await dependentsOf(session, [leavingOf(work, oid)]);
  const found = [...obstacles, ...(await usedColumns(session, work, oid))];
  if (found.length === 0) return [];
  const message = `${found.join(', ')}: cannot be carried from the old ${table} to the new one.`;
  return [new GodwitError('SWAP_IMPOSSIBLE', message, { table, target: work.target })];
}

/** Views, policies, triggers and foreign keys from outside that need a column the new table has not, or not as it was. */
async function usedColumns(session: Session, work: Work, oid: string): Promise<string[]> {
  const rows = await session.query<{ column: string; native: string; said: string; key: boolean }>(
    `SELECT DISTINCT a.attname AS column, format_type(a.atttypid, a.atttypmod) AS native,
       pg_describe_object(d.classid, d.objid, 0) AS said, d.classid = 'pg_constraint'::regclass AS key
     FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
     WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1::oid AND d.refobjsubid > 0
       AND (d.classid IN ('pg_policy'::regclass, 'pg_rewrite'::regclass)
         OR (d.classid = 'pg_trigger'::regclass AND EXISTS (SELECT FROM pg_trigger t WHERE t.oid = d.objid AND NOT t.tgisinternal))
         OR (d.classid = 'pg_constraint'::regclass AND EXISTS (
           SELECT FROM pg_constraint k WHERE k.oid = d.objid AND k.contype = 'f' AND k.confrelid = $1::oid AND k.conrelid <> $1::oid)))`,
    [oid],
  );
  const next = new Map(layout(work).map((column) => [column.final, column.native]));
  return rows.flatMap(({ column, native, said }) => {
    if (!next.has(column)) return [`${said} (needs column ${column})`];
    return next.get(column) === native ? [] : [`${said} (column ${column} was ${native}, is ${next.get(column)})`];
  });
}

export async function describeTable(
  session: Session,
  name: TableName,
  ledger: boolean,
): Promise<ExistingTable | undefined> {
  const [row] = await session.query<{ oid: string; kind: string; owner: string | null }>(
    `SELECT c.oid::text, c.relkind AS kind, ${ledger ? `(SELECT job_uid FROM _godwit.owner o WHERE o.schema_name = $1 AND o.table_name = $2 AND o.relation = c.oid)` : 'NULL'} AS owner
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')`,
    [name.schema, name.name],
  );
  if (!row) return undefined;
  const columns = await columnsOf(session, row.oid);
  return {
    name,
    columns: columns.map(({ name: column, native, nullable }) => ({ name: column, native, nullable })),
    owner: row.owner ?? undefined,
    empty: await isEmpty(session, name, row.kind),
  };
}
