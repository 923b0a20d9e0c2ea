import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { projectFolder } from '../../config.ts';
import { applyJob } from '../../db/jobs.ts';
import { openDatabase } from '../../db/open.ts';
import { createRun } from '../../db/runs.ts';
import { parseMapping } from '../../mapping/parse.ts';
import { keyringOf } from '../../secrets/keyring.ts';
import { createSealer } from '../../secrets/seal.ts';
import { createDatabase, missing } from '../servers/shared.ts';
import { mappingOf } from './installation.ts';

const run = promisify(execFile);
const sealer = createSealer(keyringOf(Buffer.alloc(32, 1)));

test('the migrations are those of the schema', async () => {
  const folder = mkdtempSync(join(projectFolder, 'node_modules', '.godwit-migrations-'));
  try {
    cpSync(join(projectFolder, 'db', 'migrations'), folder, { recursive: true });
    const before = readdirSync(folder);
    const program = join(projectFolder, 'node_modules', 'drizzle-kit', 'bin.cjs');
    const out = folder.slice(projectFolder.length + 1);
    await run(
      process.execPath,
      [program, 'generate', '--dialect=postgresql', '--schema=./db/schema.ts', `--out=./${out}`],
      {
        cwd: projectFolder,
      },
    );
    expect(readdirSync(folder)).toEqual(before);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

describe.skipIf(await missing('postgres'))('the metadata', () => {
  test('processes that start at once migrate once and share one installation', async () => {
    await using metadata = await createDatabase();
    const script = `import { openDatabase } from ${JSON.stringify(join(projectFolder, 'db', 'open.ts'))};
      await using database = openDatabase(process.env.URL);
      await database.migrate();
      console.log(await database.installation());`;
    const start = () =>
      run(process.execPath, ['--input-type=module-typescript', '-e', script], {
        env: { ...process.env, URL: metadata.url },
      });
    const ids = (await Promise.all([start(), start(), start()])).map(({ stdout }) => stdout.trim());
    expect(new Set(ids).size).toBe(1);
    expect(ids[0]).toMatch(/^[0-9a-f-]{36}$/);
    await using database = openDatabase(metadata.url);
    const { rows } = await database.pool.query<{ n: number }>('SELECT count(*)::int AS n FROM godwit.migrations');
    expect(rows[0]?.n).toBe(
      readdirSync(join(projectFolder, 'db', 'migrations')).filter((name) => name.endsWith('.sql')).length,
    );
  });

  test('a database that is away is told as such, without its password', async () => {
    await using database = openDatabase('postgresql://u:pw-of-metadata@127.0.0.1:1/x');
    const error = await database.migrate().catch((thrown: unknown) => thrown as Error & { code: string });
    expect(error).toMatchObject({ code: 'DATABASE_UNREACHABLE' });
    expect(String(error?.message)).not.toContain('pw-of-metadata');
  });

  test('starts at once: one run goes, the others meet ALREADY_RUNNING; numbers have no gap and no double', async () => {
    await using metadata = await createDatabase();
    await using database = openDatabase(metadata.url);
    await database.migrate();
    const { db } = database;
    const { job } = await applyJob(db, sealer, { parsed: parseMapping(mappingOf('shop')) });
    const start = (more: object = {}) =>
      createRun(db, { jobId: job.id, workflowId: (name, number) => `${name}/${number}`, trigger: 'api', ...more });
    const tried = await Promise.allSettled(Array.from({ length: 12 }, () => start()));
    const refused = tried.filter((one) => one.status === 'rejected');
    expect(refused.map(({ reason }) => (reason as { code: string }).code)).toEqual(Array(11).fill('ALREADY_RUNNING'));
    const same = await Promise.all(Array.from({ length: 8 }, () => start({ allowActive: true, idempotencyKey: 'k' })));
    expect(new Set(same.map(({ run: made }) => made.id)).size).toBe(1);
    expect(same.filter(({ again }) => !again)).toHaveLength(1);
    const all = await Promise.all(Array.from({ length: 10 }, () => start({ allowActive: true })));
    expect(all.map(({ run: made }) => made.number).toSorted((a, b) => a - b)).toEqual([
      3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ]);
  });

  test('applying one job at once from many sides leaves one consistent version', async () => {
    await using metadata = await createDatabase();
    await using database = openDatabase(metadata.url);
    await database.migrate();
    const apply = (mode: string) =>
      applyJob(database.db, sealer, {
        parsed: parseMapping(mappingOf('shop', { tables: [{ table_name: 'a', mode }] })),
      });
    const done = await Promise.all(Array.from({ length: 10 }, (_, i) => apply(i % 2 ? 'replace' : 'dumping')));
    const { rows } = await database.pool.query<{ version: number; mode: string }>(
      "SELECT version, document->'tables'->0->>'mode' AS mode FROM godwit.job_documents ORDER BY version",
    );
    expect(done.filter(({ outcome }) => outcome === 'created')).toHaveLength(1);
    for (const [i, { version, mode }] of rows.entries()) {
      expect(version).toBe(i + 1);
      expect(mode).not.toBe(rows[i + 1]?.mode);
    }
    const uses = await database.pool.query('SELECT count(*)::int AS n FROM godwit.job_uses');
    expect(uses.rows).toEqual([{ n: 2 }]);
  });
});
