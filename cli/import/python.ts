/** A Python file of the old tool, read by the user's own Python. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { GodwitError } from '../../errors.ts';

export type OldMapping = { readonly path: readonly string[]; readonly mapping: Readonly<Record<string, unknown>> };
export type OldFile = {
  readonly mappings: readonly OldMapping[];
  readonly settings: Readonly<Record<string, unknown>>;
  /** Defined in the file. */
  readonly functions: readonly string[];
  /** Environment variables it asked for. */
  readonly variables: readonly string[];
  /** Those of them that became numbers, or were compared: by their defaults. */
  readonly decided: readonly string[];
  /** Modules that are not installed here. */
  readonly missing: readonly string[];
};

const script = fileURLToPath(new URL('./read_mapping.py', import.meta.url));

/** Runs the file, as its own tool does. Throws USAGE: there is no python3, or the file fails. */
export async function readPython(file: string, python = 'python3'): Promise<OldFile> {
  const { error, out, err } = await new Promise<{ error: NodeJS.ErrnoException | null; out: string; err: string }>(
    (resolve) =>
      execFile(python, [script, file], { maxBuffer: 64 * 1024 * 1024, timeout: 60_000 }, (failed, stdout, stderr) =>
        resolve({ error: failed as NodeJS.ErrnoException | null, out: stdout, err: stderr }),
      ),
  );
  if (error?.code === 'ENOENT') {
    const none = new GodwitError('USAGE', `${python} is not here, and a Python mapping is read by Python itself.`);
    throw Object.assign(none, { fix: 'Install Python 3, or write the mapping as YAML (docs/mapping.md).' });
  }
  if (error) {
    const why = err.trim().split('\n').at(-1) ?? error.message;
    throw new GodwitError('USAGE', `${file} cannot be read by Python: ${why}`);
  }
  return JSON.parse(out) as OldFile;
}
