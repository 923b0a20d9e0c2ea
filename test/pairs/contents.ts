/** The contents of one table or collection, and how two of them are compared. */
import { keyText, type Meaning, plain, same } from './meaning.ts';

export type Contents = {
  /** A column's type in words of the comparison: what it can hold. */
  readonly columns: ReadonlyMap<string, string>;
  readonly rows: readonly ReadonlyMap<string, Meaning>[];
};

export type Comparison = {
  /** Columns by which a source's row finds its target's; none: rows are matched by all their values. */
  readonly key: readonly string[];
  /**
   * May the target's column have NULL here, the mapping having said so of what its type cannot hold? Each answer is exact:
   * where it says yes, anything but NULL is a difference too.
   */
  readonly cannotHold: (column: string, type: string, value: Meaning) => boolean;
  /** What the target's system makes of a value before anything else. */
  readonly makes?: (value: Meaning) => Meaning;
  /** The value a target's row has for a column of the source. Default: the column of that name. */
  readonly find?: (row: ReadonlyMap<string, Meaning>, column: string) => Meaning;
};

/** Every difference, in words; empty when the target says all that the source says and nothing else. */
export function differences(source: Contents, target: Contents, how: Comparison): string[] {
  const found: string[] = [];
  const find = how.find ?? ((row, column) => row.get(column) ?? null);
  const names = how.key.length > 0 ? how.key : [...source.columns.keys()];
  const keyOf = (lookup: (column: string) => Meaning) => names.map((name) => keyText(lookup(name))).join('\u0000');
  const waiting = new Map<string, ReadonlyMap<string, Meaning>[]>();
  for (const row of target.rows) {
    const key = keyOf((column) => find(row, column));
    const others = waiting.get(key);
    if (others) others.push(row);
    else waiting.set(key, [row]);
  }
  if (source.rows.length !== target.rows.length) found.push(`${source.rows.length} rows became ${target.rows.length}`);
  for (const row of source.rows) {
    const key = keyOf((column) => row.get(column) ?? null);
    const match = waiting.get(key)?.pop();
    const named = key.replaceAll('\u0000', ', ');
    if (!match) {
      found.push(`row ${named} is missing`);
      continue;
    }
    for (const [column, said] of row) {
      const value = how.makes?.(said) ?? said;
      const there = find(match, column);
      if (how.cannotHold(column, target.columns.get(column) ?? '', value)) {
        if (there !== null) found.push(`row ${named}: ${column} cannot hold ${shown(value)} and has ${shown(there)}`);
      } else if (!same(value, there)) {
        found.push(`row ${named}: ${column} was ${shown(value)} and is ${shown(there)}`);
      }
    }
  }
  for (const [key, rows] of waiting) if (rows.length > 0) found.push(`row ${key} is not of the source`);
  return found.slice(0, 40);
}

const shown = (value: Meaning): string => `${value?.is ?? 'NULL'} ${JSON.stringify(plain(value)).slice(0, 120)}`;
