/**
 * Making a complete table visible. The chunks' commits are the journal: they say what is to be copied where, and they stay
 * until everything is done, so that after a crash anywhere the same steps run again and find what is done already.
 *
 * 1. Copy each waiting part to its place (server-side; a hard link in a folder). Names are new to this run: nothing that
 *    readers use is touched. Someone who lists the folder now sees old and new parts side by side.
 * 2. Write the manifest, on the condition that it is still the one seen at the start. This is the moment of publication.
 * 3. Of incremental modes, write the view of the current state. Remove what the new manifest no longer names, then the waiting
 *    parts and the log.
 *
 * A load replaces the parts; an increment adds to them, and a snapshot of mode dumping too.
 */

import { GodwitError } from '../../errors.ts';
import { reach } from '../../faults.ts';
import { swapsIn, tableText, type Work } from '../contract.ts';
import { type CommitEntry, commitsOf, jsonBytes } from './commits.ts';
import { writeCurrent } from './current.ts';
import type { PartsDb } from './duckdb.ts';
import { currentOf, isIncremental, refuseOtherBase } from './incremental.ts';
import {
  currentName,
  encodeName,
  isVisible,
  jobPrefix,
  manifestKey,
  partKey,
  recentFolder,
  stagedRun,
  stagingOfTable,
  tableFolder,
} from './layout.ts';
import { holds, type Manifest, type ManifestPart, readManifest, sumOf } from './manifest.ts';
import { mergeRecent } from './recent.ts';
import type { Store } from './store.ts';

const copiesAtOnce = 8;

export async function publishTable(store: Store, work: Work, db: PartsDb): Promise<void> {
  const seen = await readManifest(store, work.name);
  if (!holds(seen?.manifest, work)) await makeVisible(store, work, seen, db);
  await cleanUp(store, work);
}

type Seen = { readonly manifest: Manifest; readonly version: string } | undefined;

async function makeVisible(store: Store, work: Work, seen: Seen, db: PartsDb): Promise<void> {
  const commits = await commitsOf(store, work);
  // After the look at the commits: see there.
  if (work.increment) await refuseOtherBase(store, work, seen?.manifest);
  else if (commits.length === 0) throw lost(work);
  const parts = await copyParts(store, work, commits);
  const recent = await recentOf(store, work, seen?.manifest, { commits, db });
  const manifest = await next(store, work, seen?.manifest, { parts, recent });
  reach('before-manifest');
  const key = manifestKey(work.name);
  const written = seen
    ? await store.replaceIf(key, jsonBytes(manifest), seen.version)
    : await store.putIfAbsent(key, jsonBytes(manifest));
  // Not written: our own answer was lost, or a second publisher of the same run was faster. Or another run was.
  reach('after-swap');
  if (!written && !holds((await readManifest(store, work.name))?.manifest, work)) {
    const table = tableText(work.name);
    throw new GodwitError(
      'FENCED',
      `Another run published ${table} meanwhile; this one changed nothing that readers see.`,
      {
        table,
        run: work.run,
        target: work.target,
      },
    );
  }
}

type Staged = { readonly commits: readonly CommitEntry[]; readonly db: PartsDb };

function recentOf(store: Store, work: Work, old: Manifest | undefined, { commits, db }: Staged) {
  const staged = commits.flatMap(({ parts }) => parts).filter(({ rows }) => rows > 0);
  const known = staged.flatMap(({ digests }) => digests ?? []);
  const digests = known.length === staged.length ? known : undefined;
  return mergeRecent({ store, db, work, digests, old, signal: new AbortController().signal });
}

const lost = (work: Work) =>
  new GodwitError('CONFLICT', `Nothing of ${tableText(work.name)} waits to be published; start a new run.`, {
    table: tableText(work.name),
    run: work.run,
    target: work.target,
  });

async function copyParts(store: Store, work: Work, commits: readonly CommitEntry[]): Promise<ManifestPart[]> {
  const folder = tableFolder(work.name);
  const jobs = commits.flatMap(({ chunk, parts }) =>
    parts.map((part, i) => ({
      part,
      to: partKey(work, { chunk: chunk.id, number: i + 1, partition: part.partition }),
    })),
  );
  const rest = [...jobs];
  const lane = async () => {
    for (let job = rest.shift(); job; job = rest.shift()) {
      const there = await store.size(job.to);
      if (there !== job.part.bytes) await store.copy(job.part.key, job.to);
      reach('in-publish');
    }
  };
  await Promise.all(Array.from({ length: copiesAtOnce }, lane));
  return jobs.map(({ part, to }) => ({
    path: to.slice(folder.length + 1),
    partition: part.partition,
    rows: part.rows,
    bytes: part.bytes,
    sha256: part.sha256,
    run: work.run,
  }));
}

/** Entries of the list of runs in incremental modes. */
const runsKept = 100;

async function next(
  store: Store,
  work: Work,
  old: Manifest | undefined,
  { parts, recent }: { readonly parts: readonly ManifestPart[]; readonly recent: string | undefined },
): Promise<Manifest> {
  const { mode, increment } = work;
  const adds = mode === 'dumping' || increment !== undefined;
  const other = ({ run }: { readonly run: string }) => mode !== 'dumping' || run !== work.run;
  const kept = adds ? (old?.parts ?? []).filter(other) : [];
  const runs = adds ? (old?.runs ?? []).filter(other) : [];
  const all = [...kept, ...parts];
  // An increment without a row changes nothing but what is remembered.
  const brought = !increment || parts.length > 0;
  const run = {
    run: work.run,
    generation: work.generation,
    publishedAt: new Date().toISOString(),
    rows: sumOf(parts, 'rows'),
    ...(work.snapshotDate ? { snapshotDate: work.snapshotDate } : {}),
  };
  const manifest: Manifest = {
    godwit: 'manifest',
    version: 1,
    job: work.jobUid,
    table: { schema: work.name.schema, name: work.name.name },
    mode,
    format: work.writeFormat,
    columns: brought ? columnsOf(work, old) : (old?.columns ?? []),
    ...(work.partition ? { partitionedBy: work.partition } : {}),
    rows: sumOf(all, 'rows'),
    bytes: sumOf(all, 'bytes'),
    runs: brought ? [...(increment ? runs.slice(1 - runsKept) : runs), run] : runs,
    parts: all,
    removing: [],
    superseded: [...new Set([...(old?.superseded ?? []), ...(await otherRuns(store, work))])],
    ...(isIncremental(work) ? incrementalOf(work, old) : {}),
    ...(recent === undefined ? {} : { recent }),
  };
  return { ...manifest, removing: await toRemove(store, work, old, manifest) };
}

function incrementalOf(work: Work, old: Manifest | undefined): Pick<Manifest, 'published' | 'remembers' | 'current'> {
  const { installation, target, state, run, generation } = work;
  const current = currentOf(work, old);
  const remembers = state ? { installation, target, state } : work.increment ? old?.remembers : undefined;
  return { published: { run, generation }, ...(remembers ? { remembers } : {}), ...(current ? { current } : {}) };
}

/** In increments also those that only older parts have. */
function columnsOf(work: Work, old: Manifest | undefined): Manifest['columns'] {
  const columns = work.columns.map(({ name, native, nullable }) => ({ name, type: native, nullable }));
  const has = new Set(columns.map(({ name }) => name));
  const gone = work.increment ? (old?.columns ?? []).filter(({ name }) => !has.has(name)) : [];
  return [...columns, ...gone.map((column) => ({ ...column, nullable: true }))];
}

/**
 * Files in the table's folder which the new manifest does not name: parts of the old one, copies which an unfinished
 * publication left, and, when the folder was taken over (`existing`), what stood there before. Files that others put into
 * a folder of ours stay.
 */
export async function toRemove(
  store: Store,
  work: Work,
  old: Manifest | undefined,
  { parts, recent, current: view }: Manifest,
): Promise<string[]> {
  const folder = tableFolder(work.name);
  const current = new Set(parts.map(({ path }) => path));
  const ours = new Set([...(old?.parts.map(({ path }) => path) ?? []), ...(old?.removing ?? [])]);
  const takeOver = !old && (work.existing === 'overwrite' || (work.existing === 'adopt' && swapsIn(work)));
  const removing: string[] = [];
  for await (const { key } of store.list(`${folder}/`)) {
    const path = key.slice(folder.length + 1);
    const name = path.slice(path.lastIndexOf('/') + 1);
    // Views and digests of incremental modes.
    if (path === currentName ? !view : path.startsWith(recentFolder) && path !== recent) removing.push(path);
    if (current.has(path) || !isVisible(folder, key)) continue;
    if (takeOver || ours.has(path) || name.startsWith(jobPrefix(work))) removing.push(path);
  }
  return removing;
}

/** Runs of this job and table that still have staging. */
async function otherRuns(store: Store, work: Work): Promise<Set<string>> {
  const runs = new Set<string>();
  for await (const { key } of store.list(stagingOfTable(work))) {
    const staged = stagedRun(work, key);
    if (staged && staged.run !== encodeName(work.run)) runs.add(staged.run);
  }
  return runs;
}

/** Also after a compaction. */
export async function cleanUp(store: Store, work: Work): Promise<void> {
  const folder = tableFolder(work.name);
  if (isIncremental(work)) await writeCurrent(store, work.name);
  const seen = await readManifest(store, work.name);
  if (seen && seen.manifest.removing.length > 0) {
    await store.delete(seen.manifest.removing.map((path) => `${folder}/${path}`));
    await store.replaceIf(manifestKey(work.name), jsonBytes({ ...seen.manifest, removing: [] }), seen.version);
  }
  const gone = new Set([encodeName(work.run), ...(seen?.manifest.superseded ?? [])]);
  await removeStaging(store, work, ({ run }) => gone.has(run));
}

/** Parts first, the log last: what is half removed is still known as a run that was there. */
export async function removeStaging(
  store: Store,
  work: Work,
  which: (staged: { run: string; generation: number }) => boolean,
): Promise<void> {
  const keys: string[] = [];
  for await (const { key } of store.list(stagingOfTable(work))) {
    const staged = stagedRun(work, key);
    if (staged && which(staged)) keys.push(key);
  }
  const isLog = (key: string) => key.includes('/chunks/');
  await store.delete(keys.filter((key) => !isLog(key)));
  await store.delete(keys.filter(isLog));
}
