/** Ranges of a bookmark or key: the condition they stand for, and whether an index serves them. */
import type { Range, Table } from '../contract.ts';
import { postgresExtras } from './extras.ts';
import { comparable, comparesItself, keyColumns, keyLiteral } from './keys.ts';
import type { Session } from './session.ts';
import { ident } from './sql.ts';

/**
 * Bounds of a chunk of kind `range`, complete: values from `from` (inclusive) or behind `after` up to `upto` (inclusive), or
 * the rows without a value. `last`: of those with one.
 */
export type RangeBounds = {
  readonly column: string;
  readonly from?: string;
  readonly after?: string;
  readonly upto?: string;
  readonly nulls?: true;
  readonly last?: true;
};

/** The condition for the rows of the range, or undefined for all. */
export function rangeCondition(table: Table, { column, from, upto, nulls }: Range): string | undefined {
  const values = valuesCondition(table, { column, from, upto });
  const name = ident(column);
  if (values === undefined) return nulls || !nullable(table, column) ? undefined : `${name} IS NOT NULL`;
  return nulls ? `(${values} OR ${name} IS NULL)` : values;
}

export const rangeBoundsCondition = (table: Table, { nulls, ...bounds }: RangeBounds): string =>
  nulls ? `${ident(bounds.column)} IS NULL` : (valuesCondition(table, bounds) ?? `${ident(bounds.column)} IS NOT NULL`);

type Ends = { readonly [key in 'column' | 'from' | 'after' | 'upto']?: string | undefined };

/** Undefined when both ends are open. */
function valuesCondition(table: Table, { column = '', from, after, upto }: Ends): string | undefined {
  const [one] = keyColumns(table, [column]);
  if (!one) return undefined;
  const left = comparable(one);
  const conditions = [
    from === undefined ? undefined : `${left} >= ${keyLiteral(one, from)}`,
    after === undefined ? undefined : `${left} > ${keyLiteral(one, after)}`,
    upto === undefined ? undefined : `${left} <= ${keyLiteral(one, upto)}`,
  ];
  return conditions.filter((condition) => condition !== undefined).join(' AND ') || undefined;
}

const nullable = (table: Table, name: string): boolean =>
  table.columns.find((column) => column.name === name)?.nullable ?? true;

/** Has the table an index that gives this column's ranges in their order? */
export async function servedByIndex(session: Session, table: Table, name: string): Promise<boolean> {
  const extras = postgresExtras(table);
  const [column] = keyColumns(table, [name]);
  if (!extras || !column) return false;
  // 0 = ascending, NULLs last; 3 = descending, NULLs first: the same read backwards.
  const found = await session.query<{ collation: string | null }>(
    `SELECT CASE WHEN l.collnamespace = 'pg_catalog'::regnamespace THEN l.collname END AS collation
     FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] AND a.attname = $2
       JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam AND am.amname = 'btree'
       JOIN pg_opclass o ON o.oid = i.indclass[0] AND o.opcdefault LEFT JOIN pg_collation l ON l.oid = i.indcollation[0]
     WHERE i.indrelid = $1 AND i.indisvalid AND i.indisready AND i.indpred IS NULL AND i.indoption[0] IN (0, 3)`,
    [extras.oid, name],
  );
  if (comparesItself(column.type)) return found.length > 0;
  // The order of bytes is that of the collation C alone; and what is no text itself was cast for the comparison.
  const text = column.native === 'text' || column.native.startsWith('character varying');
  return text && found.some(({ collation }) => collation === 'C' || collation === 'POSIX');
}

/** The planner's estimate of the rows for which the condition holds. */
export async function estimate(session: Session, from: string, condition: string | undefined): Promise<number> {
  type Explained = { 'QUERY PLAN': [{ Plan: { 'Plan Rows': number } }] };
  const where = condition === undefined ? '' : ` WHERE ${condition}`;
  const [row] = await session.query<Explained>(`EXPLAIN (FORMAT JSON) SELECT 1 FROM ${from}${where}`);
  return row?.['QUERY PLAN'][0].Plan['Plan Rows'] ?? 0;
}
