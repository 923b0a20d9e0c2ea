/** What lies between two runs of an incremental mode: what is remembered, and from which publication an increment goes on. */
import { GodwitError } from '../../errors.ts';
import { type TableState, tableText, type Work } from '../contract.ts';
import { jsonBytes, parseJson } from './commits.ts';
import { baseKey, tableFolder } from './layout.ts';
import {
  type Current,
  holds,
  isOf,
  type Manifest,
  type ManifestPart,
  type Publication,
  readManifest,
  stamp,
} from './manifest.ts';
import type { Store } from './store.ts';

export const isIncremental = ({ mode }: Pick<Work, 'mode'>): boolean => mode === 'syncing' || mode === 'logging';

const instants = ['date', 'timestamp', 'timestamptz'];
const number = /^(u?int|decimal|float)/;

/** How the latest state is read. A backfill does not say by what the table is followed: that stays. */
export function currentOf(work: Work, old: Manifest | undefined): Current | undefined {
  if (!isIncremental(work) || work.key.length === 0) return undefined;
  if (!work.state && work.increment) return old?.current;
  const followed = work.state?.follow.column;
  const column = work.columns.find(({ from }) => from !== undefined && from === followed)?.name;
  const kind = work.source.columns.find(({ name }) => name === followed)?.type.kind ?? 'text';
  const as = instants.includes(kind) ? 'instant' : number.test(kind) ? 'number' : 'text';
  return {
    key: work.key,
    keeps: work.mode === 'logging' ? 'first' : 'last',
    ...(column === undefined ? {} : { bookmark: { column, as } }),
  };
}

/** Of this table as the work would write it; one of another form is another table, and is loaded anew. */
export async function stateOf(store: Store, work: Work): Promise<TableState | undefined> {
  const { manifest } = (await readManifest(store, work.name)) ?? {};
  return manifest && goesOn(manifest, work) ? manifest.remembers?.state : undefined;
}

function goesOn(manifest: Manifest, work: Work): boolean {
  const { remembers, current, partitionedBy: by } = manifest;
  if (!remembers || !current || manifest.job !== work.jobUid) return false;
  const ours = remembers.installation === work.installation && remembers.target === work.target;
  const same = (a: unknown, b: unknown) => JSON.stringify(a ?? null) === JSON.stringify(b ?? null);
  const partition = work.partition && [work.partition.column, work.partition.format];
  return (
    ours &&
    manifest.format === work.writeFormat &&
    same(by && [by.column, by.format], partition) &&
    same(current.key, work.key)
  );
}

/** Undefined when an increment can go on from what is there. `thoroughly`: looks at the parts too. */
export async function changed(store: Store, work: Work, thoroughly = true): Promise<GodwitError | undefined> {
  const { manifest } = (await readManifest(store, work.name)) ?? {};
  if (holds(manifest, work)) return undefined;
  const where = { table: tableText(work.name), target: work.target };
  if (!manifest || !goesOn(manifest, work)) {
    return new GodwitError(
      'STATE_CHANGED',
      `${where.table} is not as the last run left it; load it with --full.`,
      where,
    );
  }
  const gone = thoroughly ? await lostParts(store, work, manifest.parts) : 0;
  if (gone === 0) return undefined;
  const sentence = `${gone} of the ${manifest.parts.length} files of ${where.table} are gone or changed; load it with --full.`;
  return new GodwitError('STATE_CHANGED', sentence, where);
}

export async function refuseChanged(store: Store, work: Work, thoroughly = true): Promise<void> {
  const refused = work.increment && (await changed(store, work, thoroughly));
  if (refused) throw refused;
}

async function lostParts(store: Store, { name }: Work, parts: readonly ManifestPart[]): Promise<number> {
  const folder = tableFolder(name);
  const wanted = new Map(parts.map(({ path, bytes }) => [path, bytes]));
  for await (const { key, size } of store.list(`${folder}/`)) {
    const path = key.slice(folder.length + 1);
    if (wanted.get(path) === size) wanted.delete(path);
  }
  return wanted.size;
}

/** Notes from which publication the increment goes on. A second call finds the note, and refuses when that is not the newest. */
export async function beginIncrement(store: Store, work: Work): Promise<void> {
  const { manifest } = (await readManifest(store, work.name)) ?? {};
  if (!manifest?.published || holds(manifest, work)) return;
  const { run, generation } = manifest.published;
  if (await store.putIfAbsent(baseKey(work), jsonBytes({ run, generation }))) return;
  await refuseOtherBase(store, work, manifest);
}

/**
 * An increment is complete only together with the parts it was read for: one that another run has published on is void.
 * The note goes before the chunks' logs when staging is removed, so that where it is they all are.
 */
export async function refuseOtherBase(store: Store, work: Work, manifest: Manifest | undefined): Promise<void> {
  const found = await store.get(baseKey(work));
  const base = found && parseJson<Publication>(found.bytes);
  if (base && manifest?.published && isOf(base, manifest.published)) return;
  const table = tableText(work.name);
  const sentence = `Another run published ${table} after this one began; it added nothing. Start a new run.`;
  throw new GodwitError('CONFLICT', sentence, { table, run: work.run, target: work.target });
}

/** Takes over what lies in the folder as the table, and remembers the state. `take` makes the folder ours first, or refuses. */
export async function remember(store: Store, work: Work, state: TableState, take: () => Promise<void>): Promise<void> {
  await take();
  const folder = tableFolder(work.name);
  for (;;) {
    const seen = await readManifest(store, work.name);
    const kept =
      seen && seen.manifest.job === work.jobUid && seen.manifest.format === work.writeFormat
        ? seen.manifest
        : undefined;
    const parts = kept?.parts ?? (await foreignParts(store, work, folder));
    const published: Publication = { run: state.run, generation: 0 };
    const { partition } = work;
    const current = currentOf({ ...work, state }, kept);
    const manifest: Manifest = {
      godwit: 'manifest',
      version: 1,
      job: work.jobUid,
      table: { schema: work.name.schema, name: work.name.name },
      mode: work.mode,
      format: work.writeFormat,
      // Another tool's rows do not say when they came.
      columns:
        kept?.columns ??
        work.columns
          .filter(({ name }) => name !== stamp)
          .map(({ name, native, nullable }) => ({ name, type: native, nullable })),
      ...(partition ? { partitionedBy: partition } : {}),
      rows: kept?.rows ?? 0,
      bytes: parts.reduce((sum, part) => sum + part.bytes, 0),
      runs: kept?.runs ?? [],
      parts,
      removing: kept?.removing ?? [],
      superseded: kept?.superseded ?? [],
      published,
      remembers: { installation: work.installation, target: work.target, state },
      ...(current ? { current } : {}),
    };
    const key = `${folder}/_manifest.json`;
    const bytes = jsonBytes(manifest);
    if (seen ? await store.replaceIf(key, bytes, seen.version) : await store.putIfAbsent(key, bytes)) return;
  }
}

async function foreignParts(store: Store, work: Work, folder: string): Promise<ManifestPart[]> {
  const parts: ManifestPart[] = [];
  for await (const { key, size } of store.list(`${folder}/`)) {
    const path = key.slice(folder.length + 1);
    const steps = path.split('/');
    if (steps.some((step) => /^[_.]/.test(step)) || !path.endsWith(`.${work.writeFormat}`)) continue;
    parts.push({ path, partition: steps.slice(0, -1).join('/'), rows: -1, bytes: size, sha256: '', run: work.run });
  }
  if (parts.length > 0) return parts.sort((a, b) => (a.path < b.path ? -1 : 1));
  const table = tableText(work.name);
  const sentence = `The folder ${folder} has no file of format ${work.writeFormat} that could be ${table}.`;
  throw new GodwitError('TABLE_MISSING', sentence, { table, target: work.target });
}
