import { join } from 'node:path';
import { asc, eq } from 'drizzle-orm';
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import { chunks, events, runs, runTables } from '../../db/schema.ts';
import { cancelUpdate } from '../../workflows/messages.ts';
import { createDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { install, query } from './installation.ts';

const noServers = (await missing('postgres')) || (await missing('temporal'));
type Godwit = Awaited<ReturnType<typeof install>>;
type Begun = Awaited<ReturnType<Godwit['begin']>>;

const rows = 40_000;
const big = `
  CREATE TABLE big (id bigserial PRIMARY KEY, at date NOT NULL DEFAULT '2024-01-01', note text);
  INSERT INTO big (note) SELECT repeat('n', 60 + i % 40) FROM generate_series(1, ${rows}) i; ANALYZE;`;
/** In the target: no COPY begins while someone holds advisory lock 1; each holds its share of it until its commit. */
const gated = `
  CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
  CREATE FUNCTION gate_all() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE made oid; BEGIN
    FOR made IN SELECT c.objid FROM pg_event_trigger_ddl_commands() c JOIN pg_attribute a
      ON a.attrelid = c.objid AND a.attname = 'note' WHERE c.command_tag = 'CREATE TABLE' LOOP
      EXECUTE format('CREATE TRIGGER gate_%s BEFORE INSERT ON %s EXECUTE FUNCTION public.gate()', made, made::regclass);
    END LOOP; END $$;
  CREATE EVENT TRIGGER gate_all ON ddl_command_end EXECUTE FUNCTION gate_all()`;
const openGate = async (target: TestDatabase) => {
  const client = new pg.Client({ connectionString: target.url });
  await client.connect();
  const waiting = `SELECT count(*)::int AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;
  return {
    lock: () => client.query('SELECT pg_advisory_lock(1)'),
    unlock: () => client.query('SELECT pg_advisory_unlock(1)'),
    waiting: async () => (await client.query<{ n: number }>(waiting)).rows[0]?.n,
    [Symbol.asyncDispose]: () => client.end(),
  };
};
const settings = { GODWIT_CHUNK_MB: '1', GODWIT_SLOTS: '1' };

const until = async (check: () => Promise<boolean>, ms = 30_000) => {
  const end = Date.now() + ms;
  while (!(await check())) {
    if (Date.now() > end) throw new Error('It did not come to that.');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
const failed = (begun: Begun) =>
  begun.result().then(
    () => expect.unreachable('It ended well.'),
    () => {},
  );
const rowOf = async (godwit: Godwit, runId: string) => {
  const [row] = await godwit.db.select().from(runTables).where(eq(runTables.runId, runId));
  return row!;
};
const chunksOf = (godwit: Godwit, runId: string) =>
  godwit.db.select().from(chunks).where(eq(chunks.runId, runId)).orderBy(asc(chunks.chunk));
/** Moved by that very run. */
const movedIn = async (godwit: Godwit, runId: string) =>
  (await chunksOf(godwit, runId)).filter((chunk) => chunk.attempts > 0).length;
const kinds = async (godwit: Godwit, runId: string) =>
  (await godwit.db.select().from(events).where(eq(events.runId, runId))).map((event) => event.kind);
const contents = async (url: string, table: string, where = 'true') =>
  (
    await query<{ n: number; h: string }>(
      url,
      `SELECT count(*)::int AS n, sum(hashtextextended(concat(id, at, note), 0))::text AS h FROM ${table} WHERE ${where}`,
    )
  )[0];
const allow = async (database: TestDatabase, connections: boolean) => {
  const admin = database.url.replace(/[^/]*$/, 'postgres');
  await query(admin, `ALTER DATABASE "${database.name}" ALLOW_CONNECTIONS ${connections}`);
  if (!connections)
    await query(admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${database.name}'`);
};

describe.skipIf(noServers)('the next run goes on where the last one stopped', () => {
  const job = (source: TestDatabase, destination: object, table: object = {}, more: object = {}) => ({
    name: 'big',
    source: { source_type: 'pgsql', url: source.url },
    destination,
    tables: [{ table_name: 'public.big', mode: 'replace', ...table }],
    ...more,
  });
  const warehouse = (target: TestDatabase) => ({
    warehouse: { destination_type: 'pgsql', url: target.url, schema: 'copy' },
  });
  /** Fails when one chunk is done and one begun: then the source goes away for longer than the job waits. */
  const cutShort = async (godwit: Godwit, source: TestDatabase, target: TestDatabase, mapping: object) => {
    await using before = await openGate(target);
    await using between = await openGate(target);
    await before.lock();
    const begun = await godwit.begin({ ...mapping, give_up_after: 1 });
    await until(async () => (await before.waiting()) === 1);
    // In the queue behind the first chunk, ahead of the second.
    const closed = between.lock();
    await until(async () => (await before.waiting()) === 2);
    await before.unlock();
    await closed;
    await until(async () => (await rowOf(godwit, begun.run.id)).chunksDone === 1);
    await until(async () => (await between.waiting()) === 1);
    await allow(source, false);
    await between.unlock();
    await failed(begun);
    await allow(source, true);
    return begun;
  };

  test('replace: only the chunks that are left are moved; a retry of the older run afterwards is exact too', async () => {
    await using source = await createDatabase();
    await using target = await createDatabase();
    await query(source.url, big);
    await query(target.url, gated);
    await using godwit = await install(settings);
    await using _worker = await godwit.work();
    const mapping = job(source, warehouse(target));
    const first = await cutShort(godwit, source, target, mapping);
    const before = await rowOf(godwit, first.run.id);
    expect(before).toMatchObject({ status: 'failed', failure: { code: 'GAVE_UP' } });
    expect(before.chunksDone).toBeGreaterThan(0);
    // Sequences and statistics move on; the plan is the same.
    await query(source.url, `SELECT nextval('big_id_seq'); ANALYZE`);

    const second = await godwit.begin(mapping);
    expect(await second.result()).toMatchObject({ status: 'succeeded' });
    const after = await rowOf(godwit, second.run.id);
    expect(after).toMatchObject({ status: 'succeeded', consistency: 'chunk', rowsWritten: rows });
    expect(await movedIn(godwit, second.run.id)).toBe(after.chunksTotal - before.chunksDone);
    expect(after.notes.join()).toContain(`goes on where run 1 stopped: ${before.chunksDone} of`);
    expect(await kinds(godwit, second.run.id)).toContain('table.continued');
    const [run] = await godwit.db.select().from(runs).where(eq(runs.id, second.run.id));
    expect(run?.consistency).toBe('chunk');
    expect(await contents(target.url, 'copy.big')).toEqual(await contents(source.url, 'big'));

    const third = await godwit.begin(mapping);
    expect(await third.result()).toMatchObject({ status: 'succeeded' });
    expect(await rowOf(godwit, third.run.id)).toMatchObject({ consistency: 'snapshot' });

    // Its staging served the second run and is gone: from nothing, not with holes.
    const again = await godwit.again(first.run.id);
    expect(await again.result()).toMatchObject({ status: 'succeeded' });
    expect(await contents(target.url, 'copy.big')).toEqual(await contents(source.url, 'big'));
  });

  test('`continue: restart`, a changed filter and a changed table start again; a cancel discards what was taken over', async () => {
    await using source = await createDatabase();
    await using target = await createDatabase();
    await query(source.url, big);
    await query(target.url, gated);
    await using godwit = await install(settings);
    await using _worker = await godwit.work();
    const mapping = job(source, warehouse(target));
    const fromNothing = async (begun: Begun, status = 'succeeded') => {
      expect(await begun.result()).toMatchObject({ status });
      const row = await rowOf(godwit, begun.run.id);
      expect(row.consistency).toBe('snapshot');
      expect(await movedIn(godwit, begun.run.id)).toBe(row.chunksTotal);
      return row;
    };
    await cutShort(godwit, source, target, mapping);
    await fromNothing(await godwit.begin(job(source, warehouse(target), { continue: 'restart' })));

    await cutShort(godwit, source, target, mapping);
    const filtered = await fromNothing(
      await godwit.begin(job(source, warehouse(target), { where: { id: { '>': 10 } } })),
    );
    expect(filtered.rowsWritten).toBe(rows - 10);

    await cutShort(godwit, source, target, mapping);
    await query(source.url, 'ALTER TABLE big ADD COLUMN more int');
    await fromNothing(await godwit.begin(mapping));
    expect(await contents(target.url, 'copy.big')).toEqual(await contents(source.url, 'big'));

    await cutShort(godwit, source, target, mapping);
    const canceled = await godwit.begin(mapping);
    await until(async () => (await kinds(godwit, canceled.run.id)).includes('table.continued'));
    await canceled.handle.executeUpdate(cancelUpdate, { args: [{ actor: 'test' }] });
    await failed(canceled);
    const left = `SELECT count(*)::int AS n FROM _godwit.work WHERE published_at IS NULL`;
    expect(await query(target.url, left)).toEqual([{ n: 0 }]);
    await fromNothing(await godwit.begin(mapping));
  });

  test('dumping: the snapshot keeps its first date and is completed before a new one begins', async () => {
    await using source = await createDatabase();
    await using target = await createDatabase();
    await query(source.url, big);
    await query(target.url, gated);
    await using godwit = await install(settings);
    await using _worker = await godwit.work();
    const mapping = job(source, warehouse(target), { mode: 'dumping' });
    const first = await godwit.begin(mapping);
    expect(await first.result()).toMatchObject({ status: 'succeeded' });

    await query(target.url, `ALTER TABLE copy.big ADD CONSTRAINT late CHECK (id < ${rows - 100}) NOT VALID`);
    const second = await godwit.begin(mapping);
    await failed(second);
    const stopped = await rowOf(godwit, second.run.id);
    expect(stopped).toMatchObject({ status: 'failed' });
    expect(stopped.chunksDone).toBeGreaterThan(0);
    await query(target.url, 'ALTER TABLE copy.big DROP CONSTRAINT late');

    const third = await godwit.begin(mapping);
    expect(await third.result()).toMatchObject({ status: 'succeeded' });
    const row = await rowOf(godwit, third.run.id);
    expect(await movedIn(godwit, third.run.id)).toBe(row.chunksTotal - stopped.chunksDone);
    expect(row.work?.snapshotDate).toBe(stopped.work?.snapshotDate);
    const fourth = await godwit.begin(mapping);
    expect(await fourth.result()).toMatchObject({ status: 'succeeded' });

    const dates = await query<{ at: Date }>(
      target.url,
      'SELECT migration_snapshot_date AS at FROM _godwit.snapshot ORDER BY 1',
    );
    const [a, b, c] = [first, second, fourth].map(async ({ run }) => (await rowOf(godwit, run.id)).work?.snapshotDate);
    expect(dates.map(({ at }) => at.toISOString())).toEqual(await Promise.all([a, b, c]));
    const wanted = await contents(source.url, 'big');
    for (const { at } of dates)
      expect(await contents(target.url, 'copy.big', `migration_snapshot_date = '${at.toISOString()}'`)).toEqual(wanted);
    expect((await contents(target.url, 'copy.big'))?.n).toBe(3 * rows);

    // A snapshot that will not be completed is taken away.
    await cutShort(godwit, source, target, mapping);
    const restarted = await godwit.begin(job(source, warehouse(target), { mode: 'dumping', continue: 'restart' }));
    expect(await restarted.result()).toMatchObject({ status: 'succeeded' });
    expect((await contents(target.url, 'copy.big'))?.n).toBe(4 * rows);
  });

  test('files: a value mended at the source, and the parts that were written stay', async () => {
    await using source = await createDatabase();
    await query(source.url, `${big} UPDATE big SET at = '0044-03-15 BC' WHERE id = ${rows - 50}`);
    await using godwit = await install(settings);
    await using _worker = await godwit.work();
    const mapping = job(source, { lake: { destination_type: 'files', path: join(godwit.home, 'lake') } });
    const first = await godwit.begin(mapping);
    await failed(first);
    const stopped = await rowOf(godwit, first.run.id);
    expect(stopped).toMatchObject({ status: 'failed', failure: { code: 'VALUE_REFUSED' } });
    expect(stopped.chunksDone).toBeGreaterThan(0);
    await query(source.url, `UPDATE big SET at = '2024-01-01' WHERE id = ${rows - 50}`);
    const second = await godwit.begin(mapping);
    expect(await second.result()).toMatchObject({ status: 'succeeded' });
    const row = await rowOf(godwit, second.run.id);
    expect(row.rowsWritten).toBe(rows);
    expect(await movedIn(godwit, second.run.id)).toBe(row.chunksTotal - stopped.chunksDone);
  });
});
