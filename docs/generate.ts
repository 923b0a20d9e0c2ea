/** Writes the pages that follow from the code: `npm run docs`. `test/unit/docs.test.ts` fails when they are stale. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectFolder } from '../config.ts';
import { codes } from '../errors.ts';

export function errorsPage(): string {
  const rows = Object.entries(codes).map(
    ([code, { kind, means, fix }]) =>
      `| \`${code}\` | ${kind === 'retry' ? 'tried again' : 'stops'} | ${means} | ${fix} |`,
  );
  return `# Errors

Every failure has a stable code, in the CLI, the API (\`application/problem+json\`, field \`code\`), the events of a run and
Temporal's own UI. *Tried again*: transient; Godwit repeats it with growing pauses of at most a minute until the job's
\`give_up_after\`, and shows the table as waiting meanwhile. *Stops*: permanent; the table or the run ends within seconds.
Messages never hold a row's or a key's value. Written from \`errors.ts\` by \`npm run docs\`.

| code | what Godwit does | what it means | what to do |
|---|---|---|---|
${rows.join('\n')}
`;
}

if (import.meta.main) writeFileSync(join(projectFolder, 'docs/errors.md'), errorsPage());
