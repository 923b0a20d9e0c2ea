import { eq } from 'drizzle-orm';
import { expect, test } from 'vitest';
import { events, runs, runTables } from '../../db/schema.ts';
import { startTemporal } from '../../servers/temporal.ts';
import { pauseUpdate } from '../../workflows/messages.ts';
import { createDatabase, missing } from '../servers/shared.ts';
import { install, query } from './installation.ts';

const noServers = (await missing('postgres')) || (await missing('temporal'));
const until = async (check: () => Promise<boolean>, ms = 60_000) => {
  const end = Date.now() + ms;
  while (!(await check())) {
    if (Date.now() > end) throw new Error('It did not come to that.');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

test.skipIf(noServers)(
  'Temporal replaced by an empty server: the run goes on from its checkpoints',
  async () => {
    await using source = await createDatabase();
    await using target = await createDatabase();
    await query(
      source.url,
      `CREATE TABLE big (id int PRIMARY KEY, t text);
       INSERT INTO big SELECT i, repeat('x', 60) FROM generate_series(1, 60000) i; ANALYZE;`,
    );
    // Kept in memory: a restart on the same port knows nothing.
    await using temporal = await startTemporal();
    await using godwit = await install({ GODWIT_CHUNK_MB: '1', GODWIT_SLOTS: '1' }, temporal);
    await using _worker = await godwit.work();
    const { run, handle } = await godwit.begin({
      name: 'big',
      source: { source_type: 'pgsql', url: source.url },
      destination: { warehouse: { destination_type: 'pgsql', url: target.url, schema: 'copy' } },
      tables: [{ table_name: 'public.big', mode: 'replace' }],
    });
    const table = async () => (await godwit.db.select().from(runTables).where(eq(runTables.runId, run.id)))[0];
    await until(async () => ((await table())?.chunksDone ?? 0) > 0);
    await handle.executeUpdate(pauseUpdate, { args: [{ actor: 'test' }] });
    const before = await table();
    expect(before?.status).toBe('running');
    await temporal.kill();
    await temporal.restart();
    // The janitor leaves a young run alone.
    await until(
      async () => (await godwit.db.select().from(runs).where(eq(runs.id, run.id)))[0]?.status === 'succeeded',
    );
    expect(await query(target.url, 'SELECT count(*)::int AS n, count(DISTINCT id)::int AS d FROM copy.big')).toEqual([
      { n: 60000, d: 60000 },
    ]);
    const [row] = await godwit.db.select().from(runs).where(eq(runs.id, run.id));
    expect(row?.epoch).toBe(2);
    const kinds = (await godwit.db.select().from(events)).map((event) => event.kind);
    expect(kinds).toContain('run.restarted');
    expect(kinds).toContain('run.resumed');
  },
  120_000,
);
