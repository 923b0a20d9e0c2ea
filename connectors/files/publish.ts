/**
 * Making a complete table visible. The chunks' commits are the journal: they say what is to be copied where, and they stay
 * until everything is done, so that after a crash anywhere the same steps run again and find what is done already.
 *
 * 1. Copy each waiting part to its place (server-side; a hard link in a folder). Names are new to this run: nothing that
 *    readers use is touched. Someone who lists the folder now sees old and new parts side by side.
 * 2. Write the manifest, on the condition that it is still the one seen at the start. This is the moment of publication.
 * 3. Remove what the new manifest no longer names, then the waiting parts and the log.
 */

import { GodwitError } from '../../errors.ts';
import { reach } from '../../faults.ts';
import { tableText, type Work } from '../contract.ts';
import { type CommitEntry, commitsOf, jsonBytes } from './commits.ts';
import {
  encodeName,
  isVisible,
  jobPrefix,
  manifestKey,
  partKey,
  stagedRun,
  stagingOfTable,
  tableFolder,
} from './layout.ts';
import { holds, type Manifest, type ManifestPart, readManifest } from './manifest.ts';
import type { Store } from './store.ts';

const copiesAtOnce = 8;

export async function publishTable(store: Store, work: Work): Promise<void> {
  const seen = await readManifest(store, work.name);
  if (!holds(seen?.manifest, work)) await makeVisible(store, work, seen);
  await cleanUp(store, work);
}

type Seen = { readonly manifest: Manifest; readonly version: string } | undefined;

async function makeVisible(store: Store, work: Work, seen: Seen): Promise<void> {
  const commits = await commitsOf(store, work);
  if (commits.length === 0) throw lost(work);
  const parts = await copyParts(store, work, commits);
  const manifest = await next(store, work, seen?.manifest, parts);
  reach('before-manifest');
  const key = manifestKey(work.name);
  const written = seen
    ? await store.replaceIf(key, jsonBytes(manifest), seen.version)
    : await store.putIfAbsent(key, jsonBytes(manifest));
  // Not written: our own answer was lost, or a second publisher of the same run was faster. Or another run was.
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

async function next(
  store: Store,
  work: Work,
  old: Manifest | undefined,
  parts: readonly ManifestPart[],
): Promise<Manifest> {
  const kept = work.mode === 'dumping' ? (old?.parts ?? []).filter(({ run }) => run !== work.run) : [];
  const runs = work.mode === 'dumping' ? (old?.runs ?? []).filter(({ run }) => run !== work.run) : [];
  const all = [...kept, ...parts];
  const sum = (of: readonly ManifestPart[], what: 'rows' | 'bytes') =>
    of.reduce((total, part) => total + part[what], 0);
  return {
    godwit: 'manifest',
    version: 1,
    job: work.jobUid,
    table: { schema: work.name.schema, name: work.name.name },
    mode: work.mode,
    format: work.writeFormat,
    columns: work.columns.map(({ name, native, nullable }) => ({ name, type: native, nullable })),
    ...(work.partition ? { partitionedBy: work.partition } : {}),
    rows: sum(all, 'rows'),
    bytes: sum(all, 'bytes'),
    runs: [
      ...runs,
      {
        run: work.run,
        generation: work.generation,
        publishedAt: new Date().toISOString(),
        rows: sum(parts, 'rows'),
        ...(work.snapshotDate ? { snapshotDate: work.snapshotDate } : {}),
      },
    ],
    parts: all,
    removing: await toRemove(store, work, old, all),
    superseded: [...new Set([...(old?.superseded ?? []), ...(await otherRuns(store, work))])],
  };
}

/**
 * Files in the table's folder which the new manifest does not name: parts of the old one, copies which an unfinished
 * publication left, and, when the folder was taken over (`existing`), what stood there before. Files that others put into
 * a folder of ours stay.
 */
async function toRemove(
  store: Store,
  work: Work,
  old: Manifest | undefined,
  parts: readonly ManifestPart[],
): Promise<string[]> {
  const folder = tableFolder(work.name);
  const current = new Set(parts.map(({ path }) => path));
  const ours = new Set([...(old?.parts.map(({ path }) => path) ?? []), ...(old?.removing ?? [])]);
  const takeOver = !old && (work.existing === 'overwrite' || (work.existing === 'adopt' && work.mode === 'replace'));
  const removing: string[] = [];
  for await (const { key } of store.list(`${folder}/`)) {
    const path = key.slice(folder.length + 1);
    const name = path.slice(path.lastIndexOf('/') + 1);
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

async function cleanUp(store: Store, work: Work): Promise<void> {
  const folder = tableFolder(work.name);
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
