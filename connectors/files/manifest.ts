/**
 * `_manifest.json` in a table's folder: written last, it names exactly the parts that are the table. A reader that must
 * never see half a publication reads this file, then the parts it names.
 */
import type { Work } from '../contract.ts';
import { parseJson } from './commits.ts';
import { manifestKey } from './layout.ts';
import type { Store } from './store.ts';

export type ManifestPart = {
  /** Relative to the table's folder. */
  readonly path: string;
  readonly partition: string;
  readonly rows: number;
  readonly bytes: number;
  readonly sha256: string;
  readonly run: string;
};

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
};

export async function readManifest(
  store: Store,
  name: Work['name'],
): Promise<{ manifest: Manifest; version: string } | undefined> {
  const found = await store.get(manifestKey(name));
  return found && { manifest: parseJson<Manifest>(found.bytes), version: found.version };
}

export const holds = (manifest: Manifest | undefined, work: Work): boolean =>
  manifest?.runs.some(({ run, generation }) => run === work.run && generation === work.generation) ?? false;
