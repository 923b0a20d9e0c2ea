/**
 * Source against targets by count and content hash, with plain SQL and none of the code that moved the data. A row's
 * hash is MD5 of its columns' texts; a table's is the sum over its rows, so that order does not matter and a doubled,
 * lost or changed row does.
 */
import { join } from 'node:path';
import type { DuckDBConnection } from '@duckdb/node-api';
import type pg from 'pg';
import { type TableName, tableText, type Work } from '../../connectors/contract.ts';

export type Verified = {
  readonly table: string;
  readonly target: string;
  readonly rows: number;
  readonly same: boolean;
  readonly detail: string;
};
type Sum = { readonly rows: number; readonly hash: string };

/** `latest`: only the newest snapshot of a dumping table. */
type Side = { readonly columns: readonly { readonly name: string; readonly text: string }[]; readonly latest?: string };

const ident = (name: string): string => `"${name.replaceAll('"', '""')}"`;
const tableIdent = (table: TableName): string => `${ident(table.schema)}.${ident(table.name)}`;
const nothing = "'␀'";
const rowHash = ({ columns }: Side): string =>
  `md5(concat_ws(chr(31), ${columns.map(({ text }) => `coalesce(${text}, ${nothing})`).join(', ')}))`;

async function sumInPostgres(client: pg.Client, table: TableName, side: Side): Promise<Sum> {
  const where = side.latest
    ? `WHERE ${ident(side.latest)} = (SELECT max(${ident(side.latest)}) FROM ${tableIdent(table)})`
    : '';
  const { rows } = await client.query<{ rows: string; hash: string }>(
    `SELECT count(*) AS rows, coalesce(sum(('x' || substr(${rowHash(side)}, 1, 15))::bit(60)::bigint), 0)::text AS hash FROM ${tableIdent(table)} ${where}`,
  );
  return { rows: Number(rows[0]?.rows), hash: rows[0]?.hash ?? '' };
}

/** Every column by its text, as PostgreSQL writes it: for two PostgreSQL databases. */
export async function verifyPostgres(source: pg.Client, target: pg.Client, work: Work): Promise<Verified> {
  const moved = work.columns.filter((column) => column.from !== undefined);
  const natives = new Map(work.source.columns.map((column) => [column.name, column.native]));
  const side = (name: (column: (typeof moved)[number]) => string): Side => ({
    columns: moved.map((column) => ({
      name: name(column),
      text: asWritten(ident(name(column)), natives.get(column.from as string) ?? ''),
    })),
  });
  const dumping = work.snapshotDate ? work.columns.find((column) => column.constant !== undefined)?.name : undefined;
  const [before, after] = await Promise.all([
    sumInPostgres(
      source,
      work.source.name,
      side((column) => column.from as string),
    ),
    sumInPostgres(target, work.name, {
      ...side((column) => column.name),
      ...(dumping ? { latest: dumping } : {}),
    }),
  ]);
  return compared(work, before, after);
}

/** Columns by what the Parquet file says they are, read back by DuckDB. */
export async function verifyParquet(
  source: pg.Client,
  duck: DuckDBConnection,
  folder: string,
  work: Work,
): Promise<Verified> {
  const files = `read_parquet(${quoted(join(folder, work.name.schema, work.name.name, '**', '*.parquet'))})`;
  const described = await duck.runAndReadAll(`DESCRIBE SELECT * FROM ${files}`);
  const types = new Map(described.getRowsJson().map((row) => [String(row[0]), String(row[1])]));
  const moved = work.columns.filter((column) => column.from !== undefined);
  const pairs = moved.map((column) => {
    const type = types.get(column.name) ?? 'VARCHAR';
    const native = work.source.columns.find((one) => one.name === column.from)?.native ?? '';
    return {
      name: column.name,
      inPostgres: postgresText(ident(column.from as string), type, column.shape, native),
      inDuckDb: duckText(ident(column.name), type),
    };
  });
  const before = await sumInPostgres(source, work.source.name, {
    columns: pairs.map(({ name, inPostgres }) => ({ name, text: inPostgres })),
  });
  const hash = rowHash({ columns: pairs.map(({ name, inDuckDb }) => ({ name, text: inDuckDb })) });
  const constant = work.columns.find((column) => column.constant !== undefined)?.name;
  const where =
    work.snapshotDate && constant ? `WHERE ${ident(constant)} = (SELECT max(${ident(constant)}) FROM ${files})` : '';
  const read = await duck.runAndReadAll(
    `SELECT count(*)::BIGINT, coalesce(sum(('0x' || substr(${hash}, 1, 15))::BIGINT), 0)::VARCHAR FROM ${files} ${where}`,
  );
  const [row] = read.getRowsJson();
  return compared(work, before, { rows: Number(row?.[0]), hash: String(row?.[1]) });
}

function compared(work: Work, before: Sum, after: Sum): Verified {
  const same = before.rows === after.rows && before.hash === after.hash;
  const detail = same
    ? `${before.hash.slice(-12).padStart(12, '0')}`
    : before.rows === after.rows
      ? 'same count, other content'
      : `${before.rows} rows at the source, ${after.rows} at the target`;
  return { table: tableText(work.source.name), target: work.target, rows: before.rows, same, detail };
}

/** As text; `concat` keeps the blanks of char(n), which a cast to text would drop, and adds no `/32` to an inet. */
const asWritten = (name: string, native: string): string =>
  native.startsWith('character(') || native === 'inet'
    ? `CASE WHEN ${name} IS NOT NULL THEN concat(${name}) END`
    : `${name}::text`;

function postgresText(name: string, type: string, shape: string, native: string): string {
  const micros = `(extract(epoch FROM ${name}) * 1000000)::bigint::text`;
  switch (type) {
    case 'FLOAT':
      return `('x' || encode(float4send(${name}), 'hex'))::bit(32)::text`;
    case 'DOUBLE':
      return `('x' || encode(float8send(${name}), 'hex'))::bit(64)::text`;
    case 'BLOB':
      return `encode(${name}, 'hex')`;
    case 'DATE':
      return `(${name} - date '1970-01-01')::text`;
    case 'TIME':
    case 'TIMESTAMP':
    case 'TIMESTAMP WITH TIME ZONE':
      return micros;
    case 'VARCHAR':
      return shape === 'json' && !/^jsonb?$/.test(native) ? `to_jsonb(${name})::text` : asWritten(name, native);
    default:
      return `${name}::text`;
  }
}

function duckText(name: string, type: string): string {
  switch (type) {
    case 'FLOAT':
    case 'DOUBLE':
      return `${name}::BIT::VARCHAR`;
    case 'BLOB':
      return `lower(hex(${name}))`;
    case 'DATE':
      return `(${name} - DATE '1970-01-01')::VARCHAR`;
    case 'TIME':
    case 'TIMESTAMP':
    case 'TIMESTAMP WITH TIME ZONE':
      return `epoch_us(${name})::VARCHAR`;
    default:
      return `${name}::VARCHAR`;
  }
}

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;
