/** Increments on PostgreSQL beyond what every target does: faults, every type, the ledger's upgrade, what a table carries. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Format, Target, Work } from '../../connectors/contract.ts';
import { openTarget } from '../../connectors/postgres/target.ts';
import type { Row } from '../../connectors/types.ts';
import type { FaultPoint } from '../../faults.ts';
import { type FaultProxy, startProxy } from '../../servers/proxy.ts';
import { createDatabase, type TestDatabase } from '../servers/shared.ts';
import { armed as armedIn, type Child, startChild } from './child.ts';
import { nextRun, stateOf, type Way, wholeRun, writeChunks } from './incremental-target.ts';
import type { ChildArgument } from './postgres-incremental-child.ts';
import {
  column,
  connect,
  contents,
  copied,
  copyWork,
  describeVersions,
  give,
  leftovers,
  plainWork,
  postgresPair,
  quoted,
  rowTexts,
  type Version,
  visible,
} from './postgres-works.ts';
import { chunk, codeOf, writeOptions } from './target.ts';

const versions = [undefined, 13] as const;
await describeVersions(', increments', increments, versions);
await describeVersions(', increments of every type', everyTypeAgain, versions);

const first: Row[] = [
  [1, 'one'],
  [2, 'two'],
  [3, 'three'],
];
const changed: Row[] = [
  [1, 'one'],
  [2, 'changed'],
  [4, 'new'],
];
const after: Row[] = [
  [1, 'one'],
  [2, 'changed'],
  [4, 'new'],
];

function increments(version: Version) {
  let database: TestDatabase;
  let client: pg.Client;
  let target: Target;
  let way: Way;
  let folder: string;
  beforeAll(async () => {
    database = await createDatabase(undefined, { version });
    client = await connect(database);
    target = openTarget({ url: database.url });
    way = { target, subject: { batches: (_, rows) => give(rows.length === 0 ? [] : [{ kind: 'rows', rows }]) } };
    folder = await mkdtemp(join(tmpdir(), 'godwit-postgres-increment-'));
  });
  afterAll(async () => {
    await target?.[Symbol.asyncDispose]();
    await client?.end();
    await database?.drop();
    await rm(folder, { recursive: true, force: true });
  });
  const loaded = async (over: Partial<Work> = {}): Promise<Work> => {
    const work = plainWork({ mode: 'mirroring', state: stateOf(1), ...over });
    await wholeRun(way, work, [first]);
    return work;
  };

  const start = (argument: ChildArgument, faults: string): Child =>
    startChild('postgres-incremental-child.ts', folder, argument, faults);
  const armed = (point: FaultPoint, signal: string) => armedIn(folder, point, signal);

  const points: readonly FaultPoint[] = [
    'before-commit',
    'between-checkpoint-and-commit',
    'after-commit',
    'in-swap',
    'after-swap',
  ];
  test.each(points)('killed %s, a run ends as if it had not been', async (point) => {
    const work = await loaded();
    const again = nextRun(work, 2);
    const { said } = start(
      { url: database.url, work: again, chunks: [changed], vanished: ['3'] },
      await armed(point, 'SIGKILL'),
    );
    expect(await said).toBe('SIGKILL');
    const state = await target.state?.(work);
    expect(state).toEqual(stateOf(point === 'after-swap' ? 2 : 1));
    const whole = start({ url: database.url, work: again, chunks: [changed], vanished: ['3'] }, folder);
    expect(await whole.said).toBe('done');
    expect(await visible(client, work)).toEqual(after);
    expect(await target.state?.(work)).toEqual(stateOf(2));
    const checkpoints = await Array.fromAsync(target.checkpoints(again));
    expect(checkpoints.map(({ counts }) => counts)).toMatchObject([
      { read: 3, written: 2, unchanged: 1, inserted: 1, updated: 1 },
      { read: 0, deleted: 1 },
    ]);
  });

  test.each(points.slice(0, 2))('stopped %s, an overtaken attempt neither writes nor brings back', async (point) => {
    const work = await loaded();
    const again = nextRun(work, 2);
    const stale: Row[] = [
      [1, 'stale'],
      [3, 'stale'],
      [9, 'stale'],
    ];
    const { child, said } = start(
      { url: database.url, work: again, chunks: [stale], vanished: [] },
      await armed(point, 'SIGSTOP'),
    );
    const stopped = `SELECT 1 AS x FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction' AND query ~ ${point === 'before-commit' ? `'INSERT|UPDATE'` : `'_godwit.chunk'`}`;
    while ((await contents(client, stopped)).length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    await writeChunks(way, again, [changed]);
    const sweep = await target.claim(again, { id: 2, kind: 'sweep', bounds: {}, rows: 0 });
    async function* gone() {
      yield ['3'];
    }
    await target.deleteKeys?.(again, sweep, gone(), new AbortController().signal);
    child.kill('SIGCONT');
    expect(['FENCED', 'CONNECTION_FAILED']).toContain(await said);
    await target.finish(again);
    await target.publish([again], []);
    expect(await visible(client, work)).toEqual(after);
  });

  describe('the answer to COMMIT is lost', () => {
    let proxy: FaultProxy;
    let far: Target;
    beforeAll(async () => {
      const url = new URL(database.url);
      proxy = await startProxy({ host: url.hostname, port: Number(url.port) });
      url.port = String(proxy.port);
      far = openTarget({ url: url.href });
      await client.query(
        `CREATE FUNCTION public.nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END'`,
      );
    });
    afterAll(async () => {
      await far?.[Symbol.asyncDispose]();
      await proxy?.stop();
    });
    const slowCommit = (table: string, when = '') =>
      client.query(
        `CREATE CONSTRAINT TRIGGER nap AFTER INSERT OR UPDATE ON ${table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW ${when} EXECUTE FUNCTION public.nap()`,
      );
    const committing = async () => {
      const asked = `SELECT 1 AS x FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active' AND datname = current_database()`;
      while ((await contents(client, asked)).length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    };

    test('of a chunk: the checkpoint says that it came through, with all its counts', async () => {
      const again = nextRun(await loaded(), 2);
      await far.prepare(again);
      const claim = await far.claim(again, chunk(1));
      await slowCommit('_godwit.chunk', 'WHEN (NEW.done)');
      try {
        const written = far.write(again, claim, give([{ kind: 'rows', rows: changed }]), writeOptions());
        await committing();
        proxy.afterBytes(1, () => proxy.cut(), 'toClient');
        expect(await written).toMatchObject({ read: 3, written: 2, unchanged: 1 });
      } finally {
        await client.query('DROP TRIGGER nap ON _godwit.chunk');
      }
      await target.discard(again);
    });

    test('of a publication: asked again, it finds that it happened', async () => {
      const work = await loaded();
      const again = nextRun(work, 2);
      await writeChunks(way, again, [changed]);
      await far.finish(again);
      await slowCommit('_godwit.state');
      try {
        const lost = codeOf(far.publish([again], []));
        await committing();
        proxy.afterBytes(1, () => proxy.cut(), 'toClient');
        expect(await lost).toBe('CONNECTION_FAILED');
      } finally {
        await client.query('DROP TRIGGER nap ON _godwit.state');
      }
      expect((await target.publish([again], [])).notes).toEqual([]);
      expect(await target.state?.(work)).toEqual(stateOf(2));
    });
  });

  test('two chunks that bring one key at once wait for each other, and it is there once', async () => {
    const work = await loaded();
    const again = nextRun(work, 2);
    await target.prepare(again);
    const rows = (of: string): Row[] => Array.from({ length: 200 }, (_, i) => [i + 100, of]);
    const [a, b] = await Promise.all(
      [1, 2].map(async (id) => {
        const claim = await target.claim(again, chunk(id));
        return await target.write(again, claim, give([{ kind: 'rows', rows: rows(`of ${id}`) }]), writeOptions());
      }),
    );
    expect((a?.written ?? 0) + (b?.written ?? 0)).toBe(400);
    expect(await contents(client, `SELECT count(*)::int AS x FROM ${quoted(work.name)}`)).toEqual([203]);
    expect(await contents(client, `SELECT DISTINCT v AS x FROM ${quoted(work.name)} WHERE id >= 100`)).toHaveLength(1);
    await target.discard(again);
  });

  test('columns that do not move stay as they are; checks and generated columns set bad rows aside', async () => {
    const work = await loaded();
    const table = quoted(work.name);
    await client.query(`ALTER TABLE ${table} ADD own text NOT NULL DEFAULT 'mine', ADD CHECK (v <> 'refused'),
      ADD part integer GENERATED ALWAYS AS (100 / (id - 50)) STORED`);
    const again = nextRun(work, 2);
    await target.prepare(again);
    const rows: Row[] = [
      [2, 'changed'],
      [50, 'divides by zero'],
      [5, 'refused'],
      [6, 'good'],
    ];
    const claim = await target.claim(again, chunk(1));
    const bad: string[] = [];
    const counts = await target.write(again, claim, give([{ kind: 'rows', rows }]), {
      ...writeOptions(),
      quarantine: async (found) => void bad.push(...found.map((one) => `${one.ordinal} ${one.native}`)),
    });
    expect(bad).toEqual(['1 22012', '2 23514']);
    expect(counts).toMatchObject({ read: 4, written: 2, quarantined: 2, inserted: 1, updated: 1, unchanged: 0 });
    expect(
      await contents(client, `SELECT format('%s %s %s', id, v, own) AS x FROM ${table} WHERE id IN (2, 6) ORDER BY id`),
    ).toEqual(['2 changed mine', '6 good mine']);
    await target.discard(again);
  });

  test('a column that is new at the source is added by the next increment', async () => {
    const work = await loaded();
    const wider = nextRun(work, 2, {
      onSchemaChange: 'add',
      columns: [...work.columns, column('more', 'bigint', { kind: 'int64' }, true)],
    });
    expect(await target.refusals(wider)).toEqual([]);
    expect(await target.drift?.(wider)).toHaveLength(1);
    const [counts] = await wholeRun(way, wider, [
      [
        [1, 'one', 5n],
        [2, 'two', null],
      ],
    ]);
    expect(counts).toMatchObject({ updated: 1, unchanged: 1 });
  });

  test('names of 63 bytes and mixed case, a key of two columns, a key that differs only in its spelling', async () => {
    const name = `Weird "${'ü'.repeat(27)}"x`;
    const key = `K "${'é'.repeat(29)}"`;
    const columns = [
      column(key, 'numeric', { kind: 'decimal' }, false),
      column('Second Key', 'text', { kind: 'text' }, false),
      column("it's", 'text', { kind: 'text' }, true),
    ];
    const work = plainWork({
      mode: 'syncing',
      state: stateOf(1),
      name: { schema: name, name },
      columns,
      key: [key, 'Second Key'],
    });
    const rows: Row[] = [
      ['1.0', 'a\tb\\', 'x'],
      ['2', 'NUL', null],
    ];
    await wholeRun(way, work, [rows]);
    const [counts] = await wholeRun(way, nextRun(work, 2), [
      [
        ['1.00', 'a\tb\\', 'x'],
        ['2', 'NUL', null],
      ],
    ]);
    expect(counts).toMatchObject({ updated: 1, unchanged: 1, inserted: 0 });
    expect(
      await contents(
        client,
        `SELECT ${JSON.stringify(key).replaceAll('\\"', '""')}::text AS x FROM ${quoted(work.name)} ORDER BY 1`,
      ),
    ).toEqual(['1.00', '2']);
    const sweep = nextRun(work, 3);
    const keys = await Array.fromAsync(target.keys?.(sweep, {}, new AbortController().signal) ?? []);
    expect(keys.flat()).toEqual(['1\0a\tb\\', '2\0NUL']);
    await target.prepare(sweep);
    async function* gone() {
      yield ['1\0a\tb\\'];
    }
    const claim = await target.claim(sweep, { id: 1, kind: 'sweep', bounds: {}, rows: 0 });
    expect(await target.deleteKeys?.(sweep, claim, gone(), new AbortController().signal)).toMatchObject({ deleted: 1 });
    await target.discard(sweep);
  });

  test('delete-insert keeps the table, and its state is the new one or none', async () => {
    const work = await loaded();
    const oid = await contents(client, `SELECT '${quoted(work.name)}'::regclass::oid AS x`);
    await wholeRun(way, { ...work, run: 'refill 1', swap: 'delete-insert', state: stateOf(2) }, [changed]);
    expect(await contents(client, `SELECT '${quoted(work.name)}'::regclass::oid AS x`)).toEqual(oid);
    expect(await target.state?.(work)).toEqual(stateOf(2));
    const { state: _state, ...replaced } = {
      ...work,
      run: 'refill 2',
      swap: 'delete-insert' as const,
      mode: 'replace' as const,
    };
    await wholeRun(way, replaced, [first]);
    expect(await target.state?.(work)).toBeUndefined();
  });

  test('a ledger of version 1 is brought to 2 where it stands, by whoever is first', async () => {
    await using old = await createDatabase(undefined, { version });
    const there = await connect(old);
    try {
      await using maker = openTarget({ url: old.url });
      const work = plainWork();
      await wholeRun({ target: maker, subject: way.subject }, work, [first]);
      await there.query(`DROP TABLE _godwit.state; ALTER TABLE _godwit.chunk DROP rows_unchanged, DROP rows_inserted, DROP rows_updated, DROP rows_deleted;
        UPDATE _godwit.version SET version = 1`);
      await using reader = openTarget({ url: old.url });
      expect(await reader.state?.(work)).toBeUndefined();
      expect(await contents(there, 'SELECT version AS x FROM _godwit.version')).toEqual([1]);
      const workers = Array.from({ length: 4 }, () => openTarget({ url: old.url }));
      const again = { ...work, mode: 'syncing' as const, run: 'another', state: stateOf(1) };
      await Promise.all(workers.map((one) => one.prepare(again)));
      expect(await contents(there, 'SELECT version AS x FROM _godwit.version')).toEqual([2]);
      await wholeRun({ target: reader, subject: way.subject }, again, [first]);
      expect(await reader.state?.(again)).toEqual(stateOf(1));
      for (const one of workers) await one[Symbol.asyncDispose]();
    } finally {
      await there.end();
    }
  });

  test('the plan refuses a login that may make no temporary table', async () => {
    await using closed = await createDatabase(undefined, { version });
    const there = await connect(closed);
    const role = `r_${closed.name}`;
    try {
      await there.query(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'; REVOKE TEMPORARY ON DATABASE ${closed.name} FROM PUBLIC;
        GRANT CREATE ON DATABASE ${closed.name} TO ${role}`);
      const url = new URL(closed.url);
      url.username = role;
      url.password = 'secret';
      await using limited = openTarget({ url: url.href });
      const codes = async (work: Work) => (await limited.refusals(work)).map(({ code }) => code);
      expect(await codes(plainWork({ mode: 'syncing' }))).toEqual(['PRIVILEGE_MISSING']);
      expect(await codes(plainWork())).toEqual([]);
    } finally {
      await there.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
      await there.end();
    }
  });

  test('nothing is left of all of this', async () => {
    expect((await leftovers(client)).filter((one) => !/^(schema|type) /.test(one))).toEqual([]);
  });
}

/** The source's own tables, loaded, read again, changed, read again: the rows are the same bytes, and only changed ones are written. */
function everyTypeAgain(version: Version) {
  const on = postgresPair(version, version);
  const formats: readonly Format[] = ['pg-text', 'pg-binary', 'rows'];
  const signal = new AbortController().signal;

  const move = async (work: Work, format: Format) => {
    await on.target.prepare(work);
    const all = { id: 1, kind: 'all', bounds: null, rows: work.source.rows } as const;
    const claim = await on.target.claim(work, all);
    const columns = work.columns.map((one) => ({ name: one.from ?? one.name, shape: one.shape }));
    const batch = { rows: 300, bytes: 64 * 1024 };
    const batches = on.source.read(work.source, all, {
      columns,
      snapshot: { consistency: 'chunk' },
      format,
      framed: format !== 'rows',
      batch,
      signal,
    });
    const counts = await on.target.write({ ...work, writeFormat: format }, claim, batches, writeOptions());
    await on.target.finish(work);
    await on.target.publish([work], []);
    return counts;
  };

  test.each(['every type', 'many', 'composite_key', 'Mixed "Case"', 'select', 'empty'])('%s', async (name) => {
    const table = on.tableNamed(name);
    const work = copyWork(table, on.target, 'pg-text', { mode: 'syncing', state: stateOf(1) });
    await on.target.drift?.(work);
    const loaded = await move(work, 'pg-text');
    expect(await contents(on.b, copied(table.name))).toEqual(await contents(on.a, rowTexts(table)));
    const exact = on.source.exactFormats(
      table,
      work.columns.map((one) => one.name),
      on.target,
    );
    for (const [i, format] of formats.filter((one) => one === 'rows' || exact.includes(one)).entries()) {
      const same = await move(nextRun(work, 2 + i), format);
      expect({ format, ...same }).toMatchObject({ format, read: loaded.read, written: 0, unchanged: loaded.read });
    }
  });

  test('each single change of a value is seen', async () => {
    const table = on.tableNamed('every type');
    const work = copyWork(table, on.target, 'pg-text', { mode: 'syncing', state: stateOf(1), run: 'changes' });
    await move(work, 'pg-text');
    const names = work.columns.map((one) => one.name).filter((name) => name !== 'id');
    // Its values of one row become NULL on the target, one column after another: each is an update of that very row.
    let run = 0;
    for (const name of names) {
      const [value] = await contents(on.a, `SELECT "${name}" IS NOT NULL AS x FROM nasty."every type" WHERE id = 2`);
      if (value !== true) continue;
      await on.b.query(`UPDATE nasty."every type" SET "${name}" = NULL WHERE id = 2`);
      const counts = await move(nextRun(work, 2, { run: `change ${++run}` }), 'pg-text');
      expect({ name, ...counts }).toMatchObject({ name, written: 1, updated: 1 });
    }
    expect(run).toBeGreaterThan(50);
    expect(await contents(on.b, copied(table.name))).toEqual(await contents(on.a, rowTexts(table)));
  });

  test('unique indexes are plain ones, foreign keys and exclusions are left out, and the plan says so', async () => {
    const { a, b, source, target } = on;
    await a.query(`CREATE TABLE nasty.loose (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, u text UNIQUE, w text, n integer GENERATED BY DEFAULT AS IDENTITY,
        r int4range, many_id bigint REFERENCES nasty.many (id), EXCLUDE USING gist (r WITH &&), CHECK (w <> 'no'));
      CREATE UNIQUE INDEX "unique w" ON nasty.loose (w) WHERE w > 'a'; CREATE INDEX plain_n ON nasty.loose (n);
      INSERT INTO nasty.loose (u, w, r) SELECT g::text, g::text, int4range(g, g + 1) FROM generate_series(1, 20) g`);
    const table = await source.describe({ schema: 'nasty', name: 'loose' });
    const work = copyWork(table, target, 'pg-text', { mode: 'syncing', state: stateOf(1) });
    expect(await target.drift?.(work)).toEqual([
      'loose_u_key, unique w: unique at the source, a plain index here',
      'loose_r_excl: an exclusion constraint, left out here',
      'loose_many_id_fkey: a foreign key, left out here',
    ]);
    await move(work, 'pg-text');
    const made = `SELECT pg_get_indexdef(indexrelid) AS x FROM pg_index WHERE indrelid = 'nasty.loose'::regclass ORDER BY pg_get_indexdef(indexrelid) COLLATE "C"`;
    expect(await contents(b, made)).toEqual([
      `CREATE INDEX "unique w" ON nasty.loose USING btree (w) WHERE (w > 'a'::text)`,
      'CREATE INDEX loose_u_key ON nasty.loose USING btree (u)',
      'CREATE INDEX plain_n ON nasty.loose USING btree (n)',
      'CREATE UNIQUE INDEX loose_pkey ON nasty.loose USING btree (id)',
    ]);
    expect(
      await contents(
        b,
        `SELECT contype::text AS x FROM pg_constraint WHERE conrelid = 'nasty.loose'::regclass AND contype <> 'n' ORDER BY 1`,
      ),
    ).toEqual(['c', 'p']);
    // u passes from one row to another, and rows deleted at the source stay here.
    await a.query(`UPDATE nasty.loose SET u = NULL WHERE id = 1; UPDATE nasty.loose SET u = '1', n = 77 WHERE id = 2; DELETE FROM nasty.loose WHERE id = 3;
      INSERT INTO nasty.loose (u, w) VALUES ('3', 'new')`);
    const now = await source.describe({ schema: 'nasty', name: 'loose' });
    const counts = await move(nextRun(copyWork(now, target, 'pg-text', { mode: 'syncing' }), 2), 'pg-text');
    expect(counts).toMatchObject({ read: 20, inserted: 1, updated: 2, unchanged: 17 });
    const [next] = await contents(b, `SELECT nextval(pg_get_serial_sequence('nasty.loose', 'id'))::int AS x`);
    expect(next).toBe(22);
  });
}
