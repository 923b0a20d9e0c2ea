/** A target's work in a process of its own, which named points of the code may stop or kill. */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Work } from '../../connectors/contract.ts';

/** What it printed, or the signal that ended it. */
export type Child = { readonly child: ChildProcess; readonly said: Promise<string> };

let number = 0;

/** Starts a program beside this file; its argument goes through a file in the folder. `faults`: see `armed`. */
export function startChild(program: string, folder: string, argument: { readonly work: Work }, faults: string): Child {
  const file = join(folder, `argument-${argument.work.run}-${++number}.json`);
  writeFileSync(file, JSON.stringify(argument));
  const child = spawn(process.execPath, [fileURLToPath(new URL(program, import.meta.url)), file], {
    env: { ...process.env, GODWIT_FAULT_FOLDER: faults },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout?.on('data', (data) => {
    text += data;
  });
  const said = new Promise<string>((resolve) => {
    child.on('exit', (_, signal) => resolve(signal ?? text.trim()));
  });
  return { child, said };
}

/** A folder of faults with one point armed. */
export async function armed(folder: string, point: string, signal: string): Promise<string> {
  const faults = await mkdtemp(join(folder, 'faults-'));
  await writeFile(join(faults, point), signal);
  return faults;
}
