/** Tables as the contract wants them, from one batch of catalog queries for any number of tables. */
import { createHash } from 'node:crypto';
import { distance } from 'fastest-levenshtein';
import { GodwitError } from '../../errors.ts';
import { type Column, type Table, type TableKind, type TableName, type TableSummary, tableText } from '../contract.ts';
import * as catalog from './catalog.ts';
import type { PostgresColumn, PostgresConstraint, PostgresExtras, PostgresKeyIndex } from './extras.ts';
import type { Session } from './session.ts';
import { binary, logicalOf, resolved, type TypeBook, typeBook, userTypes } from './user-types.ts';

const kinds: Readonly<Record<catalog.RelationRow['kind'], TableKind>> = {
  r: 'table',
  p: 'partitioned',
  v: 'view',
  m: 'materialized view',
  f: 'foreign',
};

export async function listTables(session: Session): Promise<TableSummary[]> {
  const rows = await catalog.allRelations(session);
  return rows.map((row) => ({
    name: { schema: row.schema, name: row.name },
    kind: kinds[row.kind],
    rows: row.rows,
    bytes: row.bytes,
    readable: row.usage && row.select && !row.hidden,
  }));
}

/** In the order asked for; what cannot be read is an error in its place (TABLE_MISSING, PRIVILEGE_MISSING). */
export async function describeTables(session: Session, wanted: readonly TableName[]): Promise<(Table | Error)[]> {
  if (wanted.length === 0) return [];
  // One snapshot for all queries: a table altered in between would be described half old, half new.
  await session.query('BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
  try {
    return await describeIn(session, wanted);
  } finally {
    await session.query('ROLLBACK').catch(() => session.destroy());
  }
}

async function describeIn(session: Session, wanted: readonly TableName[]): Promise<(Table | Error)[]> {
  const rows = await catalog.relationsNamed(
    session,
    wanted.map((name) => name.schema),
    wanted.map((name) => name.name),
  );
  const byName = new Map(rows.map((row) => [tableText(row), row]));
  const readable = rows.filter((row) => !obstacle(row));
  const oids = readable.map((row) => row.oid);
  const [columns, constraints, indexes, sequences, storage, parts, encoding] = [
    await catalog.columnsOf(session, oids),
    await catalog.constraintsOf(session, oids),
    await catalog.indexesOf(session, oids),
    await catalog.sequencesOf(session, oids),
    await catalog.storageOf(session, oids),
    await catalog.partsOf(
      session,
      readable.filter((row) => row.kind === 'p').map((row) => row.oid),
    ),
    await session.query<{ encoding: string }>(`SELECT current_setting('server_encoding') AS encoding`),
  ];
  const types = typeBook(await catalog.typesOf(session, [...new Set(columns.map((column) => column.type))]));
  const all: Everything = {
    version: session.version,
    encoding: encoding[0]?.encoding ?? 'UTF8',
    types,
    columns: Map.groupBy(columns, (row) => row.relation),
    constraints: Map.groupBy(constraints, (row) => row.relation),
    indexes: Map.groupBy(indexes, (row) => row.relation),
    sequences: Map.groupBy(sequences, (row) => row.relation),
    storage: Map.groupBy(storage, (row) => row.root),
    parts: Map.groupBy(parts, (row) => row.root),
    correlation: await correlationsOf(session, readable, indexes),
  };
  const missing = wanted.some((name) => !byName.has(tableText(name))) ? await catalog.allRelations(session) : [];
  return wanted.map((name) => {
    const row = byName.get(tableText(name));
    return row ? (obstacle(row) ?? tableOf(row, all)) : missingTable(name, missing);
  });
}

type Everything = {
  readonly version: number;
  readonly encoding: string;
  readonly types: TypeBook;
  readonly columns: ReadonlyMap<number, catalog.ColumnRow[]>;
  readonly constraints: ReadonlyMap<number, catalog.ConstraintRow[]>;
  readonly indexes: ReadonlyMap<number, catalog.IndexRow[]>;
  readonly sequences: ReadonlyMap<number, catalog.SequenceRow[]>;
  readonly storage: ReadonlyMap<number, { oid: number; file: string }[]>;
  readonly parts: ReadonlyMap<number, catalog.PartRow[]>;
  readonly correlation: ReadonlyMap<string, number>;
};

function tableOf(row: catalog.RelationRow, all: Everything): Table {
  const name: TableName = { schema: row.schema, name: row.name };
  const rows = all.columns.get(row.oid) ?? [];
  const constraints = all.constraints.get(row.oid) ?? [];
  const indexes = all.indexes.get(row.oid) ?? [];
  const columns = rows.map((column) => columnOf(column, all.types));
  const special = Object.fromEntries(rows.map((column) => [column.name, postgresColumn(column, all)]));
  const used = userTypes(
    all.types,
    rows.map((column) => column.type),
  );
  const foreign = constraints.filter((constraint) => constraint.kind === 'f');
  const key = chooseKey(indexes);
  const storage = all.storage.get(row.oid) ?? [];
  const extras: PostgresExtras = {
    system: 'postgres',
    version: all.version,
    encoding: all.encoding,
    columns: special,
    types: used.types,
    extensions: used.extensions,
    constraints: constraints.filter((constraint) => constraint.kind !== 'f').map(constraintOf),
    indexes: indexes
      .filter((index) => !index.constraint)
      .map((index) => ({
        name: index.name,
        definition: index.definition,
        using: index.definition.startsWith(index.prefix) ? index.definition.slice(index.prefix.length) : '',
        unique: index.unique,
        valid: index.valid,
        comment: index.comment ?? undefined,
      })),
    foreignKeys: foreign.map((constraint) => ({
      name: constraint.name,
      definition: constraint.definition,
      columns: constraint.columns,
      references: { schema: constraint.ref_schema ?? '', name: constraint.ref_name ?? '' },
      referencedColumns: constraint.ref_columns ?? [],
      rest: constraint.definition.startsWith(constraint.prefix ?? '\0')
        ? constraint.definition.slice(constraint.prefix?.length)
        : '',
      validated: constraint.validated,
      comment: constraint.comment ?? undefined,
    })),
    comment: row.comment ?? undefined,
    partitioning:
      row.kind === 'p' && row.partition_key !== null
        ? {
            key: row.partition_key,
            parts: (all.parts.get(row.oid) ?? []).map((part) => ({
              name: { schema: part.schema, name: part.name },
              parent: { schema: part.parent_schema, name: part.parent_name },
              bound: part.bound,
              key: part.key ?? undefined,
            })),
          }
        : undefined,
    storage: storageHash(storage),
    relations: storage.map(({ oid }) => oid),
    keyIndex: key?.index,
    correlation: all.correlation.get(tableText(name)),
    pages: row.pages,
    oid: row.oid,
  };
  return {
    system: 'postgres',
    name,
    kind: kinds[row.kind],
    columns,
    key: key?.columns ?? [],
    rows: row.rows,
    bytes: row.bytes,
    references: foreign.map((k) => ({ schema: k.ref_schema ?? '', name: k.ref_name ?? '' })),
    fingerprint: `${hash(JSON.stringify(columns.map((c) => [c.name, c.native, special[c.name]?.number])))}.${extras.storage}`,
    extras,
  };
}

/** The order of the rows does not matter. */
export const storageHash = (files: readonly { oid: number; file: string | null }[]): string =>
  hash(
    files
      .map(({ oid, file }) => `${oid}/${file}`)
      .sort()
      .join(' '),
  );

const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 20);

function columnOf(row: catalog.ColumnRow, types: TypeBook): Column {
  return {
    name: row.name,
    type: logicalOf(types, row.type, row.typmod),
    native: row.native,
    nullable: !row.not_null,
    ...(row.generated ? { generated: true } : {}),
    ...(row.comment === null ? {} : { comment: row.comment }),
  };
}

function postgresColumn(row: catalog.ColumnRow, all: Everything): PostgresColumn {
  const { type, typmod, domain } = resolved(all.types, row.type, row.typmod);
  const sequence = all.sequences.get(row.relation)?.find((sequence) => sequence.number === row.number);
  return {
    number: row.number,
    type: type.oid,
    typmod,
    base: domain ? innermost(all.types, row.type) : undefined,
    default: row.generated || row.expression === null ? undefined : row.expression,
    generated:
      row.generated && row.expression !== null
        ? { expression: row.expression, kind: row.generated === 's' ? 'stored' : 'virtual' }
        : undefined,
    sequence: sequence && {
      name: { schema: sequence.schema, name: sequence.name },
      kind: row.identity === 'a' ? 'identity always' : row.identity === 'd' ? 'identity default' : 'serial',
      owned: sequence.owned,
      type: sequence.type,
      start: sequence.start,
      increment: sequence.increment,
      min: sequence.min,
      max: sequence.max,
      cache: sequence.cache,
      cycle: sequence.cycle,
      last: sequence.last,
    },
    collation: row.collation ?? undefined,
    binary: binary(all.types, row.type),
  };
}

/** The spelling of what the innermost domain stands on. */
function innermost(types: TypeBook, oid: number): string | undefined {
  const type = types.byOid.get(oid);
  if (type?.kind !== 'd') return undefined;
  return innermost(types, type.base) ?? type.native_base ?? undefined;
}

const constraintKinds = { p: 'primary key', u: 'unique', x: 'exclude', c: 'check' } as const;

const constraintOf = (row: catalog.ConstraintRow): PostgresConstraint => ({
  name: row.name,
  kind: constraintKinds[row.kind as keyof typeof constraintKinds],
  definition: row.definition,
  columns: row.columns,
  validated: row.validated,
  comment: row.comment ?? undefined,
});

/**
 * The primary key; else the smallest unique index that says the same: valid, not partial, checked at once, over plain
 * not-null columns. `index` is there when ranges can be walked on it.
 */
function chooseKey(indexes: readonly catalog.IndexRow[]): { columns: string[]; index?: PostgresKeyIndex } | undefined {
  const usable = indexes.filter(
    (index) =>
      index.unique &&
      index.valid &&
      !index.partial &&
      (index.primary || index.immediate) &&
      index.columns?.every((column) => column.not_null),
  );
  const size = (index: catalog.IndexRow) => (index.columns?.length ?? 99) * 1e9 + index.pages;
  usable.sort((a, b) => Number(b.primary) - Number(a.primary) || size(a) - size(b));
  const best = usable[0];
  if (!best?.columns) return undefined;
  // Without overlaps (18) or otherwise not a btree: unique, but nothing to walk.
  const index = best.ordered
    ? {
        name: best.name,
        columns: best.columns.map(({ name, type, collation }) => ({ name, type, collation: collation ?? undefined })),
      }
    : undefined;
  return { columns: best.columns.map((column) => column.name), index };
}

async function correlationsOf(
  session: Session,
  relations: readonly catalog.RelationRow[],
  indexes: readonly catalog.IndexRow[],
): Promise<Map<string, number>> {
  const keyed = relations.flatMap((relation) => {
    const key = chooseKey(indexes.filter((index) => index.relation === relation.oid));
    return key?.columns[0] === undefined ? [] : [{ ...relation, column: key.columns[0] }];
  });
  if (keyed.length === 0) return new Map();
  const rows = await catalog.correlations(session, keyed);
  return new Map(rows.flatMap((row) => (row.correlation === null ? [] : [[tableText(row), row.correlation]])));
}

function obstacle(row: catalog.RelationRow): GodwitError | undefined {
  const table = tableText(row);
  if (!row.usage) {
    return new GodwitError(
      'PRIVILEGE_MISSING',
      `USAGE on schema ${row.schema} is missing, so ${table} cannot be read.`,
      {
        table,
      },
    );
  }
  if (!row.select) return new GodwitError('PRIVILEGE_MISSING', `SELECT on ${table} is missing.`, { table });
  if (row.hidden) {
    const message = `Row security would hide rows of ${table}; the login needs BYPASSRLS.`;
    return new GodwitError('PRIVILEGE_MISSING', message, { table });
  }
  return undefined;
}

function missingTable(name: TableName, all: readonly catalog.RelationRow[]): GodwitError {
  const wanted = tableText(name);
  const near = all
    .map((row) => ({
      text: tableText(row),
      far: Math.min(distance(tableText(row), wanted), distance(row.name, name.name)),
    }))
    .filter(({ far }) => far <= Math.max(2, wanted.length / 3))
    .sort((a, b) => a.far - b.far)
    .slice(0, 3)
    .map(({ text }) => text);
  const hint = near.length > 0 ? ` Nearest: ${near.join(', ')}.` : '';
  return new GodwitError('TABLE_MISSING', `The source has no table ${wanted}.${hint}`, { table: wanted });
}
