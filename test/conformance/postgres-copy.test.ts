import pg from 'pg';
import { describe, expect, test } from 'vitest';
import type { PlanColumn, Work } from '../../connectors/contract.ts';
import type { GodwitError } from '../../errors.ts';
import { longName } from './every-type.ts';
import {
  contents,
  copied,
  copyWork,
  definitions,
  describeVersions,
  leftovers,
  postgresPair,
  quoted,
  rowTexts,
  type Version,
} from './postgres-works.ts';
import { codeOf } from './target.ts';

await describeVersions(', from PostgreSQL', copying);

function copying(version: Version) {
  const on = postgresPair(version, version);

  describe.each(['pg-binary', 'pg-text', 'rows'] as const)('every type by %s', (format) => {
    test('arrives exactly, with its keys, indexes, checks, defaults, comments and foreign keys', async () => {
      const { a, b, source, target, tables, load } = on;
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

  test('renamed and excluded columns, another schema, a long and a reserved name', async () => {
    const { a, b, target, tableNamed, load } = on;
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

  test('user types come and go with a canceled table', async () => {
    const { a, b, source, target, load } = on;
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

  describe('dumping', () => {
    const date = (n: number) => `2026-0${n}-01T00:00:00.123456Z`;
    const dump = (n: number, over: Partial<Work> = {}): Work => {
      const base = copyWork(on.tableNamed('many'), on.target, 'pg-text', { name: { schema: 'lake', name: 'Many' } });
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
        on.b,
        `SELECT migration_snapshot_date::date::text || ' ' || count(*) AS x FROM lake."Many" GROUP BY migration_snapshot_date ORDER BY 1`,
      );

    test('appends a snapshot per run and says which are complete; a canceled one leaves no row', async () => {
      const { b, target, load } = on;
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
      const { b, target } = on;
      const work = dump(4);
      const other = { ...work, columns: work.columns.filter((one) => one.name !== 'at') };
      expect(await target.refusals(other)).toEqual([]);
      await b.query('ALTER TABLE lake."Many" ALTER amount TYPE text; ALTER TABLE lake."Many" DROP ref CASCADE');
      const refused = await target.refusals(work);
      expect(refused.map((error) => error.code)).toEqual(['TARGET_DIFFERS']);
      expect(refused[0]?.message).toContain('amount is text there and numeric(12,2) at the source; ref is not there');
    });
  });

  if (version !== undefined) describe('from the package’s PostgreSQL', () => acrossVersions(undefined, version));
  if (version !== undefined) describe('to the package’s PostgreSQL', () => acrossVersions(version, undefined));
}

/** What the older server cannot hold is refused by its column; all else arrives exactly. */
function acrossVersions(from: Version, to: Version) {
  const on = postgresPair(from, to);
  const major = async (client: pg.Client) =>
    Number(await contents(client, `SELECT current_setting('server_version_num')::int / 10000 AS x`));
  const newerThan = (there: number) => [
    ...(there < 15 ? ['v_numeric_neg', 'v_numeric_small'] : []),
    ...(there < 14 ? ['v_multirange'] : []),
  ];

  test('the plan refuses the columns whose types came later', async () => {
    const { b, target, tables } = on;
    const later = newerThan(await major(b));
    for (const table of tables.values()) {
      const refused = (await target.refusals(copyWork(table, target, 'pg-text'))) as GodwitError[];
      expect(refused.map((error) => error.code)).toEqual(refused.map(() => 'TYPE_REFUSED'));
      const columns = table.columns.map(({ name }) => name).filter((name) => later.includes(name));
      expect(refused.map((error) => error.where.column)).toEqual(columns);
    }
  });

  test('a multirange over a range of its own is refused where there are none, and arrives where there are', async () => {
    const { a, b, source, target, load } = on;
    if ((await major(a)) < 14) return;
    await a.query(`CREATE SCHEMA late; CREATE TYPE late."R" AS RANGE (subtype = int4, multirange_type_name = late."Many R");
      CREATE TABLE late.t (id int PRIMARY KEY, m late."Many R"); INSERT INTO late.t VALUES (1, '{[1,2),[5,7)}')`);
    const work = copyWork(await source.describe({ schema: 'late', name: 't' }), target, 'pg-text');
    const refused = await target.refusals(work);
    if ((await major(b)) < 14) {
      expect(refused.map((error) => error.code)).toEqual(['TYPE_REFUSED']);
      return;
    }
    expect(refused).toEqual([]);
    await load(work);
    await target.publish([work], []);
    expect(await contents(b, copied(work.name))).toEqual(['(1,"{[1,2),[5,7)}")']);
  });

  test('an infinite numeric stops its table where the server has none', async () => {
    const { a, b, target, tableNamed, load } = on;
    if ((await major(a)) < 14 || (await major(b)) >= 14) return;
    for (const format of ['pg-binary', 'pg-text'] as const) {
      const work = copyWork(tableNamed('every type'), target, format);
      const columns = work.columns.filter(({ name }) => ['id', 'v_numeric'].includes(name));
      const plain = { ...work, columns };
      expect(await codeOf(load(plain)), format).toBe('VALUE_REFUSED');
      await target.discard(plain);
    }
    await a.query(`UPDATE nasty."every type" SET v_numeric = 'NaN' WHERE v_numeric = 'Infinity'`);
  });

  test.each(['pg-binary', 'pg-text', 'rows'] as const)('all others arrive exactly by %s', async (format) => {
    const { a, b, source, target, tables, load } = on;
    const later = newerThan(await major(b));
    const works = [...tables.values()].map((table) => {
      const work = copyWork(table, target, format);
      const columns = work.columns.filter(({ name }) => !later.includes(name));
      const names = columns.map(({ name }) => name);
      const possible = format === 'rows' || source.exactFormats(table, names, target).includes(format);
      return { ...work, columns, ...(possible ? {} : ({ readFormat: 'pg-text', writeFormat: 'pg-text' } as const)) };
    });
    for (const work of works) {
      expect(await target.refusals(work), work.name.name).toEqual([]);
      const counts = await load(work);
      expect(counts.read).toBe(counts.written);
    }
    const { notes } = await target.publish(works, []);
    expect(notes.filter((note) => !/partitioned at the source|virtual at the source/.test(note))).toEqual([]);
    for (const { source: table, columns } of works) {
      const row = `SELECT row(${columns.map(({ name }) => pg.escapeIdentifier(name)).join(', ')})::text AS x FROM`;
      const only = table.kind === 'partitioned' ? '' : 'ONLY ';
      expect(await contents(b, `${row} ${quoted(table.name)} ORDER BY 1`), table.name.name).toEqual(
        await contents(a, `${row} ${only}${quoted(table.name)} ORDER BY 1`),
      );
    }
  });
}
