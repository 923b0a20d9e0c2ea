import { GodwitError } from '../errors.ts';

export type PageWish = { readonly limit: number; readonly cursor?: string };
export type Page<T> = {
  readonly items: readonly T[];
  /** Ask again with it; absent on the last page. */
  readonly next?: string;
};

/** Where a page ended: opaque to others. */
export const writeCursor = (values: readonly (string | number)[]): string =>
  Buffer.from(JSON.stringify(values)).toString('base64url');

/** Throws USAGE for what was not written by `writeCursor` with values of these types. */
export function readCursor<const T extends readonly ('string' | 'number')[]>(
  cursor: string,
  types: T,
): { [K in keyof T]: T[K] extends 'string' ? string : number } {
  try {
    const values: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    if (
      Array.isArray(values) &&
      values.length === types.length &&
      types.every((type, i) => typeof values[i] === type)
    ) {
      return values as unknown as ReturnType<typeof readCursor<T>>;
    }
  } catch {
    // said below
  }
  throw new GodwitError('USAGE', 'cursor: give back `next` of the page before, unchanged.');
}

/** Rows were asked for with `limit + 1`: the last one only tells that there is more. */
export function pageOf<T>(rows: readonly T[], limit: number, key: (row: T) => readonly (string | number)[]): Page<T> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  return rows.length > limit && last !== undefined ? { items, next: writeCursor(key(last)) } : { items };
}
