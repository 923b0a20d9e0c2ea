/** What `Chunk.bounds` holds for PostgreSQL, and the WHERE clause it stands for. */
import { GodwitError } from '../../errors.ts';
import { type Chunk, type Table, tableText } from '../contract.ts';
import { type PostgresKeyIndex, postgresExtras } from './extras.ts';
import { type RangeBounds, rangeBoundsCondition } from './ranges.ts';
import { ident, typed } from './sql.ts';

/**
 * Keys behind `after` (exclusive) up to `upto` (inclusive), each the exact text of the key's columns in index order;
 * absent = open. The first chunk is open below, the last above: every row is in one, whatever was inserted meanwhile.
 */
export type KeyBounds = { readonly after?: readonly string[]; readonly upto?: readonly string[] };

/** Blocks `from` (inclusive) up to `to` (exclusive; absent = the end). Only under one snapshot and one storage. */
export type BlockBounds = { readonly from: number; readonly to?: number };

/** The condition for the chunk's rows, or undefined for all. */
export function boundsCondition(table: Table, chunk: Chunk): string | undefined {
  switch (chunk.kind) {
    case 'all':
      return undefined;
    case 'range':
      return rangeBoundsCondition(table, chunk.bounds as RangeBounds);
    case 'keys': {
      const { after, upto } = chunk.bounds as KeyBounds;
      const index = keyIndex(table);
      return join([after && compare(table, index, '>', after), upto && compare(table, index, '<=', upto)]);
    }
    case 'blocks': {
      const { from, to } = chunk.bounds as BlockBounds;
      return join([
        `ctid >= '(${whole(from)},0)'::pg_catalog.tid`,
        to === undefined ? undefined : `ctid < '(${whole(to)},0)'::pg_catalog.tid`,
      ]);
    }
    case 'sweep':
      throw new GodwitError('INTERNAL', 'A sweep moves no rows.');
  }
}

const join = (conditions: readonly (string | undefined)[]): string | undefined =>
  conditions.filter((condition) => condition !== undefined).join(' AND ') || undefined;

const whole = (block: number): number => {
  if (Number.isSafeInteger(block) && block >= 0) return block;
  throw new GodwitError('INTERNAL', 'A chunk has bounds that are no block numbers.');
};

export function keyIndex(table: Table): PostgresKeyIndex {
  const index = postgresExtras(table)?.keyIndex;
  if (index) return index;
  const name = tableText(table.name);
  throw new GodwitError('SOURCE_CHANGED', `${name} has no key any more that ranges can be read by.`, { table: name });
}

/** Compares whole rows, as the index orders them: with the index's collations, which need not be the columns'. */
export function compare(table: Table, index: PostgresKeyIndex, op: '>' | '<=', key: readonly string[]): string {
  const columns = postgresExtras(table)?.columns ?? {};
  if (key.length !== index.columns.length) {
    throw new GodwitError('SOURCE_CHANGED', `The key of ${tableText(table.name)} has other columns than the chunk.`);
  }
  const left = index.columns.map((column) => keyExpression(column));
  // A domain's check would keep the literal from being a constant: the type beneath is as good.
  const right = index.columns.map((c, i) => typed(key[i] as string, columns[c.name]?.base ?? c.type));
  return left.length === 1 ? `${left[0]} ${op} ${right[0]}` : `(${left.join(', ')}) ${op} (${right.join(', ')})`;
}

/** The key column as its index has it. `of` qualifies it. */
export function keyExpression(column: PostgresKeyIndex['columns'][number], of = ''): string {
  const name = `${of}${ident(column.name)}`;
  return column.collation === undefined ? name : `(${name} COLLATE ${column.collation})`;
}
