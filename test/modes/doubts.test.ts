/** Doubts about the incremental modes, each as the story of a table that somebody could have. */
import { eq } from 'drizzle-orm';
import { MongoClient } from 'mongodb';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { epochOf, unitByGreatest, unitBySize } from '../../activities/plan/instants.ts';
import { jobs, runs, runTables } from '../../db/schema.ts';
import { createDatabase, createMongoDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { install, query } from '../workflow/installation.ts';
import { type Godwit, runOnce } from './from.ts';

const noMongo = await missing('mongodb');
const skip = (await missing('postgres')) || (await missing('temporal'));

describe.skipIf(skip)('doubts', () => {
  const stack = new AsyncDisposableStack();
  let godwit: Godwit;
  let source: TestDatabase;
  let target: TestDatabase;
  beforeAll(async () => {
    godwit = stack.use(await install({ GODWIT_CHUNK_MB: '1' }));
    stack.use(await godwit.work());
    source = stack.use(await createDatabase());
    target = stack.use(await createDatabase());
  });
  afterAll(() => stack.disposeAsync());

  const mapping = (table: string, entry: object, job: object = {}) => ({
    name: table.replaceAll('_', '-'),
    source: { source_type: 'pgsql', url: source.url },
    destination: { there: { destination_type: 'pgsql', url: target.url, schema: 'copy' } },
    tables: [{ table_name: table, ...entry }],
    ...job,
  });
  const at = (sql: string) => query(source.url, sql);
  const there = async (table: string, columns = 'id') => {
    const rows = await query<object>(target.url, `SELECT ${columns} FROM copy.${table} ORDER BY 1`);
    return rows.map((row) => Object.values(row).join(' '));
  };
  const wall = (zone: string, minutes = 0) =>
    `to_char((now() + interval '${minutes} min') AT TIME ZONE '${zone}', 'YYYY-MM-DD HH24:MI:SS')`;

  test('a bookmark of text without a zone, written west of Greenwich', async () => {
    await at(`CREATE TABLE west (id int PRIMARY KEY, at text); INSERT INTO west SELECT 1, ${wall('America/New_York')}`);
    const how = mapping(
      'west',
      { mode: 'syncing', bookmark: 'at', improper_bookmarks: true },
      { timezone: 'America/New_York' },
    );
    await runOnce(godwit, how);
    await at(`INSERT INTO west SELECT 2, ${wall('America/New_York', 1)}`);
    await runOnce(godwit, how);
    expect(await there('west')).toEqual(['1', '2']);
  });

  test('a bookmark of text that does not move with the rows is refused before the first row', async () => {
    await at(`CREATE TABLE blind (id int PRIMARY KEY, at text); INSERT INTO blind SELECT 1, now()::text`);
    const entry = { mode: 'syncing', bookmark: 'at', improper_bookmarks: true, exclude_columns: ['at'] };
    await expect(runOnce(godwit, mapping('blind', entry))).rejects.toThrow(/MODE_REFUSED.*among the columns/);
  });

  test.each([
    ['seconds', 'never', '253402300799'],
    ['milliseconds', 'never', '253402300799000'],
    ['seconds', 'nines', '9999999999999'],
    ['milliseconds', 'nines', '9999999999999999'],
  ] as const)('an epoch in %s beside one of %s', async (unit, what, far) => {
    const table = `epoch_${unit}_${what}`;
    const now = () => epochOf(BigInt(Date.now()) * 1000n, unit);
    await at(
      `CREATE TABLE ${table} (id int PRIMARY KEY, at bigint); INSERT INTO ${table} VALUES (1, ${now()}), (2, ${far})`,
    );
    const how = mapping(table, { mode: 'syncing', bookmark: 'at', improper_bookmarks: true });
    await runOnce(godwit, how);
    await at(`INSERT INTO ${table} VALUES (3, ${now()})`);
    await runOnce(godwit, how);
    expect(await there(table)).toEqual(['1', '2', '3']);
    expect(await runOnce(godwit, how)).toMatchObject({ rowsWritten: 0 });
  });

  test('an epoch in a table that was empty at first is read as what it is', async () => {
    await at('CREATE TABLE later (id int PRIMARY KEY, at bigint)');
    const how = mapping('later', { mode: 'syncing', bookmark: 'at', improper_bookmarks: true });
    await runOnce(godwit, how);
    const day = 86_400_000;
    await at(`INSERT INTO later VALUES (1, ${Date.now() - day}), (2, ${Date.now()})`);
    expect(await runOnce(godwit, how)).toMatchObject({ rowsRead: 1 });
    await at(`INSERT INTO later VALUES (3, ${Date.now()})`);
    expect(await runOnce(godwit, how)).toMatchObject({ rowsRead: 2, rowsWritten: 1 });
  });

  test('another primary key in the mapping loads the table anew, and says so', async () => {
    await at(`CREATE TABLE keyed (a int PRIMARY KEY, b int UNIQUE NOT NULL, at timestamptz NOT NULL DEFAULT now());
      INSERT INTO keyed VALUES (1, 10), (2, 20)`);
    const entry = { mode: 'syncing', bookmark: 'at' };
    await runOnce(godwit, mapping('keyed', entry));
    await at('UPDATE keyed SET a = 3, at = now() WHERE b = 20');
    const anew = await runOnce(godwit, mapping('keyed', { ...entry, primary_key: 'b' }));
    expect(anew.step).toBe('load');
    expect(anew.notes.join()).toContain('its key was a and is b');
    expect(await there('keyed', 'a, b')).toEqual(['1 10', '3 20']);
    expect((await runOnce(godwit, mapping('keyed', { ...entry, primary_key: 'b' }))).step).toBe('increment');
  });

  test('a key that is renamed at the target is another key there', async () => {
    await at(`CREATE TABLE renamed (id int PRIMARY KEY, at timestamptz DEFAULT now()); INSERT INTO renamed VALUES (1)`);
    const entry = { mode: 'mirroring', bookmark: 'at' };
    await runOnce(godwit, mapping('renamed', entry));
    await at('DELETE FROM renamed; INSERT INTO renamed VALUES (2)');
    await runOnce(godwit, mapping('renamed', { ...entry, col_rename: { id: 'key', at: 'time' } }));
    expect(await there('renamed', 'key, time IS NULL')).toEqual(['2 false']);
    await at('DELETE FROM renamed; INSERT INTO renamed VALUES (3)');
    await runOnce(godwit, mapping('renamed', { ...entry, col_rename: { id: 'key', at: 'time' } }));
    expect(await there('renamed', 'key, time IS NULL')).toEqual(['3 false']);
  });

  test('a filter: rows that leave it, and another one', async () => {
    for (const [table, mode] of [
      ['filter_m', 'mirroring'],
      ['filter_s', 'syncing'],
    ] as const) {
      await at(`CREATE TABLE ${table} (id int PRIMARY KEY, n int, at timestamptz DEFAULT now());
        INSERT INTO ${table} VALUES (1, 1, '2020-01-01'), (2, 2, '2020-01-01'), (3, 3, '2020-01-01')`);
      const how = (least: number) => mapping(table, { mode, bookmark: 'at', where: { n: { '>=': least } } });
      await runOnce(godwit, how(2));
      expect(await there(table)).toEqual(['2', '3']);
      await at(`UPDATE ${table} SET n = 0, at = now() WHERE id = 3`);
      await runOnce(godwit, how(2));
      expect(await there(table)).toEqual(mode === 'mirroring' ? ['2'] : ['2', '3']);
      const wider = await runOnce(godwit, how(1));
      expect(wider.notes.join()).toContain('`where` is another');
      expect(await there(table)).toEqual(mode === 'mirroring' ? ['1', '2'] : ['2', '3']);
      expect((await runOnce(godwit, how(1))).notes.join()).not.toContain('`where`');
    }
  });

  test('deletes past max_deleted: none of them, in whatever range; and then all', async () => {
    await at(`CREATE TABLE many (id int PRIMARY KEY, t text, at timestamptz DEFAULT now());
      INSERT INTO many SELECT i, repeat('x', 500), '2020-01-01' FROM generate_series(1, 12000) i; ANALYZE many`);
    const how = (most: number | string) => mapping('many', { mode: 'mirroring', bookmark: 'at', max_deleted: most });
    await runOnce(godwit, how(50));
    await at('DELETE FROM many WHERE id % 100 = 0; INSERT INTO many VALUES (20001)');
    const count = async () => (await there('many')).length;
    await expect(runOnce(godwit, how(50))).rejects.toThrow('DELETES_REFUSED');
    // Whether the new row comes before the table fails is a race; that none goes is not.
    expect(await count()).toBeGreaterThanOrEqual(12_000);
    await at('INSERT INTO many VALUES (20002)');
    await expect(runOnce(godwit, how('0.5%'))).rejects.toThrow('DELETES_REFUSED');
    expect(await count()).toBeGreaterThanOrEqual(12_000);
    expect(await runOnce(godwit, how(120))).toMatchObject({ rowsDeleted: 120 });
    expect(await count()).toBe(11_882);
  });

  test('a run that died before it published: the next one brings what is new, too', async () => {
    await at(`CREATE TABLE died (id int PRIMARY KEY, at timestamptz DEFAULT now()); INSERT INTO died VALUES (1)`);
    const how = mapping('died', { mode: 'syncing', bookmark: 'at' });
    await runOnce(godwit, how);
    await at('INSERT INTO died VALUES (2)');
    const second = await runOnce(godwit, how);
    // As it is when the process dies with the last chunk: nothing is remembered, nothing published.
    await query(
      target.url,
      `UPDATE _godwit.work SET published_at = NULL WHERE table_name = 'died';
      UPDATE _godwit.state SET state = jsonb_set(state::jsonb, '{startedAt}', '"2020-01-01T00:00:00Z"')::json WHERE table_name = 'died'`,
    );
    await godwit.db.update(runTables).set({ status: 'failed' }).where(eq(runTables.runId, second.runId));
    await godwit.db.update(runs).set({ status: 'failed' }).where(eq(runs.id, second.runId));
    await at('INSERT INTO died VALUES (3)');
    await runOnce(godwit, how);
    expect(await there('died')).toEqual(['1', '2', '3']);
  });

  test('a retry of a load, long after a later run has loaded the table: rows that were kept since stay', async () => {
    await at(`CREATE TABLE retried (id int PRIMARY KEY, k int NOT NULL, n int, at timestamptz DEFAULT now());
      INSERT INTO retried VALUES (1, 1, 0), (2, 2, 0), (3, 2, 0)`);
    const how = mapping('retried', { mode: 'syncing', bookmark: 'at', primary_key: 'k' });
    const first = await godwit.begin(how);
    await expect(first.result()).rejects.toThrow();
    await at('DELETE FROM retried WHERE id = 3');
    expect((await runOnce(godwit, how)).step).toBe('load');
    await at('DELETE FROM retried WHERE id = 1; UPDATE retried SET n = 1, at = now()');
    await runOnce(godwit, how);
    expect(await (await godwit.again(first.run.id)).result()).toMatchObject({ status: 'succeeded' });
    expect(await there('retried', 'k, n')).toEqual(['1 0', '2 1']);
    const [row] = await godwit.db.select().from(runTables).where(eq(runTables.runId, first.run.id));
    expect(row).toMatchObject({ step: 'increment', rowsWritten: 0 });
    // By a mapping that is not that of the table any more.
    await godwit.db.update(runs).set({ status: 'failed' }).where(eq(runs.id, first.run.id));
    await godwit.db.update(runTables).set({ status: 'failed' }).where(eq(runTables.runId, first.run.id));
    expect((await runOnce(godwit, mapping('retried', { mode: 'mirroring', bookmark: 'at' }))).step).toBe('load');
    await expect((await godwit.again(first.run.id)).result()).rejects.toThrow();
    const [refused] = await godwit.db.select().from(runTables).where(eq(runTables.runId, first.run.id));
    expect(refused?.failure?.code).toBe('CONFLICT');
  });

  test('an increment that failed goes on in the next run, however often another schedule ran meanwhile', async () => {
    await at(`CREATE TABLE goes (id int PRIMARY KEY, n int, t text, at timestamptz NOT NULL);
      INSERT INTO goes SELECT i, 0, repeat('x', 500), '2020-01-01' FROM generate_series(1, 12000) i;
      CREATE INDEX ON goes (at); ANALYZE goes`);
    const how = mapping('goes', { mode: 'mirroring', bookmark: 'at' });
    await runOnce(godwit, how);
    await query(target.url, 'ALTER TABLE copy.goes ADD CONSTRAINT odd CHECK (n = 0 OR id <> 11999)');
    await at(
      `UPDATE goes SET n = 1, at = timestamptz '2021-01-01' + id * interval '1 second'; DELETE FROM goes WHERE id = 1; ANALYZE goes`,
    );
    const failed = await godwit.begin(how);
    await expect(failed.result()).rejects.toThrow();
    const [broken] = await godwit.db.select().from(runs).where(eq(runs.id, failed.run.id));
    const [left] = await godwit.db.select().from(runTables).where(eq(runTables.runId, failed.run.id));
    expect(left?.chunksDone).toBeGreaterThan(0);
    if (!broken) throw new Error('no run');
    const others = Array.from({ length: 25 }, (_, i) => ({
      ...broken,
      id: crypto.randomUUID(),
      number: broken.number + 1 + i,
      scheduleKey: 'often',
      status: 'succeeded' as const,
      workflowId: `often-${i}`,
      workflowRunId: null,
    }));
    await godwit.db.insert(runs).values(others);
    await godwit.db
      .update(jobs)
      .set({ lastRun: broken.number + 25 })
      .where(eq(jobs.id, broken.jobId));
    await query(target.url, 'ALTER TABLE copy.goes DROP CONSTRAINT odd');
    await at('INSERT INTO goes VALUES (20001, 1, NULL, now()); DELETE FROM goes WHERE id = 2');
    const next = await runOnce(godwit, how);
    expect(next.notes.join()).toContain(`goes on where run ${broken.number} stopped`);
    const ones = () =>
      there('goes', `concat_ws(' ', count(*) FILTER (WHERE n = 1), count(*) FILTER (WHERE id > 20000), min(id))`);
    // Its keys are compared as they are now; a row that came after it is the next run's.
    const [now = ''] = await ones();
    expect(now).toMatch(/^11998 0 3$|^1199[89] 0 [12]$/);
    await runOnce(godwit, how);
    expect(await ones()).toEqual(['11999 1 3']);
    expect(await runOnce(godwit, how)).toMatchObject({ rowsWritten: 0, rowsDeleted: 0 });
    // A retry of what later runs have done writes nothing.
    expect(await (await godwit.again(broken.id)).result()).toMatchObject({ status: 'succeeded' });
    expect(await ones()).toEqual(['11999 1 3']);
  });

  test('a retry of an increment that failed', async () => {
    await at(`CREATE TABLE again (id int PRIMARY KEY, n int, at timestamptz NOT NULL DEFAULT now());
      INSERT INTO again VALUES (1, 0), (2, 0)`);
    const how = mapping('again', { mode: 'syncing', bookmark: 'at' });
    await runOnce(godwit, how);
    await query(target.url, 'ALTER TABLE copy.again ADD CONSTRAINT odd CHECK (n < 2)');
    await at('UPDATE again SET n = id, at = now()');
    const failed = await godwit.begin(how);
    await expect(failed.result()).rejects.toThrow();
    await query(target.url, 'ALTER TABLE copy.again DROP CONSTRAINT odd');
    await at('INSERT INTO again VALUES (3, 3)');
    expect(await (await godwit.again(failed.run.id)).result()).toMatchObject({ status: 'succeeded' });
    expect((await there('again', 'id, n')).slice(0, 2)).toEqual(['1 1', '2 2']);
    await runOnce(godwit, how);
    expect(await there('again', 'id, n')).toEqual(['1 1', '2 2', '3 3']);
  });

  test('an increment in blocks whose snapshot is lost begins again, and forgets nothing', async () => {
    await at(`CREATE TABLE lost (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n int, t text, at timestamptz NOT NULL);
      INSERT INTO lost SELECT gen_random_uuid(), 0, repeat('x', 500), '2020-01-01' FROM generate_series(1, 12000); ANALYZE lost`);
    const how = (more: object = {}) => mapping('lost', { mode: 'mirroring', bookmark: 'at', ...more });
    await runOnce(godwit, how());
    await at(`UPDATE lost SET n = 1, at = now(); ANALYZE lost`);
    const { run, result } = await godwit.begin(how({ time_delay: 0.5 }));
    const row = async () => {
      const [found] = await godwit.db.select().from(runTables).where(eq(runTables.runId, run.id));
      return found;
    };
    while (((await row())?.chunksDone ?? 0) === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    await at(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
    );
    // Deleted and changed behind the first snapshot.
    await at(
      `DELETE FROM lost WHERE ctid IN (SELECT ctid FROM lost LIMIT 7); UPDATE lost SET n = 2 WHERE ctid IN (SELECT ctid FROM lost LIMIT 5)`,
    );
    expect(await result()).toMatchObject({ status: 'succeeded' });
    expect(await row()).toMatchObject({ status: 'succeeded', step: 'increment', generation: 2 });
    await runOnce(godwit, how());
    const counts = await there(
      'lost',
      `concat_ws(' ', count(*), count(*) FILTER (WHERE n = 1), count(*) FILTER (WHERE n = 2))`,
    );
    expect(counts).toEqual(['11993 11988 5']);
    expect(await runOnce(godwit, how())).toMatchObject({ rowsWritten: 0, rowsDeleted: 0 });
  });

  test('rows set aside: the bookmark goes past them, the books have them, and a change at the source brings them', async () => {
    await at(
      `CREATE TABLE aside (id int PRIMARY KEY, n int, at timestamptz NOT NULL DEFAULT now()); INSERT INTO aside VALUES (1, 0)`,
    );
    const how = mapping('aside', { mode: 'syncing', bookmark: 'at', recheck: { minutes: 0 }, max_quarantined: 1 });
    await runOnce(godwit, how);
    await query(target.url, 'ALTER TABLE copy.aside ADD CONSTRAINT odd CHECK (n < 2)');
    await at('INSERT INTO aside VALUES (2, 2)');
    expect(await runOnce(godwit, how)).toMatchObject({ rowsQuarantined: 1 });
    await at('INSERT INTO aside VALUES (3, 1)');
    await runOnce(godwit, how);
    expect(await there('aside')).toEqual(['1', '3']);
    await at('UPDATE aside SET n = 1, at = now() WHERE id = 2');
    await runOnce(godwit, how);
    expect(await there('aside')).toEqual(['1', '2', '3']);
  });

  test('random keys are told of', async () => {
    await at('CREATE TABLE drawn (id uuid PRIMARY KEY)');
    const there = { destination_type: 'files', path: godwit.home, format: 'parquet' };
    const drawn = await runOnce(godwit, { ...mapping('drawn', { mode: 'logging' }), destination: { there } });
    expect(drawn.notes.join()).toContain('random ones');
  });

  test.skipIf(noMongo)('keys that on_misfit would write otherwise are not mirrored', async () => {
    await using database = await createMongoDatabase(undefined, 4.4);
    await at('CREATE TABLE mended (id timestamp(3) PRIMARY KEY, at timestamp(3))');
    const there = { destination_type: 'mongo', url: database.url, schema: database.name };
    const how = (on_misfit: string) => ({
      ...mapping('mended', { mode: 'mirroring', bookmark: 'at', on_misfit }),
      destination: { there },
    });
    await expect(runOnce(godwit, how('clamp'))).rejects.toThrow(/MODE_REFUSED.*on_misfit/);
    await runOnce(godwit, how('stop'));
  });

  test('what a mode does with the table another mode left', async () => {
    await at(`CREATE TABLE turns (id int PRIMARY KEY, n int, at timestamptz NOT NULL DEFAULT now());
      INSERT INTO turns VALUES (1, 1), (2, 1), (3, 1)`);
    const entry = { bookmark: 'at' };
    const run = async (mode: string) =>
      (
        await runOnce(
          godwit,
          mapping('turns', mode === 'replace' || mode === 'logging' ? { mode } : { mode, ...entry }),
        )
      ).step;
    expect(await run('syncing')).toBe('load');
    await at('DELETE FROM turns WHERE id = 1');
    expect(await run('syncing')).toBe('increment');
    expect(await there('turns')).toEqual(['1', '2', '3']);
    expect(await run('mirroring')).toBe('increment');
    expect(await there('turns')).toEqual(['2', '3']);
    expect(await run('logging')).toBe('load');
    await at('UPDATE turns SET n = 2, at = now() WHERE id = 2; INSERT INTO turns VALUES (4, 1)');
    expect(await run('logging')).toBe('increment');
    expect(await there('turns', 'id, n')).toEqual(['2 1', '3 1', '4 1']);
    expect(await run('replace')).toBe(null);
    expect(await there('turns', 'id, n')).toEqual(['2 2', '3 1', '4 1']);
    expect(await run('syncing')).toBe('load');
    await query(target.url, 'DROP TABLE copy.turns');
    expect(await run('syncing')).toBe('load');
    expect(await there('turns', 'id, n')).toEqual(['2 2', '3 1', '4 1']);
  });

  test('bookmarks: a date, a fraction of a number, a clock ahead, NULL after NOT NULL, a key that changes', async () => {
    await at(`CREATE TABLE dated (id int PRIMARY KEY, at date); INSERT INTO dated VALUES (1, current_date);
      CREATE TABLE fraction (id int PRIMARY KEY, at numeric(20, 6)); INSERT INTO fraction VALUES (1, extract(epoch FROM now()));
      CREATE TABLE ahead (id int PRIMARY KEY, at timestamp NOT NULL); INSERT INTO ahead VALUES (1, now() AT TIME ZONE 'Asia/Kolkata')`);
    const of = (table: string, more: object = {}) =>
      mapping(table, { mode: 'syncing', bookmark: 'at', ...more }, { timezone: 'Asia/Kolkata' });
    const step = async () => {
      await runOnce(godwit, of('dated'));
      await runOnce(godwit, of('fraction', { improper_bookmarks: true }));
      await runOnce(godwit, of('ahead'));
    };
    await step();
    await at(`INSERT INTO dated VALUES (2, current_date); INSERT INTO fraction VALUES (2, extract(epoch FROM now()));
      ALTER TABLE ahead ALTER at DROP NOT NULL; INSERT INTO ahead VALUES (2, NULL), (3, now() AT TIME ZONE 'Asia/Kolkata')`);
    await step();
    expect(await there('dated')).toEqual(['1', '2']);
    expect(await there('fraction')).toEqual(['1', '2']);
    expect(await there('ahead')).toEqual(['1', '2', '3']);
    await at('UPDATE dated SET id = 5 WHERE id = 2');
    await step();
    expect(await there('dated')).toEqual(['1', '2', '5']);
  });

  test('one small table that is gone leaves the others of its group alone', async () => {
    await at(`CREATE TABLE pair_a (id int PRIMARY KEY, at timestamptz DEFAULT now()); INSERT INTO pair_a VALUES (1);
      CREATE TABLE pair_b (id int PRIMARY KEY, at timestamptz DEFAULT now()); INSERT INTO pair_b VALUES (1)`);
    const entry = (table_name: string) => ({ table_name, mode: 'syncing', bookmark: 'at' });
    const how = { ...mapping('pair', {}), tables: [entry('pair_a'), entry('pair_b')] };
    const first = await godwit.begin(how);
    expect(await first.result()).toMatchObject({ status: 'succeeded' });
    await at('DROP TABLE pair_a; INSERT INTO pair_b VALUES (2)');
    const next = await godwit.begin(how);
    expect(await next.result()).toMatchObject({ status: 'partial' });
    expect(await there('pair_b')).toEqual(['1', '2']);
  });

  test.skipIf(noMongo)('a collection that is empty at first', async () => {
    await using database = await createMongoDatabase();
    const client = new MongoClient(database.url);
    try {
      await client.db().createCollection('empty');
      const how = {
        ...mapping('empty', { mode: 'mirroring', bookmark: 'at', documents: 'flatten' }),
        source: { source_type: 'mongo', url: database.url, db_name: database.name },
      };
      await runOnce(godwit, how);
      await client.db().collection('empty').insertOne({ at: new Date() });
      await runOnce(godwit, how);
      expect(await there('empty', 'at IS NULL')).toEqual(['false']);
      expect((await runOnce(godwit, how)).rowsWritten).toBe(0);
    } finally {
      await client.close();
    }
  });
});

describe('units of epochs', () => {
  test.each([
    ['1709208000', 'seconds', 'seconds'],
    ['253402300799', 'seconds', 'seconds'],
    ['1709208000000', 'milliseconds', 'milliseconds'],
    ['253402300799999', 'milliseconds', 'seconds'],
    ['9999999999999', 'milliseconds', 'seconds'],
    ['1709208000000000', 'microseconds', 'microseconds'],
    ['1709208000000000000', 'nanoseconds', 'nanoseconds'],
  ])('%s alone, and as the greatest', (text, alone, greatest) => {
    expect(unitBySize(text)).toBe(alone);
    expect(unitByGreatest(text)).toBe(greatest);
  });
});
