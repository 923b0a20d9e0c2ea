import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GodwitError } from '../../errors.ts';
import { fillDefaults, sourceSchema } from '../../mapping/defaults.ts';
import { mappingJsonSchema } from '../../mapping/json-schema.ts';
import { parseMapping } from '../../mapping/parse.ts';
import type { MappingError } from '../../mapping/problems.ts';

const source = { source_type: 'pgsql', url: 'postgresql://user@host:5432/shop' };
const mapping = (more: object = {}, table: object = {}) => ({
  name: 'shop',
  source,
  tables: [{ table_name: 'public.orders', mode: 'replace', ...table }],
  ...more,
});

const mongo = { source_type: 'mongo', url: 'mongodb://host/shop' };
const collections = (entry: object = {}, more: object = {}) => ({
  name: 'shop',
  source: mongo,
  collections: [{ collection_name: 'c', mode: 'replace', ...entry }],
  ...more,
});

function refusal(input: string | object, file?: string): MappingError {
  try {
    parseMapping(input, { file });
  } catch (error) {
    expect(error).toBeInstanceOf(GodwitError);
    expect((error as GodwitError).code).toBe('MAPPING_INVALID');
    return error as MappingError;
  }
  throw new Error('the mapping was accepted');
}
const problems = (input: string | object) => refusal(input).problems.map(({ path, message }) => `${path}: ${message}`);

describe('a mapping becomes a document', () => {
  const text = `
source: { source_type: pgsql, url: "postgresql://user@host:5432/shop", password: "env:SHOP_PASSWORD" }
destination:
  warehouse: { destination_type: pgsql, url: "w:5433/wh", username: u, password: secret-1, schema: public }
  lake: { destination_type: s3, s3_bucket_name: lake, s3_suffix: _v1, endpoint: "http://localhost:9000", format: parquet }
tables:
  - { table_name: public.orders, mode: replace, primary_key: id, batch_size: 500 }
  - { table_name: "public.*", mode: dumping, exclude: [public.audit], primary_key: [a, b] }
`;
  const parsed = parseMapping(text, { file: '/some/where/shop.yaml' });

  it('is named after its file, and its own source and targets after it', () => {
    expect(parsed.document.name).toBe('shop');
    expect(parsed.document.source).toBe('shop/source');
    expect(parsed.endpoints.source?.name).toBe('shop/source');
    expect(Object.values(parsed.endpoints.targets).map(({ name }) => name)).toEqual(['shop/warehouse', 'shop/lake']);
    expect(parsed.open).toBe(false);
  });

  it('writes to {source}_{db_name}_dms where it says no schema, with "sql" for pgsql', () => {
    expect(parsed.document.targets.lake).toEqual({
      target: 'shop/lake',
      schema: 'sql_shop_dms',
      table: '{table}',
      format: 'parquet',
      suffix: '_v1',
    });
    expect(parsed.document.targets.warehouse?.schema).toBe('public');
  });

  it('has no secret in it, whatever way it was written', () => {
    expect(parsed.endpoints.source?.secrets).toEqual({ password: 'env:SHOP_PASSWORD' });
    expect(parsed.endpoints.targets.warehouse?.secrets).toEqual({ password: 'secret-1' });
    const inUrl = parseMapping(mapping({ source: { source_type: 'pgsql', url: 'postgresql://u:p%40ss@h/d' } }));
    expect(inUrl.endpoints.source?.secrets).toEqual({ password: 'p@ss' });
    expect(
      JSON.stringify([parsed.document, parsed.endpoints.source?.settings, inUrl.endpoints.source?.settings]),
    ).not.toMatch(/secret-1|SHOP_PASSWORD|p@ss/);
    const whole = parseMapping(
      mapping({ source: { source_type: 'pgsql', url: 'env:GODWIT_SECRET_URL', db_name: 'd' } }),
    );
    expect(whole.endpoints.source).toMatchObject({
      settings: { db_name: 'd' },
      secrets: { url: 'env:GODWIT_SECRET_URL' },
    });
  });

  it('spells out its tables', () => {
    expect(parsed.document.tables[0]).toEqual({
      name: 'public.orders',
      exclude: [],
      mode: 'replace',
      primaryKey: ['id'],
      batchSize: 500,
      excludeColumns: [],
      rename: {},
      where: [],
      existing: 'refuse',
      swap: 'rename',
      continue: 'resume',
      onSchemaChange: 'add',
      onMisfit: {},
      maxQuarantined: 0,
      views: false,
    });
    expect(parsed.document.tables[1]).toMatchObject({
      mode: 'dumping',
      primaryKey: ['a', 'b'],
      exclude: ['public.audit'],
    });
  });

  it('knows the comparisons a source may be asked for', () => {
    const where = {
      a: 1,
      b: ['x', 'y'],
      c: null,
      d: { '>=': 1, '<': 9 },
      e: { 'is not': null },
      f: { in: [1] },
      g: true,
    };
    expect(parseMapping(mapping({}, { where })).document.tables[0]?.where).toEqual([
      { column: 'a', op: '=', values: [1] },
      { column: 'b', op: 'in', values: ['x', 'y'] },
      { column: 'c', op: 'is null', values: [] },
      { column: 'd', op: '<', values: [9] },
      { column: 'd', op: '>=', values: [1] },
      { column: 'e', op: 'is not null', values: [] },
      { column: 'f', op: 'in', values: [1] },
      { column: 'g', op: '=', values: [true] },
    ]);
  });

  it('rounds no whole number: past 2^53 it stays as written', () => {
    const big = parseMapping(
      'name: j\nsource: s\ntables: [{table_name: t, mode: replace, where: {id: 9007199254740993}}]',
    );
    expect(big.document.tables[0]?.where[0]?.values).toEqual(['9007199254740993']);
    expect(problems(mapping({}, { where: { id: 2 ** 60 } }))).toEqual([
      expect.stringContaining('must be given as text'),
    ]);
  });

  it('takes a duration in seconds or with a unit', () => {
    for (const [give_up_after, seconds] of [
      [90, 90],
      ['30m', 1800],
      ['2d', 172_800],
      ['1.5h', 5400],
    ] as const) {
      expect(parseMapping(mapping({ give_up_after })).document.giveUpAfter).toBe(seconds);
    }
    expect(parseMapping(mapping()).document.giveUpAfter).toBe(86_400);
  });

  it('reads the same from YAML, JSON and an object', () => {
    const object = mapping({ destination: { lake: { destination_type: 'files', path: '/lake' } } });
    const expected = parseMapping(object);
    expect(parseMapping(JSON.stringify(object, undefined, 2))).toEqual(expected);
    expect(parseMapping(JSON.stringify(object))).toEqual(expected);
  });

  it("accepts the manual's keys of the incremental modes, and says that they have no effect", () => {
    const { warnings } = parseMapping(
      mapping(
        {},
        {
          bookmark: 'updated_at',
          grace_updation_lag: { days: 1 },
          cron: 'self-managed',
          partition_col: false,
          strict: true,
          primary_key_datatype: 'uuid',
        },
      ),
    );
    expect(warnings).toEqual([
      'public.orders: bookmark, grace_updation_lag have no effect in mode replace, which reads the whole table.',
    ]);
  });
});

describe('saved sources and targets', () => {
  const parsed = parseMapping({
    name: 'j',
    source: 'shop-db',
    destination: { a: 'wh', b: { target: 'lake', schema: '{schema}', format: 'csv' } },
    tables: [{ table_name: 't', mode: 'replace', targets: ['a'] }],
  });

  it('are named, and what is left to them is filled in when they are known', () => {
    expect(parsed).toMatchObject({ open: true, endpoints: { targets: {} }, document: { source: 'shop-db' } });
    const saved = {
      wh: { type: 'pgsql', settings: {} },
      lake: { type: 's3', settings: { format: 'ndjson', s3_suffix: '_x' } },
    };
    const filled = fillDefaults(
      parsed.document,
      { type: 'pgsql', settings: { db_name: 'shop' } },
      { a: saved.wh, b: saved.lake },
    );
    expect(filled.targets).toEqual({
      a: { target: 'wh', schema: 'sql_shop_dms', table: '{table}' },
      b: { target: 'lake', schema: '{schema}', table: '{table}', format: 'csv', suffix: '_x' },
    });
  });

  it('need a schema from somewhere', () => {
    expect(() => fillDefaults(parsed.document, { type: 'pgsql', settings: {} }, {})).toThrow(/destination\.a\.schema/);
  });
});

describe('collections', () => {
  it("take the manual's keys, and become tables", () => {
    const manual = {
      cron: 'self-managed',
      batch_size: 5000,
      time_delay: 2,
      bookmark: 'updated_at',
      improper_bookmarks: false,
      partition_col: 'created_at',
      partition_col_format: 'datetime',
      buffer_updation_lag: { hours: 2 },
      fields: { created_at: 'datetime', is_available: 'bool', priority: 'int', amount: 'float' },
    };
    const { document, warnings } = parseMapping(collections(manual));
    expect(document.tables).toEqual([
      expect.objectContaining({
        name: 'c',
        batchSize: 5000,
        timeDelay: 2,
        partition: { column: 'created_at', format: 'datetime' },
        fields: { created_at: 'datetime', is_available: 'bool', priority: 'int', amount: 'float' },
      }),
    ]);
    expect(document.tables[0]).not.toHaveProperty('documents');
    expect(warnings).toEqual([
      expect.stringMatching(/^c: bookmark, buffer_updation_lag have no effect in mode replace/),
    ]);
  });

  it('may stand under `tables` too, and take every form of documents', () => {
    const forms = ['fields', 'flatten', 'json', 'raw'];
    const { document } = parseMapping({
      name: 'j',
      source: { ...mongo, source_type: 'mongodb' },
      tables: forms.map((documents) => ({ table_name: documents, mode: 'replace', documents })),
    });
    expect(document.tables.map(({ documents }) => documents)).toEqual(forms);
  });

  it('of a source of tables are refused as soon as the saved source is known', () => {
    const { document } = parseMapping(collections({ fields: { a: 'int' } }, { source: 'saved' }));
    expect(() => fillDefaults(document, { type: 'pgsql', settings: { db_name: 'd' } }, {})).toThrow(
      'c: `fields` is for sources of documents (mongo), and saved is of type pgsql.',
    );
    expect(fillDefaults(document, { type: 'mongo', settings: { db_name: 'd' } }, {})).toEqual(document);
  });
});

describe('the schema on a target', () => {
  const where = (type: string, destination: object) =>
    parseMapping({
      ...mapping({ destination: { t: destination } }),
      source: { source_type: type, url: 'h/shop', username: 'u' },
    }).document.targets.t?.schema;
  const files = { destination_type: 'files', path: '/lake' };

  it.each([
    ['pgsql', 'sql_shop_dms'],
    ['mysql', 'mysql_shop_dms'],
    ['mariadb', 'mariadb_shop_dms'],
    ['mongo', 'mongo_shop_dms'],
    ['mongodb', 'mongo_shop_dms'],
  ])('is named after the source %s', (type, schema) => {
    expect(where(type, files)).toBe(schema);
    expect(where(type, { ...files, schema: 'own' })).toBe('own');
  });

  it.each(['mysql', 'mariadb', 'mongo'])("is a %s target's database, if its settings name one", (type) => {
    const target = { destination_type: type, url: 'h/dwh', username: 'u' };
    expect(where('pgsql', target)).toBe('dwh');
    expect(where('pgsql', { ...target, schema: 'own' })).toBe('own');
    const saved = parseMapping(mapping({ destination: { t: 'saved' } })).document;
    const filled = fillDefaults(
      saved,
      { type: 'pgsql', settings: { db_name: 'shop' } },
      { t: { type, settings: { db_name: 'dwh' } } },
    );
    expect(filled.targets.t?.schema).toBe('dwh');
  });

  it('of tables named without one at the source is its own', () => {
    expect(sourceSchema({ type: 'pgsql', settings: { db_name: 'd' } })).toBe('public');
    expect(sourceSchema({ type: 'pgsql', settings: { schema: 's' } })).toBe('s');
    expect(sourceSchema({ type: 'mysql', settings: { db_name: 'd' } })).toBe('d');
    expect(sourceSchema({ type: 'mongo', settings: { db_name: 'd' } })).toBe('d');
  });
});

describe('a wrong mapping', () => {
  it('says the file, line and column of everything wrong at once', () => {
    const error = refusal(
      `source: { source_type: pgsql, url: "h/d", pasword: x }
tables:
  - { table_name: public.orders, mod: replace }
  - table_name: a
    mode: replace
    batch_size: many
`,
      'jobs/shop.yaml',
    );
    expect(error.problems).toEqual([
      { path: 'source.pasword', message: 'unknown key "pasword"; did you mean "password"?', line: 1, column: 43 },
      { path: 'tables[0].mode', message: 'is required', line: 3, column: 5 },
      { path: 'tables[0].mod', message: 'unknown key "mod"; did you mean "mode"?', line: 3, column: 34 },
      { path: 'tables[1].batch_size', message: 'expected number, received string', line: 6, column: 17 },
    ]);
    expect(error.message).toContain('jobs/shop.yaml:3:34 tables[0].mod: unknown key');
  });

  it.each<[string, object | string, string | RegExp]>([
    ['an unknown key at the top', mapping({ tabels: [] }), 'tabels: unknown key "tabels"; did you mean "tables"?'],
    ['an unknown mode', mapping({}, { mode: 'replac' }), /tables\[0\]\.mode: expected one of .*did you mean "replace"/],
    [
      'a mode that follows nothing',
      mapping({}, { mode: 'mirroring' }),
      /tables\[0\]: "bookmark" is required for mirroring/,
    ],
    [
      'a limit of deletes where nothing is deleted',
      mapping({}, { mode: 'syncing', bookmark: 'at', max_deleted: '5%' }),
      /tables\[0\]\.max_deleted: .*is for mirroring/,
    ],
    ['a wrong schedule', mapping({}, { cron: '* * * * 9' }), /tables\[0\]\.cron: The field day_of_week has "9"/],
    ['a wrong schedule for all', mapping({ cron: '0 25 * * *' }), /^cron: The field hour has "25"/],
    [
      'a wrong schedule beside a wrong zone',
      mapping({ cron: '0 25 * * *', timezone: 'Mars/X' }),
      /cron: The field hour has "25"/,
    ],
    [
      'a source type of later',
      mapping({ source: { source_type: 'kafka', kafka_server: 'x' } }),
      'source.source_type: "kafka" comes in a later version of Godwit; this one has pgsql',
    ],
    [
      'an unknown source type',
      mapping({ source: { source_type: 'pgsq' } }),
      'source.source_type: "pgsq" is not known; did you mean "pgsql"?',
    ],
    [
      'a target type of later',
      mapping({ destination: { r: { destination_type: 'redshift', host: 'h' } } }),
      /destination\.r\.destination_type: "redshift" comes in a later version/,
    ],
    ['no source', { name: 'j', tables: [{ table_name: 't', mode: 'replace' }] }, /: "source" is required/],
    ['no tables', { name: 'j', source: 's' }, /: "tables" is required/],
    ['an empty list of tables', { name: 'j', source: 's', tables: [] }, /tables: "tables" is required/],
    ['topics', { name: 'j', source: 's', topics: [] }, /topics: Kafka sources come in a later version/],
    ['no collections', { name: 'j', source: mongo }, /: "collections" is required/],
    [
      'an empty list of collections',
      { name: 'j', source: mongo, collections: [] },
      /collections: "collections" is required/,
    ],
    [
      'collections of a source of tables',
      { ...mapping(), tables: undefined, collections: [{ collection_name: 'c', mode: 'replace' }] },
      /collections: "collections" are those of a mongo source; list the `tables` of pgsql/,
    ],
    [
      'a table name of a collection',
      { name: 'j', source: mongo, collections: [{ table_name: 'c', mode: 'replace' }] },
      /collections\[0\]\.table_name: unknown key "table_name".*did you mean|collections\[0\]\.collection_name: is required/s,
    ],
    [
      'an unknown cast',
      { name: 'j', source: mongo, collections: [{ collection_name: 'c', mode: 'replace', fields: { a: 'flaot' } }] },
      /collections\[0\]\.fields\.a: expected one of .*did you mean "float"/,
    ],
    ['fields of a table', mapping({}, { fields: { a: 'int' } }), /tables\[0\]\.fields: is for sources of documents/],
    ['documents of a table', mapping({}, { documents: 'json' }), /tables\[0\]\.documents: is for sources of documents/],
    [
      'casts of documents that stay whole',
      collections({ documents: 'json', fields: { a: 'int' } }),
      /collections\[0\]\.fields: is for `documents: fields` and flatten; json keeps the document whole/,
    ],
    [
      'columns of raw documents',
      collections({ documents: 'raw', exclude_columns: ['a'] }),
      /collections\[0\]\.exclude_columns: not beside `documents: raw`/,
    ],
    [
      'a collection twice, by both words',
      { ...collections(), tables: [{ table_name: 'c', mode: 'replace' }] },
      /collections\[0\]\.collection_name: "c" is listed before, in tables\[0\]/,
    ],
    ['a cron of collections', collections({ cron: '* * *' }), /collections\[0\]\.cron: .* has 3 fields/],
    ['a name that is none', mapping({ name: 'a/b' }), /name: expected letters/],
    [
      'a target without a name',
      mapping({ destination: { destination_type: 'pgsql' } }),
      /destination: give the target a name/,
    ],
    ['a bad target name', mapping({ destination: { 'a b': 'x' } }), /destination\."a b": a target's name/],
    [
      'a bad URL',
      mapping({ source: { source_type: 'pgsql', url: 'postgresql://u:geheim@[h/d' } }),
      /source: url: not of the form/,
    ],
    [
      'a target the job has not',
      mapping({ destination: { lake: 'l' } }, { targets: ['lak'] }),
      /tables\[0\]\.targets\[0\]: the job has no target "lak"; did you mean "lake"/,
    ],
    [
      'a table twice',
      {
        ...mapping(),
        tables: [
          { table_name: 't', mode: 'replace' },
          { table_name: 't', mode: 'dumping' },
        ],
      },
      /tables\[1\]\.table_name: "t" is listed before/,
    ],
    [
      'both lists of columns',
      mapping({}, { columns: ['a'], exclude_columns: ['b'] }),
      /exclude_columns: not beside `columns`/,
    ],
    ['exclude without a pattern', mapping({}, { exclude: ['x'] }), /exclude: is for patterns/],
    [
      'an unknown comparison',
      mapping({}, { where: { a: { like: 'x' } } }),
      /where\.a\.like: unknown key "like"; known here: =, in/,
    ],
    [
      'a number as password',
      mapping({ source: { ...source, password: 12 } }),
      /source\.password: expected string, received number \(put it in quotes\)/,
    ],
    [
      'a format for pgsql',
      mapping({ destination: { w: { destination_type: 'pgsql', url: 'h/d', format: 'csv' } } }),
      /destination\.w\.format: "format" is for file targets/,
    ],
    [
      'settings beside a saved target',
      mapping({ destination: { w: { target: 'x', url: 'h' } } }),
      /destination\.w\.url: .*belongs to the saved target/,
    ],
    [
      'no db_name for the default schema',
      mapping({
        source: { source_type: 'pgsql', url: 'env:U' },
        destination: { l: { destination_type: 'files', path: '/x' } },
      }),
      /destination\.l: "schema" is required/,
    ],
    ['a bad duration', mapping({ give_up_after: '1 week' }), /give_up_after: expected seconds/],
    ['a bad misfit', mapping({}, { on_misfit: 'nul' }), /on_misfit: expected stop, null/],
    ['a list', [], /: expected a map of keys, received a list/],
    ['nothing', '', /: expected a map of keys, received null/],
    ['no YAML', 'a: [1, 2', /not readable|Flow sequence/],
    ['a key twice', 'name: a\nname: b', /Map keys must be unique/],
  ])('%s is refused', (_, input, expected) => {
    expect(problems(input).join('\n')).toMatch(
      typeof expected === 'string' ? new RegExp(expected.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')) : expected,
    );
  });

  it('never quotes a secret', () => {
    const error = refusal(
      mapping({
        source: { source_type: 'pgsql', url: 'postgresql://u:geheim@[h/d', password: ['geheim'], ssl_key: 5 },
      }),
    );
    expect(error.message + JSON.stringify(error.problems)).not.toContain('geheim');
  });

  it('is refused in words, whatever it is', () => {
    fc.assert(
      fc.property(fc.oneof(fc.anything({ maxDepth: 4 }), fc.string()), (input) => {
        const given =
          (input !== null && typeof input === 'object') || typeof input === 'string' ? input : String(input);
        expect(refusal(given as object).problems.length).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });
});

it('every key is in the JSON Schema and in docs/mapping.md', () => {
  const schema = mappingJsonSchema() as {
    properties: Record<'tables' | 'collections', { items: { properties: Record<string, { description?: string }> } }>;
  };
  const { tables, collections } = schema.properties;
  const keys = Object.entries({ ...tables.items.properties, ...collections.items.properties });
  const docs = readFileSync(new URL('../../docs/mapping.md', import.meta.url), 'utf8');
  expect(keys.length).toBeGreaterThan(20);
  for (const [key, { description }] of keys) {
    expect(description, key).toBeTruthy();
    expect(docs, key).toContain(`\`${key}\``);
  }
  for (const key of Object.keys(schema.properties)) expect(docs, key).toContain(`\`${key}\``);
});
