import { and, asc, eq, sql } from 'drizzle-orm';
import pg from 'pg';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { events, runs, runTables } from '../../db/schema.ts';
import { pauseUpdate } from '../../workflows/messages.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { install, query } from './installation.ts';

const noServers = (await missing('postgres')) || (await missing('temporal'));
type Begun = Awaited<ReturnType<Awaited<ReturnType<typeof install>>['begin']>>;

const until = async (check: () => Promise<boolean>, ms = 40_000) => {
  const end = Date.now() + ms;
  while (!(await check())) {
    if (Date.now() > end) throw new Error('It did not come to that.');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};

describe.skipIf(noServers)('publishing what is complete', () => {
  let source: TestDatabase;
  let target: TestDatabase;
  let godwit: Awaited<ReturnType<typeof install>>;
  beforeAll(async () => {
    await using stack = new AsyncDisposableStack();
    godwit = stack.use(await install());
    stack.use(await godwit.work());
    const kept = stack.move();
    return () => kept.disposeAsync();
  });
  beforeEach(async () => {
    source = await createDatabase();
    target = await createDatabase();
    return async () => {
      await source.drop();
      await target.drop();
    };
  });

  let n = 0;
  const job = (more: object = {}) => ({
    name: `publish-${++n}`,
    source: { source_type: 'pgsql', url: source.url },
    destination: { to: { destination_type: 'pgsql', url: target.url, schema: 'copy' } },
    tables: [{ table_name: 'public.*', mode: 'replace' }],
    ...more,
  });
  const tableOf = async (runId: string, name: string) => {
    const [row] = await godwit.db
      .select()
      .from(runTables)
      .where(and(eq(runTables.runId, runId), eq(runTables.sourceName, `public.${name}`)));
    return row;
  };
  const runOf = async (runId: string) => (await godwit.db.select().from(runs).where(eq(runs.id, runId)))[0];
  const told = async (runId: string, kind: string) =>
    await godwit.db
      .select()
      .from(events)
      .where(and(eq(events.runId, runId), eq(events.kind, kind)))
      .orderBy(asc(events.id));
  const stagings = async () =>
    (await query(target.url, `SELECT 1 FROM pg_tables WHERE schemaname = '_godwit' AND tablename ~ '^t_'`)).length;

  /** Somebody in the target who has the old table for himself from the time the run is planned. */
  const occupied = async (table: string, begin: () => Promise<Begun>) => {
    const client = new pg.Client({ connectionString: target.url });
    await client.connect();
    // A share first: planning may look at the table, the swap has to wait.
    await client.query(`BEGIN; LOCK TABLE copy.${table} IN ACCESS SHARE MODE`);
    const begun = await begin();
    await until(async () => (await tableOf(begun.run.id, table)) !== undefined);
    await client.query(`LOCK TABLE copy.${table} IN ACCESS EXCLUSIVE MODE`);
    return { begun, free: () => client.query('COMMIT'), [Symbol.asyncDispose]: () => client.end() };
  };
  const twoTables = `
    CREATE TABLE taken (id int PRIMARY KEY); INSERT INTO taken SELECT generate_series(1, 10);
    CREATE TABLE open (id int PRIMARY KEY); INSERT INTO open SELECT generate_series(1, 20); ANALYZE`;

  test('a swap that somebody blocks is given up after its time, alone; a later run goes on in its staging', async () => {
    await query(source.url, twoTables);
    const mapping = job({ give_up_after: 2 });
    await (await godwit.begin(mapping)).result();
    await query(source.url, 'INSERT INTO taken VALUES (11); INSERT INTO open VALUES (21)');
    await using lock = await occupied('taken', () => godwit.begin(mapping));
    const { run, result } = lock.begun;
    await until(async () => (await tableOf(run.id, 'taken'))?.status === 'waiting');
    const waiting = await tableOf(run.id, 'taken');
    expect(waiting?.failure).toMatchObject({ code: 'SERVER_BUSY', attempt: 1 });
    expect(waiting?.failure?.message).toContain('copy.taken');
    await until(async () => (await tableOf(run.id, 'open'))?.status === 'succeeded', 5_000);
    expect(await query(target.url, 'SELECT count(*)::int AS n FROM copy.open')).toEqual([{ n: 21 }]);
    expect(await result()).toMatchObject({ status: 'partial' });
    const failed = await tableOf(run.id, 'taken');
    expect(failed).toMatchObject({ status: 'failed', failure: { code: 'GAVE_UP' } });
    expect(failed?.failure?.message).toMatch(/^public\.taken: gave up after \d+ s: .*in use/);
    expect(await stagings()).toBe(1);
    await lock.free();

    const next = await godwit.begin(mapping);
    expect(await next.result()).toMatchObject({ status: 'succeeded' });
    expect((await tableOf(next.run.id, 'taken'))?.notes.join()).toContain(`goes on where run ${run.number} stopped`);
    expect(await query(target.url, 'SELECT count(*)::int AS n FROM copy.taken')).toEqual([{ n: 11 }]);
    expect(await stagings()).toBe(0);
  });

  test('a swap that is blocked for a while shows that it waits, then succeeds', async () => {
    await query(source.url, twoTables);
    const mapping = job();
    await (await godwit.begin(mapping)).result();
    await query(source.url, 'INSERT INTO taken VALUES (11)');
    await using lock = await occupied('taken', () => godwit.begin(mapping));
    const { run, result, handle } = lock.begun;
    await until(async () => (await tableOf(run.id, 'taken'))?.status === 'waiting');
    await until(async () => (await runOf(run.id))?.status === 'waiting');
    expect((await runOf(run.id))?.failure?.code).toBe('SERVER_BUSY');
    // A pause is for what moves: it holds no publication back.
    const { ordinal } = (await tableOf(run.id, 'taken'))!;
    await handle.executeUpdate(pauseUpdate, { args: [{ ordinal, actor: 'test' }] });
    expect((await tableOf(run.id, 'taken'))?.status).toBe('waiting');
    expect(await query(target.url, 'SELECT count(*)::int AS n FROM copy.open')).toEqual([{ n: 20 }]);
    await lock.free();
    expect(await result()).toMatchObject({ status: 'succeeded' });
    expect(await tableOf(run.id, 'taken')).toMatchObject({ status: 'succeeded', failure: null });
    expect((await runOf(run.id))?.failure).toBeNull();
    expect((await told(run.id, 'table.waiting')).map((one) => one.ordinal)).toEqual([ordinal]);
    expect(await query(target.url, 'SELECT count(*)::int AS n FROM copy.taken')).toEqual([{ n: 11 }]);
  });

  const family = `
    CREATE TABLE parent (id int PRIMARY KEY, note text); INSERT INTO parent SELECT i, 'p' FROM generate_series(1, 10) i;
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE);
    INSERT INTO child SELECT i, i FROM generate_series(1, 10) i;
    CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other SELECT generate_series(1, 5); ANALYZE`;
  /** Godwit's own counter of a table is wrong from the moment it is complete. */
  const miscount = async (name: string) => {
    await godwit.db.execute(sql`
      CREATE FUNCTION godwit.miscount() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        NEW.rows_written := NEW.rows_written - 1; RETURN NEW; END $$`);
    await godwit.db.execute(sql`
      CREATE TRIGGER miscount BEFORE UPDATE ON godwit.run_tables FOR EACH ROW
      WHEN (NEW.status = 'staged' AND OLD.status <> 'staged' AND NEW.source_name = '${sql.raw(`public.${name}`)}') EXECUTE FUNCTION godwit.miscount()`);
    return {
      [Symbol.asyncDispose]: async () => {
        await godwit.db.execute(sql`DROP FUNCTION godwit.miscount() CASCADE`);
      },
    };
  };
  const keys = () =>
    query<{ name: string; valid: boolean; of: string; to: string; cascades: boolean }>(
      target.url,
      `SELECT conname AS name, convalidated AS valid, conrelid::regclass::text AS of, confrelid::regclass::text AS to, confdeltype = 'c' AS cascades
       FROM pg_constraint WHERE contype = 'f'`,
    );
  const child = { name: 'child_parent_fkey', of: 'copy.child', to: 'copy.parent', cascades: true };
  const leftOut =
    'copy.child: foreign key child_parent_fkey to public.parent is missing: that table was not published with it';

  test('books that do not balance fail their own table and the run; all others are published', async () => {
    await query(source.url, family);
    await using _tampered = await miscount('parent');
    const { run, result } = await godwit.begin(job());
    await expect(result()).rejects.toMatchObject({ cause: { type: 'BOOKS_UNBALANCED' } });
    expect(await tableOf(run.id, 'parent')).toMatchObject({
      status: 'failed',
      failure: { code: 'BOOKS_UNBALANCED', message: expect.stringContaining('10 read, but 9 written, 0 unchanged') },
    });
    expect(await tableOf(run.id, 'child')).toMatchObject({ status: 'succeeded', notes: [leftOut] });
    expect((await tableOf(run.id, 'other'))?.status).toBe('succeeded');
    expect(await runOf(run.id)).toMatchObject({ status: 'failed', failure: { code: 'BOOKS_UNBALANCED' } });
    expect(await query(target.url, `SELECT count(*)::int AS n FROM copy.child`)).toEqual([{ n: 10 }]);
    expect(await query(target.url, `SELECT to_regclass('copy.parent') AS there`)).toEqual([{ there: null }]);
    expect(await keys()).toEqual([]);
  });

  test('a key to a table that succeeds in a later attempt is added then', async () => {
    await query(source.url, family);
    let runId: string;
    {
      await using _tampered = await miscount('parent');
      const renamed = [
        { table_name: 'public.parent', mode: 'replace', col_rename: { id: 'The key' } },
        { table_name: 'public.child', mode: 'replace', col_rename: { parent: 'of' } },
      ];
      const { run, result } = await godwit.begin(job({ tables: renamed }));
      runId = run.id;
      await expect(result()).rejects.toThrow();
      expect(await keys()).toEqual([]);
    }
    const again = await godwit.again(runId);
    expect(await again.result()).toMatchObject({ status: 'succeeded' });
    expect(await keys()).toEqual([{ ...child, valid: true }]);
    const parent = await tableOf(runId, 'parent');
    expect(parent?.notes).toContain(
      'copy.parent: foreign key child_parent_fkey of copy.child, left out until now, is made',
    );
    expect((await tableOf(runId, 'child'))?.notes).toEqual([]);
    expect(await query(target.url, `SELECT jsonb_agg(pending) AS p FROM _godwit.work`)).toEqual([{ p: [[], []] }]);
  });

  test('rows that break such a key leave it NOT VALID, and the run says so', async () => {
    await query(source.url, family);
    let runId: string;
    {
      await using _tampered = await miscount('parent');
      const { run, result } = await godwit.begin(job());
      runId = run.id;
      await expect(result()).rejects.toThrow();
    }
    await query(source.url, 'DELETE FROM parent WHERE id = 7');
    const again = await godwit.again(runId);
    expect(await again.result()).toMatchObject({ status: 'succeeded' });
    expect(await keys()).toEqual([{ ...child, valid: false }]);
    expect((await tableOf(runId, 'parent'))?.notes).toContain(
      'copy.parent: foreign key child_parent_fkey of copy.child is NOT VALID: some rows break it [23503]',
    );
  });
});
