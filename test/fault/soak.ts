/**
 * `npm run test:faults [ROUNDS]`: the fault tests at length: more rows, 30 kills in one run, each round with another seed
 * (GODWIT_FAULT_SEED repeats one). Ends with the first round that fails.
 */
import { spawnSync } from 'node:child_process';
import { projectFolder } from '../../config.ts';

const rounds = Number(process.argv[2] ?? 3);
for (let round = 1; round <= rounds; round++) {
  console.log(`round ${round} of ${rounds}`);
  const { status } = spawnSync(process.execPath, ['test/all.ts', '--project', 'fault', '--project', 'canary'], {
    cwd: projectFolder,
    stdio: 'inherit',
    env: { ...process.env, GODWIT_FAULT_LONG: '1' },
  });
  if (status !== 0) process.exit(status ?? 1);
}
