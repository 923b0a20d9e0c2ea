import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { program } from '../../cli/main.ts';
import { environmentDocs } from '../../config.ts';

const page = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');

it('docs/settings.md says of every variable what config.ts says', () => {
  const lines = environmentDocs().map(({ name, means }) => `| \`${name}\` | ${means.replaceAll('|', '\\|')} |`);
  const table = page('settings.md')
    .split('\n')
    .filter((line) => line.startsWith('| `'));
  expect(table).toEqual(lines);
});

it('docs/cli.md knows every verb', () => {
  const docs = page('cli.md');
  const verbs = program(async () => {}).commands.map((command) => command.name());
  expect(verbs.length).toBeGreaterThan(20);
  for (const verb of verbs) expect(docs, verb).toMatch(new RegExp(`[\`|\\\\]${verb}\\b`));
});
