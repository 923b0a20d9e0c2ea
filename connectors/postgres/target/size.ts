/** What tables take: rows, indexes, large values; of partitioned ones all their partitions. */
import type { TableName } from '../../contract.ts';
import type { Session } from '../session.ts';
import { tableIdent } from '../sql.ts';

export async function sizesOf(session: Session, names: readonly TableName[]): Promise<(number | undefined)[]> {
  const rows = await session.query<{ bytes: string | null }>(
    `SELECT coalesce((SELECT sum(pg_total_relation_size(p.relid)) FROM pg_partition_tree(to_regclass(t.name)) p),
       pg_total_relation_size(to_regclass(t.name)))::text AS bytes
     FROM unnest($1::text[]) WITH ORDINALITY AS t(name, n) ORDER BY n`,
    [names.map(tableIdent)],
  );
  return rows.map(({ bytes }) => (bytes === null ? undefined : Number(bytes)));
}
