/**
 * What a staging gets after its rows: keys, indexes, checks, defaults, sequences, comments, statistics. Every step knows
 * by its name whether it was done, so that a finish that was interrupted goes on where it was. What the target cannot
 * make (a function or an operator class that is not there) is left out with a note; rows that break a key are an error.
 */
import { GodwitError } from '../../../errors.ts';
import { swapsIn, tableText, type Work } from '../../contract.ts';
import { sqlstate } from '../errors.ts';
import { type PostgresExtras, type PostgresSequence, postgresExtras } from '../extras.ts';
import type { Session } from '../session.ts';
import { columnList, ident, literal, tableIdent } from '../sql.ts';
import { type LaidColumn, layout } from './layout.ts';
import { addNotes, notPrepared, ofWork, release, takeOver, workRow } from './ledger.ts';
import { indexName, keyOf, ledgerSchema, receiverOf, sequenceName, stagingOf } from './names.ts';
import { isLoose, partitionColumn, tableKey } from './partitions.ts';

type State = {
  readonly constraints: readonly string[];
  readonly indexes: readonly string[];
  readonly columns: readonly { readonly name: string; readonly default: boolean; readonly identity: boolean }[];
  readonly bytes: number;
};

export type Step = {
  /** For a note: "index many_by_name". */
  readonly what: string;
  readonly sql: string;
};

/** Below this everything is one transaction: a commit costs more than the index. */
const smallBytes = 8 * 1024 * 1024;

export async function finishWork(session: Session, work: Work): Promise<void> {
  const row = await workRow(session, work);
  if (!row) throw notPrepared(work);
  if (row.finished || row.published) return;
  if (!swapsIn(work)) {
    // What an increment changes is for autovacuum to notice.
    if (work.mode === 'dumping') await session.query(`ANALYZE ${tableIdent(work.name)}`);
    await finished(session, work);
    return;
  }
  await takeOver(session, work);
  const state = await stateOf(session, work);
  const { steps, notes } = stepsOf(work, state);
  steps.push({ what: 'statistics', sql: `ANALYZE ${tableIdent(stagingOf(work))}` });
  if (!(state.bytes < smallBytes && (await allAtOnce(session, steps)))) {
    await oneByOne(session, work, steps, notes);
  }
  if (partitionColumn(work)) await refuseTwice(session, work);
  if (notes.length > 0) await addNotes(session, work, notes);
  await finished(session, work);
}

/** What no constraint of a partitioned table says: one row per key, whatever the partition. */
async function refuseTwice(session: Session, work: Work): Promise<void> {
  const { key } = keysOf(work);
  if (key.length === 0) return;
  const [twice] = await session.query(
    `SELECT 1 FROM ${tableIdent(stagingOf(work))} GROUP BY ${columnList(key)} HAVING count(*) > 1 LIMIT 1`,
  );
  if (!twice) return;
  const table = tableText(work.name);
  const message = `PostgreSQL: two rows have the same key: ${work.key.join(', ')} of ${table}. The rows stay in their staging.`;
  throw new GodwitError('CONSTRAINT_BROKEN', message, { table, target: work.target, native: '23505' });
}

async function finished(session: Session, work: Work): Promise<void> {
  await session.query(`UPDATE _godwit.work SET finished_at = now() WHERE ${ofWork}`, keyOf(work));
  await release(session, work);
}

async function stateOf(session: Session, work: Work): Promise<State> {
  const [row] = await session.query<{
    constraints: string[];
    indexes: string[];
    columns: State['columns'];
    bytes: number;
  }>(
    `SELECT ARRAY(SELECT conname::text FROM pg_constraint WHERE conrelid = c.oid) AS constraints,
       ARRAY(SELECT i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = c.oid AND x.indisvalid) AS indexes,
       (SELECT json_agg(json_build_object('name', attname, 'default', atthasdef, 'identity', attidentity <> ''))
        FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns,
       coalesce((SELECT sum(pg_table_size(p.relid)) FROM pg_partition_tree(c.oid) p), pg_table_size(c.oid))::float8 AS bytes
     FROM pg_class c WHERE c.oid = to_regclass($1)`,
    [tableIdent(stagingOf(work))],
  );
  if (!row) throw notPrepared(work);
  return { ...row, columns: row.columns ?? [] };
}

async function allAtOnce(session: Session, steps: readonly Step[]): Promise<boolean> {
  try {
    await session.query(`BEGIN; ${steps.map((step) => step.sql).join(';\n')}; COMMIT`);
    return true;
  } catch (error) {
    if (!(error instanceof GodwitError) || error.retryable) throw error;
    await session.query('ROLLBACK');
    return false;
  }
}

/** Codes that mean "this server does not have it", not "the rows are wrong". */
const absent = /^(42(?!501)|0A|3F|22023)/;

async function oneByOne(session: Session, work: Work, steps: readonly Step[], notes: string[]): Promise<void> {
  // Sorting in memory, in parallel where the server has workers for it; never less than the server's own setting.
  await session.query(
    `SELECT set_config('maintenance_work_mem', greatest(setting::int8, 262144)::text || 'kB', false)
     FROM pg_settings WHERE name = 'maintenance_work_mem'`,
  );
  for (const { what, sql } of steps) {
    try {
      await session.query(sql);
    } catch (error) {
      if (!(error instanceof GodwitError)) throw error;
      if (!absent.test(sqlstate(error) ?? '')) throw placed(error, work, what);
      notes.push(`${tableText(work.name)}: ${what} cannot be made on the target [${sqlstate(error)}]`);
    }
  }
  await session.query('RESET maintenance_work_mem');
}

const placed = (error: GodwitError, work: Work, what: string): GodwitError => {
  const table = tableText(work.name);
  const message = `${error.message.replace(tableText(receiverOf(work)), table)}: ${what} of ${table}. The rows stay in their staging.`;
  return new GodwitError(error.code, message, { ...error.where, table, target: work.target, cause: error.cause });
};

/** Objects whose names live beside those of tables: made under a name of ours, given their own in the swap. */
export type Renamed = {
  readonly kind: 'constraint' | 'index' | 'sequence';
  readonly from: string;
  readonly to: string;
};

export function renamedObjects(work: Work): Renamed[] {
  const { constraints, indexes } = keysOf(work);
  return [
    ...constraints.map(({ from, to }): Renamed => ({ kind: 'constraint', from, to })),
    ...indexes.map(({ from, to }): Renamed => ({ kind: 'index', from, to })),
    ...sequencesOf(work).map(({ from, sequence }): Renamed => ({ kind: 'sequence', from, to: sequence.name.name })),
  ];
}

type Named = {
  readonly from: string;
  readonly to: string;
  readonly definition: string;
  readonly columns: readonly string[];
  readonly comment?: string;
};

/** Those that own an index, and the plain indexes. */
function keysOf(work: Work): { constraints: Named[]; indexes: Named[]; key: readonly string[] } {
  const extras = postgresExtras(work.source);
  const names = new Map(layout(work).map((column) => [column.final, column.name]));
  const key = work.key.map((column) => names.get(column) ?? column);
  if (isLoose(work)) return { ...looseKeys(work, names), key };
  const owned = (extras?.constraints ?? []).filter((constraint) => constraint.kind !== 'check');
  const unique = [
    ...owned.filter((constraint) => constraint.kind !== 'exclude').map((constraint) => constraint.columns),
    ...(extras?.keyIndex ? [extras.keyIndex.columns.map((column) => column.name)] : []),
  ];
  const sameColumns = (columns: readonly string[]) =>
    columns.length === key.length && columns.every((c) => key.includes(c));
  const constraints: Named[] = owned.map((constraint, i) => ({
    from: indexName(work, i),
    to: constraint.name,
    definition: constraint.definition,
    columns: constraint.columns,
    comment: constraint.comment,
  }));
  // A key the mapping names and the source does not have.
  const primary = owned.some((constraint) => constraint.kind === 'primary key');
  if (key.length > 0 && !primary && !unique.some(sameColumns)) {
    const definition = `PRIMARY KEY (${columnList(key)})`;
    constraints.push({ from: indexName(work, owned.length), to: `${work.name.name}_pkey`, definition, columns: key });
  }
  const indexes = (extras?.indexes ?? [])
    .filter((index) => index.valid && index.using !== '')
    .map((index, i) => ({
      from: indexName(work, 1000 + i),
      to: index.name,
      definition: `${index.unique ? 'UNIQUE ' : ''}INDEX ${ident(indexName(work, 1000 + i))} ON ${tableIdent(stagingOf(work))} ${index.using}`,
      columns: [],
      comment: index.comment,
    }));
  return { constraints, indexes, key };
}

/** The key alone is unique: rows that are gone at the source may stay here, beside those that took their place. */
function looseKeys(work: Work, names: ReadonlyMap<string, string>): { constraints: Named[]; indexes: Named[] } {
  const extras = postgresExtras(work.source);
  const { columns: finals, primary } = tableKey(work);
  const columns = finals.map((column) => names.get(column) ?? column);
  const owned = (extras?.constraints ?? []).filter(({ kind }) => kind === 'primary key' || kind === 'unique');
  const named = owned.find((one) => one.kind === 'primary key');
  const constraint: Named = {
    from: indexName(work, 0),
    to: named?.name ?? `${work.name.name}_pkey`,
    definition: `${primary ? 'PRIMARY KEY' : 'UNIQUE'} (${columnList(columns)})`,
    columns,
    comment: named?.comment,
  };
  const plain = [
    ...owned.map((one) => ({ ...one, using: `USING btree (${columnList(one.columns)})` })),
    ...(extras?.indexes ?? []).filter((index) => index.valid && index.using !== ''),
  ];
  const served = [`(${columnList(columns)})`, `(${columns.join(', ')})`].map((list) => `USING btree ${list}`);
  const indexes = plain
    .filter(({ using }) => !served.includes(using))
    .map(({ name, using, comment }, i): Named => {
      const from = indexName(work, 1000 + i);
      // The primary key's own name is the key's.
      const to = name === constraint.to ? `${name}_of_source` : name;
      return {
        from,
        to,
        definition: `INDEX ${ident(from)} ON ${tableIdent(stagingOf(work))} ${using}`,
        columns: [],
        comment,
      };
    });
  return { constraints: work.key.length > 0 ? [constraint] : [], indexes };
}

/** For the plan: what the source's table has and this one has not. */
export function looseNotes(work: Work): string[] {
  const extras = postgresExtras(work.source);
  const column = partitionColumn(work);
  const key = tableKey(work);
  const sameKey = (columns: readonly string[]) => columns.join() === work.key.join();
  const unique = [
    ...(extras?.constraints ?? []).filter(({ kind, columns }) => kind === 'unique' && !sameKey(columns)),
    ...(extras?.indexes ?? []).filter((index) => index.unique),
  ].map(({ name }) => name);
  const excluding = (extras?.constraints ?? []).filter(({ kind }) => kind === 'exclude').map(({ name }) => name);
  const foreign = (extras?.foreignKeys ?? []).map(({ name }) => name);
  const month = column && `cut by the months of ${column.name} (UTC)`;
  return [
    month && (key.columns === work.key ? month : `${month}; the key of the table is (${key.columns.join(', ')})`),
    unique.length > 0 && `${unique.join(', ')}: unique at the source, a plain index here`,
    excluding.length > 0 && `${excluding.join(', ')}: an exclusion constraint, left out here`,
    foreign.length > 0 && `${foreign.join(', ')}: a foreign key, left out here`,
  ].filter((note) => typeof note === 'string' && note !== '') as string[];
}

type SequenceOf = { readonly column: LaidColumn; readonly from: string; readonly sequence: PostgresSequence };

/** Sequences that belong to a column that moves. */
const sequencesOf = (work: Work): SequenceOf[] =>
  layout(work).flatMap((column, i) => {
    const sequence = column.special?.sequence;
    return sequence && (sequence.owned || sequence.kind !== 'serial')
      ? [{ column, sequence, from: sequenceName(work, i) }]
      : [];
  });

function stepsOf(work: Work, state: State): { steps: Step[]; notes: string[] } {
  const table = tableIdent(stagingOf(work));
  const extras = postgresExtras(work.source);
  const steps: Step[] = [];
  const notes: string[] = [];
  const here = new Set(state.columns.map((column) => column.name));
  const complete = (columns: readonly string[], what: string): boolean => {
    const lacking = columns.find((column) => !here.has(column));
    if (lacking !== undefined)
      notes.push(`${tableText(work.name)}: ${what} is left out, its column ${lacking} does not move`);
    return lacking === undefined;
  };
  const comment = (on: string, words: string | undefined) => {
    if (words !== undefined) steps.push({ what: `comment on ${on}`, sql: `COMMENT ON ${on} IS ${literal(words)}` });
  };

  const { constraints, indexes } = keysOf(work);
  for (const { from, to, definition, columns, comment: words } of constraints) {
    const what = `constraint ${to}`;
    if (!complete(columns, what)) continue;
    if (!state.constraints.includes(from)) {
      steps.push({ what, sql: `ALTER TABLE ${table} ADD CONSTRAINT ${ident(from)} ${definition}` });
    }
    comment(`CONSTRAINT ${ident(from)} ON ${table}`, words);
  }
  for (const { from, to, definition, comment: words } of indexes) {
    if (!state.indexes.includes(from)) steps.push({ what: `index ${to}`, sql: `CREATE ${definition}` });
    comment(`INDEX ${tableIdent({ schema: ledgerSchema, name: from })}`, words);
  }
  for (const index of extras?.indexes ?? []) {
    if (!index.valid)
      notes.push(`${tableText(work.name)}: index ${index.name} is not valid at the source and is left out`);
  }
  for (const check of extras?.constraints ?? []) {
    if (check.kind !== 'check' || !complete(check.columns, `constraint ${check.name}`)) continue;
    if (!state.constraints.includes(check.name)) {
      const sql = `ALTER TABLE ${table} ADD CONSTRAINT ${ident(check.name)} ${check.definition}`;
      steps.push({ what: `constraint ${check.name}`, sql });
    }
    comment(`CONSTRAINT ${ident(check.name)} ON ${table}`, check.comment);
  }
  steps.push(...columnSteps(work, state, extras));
  if (extras?.comment !== undefined) comment(`TABLE ${table}`, extras.comment);
  for (const column of layout(work)) {
    if (column.comment !== undefined && here.has(column.name))
      comment(`COLUMN ${table}.${ident(column.name)}`, column.comment);
  }
  if (work.source.kind === 'partitioned' && !partitionColumn(work))
    notes.push(`${tableText(work.name)}: partitioned at the source, one plain table here`);
  return { steps, notes };
}

/** Defaults, identities and their sequences. */
function columnSteps(work: Work, state: State, extras: PostgresExtras | undefined): Step[] {
  if (!extras) return [];
  const table = tableIdent(stagingOf(work));
  const sequences = new Map(sequencesOf(work).map((one) => [one.column.name, one]));
  const steps: Step[] = [];
  for (const column of layout(work)) {
    const { special } = column;
    const now = state.columns.find((one) => one.name === column.name);
    if (!special || !now || special.generated) continue;
    const alter = `ALTER TABLE ${table} ALTER COLUMN ${ident(column.name)}`;
    const owned = sequences.get(column.name);
    if (owned) {
      const { from, sequence } = owned;
      const name = tableIdent({ schema: ledgerSchema, name: from });
      const options = optionsOf(sequence);
      const what = `sequence ${sequence.name.name}`;
      if (sequence.kind === 'serial') {
        if (!now.default) {
          steps.push({
            what,
            sql: `CREATE SEQUENCE IF NOT EXISTS ${name} AS ${sequence.type} ${options};
              ALTER SEQUENCE ${name} OWNED BY ${table}.${ident(column.name)};
              ${alter} SET DEFAULT nextval(${literal(name).trim()}::regclass)`,
          });
        }
      } else if (!now.identity) {
        // Increments bring values of their own, which ALWAYS refuses in an update.
        const kind = sequence.kind === 'identity always' && !isLoose(work) ? 'ALWAYS' : 'BY DEFAULT';
        const notNull = column.notNull ? '' : `${alter} SET NOT NULL; `;
        steps.push({
          what,
          sql: `${notNull}${alter} ADD GENERATED ${kind} AS IDENTITY (SEQUENCE NAME ${name} ${options})`,
        });
      }
      steps.push({ what, sql: advance(table, column.name, name, sequence) });
    } else if (special.default !== undefined && !special.sequence && !now.default) {
      steps.push({ what: `default of ${column.final}`, sql: `${alter} SET DEFAULT ${special.default}` });
    }
  }
  return steps;
}

export const optionsOf = (s: PostgresSequence): string =>
  `START WITH ${s.start} INCREMENT BY ${s.increment} MINVALUE ${s.min} MAXVALUE ${s.max} CACHE ${s.cache} ${s.cycle ? 'CYCLE' : 'NO CYCLE'}`;

/**
 * As far as the source's sequence was when the table was described, and never behind the values that arrived: rows read
 * later may hold newer ones.
 */
export function advance(table: string, column: string, sequenceName: string, s: PostgresSequence): string {
  const up = !s.increment.startsWith('-');
  const far = up ? 'max' : 'min';
  const further = up ? 'greatest' : 'least';
  const last = s.last === null ? 'NULL::numeric' : `${s.last}::numeric`;
  const within = up ? `v >= ${s.min}` : `v <= ${s.max}`;
  const clamp = up ? `least(v, ${s.max}::numeric)` : `greatest(v, ${s.min}::numeric)`;
  // Values of a cycling sequence say nothing about where it is.
  const value = s.cycle ? last : `${further}(${last}, (SELECT ${far}(${ident(column)})::numeric FROM ${table}))`;
  return `SELECT setval(${literal(sequenceName).trim()}::regclass, ${clamp}::int8, true) FROM (SELECT ${value} AS v) x WHERE ${within}`;
}

/** Sequences of a table that gets increments, as far as the source's were when it was described; never back. */
export async function keepUp(session: Session, work: Work): Promise<void> {
  for (const { final, special } of layout(work)) {
    const sequence = special?.sequence;
    if (!sequence || sequence.last === null || sequence.cycle) continue;
    const [own] = await session.query<{ name: string | null }>('SELECT pg_get_serial_sequence($1, $2) AS name', [
      tableIdent(work.name),
      final,
    ]);
    if (!own?.name) continue;
    const behind = sequence.increment.startsWith('-') ? '>' : '<';
    await session.query(
      `SELECT setval(${literal(own.name).trim()}::regclass, ${sequence.last}::int8, true) FROM ${own.name}
       WHERE last_value ${behind} ${sequence.last}::int8 OR (last_value = ${sequence.last}::int8 AND NOT is_called)`,
    );
  }
}
