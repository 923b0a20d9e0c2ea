import type { Client } from '@temporalio/client';
import type { Config } from '../config.ts';
import type { Db } from '../db/open.ts';
import type { Sealer } from '../secrets/seal.ts';
import type { DuckDb } from '../transforms/duckdb.ts';
import type { Endpoints } from './endpoints.ts';
import type { Openers } from './openers.ts';

/** What activities work with; one object, handed in by the worker. */
export type Deps = {
  readonly db: Db;
  readonly sealer: Sealer;
  readonly installation: string;
  readonly endpoints: Endpoints;
  readonly openers: Openers;
  readonly config: Pick<Config, 'slots' | 'chunkBytes' | 'spool' | 'duckdbBytes' | 'home' | 'envAllow' | 'given'>;
  /** Temporal, for the state of other runs' workflows. */
  readonly client: Client;
  /** Aborted when the worker is told to stop: chunks end at once and are done again elsewhere. */
  readonly stopping: AbortSignal;
  /** Snapshots this process keeps, by run: so that the end of a run lets go at once. */
  readonly keepers: Map<string, () => void>;
  /** See activities/transform.ts; the worker closes it. */
  readonly duckdb: { opened?: Promise<DuckDb> | undefined; users?: number; idle?: NodeJS.Timeout };
};
