/** One transaction that puts complete stagings in the place of the old tables (decision 13). */
import { GodwitError } from '../../../errors.ts';
import { reach } from '../../../faults.ts';
import { tableText, type Work } from '../../contract.ts';
import { sqlstate } from '../errors.ts';
import { postgresExtras } from '../extras.ts';
import type { Session } from '../session.ts';
import { ident, tableIdent } from '../sql.ts';
import { dependentsOf, type Leaving } from './dependents.ts';
import { renamedObjects } from './finish.ts';
import type { KeysDone, LateKey } from './foreign-keys.ts';
import { layout, renames } from './layout.ts';
import { ofWork, type PendingKey } from './ledger.ts';
import { keyOf, ledgerSchema, shortened, stagingOf } from './names.ts';
import { movePartitions, partitionColumn } from './partitions.ts';
import { refill } from './refill.ts';
import { replaceState } from './state.ts';

/** Some seconds in all: who asked for the publication shows that it waits, and asks again. */
const attempts = 3;
const lockMs = 2_000;

/** Tries again while somebody uses the old tables. Throws SERVER_BUSY in the end, SWAP_IMPOSSIBLE naming the object. */
export async function swap(session: Session, works: readonly Work[], keys: KeysDone): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await swapOnce(session, works, keys);
    } catch (error) {
      const state = sqlstate(error);
      if (state === undefined || (error instanceof GodwitError && error.code === 'CONNECTION_FAILED')) throw error;
      await session.query('ROLLBACK');
      if (state !== '55P03' && state !== '40P01') throw impossible(error, works);
      if (attempt === attempts) {
        const message = `${works.map((work) => tableText(work.name)).join(', ')}: the old tables are in use; the swap waits for them.`;
        throw new GodwitError('SERVER_BUSY', message, { target: works[0]?.target, native: state, cause: error });
      }
      // Others who queued behind our lock request get their turn.
      await new Promise((resolve) => setTimeout(resolve, Math.random() * Math.min(200 * attempt, 3_000)));
    }
  }
}

async function swapOnce(session: Session, works: readonly Work[], keys: KeysDone): Promise<void> {
  await session.query(`BEGIN; SET LOCAL lock_timeout = '${lockMs}ms'`);
  // The marker's rows first: two swaps of one work cannot both go on from here.
  const open: Work[] = [];
  for (const work of works) {
    const [row] = await session.query<{ open: boolean }>(
      `SELECT published_at IS NULL AS open FROM _godwit.work WHERE ${ofWork} FOR UPDATE`,
      keyOf(work),
    );
    if (row?.open) open.push(work);
  }
  const olds = await oldTables(session, open);
  const renaming = open.filter((work) => !(work.swap === 'delete-insert' && olds.has(work)));
  const refilling = open.filter((work) => !renaming.includes(work));
  const notes = [...keys.notes];
  const pending: PendingKey[] = [];

  for (const work of refilling) {
    const done = await refill(session, work, olds.get(work) as string);
    notes.push(...done.notes);
    pending.push(...done.pending);
  }
  const leaving = renaming.flatMap((work) => (olds.has(work) ? [leavingOf(work, olds.get(work) as string)] : []));
  const carried = await dependentsOf(session, leaving);
  if (carried.obstacles.length > 0) {
    throw new GodwitError('SWAP_IMPOSSIBLE', `Cannot be carried to the new table: ${carried.obstacles.join(', ')}.`, {
      target: works[0]?.target,
      native: '2BP01',
    });
  }
  for (const statement of carried.drop) await session.query(statement);
  const gone = renaming.filter((work) => olds.has(work)).map((work) => tableIdent(work.name));
  if (gone.length > 0) await session.query(`DROP TABLE ${gone.join(', ')}`);
  for (const work of renaming) notes.push(...(await moveOver(session, work, olds.has(work))));
  for (const statement of carried.restore) await session.query(statement);
  pending.push(...carried.pending);
  for (const key of keys.late) {
    const failure = await addLate(session, key);
    if (!failure && key.validate) pending.push(key.key);
    if (failure) notes.push(`${key.what} cannot be made on the target [${failure}]`);
    else if (key.outdated) notes.push(`${key.what} is made`);
    if (key.outdated) await forget(session, works[0] as Work, key);
  }
  notes.push(...lostIndexes(carried.indexes, renaming));
  for (const work of open) {
    const missing = keys.missing.filter(({ schema, table }) => schema === work.name.schema && table === work.name.name);
    await mark(session, work, notes, [...pending, ...missing]);
  }
  reach('in-swap');
  await session.query('COMMIT');
}

/** The SQLSTATE of what the server refuses about it; anything else is thrown. */
async function addLate(session: Session, { sql }: LateKey): Promise<string | undefined> {
  await session.query('SAVEPOINT late');
  try {
    await session.query(sql);
    return undefined;
  } catch (error) {
    const state = sqlstate(error);
    if (state === undefined || !/^(23|42(?!501)|0A)/.test(state)) throw error;
    await session.query('ROLLBACK TO SAVEPOINT late');
    return state;
  }
}

/** Its table, published before, lacks it no more. */
const forget = (session: Session, { installation, jobUid, target, run }: Work, { key, outdated }: LateKey) =>
  session.query(
    `UPDATE _godwit.work SET notes = notes - $7::text, pending =
       (SELECT coalesce(jsonb_agg(k), '[]') FROM jsonb_array_elements(pending) k WHERE k->'missing' IS NULL OR k->>'constraint' <> $8)
     WHERE (installation, job_uid, target, run, schema_name, table_name) = ($1, $2, $3, $4, $5, $6) AND published_at IS NOT NULL`,
    [installation, jobUid, target, run, key.schema, key.table, outdated, key.constraint],
  );

/** The old tables, locked, by their work. In the order of names, so that two swaps cannot wait for each other. */
async function oldTables(session: Session, works: readonly Work[]): Promise<Map<Work, string>> {
  const olds = new Map<Work, string>();
  const byName = [...works].sort((a, b) => (tableText(a.name) < tableText(b.name) ? -1 : 1));
  for (const work of byName) {
    const [row] = await session.query<{ oid: string }>(
      `SELECT c.oid::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')`,
      [work.name.schema, work.name.name],
    );
    if (!row) continue;
    const mode = work.swap === 'delete-insert' ? 'SHARE ROW EXCLUSIVE' : 'ACCESS EXCLUSIVE';
    await session.query(`LOCK TABLE ${tableIdent(work.name)} IN ${mode} MODE`);
    olds.set(work, row.oid);
  }
  return olds;
}

export const leavingOf = (work: Work, oid: string): Leaving => {
  const columns = layout(work);
  const commented = columns.filter((column) => column.comment !== undefined).map((column) => column.final);
  const whole = postgresExtras(work.source)?.comment === undefined ? [] : [''];
  const sequences = renamedObjects(work).flatMap((object) => (object.kind === 'sequence' ? [object.to] : []));
  return {
    oid,
    columns: new Set(columns.map((column) => column.final)),
    commented: new Set([...commented, ...whole]),
    sequences: new Set(sequences),
  };
};

/** The staging goes to its schema and gets its names. What it owns goes with it. */
async function moveOver(session: Session, work: Work, replaces: boolean): Promise<string[]> {
  const notes: string[] = [];
  const { schema, name } = work.name;
  const table = tableIdent(work.name);
  await session.query(
    `ALTER TABLE ${tableIdent(stagingOf(work))} SET SCHEMA ${ident(schema)};
     ALTER TABLE ${tableIdent({ schema, name: stagingOf(work).name })} RENAME TO ${ident(name)}`,
  );
  if (partitionColumn(work)) await movePartitions(session, work);
  else await session.query(`ALTER TABLE ${table} RESET (autovacuum_enabled)`);
  const objects = renamedObjects(work);
  const names = objects.flatMap(({ from, to }) => [
    from,
    ...Array.from({ length: endings }, (_, n) => numbered(to, n)),
  ]);
  const there = await session.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname = ANY($2::text[])`,
    [schema, names],
  );
  const taken = new Set(there.map((one) => one.name));
  for (const { kind, from, to } of objects) {
    // What could not be made is noted already.
    if (!taken.has(from)) continue;
    const final = free(to, taken);
    if (final !== to) notes.push(`${tableText(work.name)}: ${kind} ${to} is named ${final}, the name was taken`);
    taken.delete(from);
    taken.add(final);
    const statement =
      kind === 'constraint'
        ? `ALTER TABLE ${table} RENAME CONSTRAINT ${ident(from)} TO ${ident(final)}`
        : `ALTER ${kind === 'index' ? 'INDEX' : 'SEQUENCE'} ${tableIdent({ schema, name: from })} RENAME TO ${ident(final)}`;
    await session.query(statement);
  }
  const present = await session.query<{ name: string }>(
    `SELECT attname AS name FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped`,
    [table],
  );
  if (session.version >= 18) await nameNotNulls(session, work);
  const columns = layout(work).filter((column) => present.some((one) => one.name === column.name));
  for (const statement of renames(table, columns)) await session.query(statement);
  if (!replaces) await defaultGrants(session, work);
  return notes;
}

/** Since 18 NOT NULL is a constraint with a name: the one the server would have given it in this table. */
async function nameNotNulls(session: Session, work: Work): Promise<void> {
  const table = tableIdent(work.name);
  const found = await session.query<{ name: string; column: string }>(
    `SELECT k.conname AS name, a.attname AS column FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
     WHERE k.conrelid = $1::regclass AND k.contype = 'n' AND starts_with(k.conname, $2)`,
    [table, stagingOf(work).name],
  );
  const finals = new Map(layout(work).map((column) => [column.name, column.final]));
  const given = new Set<string>();
  const statements = found.flatMap(({ name, column }) => {
    const to = objectName(work.name.name, finals.get(column) ?? column, 'not_null');
    if (given.has(to)) return [];
    given.add(to);
    return [`ALTER TABLE ${table} RENAME CONSTRAINT ${ident(name)} TO ${ident(to)}`];
  });
  if (statements.length > 0) await session.query(statements.join('; '));
}

/** As PostgreSQL makes a name of two and an ending: the longer one is cut first. */
function objectName(table: string, column: string, ending: string): string {
  let one = table;
  let two = column;
  while (Buffer.byteLength(`${one}_${two}_${ending}`) > 63) {
    if (Buffer.byteLength(one) > Buffer.byteLength(two)) one = [...one].slice(0, -1).join('');
    else two = [...two].slice(0, -1).join('');
  }
  return `${one}_${two}_${ending}`;
}

/** So many other names are tried for an object whose own is taken. */
const endings = 20;
const numbered = (name: string, n: number): string => shortened(name, n === 0 ? '' : `_${n}`);

const free = (name: string, taken: ReadonlySet<string>): string => {
  for (let n = 0; n < endings; n++) if (!taken.has(numbered(name, n))) return numbered(name, n);
  throw new GodwitError('NAME_COLLISION', `No name like "${name}" is free in the target schema.`);
};

/** What ALTER DEFAULT PRIVILEGES IN SCHEMA gives to a table made there. */
async function defaultGrants(session: Session, work: Work): Promise<void> {
  const rows = await session.query<{ sql: string }>(
    `SELECT format('GRANT %s ON %s TO %s%s', privilege_type, $2::text,
       CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END) AS sql
     FROM pg_default_acl d JOIN pg_namespace n ON n.oid = d.defaclnamespace, aclexplode(d.defaclacl)
     WHERE n.nspname = $1 AND d.defaclobjtype = 'r' AND d.defaclrole = (SELECT oid FROM pg_roles WHERE rolname = current_user)`,
    [work.name.schema, tableIdent(work.name)],
  );
  for (const { sql } of rows) await session.query(sql);
}

/** The marker, the owner, and what is not to be unmade any more: all in the swap's own transaction. */
async function mark(
  session: Session,
  work: Work,
  notes: readonly string[],
  pending: readonly PendingKey[],
): Promise<void> {
  await session.query(
    `UPDATE _godwit.work SET published_at = now(), pid = NULL, backend_start = NULL, pending = $9::jsonb,
       notes = (SELECT coalesce(jsonb_agg(DISTINCT n), '[]') FROM jsonb_array_elements(notes || $8::jsonb) n) WHERE ${ofWork}`,
    [...keyOf(work), JSON.stringify(notes.filter((note) => belongs(note, work))), JSON.stringify(pending)],
  );
  await session.query(
    `INSERT INTO _godwit.owner (schema_name, table_name, installation, job_uid, relation) VALUES ($1, $2, $3, $4, $5::regclass::oid)
     ON CONFLICT (schema_name, table_name) DO UPDATE SET installation = $3, job_uid = $4, relation = $5::regclass::oid, taken_at = now()`,
    [work.name.schema, work.name.name, work.installation, work.jobUid, tableIdent(work.name)],
  );
  await replaceState(session, work);
  await keepMade(session, work);
}

const belongs = (note: string, work: Work): boolean => note.startsWith(`${tableText(work.name)}:`);

/** Schemas and types a published table stands on are there to stay. */
export async function keepMade(session: Session, work: Work): Promise<void> {
  const types = postgresExtras(work.source)?.types ?? [];
  const schemas = [work.name.schema, ...types.map((type) => type.name.schema)];
  await session.query(
    `DELETE FROM _godwit.made WHERE (kind = 'schema' AND schema_name = ANY($1::text[]))
       OR (schema_name, name) IN (SELECT * FROM unnest($2::text[], $3::text[]))`,
    [
      schemas,
      [...types.map((type) => type.name.schema), work.name.schema],
      [...types.map((type) => type.name.name), work.name.name],
    ],
  );
}

function lostIndexes(indexes: readonly { table: string; name: string }[], works: readonly Work[]): string[] {
  const notes: string[] = [];
  for (const work of works) {
    const made = new Set(renamedObjects(work).map((object) => object.to));
    const plain = [tableText(work.name), tableIdent(work.name)];
    for (const { table, name } of indexes) {
      const mine = plain.includes(table) || table === plainName(work);
      if (mine && !made.has(name)) {
        notes.push(`${tableText(work.name)}: index ${name} of the old table is not at the source and was not carried`);
      }
    }
  }
  return notes;
}

/** As regclass prints it: quoted only where needed. */
const plainName = (work: Work): string =>
  [work.name.schema, work.name.name].map((part) => (/^[a-z_][a-z0-9_$]*$/.test(part) ? part : ident(part))).join('.');

/** Whatever the server refused in the swap was something on the old table that does not fit the new one. */
function impossible(error: unknown, works: readonly Work[]): unknown {
  if (!(error instanceof GodwitError) || error.retryable || error.code === 'PRIVILEGE_MISSING') return error;
  if (!/^(2B|42|0A|23)/.test(sqlstate(error) ?? '')) return error;
  const message = `The old table stays as it was, its objects cannot be carried to the new one: ${error.message.replaceAll(`${ledgerSchema}.`, '')}`;
  return new GodwitError('SWAP_IMPOSSIBLE', message, { ...error.where, target: works[0]?.target, cause: error.cause });
}
