import { randomUUID } from 'node:crypto';
import type { Failure } from '../../db/schema.ts';
import { type Client, part } from '../client.ts';
import type { Context } from '../context.ts';
import { table, usage } from '../output.ts';
import { reach } from '../reach.ts';
import type { RunView } from '../views.ts';

type ScheduleView = {
  readonly job: string;
  readonly key: string;
  readonly tables: number;
  readonly expression: string;
  readonly timezone: string;
  readonly paused: boolean;
  readonly note: string | null;
  readonly actor: string | null;
  readonly next: readonly string[];
  readonly warnings: readonly string[];
  readonly inTemporal: boolean;
  readonly failure: Failure | null;
};

export async function schedules({ config, out }: Context, job?: string): Promise<undefined> {
  await using reached = await reach({ config, out });
  const all = await schedulesOf(reached.client, job);
  for (const one of all) out.json({ type: 'schedule', ...one });
  if (all.length === 0) {
    const whose = job === undefined ? 'No job has a schedule' : `The job ${job} has no schedule`;
    return void out.text(
      `${whose}: set \`cron\` in the mapping (docs/schedules.md), or start runs with \`godwit run\`.`,
    );
  }
  const rows = all.map((one) => [
    one.job,
    one.key,
    one.tables,
    one.expression,
    one.timezone,
    state(one),
    one.next[0] ?? '',
  ]);
  for (const line of table(rows, ['JOB', 'KEY', 'TABLES', 'WHEN', 'ZONE', 'STATE', 'NEXT'])) out.text(line);
  for (const { job: name, key, failure, warnings } of all) {
    if (failure) out.text(`  ${name} ${key}: ${failure.code}: ${failure.message}`);
    for (const warning of warnings) out.text(`  note: ${name} ${key}: ${warning}`);
  }
}

const schedulesOf = (client: Client, job?: string) =>
  client.list<ScheduleView>(job === undefined ? '/api/schedules' : `/api/jobs/${part(job)}/schedules`);

function state({ paused, note, actor, failure, inTemporal }: ScheduleView): string {
  if (failure) return 'refused';
  if (!paused) return inTemporal ? 'on' : 'on (Temporal not told yet)';
  return `paused${actor ? ` by ${actor}` : ''}${note ? `: ${note}` : ''}`;
}

/** Without --key: all schedules of the job; only one of them can be triggered. */
export const actOnSchedule =
  (action: 'pause' | 'resume' | 'trigger') =>
  async ({ config, out, options }: Context, job = ''): Promise<undefined> => {
    const { key, note } = options as { key?: string; note?: string };
    await using reached = await reach({ config, out });
    const { client } = reached;
    const keys = key === undefined ? (await schedulesOf(client, job)).map((one) => one.key) : [key];
    if (keys.length === 0) throw usage(`The job ${job} has no schedule; \`godwit run ${job}\` starts it.`);
    const path = (one: string) => `/api/jobs/${part(job)}/schedules/${part(one)}/${action}`;
    const body = note === undefined ? {} : { note };
    if (action === 'trigger') {
      const [only, other] = keys as [string, string?];
      if (other) throw usage(`The job ${job} has the schedules ${keys.join(', ')}: name one with --key.`);
      const run = await client.post<RunView>(path(only), body, { 'idempotency-key': randomUUID() });
      out.text(`Run ${run.job}/${run.number} started. Watch it: godwit show ${run.job}/${run.number} --watch`);
      return out.json({ type: 'run', ...run }) as undefined;
    }
    for (const one of keys) {
      const after = await client.post<ScheduleView>(path(one), body);
      const upcoming = after.next[0] ? `; next: ${after.next[0]}` : '';
      out.text(`${action === 'pause' ? 'Paused' : 'Resumed'} ${job} ${one}${upcoming}.`);
      out.json({ type: 'schedule', ...after });
    }
  };
