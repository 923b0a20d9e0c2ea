import { type DocumentShape, type Source, type TableName, type Target, tableText } from '../../connectors/contract.ts';
import { GodwitError } from '../../errors.ts';
import type { TableEntry } from '../../mapping/document.ts';

export type Shaping = {
  readonly entry: TableEntry;
  readonly name: TableName;
  readonly source: Source;
  /** Absent: nothing moves, the source alone is looked at. */
  readonly target?: Target;
  /** The target's name in the job. */
  readonly targetName: string;
};

/**
 * What becomes of a table's documents on their way to this target; undefined where rows are rows. Throws MAPPING_INVALID
 * for keys that mean nothing between these two.
 */
export function shapeOf({ entry, name, source, target, targetName }: Shaping): DocumentShape | undefined {
  const table = tableText(name);
  const refuse = (sentence: string) => new GodwitError('MAPPING_INVALID', sentence, { table, target: targetName });
  if (!source.documents) {
    const key = entry.documents !== undefined ? 'documents' : entry.fields !== undefined ? 'fields' : undefined;
    if (key === undefined) return undefined;
    throw refuse(`${table}: \`${key}\` is for sources of documents, and this one (${source.system}) has tables.`);
  }
  const as = entry.documents ?? (target?.documents ? 'raw' : 'fields');
  if (as === 'json') return { as, casts: {} };
  if (as !== 'raw') return { as, casts: entry.fields ?? {} };
  if (target && !target.documents) {
    throw refuse(
      `${table} is to move as it is (documents: raw) from ${source.system}, and target ${targetName} (${target.system}) holds no documents; set \`documents\` to fields, flatten or json.`,
    );
  }
  const columns = entry.columns ? 'columns' : entry.excludeColumns.length > 0 ? 'exclude_columns' : undefined;
  const key = columns ?? (Object.keys(entry.rename).length > 0 ? 'col_rename' : undefined);
  if (key !== undefined) {
    throw refuse(
      `${table} moves as it is (documents: raw) to ${targetName}, so \`${key}\` cannot be done; set \`documents\` to fields, flatten or json.`,
    );
  }
  return { as, casts: {} };
}
