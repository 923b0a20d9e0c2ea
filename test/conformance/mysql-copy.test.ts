/** From MySQL to MySQL, between the two families too: all values, all definitions. */
import type mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Batch, Format, Read, Source, Table, Target, Work } from '../../connectors/contract.ts';
import { openSource } from '../../connectors/mysql/source.ts';
import { openTarget } from '../../connectors/mysql/target.ts';
import type { Row } from '../../connectors/types.ts';
import type { MysqlKind } from '../../servers/mysql.ts';
import { createMysqlDatabase, missing, type TestDatabase } from '../servers/shared.ts';
import { mysqlEveryTypeOf, mysqlEveryTypeTables, mysqlHas, mysqlOddDates } from './mysql-every-type.ts';
import { connect, dropAll, plainWorks, quoted, rowsOf, serverUrl, within, workOf } from './mysql-works.ts';
import { writeOptions } from './target.ts';

const signal = new AbortController().signal;

async function move(source: Source, target: Target, work: Work, format: Format): Promise<number> {
  const chunk = { id: 1, kind: 'all', bounds: null, rows: work.source.rows } as const;
  await target.prepare(work);
  const claim = await target.claim(work, chunk);
  const want: Read = {
    columns: work.columns.map(({ from = '', shape }) => ({ name: from, shape })),
    snapshot: { consistency: 'chunk' },
    format,
    batch: { rows: 5000, bytes: 1024 * 1024 },
    signal,
  };
  const batches: AsyncIterable<Batch> = source.read(work.source, chunk, want);
  const counts = await target.write(work, claim, batches, writeOptions());
  await target.finish(work);
  return counts.written;
}

const pairs: [MysqlKind, MysqlKind][] = [
  ['mariadb', 'mariadb'],
  ['mysql', 'mysql'],
  ['mysql', 'mariadb'],
  ['mariadb', 'mysql'],
];

for (const [from, to] of pairs) {
  if ((await missing(from)) || (await missing(to))) continue;
  describe(`${from} to ${to}`, () => copying(from, to));
}

function copying(from: MysqlKind, to: MysqlKind) {
  const { work: plain, prefix } = plainWorks();
  let origin: TestDatabase;
  let a: mysql.Connection;
  let b: mysql.Connection;
  let source: Source;
  let target: Target;
  let checks: { readonly here: boolean; readonly there: boolean };
  beforeAll(async () => {
    origin = await createMysqlDatabase(from);
    a = await connect(origin.url);
    for (const statement of await mysqlEveryTypeOf(from, a)) await a.query(statement);
    const url = await serverUrl(to);
    b = await connect(url);
    const keeps = async (kind: MysqlKind, client: mysql.Connection) =>
      mysqlHas(kind, String((await rowsOf(client, 'SELECT VERSION()'))[0]?.[0])).checks;
    checks = { here: await keeps(from, a), there: await keeps(to, b) };
    await b.query("SET sql_mode = ''");
    source = openSource({ url: origin.url });
    target = openTarget({ url: within(url, prefix) });
  });
  afterAll(async () => {
    await source?.[Symbol.asyncDispose]();
    await target?.[Symbol.asyncDispose]();
    if (b) await dropAll(b, prefix);
    await a?.end();
    await b?.end();
    await origin?.drop();
  });

  const works = async (format: Format, schema: string, names: readonly string[]): Promise<Work[]> => {
    const tables = await source.describeAll(names.map((name) => ({ schema: origin.name, name })));
    return tables.map((table) => {
      if (table instanceof Error) throw table;
      const base = plain({ run: `${schema} run`, name: { schema, name: table.name.name } });
      return workOf(base, table, target, format);
    });
  };

  /** Every value in a form that hides nothing. */
  const values = async (client: mysql.Connection, schema: string, table: Table): Promise<Row[]> => {
    const list = table.columns.map(({ name, native }) => {
      const quotedName = quoted({ schema: '', name }).slice(3);
      if (/^float|^double/.test(native)) return `${quotedName} * 1e0`;
      if (/^json/.test(native)) return `CONVERT(${quotedName} USING utf8mb4)`;
      if (/blob|binary|^bit|^vector/.test(native)) return `HEX(${quotedName})`;
      return /^(point|geom)/.test(native) ? `ST_AsText(${quotedName})` : `CONCAT(CONVERT(${quotedName} USING utf8mb4))`;
    });
    const rows = await rowsOf(client, `SELECT ${list.join(', ')} FROM ${quoted({ schema, name: table.name.name })}`);
    const texts = rows.map((row) => row.map((value) => (value === null ? null : String(value))));
    return texts.sort((x, y) => (JSON.stringify(x) < JSON.stringify(y) ? -1 : 1));
  };

  const compare = async (schema: string, all: readonly Work[]) => {
    for (const { source: table } of all) {
      const [here, there] = [await values(a, origin.name, table), await values(b, schema, table)];
      expect(there.length, table.name.name).toBe(here.length);
      for (const [i, row] of here.entries()) expect(there[i], `${table.name.name} ${i}`).toEqual(row);
    }
    if (from !== to) return;
    for (const { source: table } of all) {
      const definition = async (client: mysql.Connection, database: string) => {
        const name = { schema: database, name: table.name.name };
        const [row] = await rowsOf(client, `SHOW CREATE TABLE ${quoted(name)}`);
        const said = String(row?.[1]).replaceAll(`\`${database}\`.`, '');
        // Said or not, it is the same: MySQL repeats what was written.
        return said.replaceAll(' CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci', '');
      };
      expect(await definition(b, schema)).toBe(await definition(a, origin.name));
    }
  };

  for (const format of ['pg-text', 'rows'] as const) {
    test(`every type and every table by ${format}, and once more over the first copy`, async () => {
      const schema = `${prefix} ${format}`;
      const first = await works(format, schema, [...mysqlEveryTypeTables, mysqlOddDates]);
      for (const all of [first, first.map((work): Work => ({ ...work, run: `${work.run}+` }))]) {
        for (const work of all) {
          expect((await target.refusals(work)).map((error) => error.message)).toEqual([]);
          await move(source, target, work, format);
        }
        const { notes } = await target.publish(all, []);
        if (from === to) expect(notes).toEqual([]);
        await compare(schema, all);
      }
    });
  }

  test('a foreign key to a table that failed is reported, and made when that table comes after all', async () => {
    const schema = `${prefix} late`;
    const [parent, child] = (await works('pg-text', schema, ['parent', 'child'])) as [Work, Work];
    await move(source, target, child, 'pg-text');
    const missingNote = `${schema}.child: foreign key child_ibfk_1 to ${origin.name}.parent is missing: that table was not published with it`;
    expect((await target.publish([child], [parent.source.name])).notes).toContain(missingNote);
    await move(source, target, parent, 'pg-text');
    const late = await target.publish([parent], []);
    expect(late.outdated).toEqual([missingNote]);
    expect((await target.publish([child], [])).notes).not.toContain(missingNote);
    const kid = quoted({ schema, name: 'child' });
    await expect(b.query(`INSERT INTO ${kid} VALUES (99, 99)`)).rejects.toThrow(/foreign key/i);
  });

  test('renamed and left-out columns take their indexes and definitions with them', async () => {
    const schema = `${prefix} renamed`;
    const [whole] = (await works('pg-text', schema, ['many'])) as [Work];
    const columns = whole.columns
      .filter((one) => one.name !== 'amount')
      .map((one) => (one.name === 'name' ? { ...one, name: 'title' } : one));
    const work = { ...whole, columns };
    await move(source, target, work, 'pg-text');
    const { notes } = await target.publish([work], []);
    expect(
      notes.filter((note) => !note.includes('collation')).map((note) => note.replace(`${schema}.many: `, '')),
    ).toEqual([
      'generated column lower_name is left out, a column it needs does not move under its name',
      'index many by name is left out, a column of it does not move under its name',
      ...(checks.here && checks.there
        ? ['check amount is sane is left out, a column of it does not move under its name']
        : checks.here
          ? ['check amount is sane is left out, this server keeps none']
          : []),
    ]);
    const names = await rowsOf(
      b,
      `SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? ORDER BY ORDINAL_POSITION`,
      [schema],
    );
    expect(names.flat()).toEqual(['id', 'title', 'at', 'ref']);
    expect(await rowsOf(b, `SELECT COUNT(*), MAX(title) FROM ${quoted(work.name)}`)).toEqual(
      await rowsOf(a, `SELECT COUNT(*), MAX(name) FROM many`),
    );
  });
}
