/** The plan of some tables of a job outside of any run, with its source and targets open. */
import type { Source, Target } from '../connectors/contract.ts';
import { effectiveEndpoint } from '../db/endpoints.ts';
import type { JobWithDocument } from '../db/jobs.ts';
import { settingsOf } from '../db/settings.ts';
import { GodwitError } from '../errors.ts';
import { sourceSchema } from '../mapping/defaults.ts';
import type { JobDocument } from '../mapping/document.ts';
import type { Deps } from './deps.ts';
import type { Moment } from './plan/increment.ts';
import { type PlannedTable, planRun } from './plan/index.ts';

export type Planned = AsyncDisposable & {
  readonly source: Source;
  readonly targets: ReadonlyMap<string, Target>;
  readonly tables: readonly PlannedTable[];
  /** Of the job, else of the installation. */
  readonly timezone: string;
};

export type Wish = {
  readonly document: JobDocument;
  /** Stands for a run in the works. */
  readonly run: string;
  readonly snapshotDate: Date;
  /** Aliases; absent: all. */
  readonly aliases?: readonly string[];
  /** Absent: all tables. */
  readonly tables?: readonly string[];
  readonly moment?: Moment;
  readonly signal: AbortSignal;
};

/** The caller disposes it when done with the targets. Throws what the source or a target says. */
export async function planSome(deps: Deps, job: Pick<JobWithDocument, 'uid'>, wish: Wish): Promise<Planned> {
  const { db, sealer, openers } = deps;
  const { document, run, snapshotDate, aliases, tables, moment, signal } = wish;
  await using stack = new AsyncDisposableStack();
  const from = await effectiveEndpoint(db, sealer, { kind: 'source', name: document.source });
  const source = stack.use(await openers.openSource(from));
  const targets = new Map<string, Target>();
  for (const alias of aliases ?? Object.keys(document.targets)) {
    const use = document.targets[alias];
    if (!use) throw new GodwitError('NOT_FOUND', `The job has no target "${alias}" any more.`, { target: alias });
    targets.set(alias, stack.use(await openers.target(use.target)));
  }
  const timezone = document.timezone ?? (await settingsOf(db, deps.config)).timezone;
  const planned = await planRun({
    document,
    source,
    defaultSchema: sourceSchema(from) ?? '',
    targets: new Map(
      [...targets].map(([alias, target]) => [alias, { target, use: document.targets[alias] as never }] as const),
    ),
    installation: deps.installation,
    jobUid: job.uid,
    run,
    snapshotDate: snapshotDate.toISOString(),
    timezone,
    signal,
    chunkBytes: deps.config.chunkBytes,
    impatient: true,
    ...(moment ? { moment } : {}),
    ...(tables ? { asked: { tables } } : {}),
  });
  const kept = stack.move();
  return { source, targets, tables: planned, timezone, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}
