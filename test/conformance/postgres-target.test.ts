import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Batch, BytesBatch, Format, PlanColumn, Table, Target, Work } from '../../connectors/contract.ts';
import { openSource } from '../../connectors/postgres/source.ts';
import { openTarget } from '../../connectors/postgres/target.ts';
import type { Row } from '../../connectors/types.ts';
import { type FaultProxy, startProxy } from '../../servers/proxy.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { everyType, everyTypeTables, longName } from './every-type.ts';
import { chunk, codeOf, type TargetSubject, testTarget, writeOptions } from './target.ts';

const quoted = (name: { schema: string; name: string }) =>
  `${pg.escapeIdentifier(name.schema)}.${pg.escapeIdentifier(name.name)}`;
const signal = new AbortController().signal;

async function connect(database: TestDatabase): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  return client;
}

const column = (name: string, native: string, type: PlanColumn['type'], nullable: boolean): PlanColumn => ({
  from: name,
  name,
  shape: 'native',
  type,
  native,
  nullable,
  fit: 'exact',
  misfit: 'stop',
});

const plainTable = (name: string): Table => ({
  system: 'files',
  name: { schema: 'src', name },
  kind: 'table',
  columns: [],
  key: ['id'],
  rows: 4,
  bytes: 100,
  references: [],
  fingerprint: 'f',
});

let numbers = 0;
function plainWork(over: Partial<Work> = {}): Work {
  const name = `plain ${++numbers}`;
  return {
    installation: 'here',
    jobUid: 'job',
    run: `run ${numbers}`,
    target: 'warehouse',
    mode: 'replace',
    source: plainTable(name),
    name: { schema: `plain schema ${numbers}`, name },
    columns: [column('id', 'integer', { kind: 'int32' }, false), column('v', 'text', { kind: 'text' }, true)],
    key: ['id'],
    generation: 1,
    existing: 'refuse',
    swap: 'rename',
    lane: 'rows',
    readFormat: 'rows',
    writeFormat: 'rows',
    ...over,
  };
}

/** COPY text of `id`, `v`, without frames and in two pieces cut within a row. */
function textBatches(rows: readonly Row[]): Batch[] {
  const text = Buffer.from(rows.map(([id, v]) => `${id}\t${v ?? '\\N'}\n`).join(''));
  const cut = text.length >> 1;
  const piece = (bytes: Uint8Array, last?: number): BytesBatch => ({ kind: 'bytes', bytes: [bytes], rows: last });
  return [piece(text.subarray(0, cut)), piece(text.subarray(cut), rows.length)];
}

async function* give(batches: readonly Batch[]): AsyncGenerator<Batch> {
  yield* batches;
}

async function visible(client: pg.Client, work: Work): Promise<Row[] | undefined> {
  const { rows } = await client.query('SELECT to_regclass($1) AS there', [quoted(work.name)]);
  if (rows[0].there === null) return undefined;
  const found = await client.query({ text: `SELECT id, v FROM ${quoted(work.name)} ORDER BY id, v`, rowMode: 'array' });
  return found.rows;
}

async function leftovers(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query(`
    SELECT 'relation ' || n.nspname || '.' || c.relname AS said FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = '_godwit' AND c.relkind IN ('r', 'S') AND c.relname ~ '_[0-9a-f]{20}'
    UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT 'type ' || typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname !~ '^(pg_|_godwit|information_schema)' AND typtype IN ('e', 'd', 'c', 'r')
    UNION ALL SELECT 'work ' || w::text FROM _godwit.work w WHERE published_at IS NULL
    UNION ALL SELECT 'chunk ' || c::text FROM _godwit.chunk c WHERE NOT EXISTS (SELECT FROM _godwit.work w WHERE w.run = c.run AND w.schema_name = c.schema_name AND w.published_at IS NOT NULL)
    UNION ALL SELECT 'made ' || m::text FROM _godwit.made m
    UNION ALL SELECT 'owner ' || o.table_name FROM _godwit.owner o WHERE relation IS NULL
    ORDER BY 1`);
  return rows.map((row) => row.said);
}

async function subject(format: 'rows' | 'pg-text', version?: number): Promise<TargetSubject> {
  const database = await createDatabase(undefined, { version });
  const client = await connect(database);
  return {
    open: () => openTarget({ url: database.url }),
    work: (over) => plainWork({ writeFormat: format, readFormat: format, ...over }),
    batches: (_, rows) =>
      give(format === 'pg-text' ? textBatches(rows) : rows.length === 0 ? [] : [{ kind: 'rows', rows }]),
    visible: (work) => visible(client, work),
    leftovers: () => leftovers(client),
    async [Symbol.asyncDispose]() {
      await client.end();
      await database.drop();
    },
  };
}

for (const version of [undefined, 13, 15] as const) {
  const gone = await missing(version === undefined ? 'postgres' : `postgres/${version}`);
  if (gone) continue;
  const named = `PostgreSQL ${version ?? 'of the package'} as a target`;
  testTarget(`${named}, rows`, () => subject('rows', version));
  testTarget(`${named}, COPY text`, () => subject('pg-text', version));
  describe(`${named}, from PostgreSQL`, () => fromPostgres(version));
}

/** A work as the planner makes it for two PostgreSQL. */
function copyWork(table: Table, target: Target, format: Format, over: Partial<Work> = {}): Work {
  const fits = target.fit(table);
  const columns = table.columns.flatMap((one, i): PlanColumn[] => {
    const fit = fits[i];
    if (one.generated || !fit || fit.fit === 'refused') return [];
    return [{ ...column(one.name, fit.native, fit.type, one.nullable), shape: fit.shape }];
  });
  return {
    ...plainWork(),
    run: `copy ${++numbers}`,
    source: table,
    name: table.name,
    columns,
    key: table.key,
    lane: 'direct',
    readFormat: format,
    writeFormat: format,
    ...over,
  };
}

function fromPostgres(version: number | undefined) {
  let from: TestDatabase;
  let to: TestDatabase;
  let a: pg.Client;
  let b: pg.Client;
  let source: ReturnType<typeof openSource>;
  let target: Target;
  let tables: Map<string, Table>;

  beforeAll(async () => {
    from = await createDatabase(undefined, { version });
    to = await createDatabase(undefined, { version });
    a = await connect(from);
    b = await connect(to);
    const { rows } = await a.query("SELECT current_setting('server_version_num')::int / 10000 AS major");
    await a.query(everyType(rows[0].major));
    for (const client of [a, b])
      await client.query("SET search_path = ''; SET lc_monetary = 'C'; SET TimeZone = 'UTC'");
    source = openSource({ url: from.url });
    target = openTarget({ url: to.url });
    tables = await describeAll();
  });
  afterAll(async () => {
    await source?.[Symbol.asyncDispose]();
    await target?.[Symbol.asyncDispose]();
    await a?.end();
    await b?.end();
    await from?.drop();
    await to?.drop();
  });

  async function describeAll(): Promise<Map<string, Table>> {
    const names = [...everyTypeTables].map((name) => ({ schema: 'nasty', name }));
    const all = await source.describeAll(names);
    return new Map(all.map((table, i) => [names[i]!.name, table as Table]));
  }

  const tableNamed = (name: string): Table => tables.get(name)!;

  async function load(work: Work, over: Parameters<typeof writeOptions>[0] = {}) {
    const { source: table, writeFormat: format } = work;
    await target.prepare(work);
    const all = { id: 1, kind: 'all', bounds: null, rows: table.rows } as const;
    const claim = await target.claim(work, all);
    if (claim.done) return claim.done;
    const columns = work.columns.map((one) => ({
      name: one.from ?? one.name,
      shape: one.shape,
      ...(one.constant === undefined ? {} : { constant: { value: one.constant, type: one.type } }),
    }));
    const framed = format !== 'rows';
    const batch = { rows: 300, bytes: 64 * 1024 };
    const batches = source.read(table, all, {
      columns,
      snapshot: { consistency: 'chunk' },
      format,
      framed,
      batch,
      signal,
    });
    const counts = await target.write(work, claim, batches, writeOptions(over));
    await target.finish(work);
    return counts;
  }

  const contents = async (client: pg.Client, text: string) => (await client.query(text)).rows.map((row) => row.x);
  const rowTexts = (table: Table, name = table.name) =>
    `SELECT x::text AS x FROM ${table.kind === 'partitioned' ? '' : 'ONLY '}${quoted(name)} x ORDER BY 1`;
  const copied = (name = tableNamed('many').name) => `SELECT x::text AS x FROM ${quoted(name)} x ORDER BY 1`;

  describe.each(['pg-binary', 'pg-text', 'rows'] as const)('every type by %s', (format) => {
    test('arrives exactly, with its keys, indexes, checks, defaults, comments and foreign keys', async () => {
      const works = [...tables.values()].map((table) => {
        const names = table.columns.filter((one) => !one.generated).map((one) => one.name);
        const possible = format === 'rows' || source.exactFormats(table, names, target).includes(format);
        return copyWork(table, target, possible ? format : 'pg-text');
      });
      for (const work of works) {
        expect(await target.refusals(work)).toEqual([]);
        const counts = await load(work);
        expect(counts.read).toBe(counts.written);
      }
      const { notes } = await target.publish(works, []);
      expect(notes).toEqual(['nasty.events: partitioned at the source, one plain table here']);
      for (const { source: table } of works) {
        expect(await contents(b, copied(table.name)), table.name.name).toEqual(await contents(a, rowTexts(table)));
      }
      for (const text of Object.values(definitions)) {
        expect(await contents(b, text), text).toEqual(await contents(a, text));
      }
      expect(await leftovers(b)).toEqual((await leftovers(b)).filter((said) => /^(schema|type) /.test(said)));
    });
  });

  /** As the server prints them; partitioned and inherited tables apart, which are plain tables on the target. */
  const mine = `n.nspname = 'nasty' AND c.relname !~ '^(events|a_|child)'`;
  const definitions = {
    constraints: `SELECT c.relname || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid) || k.convalidated AS x FROM pg_constraint k
      JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${mine} ORDER BY 1`,
    indexes: `SELECT pg_get_indexdef(i.indexrelid) || indisvalid AS x FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${mine} ORDER BY 1`,
    columns: `SELECT format('%s %s %s %s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
        pg_get_expr(d.adbin, d.adrelid)) AS x FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE ${mine} AND c.relkind = 'r' AND a.attnum > 0 ORDER BY c.relname, a.attnum`,
    sequences: `SELECT format('%s %s %s %s %s %s %s', sequencename, data_type, start_value, increment_by, cache_size, cycle, last_value) AS x
      FROM pg_sequences WHERE schemaname = 'nasty' ORDER BY 1`,
    comments: `SELECT format('%s %s %s', c.relname, objsubid, description) AS x FROM pg_description d JOIN pg_class c ON c.oid = d.objoid
      JOIN pg_namespace n ON n.oid = c.relnamespace WHERE d.classoid = 'pg_class'::regclass AND ${mine} ORDER BY 1`,
    types: `SELECT t.typname || ' ' || t.typtype::text AS x FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
      WHERE n.nspname = 'nasty' AND typtype IN ('e', 'd', 'r') ORDER BY 1`,
  };

  test('a second swap carries views, grants, comments, triggers, policies and keys from outside', async () => {
    const table = tableNamed('many');
    await b.query(`
      CREATE SCHEMA mine;
      CREATE VIEW mine.v WITH (security_barrier = true) AS SELECT id, name FROM nasty.many WHERE amount > 1;
      CREATE VIEW mine."V of v" AS SELECT count(*) AS n FROM mine.v;
      COMMENT ON VIEW mine.v IS 'a view';
      GRANT SELECT ON mine."V of v" TO PUBLIC;
      GRANT SELECT (id, name) ON nasty.many TO PUBLIC;
      GRANT INSERT ON nasty.many TO pg_monitor WITH GRANT OPTION;
      CREATE FUNCTION mine.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      CREATE TRIGGER "a trigger" BEFORE UPDATE ON nasty.many FOR EACH ROW WHEN (OLD.id > 5) EXECUTE FUNCTION mine.f();
      ALTER TABLE nasty.many DISABLE TRIGGER "a trigger";
      CREATE POLICY p ON nasty.many AS RESTRICTIVE FOR SELECT TO PUBLIC USING (id > 0);
      ALTER TABLE nasty.many ENABLE ROW LEVEL SECURITY;
      CREATE STATISTICS mine.s ON id, name FROM nasty.many;
      CREATE TABLE mine.child (many_id bigint CONSTRAINT "to many" REFERENCES nasty.many (id) ON DELETE CASCADE);
      INSERT INTO mine.child SELECT id FROM nasty.many LIMIT 3;
      COMMENT ON COLUMN nasty.many.amount IS 'said here';
      CREATE INDEX "only here" ON nasty.many (amount);`);
    const carried = `
      SELECT format('view %s %s %s', c.oid::regclass, c.reloptions, pg_get_viewdef(c.oid)) AS x FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'mine' AND c.relkind = 'v'
      UNION ALL SELECT format('acl %s %s', c.oid::regclass, (SELECT array_agg(i::text ORDER BY i::text) FROM unnest(c.relacl) i)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('mine', 'nasty') AND c.relkind IN ('r', 'v') AND c.relacl IS NOT NULL
      UNION ALL SELECT format('column acl %s %s', attname, attacl) FROM pg_attribute WHERE attrelid = 'nasty.many'::regclass AND attacl IS NOT NULL
      UNION ALL SELECT pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger WHERE tgrelid = 'nasty.many'::regclass AND NOT tgisinternal
      UNION ALL SELECT format('policy %s %s %s', polname, polcmd, pg_get_expr(polqual, polrelid)) FROM pg_policy
      UNION ALL SELECT format('security %s', relrowsecurity) FROM pg_class WHERE oid = 'nasty.many'::regclass
      UNION ALL SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext
      UNION ALL SELECT conname || pg_get_constraintdef(oid) || convalidated FROM pg_constraint WHERE conrelid = 'mine.child'::regclass AND contype = 'f'
      UNION ALL SELECT format('comment %s %s', objoid::regclass, description) FROM pg_description WHERE classoid = 'pg_class'::regclass AND objoid IN ('mine.v'::regclass, 'nasty.many'::regclass) ORDER BY 1`;
    const before = await contents(b, carried);
    expect(before.length).toBeGreaterThan(10);
    const oid = await contents(b, `SELECT 'nasty.many'::regclass::oid AS x`);
    // composite_key's foreign key comes from outside of this publication.
    const work = copyWork(table, target, 'pg-binary');
    expect(await target.refusals(work)).toEqual([]);
    await load(work);
    const { notes } = await target.publish([work], []);
    expect(notes).toEqual(['nasty.many: index only here of the old table is not at the source and was not carried']);
    expect(await contents(b, carried)).toEqual(before);
    expect(await contents(b, `SELECT 'nasty.many'::regclass::oid AS x`)).not.toEqual(oid);
    expect(await contents(b, copied())).toEqual(await contents(a, rowTexts(table)));
    for (const text of Object.values(definitions))
      expect((await contents(b, text)).filter((x) => !/said here/.test(x))).toEqual(await contents(a, text));
  });

  test('a key from outside that the new rows break is reported, and the swap stands', async () => {
    await b.query(`ALTER TABLE mine.child DROP CONSTRAINT "to many"; INSERT INTO mine.child VALUES (-77);
      ALTER TABLE mine.child ADD CONSTRAINT "to many" FOREIGN KEY (many_id) REFERENCES nasty.many NOT VALID;
      DELETE FROM mine.child WHERE many_id = -77; ALTER TABLE mine.child VALIDATE CONSTRAINT "to many"`);
    await b.query(
      `INSERT INTO nasty.many (id, name, serial_no) VALUES (-77, 'only here', -77); INSERT INTO mine.child VALUES (-77)`,
    );
    const work = copyWork(tableNamed('many'), target, 'pg-binary');
    await load(work);
    const { notes } = await target.publish([work], []);
    expect(notes).toEqual(['nasty.many: foreign key to many of mine.child is NOT VALID: some rows break it [23503]']);
    await b.query('DROP TABLE mine.child');
  });

  test('what cannot be carried is refused by name, and delete-insert keeps it', async () => {
    await b.query(
      'CREATE MATERIALIZED VIEW mine.m AS SELECT id FROM nasty.many; CREATE TABLE mine.rows (r nasty.many)',
    );
    const work = copyWork(tableNamed('many'), target, 'pg-binary');
    const refused = await target.refusals(work);
    expect(refused.map((error) => error.code)).toEqual(['SWAP_IMPOSSIBLE']);
    expect(refused[0]?.message).toMatch(/column r of table mine.rows.*materialized view mine.m/);
    const kept: Work = { ...work, swap: 'delete-insert' };
    await b.query(`DELETE FROM nasty.many WHERE id > 100; UPDATE nasty.many SET name = 'changed'`);
    const oid = await contents(b, `SELECT 'nasty.many'::regclass::oid AS x`);
    expect(await target.refusals(kept)).toEqual([]);
    await load(kept);
    await target.publish([kept], []);
    expect(await contents(b, copied())).toEqual(await contents(a, rowTexts(tableNamed('many'))));
    expect(await contents(b, `SELECT 'nasty.many'::regclass::oid AS x`)).toEqual(oid);
    for (const text of [definitions.constraints, definitions.sequences])
      expect(await contents(b, text)).toEqual(await contents(a, text));
    await b.query('DROP MATERIALIZED VIEW mine.m; DROP TABLE mine.rows');
  });

  test('a swap waits for a reader of the old table, and keeps trying', async () => {
    const work = copyWork(tableNamed('parent'), target, 'pg-binary');
    await load(work);
    const reader = await connect(to);
    await reader.query('BEGIN; SELECT * FROM nasty.parent');
    const published = target.publish([work], []);
    setTimeout(() => void reader.query('COMMIT'), 3_000);
    await published;
    await reader.end();
    expect(await contents(b, copied(work.name))).toEqual(await contents(a, rowTexts(work.source)));
  });

  test('renamed and excluded columns, another schema, a long and a reserved name', async () => {
    const table = tableNamed('many');
    const work = copyWork(table, target, 'pg-text', { name: { schema: 'Other "schema"', name: longName } });
    const swapNames: Record<string, string> = { id: 'order', name: 'amount', amount: 'name', at: `Weird, "col"` };
    const columns = work.columns
      .filter((one) => one.name !== 'serial_no')
      .map((one) => ({ ...one, name: swapNames[one.name] ?? one.name }));
    const renamed: Work = { ...work, columns, key: ['order'] };
    expect(await target.refusals(renamed)).toEqual([]);
    await load(renamed);
    const { notes } = await target.publish([renamed], []);
    expect(notes).toEqual([
      `Other "schema".${longName}: constraint many_serial_no_key is left out, its column serial_no does not move`,
    ]);
    const text = (names: string[], from: string) =>
      `SELECT row(${names.map((n) => pg.escapeIdentifier(n)).join(', ')})::text AS x FROM ${from} ORDER BY 1`;
    expect(
      await contents(b, text(['order', 'amount', 'name', 'Weird, "col"', 'ref', 'lower_name'], quoted(renamed.name))),
    ).toEqual(await contents(a, text(['id', 'name', 'amount', 'at', 'ref', 'lower_name'], 'nasty.many')));
    const index = await contents(
      b,
      `SELECT pg_get_indexdef(indexrelid) AS x FROM pg_index WHERE indrelid = '${quoted(renamed.name)}'::regclass ORDER BY 1`,
    );
    expect(index.join(';')).toContain(`(lower(amount) DESC, name) WHERE (name > (10)::numeric)`);
    await b.query('DROP TABLE ' + quoted(renamed.name));
  });

  test('two tables in a ring of foreign keys are published together, a missing one is reported', async () => {
    await a.query(`CREATE SCHEMA ring; CREATE TABLE ring.x (id int PRIMARY KEY, y int); CREATE TABLE ring.y (id int PRIMARY KEY, x int REFERENCES ring.x, self int REFERENCES ring.y);
      ALTER TABLE ring.x ADD CONSTRAINT to_y FOREIGN KEY (y) REFERENCES ring.y DEFERRABLE INITIALLY DEFERRED;
      INSERT INTO ring.x VALUES (1, NULL), (2, NULL); INSERT INTO ring.y VALUES (1, 1, 1), (2, 2, 1); UPDATE ring.x SET y = id`);
    const [x, y] = (await source.describeAll([
      { schema: 'ring', name: 'x' },
      { schema: 'ring', name: 'y' },
    ])) as [Table, Table];
    const keys = `SELECT conname || pg_get_constraintdef(oid) || convalidated AS x FROM pg_constraint WHERE contype = 'f' AND connamespace = 'ring'::regnamespace ORDER BY 1`;
    for (let round = 0; round < 2; round++) {
      const works = [copyWork(x, target, 'pg-binary'), copyWork(y, target, 'pg-binary')];
      for (const work of works) await load(work);
      expect((await target.publish(works, [])).notes).toEqual([]);
      expect(await contents(b, keys)).toEqual(await contents(a, keys));
    }
    const alone = copyWork(x, target, 'pg-binary');
    await load(alone);
    const { notes } = await target.publish([alone], [y.name]);
    expect(notes).toEqual(['ring.x: foreign key to_y to ring.y is missing: that table was not published with it']);
    expect((await contents(b, keys)).length).toBe(2);
    // Rows that break a key: as chunks read at different moments can.
    await a.query(
      `ALTER TABLE ring.y DROP CONSTRAINT y_x_fkey; UPDATE ring.y SET x = 99; ALTER TABLE ring.y ADD CONSTRAINT y_x_fkey FOREIGN KEY (x) REFERENCES ring.x NOT VALID`,
    );
    const broken = {
      ...y,
      extras: {
        ...(y.extras as object),
        storage: ((await source.describe(y.name)).extras as { storage: string }).storage,
      },
    };
    const works = [copyWork(x, target, 'pg-binary'), copyWork(broken, target, 'pg-binary')];
    for (const work of works) await load(work);
    expect((await target.publish(works, [])).notes).toEqual([
      'ring.y: foreign key y_x_fkey is NOT VALID: some rows break it [23503]',
    ]);
  });

  test('two delete-insert tables with keys between them change their rows together', async () => {
    await a.query('UPDATE ring.y SET x = id; UPDATE ring.x SET y = NULL WHERE id = 2');
    const both = (await source.describeAll([
      { schema: 'ring', name: 'x' },
      { schema: 'ring', name: 'y' },
    ])) as [Table, Table];
    const works = both.map((table) => copyWork(table, target, 'pg-binary', { swap: 'delete-insert' }));
    for (const work of works) await load(work);
    await target.publish(works, []);
    for (const { source: table } of works)
      expect(await contents(b, copied(table.name))).toEqual(await contents(a, rowTexts(table)));
  });

  test('bad rows of the rows lane are set aside one by one, the others kept', async () => {
    const work = plainWork({
      columns: [
        column('id', 'smallint', { kind: 'int32' }, false),
        column('v', 'character varying(3)', { kind: 'text' }, true),
      ],
      key: [],
    });
    const rows: Row[] = Array.from({ length: 1000 }, (_, i) => [i, 'abc']);
    rows[17] = [70_000, 'abc'];
    rows[500] = [500, 'too long'];
    rows[501] = [501, 'a\0'];
    rows[999] = [null, 'abc'];
    await target.prepare(work);
    const claim = await target.claim(work, chunk(1));
    const bad: string[] = [];
    const counts = await target.write(
      work,
      claim,
      give([
        { kind: 'rows', rows: rows.slice(0, 400) },
        { kind: 'rows', rows: rows.slice(400) },
      ]),
      writeOptions({
        quarantine: async (found) => {
          for (const one of found) bad.push(`${one.ordinal} ${one.native} ${one.row === rows[one.ordinal]}`);
        },
      }),
    );
    expect(bad).toEqual(['17 22003 true', '500 22001 true', '501 22021 true', '999 23502 true']);
    expect(counts).toMatchObject({ read: 1000, written: 996, quarantined: 4 });
    const again = await target.claim(work, chunk(2));
    const refuse = target.write(
      work,
      again,
      give([{ kind: 'rows', rows }]),
      writeOptions({ quarantine: async () => Promise.reject(new Error('too many')) }),
    );
    await expect(refuse).rejects.toThrow('too many');
    await target.finish(work);
    await target.publish([work], []);
    expect((await visible(b, work))?.length).toBe(996);
  });

  test('a stream that breaks off, or says another number, is rolled back', async () => {
    const work = plainWork({ writeFormat: 'pg-text' });
    await target.prepare(work);
    const bytes = [Buffer.from('1\ta\n2\tb\n')];
    for (const said of [undefined, 1, 3]) {
      const claim = await target.claim(work, chunk(1));
      expect(
        await codeOf(target.write(work, claim, give([{ kind: 'bytes', bytes, rows: said }]), writeOptions())),
      ).toBe('BOOKS_UNBALANCED');
    }
    const claim = await target.claim(work, chunk(1));
    expect(
      await codeOf(
        target.write(work, claim, give([{ kind: 'bytes', bytes: [Buffer.from('x\ty\n')], rows: 1 }]), writeOptions()),
      ),
    ).toBe('VALUE_REFUSED');
    expect((await Array.fromAsync(target.checkpoints(work))).map((one) => one.done)).toEqual([false]);
    await target.discard(work);
  });

  test('a chunk with other bounds than it was begun with is refused', async () => {
    const work = plainWork();
    await target.prepare(work);
    await target.claim(work, chunk(1));
    expect(await codeOf(target.claim(work, { ...chunk(1), bounds: { upto: ['other'] } }))).toBe('INTERNAL');
    await target.discard(work);
  });

  test('a writer stopped between checkpoint and commit is ended by the next claim', async () => {
    const work = plainWork();
    await target.prepare(work);
    const claim = await target.claim(work, chunk(1));
    // The same statements a stopped writer has behind it, from a session that says nothing more.
    const stopped = await connect(to);
    stopped.on('error', () => {});
    const key = `installation = 'here' AND run = '${work.run}'`;
    await stopped.query(
      `UPDATE _godwit.chunk SET pid = pg_backend_pid(), backend_start = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()) WHERE ${key}`,
    );
    await stopped.query(`BEGIN; UPDATE _godwit.chunk SET done = true WHERE ${key}`);
    const next = await target.claim(work, chunk(1));
    expect(next.done).toBeUndefined();
    expect(next.epoch).toBe(claim.epoch + 1);
    await expect(stopped.query('COMMIT')).rejects.toThrow();
    await stopped.end().catch(() => {});
    await target.discard(work);
  });

  test('the checkpoint itself is fenced: an epoch that moved on under a writer rolls it back', async () => {
    const work = plainWork();
    await target.prepare(work);
    const claim = await target.claim(work, chunk(1));
    async function* overtaken(): AsyncGenerator<Batch> {
      yield { kind: 'rows', rows: [[1, 'stale']] };
      await b.query(`UPDATE _godwit.chunk SET epoch = epoch + 1, pid = NULL WHERE run = $1`, [work.run]);
    }
    expect(await codeOf(target.write(work, claim, overtaken(), writeOptions()))).toBe('FENCED');
    await target.finish(work);
    await target.publish([work], []);
    expect(await visible(b, work)).toEqual([]);
  });

  test('a broken key fails finish and leaves the staging', async () => {
    const work = plainWork();
    await target.prepare(work);
    const claim = await target.claim(work, chunk(1));
    await target.write(
      work,
      claim,
      give([
        {
          kind: 'rows',
          rows: [
            [1, 'a'],
            [1, 'b'],
          ],
        },
      ]),
      writeOptions(),
    );
    expect(await codeOf(target.finish(work))).toBe('CONSTRAINT_BROKEN');
    expect(await codeOf(target.publish([work], []))).toBe('CONSTRAINT_BROKEN');
    await target.discard(work);
  });

  describe('the answer to COMMIT is lost', () => {
    let proxy: FaultProxy;
    let far: Target;
    const slow = `CREATE FUNCTION public.nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2); RETURN NULL; END'`;
    beforeAll(async () => {
      const url = new URL(to.url);
      proxy = await startProxy({ host: url.hostname, port: Number(url.port) });
      url.port = String(proxy.port);
      far = openTarget({ url: url.href });
      await b.query(slow);
    });
    afterAll(async () => {
      await far?.[Symbol.asyncDispose]();
      await proxy?.stop();
      await b.query('DROP FUNCTION public.nap() CASCADE');
    });

    /** Deferred triggers make every COMMIT over the table take two seconds. */
    const slowCommit = (table: string, when = '') =>
      b.query(
        `CREATE CONSTRAINT TRIGGER nap AFTER INSERT OR UPDATE ON ${table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW ${when} EXECUTE FUNCTION public.nap()`,
      );
    const committing = async () => {
      const asked = `SELECT 1 AS x FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active' AND datname = current_database()`;
      while ((await contents(b, asked)).length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    const row = () => give([{ kind: 'rows', rows: [[1, 'a']] }]);

    test('after it came through: the checkpoint says so, and the write succeeds', async () => {
      const work = plainWork();
      await far.prepare(work);
      const claim = await far.claim(work, chunk(1));
      await slowCommit('_godwit.chunk', 'WHEN (NEW.done)');
      try {
        const written = far.write(work, claim, row(), writeOptions());
        await committing();
        proxy.afterBytes(1, () => proxy.cut(), 'toClient');
        expect(await written).toMatchObject({ read: 1, written: 1 });
        expect((await target.claim(work, chunk(1))).done).toMatchObject({ written: 1 });
      } finally {
        await b.query('DROP TRIGGER nap ON _godwit.chunk');
      }
      await target.finish(work);
      await target.publish([work], []);
      expect(await visible(b, work)).toEqual([[1, 'a']]);
    });

    test('before it came through: nothing is assumed, and the next attempt writes once', async () => {
      const work = plainWork();
      await far.prepare(work);
      const claim = await far.claim(work, chunk(1));
      await slowCommit('_godwit.chunk', 'WHEN (NEW.done)');
      try {
        const written = codeOf(far.write(work, claim, row(), writeOptions()));
        await committing();
        proxy.cut();
        expect(await written).toBe('CONNECTION_FAILED');
      } finally {
        await b.query('DROP TRIGGER nap ON _godwit.chunk');
      }
      const again = await far.claim(work, chunk(1));
      expect(again.done).toBeUndefined();
      await far.write(work, again, row(), writeOptions());
      await target.finish(work);
      await target.publish([work], []);
      expect(await visible(b, work)).toEqual([[1, 'a']]);
    });

    test('of a swap: asked again, it finds its marker', async () => {
      const work = plainWork();
      await far.prepare(work);
      await far.write(work, await far.claim(work, chunk(1)), row(), writeOptions());
      await far.finish(work);
      await slowCommit('_godwit.owner');
      try {
        const lost = codeOf(far.publish([work], []));
        await committing();
        proxy.afterBytes(1, () => proxy.cut(), 'toClient');
        expect(await lost).toBe('CONNECTION_FAILED');
      } finally {
        await b.query('DROP TRIGGER nap ON _godwit.owner');
      }
      const oid = await contents(b, `SELECT '${quoted(work.name)}'::regclass::oid AS x`);
      expect((await far.publish([work], [])).notes).toEqual([]);
      expect(await contents(b, `SELECT '${quoted(work.name)}'::regclass::oid AS x`)).toEqual(oid);
      expect(await visible(b, work)).toEqual([[1, 'a']]);
    });

    test('a swap that hangs with its locks is ended by the next one', async () => {
      const work = plainWork();
      await far.prepare(work);
      await far.write(work, await far.claim(work, chunk(1)), row(), writeOptions());
      await far.finish(work);
      await slowCommit('_godwit.owner');
      const hanging = codeOf(far.publish([work], []));
      await committing();
      // The worker stands still: its COMMIT is on the way and nobody hears the answer.
      proxy.pause();
      const ended = target.publish([work], []);
      await ended;
      await b.query('DROP TRIGGER nap ON _godwit.owner');
      proxy.resume();
      await hanging;
      expect(await visible(b, work)).toEqual([[1, 'a']]);
    });
  });

  describe('dumping', () => {
    const date = (n: number) => `2026-0${n}-01T00:00:00.123456Z`;
    const dump = (n: number, over: Partial<Work> = {}): Work => {
      const base = copyWork(tableNamed('many'), target, 'pg-text', { name: { schema: 'lake', name: 'Many' } });
      const stamp: PlanColumn = {
        name: 'migration_snapshot_date',
        shape: 'native',
        type: { kind: 'timestamptz' },
        native: 'timestamp with time zone',
        nullable: false,
        fit: 'exact',
        misfit: 'stop',
        constant: date(n),
      };
      const columns = [...base.columns, stamp];
      return {
        ...base,
        mode: 'dumping',
        snapshotDate: date(n),
        columns,
        key: ['migration_snapshot_date', 'id'],
        ...over,
      };
    };
    const dates = () =>
      contents(
        b,
        `SELECT migration_snapshot_date::date::text || ' ' || count(*) AS x FROM lake."Many" GROUP BY migration_snapshot_date ORDER BY 1`,
      );

    test('appends a snapshot per run and says which are complete; a canceled one leaves no row', async () => {
      const before = await leftovers(b);
      const canceled = dump(3);
      await load(canceled);
      await target.discard(canceled);
      expect(await leftovers(b)).toEqual(before);
      for (const n of [1, 2]) {
        const work = dump(n);
        expect(await target.refusals(work)).toEqual([]);
        await load(work);
        await target.publish([work], []);
        await target.publish([work], []);
      }
      const third = dump(3);
      await load(third);
      expect(await dates()).toEqual(['2026-01-01 5000', '2026-02-01 5000', '2026-03-01 5000']);
      await target.discard(third);
      expect(await dates()).toEqual(['2026-01-01 5000', '2026-02-01 5000']);
      expect(
        await contents(
          b,
          `SELECT migration_snapshot_date::date::text || rows_written AS x FROM _godwit.snapshot ORDER BY 1`,
        ),
      ).toEqual(['2026-01-015000', '2026-02-015000']);
      expect(
        await contents(
          b,
          `SELECT pg_get_constraintdef(oid) AS x FROM pg_constraint WHERE conrelid = 'lake."Many"'::regclass AND contype IN ('p', 'u', 'f')`,
        ),
      ).toEqual(['PRIMARY KEY (migration_snapshot_date, id)']);
    });

    test('a table with other columns is refused', async () => {
      const work = dump(4);
      const other = { ...work, columns: work.columns.filter((one) => one.name !== 'at') };
      expect(await target.refusals(other)).toEqual([]);
      await b.query('ALTER TABLE lake."Many" ALTER amount TYPE text; ALTER TABLE lake."Many" DROP ref CASCADE');
      const refused = await target.refusals(work);
      expect(refused.map((error) => error.code)).toEqual(['TARGET_DIFFERS']);
      expect(refused[0]?.message).toContain('amount is text there and numeric(12,2) at the source; ref is not there');
    });
  });

  test('the plan refuses what the login may not do, and types the server does not have', async () => {
    const role = `r_${randomUUID().slice(0, 8)}`;
    await b.query(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'; CREATE SCHEMA closed`);
    const url = new URL(to.url);
    url.username = role;
    url.password = 'secret';
    await using limited = openTarget({ url: url.href });
    const refused = await limited.refusals(plainWork({ name: { schema: 'closed', name: 't' } }));
    expect(refused.map((error) => error.code)).toEqual(['PRIVILEGE_MISSING', 'PRIVILEGE_MISSING']);
    expect((await limited.check()).filter((one) => one.outcome === 'fail').map((one) => one.name)).toEqual([
      'privileges',
    ]);
    const strange = plainWork({
      columns: [
        column('id', 'integer', { kind: 'int32' }, false),
        column('g', 'public.geometry(Point,4326)', { kind: 'native' }, true),
      ],
    });
    expect((await target.refusals(strange)).map((error) => error.code)).toEqual(['TYPE_REFUSED']);
    await b.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  });

  test('user types come and go with a canceled table', async () => {
    await a.query(
      `CREATE SCHEMA typed; CREATE TYPE typed.color AS ENUM ('red', 'blue'); CREATE DOMAIN typed.c AS typed.color; CREATE TABLE typed.t (id int PRIMARY KEY, c typed.c)`,
    );
    const before = await leftovers(b);
    const work = copyWork(await source.describe({ schema: 'typed', name: 't' }), target, 'pg-text');
    await load(work);
    await target.discard(work);
    expect(await leftovers(b)).toEqual(before);
    const again = { ...work, run: 'again' };
    await load(again);
    await target.publish([again], []);
    await a.query(`ALTER TYPE typed.color ADD VALUE 'green' BEFORE 'blue'`);
    await a.query(`INSERT INTO typed.t VALUES (1, 'green')`);
    const wider = copyWork(await source.describe({ schema: 'typed', name: 't' }), target, 'pg-text');
    expect(await target.refusals(wider)).toEqual([]);
    await load(wider);
    await target.publish([wider], []);
    expect(await contents(b, `SELECT t::text AS x FROM typed.t`)).toEqual(['(1,green)']);
    expect(
      await contents(
        b,
        `SELECT enumlabel AS x FROM pg_enum WHERE enumtypid = 'typed.color'::regtype ORDER BY enumsortorder`,
      ),
    ).toEqual(['red', 'green', 'blue']);
  });
}
