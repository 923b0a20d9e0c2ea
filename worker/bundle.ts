/**
 * The workflows as one bundle, made once and cached under their content (decision 27): a worker that bundles in process
 * is a third larger for as long as it lives. Run by itself it bundles beforehand: `worker/bundle.ts FOLDER`.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { projectFolder } from '../config.ts';
import { GodwitError } from '../errors.ts';
import { failureConverterPath } from '../secrets/converter.ts';

const workflows = join(projectFolder, 'workflows');
const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Path of the bundle in that folder; made by a process of its own when it is missing. Safe with others at once. */
export async function workflowBundle(folder: string): Promise<string> {
  const path = join(folder, `workflows-${await contentHash()}.js`);
  if (await exists(path)) return path;
  try {
    const self = fileURLToPath(import.meta.url);
    await promisify(execFile)(process.execPath, [...process.execArgv, self, folder], { cwd: projectFolder });
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    throw new GodwitError('SERVER_START_FAILED', `The workflows could not be bundled. ${stderr ?? ''}`, {
      cause: error,
    });
  }
  return path;
}

async function contentHash(): Promise<string> {
  const { version } = createRequire(import.meta.url)('@temporalio/worker/package.json') as { version: string };
  const names = (await readdir(workflows, { recursive: true })).filter((name) => name.endsWith('.ts')).sort();
  const hash = createHash('sha256').update(version);
  for (const name of names) hash.update(`\n${name}\n`).update(await readFile(join(workflows, name)));
  hash.update(await readFile(failureConverterPath));
  return hash.digest('hex').slice(0, 24);
}

async function bundle(folder: string): Promise<void> {
  const { bundleWorkflowCode } = await import('@temporalio/worker');
  const { code } = await bundleWorkflowCode({
    workflowsPath: join(workflows, 'index.ts'),
    failureConverterPath,
    logger: { info() {}, debug() {}, trace() {}, log() {}, warn: console.error, error: console.error },
  });
  const path = join(folder, `workflows-${await contentHash()}.js`);
  await mkdir(dirname(path), { recursive: true });
  const draft = `${path}.${process.pid}`;
  await writeFile(draft, code);
  await rename(draft, path);
}

if (import.meta.main) await bundle(process.argv[2] ?? join(projectFolder, '.godwit', 'bundle'));
