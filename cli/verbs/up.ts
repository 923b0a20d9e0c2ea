import type { Context } from '../context.ts';
import { exits } from '../exit.ts';
import { duration } from '../output.ts';
import { running } from '../reach.ts';
import { untilSignal } from '../until.ts';

/** Serves until stopped, and keeps its data. */
export async function up({ config, out }: Context): Promise<number> {
  const there = await running({ ...config, url: undefined }, {});
  if (there !== undefined) {
    out.text(`Godwit already serves this GODWIT_HOME (${config.home}): ${there}`);
    out.json({ type: 'already-up', url: there, home: config.home });
    return exits.succeeded;
  }
  const began = performance.now();
  out.say('Starting PostgreSQL, Temporal, worker and API …');
  const { startEmbedded } = await import('../embedded.ts');
  const godwit = await startEmbedded({ config, kind: 'up', say: out.say });
  const { url, temporal } = godwit;
  out.text(`Godwit is up after ${duration(performance.now() - began)}.`);
  out.text(`  API          ${url}`);
  out.text(`  API's docs   ${url}/api/docs`);
  if (temporal.ui) out.text(`  Temporal UI  ${temporal.ui}`);
  out.text(`  Temporal     ${temporal.address}`);
  out.text(`  data         ${config.home}`);
  out.text('Stop it with Ctrl-C or `godwit down`; the data stays.');
  out.json({ type: 'up', url, docs: `${url}/api/docs`, temporal, home: config.home, pid: process.pid });
  return serve(godwit, out.say);
}

/** Until a signal or until a part ends by itself. */
async function serve(
  godwit: { stop(): Promise<void>; broken: Promise<Error> },
  say: (line: string) => void,
): Promise<number> {
  const signal = untilSignal();
  const end = await Promise.race([signal.then(() => undefined), godwit.broken]);
  if (end) say(`A part of Godwit ended by itself: ${end.message}`);
  else say('Stopping; chunks in flight end first. Ctrl-C again stops at once.');
  await godwit.stop();
  return end ? exits.failed : exits.succeeded;
}
