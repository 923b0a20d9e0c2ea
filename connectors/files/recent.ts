/**
 * Increments read a stretch again that was read before (the recheck window, the lags, NULL bookmarks). So that this does not
 * write the same rows with every run, digests of the rows that came last lie beside the manifest: of each key and of all
 * values of its latest version. An increment leaves out what it finds there, and counts it as unchanged. A digest that is
 * missing only means that a row is written once more, with the same values: who reads picks one of each key anyway.
 */
import { copyFile, link, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { FileBatch, Work } from '../contract.ts';
import type { PartsDb } from './duckdb.ts';
import { currentOf, isIncremental } from './incremental.ts';
import { recentName, tableFolder } from './layout.ts';
import { type Current, type Manifest, readManifest, stamp } from './manifest.ts';
import { columnOf, comparable, fileFormat, literal, quoted, relationOf, writeOptions } from './relation.ts';
import type { Store } from './store.ts';

/** Rows of which digests are kept: those with the newest bookmarks or the greatest keys. */
const most = 200_000;

export type Sifted = {
  /** Absent: no row of it is new. */
  readonly part?: FileBatch;
  readonly unchanged: number;
  /** Digests of the part's rows, a file of the worker's. */
  readonly digests?: string;
};

export interface Sifter extends AsyncDisposable {
  sift(part: FileBatch): Promise<Sifted>;
}

type Using = { readonly store: Store; readonly db: PartsDb; readonly work: Work; readonly signal: AbortSignal };

/** Undefined where nothing is to be compared. */
export async function openSifter({ store, db, work, signal }: Using): Promise<Sifter | undefined> {
  if (!isIncremental(work)) return undefined;
  const { manifest } = work.increment ? ((await readManifest(store, work.name)) ?? {}) : {};
  const current = currentOf(work, manifest);
  if (!current?.bookmark && !work.increment) return undefined;
  if (!current) return undefined;
  const folder = await db.folder();
  const known = await fetchKnown(store, work, manifest, folder.path);
  let count = 0;
  return {
    async sift(given) {
      const at = (name: string) => join(folder.path, `${count}.${name}`);
      count++;
      const path = at(`given.${work.writeFormat}`);
      await link(given.path, path).catch(() => copyFile(given.path, path));
      const part = { ...given, path };
      const digests = at('digests.parquet');
      const out = at(work.writeFormat);
      try {
        await db.run(`COPY (${digestsOf(part, work, current)}) TO ${literal(digests)} (FORMAT parquet)`, signal);
        const unchanged = known === undefined ? 0 : await db.run(countOf(digests, known, current), signal);
        if (unchanged === 0) return { part: given, unchanged, digests };
        if (unchanged === part.rows) return { unchanged };
        const written = await db.run(
          `COPY (${newRows(part, work, current, known as string)}) TO ${literal(out)} (${writeOptions[fileFormat(work)]})`,
          signal,
        );
        if (written !== part.rows - unchanged) return { part: given, unchanged: 0 };
        return { part: { ...part, path: out, rows: written, bytes: (await stat(out)).size }, unchanged, digests };
      } catch (error) {
        signal.throwIfAborted();
        // Rows that are too wide for it, a full disk: the part is written as it is.
        if (!(error instanceof Error)) throw error;
        return { part: given, unchanged: 0 };
      }
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

async function fetchKnown(store: Store, work: Work, manifest: Manifest | undefined, folder: string) {
  if (!work.increment || manifest?.recent === undefined) return undefined;
  const path = join(folder, 'known.parquet');
  return (await store.fetch(`${tableFolder(work.name)}/${manifest.recent}`, path)) ? path : undefined;
}

/** Values of the part's rows; a column that is the folder's name has one value in all of them. */
function rowsOf(part: FileBatch, work: Work) {
  const format = fileFormat(work);
  const moved = work.partition && work.partition.format !== 'datetime' ? work.partition.column : undefined;
  const value = (column: string) => (column === moved ? literal(part.partition) : columnOf(column, format));
  const texts = (columns: readonly string[]) =>
    `CAST(to_json([${columns.map((column) => `CAST(${value(column)} AS VARCHAR)`).join(', ')}]) AS VARCHAR)`;
  return { format, value, texts, moved, from: relationOf([part.path], format, part.bytes) };
}

const digest = (text: string, as: string) => `md5_number_lower(${text}) AS ${as}1, md5_number_upper(${text}) AS ${as}2`;

function keyAndRow(part: FileBatch, work: Work, current: Current): string {
  const { format, texts, from } = rowsOf(part, work);
  const columns = work.columns.map(({ name }) => name).filter((name) => name !== stamp);
  const names = literal(columns.join('\u0000').replaceAll('\u0000', '/'));
  const row =
    format === 'ndjson'
      ? `regexp_replace(line, ',"${stamp}":"[^"]*"}$', '') || ${literal(part.partition)}`
      : `${texts(columns)} || ${names}`;
  return `SELECT *, ${texts(current.key)} AS "godwit key", ${row} AS "godwit row" FROM ${from}`;
}

function digestsOf(part: FileBatch, work: Work, current: Current): string {
  const { value, format, moved, from } = rowsOf(part, work);
  const { bookmark } = current;
  const w = bookmark && bookmark.column !== moved ? comparable(bookmark, value, format) : 'CAST(NULL AS VARCHAR)';
  // A load may have very many rows, of which the newest are looked for; an increment tells of each what it is now.
  const some = work.increment || part.rows <= most || !bookmark;
  const newest = `(SELECT min(w) FROM (SELECT ${w} AS w FROM ${from} ORDER BY w DESC NULLS LAST LIMIT ${most}))`;
  const where = some ? '' : ` WHERE ${w} IS NULL OR ${w} >= ${newest}`;
  return (
    `SELECT ${digest('"godwit key"', 'k')}, ${digest('"godwit row"', 'd')}, w ` +
    `FROM (SELECT "godwit key", "godwit row", ${w} AS w FROM (${keyAndRow(part, work, current)})${where})`
  );
}

/** Logging: a key that is there stays as it is. */
const same = (mine: string, known: string, { keeps }: Current): string =>
  (keeps === 'first' ? ['k1', 'k2'] : ['k1', 'k2', 'd1', 'd2'])
    .map((c) => `${mine}.${c} = ${known}.${c}`)
    .join(' AND ');

const countOf = (digests: string, known: string, current: Current): string =>
  `SELECT count(*) FROM read_parquet(${literal(digests)}) n SEMI JOIN read_parquet(${literal(known)}) o ON ${same('n', 'o', current)}`;

function newRows(part: FileBatch, work: Work, current: Current, known: string): string {
  const columns = fileFormat(work) === 'ndjson' ? ['line'] : fileColumns(work);
  return (
    `SELECT ${columns.map(quoted).join(', ')} FROM (SELECT *, ${digest('"godwit key"', 'k')}, ${digest('"godwit row"', 'd')} ` +
    `FROM (${keyAndRow(part, work, current)})) n ANTI JOIN read_parquet(${literal(known)}) o ON ${same('n', 'o', current)}`
  );
}

const fileColumns = ({ columns, partition }: Work): string[] =>
  columns
    .map(({ name }) => name)
    .filter((name) => !partition || partition.format === 'datetime' || partition.column !== name);

type Merging = Using & {
  /** Keys of the digests of all parts of this run; undefined: some part has none. */
  readonly digests: readonly string[] | undefined;
  readonly old: Manifest | undefined;
};

/** The digests after this run, by their name in the table's folder. */
export async function mergeRecent({ store, db, work, signal, digests, old }: Merging): Promise<string | undefined> {
  if (!isIncremental(work)) return undefined;
  const before = work.increment ? old?.recent : undefined;
  // What was seen before may be the latest no more.
  if (digests === undefined) return undefined;
  if (digests.length === 0) return before;
  await using folder = await db.folder();
  const fetched: string[] = [];
  for (const [i, key] of digests.entries()) {
    const path = join(folder.path, `${i}.parquet`);
    if (!(await store.fetch(key, path))) return undefined;
    fetched.push(path);
  }
  const known = join(folder.path, 'known.parquet');
  const table = tableFolder(work.name);
  const has = before !== undefined && (await store.fetch(`${table}/${before}`, known));
  const out = join(folder.path, 'merged.parquet');
  try {
    await db.run(
      `COPY (${merged(fetched, has ? known : undefined, work)}) TO ${literal(out)} (FORMAT parquet)`,
      signal,
    );
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof Error)) throw error;
    return undefined;
  }
  const name = recentName(work);
  await store.putIfAbsent(`${table}/${name}`, { file: out });
  return name;
}

/** Of a key that came twice in one run nobody knows here which came last. */
function merged(fresh: readonly string[], known: string | undefined, work: Work): string {
  const list = `[${fresh.map(literal).join(', ')}]`;
  const one = work.mode === 'logging' ? '' : ' WHERE n = 1';
  const old =
    known === undefined
      ? ''
      : ` UNION ALL SELECT k1, k2, d1, d2, w FROM read_parquet(${literal(known)}) o ANTI JOIN f ON o.k1 = f.k1 AND o.k2 = f.k2`;
  return (
    `WITH f AS (SELECT k1, k2, any_value(d1) AS d1, any_value(d2) AS d2, max(w) AS w, count(DISTINCT (d1, d2)) AS n ` +
    `FROM read_parquet(${list}) GROUP BY k1, k2) ` +
    `SELECT * FROM (SELECT k1, k2, d1, d2, w FROM f${one}${old}) ORDER BY w DESC NULLS FIRST LIMIT ${most}`
  );
}
