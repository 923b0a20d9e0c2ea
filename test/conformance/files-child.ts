/** Run by the crash tests: one whole run, in a process that a fault point kills. */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openTarget } from '../../connectors/files/target.ts';
import { wholeRun } from './files-fixture.ts';

const { settings, work, contents, root } = JSON.parse(process.argv[2] as string);
const folder = await mkdtemp(join(tmpdir(), 'godwit-files-child-'));
await using target = await openTarget(settings, { fileRoots: [root] });
await wholeRun(target, work, folder, contents);
console.log('ended');
