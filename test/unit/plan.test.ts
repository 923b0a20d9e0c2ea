import { describe, expect, test } from 'vitest';
import { components } from '../../activities/plan/components.ts';
import { expand } from '../../activities/plan/expand.ts';
import { planRun } from '../../activities/plan/index.ts';
import { shapeOf } from '../../activities/plan/shape.ts';
import { chooseLane, planWork, targetName } from '../../activities/plan/work.ts';
import type {
  DocumentShape,
  PlanColumn,
  Source,
  Table,
  TableName,
  TableSummary,
  Target,
  Work,
} from '../../connectors/contract.ts';
import { GodwitError } from '../../errors.ts';
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
  (
    await expand({ entries, targets, naming: { defaultSchema: 'public', dotted: false }, list: async () => listed })
  ).map(
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

  test('where names hold dots, only the database itself is taken for one', async () => {
    const collections = ['orders', 'logs.2024', 'shop.x'].map((name) => summary('shop', name, 'collection'));
    const naming = { defaultSchema: 'shop', dotted: true };
    const found = async (...patterns: string[]) => {
      const list = async () => collections;
      const wanted = await expand({ entries: patterns.map((name) => entry(name)), targets: ['t'], naming, list });
      return wanted.map(({ name }) => `${name.schema}|${name.name}`);
    };
    expect(await found('logs.2024', 'shop.orders', 'shop.shop.x')).toEqual([
      'shop|logs.2024',
      'shop|orders',
      'shop|shop.x',
    ]);
    expect(await found('logs.*')).toEqual(['shop|logs.2024']);
    expect(await found('*')).toEqual(['shop|orders', 'shop|logs.2024', 'shop|shop.x']);
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

  test('between systems, bytes go in the text that both speak, shaped and guarded by the source', () => {
    const speaks = { system: 'postgres', formats: ['pg-binary', 'pg-text', 'csv', 'rows'], exactFormats: () => [] };
    const checked = [
      { ...column, shape: 'json' as const },
      { ...column, fit: 'checked' as const, misfit: 'quarantine' as const },
    ];
    const to = { system: 'mysql', formats: ['rows', 'pg-text'] } as unknown as Target;
    const choice = chooseLane({ source: speaks as unknown as Source, table, target: to, columns: checked, use });
    expect(choice).toEqual({
      lane: 'direct',
      read: 'pg-text',
      write: 'pg-text',
      why: 'both sides speak pg-text; postgres gives each value the text that mysql takes',
    });
  });

  test('documents go as they are where both sides hold documents, else one by one', () => {
    const mongo = (exact: string[]) =>
      ({ system: 'mongodb', formats: ['rows', 'bson'], exactFormats: () => exact }) as unknown as Source;
    const chosen = (source: Source, to: Target) => {
      const { lane, read, write } = chooseLane({ source, table, target: to, columns: [column], use });
      return [lane, read, write];
    };
    expect(chosen(mongo(['bson']), target('rows', 'bson'))).toEqual(['direct', 'bson', 'bson']);
    expect(chosen(mongo([]), target('pg-binary', 'pg-text', 'rows'))).toEqual(['rows', 'rows', 'rows']);
    expect(chosen(mongo([]), target('parquet', 'csv', 'ndjson'))).toEqual(['rows', 'rows', 'parquet']);
  });

  test('files take the columnar lane, or rows where misfits are set aside one by one', () => {
    expect(lane([], target('parquet'))).toEqual(['columnar', 'csv', 'parquet']);
    const aside = [{ ...column, fit: 'checked' as const, misfit: 'quarantine' as const }];
    expect(lane([], target('parquet'), aside)).toEqual(['rows', 'rows', 'parquet']);
  });
});

test('a column whose values can become NULL on the way may be NULL there; one that always fits stays NOT NULL', () => {
  const fits = { a: 'checked', b: 'exact' } as const;
  const columns = (['a', 'b'] as const).map((name) => ({
    name,
    type: { kind: 'date' },
    native: 'date',
    nullable: false,
  }));
  const sides = { formats: ['rows'], nameLimit: 63, exactFormats: () => [] };
  const fit = (of: Table) =>
    of.columns.map(({ name, type, native }) => ({ fit: fits[name as 'a' | 'b'], shape: 'native', type, native }));
  const { work } = planWork({
    entry: entry('s.t', { onMisfit: { '*': 'null' } }),
    table: { system: 'mysql', name: { schema: 's', name: 't' }, columns, key: [] } as unknown as Table,
    source: { ...sides, system: 'mysql' } as unknown as Source,
    target: { ...sides, system: 'postgres', fit } as unknown as Target,
    targetName: 'x',
    use: { target: 'x', schema: 's', table: '{table}' },
    installation: 'i',
    jobUid: 'j',
    run: 'r',
    snapshotDate: '2026-01-01T00:00:00Z',
  });
  expect(work.columns.map(({ name, nullable }) => [name, nullable])).toEqual([
    ['a', true],
    ['b', false],
  ]);
});

describe('documents', () => {
  const documents = { system: 'mongodb', documents: true } as unknown as Source;
  const tables = { system: 'postgres' } as unknown as Source;
  const sql = { system: 'mysql' } as unknown as Target;
  const mongo = { system: 'mongodb', documents: true } as unknown as Target;
  const name = { schema: 'shop', name: 'customers' };
  const shape = (more: Partial<TableEntry>, source: Source, target: Target) =>
    shapeOf({ entry: entry('customers', more), name, source, target, targetName: 'w' });

  test('keep their form on the way to documents, and become fields elsewhere', () => {
    expect(shape({}, documents, mongo)).toEqual({ as: 'raw', casts: {} });
    expect(shape({}, documents, sql)).toEqual({ as: 'fields', casts: {} });
    expect(shape({ fields: { a: 'int' } }, documents, sql)).toEqual({ as: 'fields', casts: { a: 'int' } });
    expect(shape({ documents: 'json' }, documents, mongo)).toEqual({ as: 'json', casts: {} });
    expect(shape({}, tables, mongo)).toBeUndefined();
  });

  test('as they are, they go nowhere but to documents: the refusal names both sides', () => {
    expect(() => shape({ documents: 'raw' }, documents, sql)).toThrow(
      /shop\.customers .* \(documents: raw\) from mongodb, and target w \(mysql\) holds no documents/,
    );
    expect(() => shape({ excludeColumns: ['a'] }, documents, mongo)).toThrow(/`exclude_columns` cannot be done/);
    expect(() => shape({ rename: { a: 'b' } }, documents, mongo)).toThrow(/`col_rename` cannot be done/);
  });

  test('keys for documents mean nothing for rows', () => {
    expect(() => shape({ documents: 'json' }, tables, sql)).toThrow(/`documents` is for sources of documents/);
    expect(() => shape({ fields: { a: 'int' } }, tables, sql)).toThrow(/`fields` is for sources of documents/);
  });
});

describe('one collection to two targets', () => {
  let refusals: (work: Work) => GodwitError[] = () => [];
  let long = '';
  const asked: [string[], unknown][] = [];
  const described = (table: TableName, shape?: DocumentShape): Table => ({
    system: 'mongodb',
    name: table,
    kind: 'collection',
    columns: [
      { name: '_id', type: { kind: 'text' }, native: shape?.as === 'raw' ? 'any' : 'text', nullable: false },
      ...(long ? [{ name: long, type: { kind: 'text' } as const, native: 'text', nullable: true }] : []),
      ...(shape?.thorough ? [{ name: 'late', type: { kind: 'int64' } as const, native: 'long', nullable: true }] : []),
    ],
    key: ['_id'],
    rows: 10,
    bytes: 1000,
    references: [],
    fingerprint: 'f',
  });
  const source = {
    system: 'mongodb',
    documents: true,
    formats: ['rows', 'bson'],
    identity: async () => 'source',
    tables: async () => [],
    describeAll: async (names: readonly TableName[], shape?: DocumentShape) => {
      asked.push([names.map(({ name }) => name), shape]);
      return names.map((name) => described(name, shape));
    },
    exactFormats: (_table: Table, _columns: readonly string[], to: Target) => (to.documents ? ['bson'] : []),
  } as unknown as Source;
  const target = (system: string, formats: string[], documents: boolean) =>
    ({
      system,
      formats,
      documents,
      nameLimit: 63,
      identity: async () => system,
      fit: (table: Table) =>
        table.columns.map(({ type, native }) => ({
          fit: 'exact',
          shape: 'native',
          type,
          native: `${system} ${native}`,
        })),
      describe: async () => undefined,
      refusals: async (work: Work) => refusals(work),
    }) as unknown as Target;
  const use = { target: 'x', schema: 's', table: '{table}' };
  const plan = (again?: { sourceName: string; target: string }) => {
    asked.length = 0;
    return planRun({
      document: { name: 'j', source: 's', targets: {}, tables: [entry('a'), entry('b')], giveUpAfter: 1 },
      source,
      defaultSchema: 'shop',
      targets: new Map([
        ['archive', { target: target('mongodb', ['rows', 'bson'], true), use }],
        ['dwh', { target: target('mysql', ['rows', 'pg-text'], false), use }],
      ]),
      installation: 'i',
      jobUid: 'u',
      run: 'r',
      snapshotDate: '2024-01-01T00:00:00.000Z',
      chunkBytes: 1e6,
      timezone: 'UTC',
      signal: new AbortController().signal,
      ...(again ? { again } : {}),
    });
  };

  test('is described once per form, and each target has its own lane', async () => {
    const planned = await plan();
    expect(asked).toEqual([
      [['a', 'b'], { as: 'raw', casts: {} }],
      [['a', 'b'], { as: 'fields', casts: {} }],
    ]);
    expect(planned.map((one) => [one.sourceName, one.target, one.lane, one.work?.columns[0]?.native])).toEqual([
      ['shop.a', 'archive', 'direct', 'mongodb any'],
      ['shop.a', 'dwh', 'rows', 'mysql text'],
      ['shop.b', 'archive', 'direct', 'mongodb any'],
      ['shop.b', 'dwh', 'rows', 'mysql text'],
    ]);
  });

  test('is looked at again by all documents before a table that stays is said to differ', async () => {
    const narrow = new GodwitError('TARGET_DIFFERS', 'late is not at the source');
    refusals = (work) => (work.columns.some(({ name }) => name === 'late') ? [] : [narrow]);
    const planned = await plan();
    refusals = () => [];
    expect(asked.slice(2)).toEqual([[['a', 'b'], { as: 'fields', casts: {}, thorough: true }]]);
    expect(planned.map((one) => [one.sourceName, one.target, one.failure?.code, one.work?.columns.length])).toEqual([
      ['shop.a', 'dwh', undefined, 2],
      ['shop.b', 'dwh', undefined, 2],
      ['shop.a', 'archive', 'TARGET_DIFFERS', undefined],
      ['shop.b', 'archive', 'TARGET_DIFFERS', undefined],
    ]);
  });

  test('a field with a name that the target would cut is refused, or renamed', async () => {
    long = 'ü'.repeat(32);
    const failures = async () =>
      (await plan()).map((one) => [one.target, one.failure?.code]).filter(([target]) => target === 'dwh');
    expect(await failures()).toEqual([
      ['dwh', 'NAME_TOO_LONG'],
      ['dwh', 'NAME_TOO_LONG'],
    ]);
    long = 'ü'.repeat(31);
    expect(await failures()).toEqual([
      ['dwh', undefined],
      ['dwh', undefined],
    ]);
    long = '';
  });

  test('planned again, one alone is described, by all of its documents', async () => {
    const planned = await plan({ sourceName: 'shop.a', target: 'dwh' });
    expect(asked).toEqual([[['a'], { as: 'fields', casts: {}, thorough: true }]]);
    expect(planned).toHaveLength(1);
    expect(planned[0]?.work?.columns.map(({ name }) => name)).toEqual(['_id', 'late']);
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

  const joined = (works: (Work | undefined)[]) => components(works, () => true);

  test('foreign keys join tables, cycles and references to oneself included; a table left out joins nobody', () => {
    expect(
      joined([work('a', ['b']), work('b', ['c']), work('c', ['a']), work('d', ['d']), work('e', ['gone'])]),
    ).toEqual([1, 1, 1, 2, 3]);
    expect(joined([work('a', ['b']), undefined])).toEqual([1, 2]);
  });

  test('foreign keys are not carried to another system, so nothing is joined there', () => {
    expect(components([work('a', ['b']), work('b', [])], () => false)).toEqual([1, 2]);
  });

  test('targets are apart, and so are snapshots that are appended', () => {
    expect(joined([work('a', ['b']), work('b', [], { target: 'v' })])).toEqual([1, 2]);
    expect(joined([work('a', ['b']), work('b', [], { mode: 'dumping' })])).toEqual([1, 2]);
  });
});
