import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { wrongArrows } from '../arrows.ts';

async function project(files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'godwit-arrows-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
  }
  return folder;
}

test('arrows that exist are no fault', async () => {
  const folder = await project({
    'api/runs.ts': "import { open } from '../db/open.ts';\nexport * from './more.ts';",
    'workflows/run.ts': "import type { Activities } from '../activities/contract.ts';",
    'cli/embedded.ts':
      "const { Database } = await import('../db/open.ts');\ntype Api = typeof import('../api/app.ts');",
    'mapping/document.ts': "import * as files from '../connectors/files/settings.ts';",
  });
  expect(wrongArrows(folder)).toEqual([]);
});

test('each import that points the wrong way is one sentence', async () => {
  const folder = await project({
    'api/sources.ts': "import {\n  Source,\n} from '../connectors/postgres/source.ts';\nimport pg from 'pg';",
    'workflows/run.ts': "import { move } from '../activities/move.ts';\nimport 'node:fs';",
    'connectors/kafka/source.ts': "export { Context } from '@temporalio/activity';\nawait import('../../db/open.ts');",
    'cli/main.ts': "import { Database } from '../db/open.ts';",
    'mapping/document.ts': "import { copy } from '../connectors/postgres/copy-out.ts';",
  });
  expect(wrongArrows(folder).sort()).toEqual([
    'api/sources.ts imports connectors/postgres/source.ts: there is no arrow from api to it',
    'api/sources.ts imports pg: api must not know it',
    'cli/main.ts imports db/open.ts: only `import()` may go from cli to it',
    'connectors/kafka/source.ts imports @temporalio/activity: connectors must not know it',
    'connectors/kafka/source.ts imports db/open.ts: there is no arrow from connectors to it',
    'mapping/document.ts imports connectors/postgres/copy-out.ts: there is no arrow from mapping to it',
    'workflows/run.ts imports activities/move.ts: only `import type` may go from workflows to it',
    'workflows/run.ts imports node:fs: workflows must not know it',
  ]);
});
