import { randomUUID } from 'node:crypto';
import type { Client } from '../client.ts';
import { part } from '../client.ts';
import type { Context } from '../context.ts';
import { exitOfRun, exits } from '../exit.ts';
import { onInterrupt } from '../interrupt.ts';
import { isFile } from '../mapping-file.ts';
import { type Output, usage } from '../output.ts';
import { reach, running } from '../reach.ts';
import type { RunView } from '../views.ts';
import { isClosed } from '../views.ts';
import { wantedRun } from '../wanted-run.ts';
import { look, showSummary, watchRun } from '../watch.ts';
import { applyMapping, mappingOf } from './jobs.ts';

/** Starts a run of a stored job, or of a mapping that is stored first, and watches it. The exit code is the outcome. */
export async function run({ config, out, options }: Context, wanted = ''): Promise<number> {
  const detach = options.detach === true;
  if (detach && options.watch === true) throw usage('--watch and --detach are opposites; give one of them.');
  if (detach && (await running(config)) === undefined) {
    throw usage('--detach needs a Godwit that goes on: start one with `godwit up` in another terminal.');
  }
  const asked = wantedRun(options);
  const mapping = isFile(wanted) ? await mappingOf(wanted, out) : undefined;
  await using reached = await reach({ config, out });
  const { client } = reached;
  const job = mapping ? (await applyMapping(client, mapping)).name : wanted;
  const started = await client.post<RunView>(`/api/jobs/${part(job)}/runs`, asked, {
    'idempotency-key': randomUUID(),
  });
  if (detach) {
    out.text(
      `Run ${started.job}/${started.number} started. Watch it: godwit show ${started.job}/${started.number} --watch`,
    );
    out.json({ type: 'run', ...started });
    return exits.succeeded;
  }
  return await watchToEnd({ client, embedded: reached.embedded, out }, started);
}

/** Watches with Ctrl-C as a question; the exit code is the run's outcome. */
export async function watchToEnd(
  { client, embedded, out }: { client: Client; embedded: boolean; out: Output },
  started: RunView,
): Promise<number> {
  const interrupt = onInterrupt({ out, embedded });
  try {
    const seen = await watchRun({ client, runId: started.id, out, signal: interrupt.signal, quiet: interrupt.asking });
    const choice = interrupt.choice();
    if (isClosed(seen.run.status) || choice === undefined) {
      showSummary(seen, out);
      return exitOfRun(seen.run.status);
    }
    const label = `${started.job}/${started.number}`;
    if (choice === 'cancel') {
      await client.post(`/api/runs/${started.id}/cancel`, {});
      out.say(`Canceling ${label} …`);
      const ended = await watchRun({ client, runId: started.id, out, signal: AbortSignal.timeout(120_000) });
      showSummary(ended, out);
      return exitOfRun(ended.run.status);
    }
    if (choice === 'pause') await client.post(`/api/runs/${started.id}/pause`, {});
    const state =
      choice === 'pause' ? `Paused ${label}: go on with \`godwit resume ${label}\`.` : detached(label, embedded);
    out.say(state);
    out.json({ type: 'run', ...(await look(client, started.id)).run });
    return exits.succeeded;
  } finally {
    interrupt.end();
  }
}

const detached = (label: string, embedded: boolean): string =>
  embedded
    ? `Detached from ${label}. Godwit stops with this command; the run goes on from its last checkpoint with \`godwit up\`.`
    : `Detached; ${label} goes on. Watch it: godwit show ${label} --watch`;
