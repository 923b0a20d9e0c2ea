/** The manual's `strict` on a PostgreSQL target, in a load and in the increments after it; `replace` stays exact. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { install, query } from '../workflow/installation.ts';
import { type Godwit, runOnce } from './from.ts';

const skip = (await missing('postgres')) || (await missing('temporal'));

describe.skipIf(skip)('strict', () => {
  const stack = new AsyncDisposableStack();
  let godwit: Godwit;
  let source: TestDatabase;
  let target: TestDatabase;
  beforeAll(async () => {
    godwit = stack.use(await install());
    stack.use(await godwit.work());
    source = stack.use(await createDatabase());
    target = stack.use(await createDatabase());
    await query(
      source.url,
      `CREATE TABLE doc (id int PRIMARY KEY, j json, b jsonb, at timestamptz, local timestamp);
       INSERT INTO doc VALUES
         (1, '{"a":  1.50}', '{"a": 1.50, "t": "ü"}', '2024-07-01 12:00:00.123456+05:30', '2024-07-01 12:00:00'),
         (2, NULL, 'null', 'infinity', '-infinity'), (3, '"x"', NULL, NULL, NULL)`,
    );
  });
  afterAll(() => stack.disposeAsync());

  const mapping = (name: string, table: object) => ({
    name,
    timezone: 'Asia/Kolkata',
    source: { source_type: 'pgsql', url: source.url },
    destination: { there: { destination_type: 'pgsql', url: target.url, schema: name.replaceAll('-', '_') } },
    tables: [{ table_name: 'doc', ...table }],
  });
  const types = async (schema: string) =>
    Object.fromEntries(
      (
        await query<{ name: string; type: string }>(
          target.url,
          `SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
           WHERE attrelid = '${schema}.doc'::regclass AND attnum > 0 AND NOT attisdropped`,
        )
      ).map(({ name, type }) => [name, type]),
    );
  const rows = (schema: string) =>
    query(
      target.url,
      `SET TimeZone = 'UTC'; SELECT id, j::text, b::text, at::text, local::text FROM ${schema}.doc ORDER BY id`,
    );

  test('false, which is what the manual has: json as text, instants as UTC without a zone; told in the notes', async () => {
    const how = mapping('not-strict', { mode: 'syncing', bookmark: 'at' });
    const loaded = await runOnce(godwit, how);
    expect(await types('not_strict')).toEqual({
      id: 'integer',
      j: 'text',
      b: 'text',
      at: 'timestamp without time zone',
      local: 'timestamp without time zone',
    });
    expect(loaded.notes.join('\n')).toMatch(/j: json written as text.*\n.*b: json written as text/);
    expect(loaded.notes.join('\n')).toContain('at: an instant, written as UTC without a zone');
    const before = [
      {
        id: 1,
        j: '{"a":  1.50}',
        b: '{"a": 1.50, "t": "ü"}',
        at: '2024-07-01 06:30:00.123456',
        local: '2024-07-01 12:00:00',
      },
      { id: 2, j: null, b: 'null', at: 'infinity', local: '-infinity' },
      { id: 3, j: '"x"', b: null, at: null, local: null },
    ];
    expect(await rows('not_strict')).toEqual(before);
    await query(source.url, `INSERT INTO doc VALUES (4, '[1]', '[1.0]', now(), NULL)`);
    const next = await runOnce(godwit, how);
    expect(next).toMatchObject({ step: 'increment', rowsWritten: 1 });
    expect((await rows('not_strict')).slice(0, 3)).toEqual(before);
    expect(await runOnce(godwit, how)).toMatchObject({ rowsWritten: 0 });
    await query(source.url, 'DELETE FROM doc WHERE id = 4');
  });

  test('true: json and instants as they are', async () => {
    await runOnce(godwit, mapping('strictly', { mode: 'syncing', bookmark: 'at', strict: true }));
    expect(await types('strictly')).toMatchObject({ j: 'json', b: 'jsonb', at: 'timestamp with time zone' });
    expect((await rows('strictly'))[0]).toMatchObject({ at: '2024-07-01 06:30:00.123456+00', j: '{"a":  1.50}' });
  });

  test('of dumping too, and never of replace', async () => {
    await runOnce(godwit, mapping('dumped', { mode: 'dumping' }));
    expect(await types('dumped')).toMatchObject({ j: 'text', at: 'timestamp without time zone' });
    await runOnce(godwit, mapping('replaced', { mode: 'replace' }));
    expect(await types('replaced')).toMatchObject({ j: 'json', b: 'jsonb', at: 'timestamp with time zone' });
  });
});
