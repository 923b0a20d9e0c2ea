import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { environmentDocs } from '../../config.ts';
import { errorsPage } from '../../docs/generate.ts';

const read = (page: string) => readFileSync(new URL(`../../docs/${page}`, import.meta.url), 'utf8');

test('docs/errors.md is what errors.ts says (npm run docs writes it)', () => {
  expect(read('errors.md')).toBe(errorsPage());
});

test('docs/settings.md names every environment variable', () => {
  const page = read('settings.md');
  for (const { name } of environmentDocs()) expect(page).toContain(`\`${name}\``);
});
