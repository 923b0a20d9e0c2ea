import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { everyType, everyTypeTables } from '../conformance/every-type.ts';
import { noPyarrow } from '../conformance/files-pyarrow.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { install, query } from '../workflow/installation.ts';
import { differences } from './contents.ts';
import { readParquet, readParquetByDuckDb, sortedTexts, tableFolders } from './files.ts';
import { parquetCannot } from './holds.ts';
import { readPostgres } from './postgres.ts';
import { move } from './run.ts';

const noSecondReader = await noPyarrow();
const keys: Readonly<Record<string, readonly string[]>> = {
  no_key: [],
  composite_key: ['region', 'day', 'n'],
  events: ['id', 'at'],
};
const keyOf = (name: string, columns: Iterable<string>): readonly string[] => keys[name] ?? [[...columns][0] ?? ''];

describe.skipIf((await missing('postgres')) || (await missing('temporal')))('from PostgreSQL', () => {
  const stack = new AsyncDisposableStack();
  let source: TestDatabase;
  let godwit: Awaited<ReturnType<typeof install>>;
  beforeAll(async () => {
    source = stack.use(await createDatabase());
    const [row] = await query<{ version: string }>(
      source.url,
      "SELECT current_setting('server_version_num') AS version",
    );
    await query(source.url, everyType(Math.floor(Number(row?.version) / 10_000)));
    godwit = stack.use(await install());
    stack.use(await godwit.work());
  });
  afterAll(() => stack.disposeAsync());

  const mapping = (name: string, destination: object) => ({
    name,
    source: { source_type: 'pgsql', url: source.url },
    destination: { there: destination },
    tables: [{ table_name: 'nasty.*', mode: 'replace', on_misfit: 'null' }],
  });

  test('to PostgreSQL', async () => {
    await using target = await createDatabase();
    await move(godwit, mapping('pg-pg', { destination_type: 'pgsql', url: target.url, schema: 'copy' }));
    for (const name of everyTypeTables) {
      const there = await readPostgres(target.url, 'copy', name);
      const here = await readPostgres(source.url, 'nasty', name);
      expect.soft([...there.columns], name).toEqual([...here.columns]);
      expect
        .soft(differences(here, there, { key: keyOf(name, here.columns.keys()), cannotHold: () => false }), name)
        .toEqual([]);
    }
  });

  test.skipIf(noSecondReader)('to Parquet', async () => {
    const path = join(godwit.home, 'lake');
    await move(godwit, mapping('pg-files', { destination_type: 'files', path, format: 'parquet', schema: 'copy' }));
    const folders = await tableFolders(join(path, 'copy'));
    for (const name of everyTypeTables) {
      const folder = folders.get(name) ?? `no folder for ${name}`;
      const there = await readParquet(folder);
      const here = await readPostgres(source.url, 'nasty', name);
      const key = keyOf(name, here.columns.keys());
      expect.soft(differences(here, there, { key, cannotHold: parquetCannot }), name).toEqual([]);
      expect.soft(await readParquetByDuckDb(folder), name).toEqual(sortedTexts(there));
    }
  });
});
