import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Installation } from './installation.ts';

export const filesBelow = (folder: string): string[] =>
  existsSync(folder)
    ? readdirSync(folder, { recursive: true, encoding: 'utf8' })
        .map((name) => join(folder, name))
        .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile())
    : [];

export const spooled = (at: Installation): string[] =>
  readdirSync(at.folder)
    .filter((name) => name.startsWith('worker-') && !name.endsWith('.log'))
    .flatMap((worker) => filesBelow(join(at.folder, worker, 'spool')));
