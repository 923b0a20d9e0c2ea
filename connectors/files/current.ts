/**
 * `_current.sql` beside the manifest: for DuckDB, a view of the table as it is now, over exactly the manifest's parts. Made of
 * the manifest alone, and written after it.
 */
import { currentName, tableFolder } from './layout.ts';
import { type Current, type Manifest, readManifest, stamp } from './manifest.ts';
import { csvDialect, type FileFormat, latest, listOf, literal, quoted } from './relation.ts';
import type { Store } from './store.ts';

/** What stands in a Hive folder's name for NULL. */
const hiveNull = '__HIVE_DEFAULT_PARTITION__';

/** Of several writers each looks again, so that the view of the newest manifest is written last. */
export async function writeCurrent(
  store: Store,
  name: { readonly schema: string; readonly name: string },
): Promise<void> {
  const key = `${tableFolder(name)}/${currentName}`;
  for (;;) {
    const seen = await readManifest(store, name);
    if (!seen?.manifest.current) return;
    const sql = new TextEncoder().encode(currentSql(seen.manifest, seen.manifest.current, (one) => store.url(one)));
    const there = await store.get(key);
    if (there && Buffer.compare(there.bytes, sql) === 0) return;
    if (there) await store.replaceIf(key, sql, there.version);
    else await store.putIfAbsent(key, sql);
  }
}

export function currentSql(manifest: Manifest, current: Current, url: (key: string) => string): string {
  const { table, parts, columns } = manifest;
  const format = manifest.format as FileFormat;
  const folder = tableFolder(table);
  const view = [table.schema, table.name]
    .filter((step) => step !== '')
    .map(quoted)
    .join('.');
  const moved = movedColumn(manifest);
  const typed = columns.map(
    ({ name, type }) => `${typedColumn(name, type, format, name === moved && parts.length > 0)} AS ${quoted(name)}`,
  );
  const from =
    parts.length > 0
      ? `FROM ${relation(
          manifest,
          parts.map(({ path }) => url(`${folder}/${path}`)),
          moved,
        )}`
      : `FROM (SELECT ${columns.map(({ name }) => `CAST(NULL AS VARCHAR) AS ${quoted(name)}`).join(', ')}) WHERE false`;
  const stamped = columns.some(({ name }) => name === stamp);
  const what = current.keeps === 'last' ? 'the version that came last' : 'the one that came first';
  return [
    `-- ${oneLine(view)} as it is now: of each key ${what}. Godwit writes this file anew with every change of _manifest.json.`,
    `-- Read it into DuckDB (in S3: with httpfs and a secret): .read ${oneLine(url(`${folder}/${currentName}`))}`,
    ...(table.schema === '' ? [] : [`CREATE SCHEMA IF NOT EXISTS ${quoted(table.schema)};`]),
    `CREATE OR REPLACE VIEW ${view} AS`,
    `SELECT ${columns.map(({ name }) => quoted(name)).join(', ')}`,
    `FROM (SELECT ${typed.join(', ')} ${from})`,
    `${latest({ current, key: current.key, value: quoted, format, stamped })};`,
    '',
  ].join('\n');
}

const oneLine = (text: string): string => text.replaceAll(/[\r\n]/g, ' ');

/** The column that is in the folders' names instead of the files. */
const movedColumn = ({ partitionedBy: by }: Manifest): string | undefined =>
  by && by.format !== 'datetime' ? by.column : undefined;

/** Where a row lies says the value of a column that is a folder's name. */
const filename = 'godwit filename';
const folderValue = `url_decode(regexp_extract(${quoted(filename)}, '=([^/=]*)/[^/]*$', 1))`;

function relation({ format, columns }: Manifest, paths: readonly string[], moved: string | undefined): string {
  const options = `hive_partitioning = false${moved === undefined ? '' : `, filename = ${literal(filename)}`}`;
  const list = listOf(paths);
  switch (format as FileFormat) {
    case 'parquet':
      return `read_parquet(${list}, union_by_name = true, ${options})`;
    case 'csv':
      return `read_csv(${list}, ${csvDialect}, union_by_name = true, ${options})`;
    case 'ndjson': {
      const inFiles = columns.filter(({ name }) => name !== moved);
      const types = inFiles.map(({ name, type }) => `${literal(name)}: '${ndjsonType(type)}'`).join(', ');
      return `read_json(${list}, format = 'newline_delimited', columns = {${types}}, maximum_object_size = 268435456, ${options})`;
    }
  }
}

const ndjsonType = (type: string): string => (type === 'boolean' ? 'BOOLEAN' : type === 'JSON' ? 'JSON' : 'VARCHAR');

/** Texts stay texts, which are exact; the rows' stamp is an instant in every format. */
function typedColumn(name: string, type: string, format: FileFormat, moved: boolean): string {
  if (name === stamp) return `TRY_CAST(${quoted(name)} AS TIMESTAMPTZ)`;
  const column = moved ? `nullif(${folderValue}, ${literal(hiveNull)})` : quoted(name);
  if (format === 'csv') return type === 'boolean' ? `CAST(${column} AS BOOLEAN)` : column;
  return moved && format === 'parquet' ? `CAST(${column} AS ${type})` : column;
}
