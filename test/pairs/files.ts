/** Parquet read by pyarrow and by a DuckDB of the test's own: two readers that must say the same. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { readAllByPyarrow } from '../conformance/files-pyarrow.ts';
import type { Contents } from './contents.ts';
import { float, type Meaning, moment, number, plain, plainNumber, text } from './meaning.ts';

/**
 * The tables below a folder, by name: the names of folders have the characters escaped that file systems lack. The date of
 * the run, which is the target's own column, is left out.
 */
export async function readParquet(path: string): Promise<Map<string, Contents>> {
  const folders = await readdir(path);
  const tables = await readAllByPyarrow(
    folders.map((folder) => join(path, folder)),
    'dataset',
  );
  const read = new Map<string, Contents>();
  for (const [at, { types, rows }] of tables.entries()) {
    const folder = folders[at] ?? '';
    const names = Object.keys(types).filter((name) => name !== 'migration_snapshot_date');
    const contents: Contents = {
      columns: new Map(names.map((name) => [name, types[name] ?? ''])),
      rows: rows.map((row) => new Map(names.map((name) => [name, meaning(types[name] ?? '', row[name])]))),
    };
    const second = await readByDuckDb(join(path, folder));
    for (const [name, values] of sortedTexts(contents)) {
      if (JSON.stringify(second.get(name)) !== JSON.stringify(values)) {
        throw new Error(`pyarrow and DuckDB read ${folder}, ${name} differently`);
      }
    }
    read.set(decodeURIComponent(folder), contents);
  }
  return read;
}

/** pyarrow's values as the script prints them: a word for the type where JSON would lose it. */
function meaning(type: string, value: unknown): Meaning {
  if (value === null || value === undefined) return null;
  if (typeof value === 'boolean') return { is: 'bool', value };
  const said = String(value);
  if (/^(string|large_string)/.test(type)) return text(said);
  if (/^date/.test(type)) return moment('date', said);
  if (/^time\d/.test(type)) return moment('time', said);
  if (/^timestamp/.test(type)) return moment(/tz=/.test(type) ? 'instant' : 'local', said);
  const [, what, rest = ''] = /^(\w+) ?(.*)$/s.exec(said) ?? [];
  if (what === 'bytes') return { is: 'bytes', value: rest };
  if (what === 'float')
    return float(Number(rest === 'nan' ? 'NaN' : rest.replace('inf', 'Infinity')), type === 'float');
  return number(rest);
}

/** What DuckDB says of the same files: per column the number of values and, of plain ones, the values themselves, sorted. */
async function readByDuckDb(folder: string): Promise<Map<string, string[]>> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  const connection = await instance.connect();
  try {
    await connection.run("SET TimeZone = 'UTC'");
    const files = join(folder, '**', '*.parquet').replaceAll("'", "''");
    const result = await connection.runAndReadAll(`SELECT * FROM read_parquet('${files}', hive_partitioning = true)`);
    const names = result.columnNames().filter((name) => name !== 'migration_snapshot_date');
    const types = await connection.runAndReadAll(
      `SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet('${files}', hive_partitioning = true))`,
    );
    const typeOf = new Map(types.getRows().map(([name, type]) => [String(name), String(type)]));
    const list = names.map((name) => castIn(name, typeOf.get(name) ?? '')).join(', ');
    const rows = (
      await connection.runAndReadAll(`SELECT ${list} FROM read_parquet('${files}', hive_partitioning = true)`)
    ).getRows();
    return new Map(
      names.map((name, at) => [name, rows.map((row) => duckText(typeOf.get(name) ?? '', row[at])).sort()]),
    );
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

const castIn = (name: string, type: string): string => {
  const quoted = `"${name.replaceAll('"', '""')}"`;
  return type === 'BLOB' ? `lower(hex(${quoted}))` : `${quoted}::VARCHAR`;
};

function duckText(type: string, value: unknown): string {
  if (value === null || value === undefined) return '∅';
  const said = String(value);
  if (/^(VARCHAR|BLOB)/.test(type)) return said;
  if (type === 'FLOAT') return plainNumber(String(Math.fround(Number(spelled(said)))));
  if (type === 'DOUBLE') return plainNumber(String(Number(spelled(said))));
  if (/^(DATE|TIME)/.test(type)) return plain(moment('local', said));
  return plainNumber(said);
}

const spelled = (said: string): string => (said === 'nan' ? 'NaN' : said.replace('inf', 'Infinity'));

/** The same form of pyarrow's answer, for comparing the two. */
const sortedTexts = (contents: Contents): Map<string, string[]> =>
  new Map(
    [...contents.columns.keys()].map((name) => [name, contents.rows.map((row) => plain(row.get(name) ?? null)).sort()]),
  );
