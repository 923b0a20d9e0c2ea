/** One short look at every version that can be had beside the two of the other tests: reached, read, and written to. */
import { afterAll, describe, expect, test } from 'vitest';
import type { Batch, Work } from '../../connectors/contract.ts';
import { openSource } from '../../connectors/mysql/source.ts';
import { openTarget } from '../../connectors/mysql/target.ts';
import type { MysqlKind } from '../../servers/mysql.ts';
import { createMysqlDatabase, missing } from '../servers/shared.ts';
import { mysqlEveryTypeOf, mysqlEveryTypeTables, mysqlOddDates } from './mysql-every-type.ts';
import { connect, dropAll, plainWorks, quoted, rowsOf, workOf } from './mysql-works.ts';
import { writeOptions } from './target.ts';

const versions: readonly (readonly [MysqlKind, number])[] = [
  ['mysql', 5],
  ['mysql', 8],
  ['mariadb', 10.6],
  ['mariadb', 11],
];

for (const [kind, version] of versions) {
  describe.skipIf(await missing(`${kind}/${version}`))(`${kind} ${version}`, () => {
    const { work: plain, prefix } = plainWorks();
    let cleaned = async () => {};
    afterAll(() => cleaned());

    test('passes the checks, and has every type and table once more beside the first', async () => {
      await using origin = await createMysqlDatabase(kind, undefined, { version });
      const client = await connect(origin.url);
      cleaned = async () => {
        await dropAll(client, prefix);
        await client.end();
      };
      for (const statement of await mysqlEveryTypeOf(kind, client)) await client.query(statement);
      await using source = openSource({ url: origin.url });
      await using target = openTarget({ url: origin.url, db_name: prefix });
      for (const check of [...(await source.check()), ...(await target.check())]) {
        expect(check, check.name).toMatchObject({ outcome: 'pass' });
      }

      const schema = `${prefix} copy`;
      const names = [...mysqlEveryTypeTables, mysqlOddDates].map((name) => ({ schema: origin.name, name }));
      const works = (await source.describeAll(names)).map((table): Work => {
        if (table instanceof Error) throw table;
        return workOf(plain({ run: prefix, name: { schema, name: table.name.name } }), table, target, 'pg-text');
      });
      for (const work of works) {
        expect(await target.refusals(work)).toEqual([]);
        const chunk = { id: 1, kind: 'all', bounds: null, rows: work.source.rows } as const;
        await target.prepare(work);
        const claim = await target.claim(work, chunk);
        const batches: AsyncIterable<Batch> = source.read(work.source, chunk, {
          columns: work.columns.map(({ from = '', shape }) => ({ name: from, shape })),
          snapshot: { consistency: 'chunk' },
          format: 'pg-text',
          batch: { rows: 5000, bytes: 1024 * 1024 },
          signal: new AbortController().signal,
        });
        await target.write(work, claim, batches, writeOptions());
        await target.finish(work);
      }
      expect((await target.publish(works, [])).notes).toEqual([]);
      const sizes = (await target.sizes?.(works.map(({ name }) => name))) ?? [];
      expect(sizes.map((size) => size !== undefined && size > 0)).toEqual(works.map(() => true));
      for (const { name, source: table } of works) {
        const sum = async (from: typeof name) => {
          const columns = table.columns.map((column) => quoted({ schema: '', name: column.name }).slice(3));
          const digests = columns.map((column) => `COALESCE(MD5(CAST(${column} AS BINARY)), '')`);
          const row = `CAST(CONV(LEFT(MD5(CONCAT(${digests.join(', ')})), 12), 16, 10) AS UNSIGNED)`;
          return await rowsOf(client, `SELECT COUNT(*), CAST(SUM(${row}) AS CHAR) FROM ${quoted(from)}`);
        };
        expect(await sum(name), name.name).toEqual(await sum(table.name));
      }
    });
  });
}
