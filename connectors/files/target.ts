/** Folders and buckets of Parquet, CSV or NDJSON files as a target. */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { GodwitError } from '../../errors.ts';
import { reach } from '../../faults.ts';
import {
  type BadRow,
  type Batch,
  type Claim,
  type Counts,
  type ExistingTable,
  type FileBatch,
  type TableName,
  type Target,
  tableText,
  type Work,
  type WriteOptions,
} from '../contract.ts';
import { chunkLogs, claimChunk, commitChunk, commitsOf, jsonBytes, parseJson, type StagedPart } from './commits.ts';
import { encodeName, extension, isVisible, ownerKey, partPrefix, stagingFolder, tableFolder } from './layout.ts';
import { openLocal } from './local.ts';
import { holds, readManifest } from './manifest.ts';
import { publishTable, removeStaging } from './publish.ts';
import { openS3 } from './s3.ts';
import type { Settings } from './settings.ts';
import type { Store } from './store.ts';
import { fitOf } from './types.ts';

export type OpenOptions = {
  /** Folders below which `destination_type: files` may write. */
  readonly fileRoots: readonly string[];
};

type Owner = { readonly installation: string; readonly job: string; readonly at: string };

/** Settings as `parseSettings` gives them. A bucket is not reached before the first use. */
export async function openTarget(settings: Settings, { fileRoots }: OpenOptions): Promise<Target> {
  const store =
    settings.destination_type === 's3' ? openS3(settings) : await openLocal({ path: settings.path, fileRoots });
  return targetOf(store);
}

export function targetOf(store: Store): Target {
  return {
    system: 'files',
    formats: ['parquet', 'csv', 'ndjson'],
    // Of one step of a path; what must be encoded takes three bytes each, which `refusals` looks at.
    nameLimit: 255,
    identity: () => store.identity(),
    check: () => store.check(),
    fit: (table, format) => table.columns.map((column) => fitOf(column, format)),
    describe: (name) => describe(store, name),
    refusals: (work) => refusals(store, work),
    drift: (work) => drift(store, work),
    prepare: (work) => prepare(store, work),
    claim: (work, chunk) => claimChunk(store, work, chunk),
    write: (work, claim, batches, options) => write(store, { work, claim, batches, options }),
    async finish(work) {
      const { manifest } = (await readManifest(store, work.name)) ?? {};
      if (!holds(manifest, work)) await commitsOf(store, work);
    },
    async publish(works) {
      for (const work of works) {
        await takeOwnership(store, work);
        await publishTable(store, work);
      }
      return { notes: [] };
    },
    discard: (work) => discard(store, work),
    async *checkpoints(work) {
      for await (const { epoch, commit, claim } of chunkLogs(store, work)) {
        const chunk = { ...(commit ?? claim!).chunk, bounds: null };
        yield { chunk, epoch, done: commit !== undefined, counts: commit?.counts ?? noCounts };
      }
    },
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

const noCounts: Counts = { read: 0, written: 0, filtered: 0, quarantined: 0, bytes: 0 };

// ── Ownership ───────────────────────────────────────────────────────────────────────────────────────────────────────

async function readOwner(store: Store, name: TableName) {
  const found = await store.get(ownerKey(name));
  return found && { owner: parseJson<Owner>(found.bytes), version: found.version };
}

async function hasFiles(store: Store, name: TableName): Promise<boolean> {
  const folder = tableFolder(name);
  for await (const { key } of store.list(`${folder}/`)) if (isVisible(folder, key)) return true;
  return false;
}

async function describe(store: Store, name: TableName): Promise<ExistingTable | undefined> {
  const [owned, published, files] = await Promise.all([
    readOwner(store, name),
    readManifest(store, name),
    hasFiles(store, name),
  ]);
  if (!owned && !published && !files) return undefined;
  return {
    name,
    columns: (published?.manifest.columns ?? []).map((column) => ({
      name: column.name,
      native: column.type,
      nullable: column.nullable,
    })),
    ...(owned ? { owner: owned.owner.job } : {}),
    empty: published ? published.manifest.rows === 0 : !files,
  };
}

async function refusals(store: Store, work: Work): Promise<GodwitError[]> {
  const where = { table: tableText(work.name), target: work.target };
  const found: GodwitError[] = [];
  for (const part of [work.name.schema, work.name.name]) {
    if (Buffer.byteLength(encodeName(part)) > 255) {
      found.push(
        new GodwitError('NAME_TOO_LONG', `The name "${part}" is too long for a folder once it is encoded.`, where),
      );
    }
  }
  const lower = work.columns.map(({ name }) => name.toLowerCase());
  const twice = work.columns.find(({ name }, i) => lower.indexOf(name.toLowerCase()) < i);
  if (twice && work.writeFormat !== 'ndjson') {
    const sentence = `Columns "${twice.name}" and one other differ by case only, which readers of ${work.writeFormat} cannot tell apart; rename one with col_rename.`;
    found.push(new GodwitError('NAME_COLLISION', sentence, { ...where, column: twice.name }));
  }
  const taken = await ownershipRefusal(store, work);
  if (taken) found.push(taken);
  const changed = work.onSchemaChange === 'refuse' ? await drift(store, work) : [];
  if (changed.length > 0) {
    const sentence = `${where.table} has other columns in its last snapshot: ${changed.join('; ')}.`;
    found.push(new GodwitError('TARGET_DIFFERS', sentence, where));
  }
  return found;
}

/** Columns of a new snapshot against those of the one before it: each part says its own, the manifest the newest. */
async function drift(store: Store, work: Work): Promise<string[]> {
  if (work.mode !== 'dumping') return [];
  const { manifest } = (await readManifest(store, work.name)) ?? {};
  if (!manifest || manifest.job !== work.jobUid || manifest.mode !== 'dumping') return [];
  const before = new Map(manifest.columns.map((column) => [column.name, column.type]));
  const now = new Map(work.columns.map((column) => [column.name, column.native]));
  return [
    ...[...now].flatMap(([name, type]) => {
      const was = before.get(name);
      if (was === undefined) return [`${name}: new; earlier snapshots do not have it`];
      return was === type ? [] : [`${name}: ${was} in earlier snapshots and ${type} from now on`];
    }),
    ...[...before.keys()].filter((name) => !now.has(name)).map((name) => `${name}: not in new snapshots`),
  ];
}

async function ownershipRefusal(store: Store, work: Work): Promise<GodwitError | undefined> {
  if (work.existing !== 'refuse') return undefined;
  const owned = await readOwner(store, work.name);
  if (owned?.owner.job === work.jobUid) return undefined;
  if (!owned && !(await hasFiles(store, work.name))) return undefined;
  const table = tableText(work.name);
  const whose = owned ? 'belongs to another job' : 'has files that Godwit did not write';
  return new GodwitError('NOT_OWNED', `The folder ${tableFolder(work.name)} ${whose}; nothing in it was touched.`, {
    table,
    target: work.target,
  });
}

async function takeOwnership(store: Store, work: Work): Promise<void> {
  const owner: Owner = { installation: work.installation, job: work.jobUid, at: new Date().toISOString() };
  for (;;) {
    const refused = await ownershipRefusal(store, work);
    if (refused) throw refused;
    const owned = await readOwner(store, work.name);
    if (owned?.owner.job === work.jobUid) return;
    const done = owned
      ? await store.replaceIf(ownerKey(work.name), jsonBytes(owner), owned.version)
      : await store.putIfAbsent(ownerKey(work.name), jsonBytes(owner));
    if (done) return;
  }
}

async function prepare(store: Store, work: Work): Promise<void> {
  const published = await readManifest(store, work.name);
  if (published?.manifest.superseded.includes(encodeName(work.run))) {
    const table = tableText(work.name);
    throw new GodwitError('CONFLICT', `A newer run published ${table}; what this one had is gone. Start a new run.`, {
      table,
      run: work.run,
      target: work.target,
    });
  }
  await takeOwnership(store, work);
  // What an older generation of this run left will never be read.
  await removeStaging(
    store,
    work,
    ({ run, generation }) => run === encodeName(work.run) && generation < work.generation,
  );
}

// ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

type Write = {
  readonly work: Work;
  readonly claim: Claim;
  readonly batches: AsyncIterable<Batch>;
  readonly options: WriteOptions;
};

async function write(store: Store, { work, claim, batches, options }: Write): Promise<Counts> {
  if (claim.done) return claim.done;
  const by = randomUUID();
  const parts: StagedPart[] = [];
  const bad: BadRow[] = [];
  let rows = 0;
  let bytes = 0;
  try {
    for await (const batch of batches) {
      options.signal.throwIfAborted();
      if (batch.kind !== 'file') throw new GodwitError('INTERNAL', `A file target takes files, not ${batch.kind}.`);
      bad.push(...(batch.bad ?? []));
      // One part without rows keeps an empty table readable; more of them are litter.
      const needed = batch.rows > 0 || (claim.chunk.id === 1 && parts.length === 0 && batch.bytes > 0);
      if (needed) parts.push(await stage(store, { work, claim, by, number: parts.length + 1, batch }));
      if (batch.path !== '') await rm(batch.path, { force: true });
      rows += batch.rows;
      bytes += needed ? batch.bytes : 0;
      options.progress?.({ rows, bytes });
    }
    options.signal.throwIfAborted();
    if (bad.length > 0) await options.quarantine(bad);
    const counts = { read: rows + bad.length, written: rows, filtered: 0, quarantined: bad.length, bytes };
    reach('before-commit');
    await commitChunk(store, work, { claim, by, counts, parts });
    reach('after-commit');
    return counts;
  } catch (error) {
    // Best effort: nobody reads what is in no commit, and it goes with the staging.
    const mine = parts.map(({ key }) => key);
    if (error instanceof GodwitError && error.code === 'FENCED') await store.delete(mine).catch(() => {});
    throw error;
  }
}

type Stage = {
  readonly work: Work;
  readonly claim: Claim;
  readonly by: string;
  readonly number: number;
  readonly batch: FileBatch;
};

async function stage(store: Store, { work, claim, by, number, batch }: Stage): Promise<StagedPart> {
  const name = `${claim.chunk.id}.${claim.epoch}.${by}.${number}.${extension(work)}`;
  const key = `${stagingFolder(work)}parts/${name}`;
  const sha256 = await hashOf(batch.path);
  // The key is of this attempt alone: a taken one is our own upload whose answer was lost.
  await store.putIfAbsent(key, { file: batch.path });
  return { key, partition: batch.partition, rows: batch.rows, bytes: batch.bytes, sha256 };
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece as Buffer);
  return hash.digest('hex');
}

// ── Discarding ──────────────────────────────────────────────────────────────────────────────────────────────────────

async function discard(store: Store, work: Work): Promise<void> {
  const folder = tableFolder(work.name);
  const published = await readManifest(store, work.name);
  const run = encodeName(work.run);
  if (!holds(published?.manifest, work)) {
    // Copies of a publication which got no further.
    const copies: string[] = [];
    for await (const { key } of store.list(`${folder}/`)) {
      if (key.slice(key.lastIndexOf('/') + 1).startsWith(partPrefix(work))) copies.push(key);
    }
    await store.delete(copies);
  }
  await removeStaging(store, work, (staged) => staged.run === run && staged.generation <= work.generation);
  const owned = await readOwner(store, work.name);
  const untouched = !published && owned?.owner.job === work.jobUid && !(await hasFiles(store, work.name));
  if (untouched) await store.delete([ownerKey(work.name)]);
}
