import type { TableName, TableSummary } from '../../connectors/contract.ts';
import { GodwitError } from '../../errors.ts';
import type { TableEntry } from '../../mapping/document.ts';

/** What an entry of the mapping stands for: tables, or a failure in its own name (a pattern that matches nothing). */
export type Wanted = {
  readonly entry: TableEntry;
  readonly target: string;
  readonly name: TableName;
  readonly failure?: GodwitError;
};

const isPattern = (name: string) => /[*?]/.test(name);

const matcher = (pattern: string): RegExp => {
  const text = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${text}$`, 'su');
};

/** Where names without a schema are, and whether dots are common in names there (MongoDB's collections). */
export type Naming = { readonly defaultSchema: string; readonly dotted: boolean };

/**
 * `schema.table` split at the first dot; without one the default schema. Where names hold dots, only the default schema
 * itself is taken for one.
 */
export const parseName = (text: string, { defaultSchema, dotted }: Naming): TableName => {
  const dot =
    dotted && !text.startsWith(`${defaultSchema}.`) ? -1 : text.indexOf('.', dotted ? defaultSchema.length : 0);
  return dot < 0 ? { schema: defaultSchema, name: text } : { schema: text.slice(0, dot), name: text.slice(dot + 1) };
};

type Expand = {
  readonly entries: readonly TableEntry[];
  readonly targets: readonly string[];
  readonly naming: Naming;
  /** Called once, and only when the mapping has a pattern. */
  readonly list: () => Promise<readonly TableSummary[]>;
};

/**
 * The (table, target) pairs a mapping asks for. A table named in full is taken by that entry; a pattern takes what no
 * earlier entry and no full name took, so `public.orders` and `public.*` can stand side by side.
 */
export async function expand({ entries, targets, naming, list }: Expand): Promise<Wanted[]> {
  const taken = new Set<string>();
  const found = new Map<TableEntry, Wanted[]>();
  const key = (name: TableName, target: string) => JSON.stringify([name.schema, name.name, target]);
  const goals = (entry: TableEntry) => entry.targets ?? (targets.length > 0 ? targets : ['']);

  const take = (entry: TableEntry, name: TableName) => {
    for (const target of goals(entry)) {
      if (taken.has(key(name, target))) continue;
      taken.add(key(name, target));
      found.get(entry)?.push({ entry, target, name });
    }
  };

  for (const entry of entries) found.set(entry, []);
  for (const entry of entries) if (!isPattern(entry.name)) take(entry, parseName(entry.name, naming));

  const patterns = entries.filter((entry) => isPattern(entry.name));
  const summaries = patterns.length > 0 ? await list() : [];
  for (const entry of patterns) {
    const qualified = (text: string) => {
      const { schema, name } = parseName(text, naming);
      return `${schema}.${name}`;
    };
    const wanted = matcher(qualified(entry.name));
    const excluded = entry.exclude.map((text) => matcher(qualified(text)));
    const hits = summaries.filter(({ name, kind }) => {
      const full = `${name.schema}.${name.name}`;
      const view = kind === 'view' || kind === 'materialized view';
      return wanted.test(full) && !excluded.some((pattern) => pattern.test(full)) && (entry.views || !view);
    });
    for (const { name } of hits) take(entry, name);
    if (hits.length === 0) {
      const failure = new GodwitError(
        'NO_TABLE_MATCHES',
        `"${entry.name}" matches no table of the source (${summaries.length} tables looked at); nothing was written for it.`,
        { table: entry.name },
      );
      for (const target of goals(entry)) {
        found.get(entry)?.push({ entry, target, name: parseName(entry.name, naming), failure });
      }
    }
  }
  return entries.flatMap((entry) => found.get(entry) ?? []);
}
