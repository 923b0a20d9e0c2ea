/** `godwit import --state`: tables that another tool has filled. The first run loads nothing again and loses nothing. */
import { MongoClient, ObjectId } from 'mongodb';
import mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Deps } from '../../activities/deps.ts';
import { remember } from '../../activities/remember.ts';
import { readEntries } from '../../cli/import/state.ts';
import { applyJob } from '../../db/jobs.ts';
import { sealTakeover } from '../../db/probes.ts';
import { parseMapping } from '../../mapping/parse.ts';
import { createDatabase, createMongoDatabase, createMysqlDatabase, missing } from '../servers/shared.ts';
import { install, query } from '../workflow/installation.ts';
import { absent, type Godwit, runOnce } from './from.ts';
import { type IncrementalMode, Model, sorted } from './promise.ts';
import { type Item, type SourceWord, sources, type TargetWord, targets } from './worlds.ts';

const minute = 60_000;
const iso = (at: number) => new Date(at).toISOString();
const skip = (await missing('postgres')) || (await missing('temporal'));
const noMysql = await missing('mysql');
const noMongodb = await missing('mongodb');

const cases: readonly (readonly [IncrementalMode, SourceWord, TargetWord])[] = [
  ['syncing', 'pgsql', 'mysql'],
  ['syncing', 'mysql', 'pgsql'],
  ['syncing', 'mysql', 'mongo'],
  ['syncing', 'mysql', 'files'],
  ['syncing', 'mongo', 'pgsql'],
  ['syncing', 'mongo', 'mongo'],
  ['logging', 'pgsql', 'files'],
  ['logging', 'mariadb', 'mariadb'],
  ['logging', 'mongo', 'mysql'],
  ['logging', 'mongo', 'mongo'],
  ['mirroring', 'mysql', 'mariadb'],
  ['mirroring', 'mongo', 'mongo'],
];
const skipped = new Map<TargetWord, boolean>();
for (const word of new Set(cases.flatMap(([, from, to]) => [from, to]))) skipped.set(word, await absent(word));

describe.skipIf(skip)('a table that another tool has filled', () => {
  const stack = new AsyncDisposableStack();
  let godwit: Godwit;
  let deps: Deps;
  beforeAll(async () => {
    godwit = stack.use(await install());
    stack.use(await godwit.work());
    ({ deps } = await godwit.activities());
  });
  afterAll(() => stack.disposeAsync());

  /** What `godwit apply` and then `godwit import --state` do. */
  const takeOver = async (mapping: object, entries: readonly object[]) => {
    const { job } = await applyJob(godwit.db, deps.sealer, { parsed: parseMapping(mapping) });
    const tables = sealTakeover(deps.sealer, readEntries(entries));
    const request = { kind: 'remember' as const, jobId: job.id, tables };
    return (await remember(deps, crypto.randomUUID(), request, new AbortController().signal)).tables;
  };

  const story = async (mode: IncrementalMode, from: SourceWord, to: TargetWord) => {
    await using source = await sources[from]();
    await using target = await targets[to](godwit.home);
    const mapping = (name: string, entry: object) => ({
      name: `${name}-${from}-${to}-${mode}`,
      source: source.settings,
      destination: { there: target.settings },
      tables: [{ ...source.entry, ...entry }],
    });
    const model = new Model(source, mode);
    const item = (id: number, name: string, at: number): Item => ({ id, name, at });
    const stopped = Date.now() - 120 * minute;
    const old = Array.from({ length: 300 }, (_, i) => item(i + 1, `old ${i}`, stopped - 14_400 * minute + i * minute));
    const last = Array.from({ length: 10 }, (_, i) => item(50_001 + i, `last ${i}`, stopped - 30 * minute + i));
    await model.put(...old, ...last);
    await runOnce(godwit, mapping('before', { mode: 'replace', bookmark: undefined }));
    await target.forget();
    model.run();

    await model.put(item(7, 'changed', stopped + minute), item(50_011, 'new', stopped + minute));
    await model.put(item(49_999, 'committed late', stopped - 20 * minute));
    await model.remove(3);
    // As exact as what is there.
    const ours = mapping('ours', { mode, strict: true });
    const entry = { table_name: 'item', last_run: iso(stopped), last_key: 50_010 };
    expect(await takeOver(ours, [entry])).toEqual([
      { table: expect.stringMatching(/item$/), target: 'there', targetName: expect.stringMatching(/item$/) },
    ]);
    const first = await runOnce(godwit, ours);
    const { items, written, deleted } = model.run();
    expect(sorted(await target.all())).toEqual(sorted(items));
    expect(first).toMatchObject({ step: 'increment', rowsDeleted: deleted });
    expect(first.rowsRead).toBeLessThan(20);
    if (to !== 'files') expect(first.rowsWritten).toBe(written);
    if (to !== 'mongo') expect(first.storageBytes).toBeGreaterThan(0);

    expect(await takeOver(ours, [entry])).toMatchObject([{ failure: { code: 'CONFLICT' } }]);
    // Of a file of another tool nothing is known: what is read again, as all of so few keys are, is written again, once.
    if (to === 'files' && mode === 'logging') await runOnce(godwit, ours);
    await model.put(item(50_012, 'newer', Date.now()));
    expect(await runOnce(godwit, ours)).toMatchObject({ step: 'increment', rowsWritten: model.run().written });
    expect(sorted(await target.all())).toEqual(sorted(model.run().items));
  };
  // Each in databases of its own: most of its time a run waits for an answer of somebody.
  for (const [mode, from, to] of cases) {
    const skips = skipped.get(from) || skipped.get(to);
    test.skipIf(skips).concurrent(`${mode} from ${from} to ${to}`, () => story(mode, from, to));
  }

  test.skipIf(noMongodb || noMysql)('logging by ObjectId, documents as the manual moves them', async () => {
    await using from = await createMongoDatabase();
    await using to = await createMysqlDatabase('mysql');
    await using client = new MongoClient(from.url);
    const log = client.db().collection('log');
    const second = Math.floor(Date.now() / 1000) - 7200;
    const id = (i: number) => new ObjectId((second + i).toString(16).padStart(8, '0') + '0'.repeat(16));
    await log.insertMany(Array.from({ length: 20 }, (_, i) => ({ _id: id(i), what: `event ${i}` })));
    const mapping = (name: string, entry: object) => ({
      name,
      source: { source_type: 'mongo', url: from.url, db_name: from.name },
      destination: { there: { destination_type: 'mysql', url: to.url, schema: to.name } },
      collections: [{ collection_name: 'log', ...entry }],
    });
    await runOnce(godwit, mapping('objects-before', { mode: 'replace' }));
    const connection = await mysql.createConnection(to.url);
    try {
      for (const books of ['owner', 'state']) {
        await connection.query(`DELETE FROM _godwit.${books} WHERE schema_name = ?`, [to.name]);
      }
      await log.insertOne({ _id: id(30), what: 'new' });
      const ours = mapping('objects', { mode: 'logging' });
      const entry = { collection: 'log', last_run: new Date(), last_record_migrated: id(19) };
      expect(await takeOver(ours, [entry])).toMatchObject([{ target: 'there' }]);
      expect(await runOnce(godwit, ours)).toMatchObject({ step: 'increment', rowsRead: 2, rowsWritten: 1 });
      const [rows] = await connection.query('SELECT COUNT(*) AS n FROM log');
      expect(rows).toEqual([{ n: 21 }]);
    } finally {
      await connection.end();
    }
  });

  test.skipIf(noMysql).each([
    ['Asia/Kolkata', 330],
    ['America/New_York', -300],
  ])('a DATETIME by the clock of %s, and what is known in that zone', async (timezone, ahead) => {
    await using from = await createMysqlDatabase('mysql');
    await using to = await createDatabase();
    const connection = await mysql.createConnection(from.url);
    // Winter there, so that the offset is known; the zone's wall as it stands in the column.
    const stopped = Date.parse('2024-01-15T12:00:00Z');
    const wall = (minutes: number) =>
      iso(stopped + (ahead + minutes) * minute)
        .slice(0, 19)
        .replace('T', ' ');
    try {
      await connection.query('CREATE TABLE item (id int PRIMARY KEY, at datetime, made datetime NOT NULL)');
      const rows = Array.from({ length: 50 }, (_, i) => [i, wall(-3000 + i), wall(-3000 + i)]);
      await connection.query('INSERT INTO item VALUES ?', [[...rows, [100, wall(-5), wall(-5)]]]);
      const mapping = (name: string, entry: object) => ({
        name: `${name}-${ahead}`,
        timezone,
        source: { source_type: 'mysql', url: from.url },
        destination: { there: { destination_type: 'pgsql', url: to.url, schema: 'copy' } },
        tables: [{ table_name: 'item', ...entry }],
      });
      await runOnce(godwit, mapping('wall-before', { mode: 'replace' }));
      await query(to.url, 'DROP SCHEMA _godwit CASCADE');
      await connection.query('INSERT INTO item VALUES ?', [[[101, wall(-1), wall(-1)], [102, wall(5), wall(5)]]]); // biome-ignore format: rows
      const ours = mapping('wall', { mode: 'syncing', bookmark: 'at' });
      const entry = { table: 'item', last_run: wall(0), last_bookmark: wall(-5) };
      expect(await takeOver(ours, [entry])).toMatchObject([{ target: 'there' }]);
      const run = await runOnce(godwit, ours);
      expect(run).toMatchObject({ step: 'increment', rowsWritten: 2 });
      expect(run.rowsRead).toBeLessThan(20);
      expect(await query(to.url, 'SELECT count(*)::int AS n FROM copy.item')).toEqual([{ n: 53 }]);
    } finally {
      await connection.end();
    }
  });

  test('what is said of one target counts before what is said of each, and a target that is none is told', async () => {
    await using from = await createDatabase();
    await using to = await createDatabase();
    await query(
      from.url,
      `CREATE TABLE item (id bigint PRIMARY KEY, name text);
       INSERT INTO item SELECT i, 'row ' || i FROM generate_series(1, 100) i UNION ALL SELECT i, 'row ' || i FROM generate_series(50001, 50010) i`,
    );
    for (const schema of ['one', 'two']) {
      await query(to.url, `CREATE SCHEMA ${schema}; CREATE TABLE ${schema}.item (id bigint PRIMARY KEY, name text)`);
    }
    await query(to.url, "INSERT INTO one.item VALUES (50010, 'row 50010'); INSERT INTO two.item VALUES (1, 'row 1')");
    const place = (schema: string) => ({ destination_type: 'pgsql', url: to.url, schema });
    const mapping = {
      name: 'each',
      source: { source_type: 'pgsql', url: from.url },
      destination: { one: place('one'), two: place('two') },
      tables: [{ table_name: 'item', mode: 'logging' }],
    };
    const entries = [
      { table: 'item', last_run: new Date(), last_key: 60_005 },
      { table: 'item', target: 'two', last_run: new Date(), last_key: 1 },
      { table: 'item', target: 'three', last_run: new Date(), last_key: 1 },
    ];
    const taken = await takeOver(mapping, entries);
    expect(taken.map(({ target, failure }) => [target, failure?.code])).toEqual([
      ['three', 'NOT_FOUND'],
      ['one', undefined],
      ['two', undefined],
    ]);
    const { result } = await godwit.begin(mapping);
    expect((await result()).status).toBe('succeeded');
    const ids = (schema: string) =>
      query<{ n: number; least: number }>(
        to.url,
        `SELECT count(*)::int AS n, min(id)::int AS least FROM ${schema}.item`,
      );
    expect(await ids('one')).toEqual([{ n: 6, least: 50_005 }]);
    expect(await ids('two')).toEqual([{ n: 110, least: 1 }]);
  });
});
