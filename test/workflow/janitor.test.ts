import { eq, sql } from 'drizzle-orm';
import { describe, expect, test } from 'vitest';
import { reopenRun } from '../../db/runs.ts';
import { runs } from '../../db/schema.ts';
import { tidy } from '../../worker/janitor.ts';
import { cancelUpdate } from '../../workflows/messages.ts';
import { createDatabase, missing } from '../servers/shared.ts';
import { install, query } from './installation.ts';

const noServers = (await missing('postgres')) || (await missing('temporal'));

describe.skipIf(noServers)('the janitor', () => {
  test('leaves a run alone that is opened again and whose new workflow has not begun', async () => {
    await using source = await createDatabase();
    await using target = await createDatabase();
    await query(source.url, 'CREATE TABLE one (id int PRIMARY KEY)');
    await using godwit = await install();
    await using _worker = await godwit.work();
    const begun = await godwit.begin({
      name: 'one',
      source: { source_type: 'pgsql', url: source.url },
      destination: { copy: { destination_type: 'pgsql', url: target.url, schema: 'copy' } },
      tables: [{ table_name: 'public.one', mode: 'replace' }],
    });
    await begun.handle.executeUpdate(cancelUpdate, { args: [{ actor: 'test' }] });
    await begun.result().catch(() => {});
    const run = eq(runs.id, begun.run.id);
    await godwit.db.update(runs).set({ status: 'canceled', createdAt: sql`now() - interval '1 hour'` }).where(run);
    await reopenRun(godwit.db, { runId: begun.run.id });
    const { deps } = await godwit.activities();
    await tidy(deps, godwit.queues);
    const [after] = await godwit.db.select().from(runs).where(run);
    expect([after?.status, after?.attempt, after?.failure]).toEqual(['queued', 2, null]);
  });
});
