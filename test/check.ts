import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { wrongArrows } from './arrows.ts';

/** `npm run check`: format, lint, types, unused code and import arrows, side by side. Says each result, fails if one does. */
const project = join(import.meta.dirname, '..');

type Check = { readonly name: string; readonly run: () => Promise<{ ok: boolean; said: string }> };

const program = (name: string, command: string, ...args: string[]): Check => ({
  name,
  run: () =>
    new Promise((resolve) => {
      const child = spawn(join(project, 'node_modules', '.bin', command), args, {
        cwd: project,
        shell: process.platform === 'win32',
      });
      let said = '';
      child.stdout.on('data', (piece) => {
        said += piece;
      });
      child.stderr.on('data', (piece) => {
        said += piece;
      });
      child.on('error', (error) => resolve({ ok: false, said: error.message }));
      child.on('close', (code) => resolve({ ok: code === 0, said }));
    }),
});

const checks: readonly Check[] = [
  program('format and lint', 'biome', 'check', '--colors=off', ...(process.env.CI ? ['--max-diagnostics=200'] : [])),
  program('types', 'tsc', '--noEmit', '--pretty', 'false'),
  program('unused code', 'knip', '--no-progress'),
  {
    name: 'import arrows',
    run: async () => {
      const wrong = wrongArrows(project);
      return { ok: wrong.length === 0, said: wrong.join('\n') };
    },
  },
];

const results = await Promise.all(
  checks.map(async ({ name, run }) => {
    const start = performance.now();
    const result = await run();
    return { name, ...result, seconds: (performance.now() - start) / 1_000 };
  }),
);
for (const { ok, said } of results) if (!ok) console.log(`${said.trim()}\n`);
for (const { name, ok, seconds } of results)
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${name} (${seconds.toFixed(1)} s)`);
process.exitCode = results.every(({ ok }) => ok) ? 0 : 1;
