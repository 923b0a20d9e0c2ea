import type { Client } from '@temporalio/client';
import type { Logger } from 'pino';
import type { Database } from '../db/open.ts';
import type { SettingsPlace } from '../db/settings.ts';
import type { Sealer } from '../secrets/seal.ts';
import type { queues } from '../workflows/messages.ts';

/** What the API works with; one object, handed in by the server or a test. */
export type ApiDeps = {
  readonly database: Database;
  readonly sealer: Sealer;
  readonly client: Client;
  readonly queues: typeof queues;
  readonly log: Logger;
  /** Where the settings of the installation are, beside the database. Absent: nowhere. */
  readonly settings?: SettingsPlace;
  /** Bearer token; without one only loopback may call, under its own name. */
  readonly token?: string;
  /** Decodes payloads for Temporal's UI under a path nobody can guess, for pages of that origin alone. */
  readonly codec?: {
    readonly path: string;
    readonly origin: string;
    readonly handle: (request: Request) => Promise<Response>;
  };
  /** How long a test, browse or plan may take. Default 60 s. */
  readonly probeMs?: number;
  /** How long a pause, resume … may take to be answered by a worker. Default 20 s. */
  readonly updateMs?: number;
};
