/**
 * `npm run test:faults -- [--target KIND] [--rounds N] [--kills N] [--rows N] [--minutes N] [--seed N]`: the fault tests at
 * length. `postgres` is all of faults.test.ts (PostgreSQL and files together); another kind is asked as a target, and as a
 * source if it is one. Each round has another seed, counted up from `--seed`. Ends with the first round that fails; no round begins after `--minutes`,
 * and one that takes twice that (10 at least) is ended as a failure. Prints one line of figures per round and one for all.
 */
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { projectFolder } from '../../config.ts';
import { inWords, type Reported } from './verify.ts';

const { values } = parseArgs({
  options: {
    target: { type: 'string', default: 'postgres' },
    rounds: { type: 'string', default: '2' },
    kills: { type: 'string', default: '30' },
    rows: { type: 'string', default: '100000' },
    minutes: { type: 'string', default: '15' },
    seed: { type: 'string', default: String(randomInt(1, 2 ** 30)) },
  },
});
const testsOf: Readonly<Record<string, readonly string[]>> = {
  postgres: ['faults'],
  files: ['kinds'],
  mongodb: ['kinds', 'sources'],
  mariadb: ['kinds', 'sources'],
  mysql: ['kinds', 'sources'],
};
const tests = testsOf[values.target];
if (!tests) {
  console.error(`--target takes one of ${Object.keys(testsOf).join(', ')}, not ${values.target}`);
  process.exit(2);
}
const [rounds, kills, rows, minutes, seed] = [
  number('rounds'),
  number('kills'),
  number('rows'),
  number('minutes'),
  number('seed'),
];

const limit = Math.max(10, 2 * minutes);
const begun = Date.now();
const all: Reported[] = [];
let outcome = 'passed';
let done = 0;
for (; done < rounds && outcome === 'passed' && minutesGone(begun) < minutes; done++) {
  const roundBegun = Date.now();
  console.log(
    `round ${done + 1} of ${rounds}: ${values.target}, seed ${seed + done}, ${kills} kills in one run, ${rows} orders`,
  );
  const round = oneRound(seed + done);
  all.push(...round.reported);
  outcome = round.outcome;
  console.log(line(`round ${done + 1}`, roundBegun, round.reported));
}
console.log(line(`${done} of ${rounds} rounds, seeds from ${seed}, ${outcome}`, begun, all));
process.exit(outcome === 'passed' ? 0 : 1);

function oneRound(seed: number): { outcome: string; reported: Reported[] } {
  const folder = mkdtempSync(join(tmpdir(), 'godwit-soak-'));
  const figures = join(folder, 'figures');
  // A single test is 30 kills and what follows from them: its own limits, which say what they wait for, come first.
  const files = (tests ?? []).map((name) => `test/fault/${name}.test.ts`);
  const args = ['test/all.ts', ...files, '--testTimeout=900000', '--hookTimeout=300000'];
  const { status, signal } = spawnSync(process.execPath, args, {
    cwd: projectFolder,
    stdio: 'inherit',
    timeout: limit * 60_000,
    env: {
      ...process.env,
      GODWIT_FAULT_SEED: String(seed),
      GODWIT_FAULT_KILLS: String(kills),
      GODWIT_FAULT_ROWS: String(rows),
      GODWIT_FAULT_INTERRUPTIONS: '10',
      GODWIT_FAULT_FIGURES: figures,
      GODWIT_FAULT_TARGET: values.target === 'postgres' ? '' : values.target,
    },
  });
  try {
    const lines = readFileSync(figures, { encoding: 'utf8', flag: 'a+' }).split('\n').filter(Boolean);
    const reported = lines.map((text) => JSON.parse(text) as Reported);
    if (signal) return { outcome: `ended after ${limit} minutes`, reported };
    return { outcome: status === 0 ? 'passed' : `failed with seed ${seed}`, reported };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function line(what: string, since: number, reported: readonly Reported[]): string {
  const sum = (name: string) => reported.reduce((total, { [name]: figure }) => total + (Number(figure) || 0), 0);
  const names = ['kills', 'faults', 'writes', 'rows', 'lost', 'doubled', 'changed', 'leftovers'];
  const figures = Object.fromEntries(names.map((name) => [name, sum(name)]));
  return `soak: ${what}: ${minutesGone(since).toFixed(1)} minutes, ${inWords(figures)}`;
}

function minutesGone(since: number): number {
  return (Date.now() - since) / 60_000;
}

function number(name: keyof typeof values): number {
  const value = Number(values[name]);
  if (Number.isSafeInteger(value) && value > 0) return value;
  console.error(`--${name} takes a whole number above 0, not ${values[name]}`);
  process.exit(2);
}
