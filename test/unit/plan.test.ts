import { describe, expect, test } from 'vitest';
import { components } from '../../activities/plan/components.ts';
import { expand } from '../../activities/plan/expand.ts';
import { chooseLane, targetName } from '../../activities/plan/work.ts';
import type { PlanColumn, Source, Table, TableSummary, Target, Work } from '../../connectors/contract.ts';
import type { TableEntry } from '../../mapping/document.ts';

const entry = (name: string, more: Partial<TableEntry> = {}): TableEntry => ({
  name,
  exclude: [],
  mode: 'replace',
  batchSize: 10_000,
  excludeColumns: [],
  rename: {},
  where: [],
  existing: 'refuse',
  swap: 'rename',
  continue: 'resume',
  onMisfit: {},
  maxQuarantined: 0,
  views: false,
  ...more,
});

const summary = (schema: string, name: string, kind: TableSummary['kind'] = 'table'): TableSummary => ({
  name: { schema, name },
  kind,
  rows: 1,
  bytes: 1,
  readable: true,
});

const listed = [
  summary('public', 'orders'),
  summary('public', 'audit'),
  summary('public', 'report', 'view'),
  summary('stock', 'levels'),
  summary('public', 'a.b'),
];

const names = async (entries: TableEntry[], targets = ['t']) =>
  (await expand({ entries, targets, defaultSchema: 'public', list: async () => listed })).map(
    (want) => `${want.entry.mode} ${want.name.schema}|${want.name.name} → ${want.target}${want.failure ? ' !' : ''}`,
  );

describe('the tables a mapping asks for', () => {
  test('a pattern leaves out views, what it excludes, and what another entry names in full', async () => {
    expect(
      await names([entry('public.*', { mode: 'dumping', exclude: ['public.audit'] }), entry('public.orders')]),
    ).toEqual(['dumping public|a.b → t', 'replace public|orders → t']);
  });

  test('a name without a schema is in the default schema, for patterns too', async () => {
    expect(await names([entry('orders'), entry('a*')])).toEqual([
      'replace public|orders → t',
      'replace public|audit → t',
      'replace public|a.b → t',
    ]);
  });

  test('views come with `views`, and the same table may go to two targets by two entries', async () => {
    expect(await names([entry('public.r*', { views: true })])).toEqual(['replace public|report → t']);
    expect(
      await names([entry('orders', { targets: ['a'] }), entry('orders', { targets: ['b'], mode: 'dumping' })]),
    ).toEqual(['replace public|orders → a', 'dumping public|orders → b']);
  });

  test('a pattern that matches nothing fails in its own name and leaves the others alone', async () => {
    expect(await names([entry('pubic.*'), entry('orders')])).toEqual([
      'replace pubic|* → t !',
      'replace public|orders → t',
    ]);
  });

  test('characters of regular expressions in names mean themselves', async () => {
    expect(await names([entry('public.a.?')])).toEqual(['replace public|a.b → t']);
    expect(await names([entry('public.(*')])).toEqual(['replace public|(* → t !']);
  });
});

describe('names on the target', () => {
  const use = { target: 'x', schema: '{schema}_copy', table: 'old_{table}', suffix: '_v1' };
  test('patterns and the suffix are filled in', () => {
    expect(targetName({ schema: 'S', name: 'T' }, use)).toEqual({ schema: 'S_copy', name: 'old_T_v1' });
  });
});

describe('lanes', () => {
  const column: PlanColumn = {
    from: 'id',
    name: 'id',
    shape: 'native',
    type: { kind: 'int32' },
    native: 'integer',
    nullable: false,
    fit: 'exact',
    misfit: 'stop',
  };
  const table = { columns: [] } as unknown as Table;
  const use = { target: 'x', schema: 's', table: '{table}' };
  const source = (exact: string[]) =>
    ({ formats: ['pg-binary', 'csv', 'rows'], exactFormats: () => exact }) as unknown as Source;
  const target = (...formats: string[]) => ({ formats }) as unknown as Target;
  const lane = (exact: string[], to: Target, columns = [column]) => {
    const { lane, read, write } = chooseLane({ source: source(exact), table, target: to, columns, use });
    return [lane, read, write];
  };

  test('bytes that need no change take the direct lane, in the cheapest exact format', () => {
    expect(lane(['pg-binary', 'pg-text'], target('pg-binary', 'pg-text', 'rows'))).toEqual([
      'direct',
      'pg-binary',
      'pg-binary',
    ]);
    expect(lane(['pg-text'], target('pg-binary', 'pg-text', 'rows'))).toEqual(['direct', 'pg-text', 'pg-text']);
  });

  test('a column in another shape, or one to be checked, leaves the direct lane', () => {
    const shaped = [{ ...column, shape: 'text' as const }];
    expect(lane(['pg-binary'], target('pg-binary', 'rows'), shaped)).toEqual(['rows', 'rows', 'rows']);
  });

  test('files take the columnar lane, or rows where misfits are set aside one by one', () => {
    expect(lane([], target('parquet'))).toEqual(['columnar', 'csv', 'parquet']);
    const aside = [{ ...column, fit: 'checked' as const, misfit: 'quarantine' as const }];
    expect(lane([], target('parquet'), aside)).toEqual(['rows', 'rows', 'parquet']);
  });
});

describe('components', () => {
  const work = (name: string, references: string[], more: Partial<Work> = {}) =>
    ({
      target: 'w',
      mode: 'replace',
      lane: 'direct',
      writeFormat: 'pg-binary',
      source: { name: { schema: 'p', name }, references: references.map((other) => ({ schema: 'p', name: other })) },
      ...more,
    }) as unknown as Work;

  test('foreign keys join tables, cycles and references to oneself included; a table left out joins nobody', () => {
    expect(
      components([work('a', ['b']), work('b', ['c']), work('c', ['a']), work('d', ['d']), work('e', ['gone'])]),
    ).toEqual([1, 1, 1, 2, 3]);
    expect(components([work('a', ['b']), undefined])).toEqual([1, 2]);
  });

  test('targets are apart, and so are snapshots that are appended', () => {
    expect(components([work('a', ['b']), work('b', [], { target: 'v' })])).toEqual([1, 2]);
    expect(components([work('a', ['b']), work('b', [], { mode: 'dumping' })])).toEqual([1, 2]);
  });
});
