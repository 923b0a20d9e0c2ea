/**
 * `_manifest.json` in a table's folder: written last, it names exactly the parts that are the table. A reader that must
 * never see half a publication reads this file, then the parts it names.
 */
import type { TableState, Work } from '../contract.ts';
import { parseJson } from './commits.ts';
import { manifestKey } from './layout.ts';
import type { Store } from './store.ts';

export type ManifestPart = {
  /** Relative to the table's folder. */
  readonly path: string;
  readonly partition: string;
  /** -1: not counted (of a table taken over). */
  readonly rows: number;
  readonly bytes: number;
  /** Empty: of a table taken over. */
  readonly sha256: string;
  readonly run: string;
};

/** How the latest state is read from the versions of all parts. Names are those of the files. */
export type Current = {
  readonly key: readonly string[];
  /** Of a key's rows the one that counts: `first` in mode logging, else `last`. */
  readonly keeps: 'first' | 'last';
  /** The column by which the table is followed, if it is in the files. */
  readonly bookmark?: { readonly column: string; readonly as: 'instant' | 'number' | 'text' };
};

/** `godwit_updated_at`: when a row came, one instant per run. The planner adds it. */
export const stamp = 'godwit_updated_at';

export type ManifestRun = {
  readonly run: string;
  readonly generation: number;
  readonly publishedAt: string;
  readonly rows: number;
  /** Dumping: the value of `migration_snapshot_date` in this run's rows. */
  readonly snapshotDate?: string;
};

export type Manifest = {
  readonly godwit: 'manifest';
  readonly version: 1;
  readonly job: string;
  readonly table: { readonly schema: string; readonly name: string };
  readonly mode: Work['mode'];
  readonly format: string;
  readonly columns: readonly { readonly name: string; readonly type: string; readonly nullable: boolean }[];
  readonly partitionedBy?: Work['partition'];
  readonly rows: number;
  readonly bytes: number;
  /** Oldest first; one in mode replace. */
  readonly runs: readonly ManifestRun[];
  readonly parts: readonly ManifestPart[];
  /** Files that are no longer the table and are about to go; empty when the publication has ended. */
  readonly removing: readonly string[];
  /** Runs that never got published and whose staging is gone: they cannot go on. */
  readonly superseded: readonly string[];
  // The next ones are of incremental modes alone.
  /** The last publication, also one that brought no row. What goes on from it names it. */
  readonly published?: Publication;
  readonly remembers?: { readonly installation: string; readonly target: string; readonly state: TableState };
  readonly current?: Current;
  /** Digests of the rows that came last (recent.ts), relative to the table's folder. */
  readonly recent?: string;
};

export type Publication = { readonly run: string; readonly generation: number };

export async function readManifest(
  store: Store,
  name: Work['name'],
): Promise<{ manifest: Manifest; version: string } | undefined> {
  const found = await store.get(manifestKey(name));
  return found && { manifest: parseJson<Manifest>(found.bytes), version: found.version };
}

export const holds = (manifest: Manifest | undefined, work: Work): boolean => {
  if (!manifest) return false;
  const publications = manifest.published ? [...manifest.runs, manifest.published] : manifest.runs;
  return publications.some((one) => isOf(one, work));
};

export const isOf = ({ run, generation }: Publication, work: Publication): boolean =>
  run === work.run && generation === work.generation;

/** Without those of a folder that was taken over. */
export const sumOf = (parts: readonly ManifestPart[], what: 'rows' | 'bytes'): number =>
  parts.reduce((total, part) => total + Math.max(0, part[what]), 0);
