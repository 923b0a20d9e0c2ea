/**
 * What tables take: the files of their tablespaces, indexes included, where the login may see them (PROCESS) and each table has its own;
 * else what the statistics say, which the server renews when a tenth of the rows is new. Undefined: there is no such table.
 */
import type { TableName } from '../../contract.ts';
import { fileSizesOf } from '../catalog.ts';
import type { Session } from '../session.ts';

/** Beyond that the server has so many files to look at that the statistics are asked from then on. */
const patienceMs = 250;

/** Of one target, which remembers how its server takes the question. */
export function sizer(): (session: Session, names: readonly TableName[]) => Promise<(number | undefined)[]> {
  let many = false;
  return async (session, names) => {
    const sizes = new Map<string, number>();
    for (const [schema, some] of Map.groupBy(names, (one) => one.schema)) {
      const stats = await statistics(
        session,
        schema,
        some.map(({ name }) => name),
      );
      for (const { name, bytes } of stats) sizes.set(keyOf({ schema, name }), Number(bytes));
      const own = stats.filter(({ engine }) => /^innodb$/i.test(engine)).map(({ name }) => name);
      if (many || own.length === 0) continue;
      const begun = performance.now();
      for (const [name, bytes] of await fileSizesOf(session, schema, own)) sizes.set(keyOf({ schema, name }), bytes);
      many = performance.now() - begun > patienceMs;
    }
    return names.map((name) => sizes.get(keyOf(name)));
  };
}

const keyOf = ({ schema, name }: TableName): string => `${schema}/${name}`;

type Statistics = { readonly name: string; readonly engine: string; readonly bytes: number | string };

const statistics = (session: Session, schema: string, names: readonly string[]): Promise<Statistics[]> =>
  session.query(
    `SELECT TABLE_NAME AS name, ENGINE AS engine, DATA_LENGTH + INDEX_LENGTH AS bytes FROM information_schema.TABLES
     WHERE TABLE_SCHEMA = ? AND TABLE_NAME IN (?) AND ENGINE IS NOT NULL AND DATA_LENGTH IS NOT NULL`,
    [schema, names],
  );
