import { beforeAll, expect, test } from 'vitest';
import type { Table, Work } from '../../connectors/contract.ts';
import {
  connect,
  contents,
  copied,
  copyWork,
  definitions,
  describeVersions,
  postgresPair,
  rowTexts,
  type Version,
} from './postgres-works.ts';

await describeVersions(', the swap', swapping);

function swapping(version: Version) {
  const on = postgresPair(version, version);
  beforeAll(async () => {
    const works = [...on.tables.values()].map((table) => copyWork(table, on.target, 'pg-text'));
    for (const work of works) await on.load(work);
    await on.target.publish(works, []);
  });

  test('a second swap carries views, grants, comments, triggers, policies and keys from outside', async () => {
    const { a, b, target, tableNamed, load } = on;
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
    expect(await contents(b, copied(tableNamed('many').name))).toEqual(await contents(a, rowTexts(table)));
    for (const text of Object.values(definitions))
      expect((await contents(b, text)).filter((x) => !/said here/.test(x))).toEqual(await contents(a, text));
  });

  test('a key from outside that the new rows break is reported, and the swap stands', async () => {
    const { b, target, tableNamed, load } = on;
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
    const { a, b, target, tableNamed, load } = on;
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
    expect(await contents(b, copied(tableNamed('many').name))).toEqual(await contents(a, rowTexts(tableNamed('many'))));
    expect(await contents(b, `SELECT 'nasty.many'::regclass::oid AS x`)).toEqual(oid);
    for (const text of [definitions.constraints, definitions.sequences])
      expect(await contents(b, text)).toEqual(await contents(a, text));
    await b.query('DROP MATERIALIZED VIEW mine.m; DROP TABLE mine.rows');
  });

  test('a swap waits for a reader of the old table, and keeps trying', async () => {
    const { a, b, to, target, tableNamed, load } = on;
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

  test('two tables in a ring of foreign keys are published together, a missing one is reported', async () => {
    const { a, b, source, target, load } = on;
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
    const { a, b, source, target, load } = on;
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
}
