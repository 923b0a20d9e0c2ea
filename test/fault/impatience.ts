/**
 * Every kill is followed by the wait for a heartbeat that does not come. Here the workflows run with an interceptor that
 * makes it shorter: nothing else of them is another.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { failureConverterPath } from '../../secrets/converter.ts';
import { workflowBundle } from '../../worker/bundle.ts';
import { bundles } from '../servers/bundles.ts';

let made: Promise<string> | undefined;

const interceptor = join(import.meta.dirname, 'heartbeats.ts');

/** The folder of a bundle that workers take for their own. */
export const impatientBundles = (): Promise<string> => (made ??= make());

async function make(): Promise<string> {
  const content = createHash('sha256').update(await readFile(interceptor));
  const folder = join(bundles, `impatient-${content.digest('hex').slice(0, 12)}`);
  const path = join(folder, basename(await workflowBundle(bundles)));
  const there = await stat(path).then(
    () => true,
    () => false,
  );
  if (there) return folder;
  const { bundleWorkflowCode } = await import('@temporalio/worker');
  const quiet = { info() {}, debug() {}, trace() {}, log() {}, warn: console.error, error: console.error };
  const { code } = await bundleWorkflowCode({
    workflowsPath: join(import.meta.dirname, '../../workflows/index.ts'),
    workflowInterceptorModules: [interceptor],
    failureConverterPath,
    logger: quiet,
  });
  await mkdir(folder, { recursive: true });
  const draft = `${path}.${process.pid}`;
  await writeFile(draft, code);
  await rename(draft, path);
  return folder;
}
