/** The second reader: what DuckDB wrote is read back by pyarrow, which shares no code with it (decision 18). */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheOnce } from '../../servers/cache.ts';

const run = promisify(execFile);
const version = '21.0.0';

let folder: Promise<string> | undefined;
const libraries = (): Promise<string> => {
  folder ??= cacheOnce(`pyarrow-${version}`, async (made) => {
    const args = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--target', join(made, 'lib')];
    await run('python3', [...args, `pyarrow==${version}`, 'tzdata'], { timeout: 600_000 });
    return join(made, 'lib');
  });
  return folder;
};

/** For `describe.skipIf(await noPyarrow())`. Fails instead of skipping when CI=true. */
export async function noPyarrow(): Promise<boolean> {
  try {
    await libraries();
    return false;
  } catch (error) {
    const reason = (error as { stderr?: string }).stderr?.trim().split('\n').at(-1) ?? (error as Error).message;
    if (process.env.CI === 'true') throw new Error(`no pyarrow: ${reason}`);
    console.warn(`skipped: no pyarrow: ${reason}`);
    return true;
  }
}

const script = `
import sys, json, decimal, datetime, uuid
import pyarrow.parquet as pq, pyarrow.dataset as ds
def show(v):
    if v is None or isinstance(v, (bool, str)): return v
    if isinstance(v, bytes): return 'bytes ' + v.hex()
    if isinstance(v, (datetime.datetime, datetime.date, datetime.time)): return v.isoformat()
    if isinstance(v, float): return 'float ' + repr(v)
    return type(v).__name__ + ' ' + str(v)
how = sys.argv[1]
for path in sys.argv[2:]:
    if how == 'dataset':
        t = ds.dataset(path, format='parquet', partitioning='hive').to_table()
    else:
        t = pq.ParquetFile(path).read()
    print(json.dumps({'types': {f.name: str(f.type) for f in t.schema}, 'rows': [{k: show(v) for k, v in r.items()} for r in t.to_pylist()]}))
`;

export type PyTable = {
  readonly types: Readonly<Record<string, string>>;
  readonly rows: readonly Readonly<Record<string, unknown>>[];
};

/** Values as text with their Python type where JSON would lose it: `int 1`, `Decimal 1.50`, `bytes 00ff`, `float nan`. */
export async function readByPyarrow(path: string, how: 'file' | 'dataset' = 'file'): Promise<PyTable> {
  return (await readAllByPyarrow([path], how))[0] as PyTable;
}

/** Several, in one process: starting it costs more than reading a small table. */
export async function readAllByPyarrow(paths: readonly string[], how: 'file' | 'dataset'): Promise<PyTable[]> {
  const env = { ...process.env, PYTHONPATH: await libraries() };
  const { stdout } = await run('python3', ['-c', script, how, ...paths], { env, maxBuffer: 1 << 28 });
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as PyTable);
}
