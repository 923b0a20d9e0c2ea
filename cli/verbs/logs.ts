import { setTimeout as sleep } from 'node:timers/promises';
import type { Context } from '../context.ts';
import { findRun } from '../find-run.ts';
import { paintOf } from '../output.ts';
import { reach } from '../reach.ts';
import { untilSignal } from '../until.ts';
import { type EventView, isClosed, type RunTableView, type RunView } from '../views.ts';

/** The events of a run in order; with --follow until it has ended or Ctrl-C. */
export async function logs({ config, out, options }: Context, wanted = ''): Promise<undefined> {
  await using reached = await reach({ config, out });
  const { client } = reached;
  const run = await findRun(client, wanted);
  const paint = paintOf(out);
  const colours = { info: 'dim', warn: 'yellow', error: 'red' } as const;
  const names = new Map<number, string>();
  let after = 0;
  let stopped = false;
  if (options.follow === true) void untilSignal().then(() => (stopped = true));
  for (;;) {
    const state = await client.get<RunView>(`/api/runs/${run.id}`);
    const events = await client.list<EventView>(`/api/runs/${run.id}/events`, { after, limit: 500 });
    if (events.some((event) => event.ordinal && !names.has(event.ordinal))) {
      const tables = await client.list<RunTableView>(`/api/runs/${run.id}/tables`, { limit: 500 });
      for (const table of tables) names.set(table.ordinal, `${table.sourceName} → ${table.target}`);
    }
    for (const event of events) {
      after = Math.max(after, event.id);
      const who = event.ordinal ? `${names.get(event.ordinal) ?? `table ${event.ordinal}`}: ` : '';
      out.text(
        `${event.at.slice(0, 23).replace('T', ' ')} ${paint(event.level.padEnd(5), colours[event.level])} ${event.kind.padEnd(18)} ${who}${event.message}`,
      );
      out.json({ type: 'event', ...event });
    }
    if (options.follow !== true || isClosed(state.status) || stopped) return;
    await sleep(300);
  }
}
