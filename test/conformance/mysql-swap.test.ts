/** Publication in MySQL: what hangs on the old table, lost answers, tables that stay, and their changes between runs. */
import mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Target, Work } from '../../connectors/contract.ts';
import { idOf } from '../../connectors/mysql/target/names.ts';
import { openTarget } from '../../connectors/mysql/target.ts';
import type { Row } from '../../connectors/types.ts';
import type { MysqlKind } from '../../servers/mysql.ts';
import { type FaultProxy, startProxy } from '../../servers/proxy.ts';
import {
  batchesOf,
  column,
  connect,
  describeKinds,
  dropAll,
  isThere,
  plainWorks,
  quoted,
  rowsOf,
  serverUrl,
  visible,
  within,
} from './mysql-works.ts';
import { chunk, codeOf, writeOptions } from './target.ts';

await describeKinds(': publication', publication);

function publication(kind: MysqlKind) {
  const { work, prefix, made } = plainWorks();
  let url: string;
  let client: mysql.Connection;
  let target: Target;
  beforeAll(async () => {
    url = await serverUrl(kind);
    client = await connect(url);
    target = openTarget({ url: within(url, prefix) });
  });
  afterAll(async () => {
    await target?.[Symbol.asyncDispose]();
    if (client) {
      await client.query('ROLLBACK');
      await client.query('UNLOCK TABLES');
      await dropAll(client, prefix);
    }
    await client?.end();
  });

  const fill = async (one: Work, rows: readonly Row[], at: Target = target) => {
    await at.prepare(one);
    const claim = await at.claim(one, chunk(1));
    await at.write(one, claim, batchesOf('rows', rows), writeOptions());
    await at.finish(one);
  };
  const complete = async (one: Work, rows: readonly Row[]) => {
    await fill(one, rows);
    return await target.publish([one], []);
  };
  const again = (one: Work): Work => {
    const next = { ...one, run: `${one.run}+` };
    made.push(next);
    return next;
  };
  const nothingLeft = async (one: Work) => {
    for (const letter of ['t', 'o']) {
      expect(await isThere(client, { schema: '_godwit', name: `${letter}_${idOf(one)}` })).toBe(false);
    }
  };

  test('two tables are published in one step, and what was aside is gone', async () => {
    const first = work();
    const second = work({ name: { schema: first.name.schema, name: 'second' }, run: first.run });
    await complete(first, [[1, 'old']]);
    await complete(second, [[1, 'old']]);
    const both = [again(first), again(second)];
    for (const one of both) await fill(one, [[2, 'new']]);
    expect((await visible(client, first))?.length).toBe(1);
    await target.publish(both, []);
    expect(await visible(client, first)).toEqual([[2, 'new']]);
    expect(await visible(client, second)).toEqual([[2, 'new']]);
    for (const one of both) await nothingLeft(one);
  });

  test('views, privileges and foreign keys from outside go on with the new table', async () => {
    const one = work();
    const { schema } = one.name;
    await complete(one, [
      [1, 'a'],
      [2, 'b'],
    ]);
    const table = quoted(one.name);
    const at = (name: string) => quoted({ schema, name });
    await client.query(`CREATE VIEW ${at('seen')} AS SELECT id, v FROM ${table} WHERE id > 1`);
    await client.query(
      `CREATE TABLE ${at('child')} (id int PRIMARY KEY, parent int, CONSTRAINT to_parent FOREIGN KEY (parent) REFERENCES ${table} (id) ON DELETE CASCADE)`,
    );
    await client.query(`INSERT INTO ${at('child')} VALUES (10, 1), (11, 2), (12, NULL)`);
    const next = again(one);
    expect(await target.refusals(next)).toEqual([]);
    const { notes } = await complete(next, [
      [2, 'B'],
      [3, 'C'],
    ]);
    expect(notes).toEqual([
      `${schema}.child: foreign key to_parent does not hold for all rows: it is kept for new ones only`,
    ]);
    expect(await rowsOf(client, `SELECT id, v FROM ${at('seen')} ORDER BY id`)).toEqual([
      [2, 'B'],
      [3, 'C'],
    ]);
    await expect(client.query(`INSERT INTO ${at('child')} VALUES (13, 99)`)).rejects.toThrow(/foreign key/i);
    await client.query(`INSERT INTO ${at('child')} VALUES (13, 3)`);
    await client.query(`DELETE FROM ${table} WHERE id = 2`);
    expect(await rowsOf(client, `SELECT id FROM ${at('child')} ORDER BY id`)).toEqual([[10], [12], [13]]);
    await nothingLeft(next);
    expect((await target.publish([next], [])).notes).toEqual(notes);
  });

  test('what cannot be carried is refused by the plan, by name', async () => {
    const one = work();
    const { schema } = one.name;
    await complete(one, [[1, 'a']]);
    const table = quoted(one.name);
    await client.query(
      `CREATE TRIGGER ${quoted({ schema, name: 'guard' })} BEFORE INSERT ON ${table} FOR EACH ROW SET NEW.v = 'changed'`,
    );
    for (const swap of ['rename', 'delete-insert'] as const) {
      const refused = await target.refusals({ ...again(one), swap });
      expect(refused.map((error) => error.code)).toEqual(['SWAP_IMPOSSIBLE']);
      expect(refused[0]?.message).toContain('trigger guard');
    }
    await client.query(`DROP TRIGGER ${quoted({ schema, name: 'guard' })}`);
    await client.query(`CREATE VIEW ${quoted({ schema, name: 'needs v' })} AS SELECT v FROM ${table}`);
    const without = { ...again(one), columns: one.columns.slice(0, 1) };
    expect((await target.refusals(without)).map((error) => error.message)).toEqual([
      `view ${schema}.needs v (needs column v): cannot be carried from the old ${schema}.${one.name.name} to the new one.`,
    ]);
    await client.query(`DROP VIEW ${quoted({ schema, name: 'needs v' })}`);
    await client.query(
      `CREATE TABLE ${quoted({ schema, name: 'kid' })} (id int, FOREIGN KEY (id) REFERENCES ${table} (id))`,
    );
    const other = { ...again(one), key: [] };
    expect((await target.refusals(other)).map((error) => error.code)).toEqual(['SWAP_IMPOSSIBLE']);
    await client.query(`CREATE OR REPLACE VIEW ${quoted({ schema, name: 'a view' })} AS SELECT 1 AS id`);
    const view = work({ name: { schema, name: 'a view' } });
    expect((await target.refusals(view)).map((error) => error.code)).toContain('TARGET_DIFFERS');
  });

  test('delete-insert keeps the old table and all that hangs on it', async () => {
    const one = work();
    await complete(one, [[1, 'a']]);
    const table = quoted(one.name);
    await client.query(`ALTER TABLE ${table} ADD COLUMN more int DEFAULT 7, ADD INDEX mine (more), COMMENT 'kept'`);
    const next = { ...again(one), swap: 'delete-insert' as const, onSchemaChange: 'add' as const };
    expect(await target.refusals(next)).toEqual([]);
    const { notes } = await complete(next, [
      [2, 'b'],
      [3, null],
    ]);
    expect(notes).toHaveLength(1);
    expect(await rowsOf(client, `SELECT id, v, more FROM ${table} ORDER BY id`)).toEqual([
      [2, 'b', 7],
      [3, null, 7],
    ]);
    const [definition] = await rowsOf(client, `SHOW CREATE TABLE ${table}`);
    expect(definition?.[1]).toMatch(/KEY `mine`[\s\S]*COMMENT='kept'/);
    await nothingLeft(next);
  });

  test('a table that somebody else reads is waited for, some seconds, and stays as it was', async () => {
    const one = work();
    await complete(one, [[1, 'old']]);
    const next = again(one);
    await fill(next, [[2, 'new']]);
    const reader = await connect(url);
    await reader.query('START TRANSACTION');
    await reader.query(`SELECT * FROM ${quoted(one.name)}`);
    expect(await codeOf(target.publish([next], []))).toBe('SERVER_BUSY');
    expect(await visible(client, one)).toEqual([[1, 'old']]);
    await reader.query('COMMIT');
    await reader.end();
    await target.publish([next], []);
    expect(await visible(client, one)).toEqual([[2, 'new']]);
  });

  test('a key that rows break is known with its chunk, and the others keep theirs', async () => {
    const one = work();
    await target.prepare(one);
    await target.write(one, await target.claim(one, chunk(1)), batchesOf('rows', [[1, 'a']]), writeOptions());
    const bad: string[] = [];
    const counts = await target.write(
      one,
      await target.claim(one, chunk(2)),
      batchesOf('rows', [
        [1, 'again'],
        [2, 'b'],
      ]),
      writeOptions({
        quarantine: async (found) => void bad.push(...found.map(({ ordinal, native }) => `${ordinal} ${native}`)),
      }),
    );
    expect([bad, counts.written]).toEqual([['0 1062'], 1]);
    await target.discard(one);
  });

  test('a table of somebody else is refused, adopted or overwritten as the mapping says', async () => {
    const one = work();
    await client.query(`CREATE DATABASE \`${one.name.schema}\``);
    await client.query(`CREATE TABLE ${quoted(one.name)} (id int PRIMARY KEY, v longtext)`);
    expect(await target.refusals(one)).toEqual([]);
    await client.query(`INSERT INTO ${quoted(one.name)} VALUES (1, 'theirs')`);
    expect((await target.refusals(one)).map((error) => error.code)).toEqual(['NOT_OWNED']);
    expect(await codeOf(target.prepare(one))).toBe('NOT_OWNED');
    await client.query(`ALTER TABLE ${quoted(one.name)} ADD COLUMN more int`);
    const adopt = { ...one, existing: 'adopt' as const };
    expect((await target.refusals(adopt)).map((error) => error.code)).toEqual(['TARGET_DIFFERS']);
    await client.query(`ALTER TABLE ${quoted(one.name)} DROP COLUMN more`);
    expect(await target.refusals(adopt)).toEqual([]);
    await complete(adopt, [[2, 'ours']]);
    expect(await visible(client, one)).toEqual([[2, 'ours']]);
    expect((await target.describe(one.name))?.owner).toBe(one.jobUid);
    // Ours with an index more is ours; another table of that name is not.
    await client.query(`ALTER TABLE ${quoted(one.name)} ADD INDEX (v(10))`);
    expect(await target.refusals(again(one))).toEqual([]);
    await client.query(`DROP TABLE ${quoted(one.name)}`);
    await client.query(`CREATE TABLE ${quoted(one.name)} (id int, other int)`);
    await client.query(`INSERT INTO ${quoted(one.name)} VALUES (1, 1)`);
    expect((await target.refusals(again(one))).map((error) => error.code)).toEqual(['NOT_OWNED']);
    expect(await target.refusals({ ...again(one), existing: 'overwrite' })).toEqual([]);
  });

  describe('dumping', () => {
    const date = (day: number) => `2024-05-0${day}T00:00:00.000Z`;
    const dumped = (day: number, over: Partial<Work> = {}): Work => {
      const snapshotDate = date(day);
      const constant = column('migration_snapshot_date', 'datetime(6)', { kind: 'timestamptz' }, false, {
        constant: snapshotDate,
      });
      const { from, ...plain } = constant;
      const base = work(over);
      return {
        ...base,
        mode: 'dumping',
        snapshotDate,
        columns: [...base.columns, plain],
        key: ['migration_snapshot_date', ...base.key],
      };
    };
    const stamped = (day: number, rows: readonly Row[]): Row[] => rows.map((row) => [...row, date(day)]);
    const all = (one: Work) =>
      rowsOf(client, `SELECT id, v, migration_snapshot_date FROM ${quoted(one.name)} ORDER BY 3, 1`);

    test('each run adds its rows under its date; a cancel takes away its own', async () => {
      const first = dumped(1);
      await complete(first, stamped(1, [[1, 'a']]));
      const second = { ...dumped(2, { name: first.name }), run: `${first.run}+` };
      expect(await target.refusals(second)).toEqual([]);
      await complete(second, stamped(2, [[1, 'b']]));
      const third = { ...dumped(3, { name: first.name }), run: `${first.run}++` };
      await fill(third, stamped(3, [[1, 'c']]));
      expect((await all(first)).length).toBe(3);
      await target.discard(third);
      expect(await all(first)).toEqual([
        [1, 'a', '2024-05-01 00:00:00.000000'],
        [1, 'b', '2024-05-02 00:00:00.000000'],
      ]);
      const dates = `SELECT migration_snapshot_date, rows_written FROM _godwit.snapshot WHERE schema_name = ? ORDER BY 1`;
      expect(await rowsOf(client, dates, [first.name.schema])).toEqual([
        [date(1), 1],
        [date(2), 1],
      ]);
    });

    test('of a table that was never complete a cancel leaves nothing', async () => {
      const one = dumped(1);
      await fill(one, stamped(1, [[1, 'a']]));
      await target.discard(one);
      expect(await isThere(client, one.name)).toBe(false);
      expect(
        await rowsOf(client, 'SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?', [one.name.schema]),
      ).toEqual([]);
    });

    test('columns of the source come, widen and go', async () => {
      const first = dumped(1, { onSchemaChange: 'add' });
      const narrow = {
        ...first,
        columns: first.columns.map((one) =>
          one.name === 'v' ? { ...one, native: 'varchar(5)', nullable: false } : one,
        ),
      };
      await complete(narrow, stamped(1, [[1, 'a']]));
      const second = { ...dumped(2, { name: first.name, onSchemaChange: 'add' }), run: `${first.run}+` };
      const more = {
        ...second,
        columns: [...second.columns.slice(0, 2), column('n', 'bigint', { kind: 'int64' }), ...second.columns.slice(2)],
      };
      expect(await target.refusals(more)).toEqual([]);
      expect(await target.drift?.(more)).toEqual([
        'v: varchar(5) on the target becomes longtext, as at the source',
        'v: may be NULL at the source, and now on the target too',
        "n: new at the source; the target's table gets it, NULL in the rows it has",
      ]);
      await complete(more, [[1, null, 5n, date(2)]]);
      const gone = { ...dumped(3, { name: first.name, onSchemaChange: 'add' }), run: `${first.run}++` };
      expect(await target.refusals(gone)).toEqual([]);
      await complete(gone, stamped(3, [[1, 'c']]));
      expect(await rowsOf(client, `SELECT v, n FROM ${quoted(first.name)} ORDER BY migration_snapshot_date`)).toEqual([
        ['a', null],
        [null, 5],
        ['c', null],
      ]);
      const refuse = {
        ...more,
        onSchemaChange: 'refuse' as const,
        columns: more.columns.map((one) => (one.name === 'n' ? { ...one, native: 'int' } : one)),
      };
      expect((await target.refusals(refuse)).map((error) => error.code)).toEqual(['TARGET_DIFFERS']);
    });
  });

  describe('the answer is lost', () => {
    let proxy: FaultProxy;
    let far: Target;
    beforeAll(async () => {
      const found = new URL(url);
      proxy = await startProxy({ host: found.hostname, port: Number(found.port) });
      found.port = String(proxy.port);
      far = openTarget({ url: within(found.href, prefix) });
    });
    afterAll(async () => {
      await far?.[Symbol.asyncDispose]();
      await proxy?.stop();
    });
    const running = async (statement: string) => {
      const sql = `SELECT 1 FROM information_schema.PROCESSLIST WHERE INFO LIKE ? AND ID <> CONNECTION_ID() LIMIT 1`;
      while ((await rowsOf(client, sql, [`${statement}%`])).length === 0)
        await new Promise((resolve) => setTimeout(resolve, 10));
    };

    /** Runs at the end of the source: what is still to come is the checkpoint and COMMIT. */
    async function* ending(id: number, action: () => void) {
      yield* batchesOf('rows', [[id, 'a']]);
      action();
    }
    /** How many bytes pass behind that, in each direction. */
    const measured = async (one: Work) => {
      const before = { toServer: 0, toClient: 0 };
      const claim = await far.claim(one, chunk(1));
      await far.write(
        one,
        claim,
        ending(1, () => Object.assign(before, proxy.forwarded)),
        writeOptions(),
      );
      const { toServer, toClient } = proxy.forwarded;
      return { toServer: toServer - before.toServer, toClient: toClient - before.toClient };
    };

    test('to COMMIT, which came through: the checkpoint says so, and the write succeeds', async () => {
      const one = work();
      await far.prepare(one);
      const { toClient } = await measured(one);
      const claim = await far.claim(one, chunk(2));
      let cut = false;
      const last = () =>
        proxy.afterBytes(
          toClient - 1,
          () => {
            cut = true;
            proxy.cut();
          },
          'toClient',
        );
      expect(await far.write(one, claim, ending(2, last), writeOptions())).toMatchObject({ read: 1, written: 1 });
      expect(cut).toBe(true);
      expect((await target.claim(one, chunk(2))).done).toMatchObject({ written: 1 });
      await target.finish(one);
      await target.publish([one], []);
      expect((await visible(client, one))?.length).toBe(2);
    });

    test('to COMMIT, which did not come through: nothing is assumed, and the next attempt writes once', async () => {
      const one = work();
      await far.prepare(one);
      const { toServer } = await measured(one);
      const claim = await far.claim(one, chunk(2));
      const last = () => proxy.afterBytes(toServer - 1, () => proxy.cut(), 'toServer');
      expect(await codeOf(far.write(one, claim, ending(2, last), writeOptions()))).toBe('CONNECTION_FAILED');
      const next = await far.claim(one, chunk(2));
      expect(next.done).toBeUndefined();
      await far.write(one, next, batchesOf('rows', [[2, 'a']]), writeOptions());
      await target.finish(one);
      await target.publish([one], []);
      expect((await visible(client, one))?.length).toBe(2);
    });

    test('of a swap that hangs: the next one ends it', async () => {
      const one = work();
      await complete(one, [[1, 'old']]);
      const next = again(one);
      await fill(next, [[2, 'new']], far);
      const reader = await connect(url);
      await reader.query('START TRANSACTION');
      await reader.query(`SELECT * FROM ${quoted(one.name)}`);
      const hanging = codeOf(far.publish([next], []));
      await running('RENAME TABLE');
      // The worker stands still: nobody hears the answer.
      proxy.pause();
      const ended = target.publish([next], []);
      await new Promise((resolve) => setTimeout(resolve, 200));
      await reader.query('COMMIT');
      await reader.end();
      await ended;
      expect(await visible(client, one)).toEqual([[2, 'new']]);
      proxy.resume();
      await hanging;
      expect(await visible(client, one)).toEqual([[2, 'new']]);
      await nothingLeft(next);
    });

    test('of a swap: asked again, it finds the staging gone and its own word', async () => {
      const one = work();
      await complete(one, [[1, 'old']]);
      const next = again(one);
      await fill(next, [[2, 'new']], far);
      const reader = await connect(url);
      await reader.query('START TRANSACTION');
      await reader.query(`SELECT * FROM ${quoted(one.name)}`);
      const lost = codeOf(far.publish([next], []));
      await running('RENAME TABLE');
      proxy.afterBytes(1, () => proxy.cut(), 'toClient');
      await reader.query('COMMIT');
      await reader.end();
      expect(await lost).toBe('CONNECTION_FAILED');
      const published = await far.publish([next], []);
      expect(published.notes).toEqual([]);
      expect(await visible(client, one)).toEqual([[2, 'new']]);
      await nothingLeft(next);
      expect(await target.refusals(again(one))).toEqual([]);
    });

    test('of a swap, and nobody asks again: the next run finds it as its own', async () => {
      const one = work();
      await complete(one, [[1, 'old']]);
      const next = again(one);
      await fill(next, [[2, 'new']], far);
      const reader = await connect(url);
      await reader.query('START TRANSACTION');
      await reader.query(`SELECT * FROM ${quoted(one.name)}`);
      const lost = codeOf(far.publish([next], []));
      await running('RENAME TABLE');
      proxy.afterBytes(1, () => proxy.cut(), 'toClient');
      await reader.query('COMMIT');
      await reader.end();
      expect(await lost).toBe('CONNECTION_FAILED');
      await target.discard(next);
      expect(await visible(client, one)).toEqual([[2, 'new']]);
      const third = again(next);
      expect(await target.refusals(third)).toEqual([]);
      await complete(third, [[3, 'newer']]);
      expect(await visible(client, one)).toEqual([[3, 'newer']]);
      await nothingLeft(next);
    });
  });

  test('names and sizes that MySQL does not take are refused by the plan', async () => {
    const codes = async (over: Partial<Work>) => (await target.refusals(work(over))).map((error) => error.code);
    const schema = `${prefix} s`;
    const columns = (names: readonly string[], native = 'int') =>
      names.map((name) => column(name, native, { kind: 'int32' }));
    expect(await codes({ name: { schema, name: 'ü'.repeat(64) } })).toEqual([]);
    expect(await codes({ name: { schema, name: 'ü'.repeat(65) } })).toEqual(['NAME_TOO_LONG']);
    expect(await codes({ name: { schema, name: 'blank ' } })).toEqual(['TYPE_REFUSED']);
    expect(await codes({ name: { schema, name: 'a🐦' } })).toEqual(['TYPE_REFUSED']);
    expect(await codes({ columns: columns(['Id', 'id']), key: [] })).toEqual(['NAME_COLLISION']);
    expect(await codes({ columns: [], key: [] })).toEqual(['TYPE_REFUSED']);
    const many = Array.from({ length: 1018 }, (_, i) => `c${i}`);
    expect(await codes({ columns: columns(many), key: [] })).toEqual(['ROW_TOO_LARGE']);
    expect(await codes({ columns: columns(many.slice(0, 400), 'longtext'), key: [] })).toEqual(['ROW_TOO_LARGE']);
    expect(await codes({ columns: columns(['id'], 'longtext'), key: ['id'] })).toEqual(['ROW_TOO_LARGE']);
    expect(await codes({ columns: columns(many.slice(0, 20)), key: many.slice(0, 17) })).toEqual(['ROW_TOO_LARGE']);
    // As many long texts as are allowed are possible indeed.
    for (const native of ['longtext', 'varchar(5)', 'varchar(50)', 'varbinary(200)']) {
      const possible = async (count: number) =>
        (await target.refusals(work({ columns: columns(many.slice(0, count), native), key: [] }))).length === 0;
      let count = 1;
      while (await possible(count + 1)) count++;
      const most = work({ columns: columns(many.slice(0, count), native), key: [] });
      await target.prepare(most);
      await target.discard(most);
    }
  });

  test('a login with one database keeps the ledger there, and what it may not do is refused', async () => {
    const user = `u${prefix}`;
    const database = `${prefix}_only`;
    await client.query(`CREATE DATABASE ${mysql.escapeId(database)}`);
    await client.query(`CREATE USER '${user}'@'%' IDENTIFIED BY 'secret-Word-1'`);
    await client.query(
      `GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX ON ${mysql.escapeId(database)}.* TO '${user}'@'%'`,
    );
    const found = new URL(within(url, database));
    found.username = user;
    found.password = 'secret-Word-1';
    await using limited = openTarget({ url: found.href });
    expect((await limited.check()).find((check) => check.name === 'privileges')?.outcome).toBe('warn');
    const one = work({ name: { schema: database, name: 't' } });
    expect(await limited.refusals(one)).toEqual([]);
    expect((await limited.refusals(work())).map((error) => error.code)).toEqual([
      'PRIVILEGE_MISSING',
      'PRIVILEGE_MISSING',
    ]);
    await fill(one, [[1, 'a']], limited);
    await limited.publish([one], []);
    expect(await visible(client, one)).toEqual([[1, 'a']]);
    const names = await rowsOf(
      client,
      'SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? ORDER BY 1',
      [database],
    );
    expect(names.flat().sort()).toEqual([
      '_godwit_chunk',
      '_godwit_made',
      '_godwit_owner',
      '_godwit_snapshot',
      '_godwit_state',
      '_godwit_version',
      '_godwit_work',
      't',
    ]);
    await client.query(`DROP USER '${user}'@'%'`);
  });
}
