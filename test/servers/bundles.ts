import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { projectFolder } from '../../config.ts';

/** Bundled workflows, under their content: the same for every test, made once and kept. */
export const bundles = join(projectFolder, 'node_modules', '.cache', 'godwit-bundles');

/** Workers of this GODWIT_HOME take their workflows from the folder, and put them there when they are the first. */
export function shareBundles(home: string, folder = bundles): void {
  mkdirSync(folder, { recursive: true });
  mkdirSync(home, { recursive: true });
  const link = join(home, 'bundle');
  if (!existsSync(link)) symlinkSync(folder, link);
}
