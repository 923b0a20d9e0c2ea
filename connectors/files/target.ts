/** Folders and buckets of Parquet, CSV or NDJSON files as a target. */
import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GodwitError } from '../../errors.ts';
import { reach } from '../../faults.ts';
import {
  type BadRow,
  type Batch,
  type Claim,
  type Counts,
  type ExistingTable,
  type FileBatch,
  type Mode,
  type TableName,
  type Target,
  tableText,
  type Work,
  type WriteOptions,
} from '../contract.ts';
import { chunkLogs, claimChunk, commitChunk, commitsOf, jsonBytes, parseJson, type StagedPart } from './commits.ts';
import { hashOf, tidyTable } from './compact.ts';
import { openPartsDb, type PartsDb } from './duckdb.ts';
import { beginIncrement, changed, isIncremental, refuseChanged, remember, stateOf } from './incremental.ts';
import {
  encodeName,
  extension,
  isVisible,
  ownerKey,
  partPrefix,
  recentName,
  stagingFolder,
  tableFolder,
} from './layout.ts';
import { openLocal } from './local.ts';
import { holds, readManifest, stamp, sumOf } from './manifest.ts';
import { publishTable, removeStaging } from './publish.ts';
import { openSifter } from './recent.ts';
import { openS3 } from './s3.ts';
import { type Compact, compactByDefault, type Settings } from './settings.ts';
import type { Store } from './store.ts';
import { fitOf } from './types.ts';

export type OpenOptions = {
  /** Folders below which `destination_type: files` may write. */
  readonly fileRoots: readonly string[];
  /** The worker's scratch folder. */
  readonly spool?: string;
};

type Owner = { readonly installation: string; readonly job: string; readonly at: string };

/** Settings as `parseSettings` gives them. A bucket is not reached before the first use. */
export async function openTarget(settings: Settings, { fileRoots, spool }: OpenOptions): Promise<Target> {
  const store =
    settings.destination_type === 's3' ? openS3(settings) : await openLocal({ path: settings.path, fileRoots });
  return targetOf(store, { compact: settings.compact ?? compactByDefault, ...(spool ? { spool } : {}) });
}

type Options = { readonly compact?: Compact; readonly spool?: string };

export function targetOf(store: Store, { compact = compactByDefault, spool }: Options = {}): Target {
  const db = openPartsDb(spool ?? join(tmpdir(), 'godwit-spool'));
  return {
    system: 'files',
    formats: ['parquet', 'csv', 'ndjson'],
    partitions: ['datetime', 'int', 'str'],
    appends: true,
    refusesMode,
    // Of one step of a path; what must be encoded takes three bytes each, which `refusals` looks at.
    nameLimit: 255,
    holds: { endOfDay: false },
    identity: () => store.identity(),
    check: () => store.check(),
    fit: (table, format) => table.columns.map((column) => fitOf(column, format)),
    describe: (name) => describe(store, name),
    refusals: (work) => refusals(store, work),
    drift: (work) => drift(store, work),
    prepare: (work) => prepare(store, work),
    claim: (work, chunk) => claimChunk(store, work, chunk),
    write: (work, claim, batches, options) => write(store, db, { work, claim, batches, options }),
    async finish(work) {
      const { manifest } = (await readManifest(store, work.name)) ?? {};
      if (!holds(manifest, work)) await commitsOf(store, work);
    },
    async publish(works) {
      for (const work of works) {
        await refuseChanged(store, work);
        await takeOwnership(store, work);
        await publishTable(store, work, db);
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
    sizes: (names) => Promise.all(names.map((name) => sizeOf(store, name))),
    state: (work) => stateOf(store, work),
    remember: (work, state) => remember(store, work, state, () => takeOwnership(store, work)),
    tidy: (work, signal) => tidyTable({ store, db, work, compact, signal }),
    async [Symbol.asyncDispose]() {
      await db[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}

const refusesMode = (mode: Mode): string | undefined =>
  mode === 'mirroring'
    ? 'mirroring deletes rows, which files cannot; use syncing (what is deleted at the source stays), replace (all rows with every run), or mirror into a database'
    : undefined;

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

/** Of the parts that are the table. */
async function sizeOf(store: Store, name: TableName): Promise<number | undefined> {
  const published = await readManifest(store, name);
  return published && sumOf(published.manifest.parts, 'bytes');
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
  const other = work.increment && !taken ? await changed(store, work) : undefined;
  if (other) found.push(other);
  const drifted = work.onSchemaChange === 'refuse' ? await drift(store, work) : [];
  if (drifted.length > 0) {
    const last = work.mode === 'dumping' ? 'in its last snapshot' : 'in its files';
    const sentence = `${where.table} has other columns ${last}: ${drifted.join('; ')}.`;
    found.push(new GodwitError('TARGET_DIFFERS', sentence, where));
  }
  return found;
}

/** Columns of new parts against those of the ones that stay: each part says its own, the manifest the newest. */
async function drift(store: Store, work: Work): Promise<string[]> {
  const dumping = work.mode === 'dumping';
  if (!dumping && !work.increment) return [];
  const { manifest } = (await readManifest(store, work.name)) ?? {};
  if (!manifest || manifest.job !== work.jobUid || manifest.mode !== work.mode) return [];
  const words = dumping
    ? { before: 'earlier snapshots', without: 'earlier snapshots do not have it', now: 'new snapshots' }
    : { before: 'earlier rows', without: 'NULL in earlier rows', now: 'new rows' };
  const before = new Map(manifest.columns.map((column) => [column.name, column.type]));
  const now = new Map(work.columns.map((column) => [column.name, column.native]));
  return [
    ...[...now].flatMap(([name, type]) => {
      const was = before.get(name);
      if (was === undefined) return name === stamp ? [] : [`${name}: new; ${words.without}`];
      return was === type ? [] : [`${name}: ${was} in ${words.before} and ${type} from now on`];
    }),
    ...[...before.keys()].filter((name) => !now.has(name)).map((name) => `${name}: not in ${words.now}`),
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
  await refuseChanged(store, work);
  await takeOwnership(store, work);
  if (work.increment) await beginIncrement(store, work);
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

async function write(store: Store, db: PartsDb, { work, claim, batches, options }: Write): Promise<Counts> {
  if (claim.done) return claim.done;
  await refuseChanged(store, work, false);
  await using sifter = isIncremental(work) ? await openSifter({ store, db, work, signal: options.signal }) : undefined;
  const by = randomUUID();
  const parts: StagedPart[] = [];
  const bad: BadRow[] = [];
  let rows = 0;
  let unchanged = 0;
  let bytes = 0;
  try {
    for await (const batch of batches) {
      options.signal.throwIfAborted();
      if (batch.kind !== 'file') throw new GodwitError('INTERNAL', `A file target takes files, not ${batch.kind}.`);
      bad.push(...(batch.bad ?? []));
      // One part without rows keeps an empty table readable; more of them are litter.
      const first = claim.chunk.id === 1 && parts.length === 0 && batch.bytes > 0 && !work.increment;
      const sifted = batch.rows > 0 && sifter ? await sifter.sift(batch) : { part: batch, unchanged: 0 };
      const part = batch.rows > 0 || first ? sifted.part : undefined;
      if (part) {
        parts.push(
          await stage(store, { work, claim, by, number: parts.length + 1, batch: part, digests: sifted.digests }),
        );
        bytes += part.bytes;
      }
      if (batch.path !== '') await rm(batch.path, { force: true });
      rows += batch.rows;
      unchanged += sifted.unchanged;
      options.progress?.({ rows, bytes });
    }
    options.signal.throwIfAborted();
    if (bad.length > 0) await options.quarantine(bad);
    const written = rows - unchanged;
    const counts: Counts = {
      read: rows + bad.length,
      written,
      filtered: 0,
      quarantined: bad.length,
      bytes,
      // A file does not know whether a row is a new one or a new version of one.
      ...(work.increment ? { unchanged, inserted: written } : {}),
    };
    reach('before-commit');
    await commitChunk(store, work, { claim, by, counts, parts });
    reach('after-commit');
    return counts;
  } catch (error) {
    // Best effort: nobody reads what is in no commit, and it goes with the staging.
    const mine = parts.flatMap(({ key, digests }) => (digests ? [key, digests] : [key]));
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
  readonly digests: string | undefined;
};

async function stage(store: Store, { work, claim, by, number, batch, digests }: Stage): Promise<StagedPart> {
  const name = `${claim.chunk.id}.${claim.epoch}.${by}.${number}.${extension(work)}`;
  const key = `${stagingFolder(work)}parts/${name}`;
  const sha256 = await hashOf(batch.path);
  // The key is of this attempt alone: a taken one is our own upload whose answer was lost.
  await store.putIfAbsent(key, { file: batch.path });
  const told = `${key}.digests`;
  if (digests !== undefined) await store.putIfAbsent(told, { file: digests });
  const { partition, rows, bytes } = batch;
  return { key, partition, rows, bytes, sha256, ...(digests === undefined ? {} : { digests: told }) };
}

// ── Discarding ──────────────────────────────────────────────────────────────────────────────────────────────────────

async function discard(store: Store, work: Work): Promise<void> {
  const folder = tableFolder(work.name);
  const published = await readManifest(store, work.name);
  const run = encodeName(work.run);
  if (!holds(published?.manifest, work)) {
    // Copies of a publication which got no further.
    const copies: string[] = [];
    const current = new Set(published?.manifest.parts.map(({ path }) => `${folder}/${path}`));
    for await (const { key } of store.list(`${folder}/`)) {
      const mine =
        key.slice(key.lastIndexOf('/') + 1).startsWith(partPrefix(work)) || key === `${folder}/${recentName(work)}`;
      if (mine && !current.has(key)) copies.push(key);
    }
    await store.delete(copies);
  }
  await removeStaging(store, work, (staged) => staged.run === run && staged.generation <= work.generation);
  const owned = await readOwner(store, work.name);
  const untouched = !published && owned?.owner.job === work.jobUid && !(await hasFiles(store, work.name));
  if (untouched) await store.delete([ownerKey(work.name)]);
}
