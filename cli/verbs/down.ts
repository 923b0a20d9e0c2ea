import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { GodwitError } from '../../errors.ts';
import { removePostgres, runningPostgres } from '../../servers/postgres.ts';
import type { Context } from '../context.ts';
import { exits } from '../exit.ts';
import { usage } from '../output.ts';
import { alive, readState } from '../state.ts';

/** What Godwit makes in GODWIT_HOME; `--purge` removes these and nothing else. */
const made = ['temporal', 'spool', 'files', 'logs', 'bundle', 'secrets', 'key', 'state.json', 'ports.json', 'lock'];

export async function down({ config, out, options }: Context): Promise<number> {
  const { home } = config;
  const purge = options.purge === true;
  if (purge && options.yes !== true) await confirm(home);
  const state = readState(home);
  if (state) {
    process.kill(state.pid, 'SIGTERM');
    await gone(state.pid, (config.shutdownSeconds + 60) * 1000);
    out.text(`Stopped Godwit (process ${state.pid}).`);
  }
  // One whose Godwit was killed, before its watchdog came to it.
  const postgres = runningPostgres(join(home, 'postgres'));
  if (postgres) {
    await postgres.stop();
    out.text(`Stopped its PostgreSQL (process ${postgres.pid}).`);
  }
  if (!state && !postgres) out.text(`No Godwit runs in ${home}.`);
  if (purge) {
    await removePostgres(join(home, 'postgres'));
    for (const name of made) rmSync(join(home, name), { recursive: true, force: true });
    if (existsSync(home) && readdirSync(home).length === 0) rmdirSync(home);
    out.text(`Removed the installation's data in ${home}.`);
  }
  out.json({ type: 'down', stopped: state !== undefined, purged: purge, home });
  return exits.succeeded;
}

async function confirm(home: string): Promise<void> {
  if (!process.stdin.isTTY) throw usage('`down --purge` removes all data of the installation; say `--yes` to mean it.');
  const { confirm: ask, isCancel } = await import('@clack/prompts');
  const answer = await ask({ message: `Remove all jobs, runs, keys and sample data in ${home}?`, initialValue: false });
  if (isCancel(answer) || !answer) throw new GodwitError('CANCELED', 'Nothing was removed.');
}

async function gone(pid: number, milliseconds: number): Promise<void> {
  const deadline = performance.now() + milliseconds;
  while (alive(pid)) {
    if (performance.now() > deadline) {
      throw new GodwitError('CONFLICT', `Process ${pid} has not stopped after ${Math.round(milliseconds / 1000)} s.`);
    }
    await sleep(50);
  }
}
