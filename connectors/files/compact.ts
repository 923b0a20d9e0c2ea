/**
 * Small parts joined into large ones, so that a table that is kept up to date for years stays quick to read. What is read is the
 * same before and after: of syncing the latest version of each key among the joined stays, of logging every row.
 *
 * The new parts are put beside the old ones, then the manifest is replaced, on condition that it is still the one seen at the
 * start; then the old parts go, as after a publication. A crash before the manifest leaves parts that nobody names: they go
 * with the next publication or compaction. One after it leaves old parts to whoever comes next.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { reach } from '../../faults.ts';
import { tableText, type Work } from '../contract.ts';
import { jsonBytes } from './commits.ts';
import type { PartsDb } from './duckdb.ts';
import { isIncremental } from './incremental.ts';
import { joinedName, manifestKey, tableFolder } from './layout.ts';
import { type Current, type Manifest, type ManifestPart, readManifest, stamp, sumOf } from './manifest.ts';
import { cleanUp, toRemove } from './publish.ts';
import { columnOf, fileFormat, latest, literal, relationOf, writeOptions } from './relation.ts';
import type { Compact } from './settings.ts';
import type { Store } from './store.ts';

/** No new group is begun after this. */
const longest = 60_000;
const mb = 1024 * 1024;
/** Bytes joined into one part, and in one call. */
const groupBytes = 256 * mb;
const callBytes = 2048 * mb;

type Tidying = {
  readonly store: Store;
  readonly db: PartsDb;
  readonly work: Work;
  readonly compact: Compact;
  readonly signal: AbortSignal;
};

export async function tidyTable({ store, db, work, compact, signal }: Tidying): Promise<string[]> {
  if (!compact || !isIncremental(work)) return [];
  const seen = await readManifest(store, work.name);
  const { manifest } = seen ?? {};
  if (!seen || !manifest?.current || manifest.job !== work.jobUid) return [];
  const groups = groupsOf(manifest, compact);
  if (groups.length === 0) return [];
  await using folder = await db.folder();
  const begun = Date.now();
  const joined: { readonly part: ManifestPart; readonly file: string; readonly of: readonly ManifestPart[] }[] = [];
  let bytes = 0;
  for (const [i, group] of groups.entries()) {
    if (i > 0 && (Date.now() - begun > longest || bytes > callBytes)) break;
    const made = await joinParts({ store, db, work, manifest, signal, folder: join(folder.path, String(i)), group });
    if (!made) continue;
    joined.push({ ...made, of: group });
    bytes += sumOf(group, 'bytes');
  }
  if (joined.length === 0) return [];
  const table = tableFolder(work.name);
  for (const { part, file } of joined) {
    await store.putIfAbsent(`${table}/${part.path}`, { file });
    reach('in-publish');
  }
  const gone = new Set(joined.flatMap(({ of }) => of.map(({ path }) => path)));
  const parts = [...joined.map(({ part }) => part), ...manifest.parts.filter(({ path }) => !gone.has(path))];
  const swapped = { ...manifest, parts, rows: sumOf(parts, 'rows'), bytes: sumOf(parts, 'bytes') };
  const next: Manifest = { ...swapped, removing: await toRemove(store, work, manifest, swapped) };
  reach('before-manifest');
  const written = await store.replaceIf(manifestKey(work.name), jsonBytes(next), seen.version);
  reach('after-swap');
  if (!written) {
    const now = (await readManifest(store, work.name))?.manifest.parts.map(({ path }) => path);
    const ours = joined.every(({ part }) => now?.includes(part.path));
    if (!ours) {
      await store.delete(joined.map(({ part }) => `${table}/${part.path}`));
      return [];
    }
  }
  await cleanUp(store, work);
  const into = joined.length === 1 ? 'one' : String(joined.length);
  return [`${tableText(work.name)}: ${gone.size} small files were joined into ${into}`];
}

/** Parts to be joined, those first that came first; of one folder, and only where there are too many. */
function groupsOf({ parts }: Manifest, compact: Exclude<Compact, false>): ManifestPart[][] {
  const small = parts.filter(({ bytes, sha256 }) => bytes < compact.megabytes * mb && sha256 !== '');
  const groups: ManifestPart[][] = [];
  for (const folder of Map.groupBy(small, ({ partition }) => partition).values()) {
    if (folder.length <= compact.parts) continue;
    let group: ManifestPart[] = [];
    for (const part of folder) {
      if (group.length > 1 && sumOf([...group, part], 'bytes') > groupBytes) {
        groups.push(group);
        group = [];
      }
      group.push(part);
    }
    if (group.length > 1) groups.push(group);
  }
  return groups;
}

type Joining = Omit<Tidying, 'compact'> & {
  readonly manifest: Manifest;
  readonly folder: string;
  readonly group: readonly ManifestPart[];
};

/** Undefined when a part is gone meanwhile. */
async function joinParts({ store, db, work, manifest, signal, folder, group }: Joining) {
  const table = tableFolder(work.name);
  const format = fileFormat(work);
  const paths: string[] = [];
  for (const [i, part] of group.entries()) {
    signal.throwIfAborted();
    const path = `${folder}-${i}.${format}`;
    if (!(await store.fetch(`${table}/${part.path}`, path))) return undefined;
    paths.push(path);
  }
  const widest = Math.max(...group.map(({ bytes }) => bytes));
  const file = `${folder}-joined.${format}`;
  const from = `SELECT * FROM ${relationOf(paths, format, format === 'parquet' ? 0 : widest)}`;
  const only = manifest.current?.keeps === 'last' ? ` ${latestOf(manifest, manifest.current, work)}` : '';
  const rows = await db.run(`COPY (${from}${only}) TO ${literal(file)} (${writeOptions[format]})`, signal);
  const { size: bytes } = await stat(file);
  const { partition } = group[0] as ManifestPart;
  const path = `${partition === '' ? '' : `${partition}/`}${joinedName(work)}`;
  const part: ManifestPart = { path, partition, rows, bytes, sha256: await hashOf(file), run: work.run };
  return { part, file };
}

/** Within a folder its column is the same in all rows. */
function latestOf({ partitionedBy: by }: Manifest, current: Current, work: Work): string {
  const moved = by && by.format !== 'datetime' ? by.column : undefined;
  const format = fileFormat(work);
  const { bookmark, ...rest } = current;
  return latest({
    current: bookmark && bookmark.column !== moved ? current : rest,
    key: current.key.filter((name) => name !== moved),
    value: (column) => columnOf(column, format),
    format,
    stamped: work.columns.some(({ name }) => name === stamp),
  });
}

export async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece as Buffer);
  return hash.digest('hex');
}
